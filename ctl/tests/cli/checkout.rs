//! Commands that name nothing, in a git checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use borealis_proto::v1::Target;
use tempfile::TempDir;

use crate::daemon::{Canned, Daemon, Ran, sushi};

/// A git repository with these remotes.
struct Checkout {
    dir: TempDir,
}

impl Checkout {
    fn with(remotes: &[(&str, &str)]) -> Self {
        let checkout = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(checkout.path("repository/deep/below")).unwrap();
        checkout.git(&["init", "--quiet"]);
        for (name, url) in remotes {
            checkout.git(&["remote", "add", name, url]);
        }
        checkout
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn git(&self, words: &[&str]) {
        let status = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(words)
            .env("HOME", self.dir.path())
            .current_dir(self.path("repository"))
            .status();
        assert!(status.unwrap().success(), "{words:?}");
    }
}

/// Runs borealisctl in a directory.
async fn run(daemon: &Daemon, dir: &Path, words: &[&str], app: Option<&str>) -> Ran {
    let mut command = daemon.command(words);
    if let Some(app) = app {
        command.env("HEROKU_APP", app);
    }
    Ran::of(command.current_dir(dir).output().await.unwrap())
}

fn app(name: &str) -> Option<Target> {
    Some(Target {
        app: name.into(),
        ..Target::default()
    })
}

const HEROKU: (&str, &str) = ("heroku", "https://git.heroku.com/sushi.git");
const STAGING: (&str, &str) = ("staging", "ssh://git@heroku.com/ramen.git");
const ORIGIN: (&str, &str) = ("origin", "git@github.com:me/sushi.git");

#[tokio::test]
async fn with_one_heroku_remote_nothing_has_to_be_named() {
    let checkout = Checkout::with(&[ORIGIN, HEROKU]);
    checkout.git(&["commit", "--quiet", "--allow-empty", "-m", "first"]);
    checkout.git(&["worktree", "add", "--quiet", "../worktree"]);
    for dir in ["repository", "repository/deep/below", "worktree"] {
        let daemon = Daemon::start(Canned::with(sushi()));
        for words in [
            &["open"][..],
            &["psql", "--binary-path", "/bin/true"],
            &["run", "--", "true"],
            &["url"],
            &["show"],
        ] {
            let ran = run(&daemon, &checkout.path(dir), words, None).await;
            assert_eq!(ran.code, Some(0), "{words:?} in {dir}: {ran:?}");
        }
        let asked = daemon.asked();
        let opened = asked.open.into_iter().map(|request| request.target);
        let held = asked.hold.into_iter().map(|request| request.target);
        let got = asked.get.into_iter().map(|request| request.target);
        let targets: Vec<_> = opened.chain(held).chain(got).collect();
        assert_eq!(targets, vec![app("sushi"); 5], "in {dir}");
    }
}

#[tokio::test]
async fn what_is_named_comes_before_the_repository() {
    let checkout = Checkout::with(&[HEROKU, STAGING]);
    let dir = checkout.path("repository");
    let daemon = Daemon::start(Canned::with(sushi()));
    let asked = async |words: &[&str], variable| {
        let ran = run(&daemon, &dir, words, variable).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        daemon.asked().get.last().unwrap().target.clone()
    };
    assert_eq!(asked(&["show", "--app", "udon"], None).await, app("udon"));
    assert_eq!(asked(&["show"], Some("udon")).await, app("udon"));
    let remote = &["show", "--remote", "staging"];
    assert_eq!(asked(remote, None).await, app("ramen"));
    assert_eq!(asked(remote, Some("udon")).await, app("ramen"));
    checkout.git(&["config", "heroku.remote", "staging"]);
    assert_eq!(asked(&["show"], None).await, app("ramen"));
    let named = Some(Target {
        addon: "MAROON".into(),
        ..Target::default()
    });
    assert_eq!(asked(&["show", "-o", "MAROON"], None).await, named);
}

#[tokio::test]
async fn several_heroku_remotes_are_listed() {
    let checkout = Checkout::with(&[HEROKU, ORIGIN, STAGING]);
    let dir = checkout.path("repository");
    let daemon = Daemon::start(Canned::with(sushi()));
    run(&daemon, &dir, &["open"], None).await.assert(
        5,
        "",
        "error: several git remotes are Heroku apps: heroku (sushi), staging (ramen)\n\
         hint: name one with --remote NAME or --app APP, or for good with `git config heroku.remote NAME`\n",
    );
    let wrong = &["open", "--remote", "origin"];
    run(&daemon, &dir, wrong, None).await.assert(
        5,
        "",
        "error: --remote names origin, and no git remote of that name is a Heroku app\n\
         hint: remotes that are: heroku (sushi), staging (ramen)\n",
    );
    checkout.git(&["config", "heroku.remote", "gone"]);
    let ran = run(&daemon, &dir, &["open"], None).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr.contains("git's heroku.remote names gone"),
        "{ran:?}"
    );
    assert!(daemon.asked().open.is_empty());
}

#[tokio::test]
async fn without_a_heroku_remote_or_without_git_nothing_is_named() {
    let checkout = Checkout::with(&[ORIGIN]);
    let daemon = Daemon::start(Canned::with(sushi()));
    let told = "error: no app, add-on or session was named\n";
    let ran = run(&daemon, &checkout.path("repository"), &["open"], None).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.starts_with(told), "{ran:?}");
    let mut command = daemon.command(&["open"]);
    let command = command.current_dir(checkout.path("repository"));
    let ran = Ran::of(command.env("PATH", "/nowhere").output().await.unwrap());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.starts_with(told), "{ran:?}");
}

/// Everything in a repository's config that git runs for some command, and a PATH that begins
/// in the repository.
#[tokio::test]
async fn nothing_of_a_hostile_repository_is_run() {
    let checkout = Checkout::with(&[HEROKU]);
    let repository = checkout.path("repository");
    let mark = checkout.path("was-run");
    let script = repository.join("git");
    fs::write(&script, format!("#!/bin/sh\ntouch '{}'\n", mark.display())).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, executable).unwrap();
    let script = script.display().to_string();
    for key in [
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.gitProxy",
        "core.askPass",
        "pager.remote",
        "pager.config",
        "credential.helper",
        "uploadpack.packObjectsHook",
        "diff.external",
        "gpg.program",
        "filter.x.smudge",
        "remote.heroku.uploadpack",
        "remote.heroku.vcs",
    ] {
        checkout.git(&["config", key, &script]);
    }
    let shell = format!("!{script}");
    checkout.git(&["config", "alias.remote", &shell]);
    checkout.git(&["config", "alias.config", &shell]);
    checkout.git(&["config", "core.hooksPath", "."]);
    let daemon = Daemon::start(Canned::with(sushi()));
    let path = format!(".::{}", std::env::var("PATH").unwrap());
    let mut command = daemon.command(&["show"]);
    let command = command.current_dir(&repository).env("PATH", path);
    let ran = Ran::of(command.output().await.unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(daemon.asked().get[0].target, app("sushi"));
    assert!(!mark.exists(), "a program of the repository was run");
}
