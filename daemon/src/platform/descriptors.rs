//! How many files and sockets this process may have open: as many as the system lets it.
//!
//! The usual limit of 1024 is there for programs that use `select`, which can't count any
//! further. This one doesn't, but what it starts may: children get the limit that it was
//! started with.

use std::{
    os::fd::{AsFd, AsRawFd as _},
    sync::{Mutex, PoisonError},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process was started with, once another is in force. The lock is held
/// while that is back in force for a child.
static BEFORE: Mutex<Option<Rlimit>> = Mutex::new(None);

/// So many descriptors are kept for what matters: the control socket, the tunnels, files.
const RESERVE: u64 = 64;

/// How many descriptors must become free again for those that matter, now that this was opened.
/// The system gives the lowest free number: where it is a high one, all below it are in use, and
/// it tells how many there are. A low one may fill a gap and tell nothing; the next one does.
pub fn missing_after(opened: impl AsFd) -> u64 {
    let number = opened.as_fd().as_raw_fd();
    let in_use = u64::try_from(number).unwrap_or(u64::MAX).saturating_add(1);
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(0, |limit| {
        in_use.saturating_add(RESERVE).saturating_sub(limit)
    })
}

/// Raises the limit to what the system allows. Where that fails, the one in force stays.
pub fn raise() {
    let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    if before.is_some() || limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => *before = Some(limit),
        // macOS says no to what it calls unlimited.
        Err(error) => tracing::debug!(%error, "the limit on open files stays"),
    }
}

/// Starts a child, which `spawn` does, with the limit that there was before [`raise`].
/// Meanwhile no more than that many files can be opened here: where there are more already,
/// an accept fails for a moment, which its listener survives.
pub fn for_child<T>(spawn: impl FnOnce() -> T) -> T {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(limit) = *before else {
        return spawn();
    };
    let raised = getrlimit(Resource::Nofile);
    // A soft limit may always be set below the hard one, and back.
    let _ = setrlimit(Resource::Nofile, limit);
    let child = spawn();
    let _ = setrlimit(Resource::Nofile, raised);
    child
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn soft_limit_of_a_child() -> u64 {
        let asked = for_child(|| Command::new("sh").args(["-c", "ulimit -S -n"]).output());
        let said = String::from_utf8(asked.unwrap().stdout).unwrap();
        said.trim().parse().unwrap()
    }

    #[test]
    fn the_limit_is_raised_and_children_keep_theirs() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let low = Rlimit {
            current: Some(256),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise();
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
        assert_eq!(soft_limit_of_a_child(), 256);
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
        // Once is enough.
        raise();
        assert_eq!(soft_limit_of_a_child(), 256);
    }
}
