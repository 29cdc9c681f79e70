//! The Heroku account.

use super::Words;

pub(super) fn not_logged_in() -> Words {
    Words::new(
        "not logged in to Heroku: no API token was found",
        "run `borealisctl login`, or `heroku login`, or start borealisd with HEROKU_API_KEY set",
    )
}

pub(super) fn no_usable_token(problems: &str) -> Words {
    Words::new(
        format!("not logged in to Heroku: no API token was found ({problems})"),
        "mend that, or run `borealisctl login`; `borealisctl whoami` shows every place that was looked at",
    )
}

pub(super) fn token_refused(source: &str) -> Words {
    Words::new(
        format!("Heroku refused the API token from {source} (it may have expired or been revoked)"),
        match source {
            // A login would not be looked at while the variable is there.
            "HEROKU_API_KEY" => {
                "put a valid token into the daemon's HEROKU_API_KEY, or take it out and sign in with `borealisctl login`; then start borealisd again"
            }
            "token_command" => {
                "see what the token_command of config.toml prints; `borealisctl login` with a valid token wins over it"
            }
            _ => {
                "sign in again with `borealisctl login` or `heroku login`; `borealisctl whoami` shows the places that a token is taken from"
            }
        },
    )
}

pub(super) fn two_factor_required() -> Words {
    Words::new(
        "Heroku wants a two-factor code for this account's token",
        "sign in with `heroku login`, which asks for the code in the browser; or make a token in the Heroku dashboard (Account settings, Applications, Authorizations) and give it to `borealisctl login`",
    )
}

pub(super) fn sso_required(source: &str) -> Words {
    Words::new(
        format!(
            "Heroku refused the API token from {source}: the single sign-on session of its organization has ended"
        ),
        "sign in again with `heroku login --sso`; a token made in the Heroku dashboard, given to `borealisctl login`, lasts longer",
    )
}
