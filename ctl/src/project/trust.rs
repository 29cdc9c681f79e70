//! Which project files the user has said to trust: for each path, the content that was meant.
//!
//! A file for each, of mode 0600 in the state directory, named after the path's hash. So nothing
//! has to be merged where two commands write at once, and a path may have any bytes.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use borealis_proto::{paths::Paths, trust::is_trusted_owner};
use sha2::{Digest as _, Sha256};

use crate::failure::{Failure, reason};

/// What was said of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// This content is trusted.
    This,
    /// Another content was.
    Other,
    /// Nothing.
    Nothing,
}

/// A content, for comparison.
pub(super) fn fingerprint(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was said of the file at this absolute path, whose content has this fingerprint.
///
/// # Errors
/// When it can't be looked up.
pub(super) fn said(file: &Path, fingerprint: &str) -> Result<Said, Failure> {
    let record = record(file)?;
    match read(&record) {
        Ok(Some(text)) if text.lines().next() == Some(fingerprint) => Ok(Said::This),
        Ok(Some(_)) => Ok(Said::Other),
        Ok(None) => Ok(Said::Nothing),
        Err(error) => Err(failed("read", &record, &error)),
    }
}

/// Keeps that this content is trusted at this absolute path, and no other there.
///
/// # Errors
/// When it can't be kept.
pub(super) fn keep(file: &Path, fingerprint: &str) -> Result<(), Failure> {
    let record = record(file)?;
    // The path is for people who look into the directory.
    let text = format!("{fingerprint}\n{}\n", file.display());
    write(&record, text.as_bytes()).map_err(|error| failed("write", &record, &error))
}

fn record(file: &Path) -> Result<PathBuf, Failure> {
    let paths = Paths::from_environment().ok_or_else(|| {
        Failure::failed("can't tell where the state directory is: no home directory is known")
            .with_hint("set HOME or XDG_STATE_HOME")
    })?;
    let name = fingerprint(file.as_os_str().as_bytes());
    Ok(paths.state_dir.join("trust").join(name))
}

/// A record counts only where nobody else could have written it.
fn read(record: &Path) -> io::Result<Option<String>> {
    let metadata = match fs::symlink_metadata(record) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    let private =
        metadata.is_file() && is_trusted_owner(metadata.uid()) && metadata.mode() & 0o077 == 0;
    if !private {
        return Err(io::Error::other(
            "it is not a regular file that only this user may read and write",
        ));
    }
    fs::read_to_string(record).map(Some)
}

fn write(record: &Path, text: &[u8]) -> io::Result<()> {
    let dir = record.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // Made with mode 0600, and in place whole or not at all.
    let mut draft = tempfile::NamedTempFile::new_in(dir)?;
    draft.write_all(text)?;
    draft.as_file().sync_all()?;
    draft.persist(record)?;
    Ok(())
}

fn failed(what: &str, record: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "can't {what} what is trusted, in {}: {}",
        record.display(),
        reason(error)
    ))
}
