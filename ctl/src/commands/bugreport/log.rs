//! The daemon's log of the last hour, from the journal or from a file.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use borealis_proto::v1;
use jiff::{SignedDuration, Timestamp};
use tokio::process::Command;

use super::said;
use crate::{
    failure::reason,
    output::now,
    service::{self, Log},
};

/// What is read of a file at most, from its end.
const LONGEST: u64 = 4 << 20;

pub(super) async fn last_hour(info: Option<&v1::GetInfoResponse>, named: Option<&Path>) -> String {
    let place = match (named, info) {
        (Some(file), _) => Log::File(file.to_owned()),
        (None, Some(info)) => service::log_place(info.pid),
        (None, None) => service::log_place_without_daemon(),
    };
    match place {
        Log::Journal(shown) => {
            let mut words = shown.split_whitespace();
            let mut command = Command::new(words.next().unwrap_or_default());
            command
                .args(words)
                .args(["--since", "-1h", "--no-pager", "--output", "short-iso"]);
            format!("{shown}:\n\n{}", said(command).await)
        }
        Log::File(path) => {
            let text = end_of(&path).map(|text| since(&text, now() - SignedDuration::from_hours(1)));
            match text {
                Ok(text) if text.is_empty() => format!("{}: nothing within the last hour\n", path.display()),
                Ok(text) => format!("{}:\n\n{text}", path.display()),
                Err(error) => format!("{}: can't be read: {}\n", path.display(), reason(&error)),
            }
        }
        Log::Unknown => "there is none to be found: it went to where borealisd's standard error goes, and a file of that is named with --log\n".to_owned(),
    }
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let begin = file.metadata()?.len().saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// From the first line on that is so late.
fn since(text: &str, begin: Timestamp) -> String {
    let is_late = |line: &&str| time_of(line).is_some_and(|time| time >= begin);
    let early = text.split_inclusive('\n').take_while(|line| !is_late(line));
    let skipped: usize = early.map(str::len).sum();
    text.get(skipped..).unwrap_or_default().to_owned()
}

/// When a line was written, in text or JSON.
fn time_of(line: &str) -> Option<Timestamp> {
    let text = match line.trim_start().strip_prefix('{') {
        Some(object) => object.split_once("\"timestamp\":\"")?.1.split('"').next()?,
        None => line.split_whitespace().next()?,
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_shown_from_an_hour_ago() {
        let begin = "2026-11-22T14:00:00Z".parse().unwrap();
        let text = "garbage\n\
            2026-11-22T13:59:59.999999Z  INFO borealisd: old\n\
            of it\n\
            2026-11-22T14:00:00.000000Z  INFO borealisd: new\n\
            of this\n";
        assert!(since(text, begin).starts_with("2026-11-22T14:00:00.000000Z"));
        assert!(since(text, begin).ends_with("of this\n"));
        let json = "{\"timestamp\":\"2026-11-22T13:00:00Z\",\"a\":1}\n{\"timestamp\":\"2026-11-22T15:00:00Z\"}\n";
        assert_eq!(
            since(json, begin),
            "{\"timestamp\":\"2026-11-22T15:00:00Z\"}\n"
        );
        assert_eq!(since("nothing\n", begin), "");
    }
}
