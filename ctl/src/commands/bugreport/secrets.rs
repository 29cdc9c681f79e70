//! Takes out what looks like a secret, or is one of those that this machine knows.

use std::{env, fs, path::Path};

use borealis_proto::{paths::Paths, v1};

use super::config;

const REMOVED: &str = "[removed]";
/// Shorter texts are words, and taking them out would spoil the report.
const SHORTEST: usize = 6;
/// Variables of this shell that hold secrets.
const VARIABLES: [&str; 3] = ["HEROKU_API_KEY", "HEROKU_API_TOKEN", "PGPASSWORD"];
/// What a secret follows upon, up to a blank or a quote.
const BEFORE: [&str; 5] = [
    "password=",
    "PGPASSWORD=",
    "HEROKU_API_KEY=",
    "Bearer ",
    "Basic ",
];

/// Secrets that are known.
pub(super) struct Secrets(Vec<String>);

// === impl Secrets ===

impl Secrets {
    /// Those of the shell, of the sessions, of the login and of the config.
    pub(super) fn known(info: Option<&v1::GetInfoResponse>, config_file: Option<&Path>) -> Self {
        let mut known: Vec<_> = VARIABLES
            .iter()
            .filter_map(|name| env::var(name).ok())
            .collect();
        let paths = Paths::from_environment();
        let state_dir = info.map(|info| info.state_dir.clone().into());
        if let Some(dir) = state_dir.or_else(|| paths.as_ref().map(|paths| paths.state_dir.clone()))
        {
            for file in fs::read_dir(dir.join("passwords"))
                .into_iter()
                .flatten()
                .flatten()
            {
                known.extend(fs::read_to_string(file.path()).ok());
            }
            let login = fs::read_to_string(dir.join("login.json")).unwrap_or_default();
            let login: Option<serde_json::Value> = serde_json::from_str(&login).ok();
            let token = login.as_ref().and_then(|login| login["token"].as_str());
            known.extend(token.map(str::to_owned));
        }
        let runtime_dir = info.map(|info| info.runtime_dir.clone().into());
        if let Some(dir) =
            runtime_dir.or_else(|| paths.as_ref().map(|paths| paths.runtime_dir.clone()))
        {
            let file = fs::read_to_string(dir.join("pgpass")).unwrap_or_default();
            let password = |line: &str| line.rsplit_once(':').map(|(_, last)| last.to_owned());
            known.extend(file.lines().filter_map(password));
        }
        known.extend(config_file.map(config::hidden).into_iter().flatten());
        Self::of(known)
    }

    fn of(known: Vec<String>) -> Self {
        let known = known.into_iter().map(|text| text.trim().to_owned());
        let mut known: Vec<_> = known.filter(|text| text.len() >= SHORTEST).collect();
        // One may be a part of another.
        known.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(known)
    }

    /// The text without any.
    pub(super) fn removed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret, REMOVED);
        }
        let text = without_keys(&text);
        let lines = text.split_inclusive('\n').map(without_tokens);
        lines.collect()
    }
}

/// Without blocks of PEM, whose first and last line stay.
fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for line in text.split_inclusive('\n') {
        if is_inside && line.contains("-----END ") {
            is_inside = false;
        }
        if !is_inside {
            out.push_str(line);
        }
        if line.contains("-----BEGIN ") && !line.contains("-----END ") {
            out.push_str(REMOVED);
            out.push('\n');
            is_inside = true;
        }
    }
    out
}

fn without_tokens(line: &str) -> String {
    let mut line = line.to_owned();
    for before in BEFORE {
        line = without(&line, before, is_of_secret);
    }
    // Heroku's own form of tokens.
    line = without(&line, "HRKU-", |c| {
        c.is_ascii_alphanumeric() || "-_".contains(c)
    });
    without_url_passwords(&line)
}

fn is_of_secret(c: char) -> bool {
    !c.is_whitespace() && !"\"'`,;".contains(c)
}

/// Removes what follows on each `before`.
fn without(line: &str, before: &str, is_part: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        out.push_str(head);
        let end = tail.find(|c| !is_part(c)).unwrap_or(tail.len());
        if end > 0 {
            out.push_str(REMOVED);
        }
        rest = &tail[end..];
    }
    out + rest
}

/// `scheme://user:password@host` without its password.
fn without_url_passwords(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail
            .find(|c: char| !is_of_secret(c) || c == '/')
            .unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        match authority.rsplit_once('@') {
            Some((login, host)) if login.contains(':') => {
                let user = login.split(':').next().unwrap_or_default();
                out.push_str(&format!("{user}:{REMOVED}@{host}"));
            }
            _ => out.push_str(authority),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_or_looks_like_a_secret_is_removed() {
        let secrets = Secrets::of(vec![
            "s3cret\n".into(),
            "s3cret-and-more".into(),
            "up".into(),
        ]);
        for (given, left) in [
            ("is s3cret, is up", "is [removed], is up"),
            ("x s3cret-and-more", "x [removed]"),
            ("a HRKU-AA-b_c9. b", "a HRKU-[removed]. b"),
            (
                "postgresql://sushi:p%40w@127.0.0.1:1/d",
                "postgresql://sushi:[removed]@127.0.0.1:1/d",
            ),
            (
                "https://api.heroku.com/apps a@b",
                "https://api.heroku.com/apps a@b",
            ),
            (
                "u://a:b@c u://d:e@f/",
                "u://a:[removed]@c u://d:[removed]@f/",
            ),
            (
                "host=x password=hush user=y",
                "host=x password=[removed] user=y",
            ),
            (
                "Authorization: Bearer abc",
                "Authorization: Bearer [removed]",
            ),
            (
                "a\n-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef\n-----END OPENSSH PRIVATE KEY-----\nb\n",
                "a\n-----BEGIN OPENSSH PRIVATE KEY-----\n[removed]\n-----END OPENSSH PRIVATE KEY-----\nb\n",
            ),
        ] {
            assert_eq!(secrets.removed(given), left);
        }
    }
}
