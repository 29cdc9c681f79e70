//! Finds PostgreSQL's server programs, which most distributions keep off the PATH.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::super::SandboxError;

const INSTALL: &str = "`apt-get install postgresql` (Debian, Ubuntu), \
    `dnf install postgresql-server` (Fedora, RHEL) or `brew install postgresql@17` (macOS), \
    or set PG_BINDIR to the directory that has initdb and postgres";

/// Where initdb, postgres and pg_dump are.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    directory: PathBuf,
}

// === impl Binaries ===

impl Binaries {
    /// Looks in `$PG_BINDIR`, then at the newest version where packages put them, then on
    /// the PATH.
    ///
    /// # Errors
    /// When there is none, naming the package to install.
    pub(crate) fn find() -> Result<Self, SandboxError> {
        candidates()
            .into_iter()
            .find(|directory| {
                directory.join("initdb").is_file() && directory.join("postgres").is_file()
            })
            .map(|directory| Self { directory })
            .ok_or(SandboxError::Missing {
                what: "PostgreSQL's server (initdb and postgres)".into(),
                install: INSTALL,
            })
    }

    /// The full path of one of the programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Something that differs where the programs do, fit for a file name.
    pub(crate) fn fingerprint(&self) -> String {
        let initdb = self.program("initdb");
        let changed = initdb
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .map_or(0, |age| age.as_secs());
        let place: String = self
            .directory
            .to_string_lossy()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        format!("{place}-{changed}")
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(chosen) = env::var_os("PG_BINDIR") {
        return vec![chosen.into()];
    }
    let mut found = newest_first("/usr/lib/postgresql", "", "bin");
    found.extend(newest_first("/usr", "pgsql-", "bin"));
    found.push("/usr/libexec/postgresql".into());
    for prefix in [
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/home/linuxbrew/.linuxbrew/opt",
    ] {
        found.extend(newest_first(prefix, "postgresql@", "bin"));
        found.push(Path::new(prefix).join("postgresql/bin"));
    }
    if let Some(path) = env::var_os("PATH") {
        found.extend(env::split_paths(&path));
    }
    found
}

/// `parent/PREFIX<number>/below`, highest number first.
fn newest_first(parent: &str, prefix: &str, below: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join(below)))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for version in ["9", "15", "notes"] {
            std::fs::create_dir(parent.path().join(version)).unwrap();
        }
        let found = newest_first(parent.path().to_str().unwrap(), "", "bin");
        assert_eq!(
            found,
            [parent.path().join("15/bin"), parent.path().join("9/bin")]
        );
    }
}
