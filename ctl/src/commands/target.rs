//! From what was typed to what is asked for.

use borealis_proto::v1;

use super::Context;
use crate::{
    args::{TargetArgs, TargetsArgs},
    client::Client,
    failure::{Exit, Failure},
    git,
    project::{Entry, Project},
};

/// The app of the commands that name none, by the Heroku CLI's own variable
/// (<https://devcenter.heroku.com/articles/using-the-cli#app-commands>).
const APP_VARIABLE: &str = "HEROKU_APP";

/// Whether anything was named on the command line.
pub(crate) fn is_named(args: &TargetArgs) -> bool {
    args.target.is_some() || args.app.is_some() || args.remote.is_some() || args.addon.is_some()
}

/// What a command is about.
pub(crate) struct Meant {
    /// The database, or the session.
    pub(crate) target: v1::Target,
    /// The session of the project's file, where nothing else was named.
    pub(crate) entry: Option<Entry>,
}

/// What was typed, else what the environment says, else the project's file, else the git
/// repository's app.
///
/// # Errors
/// A usage failure where nothing is named; why the project's file isn't taken; why git can't say
/// which app is meant.
pub(crate) async fn meant(args: &TargetArgs) -> Result<Meant, Failure> {
    let mut app = args.app.clone();
    if let Some(remote) = &args.remote {
        app = git::app(Some(remote)).await?;
    }
    // What was typed stands for itself, and may be an add-on or a session.
    if app.is_none() && args.target.is_none() {
        app = std::env::var(APP_VARIABLE)
            .ok()
            .filter(|app| !app.is_empty());
    }
    let mut project = None;
    if app.is_none() && !is_named(args) {
        project = Project::nearest()?.map(Project::believed).transpose()?;
        if let Some(entry) = project.as_ref().and_then(Project::default_session) {
            return Ok(Meant {
                target: entry.as_target(),
                entry: Some(entry.clone()),
            });
        }
        app = git::app(None).await?;
    }
    let target = v1::Target {
        name: args.target.clone().unwrap_or_default(),
        app: app.unwrap_or_default(),
        addon: args.addon.clone().unwrap_or_default(),
    };
    if target == v1::Target::default() {
        return Err(nothing_named(project.as_ref()));
    }
    Ok(Meant {
        target,
        entry: None,
    })
}

fn nothing_named(project: Option<&Project>) -> Failure {
    let failure = Failure::usage("no app, add-on or session was named");
    failure.with_hint(match project {
        Some(project) => format!(
            "name one, or mark one of those in {} with `default = true`",
            project.file.display()
        ),
        None => "name an app (`sushi` or --app sushi), an add-on (`sushi::ATTACHMENT` or --addon NAME) or an open session".to_owned(),
    })
}

/// The database that a command is about.
///
/// # Errors
/// As [`meant`].
pub(crate) async fn one(args: &TargetArgs) -> Result<v1::Target, Failure> {
    Ok(meant(args).await?.target)
}

/// The open session that a command is about, and the daemon that has it.
///
/// # Errors
/// As [`meant`], and where the project's session isn't open.
pub(crate) async fn open_session(
    context: Context<'_>,
    args: &TargetArgs,
) -> Result<(Client, v1::Target), Failure> {
    let meant = meant(args).await?;
    let mut daemon = context.daemon().await?;
    let Some(entry) = meant.entry else {
        return Ok((daemon, meant.target));
    };
    match entry.among(&daemon.list().await?) {
        Some(session) => Ok((daemon, by_name(session))),
        None => Err(Failure::new(
            Exit::NotFound,
            format!("the project's session {} is not open", entry.session_name()),
        )
        .with_hint("open it with `borealisctl up`")),
    }
}

/// The session that a command wants for its own time: an open one as it is, unless it was told
/// what it must be.
///
/// # Errors
/// As [`meant`].
pub(crate) async fn to_use(
    context: Context<'_>,
    args: &TargetArgs,
    write: bool,
    port: Option<u16>,
) -> Result<v1::UseSessionRequest, Failure> {
    let meant = meant(args).await?;
    let mut request = v1::UseSessionRequest {
        target: Some(meant.target),
        access: super::asked_access(write).into(),
        role: v1::Role::Unspecified.into(),
        port: port.map_or(0, u32::from),
        wait: None,
    };
    let Some(entry) = meant.entry else {
        return Ok(request);
    };
    request.role = entry.role.into();
    if write && entry.access != v1::Access::ReadWrite {
        // Another session than the project's.
        return Ok(request);
    }
    request.access = entry.access.into();
    if let Some(session) = entry.among(&context.daemon().await?.list().await?) {
        request.target = Some(by_name(session));
    } else if let (0, Some(port)) = (request.port, entry.port) {
        request.port = port.into();
    }
    Ok(request)
}

fn by_name(session: &v1::Session) -> v1::Target {
    v1::Target {
        name: session.name.clone(),
        ..v1::Target::default()
    }
}

/// One target of a command whose parts may stand on either side of its action:
/// `extensions --app sushi install postgis`.
///
/// # Errors
/// As [`one`].
pub(crate) async fn merged(outer: TargetArgs, inner: &TargetArgs) -> Result<v1::Target, Failure> {
    let inner = inner.clone();
    let app = inner.app.or(outer.app);
    one(&TargetArgs {
        target: inner.target.or(outer.target),
        remote: inner.remote.or(outer.remote).filter(|_| app.is_none()),
        app,
        addon: inner.addon.or(outer.addon),
    })
    .await
}

/// Several targets; none where all were asked for.
///
/// # Errors
/// A usage failure where neither one nor all were named.
pub(crate) async fn several(args: &TargetsArgs) -> Result<Vec<v1::Target>, Failure> {
    if args.all {
        return Ok(Vec::new());
    }
    // With --app, --remote or --addon beside it, a single name is part of the same target.
    if args.app.is_some() || args.remote.is_some() || args.addon.is_some() {
        if args.names.len() > 1 {
            return Err(
                Failure::usage("--app, --remote and --addon go with one name at most")
                    .with_hint("name the sessions only, as `borealisctl list` shows them"),
            );
        }
        let target = TargetArgs {
            target: args.names.first().cloned(),
            app: args.app.clone(),
            remote: args.remote.clone(),
            addon: args.addon.clone(),
        };
        return Ok(vec![one(&target).await?]);
    }
    if args.names.is_empty() {
        return Err(Failure::usage("no session was named")
            .with_hint("name one or more (`borealisctl list` shows them), or say --all"));
    }
    let target = |name: &String| v1::Target {
        name: name.clone(),
        ..v1::Target::default()
    };
    Ok(args.names.iter().map(target).collect())
}
