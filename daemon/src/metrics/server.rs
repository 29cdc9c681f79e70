//! `metrics_listen`: the metrics over HTTP, on a loopback address, where the config asks for
//! it.
//!
//! Every process of the machine may connect, and through DNS rebinding so may a web page in
//! its user's browser: only this machine's own names are answered, few connections are served
//! at a time, and none for long.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{
        HeaderValue, StatusCode, Uri,
        header::{CONNECTION, CONTENT_TYPE, DATE, HOST},
    },
    middleware::map_response,
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use super::bounded::BoundedListener;
use crate::{
    journal::{Journal, Kind},
    model::Cause,
    platform::{clock, port},
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
        let metrics = move |request: Request| async move { answer(&request, gather.as_ref()) };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .layer(map_response(dated));
        axum::serve(BoundedListener::new(listener), router).await
    };
    if let Err(error) = served.await {
        tracing::warn!(%address, %error, "metrics can't be served; trying again");
        let cause = taken(address, &error).await;
        journal.failure(None, Kind::PortTaken, &cause);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn dated(mut response: Response) -> Response {
    if let Ok(date) = HeaderValue::try_from(clock::http_date()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

fn answer(request: &Request, gather: &(dyn Fn() -> String + Send + Sync)) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"),
        // Its place is for the next one.
        (CONNECTION, "close"),
    ];
    let hosts = request.headers().get_all(HOST);
    let named = hosts.iter().map(|host| host.to_str().ok());
    let in_line = request.uri().authority().map(|host| Some(host.as_str()));
    let mut all = named.chain(in_line).peekable();
    if all.peek().is_some() && all.all(|host| host.is_some_and(is_this_machine)) {
        (headers, gather()).into_response()
    } else {
        let why = "metrics are served under this machine's own names only, such as localhost\n";
        (StatusCode::FORBIDDEN, headers, why).into_response()
    }
}

/// Whether a `Host` is a name or address that leads to this machine wherever it is looked up.
fn is_this_machine(host: &str) -> bool {
    let Ok(uri) = host.parse::<Uri>() else {
        return false;
    };
    let Some(name) = uri.host() else { return false };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name == "localhost" || name.ends_with(".localhost") || address.parse().is_ok_and(is_loopback)
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
        asked_as(address, path, "Host: localhost\r\n").await
    }

    async fn asked_as(address: SocketAddr, path: &str, headers: &str) -> io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
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
        let closing = "Host: localhost\r\nConnection: close\r\n";
        let other = asked_as(first, "/", closing).await.unwrap();
        assert!(other.starts_with("HTTP/1.1 404"), "{other}");

        sender.send_replace(Some(second));
        until_served(second).await;
        assert!(asked(first, "/metrics").await.is_err());
        drop(sender);
        serving.await.unwrap();
        assert!(journal.follow().recent.is_empty());
    }

    #[test]
    fn only_names_that_lead_here_everywhere_are_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "localhost.",
            "a.b.localhost:1",
            "127.0.0.1",
            "127.0.0.1:15400",
            "127.3.2.1",
            "[::1]:9",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "x",
            "evil.test",
            "evil.test:9090",
            "localhost.evil.test",
            "evillocalhost",
            "127.0.0.1.evil.test",
            "192.0.2.1",
            "0.0.0.0",
            "[::]",
            "localhost evil.test",
            "localhost@evil.test",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[tokio::test]
    async fn another_host_gets_no_metrics() {
        let address = free().await;
        let (_sender, listen) = watch::channel(Some(address));
        let gather = Arc::new(|| "a 1\n".to_owned());
        let serving = tokio::spawn(serve(listen, gather, Journal::new()));
        until_served(address).await;
        for headers in [
            "Host: evil.test\r\n",
            "Host: localhost\r\nHost: evil.test\r\n",
            "Connection: close\r\n",
        ] {
            let answer = asked_as(address, "/metrics", headers).await.unwrap();
            assert!(!answer.contains("a 1"), "{headers}: {answer}");
            assert!(answer.starts_with("HTTP/1.1 4"), "{headers}: {answer}");
        }
        let in_line = "http://evil.test/metrics";
        let answer = asked_as(address, in_line, "Host: localhost\r\n")
            .await
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        serving.abort();
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
