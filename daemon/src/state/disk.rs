//! Files that only this user may read, replaced whole or not at all. Everything blocks.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::Problem;
use crate::model::Cause;

/// Rights that others have and should not.
const OTHERS: u32 = 0o077;

/// Makes a directory that only this user may enter; takes the rights of others away from
/// one that is there.
///
/// # Errors
/// When it can't be made, is no directory, or belongs to somebody else.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::metadata(dir)?;
    refuse_foreign(metadata.uid())?;
    if metadata.mode() & OTHERS != 0 {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Options that create a file 0600, for writing.
pub(super) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).truncate(false).mode(0o600);
    options
}

/// Replaces a file. Afterwards, also after a loss of power, it has the old or the new
/// contents whole. One caller at a time for each path.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), Cause> {
    try_replace(path, contents).map_err(|error| unwritable(path, &error))
}

fn try_replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // A name of its own, so that what a crash leaves behind is replaced by the next write
    // rather than piling up.
    let temporary = dir.join(format!(".{}.new", name.display()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private_options().create_new(true).open(&temporary)?;
    let written = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // It may be what fills the disk. That it can't be removed changes no answer.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The rename itself lasts once the directory is on the disk.
    File::open(dir)?.sync_all()
}

/// What reading a private file found.
pub(super) enum Found {
    /// There is none.
    Nothing,
    /// Its contents; the rights of others were taken away where there were any.
    Contents(Vec<u8>),
    /// It isn't a file of this user, or can't be read.
    Unreadable(String),
}

/// Reads a file that only this user should be able to read.
pub(super) fn read_private(path: &Path) -> Found {
    match try_read_private(path) {
        Ok(contents) => Found::Contents(contents),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

fn try_read_private(path: &Path) -> io::Result<Vec<u8>> {
    // A link could lead to a file that others can write.
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    refuse_foreign(metadata.uid())?;
    if metadata.mode() & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        tracing::warn!(path = %path.display(), "others had rights on a private file; took them away");
    }
    fs::read(path)
}

/// Renames what can't be used, so that it can be looked at and nothing is lost.
pub(super) fn set_aside(
    path: &Path,
    why: &str,
    now: Timestamp,
    problems: &mut Vec<Problem>,
) -> Result<(), Cause> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let base = format!("{}.unreadable-{stamp}", path.display());
    let mut aside = PathBuf::from(&base);
    let mut number = 1;
    while fs::symlink_metadata(&aside).is_ok() {
        number += 1;
        aside = PathBuf::from(format!("{base}-{number}"));
    }
    fs::rename(path, &aside).map_err(|error| unwritable(path, &error))?;
    problems.push(Problem {
        code: "state-unreadable",
        sentence: format!("{} could not be read: {why}; begun anew", path.display()),
        hint: format!(
            "what was there is kept as {}: mend it and put it back while borealisd is stopped, or remove it",
            aside.display()
        ),
    });
    Ok(())
}

/// `None` where what was to be looked at isn't there.
pub(super) fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The cause of a failed write.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> Cause {
    Cause::StateUnwritable {
        path: path.display().to_string(),
        detail: error.to_string(),
    }
}

fn refuse_foreign(owner: u32) -> io::Result<()> {
    if owner == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it belongs to another user (uid {owner})"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"old").unwrap();
        // Something in the way of the temporary file, as a full disk would be.
        fs::create_dir(dir.path().join(".file.new")).unwrap();
        let cause = replace(&path, b"new").unwrap_err();
        assert!(matches!(cause, Cause::StateUnwritable { .. }), "{cause:?}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn what_a_crash_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let left = dir.path().join(".file.new");
        fs::write(&left, "half").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!left.exists());
    }

    #[test]
    fn rights_of_others_are_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        private_dir(dir.path()).unwrap();
        assert!(matches!(read_private(&path), Found::Contents(c) if c == b"secret"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("real"), "x").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("real", &link).unwrap();
        assert!(matches!(read_private(&link), Found::Unreadable(_)));
    }

    #[test]
    fn setting_aside_twice_in_a_second_keeps_both() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let mut problems = Vec::new();
        for contents in ["one", "two"] {
            fs::write(&path, contents).unwrap();
            set_aside(&path, "test", Timestamp::UNIX_EPOCH, &mut problems).unwrap();
        }
        let kept = |suffix: &str| {
            fs::read_to_string(
                dir.path()
                    .join(format!("state.json.unreadable-19700101T000000Z{suffix}")),
            )
            .unwrap()
        };
        assert_eq!((kept(""), kept("-2")), ("one".to_owned(), "two".to_owned()));
        assert_eq!(problems.len(), 2);
    }
}
