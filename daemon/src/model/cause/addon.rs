//! What a target leads to, and the add-on's state.

use super::Words;

pub(super) fn app_not_found(app: &str) -> Words {
    Words::new(
        format!("there is no app {app} that this Heroku account can see"),
        "check the name with `heroku apps`, and the account with `borealisctl whoami`",
    )
}

pub(super) fn addon_not_found(addon: &str, app: Option<&str>) -> Words {
    if let Some(app) = app {
        return Words::new(
            format!("app {app} has no add-on or attachment {addon}"),
            format!("see `heroku addons --app {app}`"),
        );
    }
    Words::new(
        format!("there is no add-on {addon} that this Heroku account can see"),
        "an attachment's name is looked for in one app only: try again with --app",
    )
}

pub(super) fn target_not_found(word: &str) -> Words {
    Words::new(
        format!("there is neither an app nor an add-on {word} that this Heroku account can see"),
        "check the name with `heroku apps` and `heroku addons --all`; an attachment is named APP::ATTACHMENT",
    )
}

pub(super) fn no_addon(app: &str) -> Words {
    Words::new(
        format!("app {app} has no Borealis Isolated Postgres add-on attachments"),
        format!("name another app, or see what this one has with `heroku addons --app {app}`"),
    )
}

pub(super) fn several_addons(app: &str, attachments: &[String]) -> Words {
    Words::new(
        format!("app {app} has multiple Borealis Isolated Postgres add-ons"),
        format!(
            "name one of them (or use --addon): {}",
            attachments
                .iter()
                .map(|attachment| format!("{app}::{attachment}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    )
}

pub(super) fn other_service(addon: &str) -> Words {
    Words::new(
        format!("add-on {addon} is not a Borealis Isolated Postgres add-on"),
        "name an add-on of the service borealis-pg",
    )
}

pub(super) fn config_variable_invalid(app: &str, variable: &str) -> Words {
    Words::new(
        format!(
            "the {variable} config variable value for {app} is invalid; this may indicate that the config variable was manually edited"
        ),
        "use your personal database user (leave out --role app, or add --personal-user)",
    )
}

pub(super) fn access_revoked(addon: &str) -> Words {
    Words::new(
        format!(
            "access to the database of add-on {addon} has been temporarily revoked for personal users; generally this indicates that the database has persistently exceeded its storage limit"
        ),
        "try upgrading to a new add-on plan to restore access",
    )
}

pub(super) fn provisioning(addon: &str) -> Words {
    Words::new(
        format!("add-on {addon} is not finished provisioning"),
        "try again in a few minutes",
    )
}

pub(super) fn upgrading(addon: &str) -> Words {
    Words::new(
        format!("add-on {addon} is undergoing a PostgreSQL major version upgrade"),
        format!(
            "try again later, or run `borealisctl upgrade cancel {addon}` to cancel the upgrade process"
        ),
    )
}

pub(super) fn target_moved(target: &str, from: &str, to: &str) -> Words {
    Words::new(
        format!("{target} leads to add-on {to} now, and no longer to {from}"),
        format!("new connections go to {to}; those that were open stay with {from} until they end"),
    )
}
