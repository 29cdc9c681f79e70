//! Which versions of what are here.

use std::{fs, process::Stdio, time::Duration};

use borealis_proto::v1;
use tokio::{process::Command, time::timeout};

/// A program that says its version doesn't need long.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn versions(info: Result<&v1::GetInfoResponse, &String>) -> String {
    let daemon = match info {
        Ok(info) => format!("{} (control API {})", info.version, info.api_version),
        Err(problem) => problem.clone(),
    };
    let (system, ssh, psql) = tokio::join!(
        system(),
        first_line("ssh", &["-V"]),
        first_line("psql", &["--version"]),
    );
    let kernel = rustix::system::uname();
    let kernel = [kernel.sysname(), kernel.release(), kernel.machine()];
    let lines = [
        ("borealisctl", env!("CARGO_PKG_VERSION").to_owned()),
        ("borealisd", daemon),
        ("system", system),
        (
            "kernel",
            kernel.map(|part| part.to_string_lossy()).join(" "),
        ),
        ("ssh", ssh),
        ("psql", psql),
    ];
    let lines = lines.map(|(name, version)| format!("{name:<12} {version}\n"));
    lines.concat()
}

async fn system() -> String {
    if cfg!(target_os = "macos") {
        return format!(
            "macOS {}",
            first_line("sw_vers", &["-productVersion"]).await
        );
    }
    let release = ["/etc/os-release", "/usr/lib/os-release"];
    let release = release
        .iter()
        .find_map(|file| fs::read_to_string(file).ok());
    let name = release.as_deref().and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    name.unwrap_or_else(|| "not known".to_owned())
}

/// OpenSSH says its version on standard error.
async fn first_line(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            said.lines().next().unwrap_or("says nothing").to_owned()
        }
        Ok(Err(_)) => "not found".to_owned(),
        Err(_) => "does not answer".to_owned(),
    }
}
