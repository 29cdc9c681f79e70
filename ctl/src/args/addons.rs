//! The command line of the add-on commands, flags as the reference tool has them.

use clap::{Args, Subcommand};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::TargetArgs;

/// `extensions`
#[derive(Debug, Args)]
pub(crate) struct ExtensionsArgs {
    /// Whose extensions.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What to do; nothing: list them.
    #[command(subcommand)]
    pub(crate) action: Option<ExtensionsAction>,
}

/// What is done with extensions.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help text of each command says it")]
pub(crate) enum ExtensionsAction {
    /// Install a PostgreSQL extension
    #[command(
        allow_missing_positional = true,
        after_help = "Examples:
  borealisctl extensions install sushi postgis
  borealisctl extensions install --app sushi postgis
  borealisctl extensions install sushi hstore_plperl --recursive
  borealisctl extensions install sushi pg_trgm --suppress-conflict   for a script

Each extension gets a schema of its own. With --recursive whatever it depends on is
installed first, but for what is there already."
    )]
    Install(InstallArgs),
    /// Remove a PostgreSQL extension
    #[command(
        allow_missing_positional = true,
        after_help = "Examples:
  borealisctl extensions remove sushi uuid-ossp
  borealisctl extensions remove --app sushi uuid-ossp
  borealisctl extensions remove sushi uuid-ossp --confirm uuid-ossp   for a script

Asks for the extension's name to confirm, unless --confirm gives it."
    )]
    Remove(RemoveExtensionArgs),
}

/// `extensions install`
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Where to.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Name of the extension
    #[arg(value_name = "EXTENSION", required = true)]
    pub(crate) extension: String,
    /// Install what it depends on first
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// No error where it is installed already
    #[arg(short, long)]
    pub(crate) suppress_conflict: bool,
}

/// `extensions remove`
#[derive(Debug, Args)]
pub(crate) struct RemoveExtensionArgs {
    /// Where from.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Name of the extension
    #[arg(value_name = "EXTENSION", required = true)]
    pub(crate) extension: String,
    /// Don't ask: the extension's name again
    #[arg(short, long, value_name = "EXTENSION")]
    pub(crate) confirm: Option<String>,
    /// No error where it is not installed
    #[arg(short, long)]
    pub(crate) suppress_missing: bool,
}

/// `users`
#[derive(Debug, Args)]
pub(crate) struct UsersArgs {
    /// Whose users.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What to do; nothing: list them.
    #[command(subcommand)]
    pub(crate) action: Option<UsersAction>,
}

/// What is done with users.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help text of each command says it")]
pub(crate) enum UsersAction {
    /// Reset all database credentials
    #[command(after_help = "Examples:
  borealisctl users reset sushi
  borealisctl users reset --app sushi --confirm sushi   for a script

The app's database users get new names and passwords, and its config variables follow; the
old ones stay valid for some minutes. Personal database users are deactivated and their
connections cut; what they own stays. Sessions stay open: they get new credentials by
themselves when a client next connects. Data integrations are not affected.

Asks for the app's name to confirm, unless --confirm gives it.")]
    Reset(ResetArgs),
}

/// `users reset`
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Whose users.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Don't ask: the app's name
    #[arg(short, long, value_name = "APP")]
    pub(crate) confirm: Option<String>,
}

/// `info`
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Which add-on.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Wait until it is no longer being provisioned
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `integrations`
#[derive(Debug, Args)]
pub(crate) struct IntegrationsArgs {
    /// Whose integrations.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What to do; nothing: list them.
    #[command(subcommand)]
    pub(crate) action: Option<IntegrationsAction>,
}

/// What is done with integrations.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help text of each command says it")]
pub(crate) enum IntegrationsAction {
    /// Give a third party's service access to the database
    #[command(
        override_usage = "borealisctl integrations register [OPTIONS] --name <NAME> [TARGET] <KEY>...",
        after_help = "Examples:
  borealisctl integrations register sushi --name etl ssh-ed25519 AAAAC3Nza...
  borealisctl integrations register --app sushi --name etl -w \"$(cat service.pub)\"

KEY is the SSH public key that the service gave you: RSA, ECDSA or Ed25519 in OpenSSH's
format. NAME identifies the integration and names its database user: 1 to 25 of a-z, 0-9
and _. The password is shown this once."
    )]
    Register(RegisterArgs),
    /// Revoke a data integration's access
    #[command(
        visible_alias = "deregister",
        after_help = "Examples:
  borealisctl integrations remove sushi --name etl
  borealisctl integrations remove --app sushi --name etl --confirm etl   for a script

Asks for the integration's name to confirm, unless --confirm gives it."
    )]
    Remove(RemoveIntegrationArgs),
}

