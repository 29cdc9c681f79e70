//! Ports for a machine's sessions that no other machine of a test takes, also while its daemon
//! is away: a file that is locked stands for each block of them.

use std::{
    fmt,
    fs::{self, File},
    ops::RangeInclusive,
    path::PathBuf,
    process,
};

/// Below what the system gives out by itself (32768 and above), and away from the daemon's
/// own default.
const FIRST: u16 = 16_000;
/// Ports in a block: more than any test opens sessions.
const LENGTH: u16 = 64;
const BLOCKS: u16 = 256;

/// A block of ports, until it is dropped.
#[derive(Debug)]
pub(super) struct Ports {
    first: u16,
    // Its lock goes with it.
    _lock: File,
}

// === impl Ports ===

impl Ports {
    /// Takes a block that is free.
    pub(super) fn take() -> Self {
        let user = rustix::process::getuid().as_raw();
        let dir = PathBuf::from(format!("/tmp/borealis-test-ports-{user}"));
        fs::create_dir_all(&dir).expect("a directory for locks");
        // Not all from the same one on: another user's locks aren't seen.
        let begin = process::id() % u32::from(BLOCKS);
        for number in 0..BLOCKS {
            let block = (u16::try_from(begin).expect("a block") + number) % BLOCKS;
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join(block.to_string()))
                .expect("a file to lock");
            if file.try_lock().is_ok() {
                return Self {
                    first: FIRST + block * LENGTH,
                    _lock: file,
                };
            }
        }
        panic!("{BLOCKS} machines have all the ports: {}", dir.display());
    }

    pub(super) fn range(&self) -> RangeInclusive<u16> {
        self.first..=self.first + (LENGTH - 1)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range();
        write!(f, "{}-{}", range.start(), range.end())
    }
}
