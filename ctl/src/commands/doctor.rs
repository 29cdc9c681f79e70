//! `doctor`: what borealisctl can check itself, then what the daemon can.

mod local;

pub(super) use local::daemon_program;

use borealis_proto::{
    API_VERSION,
    v1::{self, CheckOutcome},
};

use super::{Context, Outcome, target};
use crate::{
    args::{DoctorArgs, TargetArgs},
    client::{Client, major},
    failure::Failure,
    output::checks::Checks,
    ports, service,
};

pub(super) async fn run(context: Context<'_>, args: &DoctorArgs) -> Outcome {
    let target = named(&args.target).await?;
    let mut checks = Checks::new(context.output);
    let daemon = context.running_daemon().await;
    let daemon = match daemon {
        Ok(mut client) => match of_daemon(&mut client, &mut checks).await? {
            CheckOutcome::Fail => None,
            _ => Some(client),
        },
        Err(failure) => {
            checks.show(failed("daemon", &failure))?;
            None
        }
    };
    if let Some(check) = local::socket(context.socket) {
        checks.show(check)?;
    }
    checks.show(local::unit().await)?;
    checks.show(local::psql())?;
    match daemon {
        Some(mut client) => {
            if let Some(check) = shell_variable(&mut client).await {
                checks.show(check)?;
            }
            rest(context, &mut client, target, &mut checks).await?;
        }
        None => {
            if let Some(check) = local::config().await {
                checks.show(check)?;
            }
        }
    }
    Ok(u8::from(checks.finish()?))
}

async fn named(args: &TargetArgs) -> Result<Option<v1::Target>, Failure> {
    Ok(if target::is_named(args) {
        Some(target::one(args).await?)
    } else {
        None
    })
}

async fn of_daemon(client: &mut Client, checks: &mut Checks<'_>) -> Result<CheckOutcome, Failure> {
    let info = match client.info().await {
        Ok(info) => info,
        Err(failure) => {
            checks.show(failed("daemon", &failure))?;
            return Ok(CheckOutcome::Fail);
        }
    };
    let found = format!(
        "borealisd {} (pid {}) answers at {}",
        info.version, info.pid, info.socket
    );
    checks.show(check("daemon", CheckOutcome::Ok, found, ""))?;
    let own = env!("CARGO_PKG_VERSION");
    let restart = service::restart_hint();
    let (outcome, found, hint) = if major(&info.api_version) != major(API_VERSION) {
        let found = format!(
            "borealisd speaks version {} of the control API, borealisctl {API_VERSION}",
            info.api_version
        );
        (CheckOutcome::Fail, found, restart)
    } else if info.version != own {
        let found = format!("borealisd is {}, borealisctl {own}", info.version);
        (CheckOutcome::Warn, found, restart)
    } else {
        (CheckOutcome::Ok, format!("both are {own}"), "")
    };
    checks.show(check("versions", outcome, found, hint))?;
    Ok(outcome)
}

/// What the daemon checks, with a spinner between its answers.
async fn rest(
    context: Context<'_>,
    client: &mut Client,
    target: Option<v1::Target>,
    checks: &mut Checks<'_>,
) -> Result<(), Failure> {
    let mut stream = client.diagnose(v1::DiagnoseRequest { target }).await?;
    loop {
        let spinner = context.output.spinner("checking".to_owned());
        let next = stream.message().await;
        drop(spinner);
        match next {
            Ok(Some(next)) => {
                if let Some(mut check) = next.check {
                    ports::complete(&mut check.found);
                    checks.show(check)?;
                }
            }
            Ok(None) => return Ok(()),
            Err(status) => return Err(Failure::from_status(&status)),
        }
    }
}

/// A key that is set in the shell only is the commonest reason for "not logged in".
async fn shell_variable(client: &mut Client) -> Option<v1::Check> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let id = "environment";
    if set("HEROKU_API_KEY") {
        let who = client.who_am_i().await.ok()?;
        let used = who.places.iter().any(|place| {
            place.place == "HEROKU_API_KEY" && place.state() == v1::TokenPlaceState::Used
        });
        if used {
            return None;
        }
        let found = "HEROKU_API_KEY is set in this shell, but not in borealisd's environment";
        let hint =
            "give it to borealisd: `printenv HEROKU_API_KEY | borealisctl login --token-stdin`";
        return Some(check(id, CheckOutcome::Warn, found, hint));
    }
    set("HEROKU_API_TOKEN").then(|| {
        let found = "HEROKU_API_TOKEN is set in this shell, but nothing reads it";
        let hint = "if it holds your token, its name is HEROKU_API_KEY; or `printenv HEROKU_API_TOKEN | borealisctl login --token-stdin`";
        check(id, CheckOutcome::Warn, found, hint)
    })
}

fn failed(id: &str, failure: &Failure) -> v1::Check {
    let hint = failure.hint.as_deref().unwrap_or_default();
    check(id, CheckOutcome::Fail, failure.message.clone(), hint)
}

fn check(id: &str, outcome: CheckOutcome, found: impl Into<String>, hint: &str) -> v1::Check {
    v1::Check {
        id: id.to_owned(),
        subject: String::new(),
        outcome: outcome.into(),
        found: found.into(),
        hint: hint.to_owned(),
    }
}
