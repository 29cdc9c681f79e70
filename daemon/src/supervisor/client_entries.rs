//! What libpq's files say of the sessions.

use super::SessionSnapshot;
use crate::{
    model::Mode,
    state::{ClientEntry, Way},
};

/// Sessions that clients can reach now: one whose port is somebody else's is not named, or
/// that one would be given its password.
pub(super) fn client_entries(views: &[SessionSnapshot]) -> Vec<ClientEntry> {
    views.iter().filter_map(client_entry).collect()
}

fn client_entry(view: &SessionSnapshot) -> Option<ClientEntry> {
    let address = view.address.as_ref()?;
    Some(ClientEntry {
        name: view.name.clone(),
        way: match view.mode {
            Mode::Managed => Way::Socket(address.socket_dir.clone()),
            Mode::Passthrough => Way::Tcp,
        },
        port: address.port,
        database: view.status.database.clone(),
        user: view.user().map(str::to_owned),
        password: view.password.clone(),
    })
}
