//! Texts from outside that a terminal would obey: whatever the daemon answers, in whichever
//! field, nothing of it is obeyed, and programs get it exactly.
//!
//! The daemon here knows no command: it answers every call with a message in which every field
//! is set, by the API's own descriptors, so that a field that is added later is tried too.

use std::{fs::File, io::Read as _, process::Stdio};

use axum::{Router, body::Body, http};
use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::UnixListener, process::Command};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Code, Request, Response, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, ServerStreamingService},
    service::Routes,
    transport::Server,
};

use crate::daemon::{Ran, command};

/// ESC, BEL, CR, DEL, C1's CSI, bidirectional overrides and isolates, a line separator, a byte
/// order mark, NUL; a line that looks like one of ours; text that needs none of this.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}\r\u{7f}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{2028}\u{feff}\0\nerror: forged\n寿司";

/// Every command that prints what the daemon says.
const COMMANDS: [&[&str]; 41] = [
    &["open", "x"],
    &["open", "x", "-w", "--reveal"],
    &["list"],
    &["list", "--watch"],
    &["show", "x"],
    &["show", "x", "--reveal"],
    &["close", "x"],
    &["ps"],
    &["ps", "--watch"],
    &["kill", "1"],
    &["kill", "1", "--query"],
    &["rotate", "x"],
    &["url", "x"],
    &["url", "x", "--socket"],
    &["tunnel", "x"],
    &["psql", "x", "-b", "/bin/true"],
    &["run", "x", "-e", "true"],
    &["run", "x", "-d", "select 1"],
    &["extensions", "x"],
    &["extensions", "install", "x", "y"],
    &["extensions", "remove", "x", "y", "-c", "y"],
    &["users", "x"],
    &["users", "reset", "x", "-c", "y"],
    &["info", "x"],
    &["info", "x", "--wait"],
    &["integrations", "x"],
    &["integrations", "register", "x", "-n", "n", "ssh-rsa", "A"],
    &["integrations", "remove", "x", "-n", "n", "-c", "n"],
    &["restore", "capabilities", "x"],
    &["restore", "execute", "x"],
    &["restore", "execute", "x", "--wait"],
    &["upgrade", "info", "x"],
    &["upgrade", "execute", "x", "-c", "y"],
    &["upgrade", "cancel", "x"],
    &["status"],
    &["events"],
    &["events", "--follow"],
    &["login", "--token-stdin"],
    &["whoami"],
    &["reload"],
    &["config", "path"],
];

/// What no terminal may get.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// How the daemon answers every call.
#[derive(Clone)]
struct Answers {
    pool: DescriptorPool,
    text: String,
    /// With a failure instead of an answer.
    fails: bool,
}

struct Daemon {
    dir: TempDir,
    serving: tokio::task::JoinHandle<()>,
}

// === impl Daemon ===

