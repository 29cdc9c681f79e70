//! Whose files and processes are believed: this user's and root's.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

const OTHERS_WRITE: u32 = 0o002;
/// In a sticky directory, such as `/tmp`, everybody replaces only what is their own.
const STICKY: u32 = 0o1000;

/// Whether what belongs to this user id may be believed.
///
/// Inside a user namespace that root is not mapped into (systemd's `PrivateUsers=yes`), what
/// belongs to root shows the overflow id, which is believed there too.
pub fn is_trusted_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw() || stands_for_root(uid)
}

/// The first directory on the way to `dir`, itself included, whose entries any user may
/// replace. `None` where there is none, and where `dir` doesn't exist.
///
/// # Errors
/// When a directory on the way can't be looked at.
pub fn exposed(dir: &Path) -> io::Result<Option<PathBuf>> {
    let real = match fs::canonicalize(dir) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for ancestor in real.ancestors() {
        let mode = fs::metadata(ancestor)?.mode();
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Ok(Some(ancestor.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(target_os = "linux")]
fn stands_for_root(uid: u32) -> bool {
    let number = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u32>().ok();
    let overflow = number("/proc/sys/kernel/overflowuid").unwrap_or(65_534);
    let maps_root = || {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        // Each line: first id inside, first id outside, count.
        map.lines()
            .any(|line| line.split_whitespace().next() == Some("0"))
    };
    uid == overflow && !maps_root()
}

#[cfg(not(target_os = "linux"))]
fn stands_for_root(_: u32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn this_user_and_root_are_trusted() {
        assert!(is_trusted_owner(0));
        assert!(is_trusted_owner(rustix::process::geteuid().as_raw()));
        assert!(!is_trusted_owner(4_000_000_000));
    }

    #[test]
    fn a_directory_that_others_may_write_exposes_what_is_below() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        let private = open.join("private");
        fs::create_dir_all(&private).unwrap();
        let found = |mode| {
            fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            exposed(&private).unwrap()
        };
        assert_eq!(found(0o755), None);
        assert_eq!(found(0o1777), None);
        assert_eq!(found(0o777), Some(open.canonicalize().unwrap()));
        assert_eq!(exposed(&base.path().join("missing")).unwrap(), None);
    }
}
