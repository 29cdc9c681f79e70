//! `borealis-sandbox fault`: each subcommand is one call of the control API.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::{
    Action, AddonState, Api, Fault, Moment, SandboxError,
    client::Client,
    control::{CredentialKind, RotateRequest, StateRequest, TerminateRequest},
    database::Access,
};

pub(super) const EXAMPLES: &str = "TARGET is an app with one add-on of ours (sushi), an add-on \
(borealis-pg-hex-12345) or APP::ATTACHMENT (ramen::BOREALIS_PG_NAVY).

Examples:
  borealis-sandbox fault cut-bastion
  borealis-sandbox fault change-host-key
  borealis-sandbox fault set-state sushi upgrading
  borealis-sandbox fault api '/oauth/authorizations' --method POST --status 429 --retry-after 2 --times 1
  borealis-sandbox fault api personal-ssh-users --hang
  borealis-sandbox fault api personal-db-users --drop --after --times 1
  borealis-sandbox fault stats";

#[derive(Debug, Args)]
pub(super) struct FaultArgs {
    /// The sandbox's control URL.
    #[arg(
        long,
        env = "BOREALIS_SANDBOX_CONTROL",
        value_name = "URL",
        global = true
    )]
    control: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Close every SSH connection; new ones are taken.
    CutBastion,
    /// Reset every SSH connection; new ones are taken.
    ResetBastion,
    /// Close the SSH listener and every connection.
    StopBastion,
    /// Listen for SSH again, on the same port.
    StartBastion,
    /// Accept SSH connections and keep them, but stay silent.
    FreezeBastion,
    /// The SSH connections that there are stay silent; new ones are served.
    FreezeConnections,
    /// End the silence.
    ThawBastion,
    /// Have the bastion open channels of every kind to its clients.
    OpenChannels,
    /// Leave requests for a channel unanswered, as where the database's host drops packets.
    HoldChannels,
    /// Answer requests for a channel again.
    ReleaseChannels,
    /// Show another host key than the API claims.
    ChangeHostKey,
    /// Let the API claim the host key that is shown.
    PublishHostKey,
    /// Show and claim the first host key again.
    RestoreHostKey,
    /// Refuse every SSH key.
    RefuseKeys,
    /// Take issued SSH keys again.
    AcceptKeys,
    /// Shut PostgreSQL down.
    StopPostgres,
    /// Start PostgreSQL on the port it had.
    StartPostgres,
    /// Shut PostgreSQL down and start it.
    RestartPostgres,
    /// End PostgreSQL as a power cut would.
    CrashPostgres,
    /// Terminate the database connections of one add-on, or all.
    Terminate {
        /// The add-on; all without it.
        target: Option<String>,
    },
    /// Let another machine of the same user take new credentials.
    RotateElsewhere {
        /// The add-on.
        target: String,
        /// Database passwords, or SSH keys.
        #[arg(long, value_enum, default_value_t)]
        kind: CredentialKind,
        /// Only for this access; both without it.
        #[arg(long, value_enum)]
        access: Option<AccessArg>,
        /// How often; only for SSH keys.
        #[arg(long, value_name = "N")]
        times: Option<u32>,
    },
    /// Reset all database users, as an admin may.
    ResetUsers {
        /// The add-on.
        target: String,
    },
    /// Change what an add-on is doing.
    SetState {
        /// The add-on.
        target: String,
        /// Its new state.
        #[arg(value_enum)]
        state: AddonState,
    },
    /// Let Heroku refuse the user's token.
    RevokeToken,
    /// Let Heroku take the user's token again.
    RestoreToken,
    /// End all short-lived authorizations now.
    ExpireGrants,
    /// Make HTTP requests fail.
    Api(Box<ApiArgs>),
    /// Show the HTTP faults in force.
    List,
    /// Show counts of what happened.
    Stats,
    /// Show the HTTP requests.
    Requests,
    /// Show every secret that was issued, one a line, to search logs for.
    Secrets,
    /// Everything works again. Add-ons keep their state.
    Clear,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AccessArg {
    ReadOnly,
    ReadWrite,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("action").required(true))]
struct ApiArgs {
    /// Which paths: the last segments, or all of it from `/` on; `*` is anything within a
    /// segment, `**` anything.
    path: String,
    /// Only this method.
    #[arg(long)]
    method: Option<String>,
    /// Only this API.
    #[arg(long, value_enum)]
    api: Option<Api>,
    /// Only so many requests; until cleared without it.
    #[arg(long, value_name = "N")]
    times: Option<u32>,
    /// Do what is asked first, then fail.
    #[arg(long)]
    after: bool,
    /// Answer with this status.
    #[arg(long, group = "action", value_name = "CODE")]
    status: Option<u16>,
    /// Never answer, until cleared.
    #[arg(long, group = "action")]
    hang: bool,
    /// Close the connection without an answer.
    #[arg(long, group = "action")]
    drop: bool,
    /// Answer with something that is no HTTP.
    #[arg(long, group = "action")]
    garbage: bool,
    /// Answer with half of the body.
    #[arg(long, group = "action")]
    truncate: bool,
    /// Wait before the true answer.
    #[arg(long, group = "action", value_name = "MILLISECONDS")]
    delay: Option<u64>,
    /// With --status: this `Retry-After`.
    #[arg(long, value_name = "SECONDS", requires = "status")]
    retry_after: Option<u64>,
    /// With --status: a header, as `NAME: VALUE`.
    #[arg(long, value_name = "HEADER", requires = "status")]
    header: Vec<String>,
    /// With --status: this body.
    #[arg(long, requires = "status")]
    body: Option<String>,
}

