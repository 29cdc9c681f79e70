//! The app of the git repository that the user is in, found as the Heroku CLI finds it.
//!
//! Asks the `git` program, which knows worktrees, submodules and included files. The repository
//! may be a stranger's: git is only asked for what its config says, which runs nothing of it, and
//! gets little time. Whom a repository must belong to is git's own rule (`safe.directory`).

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::failure::{Exit, Failure, reason};

/// A config may include a file that never ends.
const LIMIT: Duration = Duration::from_secs(5);

/// What git is told beside the question: no pager, and nothing of the repository's to start.
const HARMLESS: [&str; 5] = [
    "--no-pager",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
];

/// A remote that is a Heroku app.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remote {
    name: String,
    app: String,
}

/// What git answered.
enum Answer {
    /// What it printed.
    Text(String),
    /// No repository, or no such key.
    Nothing,
    /// It doesn't read the config of a repository of another user.
    Foreign,
}

/// The app of the repository that the working directory is in: the one of the remote that is
/// named here, else in `heroku.remote`, else the only one. `None` where there is no repository,
/// no git, or no remote that is an app.
///
/// # Errors
/// That there are several, or not the one that was named.
pub(crate) async fn app(remote: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(git) = program() else {
        return match remote {
            None => Ok(None),
            Some(_) => Err(
                Failure::failed("--remote needs git, which is not on the PATH")
                    .with_hint("install git, or name the app"),
            ),
        };
    };
    let remotes = match ask(&git, &["remote", "--verbose"], LIMIT).await? {
        Answer::Text(text) => remotes(&text),
        Answer::Nothing => Vec::new(),
        Answer::Foreign => {
            return Err(Failure::usage(
                "no app, add-on or session was named, and the git repository here belongs to another user",
            )
            .with_hint(
                "name the app, or have git believe the repository: `git config --global --add safe.directory DIR`",
            ));
        }
    };
    if let Some(name) = remote {
        return one(&remotes, Some((name, "--remote")));
    }
    if remotes.is_empty() {
        return Ok(None);
    }
    match ask(&git, &["config", "--get", "heroku.remote"], LIMIT).await? {
        Answer::Text(name) if !name.trim().is_empty() => {
            one(&remotes, Some((name.trim(), "git's heroku.remote")))
        }
        _ => one(&remotes, None),
    }
}

/// The one app of the remotes, or of the one that something names.
fn one(remotes: &[Remote], named: Option<(&str, &str)>) -> Result<Option<String>, Failure> {
    let is_meant = |remote: &&Remote| named.is_none_or(|(name, _)| remote.name == name);
    let mut apps: Vec<&str> = Vec::new();
    for remote in remotes.iter().filter(is_meant) {
        if !apps.contains(&remote.app.as_str()) {
            apps.push(&remote.app);
        }
    }
    let listed = || {
        let each = |remote: &Remote| format!("{} ({})", remote.name, remote.app);
        remotes.iter().map(each).collect::<Vec<_>>().join(", ")
    };
    match (apps.as_slice(), named) {
        ([app], _) => Ok(Some((*app).to_owned())),
        ([], None) => Ok(None),
        ([], Some((name, by))) => {
            let failure = Failure::new(
                Exit::NotFound,
                format!("{by} names {name}, and no git remote of that name is a Heroku app"),
            );
            Err(if remotes.is_empty() {
                failure.with_hint("name the app: --app APP")
            } else {
                failure.with_hint(format!("remotes that are: {}", listed()))
            })
        }
        (_, _) => Err(Failure::new(
            Exit::NotFound,
            format!("several git remotes are Heroku apps: {}", listed()),
        )
        .with_hint(
            "name one with --remote NAME or --app APP, or for good with `git config heroku.remote NAME`",
        )),
    }
}

/// Those of `git remote --verbose` that lead to Heroku, each once.
fn remotes(verbose: &str) -> Vec<Remote> {
    let mut found = Vec::new();
    for line in verbose.lines() {
        let Some((name, rest)) = line.split_once('\t') else {
            continue;
        };
        let url = rest.split(" (").next().unwrap_or(rest);
        if let Some(app) = app_of(url) {
            let remote = Remote {
                name: name.to_owned(),
                app: app.to_owned(),
            };
            if !found.contains(&remote) {
                found.push(remote);
            }
        }
    }
    found
}

