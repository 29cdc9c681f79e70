//! Who has a port that a session wants. The daemon's unit may not look into other programs
//! (its `PrivateUsers=yes`), so borealisctl looks with the user's own rights, and completes
//! what the daemon says.

use borealis_proto::{port_holder, v1};

use crate::output::Output;

/// The API's code of a session that can't have its port.
const IN_USE: &str = "port-in-use";

/// Names the program in a sentence of the daemon's that says that a port is in use, and not
/// by whom.
pub(crate) fn complete(sentence: &mut String) {
    name_holder(sentence, port_holder::of);
}

/// The same for a session's trouble.
pub(crate) fn complete_session(session: &mut v1::Session) {
    if let Some(error) = &mut session.last_error {
        complete(&mut error.message);
    }
}

/// Warns where a session's address is somebody else's now: who connects there gives them the
/// session's password.
pub(crate) fn warn_of_thief(output: &Output, session: &v1::Session) {
    let Some(error) = &session.last_error else {
        return;
    };
    if error.code != IN_USE || session.state() == v1::State::Up {
        return;
    }
    let (name, host, port) = (&session.name, &session.host, session.port);
    output.warning(&format!(
        "{host}:{port} is not {name}'s now: {}. Whoever listens there would be given the session's password; the socket is safe: `borealisctl url --socket {name}`",
        error.message
    ));
}

fn name_holder(sentence: &mut String, holder: impl Fn(u16) -> Option<String>) {
    const USED: &str = " is in use";
    for (at, before) in sentence.match_indices("port ") {
        let rest = &sentence[at + before.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (Ok(port), Some(behind)) = (rest[..digits].parse(), rest[digits..].strip_prefix(USED))
        else {
            continue;
        };
        if behind.starts_with(" by ") {
            return;
        }
        if let Some(holder) = holder(port) {
            let end = at + before.len() + digits + USED.len();
            sentence.insert_str(end, &format!(" by {holder}"));
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_once() {
        let named = |sentence: &str, holder: Option<&str>| {
            let mut sentence = sentence.to_owned();
            name_holder(&mut sentence, |port| {
                assert_eq!(port, 15432);
                holder.map(str::to_owned)
            });
            sentence
        };
        let nc = Some("nc (4711)");
        for (said, shown) in [
            ("port 15432 is in use", "port 15432 is in use by nc (4711)"),
            (
                "session sushi: port 15432 is in use; waiting",
                "session sushi: port 15432 is in use by nc (4711); waiting",
            ),
            (
                "port 15432 is in use by postgres (1)",
                "port 15432 is in use by postgres (1)",
            ),
            ("port no is in use", "port no is in use"),
            ("a port 99999999 is in use", "a port 99999999 is in use"),
            ("support me", "support me"),
        ] {
            assert_eq!(named(said, nc), shown);
            assert_eq!(named(said, None), said);
        }
    }
}