/// Does it, and returns what to print.
///
/// # Errors
/// When no sandbox runs, or it refuses.
pub(super) async fn run(args: FaultArgs) -> Result<String, SandboxError> {
    let control = args.control.ok_or_else(|| {
        SandboxError::failed(
            "which sandbox? Set BOREALIS_SANDBOX_CONTROL (`borealis-sandbox up` prints it) or use --control",
        )
    })?;
    let (method, path, body) = call(&args.what)?;
    let answer = Client::new(&control)?.ask(method, &path, body).await?;
    Ok(match &args.what {
        What::Secrets => lines(&answer, |secret| {
            secret["value"].as_str().unwrap_or_default().to_owned()
        }),
        What::Requests => lines(&answer, |request| {
            let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
            let status = request["status"].as_u64();
            format!(
                "{} {:>3} {:<8} {:<6} {}",
                text("at"),
                status.map_or("-".into(), |status| status.to_string()),
                text("api"),
                text("method"),
                text("path")
            )
        }),
        _ if answer == json!({"done": true}) => "done".into(),
        _ => serde_json::to_string_pretty(&answer).map_err(SandboxError::failed)?,
    })
}

fn call(what: &What) -> Result<(Method, String, Option<Value>), SandboxError> {
    let post = |path: &str| Ok((Method::POST, path.to_owned(), None));
    let get = |path: &str| Ok((Method::GET, path.to_owned(), None));
    match what {
        What::CutBastion => post("/bastion/cut"),
        What::ResetBastion => post("/bastion/reset"),
        What::StopBastion => post("/bastion/stop"),
        What::StartBastion => post("/bastion/start"),
        What::FreezeBastion => post("/bastion/freeze"),
        What::FreezeConnections => post("/bastion/freeze-connections"),
        What::ThawBastion => post("/bastion/thaw"),
        What::OpenChannels => post("/bastion/open-channels"),
        What::HoldChannels => post("/bastion/hold-channels"),
        What::ReleaseChannels => post("/bastion/release-channels"),
        What::ChangeHostKey => post("/bastion/change-host-key"),
        What::PublishHostKey => post("/bastion/publish-host-key"),
        What::RestoreHostKey => post("/bastion/restore-host-key"),
        What::RefuseKeys => post("/bastion/refuse-keys"),
        What::AcceptKeys => post("/bastion/accept-keys"),
        What::StopPostgres => post("/postgres/stop"),
        What::StartPostgres => post("/postgres/start"),
        What::RestartPostgres => post("/postgres/restart"),
        What::CrashPostgres => post("/postgres/crash"),
        What::Terminate { target } => {
            let target = target.clone();
            with_body(
                Method::POST,
                "/postgres/terminate",
                &TerminateRequest { target },
            )
        }
        What::RotateElsewhere {
            target,
            kind,
            access,
            times,
        } => with_body(
            Method::POST,
            &at(target, "rotate"),
            &RotateRequest {
                kind: *kind,
                access: access.map(AccessArg::access),
                times: *times,
            },
        ),
        What::ResetUsers { target } => post(&at(target, "reset")),
        What::SetState { target, state } => {
            let state = *state;
            with_body(Method::PUT, &at(target, "state"), &StateRequest { state })
        }
        What::RevokeToken => post("/token/revoke"),
        What::RestoreToken => post("/token/restore"),
        What::ExpireGrants => post("/grants/expire"),
        What::Api(args) => with_body(Method::POST, "/faults", &args.fault()?),
        What::List => get("/faults"),
        What::Stats => get("/stats"),
        What::Requests => get("/requests"),
        What::Secrets => get("/secrets"),
        What::Clear => post("/clear"),
    }
}

fn at(target: &str, what: &str) -> String {
    let target = percent_encoding::utf8_percent_encode(target, percent_encoding::NON_ALPHANUMERIC);
    format!("/targets/{target}/{what}")
}

fn with_body(
    method: Method,
    path: &str,
    body: &impl serde::Serialize,
) -> Result<(Method, String, Option<Value>), SandboxError> {
    let body = serde_json::to_value(body).map_err(SandboxError::failed)?;
    Ok((method, path.to_owned(), Some(body)))
}

fn lines(list: &Value, show: impl Fn(&Value) -> String) -> String {
    let elements = list.as_array().map(Vec::as_slice).unwrap_or_default();
    elements.iter().map(show).collect::<Vec<_>>().join("\n")
}

// === impl ApiArgs ===

impl ApiArgs {
    fn fault(&self) -> Result<Fault, SandboxError> {
        Ok(Fault {
            api: self.api,
            method: self.method.clone(),
            path: self.path.clone(),
            times: self.times,
            moment: if self.after {
                Moment::After
            } else {
                Moment::Before
            },
            action: self.action()?,
        })
    }

    fn action(&self) -> Result<Action, SandboxError> {
        if let Some(status) = self.status {
            let mut headers = BTreeMap::new();
            if let Some(seconds) = self.retry_after {
                headers.insert("Retry-After".into(), seconds.to_string());
            }
            for header in &self.header {
                let (name, value) = header.split_once(':').ok_or_else(|| {
                    SandboxError::failed(format!("{header:?} is no header: write NAME: VALUE"))
                })?;
                headers.insert(name.trim().to_owned(), value.trim().to_owned());
            }
            return Ok(Action::Status {
                status,
                headers,
                body: self.body.clone(),
            });
        }
        Ok(match self.delay {
            Some(milliseconds) => Action::Delay { milliseconds },
            None if self.hang => Action::Hang,
            None if self.drop => Action::Drop,
            None if self.garbage => Action::Garbage,
            None => Action::Truncate,
        })
    }
}

// === impl AccessArg ===

impl AccessArg {
    fn access(self) -> Access {
        match self {
            Self::ReadOnly => Access::ReadOnly,
            Self::ReadWrite => Access::ReadWrite,
        }
    }
}