impl Daemon {
    fn start(text: &str, fails: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let answers = Answers {
            pool: DescriptorPool::decode(borealis_proto::DESCRIPTORS).unwrap(),
            text: text.to_owned(),
            fails,
        };
        let router = Router::new().fallback(async move |request: http::Request<Body>| {
            let path = request.uri().path().to_owned();
            let answer = answers.to(&path);
            Grpc::new(Bytes).server_streaming(answer, request).await
        });
        let serving = tokio::spawn(async move {
            Server::builder()
                .add_routes(Routes::from(router))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { dir, serving }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(self.dir.path(), words);
        command.env("BOREALIS_SOCKET", self.dir.path().join("control.sock"));
        command
    }

    async fn run(&self, words: &[&str], format: &str) -> Ran {
        let words = [words, &["-f", format]].concat();
        let mut child = self.command(&words).stdin(Stdio::piped()).spawn().unwrap();
        // For `login`; the others don't read.
        let _ = child.stdin.take().unwrap().write_all(b"token\n").await;
        Ran::of(child.wait_with_output().await.unwrap())
    }

    /// What a terminal gets that is the standard output.
    async fn on_terminal(&self, words: &[&str]) -> String {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(path).unwrap();
        let mut command = self.command(words);
        let command = command.env("NO_COLOR", "1").stdout(Stdio::from(terminal));
        let mut child = command.spawn().unwrap();
        // Our own end of it would keep it open.
        command.stdout(Stdio::null());
        let reading = tokio::task::spawn_blocking(move || {
            let mut shown = Vec::new();
            // Ends with an error once nobody has the terminal open.
            let _ = File::from(user).read_to_end(&mut shown);
            String::from_utf8(shown).unwrap().replace("\r\n", "\n")
        });
        child.wait().await.unwrap();
        reading.await.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

// === impl Answers ===

impl Answers {
    fn to(&self, path: &str) -> Answer {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
        let service = self.pool.get_service_by_name(service).unwrap();
        let method = service.methods().find(|m| m.name() == method).unwrap();
        Answer(if self.fails {
            let failure = "borealis.control.v1.Failure";
            let failure = self.pool.get_message_by_name(failure).unwrap();
            Err(self.message(&failure))
        } else {
            Ok(self.message(&method.output()))
        })
    }

    fn message(&self, kind: &MessageDescriptor) -> Vec<u8> {
        self.full(kind).encode_to_vec()
    }

    fn full(&self, kind: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(kind.clone());
        for field in kind.fields() {
            // Another version of the API is refused before anything is shown of it, and
            // whoever has the number of a process may be waited for.
            let value = match field.name() {
                "api_version" => Value::String("1.0".into()),
                "pid" => continue,
                // Of an answer that comes instead of the rest.
                "failure" if kind.name() == "WhoAmIResponse" => continue,
                _ => self.value(&field),
            };
            message.set_field(&field, value);
        }
        message
    }

    fn value(&self, field: &FieldDescriptor) -> Value {
        let one = match field.kind() {
            Kind::String => Value::String(self.text.clone()),
            Kind::Bool => Value::Bool(true),
            Kind::Message(kind) => Value::Message(self.full(&kind)),
            // Of an installation: that it is done.
            Kind::Enum(_) if field.name() == "step" => Value::EnumNumber(2),
            Kind::Enum(_) => Value::EnumNumber(1),
            Kind::Int32 | Kind::Sint32 => Value::I32(1),
            Kind::Int64 | Kind::Sint64 => Value::I64(1),
            Kind::Uint32 => Value::U32(1),
            Kind::Uint64 => Value::U64(1),
            Kind::Double => Value::F64(1.5),
            other => panic!("{other:?} in {}", field.full_name()),
        };
        match () {
            () if field.is_map() => Value::Map(
                [(
                    MapKey::String(self.text.clone()),
                    Value::String(self.text.clone()),
                )]
                .into(),
            ),
            () if field.is_list() => Value::List(vec![one.clone(), one]),
            () => one,
        }
    }
}

struct Answer(Result<Vec<u8>, Vec<u8>>);

impl ServerStreamingService<()> for Answer {
    type Response = Vec<u8>;
    type ResponseStream = tokio_stream::Once<Result<Vec<u8>, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(match &self.0 {
            Ok(message) => Ok(Response::new(tokio_stream::once(Ok(message.clone())))),
            Err(failure) => {
                let details = tonic_types::pb::Status {
                    details: vec![prost_types::Any {
                        type_url: "type.googleapis.com/borealis.control.v1.Failure".into(),
                        value: failure.clone(),
                    }],
                    ..Default::default()
                };
                let details = details.encode_to_vec().into();
                Err(Status::with_details(Code::Aborted, HOSTILE, details))
            }
        })
    }
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        message.advance(message.remaining());
        Ok(Some(()))
    }
}

/// Nothing is obeyed, no line is forged.
#[track_caller]
fn assert_harmless(words: &[&str], what: &str, text: &str) {
    if let Some(c) = text.chars().find(|&c| is_obeyed(c)) {
        panic!("{words:?} prints {c:?} to {what}: {text:?}");
    }
    let forged = text.lines().any(|line| line.starts_with("error: forged"));
    assert!(!forged, "{words:?} lets a line be forged on {what}: {text}");
}

/// Whether the text is somewhere among the values.
fn holds(value: &serde_json::Value, text: &str) -> bool {
    match value {
        serde_json::Value::String(string) => string == text,
        serde_json::Value::Array(list) => list.iter().any(|value| holds(value, text)),
        serde_json::Value::Object(map) => map.values().any(|value| holds(value, text)),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_steers_a_terminal() {
    let daemon = Daemon::start(HOSTILE, false);
    for words in COMMANDS {
        let table = daemon.run(words, "table").await;
        assert_harmless(words, "standard output", &table.stdout);
        assert_harmless(words, "standard error", &table.stderr);
        let json = daemon.run(words, "json").await;
        assert_harmless(words, "json", &json.stdout);
        assert_harmless(words, "standard error", &json.stderr);
        let yaml = daemon.run(words, "yaml").await;
        assert_harmless(words, "yaml", &yaml.stdout);
        if json.stdout.is_empty() || words.contains(&"--follow") || words.contains(&"--watch") {
            continue;
        }
        let from_json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let from_yaml: serde_json::Value = serde_saphyr::from_str(&yaml.stdout).unwrap();
        assert_eq!(from_json, from_yaml, "{words:?}");
        // A URL is encoded, and not the daemon's.
        if !words.contains(&"--socket") {
            assert!(holds(&from_json, HOSTILE), "{words:?}: {from_json}");
        }
    }
    // A pipe gets exactly what there is.
    let csv = daemon.run(&["list"], "csv").await;
    let quoted = format!("\"{HOSTILE}\"");
    assert!(csv.stdout.contains(&quoted), "{csv:?}");
    let metrics = daemon.run(&["metrics"], "table").await.stdout;
    assert!(!metrics.contains(is_obeyed), "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_steers_a_terminal() {
    let daemon = Daemon::start(HOSTILE, true);
    for words in COMMANDS
        .iter()
        .chain(&[&["doctor"] as &[_], &["metrics"], &["logout"]])
    {
        let ran = daemon.run(words, "table").await;
        assert_harmless(words, "standard output", &ran.stdout);
        assert_harmless(words, "standard error", &ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_for_programs_are_shown_harmlessly_on_a_terminal() {
    let daemon = Daemon::start(HOSTILE, false);
    for words in [
        &["list", "-f", "csv"] as &[_],
        &["events", "-f", "csv"],
        &["info", "x", "-f", "csv"],
        &["whoami", "-f", "csv"],
        &["doctor", "-f", "csv"],
        &["env", "x"],
        &["env", "x", "--shell", "docker", "-f", "csv"],
        &["list"],
        &["doctor"],
    ] {
        let shown = daemon.on_terminal(words).await;
        if let Some(c) = shown.chars().find(|&c| is_obeyed(c)) {
            panic!("{words:?} prints {c:?}: {shown:?}");
        }
        // A variable can't hold it.
        let is_left_out = words == ["env", "x"] || words == ["doctor"];
        assert!(shown.contains("寿司") || is_left_out, "{words:?}: {shown}");
    }
}

/// A shell puts what it is offered on its command line.
#[tokio::test(flavor = "multi_thread")]
async fn completions_offer_nothing_that_a_shell_would_obey() {
    let daemon = Daemon::start(HOSTILE, false);
    let mut command = daemon.command(&["--", "borealisctl", "close", ""]);
    let offered = command
        .env("_BOREALISCTL_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2")
        .env("_CLAP_IFS", "\n")
        .output()
        .await
        .unwrap();
    let offered = String::from_utf8(offered.stdout).unwrap();
    assert!(!offered.contains(is_obeyed), "{offered:?}");
    assert!(!offered.contains("forged"), "{offered:?}");
}

/// Ten kilobytes in a field leave the rest in sight.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_are_cut_for_people_only() {
    let long = "x".repeat(10_000);
    let daemon = Daemon::start(&long, false);
    for words in COMMANDS {
        let table = daemon.run(words, "table").await;
        // A password, a URL, a path are there to be used, whole or not at all.
        let whole = ["tunnel", "url", "config"].contains(&words[0]);
        for text in [&table.stdout, &table.stderr] {
            let widest = text.lines().map(str::len).max().unwrap_or_default();
            assert!(widest < 4000 || whole, "{words:?}: {widest} columns");
        }
    }
    let json: serde_json::Value =
        serde_json::from_str(&daemon.run(&["list"], "json").await.stdout).unwrap();
    assert_eq!(json[0]["name"], long);
}
