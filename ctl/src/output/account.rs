//! The Heroku account, and the places where its token may be.

use anstyle::AnsiColor;
use borealis_proto::v1;
use serde::Serialize;

use super::{
    Format, Output, Text, csv,
    table::{self, Cell},
    text::name,
    time::{rfc3339, since},
    words::token_place,
};
use crate::failure::Failure;

#[derive(Serialize)]
struct LoggedIn<'a> {
    account: &'a str,
    kept: &'static str,
    file: Option<&'a str>,
    shadowed_by: Option<&'a str>,
}

#[derive(Serialize)]
struct LoggedOut<'a> {
    was_kept: bool,
    account: Option<&'a str>,
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct WhoAmI<'a> {
    account: Option<&'a str>,
    source: Option<&'a str>,
    places: Vec<Place<'a>>,
}

#[derive(Serialize)]
struct Place<'a> {
    place: &'a str,
    state: &'static str,
    since: Option<String>,
    problem: Option<&'a str>,
}

// === impl Output ===

impl Output {
    /// Prints what a log-in came to.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn logged_in(&self, answer: &v1::LoginResponse) -> Result<(), Failure> {
        let kept = match answer.kept() {
            v1::Keep::Keychain => "keychain",
            v1::Keep::File | v1::Keep::Unspecified => "file",
        };
        if let Some(place) = known(&answer.shadowed_by) {
            self.warning(&format!(
                "borealisd goes on with the token from {place}, which wins over this one"
            ));
        }
        if let Some(because) = known(&answer.because) {
            self.note(&format!("the keychain was not used: {because}"));
        }
        match self.format {
            Format::Table => {
                let place = match kept {
                    "keychain" => "in the keychain".to_owned(),
                    _ => format!("in {}", answer.file),
                };
                let account = name(&answer.account);
                self.text(&Text::sentence(&format!(
                    "logged in as {account}; the token is kept {place}"
                )))
            }
            Format::Csv => self.pairs(
                ["key", "value"],
                [
                    ("account", answer.account.as_str()),
                    ("kept", kept),
                    ("file", &answer.file),
                    ("shadowed_by", &answer.shadowed_by),
                ],
            ),
            Format::Json | Format::Yaml => self.value(&LoggedIn {
                account: &answer.account,
                kept,
                file: known(&answer.file),
                shadowed_by: known(&answer.shadowed_by),
            }),
        }
    }

    /// Prints what a log-out came to.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn logged_out(&self, answer: &v1::LogoutResponse) -> Result<(), Failure> {
        if let Some(problem) = known(&answer.problem) {
            self.warning(&format!(
                "the token may still be in the keychain: {problem}"
            ));
        }
        match self.format {
            Format::Table => {
                let what = match (answer.was_kept, known(&answer.account)) {
                    (false, _) => "no login was kept".to_owned(),
                    (true, Some(account)) => format!("logged out {account}"),
                    (true, None) => "logged out".to_owned(),
                };
                let next = match known(&answer.next) {
                    Some(next) => format!("; borealisd uses the token from {next}"),
                    None => "; borealisd has no other token".to_owned(),
                };
                self.text(&Text::sentence(&(what + &next)))
            }
            Format::Csv => self.pairs(
                ["key", "value"],
                [
                    ("was_kept", if answer.was_kept { "true" } else { "false" }),
                    ("account", answer.account.as_str()),
                    ("next", &answer.next),
                ],
            ),
            Format::Json | Format::Yaml => self.value(&LoggedOut {
                was_kept: answer.was_kept,
                account: known(&answer.account),
                next: known(&answer.next),
            }),
        }
    }

    /// Prints whose token is used, and every place where one may be.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn who_am_i(&self, answer: &v1::WhoAmIResponse) -> Result<(), Failure> {
        let places: Vec<_> = answer.places.iter().map(Place::of).collect();
        match self.format {
            Format::Table => {
                let mut text = Text::new();
                if let Some(account) = known(&answer.account) {
                    let (account, source) = (name(account), name(&answer.source));
                    text.push(format!("{account}, by the token from {source}\n\n"));
                }
                text.append(&self.place_table(answer));
                self.text(&text)
            }
            Format::Csv => {
                let mut out = Vec::new();
                // Writing to memory can't fail.
                let _ = csv::line(
                    &mut out,
                    ["place", "state", "since", "problem"].map(|key| Some(key.as_bytes())),
                );
                for place in &places {
                    let since = place.since.as_deref();
                    let fields = [Some(place.place), Some(place.state), since, place.problem];
                    let _ = csv::line(&mut out, fields.map(|field| field.map(str::as_bytes)));
                }
                self.data(&out)
            }
            Format::Json | Format::Yaml => self.value(&WhoAmI {
                account: known(&answer.account),
                source: known(&answer.source),
                places,
            }),
        }
    }

    fn place_table(&self, answer: &v1::WhoAmIResponse) -> Text {
        let now = super::time::now();
        let rows: Vec<_> = answer
            .places
            .iter()
            .map(|place| {
                let state = token_place(place.state());
                let colour = match place.state() {
                    v1::TokenPlaceState::Used => Cell::coloured(state, AnsiColor::Green),
                    v1::TokenPlaceState::Shadowed => Cell::coloured(state, AnsiColor::Yellow),
                    _ => Cell::new(state),
                };
                let age = since(place.since.as_ref(), now).unwrap_or_default();
                let problem = Cell::coloured(&place.problem, AnsiColor::Red);
                vec![Cell::new(&place.place), colour, Cell::new(age), problem]
            })
            .collect();
        table::columns(&["TOKEN FROM", "", "AGE", ""], &rows, self.results, None)
    }
}

// === impl Place ===

impl<'a> Place<'a> {
    fn of(place: &'a v1::TokenPlace) -> Self {
        Self {
            place: &place.place,
            state: token_place(place.state()),
            since: rfc3339(place.since.as_ref()),
            problem: known(&place.problem),
        }
    }
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
