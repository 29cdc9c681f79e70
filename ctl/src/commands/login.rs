//! `login`, `logout`, `whoami`: the Heroku account.

use std::io::{self, Read as _};

use borealis_proto::v1;

use super::{Context, Outcome};
use crate::{
    args::LoginArgs,
    failure::{Failure, reason},
    terminal::Terminal,
};

/// More than any token has.
const LONGEST: u64 = 64 << 10;

pub(super) async fn login(context: Context<'_>, args: &LoginArgs) -> Outcome {
    let mut daemon = context.daemon().await?;
    daemon.check_version().await?;
    let token = if args.token_stdin {
        read_token()?
    } else {
        ask_for_token(context).await?
    };
    if token.trim().is_empty() {
        return Err(Failure::usage("no token was given").with_hint(TOKEN_HINT));
    }
    let keep = if args.file {
        v1::Keep::File
    } else {
        v1::Keep::Unspecified
    };
    let spinner = context.output.spinner("asking Heroku".to_owned());
    let answer = daemon.login(token, keep).await;
    drop(spinner);
    let answer = answer?;
    context.output.logged_in(&answer)?;
    Ok(0)
}

pub(super) async fn logout(context: Context<'_>) -> Outcome {
    let answer = context.daemon().await?.logout().await?;
    context.output.logged_out(&answer)?;
    Ok(0)
}

pub(super) async fn whoami(context: Context<'_>) -> Outcome {
    let answer = context.daemon().await?.who_am_i().await?;
    context.output.who_am_i(&answer)?;
    match answer.failure {
        Some(failure) => Err(Failure::from(failure)),
        None => Ok(0),
    }
}

const TOKEN_HINT: &str = "`heroku authorizations:create` makes one that is for borealisd alone, `heroku auth:token` prints the Heroku CLI's";

async fn ask_for_token(context: Context<'_>) -> Result<String, Failure> {
    let no_terminal = |error: io::Error| {
        Failure::usage(format!(
            "there is no terminal to ask for the token on: {}",
            reason(&error)
        ))
        .with_hint("pipe it in: `heroku auth:token | borealisctl login --token-stdin`")
    };
    let mut terminal = Terminal::hide_typing().map_err(no_terminal)?;
    context.output.note(TOKEN_HINT);
    terminal
        .ask("Heroku API token (not shown): ")
        .await
        .map_err(no_terminal)
}

fn read_token() -> Result<String, Failure> {
    let mut token = String::new();
    io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut token)
        .map_err(|error| {
            Failure::failed(format!(
                "can't read the token from standard input: {}",
                reason(&error)
            ))
        })?;
    Ok(token)
}
