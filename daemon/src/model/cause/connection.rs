//! One client's connection.

use super::Words;
use crate::model::Foreign;

pub(super) fn no_such_connection(id: u64) -> Words {
    Words::new(
        format!("there is no connection {id}"),
        "it may have ended; `borealisctl ps` lists those that are there",
    )
}

pub(super) fn connection_ended(by: &Foreign) -> Words {
    Words::new(
        format!("this connection was ended by {by:.80}"),
        "the session goes on; connect again when you like",
    )
}

pub(super) fn no_cancel_key(id: u64) -> Words {
    Words::new(
        format!("what connection {id} is running can't be cancelled: its cancel key isn't known"),
        "a connection that has not reached its database runs nothing, and of passthrough the daemon reads nothing; `borealisctl kill` ends it",
    )
}

pub(super) fn cancel_not_passed_on(id: u64) -> Words {
    Words::new(
        format!("the cancel request for connection {id} could not be passed on to the database"),
        "its tunnel may be away: see `borealisctl list`, and try again",
    )
}
