//! `AccountService`: signing in to Heroku.

use std::sync::Arc;

use borealis_proto::v1::{self, account_service_server::AccountService};
use secrecy::SecretString;
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    credential::{KeepIn, KeptWhere, LookupResult, SignIn},
    journal::{Journal, Kind},
    model::Cause,
};

pub(super) struct Account {
    pub(super) sign_in: Arc<SignIn>,
    pub(super) journal: Journal,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AccountService for Account {
    async fn login(&self, request: Request<v1::LoginRequest>) -> Answer<v1::LoginResponse> {
        let request = request.into_inner();
        let keep = match request.keep() {
            v1::Keep::File => KeepIn::File,
            v1::Keep::Keychain | v1::Keep::Unspecified => KeepIn::KeychainOrFile,
        };
        let sign_in = Arc::clone(&self.sign_in);
        let token = SecretString::from(request.token);
        // A client that goes away leaves no login half kept.
        let logged_in = tokio::spawn(async move { sign_in.log_in(token, keep).await })
            .await
            .unwrap_or_else(|error| Err(internal(&error)))
            .map_err(|cause| convert::status(&cause))?;
        let detail = format!("as {}", logged_in.account);
        self.journal.record(Kind::LoggedIn, detail);
        let (kept, file, because) = match logged_in.kept {
            KeptWhere::Keychain => (v1::Keep::Keychain, String::new(), None),
            KeptWhere::File { path, because } => (v1::Keep::File, path, because),
        };
        Ok(Response::new(v1::LoginResponse {
            account: logged_in.account,
            kept: kept.into(),
            file,
            because: because.unwrap_or_default(),
            shadowed_by: logged_in.shadowed_by.unwrap_or_default(),
        }))
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Answer<v1::LogoutResponse> {
        let sign_in = Arc::clone(&self.sign_in);
        let logged_out = tokio::spawn(async move { sign_in.log_out().await })
            .await
            .unwrap_or_else(|error| Err(internal(&error)))
            .map_err(|cause| convert::status(&cause))?;
        if logged_out.account.is_some() {
            self.journal.record(Kind::LoggedOut, "");
        }
        Ok(Response::new(v1::LogoutResponse {
            was_kept: logged_out.account.is_some(),
            account: logged_out.account.unwrap_or_default(),
            next: logged_out.next.unwrap_or_default(),
            problem: logged_out.problem.unwrap_or_default(),
        }))
    }

    async fn who_am_i(&self, _: Request<v1::WhoAmIRequest>) -> Answer<v1::WhoAmIResponse> {
        let who = self.sign_in.who().await;
        let places = places(&who.places);
        Ok(Response::new(match who.account {
            Ok((account, source)) => v1::WhoAmIResponse {
                account,
                source,
                places,
                failure: None,
            },
            Err(cause) => v1::WhoAmIResponse {
                places,
                failure: Some(convert::failure(&cause)),
                ..Default::default()
            },
        }))
    }
}

fn internal(error: &tokio::task::JoinError) -> Cause {
    Cause::Internal {
        detail: error.to_string(),
    }
}

fn places(readings: &[LookupResult]) -> Vec<v1::TokenPlace> {
    let winner = readings.iter().position(|reading| reading.token.is_some());
    let place = |(index, reading): (usize, &LookupResult)| {
        let state = match reading.token {
            None => v1::TokenPlaceState::Empty,
            Some(_) if Some(index) == winner => v1::TokenPlaceState::Used,
            Some(_) => v1::TokenPlaceState::Shadowed,
        };
        v1::TokenPlace {
            place: reading.place.clone(),
            state: state.into(),
            problem: reading.problem.clone().unwrap_or_default(),
            since: reading.since.map(convert::timestamp),
        }
    };
    readings.iter().enumerate().map(place).collect()
}
