//! PostgreSQL's protocol by hand, for what no driver says or shows: messages as they come.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use super::PATIENCE;

/// A message of the server: its type and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// Without type and length.
    pub body: Vec<u8>,
}

/// A client of a session's Unix socket, where no password is asked for.
pub struct Wire {
    stream: UnixStream,
}

// === impl Message ===

impl Message {
    /// A field of an error or a notice.
    pub fn field(&self, name: u8) -> Option<String> {
        self.body
            .split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&name))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// The first column of a row, as text.
    pub fn first_column(&self) -> String {
        let length: [u8; 4] = self.body[2..6].try_into().expect("a length");
        let length = usize::try_from(i32::from_be_bytes(length)).expect("no null");
        String::from_utf8_lossy(&self.body[6..6 + length]).into_owned()
    }
}

// === impl Wire ===

impl Wire {
    /// Connects to the socket in a directory, and says nothing yet.
    pub fn connect(socket_dir: &Path) -> Self {
        let socket = socket_dir.join(".s.PGSQL.5432");
        let stream = UnixStream::connect(socket).expect("a connection");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        Self { stream }
    }

    /// Logs in with these parameters; what the server says up to ReadyForQuery, or to its end.
    pub fn log_in(socket_dir: &Path, parameters: &[(&str, &str)]) -> (Self, Vec<Message>) {
        let mut wire = Self::connect(socket_dir);
        wire.send(&startup(parameters)).expect("writing");
        let mut greeting = Vec::new();
        while greeting
            .last()
            .is_none_or(|last: &Message| last.tag != b'Z')
        {
            match wire.read() {
                Ok(message) => greeting.push(message),
                Err(error) if greeting.is_empty() => panic!("no greeting: {error}"),
                Err(_) => break,
            }
        }
        (wire, greeting)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Where the connection fails.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message.
    ///
    /// # Errors
    /// At the end, and where the connection fails.
    pub fn read(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).expect("a length");
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag, body })
    }

    /// All messages up to the first of this type, which is among them.
    ///
    /// # Errors
    /// Where the connection ends before.
    pub fn until(&mut self, tag: u8) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.read()?);
            if messages.last().is_some_and(|message| message.tag == tag) {
                return Ok(messages);
            }
        }
    }

    /// All messages up to the connection's end.
    pub fn rest(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.read().ok()).collect()
    }

    /// The first column of the first row of a query.
    pub fn ask(&mut self, sql: &str) -> String {
        self.send(&query(sql)).expect("writing");
        let messages = self.until(b'Z').expect("an answer");
        let row = messages.iter().find(|message| message.tag == b'D');
        row.unwrap_or_else(|| panic!("no row: {messages:?}"))
            .first_column()
    }
}

/// A startup packet of protocol 3.0.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    [length(&body).to_vec(), body].concat()
}

/// A message of a client.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &length(body)[..], body].concat()
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// A cancel request with the body of a BackendKeyData.
pub fn cancel(key: &[u8]) -> Vec<u8> {
    let body = [&80_877_102_u32.to_be_bytes(), key].concat();
    [length(&body).to_vec(), body].concat()
}

fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4)
        .expect("a short message")
        .to_be_bytes()
}
