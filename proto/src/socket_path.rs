//! Paths of Unix sockets that are longer than the kernel's `sun_path`.

use std::{
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

/// The bytes that the path of a Unix socket may have (unix(7)).
pub const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A path that the system takes for a socket. It leads there for as long as this lives.
#[derive(Debug)]
pub struct ShortPath {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

/// How many bytes the path has too many.
pub fn excess(path: &Path) -> usize {
    path.as_os_str().as_bytes().len().saturating_sub(LONGEST)
}

// === impl ShortPath ===

impl ShortPath {
    /// The path itself where it is short enough. On Linux a longer one is reached through a
    /// descriptor of its directory.
    ///
    /// # Errors
    /// When the directory can't be opened; `InvalidFilename` where there is no shorter way,
    /// with a sentence that says by how much the path is too long.
    pub fn of(path: &Path) -> io::Result<Self> {
        match excess(path) {
            0 => Ok(Self {
                path: path.to_owned(),
                _dir: None,
            }),
            excess => Self::through_directory(path, excess),
        }
    }

    /// The path to hand to `bind` or `connect`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(target_os = "linux")]
    fn through_directory(path: &Path, excess: usize) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;

        use rustix::fs::{Mode, OFlags, open};
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(too_long(path, excess));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(parent, flags, Mode::empty())?;
        let short = Path::new("/proc/self/fd")
            .join(dir.as_raw_fd().to_string())
            .join(name);
        match self::excess(&short) {
            0 => Ok(Self {
                path: short,
                _dir: Some(dir),
            }),
            excess => Err(too_long(path, excess)),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn through_directory(path: &Path, excess: usize) -> io::Result<Self> {
        Err(too_long(path, excess))
    }
}

fn too_long(path: &Path, excess: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!(
            "its path is {excess} bytes longer than the system allows for a socket ({LONGEST}): {}",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_short_path_is_itself() {
        let path = Path::new("/run/user/1000/borealis/control.sock");
        assert_eq!(ShortPath::of(path).unwrap().path(), path);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_long_path_is_reached_through_its_directory() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("d".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("control.sock");
        let short = ShortPath::of(&path).unwrap();
        let _listener = UnixListener::bind(short.path()).unwrap();
        assert!(path.exists());
        UnixStream::connect(ShortPath::of(&path).unwrap().path()).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_too_long_says_by_how_much() {
        let base = tempfile::tempdir().unwrap();
        let error = ShortPath::of(&base.path().join("n".repeat(200))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
        assert!(error.to_string().contains("bytes longer"), "{error}");
    }
}
