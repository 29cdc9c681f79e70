//! `top` where nothing can be drawn: plain text, again after each change.

use super::{
    super::{
        Output, Text, events,
        session::Overlong,
        table::{self, Cell},
        text, time,
        words::connection_state,
    },
    model::{Clients, Model},
    traffic::size,
    view::who,
};
use crate::failure::Failure;

/// How many events from before the beginning are told.
const BEFORE: usize = 5;

/// Prints what a model knows, again and again.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    /// How many of the model's events were told.
    told: Option<usize>,
    /// Whether it was said that the daemon is away.
    said_away: bool,
}

// === impl Plain ===

impl Plain {
    /// Prints what is known now, where something is.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn show(&mut self, output: &Output, model: &Model) -> Result<(), Failure> {
        if let Some((_, why)) = &model.away {
            if self.said_away {
                return Ok(());
            }
            self.said_away = true;
            return output.text(&Text::sentence(&format!(
                "borealisd is away, waiting for it: {why}"
            )));
        }
        self.said_away = false;
        let Some(sessions) = &model.sessions else {
            return Ok(());
        };
        let now = prost_types::Timestamp {
            seconds: model.now.as_second(),
            nanos: 0,
        };
        let stamp = time::stamp_in(Some(&now), &model.zone).unwrap_or_default();
        let mut block = match self.told {
            None => Text::new(),
            Some(_) => Text::lines("\n"),
        };
        block.push(format!("{stamp}\n"));
        if sessions.is_empty() {
            block.push("no sessions are open\n");
        } else {
            block.append(&output.session_table(sessions, None, Overlong::Wrap));
        }
        block.append(&connections(output, model));
        let new = match self.told {
            None => model.events.len().min(BEFORE),
            Some(told) => model
                .events_seen
                .saturating_sub(told)
                .min(model.events.len()),
        };
        for event in model.events.iter().take(new).rev() {
            block.append(&events::line(output, event));
        }
        self.told = Some(model.events_seen);
        output.text(&block)
    }
}

fn connections(output: &Output, model: &Model) -> Text {
    let Clients::Known(clients) = &model.clients else {
        return Text::new();
    };
    if clients.is_empty() {
        return Text::new();
    }
    let rows: Vec<_> = clients
        .iter()
        .map(|client| {
            let connection = &client.connection;
            let bytes = connection.bytes.unwrap_or_default();
            let age = time::since(connection.state_since.as_ref(), model.now);
            vec![
                Cell::new(connection.id.to_string()),
                Cell::new(text::name(&connection.session)),
                Cell::new(who(client)),
                Cell::new(connection_state(connection.state()).unwrap_or("?")),
                Cell::new(age.unwrap_or_default()),
                Cell::new(size(bytes.sent)),
                Cell::new(size(bytes.received)),
            ]
        })
        .collect();
    let headings = [
        "ID", "SESSION", "PROGRAM", "STATE", "FOR", "SENT", "RECEIVED",
    ];
    table::columns(&headings, &rows, output.results, None)
}
