//! What a lease of a database user is known by.

use crate::model::Access;

/// Whose database user, of what, with which rights: what a lease is shared by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatabaseKey {
    /// The user's own role.
    Personal {
        /// The add-on's name.
        addon: String,
        /// Each of the two has a role of its own.
        access: Access,
    },
    /// The app's user, from its config variable.
    App {
        /// The app's name.
        app: String,
        /// The attachment's name.
        attachment: String,
        /// Reader or writer.
        access: Access,
    },
}
