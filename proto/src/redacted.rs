//! `Debug` for the messages that hold secrets: what a log or an assertion prints of them.

use std::fmt;

use crate::v1::{LoginRequest, Secrets};

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRequest")
            .field("keep", &self.keep())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let login = LoginRequest {
            token: "hunter2".into(),
            keep: 0,
        };
        let secrets = Secrets {
            password: "hunter2".into(),
            url: "hunter2".into(),
        };
        assert!(!format!("{login:?} {secrets:?}").contains("hunter2"));
    }
}
