//! `metrics_listen`: the metrics over HTTP, on a loopback address, where the config asks for
//! it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse as _, routing::get};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    journal::{Journal, Kind},
    model::Cause,
    platform::port,
};

/// How soon an address that is somebody else's is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// Serves at the address that `listen` holds, and moves when that changes. Ends when it is
/// dropped, or with `listen`'s sender.
pub async fn serve(
    mut listen: watch::Receiver<Option<SocketAddr>>,
    gather: Arc<dyn Fn() -> String + Send + Sync>,
    journal: Journal,
) {
    loop {
        let address = *listen.borrow_and_update();
        let serving = async {
            match address {
                Some(address) => serve_at(address, &gather, &journal).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = listen.changed() => if changed.is_err() { return },
            () = serving => {}
        }
    }
}

/// Serves for ever; returns after a pause where it can't.
async fn serve_at(
    address: SocketAddr,
    gather: &Arc<dyn Fn() -> String + Send + Sync>,
    journal: &Journal,
) {
    let served = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "serving metrics");
        let gather = Arc::clone(gather);
        let metrics = move || async move {
            let header = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
            ([header], gather()).into_response()
        };
        let router = Router::new().route("/metrics", get(metrics));
        axum::serve(listener, router).await
    };
    if let Err(error) = served.await {
        tracing::warn!(%address, %error, "metrics can't be served; trying again");
        let cause = taken(address, &error).await;
        journal.failure(None, Kind::PortTaken, &cause);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn taken(address: SocketAddr, error: &io::Error) -> Cause {
    let number = address.port();
    if error.kind() != io::ErrorKind::AddrInUse {
        return Cause::MetricsUnserved {
            address: address.to_string(),
            detail: error.to_string(),
        };
    }
    let holder = tokio::task::spawn_blocking(move || port::holder(number)).await;
    let by = holder
        .ok()
        .flatten()
        .map_or_else(String::new, |holder| format!(" by {holder}"));
    Cause::MetricsUnserved {
        address: address.to_string(),
        detail: format!("the port is in use{by}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn free() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    }

    async fn asked(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn until_served(address: SocketAddr) -> String {
        loop {
            match asked(address, "/metrics").await {
                Ok(answer) => return answer,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn it_serves_where_the_config_says_and_moves_with_it() {
        let (first, second) = (free().await, free().await);
        let (sender, listen) = watch::channel(None);
        let journal = Journal::new();
        let gather = Arc::new(|| "a 1\n".to_owned());
        let serving = tokio::spawn(serve(listen, gather, journal.clone()));
        sender.send_replace(Some(first));
        let answer = until_served(first).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.ends_with("a 1\n"), "{answer}");
        assert!(asked(first, "/").await.unwrap().starts_with("HTTP/1.1 404"));

        sender.send_replace(Some(second));
        until_served(second).await;
        assert!(asked(first, "/metrics").await.is_err());
        drop(sender);
        serving.await.unwrap();
        assert!(journal.follow().recent.is_empty());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = holder.local_addr().unwrap();
        let (_sender, listen) = watch::channel(Some(address));
        let journal = Journal::new();
        let mut following = journal.follow();
        let serving = serve(listen, Arc::new(String::new), journal.clone());
        let event = tokio::select! {
            () = serving => unreachable!("it tries again"),
            event = following.next.recv() => event.unwrap(),
        };
        assert_eq!(event.kind, Kind::PortTaken);
        assert!(
            event.sentence().contains("in use by borealisd"),
            "{}",
            event.sentence()
        );
    }
}
