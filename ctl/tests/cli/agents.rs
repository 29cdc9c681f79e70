//! The commands for coding agents, as far as they need no database.

use std::process::Stdio;

use borealis_proto::v1;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::daemon::{Canned, Daemon, Ran, command, sushi};

/// Says all of this to a server, and ends its input; what it answers, by the request's id.
async fn conversation(mut server: tokio::process::Command, requests: &[Value]) -> Vec<Value> {
    let mut child = server.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let greeting = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let greeted = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let mut said = format!("{greeting}\n{greeted}\n");
    for (id, request) in (1..).zip(requests) {
        let mut request = request.clone();
        request["jsonrpc"] = "2.0".into();
        request["id"] = id.into();
        said += &format!("{request}\n");
    }
    stdin.write_all(said.as_bytes()).await.unwrap();
    drop(stdin);
    let ran = Ran::of(child.wait_with_output().await.unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let mut answers: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    answers.remove(0);
    answers
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({"method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

#[tokio::test]
async fn a_session_of_another_kind_is_refused_before_anything_is_asked_of_it() {
    let mut written = sushi();
    written.name = "sushi-rw".into();
    written.set_access(v1::Access::ReadWrite);
    let mut of_the_app = sushi();
    of_the_app.set_role(v1::Role::App);
    let mut raw = sushi();
    raw.set_mode(v1::Mode::Passthrough);
    for (session, what) in [
        (written, "a session with write access"),
        (of_the_app, "a session of the app's database user"),
        (
            raw,
            "a passthrough session, which needs the database's own password",
        ),
    ] {
        let name = session.name.clone();
        let daemon = Daemon::start(Canned::with(session));
        let ran = daemon.run(&["mcp", &name]).await;
        ran.assert(
            2,
            "",
            &format!(
                "error: {name} is {what}: agents get read-only sessions of your personal role only\n\
                 hint: name the app or add-on instead: a read-only session of it is opened\n"
            ),
        );
        assert!(daemon.asked().hold.is_empty());

        // A daemon that answers with such a session, whatever it was asked for.
        let query = call("query", json!({"sql": "select 1"}));
        let answers = conversation(daemon.command(&["mcp", "an-app"]), &[query]).await;
        let text = answers[0]["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(&format!("{name} is {what}")), "{text}");
        let [asked] = daemon.asked().hold.try_into().unwrap();
        assert_eq!(asked.access(), v1::Access::ReadOnly);
        assert_eq!(asked.role(), v1::Role::Personal);
    }
}

#[tokio::test]
async fn tools_are_listed_without_a_daemon_and_calls_say_that_there_is_none() {
    let home = tempfile::tempdir().unwrap();
    let server = || command(home.path(), &["mcp"]);
    let list = json!({"method": "tools/list"});
    let answers = conversation(server(), &[list, call("list_databases", json!({}))]).await;
    let tools = answers[0]["result"]["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 4);
    assert_eq!(answers[1]["result"]["isError"], true);
    let text = answers[1]["result"]["content"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("error: borealisd is not running"),
        "{text}"
    );
    assert!(text.contains("\nhint: "), "{text}");
}

#[tokio::test]
async fn what_can_not_be_sent_is_said_before_a_session_is_opened() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let answers = conversation(
        daemon.command(&["mcp"]),
        &[
            call("query", json!({"sql": "delete from orders"})),
            call("query", json!({"sql": "select 1; select 2"})),
            call("explain", json!({"sql": "explain select 1"})),
            call("query", json!({"database": "nope", "sql": "select 1"})),
            call("list_databases", json!({})),
        ],
    )
    .await;
    let text = |at: usize| {
        answers[at]["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
    };
    assert!(
        text(0).starts_with("refused: DELETE is not executed here"),
        "{}",
        text(0)
    );
    assert!(
        text(1).starts_with("refused: several statements"),
        "{}",
        text(1)
    );
    assert!(
        text(2).starts_with("refused: EXPLAIN can't be explained"),
        "{}",
        text(2)
    );
    assert!(
        text(3).starts_with("error: the database nope is not served here"),
        "{}",
        text(3)
    );
    let expected = json!({"databases": [{"database": "sushi", "app": "sushi",
        "addon": "borealis-pg-hex-12345", "state": "up"}]});
    assert_eq!(answers[4]["result"]["structuredContent"], expected);
    assert!(daemon.asked().hold.is_empty());
}

#[tokio::test]
async fn every_client_is_told_what_to_put_where() {
    let home = tempfile::tempdir().unwrap();
    let run = async |words: &[&str]| Ran::of(command(home.path(), words).output().await.unwrap());
    let program = env!("CARGO_BIN_EXE_borealisctl");
    for client in ["claude", "cursor", "vscode", "codex", "zed"] {
        let told = run(&["mcp", "config", client, "sushi", "-f", "json"])
            .await
            .json();
        assert_eq!(told["client"], client);
        let content = told["content"].as_str().unwrap();
        assert!(
            content.contains(program) && content.contains("\"sushi\""),
            "{content}"
        );
        let text = run(&["mcp", "config", client, "sushi"]).await;
        assert_eq!(text.code, Some(0));
        let file = told["file"].as_str().unwrap();
        let begins = format!("Put this into {file}:\n\n{content}\n");
        assert!(text.stdout.starts_with(&begins), "{}", text.stdout);
    }
    let wrong = run(&["mcp", "config", "emacs"]).await;
    assert_eq!(wrong.code, Some(2));
    // Where the daemon is elsewhere, the server has to know it too.
    let told = run(&["mcp", "config", "claude", "--socket", "/a b", "-f", "json"])
        .await
        .json();
    assert!(
        told["command"]
            .as_str()
            .unwrap()
            .ends_with("--socket '/a b' mcp"),
        "{told}"
    );
}

#[tokio::test]
async fn the_guide_is_a_page_or_a_document() {
    let home = tempfile::tempdir().unwrap();
    let run = async |words: &[&str]| Ran::of(command(home.path(), words).output().await.unwrap());
    let page = run(&["agent-guide"]).await;
    assert!(
        page.stdout.starts_with("# Databases through borealisctl"),
        "{page:?}"
    );
    let guide = run(&["agent-guide", "--format", "json"]).await.json();
    assert_eq!(guide["guide"], page.stdout);
    assert_eq!(
        guide["tools"],
        json!(["list_databases", "describe", "query", "explain"])
    );
    let codes: Vec<_> = guide["exit_codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|known| known["code"].as_u64().unwrap())
        .collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 130]);
    let unsafe_ones = guide["commands"].as_array().unwrap().iter();
    let writing = unsafe_ones.filter(|known| known["command"].as_str().unwrap().contains(" -w"));
    assert!(writing.clone().count() > 0);
    writing.for_each(|known| assert_eq!(known["safe"], false, "{known}"));
}
