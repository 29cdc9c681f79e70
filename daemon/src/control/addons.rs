//! `AddonService`: a short method for each call.
//!
//! What changes something at the provider runs to its end also where the client goes away:
//! it can't be taken back, and its outcome belongs into the log.

mod convert;

use std::{pin::Pin, sync::Arc};

use borealis_proto::v1::{self, addon_service_server::AddonService};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::convert::refused;
use crate::{
    admin::{
        extensions::{self, Dependencies},
        info, integrations,
        restore::{self, Again},
        upgrade, users,
    },
    credential::Broker,
    model::{Cause, Resolved, Target},
    provider::wire::addon::NewIntegration,
    supervisor::{Handle, SessionSnapshot},
};

/// Steps that may wait for a slow client.
const BUFFER: usize = 8;

#[derive(Clone)]
pub(super) struct Addons {
    broker: Arc<Broker>,
    sessions: Handle,
    restores: Arc<restore::Started>,
}

type Answer<T> = Result<Response<T>, Status>;
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Addons ===

impl Addons {
    pub(super) fn new(broker: Arc<Broker>, sessions: Handle) -> Self {
        Self {
            broker,
            sessions,
            restores: Arc::default(),
        }
    }

    /// What a target means: an open session's add-on, or what the provider says.
    async fn resolve(&self, target: Option<v1::Target>) -> Result<Resolved, Status> {
        let target = super::convert::target(target).map_err(refused)?;
        self.resolve_target(&target).await
    }

    async fn resolve_target(&self, target: &Target) -> Result<Resolved, Status> {
        if let Some(resolved) = self.by_session(target) {
            return Ok(resolved);
        }
        self.broker.resolve(target).await.map_err(refused)
    }

    /// The add-on of the session that a word names. A word that may be the session's app is
    /// left to the provider: the app may have another add-on by now.
    fn by_session(&self, target: &Target) -> Option<Resolved> {
        let Target::Word(word) = target else {
            return None;
        };
        let snapshot = self.sessions.watch();
        let snapshot = snapshot.borrow();
        let view = snapshot.sessions.iter().find(|v| v.name.as_str() == word)?;
        let resolved = view.status.resolved.clone()?;
        (resolved.app != *word || resolved.ambiguous_in_app).then_some(resolved)
    }

    /// The sessions that are open on an add-on.
    fn sessions_on(&self, addon: &str) -> Vec<v1::Session> {
        let is_on_it = |view: &&SessionSnapshot| {
            let resolved = view.status.resolved.as_ref();
            resolved.is_some_and(|resolved| resolved.addon == addon)
        };
        let snapshot = self.sessions.watch();
        let snapshot = snapshot.borrow();
        let views = snapshot.sessions.iter().filter(is_on_it);
        views.map(super::convert::session).collect()
    }

    /// Starts steps whose outcome nobody but the stream waits for.
    fn stream<T, U, F>(
        work: impl FnOnce(mpsc::Sender<Result<T, Cause>>) -> F,
        convert: impl Fn(T) -> U + Send + 'static,
    ) -> Response<Streaming<U>>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Cause>> + Send + 'static,
    {
        let (steps, stream) = mpsc::channel(BUFFER);
        let work = work(steps.clone());
        tokio::spawn(async move {
            if let Err(cause) = work.await {
                // Told to the log also where the client has gone.
                tracing::info!(%cause, "a request failed");
                let _ = steps.send(Err(cause)).await;
            }
        });
        let stream = ReceiverStream::new(stream);
        let stream = stream.map(move |step| {
            step.map(&convert)
                .map_err(|cause| super::convert::status(&cause))
        });
        Response::new(Box::pin(stream))
    }
}

/// Runs `work` to its end, whoever still waits for it.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Cause>> + Send + 'static,
) -> Result<T, Status> {
    let outcome = tokio::spawn(work).await;
    outcome
        .unwrap_or_else(|error| {
            Err(Cause::Internal {
                detail: error.to_string(),
            })
        })
        .map_err(refused)
}

#[tonic::async_trait]
impl AddonService for Addons {
    type WaitForAddonStream = Streaming<v1::WaitForAddonResponse>;
    type InstallExtensionStream = Streaming<v1::InstallExtensionResponse>;

