//! From what was typed to what is asked for.

use borealis_proto::v1;

use crate::{
    args::{TargetArgs, TargetsArgs},
    failure::Failure,
    git,
};

/// The app of the commands that name none, by the Heroku CLI's own variable
/// (<https://devcenter.heroku.com/articles/using-the-cli#app-commands>).
const APP_VARIABLE: &str = "HEROKU_APP";

/// Whether anything was named on the command line.
pub(crate) fn is_named(args: &TargetArgs) -> bool {
    args.target.is_some() || args.app.is_some() || args.remote.is_some() || args.addon.is_some()
}

/// One target: what was typed, else what the environment says, else the git repository's app.
///
/// # Errors
/// A usage failure where nothing is named, and why git can't say which app is meant.
pub(crate) async fn one(args: &TargetArgs) -> Result<v1::Target, Failure> {
    let mut app = args.app.clone();
    if let Some(remote) = &args.remote {
        app = git::app(Some(remote)).await?;
    }
    // What was typed stands for itself, and may be an add-on or a session.
    if app.is_none() && args.target.is_none() {
        app = std::env::var(APP_VARIABLE).ok();
    }
    if app.is_none() && !is_named(args) {
        app = git::app(None).await?;
    }
    let target = v1::Target {
        name: args.target.clone().unwrap_or_default(),
        app: app.unwrap_or_default(),
        addon: args.addon.clone().unwrap_or_default(),
    };
    if target == v1::Target::default() {
        return Err(Failure::usage("no app, add-on or session was named").with_hint(
            "name an app (`sushi` or --app sushi), an add-on (`sushi::ATTACHMENT` or --addon NAME) or an open session",
        ));
    }
    Ok(target)
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
