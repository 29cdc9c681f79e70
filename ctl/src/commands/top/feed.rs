//! What the daemon tells, as long as it is there; waits for it where it is away.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use borealis_proto::v1;
use tokio::{
    sync::{mpsc::Sender, watch},
    task::AbortHandle,
};
use tonic::Streaming;

use crate::{
    client::Client,
    failure::Failure,
    output::top::{self, Happened},
    ports,
    programs::Programs,
};

/// How often it is looked whether the daemon is back.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells what the daemon tells. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Feed {
    daemon: watch::Receiver<Client>,
    task: AbortHandle,
}

/// Nobody listens any more.
struct Unheard;

// === impl Feed ===

impl Feed {
    /// Begins with a daemon that is there.
    pub(super) fn start(socket: Option<&Path>, daemon: Client, happened: Sender<Happened>) -> Self {
        let (current, receiver) = watch::channel(daemon);
        let task = tokio::spawn(follow(socket.map(Path::to_path_buf), current, happened));
        Self {
            daemon: receiver,
            task: task.abort_handle(),
        }
    }

    /// The daemon that was there last.
    pub(super) fn daemon(&self) -> Client {
        self.daemon.borrow().clone()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    socket: Option<PathBuf>,
    current: watch::Sender<Client>,
    happened: Sender<Happened>,
) {
    loop {
        let daemon = current.borrow().clone();
        let Ok(why) = listen(daemon, &happened).await else {
            return;
        };
        let mut lost = Some(why);
        loop {
            if let Some(why) = lost.take()
                && happened.send(Happened::Lost(why)).await.is_err()
            {
                return;
            }
            tokio::time::sleep(AGAIN).await;
            match Client::connect(socket.as_deref()).await {
                Ok(daemon) => {
                    current.send_replace(daemon);
                    break;
                }
                Err(why) => lost = Some(why),
            }
        }
    }
}

/// Tells what a daemon tells until it ends; answers why.
async fn listen(mut daemon: Client, happened: &Sender<Happened>) -> Result<Failure, Unheard> {
    let sessions = match daemon.watch().await {
        Ok(sessions) => sessions,
        Err(why) => return Ok(why),
    };
    let connections = match daemon.watch_all_connections().await {
        Ok(connections) => connections,
        Err(why) => return Ok(why),
    };
    let request = v1::WatchEventsRequest {
        follow: true,
        ..v1::WatchEventsRequest::default()
    };
    let events = match daemon.events(request).await {
        Ok(events) => events,
        Err(why) => return Ok(why),
    };
    let tell = |what| async { happened.send(what).await.map_err(|_| Unheard) };
    tell(Happened::Back).await?;
    if connections.is_none() {
        tell(Happened::NoConnections).await?;
    }
    tell_all(sessions, connections, events, tell).await
}

async fn tell_all<Told: Future<Output = Result<(), Unheard>>>(
    mut sessions: Streaming<v1::WatchSessionsResponse>,
    mut connections: Option<Streaming<v1::WatchConnectionsResponse>>,
    mut events: Streaming<v1::WatchEventsResponse>,
    tell: impl Fn(Happened) -> Told,
) -> Result<Failure, Unheard> {
    let mut programs = Programs::default();
    loop {
        tokio::select! {
            next = sessions.message() => match next {
                Ok(Some(next)) => {
                    let mut sessions = next.sessions;
                    sessions.iter_mut().for_each(ports::complete_session);
                    tell(Happened::Sessions(sessions)).await?;
                }
                Ok(None) => return Ok(Failure::connection_lost()),
                Err(status) => return Ok(Failure::from_status(&status)),
            },
            next = told(connections.as_mut()) => match next {
                Ok(Some(next)) => {
                    let (clients, known) = clients(next.connections, programs).await;
                    programs = known;
                    tell(Happened::Connections(clients)).await?;
                }
                Ok(None) => return Ok(Failure::connection_lost()),
                Err(status) => return Ok(Failure::from_status(&status)),
            },
            next = events.message() => match next {
                Ok(Some(next)) => {
                    if let Some(event) = next.event {
                        tell(Happened::Event(Box::new(event))).await?;
                    }
                }
                Ok(None) => return Ok(Failure::connection_lost()),
                Err(status) => return Ok(Failure::from_status(&status)),
            },
        }
    }
}

/// The next that a stream tells; never anything where there is none.
async fn told<T>(stream: Option<&mut Streaming<T>>) -> Result<Option<T>, tonic::Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// Looks for the programs behind connections. Keys go on being heard meanwhile.
async fn clients(
    connections: Vec<v1::Connection>,
    mut programs: Programs,
) -> (Vec<top::Client>, Programs) {
    let look = move || {
        programs.look(&connections);
        let clients = connections
            .into_iter()
            .map(|connection| {
                let program = programs.of(connection.id);
                top::Client {
                    pid: program.map_or(connection.peer_pid, |program| program.pid),
                    program: program
                        .and_then(|program| program.name.clone())
                        .unwrap_or_default(),
                    connection,
                }
            })
            .collect();
        (clients, programs)
    };
    // It ends early only where it panics, and then nobody is known.
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}
