//! Reads files that the user writes and the daemon believes: config, certificates, tokens.
//!
//! What such a file says decides which programs run and whose account is used, so it is
//! believed only where nobody but its user and root could have written it, as OpenSSH does
//! with `~/.ssh/config`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use borealis_proto::trust;
use rustix::fs::OFlags;

/// Rights to write of the file's group and of all others.
const OTHERS_WRITE: u32 = 0o022;

/// Why a file is not believed. Its sentence goes on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Reading it could wait for ever, or have effects.
    #[error("is {0}, and no regular file")]
    NotRegular(&'static str),
    /// Somebody else decides what it says.
    #[error("belongs to another user (uid {uid}), who decides what is in it: `chown {me} {file}`, or use a file of your own", me = rustix::process::geteuid().as_raw())]
    Foreign {
        /// The file, as a shell takes it.
        file: String,
        /// Its owner.
        uid: u32,
    },
    /// Somebody else may change what it says.
    #[error("can be written by other users: `chmod go-w {file}`")]
    Writable {
        /// The file, as a shell takes it.
        file: String,
    },
    /// It isn't what it is taken for.
    #[error("has more than {0} bytes")]
    TooLong(u64),
    /// The system's reason.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
}

/// A file's contents, and what the file system says of it.
#[derive(Debug)]
pub struct Contents {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// When they were changed; `None` where that isn't known.
    pub modified: Option<std::time::SystemTime>,
    /// Whether the file's group or others may read it.
    pub open_to_others: bool,
}

/// Reads a file of at most `longest` bytes. A link is followed, and what it leads to judged.
/// `None` where there is none. Blocks on the disk, never on a writer.
///
/// # Errors
/// Why it isn't believed, or can't be read.
pub fn read(path: &Path, longest: u64) -> Result<Option<Contents>, Refused> {
    // Opening a FIFO would wait for a writer.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A socket can't be opened at all.
        Err(error) => return Err(unopened(path).unwrap_or(error.into())),
    };
    judge(path, &file)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(Refused::TooLong(longest));
    }
    Ok(Some(Contents {
        bytes,
        modified: metadata.modified().ok(),
        open_to_others: metadata.mode() & 0o077 != 0,
    }))
}

fn judge(path: &Path, file: &File) -> Result<(), Refused> {
    // Of the opened file: its name may lead elsewhere by now.
    let metadata = file.metadata()?;
    if let Some(kind) = irregular(metadata.file_type()) {
        return Err(Refused::NotRegular(kind));
    }
    let file = || {
        let text = path.to_string_lossy();
        shlex::try_quote(&text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
    };
    if !trust::is_trusted_owner(metadata.uid()) {
        return Err(Refused::Foreign {
            file: file(),
            uid: metadata.uid(),
        });
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(Refused::Writable { file: file() });
    }
    Ok(())
}

fn unopened(path: &Path) -> Option<Refused> {
    let kind = irregular(path.metadata().ok()?.file_type())?;
    Some(Refused::NotRegular(kind))
}

fn irregular(kind: std::fs::FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::{fs::PermissionsExt as _, net::UnixListener},
    };

    use super::*;

    fn refusal(path: &Path) -> String {
        read(path, 10).unwrap_err().to_string()
    }

    #[test]
    fn only_a_regular_file_that_no_other_user_can_write_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a file");
        assert!(read(&file, 10).unwrap().is_none());
        fs::write(&file, "0123456789").unwrap();
        for (mode, open_to_others) in [(0o600, false), (0o644, true), (0o400, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let contents = read(&file, 10).unwrap().unwrap();
            assert_eq!(contents.bytes, b"0123456789");
            assert_eq!(contents.open_to_others, open_to_others);
        }
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let mend = format!("`chmod go-w '{}'`", file.display());
            assert!(refusal(&file).ends_with(&mend), "{}", refusal(&file));
        }
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read(&link, 10).unwrap().is_some());
        fs::write(&file, "0123456789a").unwrap();
        assert_eq!(refusal(&file), "has more than 10 bytes");
    }

    /// Without a limit of time: a wait would be for ever.
    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (pipe.as_path(), "a named pipe"),
            (socket.as_path(), "a socket"),
            (dir.path(), "a directory"),
            (Path::new("/dev/null"), "a device"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            assert_eq!(refusal(path), format!("is {what}, and no regular file"));
        }
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let somebody = rustix::fs::Uid::from_raw(54_321);
        if rustix::fs::chown(&file, Some(somebody), None).is_err() {
            return; // only root may give files away
        }
        let told = refusal(&file);
        assert!(
            told.contains("another user (uid 54321)") && told.contains("`chown "),
            "{told}"
        );
    }
}
