//! An agent: one `borealisctl mcp`, spoken to line by line.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use borealis_tests::harness::{PATIENCE, TestMachine};
use serde_json::{Value, json};

/// It ends when this is dropped.
pub(crate) struct Agent {
    child: Child,
    stdin: Mutex<Option<ChildStdin>>,
    shared: Arc<Shared>,
    next: AtomicU64,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<u64, mpsc::Sender<Value>>>,
    /// What each call's progress was said to be.
    progress: Mutex<HashMap<u64, Vec<String>>>,
}

/// A call that was sent.
pub(crate) struct Asked {
    pub(crate) id: u64,
    answer: mpsc::Receiver<Value>,
}

// === impl Agent ===

impl Agent {
    /// Starts the server with these arguments, and greets it.
    pub(crate) fn start(machine: &TestMachine, args: &[&str]) -> Self {
        let run = machine.run(machine.binary("borealisctl"));
        let mut child = run.args(&[&["mcp"], args].concat()).start();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let shared = Arc::new(Shared::default());
        let reading = Arc::clone(&shared);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                reading.take(&serde_json::from_str(&line).expect("a line of JSON"));
            }
            // Whoever still waits learns that no answer comes.
            reading.answers.lock().unwrap().clear();
        });
        let agent = Self {
            stdin: Mutex::new(child.stdin.take()),
            child,
            shared,
            next: AtomicU64::new(1),
        };
        let greeting = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test-agent", "version": "1"},
        });
        let greeted = agent.ask("initialize", |_| greeting).answer();
        assert_eq!(
            greeted["result"]["serverInfo"]["name"], "borealisctl",
            "{greeted}"
        );
        agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        agent
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn send(&self, message: &Value) {
        let mut stdin = self.stdin.lock().unwrap();
        writeln!(stdin.as_mut().unwrap(), "{message}").expect("the server reads");
    }

    fn ask(&self, method: &str, params: impl FnOnce(u64) -> Value) -> Asked {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = mpsc::channel();
        self.shared.answers.lock().unwrap().insert(id, sender);
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params(id)}));
        Asked { id, answer }
    }

    /// Sends a call; its progress is asked for.
    pub(crate) fn begin(&self, tool: &str, arguments: &Value) -> Asked {
        self.ask(
            "tools/call",
            |id| json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": id}}),
        )
    }

    /// Calls a tool; its result, which may be an error.
    pub(crate) fn call(&self, tool: &str, arguments: &Value) -> Value {
        let answer = self.begin(tool, arguments).answer();
        assert!(answer["result"].is_object(), "{tool} {arguments}: {answer}");
        answer["result"].clone()
    }

    /// Calls a tool that must succeed; what it gives.
    #[track_caller]
    pub(crate) fn good(&self, tool: &str, arguments: &Value) -> Value {
        let result = self.call(tool, arguments);
        assert_ne!(result["isError"], true, "{tool} {arguments}: {result}");
        result["structuredContent"].clone()
    }

    /// Calls a tool that must fail; what it says.
    #[track_caller]
    pub(crate) fn bad(&self, tool: &str, arguments: &Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{tool} {arguments}: {result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Value {
        self.good("query", &json!({"sql": sql}))["rows"].clone()
    }

    pub(crate) fn cancel(&self, asked: &Asked) {
        let params = json!({"requestId": asked.id, "reason": "not needed"});
        self.send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}),
        );
    }

    /// What was said of a call's progress so far.
    pub(crate) fn progress(&self, id: u64) -> Vec<String> {
        let progress = self.shared.progress.lock().unwrap();
        progress.get(&id).cloned().unwrap_or_default()
    }

    /// Ends its input, as a client that leaves does; its exit code.
    pub(crate) fn leave(mut self) -> Option<i32> {
        self.stdin.lock().unwrap().take();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Shared ===

impl Shared {
    fn take(&self, message: &Value) {
        if message["method"] == "notifications/progress" {
            let params = &message["params"];
            let mut progress = self.progress.lock().unwrap();
            let of_call = progress
                .entry(params["progressToken"].as_u64().unwrap())
                .or_default();
            of_call.push(params["message"].as_str().unwrap().to_owned());
            return;
        }
        let Some(id) = message["id"].as_u64() else {
            return;
        };
        if let Some(waiting) = self.answers.lock().unwrap().remove(&id) {
            let _ = waiting.send(message.clone());
        }
    }
}

// === impl Asked ===

impl Asked {
    #[track_caller]
    pub(crate) fn answer(self) -> Value {
        self.answer
            .recv_timeout(PATIENCE)
            .expect("an answer while the server lives")
    }
}
