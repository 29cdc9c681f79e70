//! `env`: a session's variables for a shell.

use std::collections::BTreeMap;

use super::{Context, Outcome, target, url::require_secrets};
use crate::{
    args::{EnvArgs, Format, ShellArg},
    child,
    client::Reveal,
    failure::Failure,
    output::quote,
};

pub(super) async fn run(context: Context<'_>, args: &EnvArgs) -> Outcome {
    let target = target::one(&args.target)?;
    let opened = context.daemon().await?.get(target, Reveal::Secrets).await?;
    require_secrets(&opened)?;
    let variables = child::variables(&opened);
    let pairs = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    match context.output.format {
        Format::Table => {
            let lines: Result<String, Failure> = pairs
                .map(|(name, value)| line(args.shell, name, value))
                .collect();
            context.output.text(&lines?)?;
        }
        Format::Csv => context.output.pairs(["name", "value"], pairs)?,
        Format::Json | Format::Yaml => {
            context.output.value(&pairs.collect::<BTreeMap<_, _>>())?;
        }
    }
    Ok(0)
}

fn line(shell: ShellArg, name: &str, value: &str) -> Result<String, Failure> {
    Ok(match shell {
        ShellArg::Sh | ShellArg::Direnv => format!("export {name}={}\n", quote::sh(value)),
        ShellArg::Fish => format!("set -gx {name} {}\n", quote::fish(value)),
        // An env file knows no quotes: everything up to the line's end is the value.
        ShellArg::Docker if value.contains('\n') => {
            return Err(Failure::failed(format!(
                "{name} has a line break, which an env file can't hold"
            )));
        }
        ShellArg::Docker => format!("{name}={value}\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_its_own_syntax() {
        let of = |shell| line(shell, "PGPASSWORD", "it's").unwrap();
        assert_eq!(of(ShellArg::Sh), "export PGPASSWORD='it'\\''s'\n");
        assert_eq!(of(ShellArg::Direnv), of(ShellArg::Sh));
        assert_eq!(of(ShellArg::Fish), "set -gx PGPASSWORD 'it\\'s'\n");
        assert_eq!(of(ShellArg::Docker), "PGPASSWORD=it's\n");
        assert!(line(ShellArg::Docker, "X", "a\nb").is_err());
    }
}
