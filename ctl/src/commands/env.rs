//! `env`: a session's variables for a shell, for direnv, for a container.

use std::collections::BTreeMap;

use borealis_proto::v1;

use super::{Context, Outcome, target, url::require};
use crate::{
    args::{EnvArgs, ShellArg},
    client::{Opened, Reveal},
    failure::Failure,
    libpq::{self, Way},
    output::{Format, Text, quote},
    ports,
};

pub(super) async fn run(context: Context<'_>, args: &EnvArgs) -> Outcome {
    let (mut daemon, target) = target::open_session(context, &args.target).await?;
    let opened = daemon.get(target, Reveal::Secrets).await?;
    require(&opened.secrets.url, &opened)?;
    ports::warn_of_thief(context.output, &opened.session);
    let variables = match args.shell {
        ShellArg::Docker => in_a_container(&opened),
        _ => libpq::all_variables(&opened, Way::safest(&opened.session)),
    };
    let pairs = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    match (context.output.format, args.shell) {
        (Format::Table, ShellArg::Direnv) => direnv(context, args, &opened.session)?,
        (Format::Table, ShellArg::Docker) => docker(context, &opened.session, pairs)?,
        (Format::Table, shell) => {
            let lines: String = pairs
                .map(|(name, value)| line(shell, name, value))
                .collect();
            // A shell reads them, and has its own quotes for what a terminal would obey.
            context.output.data(lines.as_bytes())?;
        }
        (Format::Csv, _) => context.output.pairs(["name", "value"], pairs)?,
        (Format::Json | Format::Yaml, _) => {
            context.output.value(&pairs.collect::<BTreeMap<_, _>>())?;
        }
    }
    Ok(0)
}

fn line(shell: ShellArg, name: &str, value: &str) -> String {
    match shell {
        ShellArg::Fish => format!("set -gx {name} {}\n", quote::fish(value)),
        ShellArg::Sh | ShellArg::Direnv | ShellArg::Docker => {
            format!("export {name}={}\n", quote::sh(value))
        }
    }
}

// --- direnv ---

/// One line that asks at run time: an `.envrc` belongs to the project, and a password in it
/// would be committed sooner or later.
///
/// What names no session goes by the project's file also later, whatever that says then.
fn direnv(context: Context<'_>, args: &EnvArgs, session: &v1::Session) -> Result<(), Failure> {
    context
        .output
        .note("the line asks borealisctl each time, so that no password is in the project");
    let line = if target::is_named(&args.target) {
        format!("eval \"$(borealisctl env {})\"\n", quote::sh(&session.name))
    } else {
        "eval \"$(borealisctl env)\"\n".to_owned()
    };
    context.output.text(&Text::lines(line))
}

// --- containers ---

/// What is true inside of a container that has the session's directory mounted at the same
/// place. The loopback address there is the container's own.
fn in_a_container(opened: &Opened) -> Vec<(&'static str, String)> {
    let mut variables = libpq::variables(opened, Way::Socket);
    let managed = opened.session.mode() == v1::Mode::Managed;
    variables.retain(|(name, _)| !managed || *name != "PGPASSWORD");
    variables.push(("DATABASE_URL", libpq::socket_url(&opened.session)));
    variables
}

/// An env file knows no quotes: everything up to the line's end is the value.
fn docker<'a>(
    context: Context<'_>,
    session: &v1::Session,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Failure> {
    let dir = &session.socket_dir;
    let mut lines = format!(
        "# {} over its Unix socket: mount {dir} at the same place, and run as the same user.\n",
        session.name
    );
    for (name, value) in pairs {
        if value.contains('\n') {
            return Err(Failure::failed(format!(
                "{name} has a line break, which an env file can't hold"
            )));
        }
        lines.push_str(&format!("{name}={value}\n"));
    }
    context.output.data(lines.as_bytes())?;
    let dir = quote::sh(dir);
    context.output.note(
        "127.0.0.1 is another machine inside of a container, so it connects through the session's socket:",
    );
    context.output.note(&format!(
        "docker run --env-file FILE --user \"$(id -u)\" -v {dir}:{dir} …"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_its_own_syntax() {
        let of = |shell| line(shell, "PGPASSWORD", "it's $HOME");
        assert_eq!(of(ShellArg::Sh), "export PGPASSWORD=\"it's \"'$HOME'\n");
        assert_eq!(of(ShellArg::Fish), "set -gx PGPASSWORD 'it\\'s $HOME'\n");
    }
}
