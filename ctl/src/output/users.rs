//! Database users, and what a reset of them means for open sessions.

use borealis_proto::v1;

use super::{
    Output, Text,
    addon::named,
    record::{Record, Value},
    table::{self, Cell},
    text::line,
};
use crate::failure::Failure;

// === impl Output ===

impl Output {
    /// Prints database users.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn users(&self, users: &[v1::DatabaseUsers]) -> Result<(), Failure> {
        let record = |users: &v1::DatabaseUsers| {
            Record::new([
                ("display_name", (&users.display_name).into()),
                ("user_type", (&users.user_type).into()),
                ("read_only_username", (&users.read_only_username).into()),
                ("read_write_username", (&users.read_write_username).into()),
            ])
        };
        let records: Vec<_> = users.iter().map(record).collect();
        let keys = [
            "display_name",
            "user_type",
            "read_only_username",
            "read_write_username",
        ];
        self.records(&keys, &records, || {
            let row = |users: &v1::DatabaseUsers| {
                let whose = if users.display_name.is_empty() {
                    "Heroku App User"
                } else {
                    &users.display_name
                };
                vec![
                    Cell::new(whose),
                    Cell::new(&users.read_only_username),
                    Cell::new(&users.read_write_username),
                ]
            };
            let headings = [
                "ADD-ON USER",
                "DB READ-ONLY USERNAME",
                "DB READ/WRITE USERNAME",
            ];
            let rows: Vec<_> = users.iter().map(row).collect();
            table::columns(&headings, &rows, self.results, None)
        })
    }

    /// Tells what a reset is going to do.
    pub(crate) fn reset_ahead(&self, addon: &v1::Addon, sessions: &[v1::Session]) {
        self.notice(&format!(
            "This gives every database user of {} new credentials. The app's config variables\n\
             follow, and its old credentials stay valid for some minutes. Connections of personal\n\
             users, yours and others', are cut.",
            line(&named(addon))
        ));
        for effect in effects(sessions) {
            self.notice(&line(&effect));
        }
    }

    /// Prints that the users were reset.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn users_reset(&self, answer: &v1::ResetUsersResponse) -> Result<(), Failure> {
        let names = answer.sessions.iter().map(|session| session.name.clone());
        let sessions = Value::List(names.collect());
        let record = Record::about(answer.addon.as_ref(), [("sessions", sessions)]);
        self.record(&record, || {
            let addon = answer.addon.clone().unwrap_or_default();
            let done = format!("reset the database users of {}", named(&addon));
            let effects = effects(&answer.sessions);
            std::iter::once(&done)
                .chain(&effects)
                .map(|text| Text::sentence(text))
                .collect()
        })
    }
}

/// A line for each kind of session that is open.
fn effects(sessions: &[v1::Session]) -> Vec<String> {
    let is_app = |session: &v1::Session| session.role() == v1::Role::App;
    let is_managed = |session: &v1::Session| session.mode() != v1::Mode::Passthrough;
    let names = |wanted: &dyn Fn(&v1::Session) -> bool| {
        let names = sessions.iter().filter(|session| wanted(session));
        names
            .map(|session| session.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let kinds = [
        (
            names(&|session| !is_app(session) && is_managed(session)),
            "its connections are cut; it gets new credentials by itself when a client next connects",
        ),
        (
            names(&|session| !is_app(session) && !is_managed(session)),
            "its connections are cut, and its clients need the new credentials: `borealisctl rotate` it, then `borealisctl show` it with --reveal",
        ),
        (
            names(&is_app),
            "its connections go on for some minutes; it takes the app's new credentials by itself",
        ),
    ];
    kinds
        .into_iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, effect)| format!("Open session {names}: {effect}."))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_session_is_told_what_it_means() {
        let session = |name: &str, role: v1::Role, mode: v1::Mode| v1::Session {
            name: name.into(),
            role: role.into(),
            mode: mode.into(),
            ..v1::Session::default()
        };
        let lines = effects(&[
            session("a", v1::Role::Personal, v1::Mode::Managed),
            session("b", v1::Role::App, v1::Mode::Managed),
            session("c", v1::Role::Personal, v1::Mode::Managed),
        ]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("Open session a, c: its connections are cut; it gets new"));
        assert!(lines[1].starts_with("Open session b: its connections go on"));
        let lines = effects(&[session("d", v1::Role::Personal, v1::Mode::Passthrough)]);
        assert!(lines[0].contains("rotate"), "{lines:?}");
        assert!(effects(&[]).is_empty());
    }
}