/// `integrations register`
#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// [TARGET] and the SSH public key, which may be several words
    #[arg(value_name = "KEY", required = true)]
    pub(crate) words: Vec<String>,
    /// App the add-on is attached to
    #[arg(short, long, value_name = "APP")]
    pub(crate) app: Option<String>,
    /// Git remote that is the app's
    #[arg(long, value_name = "NAME", conflicts_with = "app")]
    pub(crate) remote: Option<String>,
    /// Name or id of an add-on or one of its attachments
    #[arg(short = 'o', long, value_name = "ADDON")]
    pub(crate) addon: Option<String>,
    /// Name of the integration
    #[arg(short, long, value_name = "NAME", required = true)]
    pub(crate) name: String,
    /// Read and write access
    #[arg(short, long)]
    pub(crate) write_access: bool,
}

/// `integrations remove`
#[derive(Debug, Args)]
pub(crate) struct RemoveIntegrationArgs {
    /// Whose integration.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Name of the integration
    #[arg(short, long, value_name = "NAME", required = true)]
    pub(crate) name: String,
    /// Don't ask: the integration's name again
    #[arg(short, long, value_name = "NAME")]
    pub(crate) confirm: Option<String>,
}

/// What is done with restores.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help text of each command says it")]
pub(crate) enum RestoreAction {
    /// Show whether and to which times a database can be restored
    #[command(
        visible_alias = "info",
        after_help = "Examples:
  borealisctl restore capabilities sushi
  borealisctl restore capabilities --app sushi -f json | jq -r .earliest_restorable_time"
    )]
    Capabilities(OneArgs),
    /// Restore or clone a database into a new add-on
    #[command(after_help = "Examples:
  borealisctl restore execute sushi --wait                          a clone as of now
  borealisctl restore execute sushi --restore-to-time 2026-11-22T18:42:00-08:00
  borealisctl restore execute sushi::MAROON --as CLONED_DB --destination-app ramen

The new add-on is billed as any other; the source is not affected. A time without an offset
is one of your own zone. With --wait, what was asked for before in the same words and is
not finished is waited for instead of being started again; `borealisctl info ADDON --wait`
waits for it too.")]
    Execute(RestoreArgs),
}

/// `restore`
#[derive(Debug, Args)]
pub(crate) struct RestoreCommandArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: RestoreAction,
}

/// A command about one add-on that needs nothing else.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Which add-on.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `restore execute`
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// What to restore.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Name of the new add-on's attachment; default: Heroku's choice
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) attachment: Option<String>,
    /// App to attach the new add-on to; default: the source's
    #[arg(short, long, value_name = "APP")]
    pub(crate) destination_app: Option<String>,
    /// Plan of the new add-on; default: the source's
    #[arg(short, long, value_name = "PLAN")]
    pub(crate) new_plan: Option<String>,
    /// Time to restore to, in ISO 8601; default: a clone as of now
    #[arg(short = 't', long, value_name = "TIME", value_parser = time)]
    pub(crate) restore_to_time: Option<Timestamp>,
    /// Wait until the new add-on is ready
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `upgrade`
#[derive(Debug, Args)]
pub(crate) struct UpgradeCommandArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: UpgradeAction,
}

/// What is done with major versions.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help text of each command says it")]
pub(crate) enum UpgradeAction {
    /// Show whether a newer major version can be had
    #[command(after_help = "Examples:
  borealisctl upgrade info sushi
  borealisctl upgrade info --app sushi -f json | jq -r .next_pg_major_version")]
    Info(OneArgs),
    /// Upgrade to the next major version
    #[command(after_help = "Examples:
  borealisctl upgrade execute sushi

Goes on in the background, perhaps for more than an hour, with the database usable for most
of it. There is no way back: try it with a clone (`borealisctl restore execute`) first.")]
    Execute(OneArgs),
    /// Cancel the upgrade that is under way
    #[command(after_help = "Examples:
  borealisctl upgrade cancel sushi

The database stays available. Some minutes may pass before another upgrade can be tried.")]
    Cancel(OneArgs),
}

/// ISO 8601; what has no offset is the user's own time.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let problem = || {
        "a time is written in ISO 8601, such as 2026-11-22T18:42:00-08:00 or 2026-11-22T18:42"
            .to_owned()
    };
    let local: DateTime = text.parse().map_err(|_| problem())?;
    let zoned = local.to_zoned(TimeZone::system()).map_err(|_| problem())?;
    Ok(zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601() {
        let at = |text| time(text).map(|time| time.to_string());
        let noon = Ok("2026-11-22T12:00:00Z".to_owned());
        assert_eq!(at("2026-11-22T12:00:00Z"), noon);
        assert_eq!(at("2026-11-22T04:00:00-08:00"), noon);
        assert_eq!(at("2026-11-22T13:00+01:00"), noon);
        let local: DateTime = "2026-11-22T13:00".parse().unwrap();
        let local = local.to_zoned(TimeZone::system()).unwrap().timestamp();
        assert_eq!(time("2026-11-22T13:00"), Ok(local));
        assert!(time("2026-11-22").is_ok());
        for bad in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "22.11.2026",
            "12:00",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
