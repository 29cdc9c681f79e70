//! A small HTTP/1.1 server on loopback that answers as a test says, misbehaviour included.

use std::{
    future::Future,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Endpoints, Limits, Provider, RetryPolicy};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GET /apps/sushi/addons`, as it was on the wire, without [`PREFIX`].
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

/// How it is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// No answer, and the connection stays open.
    Hang,
    /// The connection is closed without an answer.
    Drop,
    /// An answer whose body ends too early.
    Cut(String),
}

pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    count: watch::Sender<usize>,
}

/// The base path of both APIs, so that one that is lost is noticed.
const PREFIX: &str = "/base";

// === impl Request ===

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }
}

// === impl Reply ===

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::json(
            status,
            &serde_json::json!({ "id": "x", "message": "words" }),
        )
    }

    pub(crate) fn with(self, name: &'static str, value: impl ToString) -> Self {
        match self {
            Self::Answer {
                status,
                mut headers,
                body,
            } => {
                headers.push((name, value.to_string()));
                Self::Answer {
                    status,
                    headers,
                    body,
                }
            }
            other => other,
        }
    }
}

// === impl Server ===

impl Server {
    pub(crate) async fn start<F>(handler: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let count = watch::Sender::new(0);
        let (handler, all, counter) = (Arc::new(handler), Arc::clone(&seen), count.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, all, counter) =
                    (Arc::clone(&handler), Arc::clone(&all), counter.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let Some(request) = read(&mut stream).await else {
                        return;
                    };
                    all.lock().unwrap().push(request.clone());
                    counter.send_modify(|count| *count += 1);
                    answer(stream.into_inner(), handler(request).await).await;
                });
            }
        });
        Self { port, seen, count }
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests began with `line`.
    pub(crate) fn asked(&self, line: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|r| r.line.starts_with(line)).count()
    }

    /// Waits until `times` requests began with `line`.
    pub(crate) async fn until_asked(&self, line: &str, times: usize) {
        let mut count = self.count.subscribe();
        while self.asked(line) < times {
            count.changed().await.unwrap();
        }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        let url = format!("http://127.0.0.1:{}{PREFIX}", self.port);
        Endpoints::from_variables(|name| name.contains("API").then(|| url.clone())).unwrap()
    }

    pub(crate) fn provider(&self, limits: Limits) -> Provider {
        Provider::new(self.endpoints(), limits).unwrap()
    }
}

/// Limits under which three attempts take no time, but each may take `attempt`.
/// A provider at whose address nobody listens.
pub(crate) fn unreachable(limits: Limits) -> Provider {
    let nobody = |name: &str| name.contains("API").then(|| "http://127.0.0.1:1".into());
    Provider::new(Endpoints::from_variables(nobody).unwrap(), limits).unwrap()
}

pub(crate) fn limits(attempt: Duration) -> Limits {
    let patience = RetryPolicy {
        attempts: 3,
        attempt,
        whole: Duration::from_secs(30),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(10),
        longest_retry_after: Duration::from_secs(2),
    };
    Limits {
        connect: Duration::from_secs(5),
        somebody: patience,
        nobody: patience,
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let mut parts = first.split(' ');
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let path = path
        .strip_prefix(PREFIX)
        .unwrap_or("(without the base path)");
    Some(Request {
        line: format!("{method} {path}"),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

async fn answer(mut stream: TcpStream, reply: Reply) {
    let text = match reply {
        Reply::Drop => return,
        Reply::Hang => {
            // Until the client gives up.
            let _ = stream.read(&mut [0]).await;
            return;
        }
        Reply::Cut(body) => format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len() + 10
        ),
        Reply::Answer {
            status,
            headers,
            body,
        } => {
            let headers: String = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                body.len()
            )
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