/// `sushi` of `https://git.heroku.com/sushi.git`.
fn app_of(url: &str) -> Option<&str> {
    let path = [
        "https://git.heroku.com/",
        "git@heroku.com:",
        "ssh://git@heroku.com/",
    ]
    .iter()
    .find_map(|place| url.strip_prefix(place))?;
    let app = path.strip_suffix(".git")?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (!app.is_empty() && app.bytes().all(fits)).then_some(app)
}

/// Where git is. A directory of the PATH that isn't absolute may be the repository itself.
fn program() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("git"))
        .find(|path| path.is_file())
}

async fn ask(git: &PathBuf, words: &[&str], limit: Duration) -> Result<Answer, Failure> {
    let mut command = Command::new(git);
    command
        .args(HARMLESS)
        .args(words)
        // It would be read in the place of the repository's config.
        .env_remove("GIT_CONFIG")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let unknown = |why: String| {
        Failure::usage(format!(
            "no app, add-on or session was named, and {} can't say which app is meant: {why}",
            git.display()
        ))
        .with_hint("name the app (`sushi` or --app sushi)")
    };
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(unknown(reason(&error))),
        Err(_) => return Err(unknown(format!("no answer within {} s", limit.as_secs()))),
    };
    if output.status.success() {
        return Ok(Answer::Text(
            String::from_utf8_lossy(&output.stdout).into_owned(),
        ));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(if said.contains("dubious ownership") {
        Answer::Foreign
    } else {
        Answer::Nothing
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_a_heroku_remote() {
        for (url, app) in [
            ("https://git.heroku.com/sushi.git", Some("sushi")),
            ("git@heroku.com:sushi-2.git", Some("sushi-2")),
            ("ssh://git@heroku.com/sushi.git", Some("sushi")),
            ("https://git.heroku.com/sushi", None),
            ("https://git.heroku.com/.git", None),
            ("https://git.heroku.com/a/b.git", None),
            ("https://git.heroku.com/\u{1b}[2J.git", None),
            ("https://git.heroku.com.example/sushi.git", None),
            ("https://example.com/https://git.heroku.com/sushi.git", None),
            ("git@github.com:sushi/sushi.git", None),
        ] {
            assert_eq!(app_of(url), app, "{url}");
        }
    }

    #[test]
    fn fetch_and_push_of_one_remote_are_one() {
        let verbose = "heroku\thttps://git.heroku.com/sushi.git (fetch)\n\
                       heroku\thttps://git.heroku.com/sushi.git (push)\n\
                       origin\tgit@github.com:me/sushi.git (fetch) [blob:none]\n\
                       staging\tgit@heroku.com:ramen.git (fetch) [blob:none]\n\
                       staging\tgit@heroku.com:ramen.git (push)\n";
        let found = remotes(verbose);
        let names: Vec<_> = found
            .iter()
            .map(|r| (r.name.as_str(), r.app.as_str()))
            .collect();
        assert_eq!(names, [("heroku", "sushi"), ("staging", "ramen")]);
        let told = one(&found, None).unwrap_err();
        assert_eq!(told.exit.code(), 5);
        assert!(
            told.message.ends_with("heroku (sushi), staging (ramen)"),
            "{told}"
        );
        let named = one(&found, Some(("staging", "--remote")));
        assert_eq!(named, Ok(Some("ramen".into())));
        let told = one(&found, Some(("origin", "--remote"))).unwrap_err();
        assert_eq!(told.exit.code(), 5);
    }

    #[test]
    fn two_remotes_of_one_app_are_no_choice() {
        let remote = |name: &str| Remote {
            name: name.into(),
            app: "sushi".into(),
        };
        let both = [remote("heroku"), remote("old")];
        assert_eq!(one(&both, None), Ok(Some("sushi".into())));
        assert_eq!(one(&[], None), Ok(None));
    }

    /// The program stands for a git that reads an included pipe.
    #[tokio::test]
    async fn a_git_that_never_answers_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let include = format!("include.path={}", pipe.display());
        let Some(git) = program() else {
            panic!("these tests need git");
        };
        let words = ["-c", &include, "remote"];
        let told = ask(&git, &words, Duration::from_millis(300)).await;
        let Err(told) = told else {
            panic!("an answer out of a pipe that nobody writes");
        };
        assert!(told.message.contains("no answer within"), "{told}");
    }
}