    async fn find_addon(
        &self,
        request: Request<v1::FindAddonRequest>,
    ) -> Answer<v1::FindAddonResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        Ok(Response::new(v1::FindAddonResponse {
            sessions: self.sessions_on(&found.addon),
            addon: convert::addon(found),
        }))
    }

    async fn get_addon(
        &self,
        request: Request<v1::GetAddonRequest>,
    ) -> Answer<v1::GetAddonResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let info = info::get(&self.broker, &found.addon).await;
        Ok(Response::new(v1::GetAddonResponse {
            info: Some(convert::info(info.map_err(refused)?)),
            addon: convert::addon(found),
        }))
    }

    async fn wait_for_addon(
        &self,
        request: Request<v1::WaitForAddonRequest>,
    ) -> Answer<Self::WaitForAddonStream> {
        let found = self.resolve(request.into_inner().target).await?;
        let (broker, restores) = (Arc::clone(&self.broker), Arc::clone(&self.restores));
        let name = found.addon.clone();
        let addon = convert::addon(found);
        let work = move |news| async move {
            let followed = info::follow(&broker, &name, info::Pace::default(), &news).await;
            // Who has seen the end of it means another one when asking again.
            let is_over = match &followed {
                Ok(()) => !news.is_closed(),
                Err(cause) => matches!(cause, Cause::Refused(_)),
            };
            if is_over {
                restores.forget(&name);
            }
            followed
        };
        Ok(Self::stream(work, move |news| {
            convert::news(addon.clone(), news)
        }))
    }

    async fn list_extensions(
        &self,
        request: Request<v1::ListExtensionsRequest>,
    ) -> Answer<v1::ListExtensionsResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let list = extensions::list(&self.broker, &found.addon).await;
        let extensions = list.map_err(refused)?.into_iter().map(convert::extension);
        Ok(Response::new(v1::ListExtensionsResponse {
            extensions: extensions.collect(),
            addon: convert::addon(found),
        }))
    }

    async fn install_extension(
        &self,
        request: Request<v1::InstallExtensionRequest>,
    ) -> Answer<Self::InstallExtensionStream> {
        let v1::InstallExtensionRequest {
            target,
            extension,
            recursive,
        } = request.into_inner();
        let dependencies = if recursive {
            Dependencies::Install
        } else {
            Dependencies::Report
        };
        let found = self.resolve(target).await?;
        let (broker, name) = (Arc::clone(&self.broker), found.addon.clone());
        let addon = convert::addon(found);
        let work = move |steps| async move {
            extensions::install(&broker, &name, &extension, dependencies, &steps).await
        };
        Ok(Self::stream(work, move |step| {
            convert::progress(addon.clone(), step)
        }))
    }

    async fn remove_extension(
        &self,
        request: Request<v1::RemoveExtensionRequest>,
    ) -> Answer<v1::RemoveExtensionResponse> {
        let v1::RemoveExtensionRequest { target, extension } = request.into_inner();
        let found = self.resolve(target).await?;
        let (broker, name) = (Arc::clone(&self.broker), found.addon.clone());
        finish(async move { extensions::remove(&broker, &name, &extension).await }).await?;
        Ok(Response::new(v1::RemoveExtensionResponse {
            addon: convert::addon(found),
        }))
    }

    async fn list_users(
        &self,
        request: Request<v1::ListUsersRequest>,
    ) -> Answer<v1::ListUsersResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let list = users::list(&self.broker, &found.addon).await;
        let users = list.map_err(refused)?.into_iter().map(convert::users);
        Ok(Response::new(v1::ListUsersResponse {
            users: users.collect(),
            addon: convert::addon(found),
        }))
    }

    async fn reset_users(
        &self,
        request: Request<v1::ResetUsersRequest>,
    ) -> Answer<v1::ResetUsersResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let (broker, name) = (Arc::clone(&self.broker), found.addon.clone());
        finish(async move { users::reset(&broker, &name).await }).await?;
        Ok(Response::new(v1::ResetUsersResponse {
            sessions: self.sessions_on(&found.addon),
            addon: convert::addon(found),
        }))
    }

    async fn list_integrations(
        &self,
        request: Request<v1::ListIntegrationsRequest>,
    ) -> Answer<v1::ListIntegrationsResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let list = integrations::list(&self.broker, &found.addon).await;
        let integrations = list.map_err(refused)?.into_iter().map(convert::integration);
        Ok(Response::new(v1::ListIntegrationsResponse {
            integrations: integrations.collect(),
            addon: convert::addon(found),
        }))
    }

    async fn register_integration(
        &self,
        request: Request<v1::RegisterIntegrationRequest>,
    ) -> Answer<v1::RegisterIntegrationResponse> {
        let request = request.into_inner();
        let access = super::convert::access(request.access());
        let v1::RegisterIntegrationRequest {
            target,
            name,
            ssh_public_key,
            ..
        } = request;
        let found = self.resolve(target).await?;
        let (broker, addon) = (Arc::clone(&self.broker), found.addon.clone());
        let credentials = finish(async move {
            let new = NewIntegration {
                name: &name,
                ssh_public_key: &ssh_public_key,
                access,
            };
            integrations::register(&broker, &addon, new).await
        });
        Ok(Response::new(v1::RegisterIntegrationResponse {
            credentials: Some(convert::credentials(credentials.await?)),
            addon: convert::addon(found),
        }))
    }

    async fn remove_integration(
        &self,
        request: Request<v1::RemoveIntegrationRequest>,
    ) -> Answer<v1::RemoveIntegrationResponse> {
        let v1::RemoveIntegrationRequest { target, name } = request.into_inner();
        let found = self.resolve(target).await?;
        let (broker, addon) = (Arc::clone(&self.broker), found.addon.clone());
        finish(async move { integrations::remove(&broker, &addon, &name).await }).await?;
        Ok(Response::new(v1::RemoveIntegrationResponse {
            addon: convert::addon(found),
        }))
    }

    async fn get_restore_capabilities(
        &self,
        request: Request<v1::GetRestoreCapabilitiesRequest>,
    ) -> Answer<v1::GetRestoreCapabilitiesResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let capabilities = restore::capabilities(&self.broker, &found.addon).await;
        let capabilities = capabilities.map_err(refused)?;
        Ok(Response::new(convert::capabilities(found, &capabilities)))
    }

    async fn execute_restore(
        &self,
        request: Request<v1::ExecuteRestoreRequest>,
    ) -> Answer<v1::ExecuteRestoreResponse> {
        let request = request.into_inner();
        let wanted = convert::restore_request(&request).map_err(refused)?;
        let target = super::convert::target(request.target).map_err(refused)?;
        let again = if request.join {
            let joined = restore::join(&self.broker, &self.restores, &target, &wanted).await;
            if let Some((source, execution)) = joined.map_err(refused)? {
                let answer = convert::execution(source, wanted, execution);
                return Ok(Response::new(answer));
            }
            Again::Join
        } else {
            Again::Start
        };
        let found = self.resolve_target(&target).await?;
        let (broker, restores) = (Arc::clone(&self.broker), Arc::clone(&self.restores));
        let (source, order) = (found.clone(), wanted.clone());
        let execution = finish(async move {
            restore::execute(&broker, &restores, target, source, order, again).await
        });
        let answer = convert::execution(found, wanted, execution.await?);
        Ok(Response::new(answer))
    }

    async fn get_upgrade(
        &self,
        request: Request<v1::GetUpgradeRequest>,
    ) -> Answer<v1::GetUpgradeResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let upgrade = upgrade::get(&self.broker, &found.addon).await;
        Ok(Response::new(convert::upgrade(
            found,
            upgrade.map_err(refused)?,
        )))
    }

    async fn execute_upgrade(
        &self,
        request: Request<v1::ExecuteUpgradeRequest>,
    ) -> Answer<v1::ExecuteUpgradeResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let (broker, name) = (Arc::clone(&self.broker), found.addon.clone());
        let upgrade = finish(async move { upgrade::execute(&broker, &name).await }).await?;
        Ok(Response::new(v1::ExecuteUpgradeResponse {
            current_pg_major_version: upgrade.current_pg_major_version.unwrap_or_default(),
            target_pg_major_version: upgrade.target_pg_major_version.unwrap_or_default(),
            addon: convert::addon(found),
        }))
    }

    async fn cancel_upgrade(
        &self,
        request: Request<v1::CancelUpgradeRequest>,
    ) -> Answer<v1::CancelUpgradeResponse> {
        let found = self.resolve(request.into_inner().target).await?;
        let (broker, name) = (Arc::clone(&self.broker), found.addon.clone());
        finish(async move { upgrade::cancel(&broker, &name).await }).await?;
        Ok(Response::new(v1::CancelUpgradeResponse {
            addon: convert::addon(found),
        }))
    }
}
