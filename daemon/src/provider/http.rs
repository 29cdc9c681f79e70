//! One call over HTTP: its limits, its retries, and what counts as an answer.
//!
//! Knows nothing of what is asked for; `heroku` and `borealis` do.

use std::{error::Error as _, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION,
        RANGE, RETRY_AFTER,
    },
    redirect,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use url::Url;

use crate::model::text::Escaped;

use super::{
    call_stats::CallStats,
    classify::{self, Meaning},
    endpoints::is_loopback,
    failure::{Api, Failure, Refusal},
    retry_policy::{Limits, Waiting},
};

/// RFC 3986's unreserved characters stay, everything else is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// More than any reply of these APIs has; what is longer is taken for garbage.
const LONGEST_BODY: usize = 8 << 20;
/// Heroku's pages hold 200 elements.
const MOST_PAGES: usize = 100;
/// Connections that are kept for the next call: as many as there are operations at a time.
const IDLE_CONNECTIONS: usize = 6;
const LONGEST_MESSAGE: usize = 300;
/// The longest pause once the daemon stops and waits for its clean-up.
const HURRIED_PAUSE: Duration = Duration::from_millis(200);

const NEXT_RANGE: HeaderName = HeaderName::from_static("next-range");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// One of the two APIs, and how to speak with it.
#[derive(Debug)]
pub(super) struct Http {
    api: Api,
    base: Url,
    client: Client,
    limits: Limits,
    hurry: CancellationToken,
    pub(super) tally: CallStats,
}

/// What is asked.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: Vec<&'a str>,
    pub(super) bearer: &'a SecretString,
    pub(super) body: Option<Value>,
    pub(super) waiting: Waiting,
    /// What a lost answer leaves behind, for the log.
    pub(super) leaves: Option<&'static str>,
    pub(super) repeat: Repeat,
}

/// What becomes of a call whose answer is lost, so that it may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It is made again: doing it twice does no harm.
    Freely,
    /// It fails with [`Failure::Lost`]: doing it twice would do something else.
    OnlyIfNotReached,
}

/// A usable answer.
struct Answer {
    body: Vec<u8>,
    next_range: Option<HeaderValue>,
}

/// Why an attempt has none.
enum Miss {
    /// The answer is final.
    Final(Failure),
    /// The next attempt may have one.
    Passing {
        failure: Failure,
        retry_after: Option<Duration>,
        reached: Reached,
    },
}

/// Whether the API may have done what it was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    No,
    Perhaps,
}

// === impl Call ===

impl Call<'_> {
    /// The same, but not to be made twice where it may have been carried out.
    pub(super) fn once(self) -> Self {
        Self {
            repeat: Repeat::OnlyIfNotReached,
            ..self
        }
    }
}

// === impl Http ===

impl Http {
    /// # Errors
    /// When the TLS backend can't be set up, such as where the system has no root
    /// certificates.
    pub(super) fn new(
        api: Api,
        base: Url,
        limits: Limits,
        hurry: CancellationToken,
    ) -> Result<Self, reqwest::Error> {
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT,
            HeaderValue::from_static(match api {
                Api::Heroku => "application/vnd.heroku+json; version=3",
                Api::Borealis => "application/json",
            }),
        );
        let keep_alive = Duration::from_secs(5);
        let mut builder = Client::builder()
            .user_agent(concat!("borealisd/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(limits.connect)
            // A token follows no redirect, and what is asked for again is decided here.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            // Calls come in bursts hours apart: an older connection is a dead one.
            .pool_idle_timeout(Duration::from_secs(20))
            // Without HTTP/2 a burst of calls makes many, as one that ends gives its connection
            // back a moment after the next has looked for one.
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http2_keep_alive_interval(keep_alive)
            .http2_keep_alive_timeout(keep_alive);
        if is_loopback(&base) {
            // A proxy would see what is only unencrypted because it stays on this machine.
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // No TLS, so no need that the system has root certificates.
            builder = builder.tls_certs_only([]);
        } else {
            builder = builder.https_only(true);
        }
        Ok(Self {
            api,
            base,
            client: builder.build()?,
            limits,
            hurry,
            tally: CallStats::default(),
        })
    }

    /// Makes the call and reads its JSON reply.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Failure> {
        self.attempts(call, None, |answer| parse(&answer.body))
            .await
    }

    /// Makes the call; what the reply holds beside its status doesn't matter.
    pub(super) async fn done(&self, call: &Call<'_>) -> Result<(), Failure> {
        self.attempts(call, None, |_| Ok(())).await
    }

    /// Makes the call as often as the list has pages.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        let mut range = None;
        for _ in 0..MOST_PAGES {
            let (page, next): (Vec<T>, _) = self
                .attempts(call, range.as_ref(), |answer| {
                    Ok((parse(&answer.body)?, answer.next_range.clone()))
                })
                .await?;
            all.extend(page);
            if next.is_none() {
                return Ok(all);
            }
            range = next;
        }
        Err(self.unavailable(format!("its list has more than {MOST_PAGES} pages")))
    }

    async fn attempts<T>(
        &self,
        call: &Call<'_>,
        range: Option<&HeaderValue>,
        read: impl Fn(&Answer) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let patience = self.limits.patience(call.waiting);
        let url = self.url(call)?;
        let end = Instant::now() + patience.whole;
        let mut failed = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let limit = match call.repeat {
                Repeat::Freely => patience.attempt.min(left),
                // There is no second attempt to keep time for.
                Repeat::OnlyIfNotReached => left,
            };
            let missed = match self.attempt(call, &url, range, limit).await {
                Ok(answer) => match read(&answer) {
                    Ok(value) => return Ok(value),
                    Err(_) if classify::is_page(&answer.body) => {
                        return Err(Failure::Intercepted {
                            api: self.api,
                            detail: format!("{} answered with a web page", self.place()),
                        });
                    }
                    Err(problem) => self.passing(
                        format!("its reply can't be read: {problem}"),
                        Reached::Perhaps,
                    ),
                },
                Err(missed) => missed,
            };
            let (failure, retry_after, reached) = match missed {
                Miss::Final(failure) => return Err(failure),
                Miss::Passing {
                    failure,
                    retry_after,
                    reached,
                } => (failure, retry_after, reached),
            };
            if let (Reached::Perhaps, Some(leaves)) = (reached, call.leaves) {
                warn!(api = %self.api, path = url.path(), "{failure}; {leaves}");
            }
            if (reached, call.repeat) == (Reached::Perhaps, Repeat::OnlyIfNotReached) {
                warn!(api = %self.api, method = %call.method, path = url.path(), "{failure}; it may have been done, so it is not asked again");
                return Err(failure.lost());
            }
            failed += 1;
            if failed >= patience.attempts {
                return Err(failure);
            }
            let Some(pause) = patience.pause(failed, retry_after) else {
                return Err(failure);
            };
            if Instant::now() + pause >= end {
                return Err(failure);
            }
            debug!(method = %call.method, path = url.path(), attempt = failed, ?pause, "{failure}; trying again");
            self.pause(pause).await;
        }
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.hurry.cancelled() => sleep(pause.min(HURRIED_PAUSE)).await,
        }
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        url: &Url,
        range: Option<&HeaderValue>,
        limit: Duration,
    ) -> Result<Answer, Miss> {
        match timeout(limit, self.exchange(call, url, range)).await {
            Ok(result) => result,
            Err(_) => {
                self.tally.count(None);
                Err(self.passing(
                    format!("no answer from {} within {limit:.0?}", self.place()),
                    Reached::Perhaps,
                ))
            }
        }
    }

    async fn exchange(
        &self,
        call: &Call<'_>,
        url: &Url,
        range: Option<&HeaderValue>,
    ) -> Result<Answer, Miss> {
        let mut request = self
            .client
            .request(call.method.clone(), url.clone())
            .header(AUTHORIZATION, self.bearer(call.bearer)?);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            self.tally.count(None);
            self.not_answered(&error)
        })?;
        let request_id = self.take_note(call, url, &response);
        let status = response.status();
        let retry_after = retry_after(&response);
        let meaning = classify::meaning(status.as_u16(), is_html(&response));
        match meaning {
            Meaning::Usable => self.usable(response).await,
            Meaning::Refused => {
                let body = body(response).await.unwrap_or_default();
                Err(Miss::Final(Failure::Refused(Box::new(
                    self.refusal(status, request_id, &body),
                ))))
            }
            Meaning::TooMany => Err(Miss::Passing {
                failure: Failure::RateLimited {
                    api: self.api,
                    retry_after,
                },
                retry_after,
                reached: Reached::No,
            }),
            Meaning::Intercepted => Err(Miss::Final(self.intercepted(&response))),
            Meaning::Failing | Meaning::Nonsense => {
                let failure = self.unavailable(match &request_id {
                    Some(id) => format!("it answered {status} (request {id})"),
                    None => format!("it answered {status}"),
                });
                if meaning == Meaning::Nonsense {
                    return Err(Miss::Final(failure));
                }
                Err(Miss::Passing {
                    failure,
                    retry_after,
                    reached: Reached::Perhaps,
                })
            }
        }
    }

    /// Counts and logs an answer; what the API's operators can find the request by.
    fn take_note(&self, call: &Call<'_>, url: &Url, response: &Response) -> Option<String> {
        let status = response.status().as_u16();
        self.tally.count(Some(status));
        if let Some(date) = date(response) {
            self.tally.compare_clocks(date, jiff::Timestamp::now());
        }
        let request_id = text_header(response, &REQUEST_ID);
        debug!(api = %self.api, method = %call.method, path = url.path(), status, request_id, "answered");
        request_id
    }

    async fn usable(&self, response: Response) -> Result<Answer, Miss> {
        let next_range = (response.status() == StatusCode::PARTIAL_CONTENT)
            .then(|| response.headers().get(NEXT_RANGE).cloned())
            .flatten();
        match body(response).await {
            Ok(body) => Ok(Answer { body, next_range }),
            Err(problem) => Err(self.passing(
                format!("its reply is cut off or too long ({problem})"),
                Reached::Perhaps,
            )),
        }
    }

    /// Neither API answers with web pages, or sends its clients elsewhere.
    fn intercepted(&self, response: &Response) -> Failure {
        let status = response.status();
        let detail = match text_header(response, &LOCATION) {
            Some(elsewhere) => format!("{} sends to {elsewhere} ({status})", self.place()),
            None => format!("{} answered {status} with a web page", self.place()),
        };
        Failure::Intercepted {
            api: self.api,
            detail,
        }
    }

    /// A segment that a URL can't hold names nothing that exists: the answer is what the
    /// API's own would be.
    fn url(&self, call: &Call<'_>) -> Result<Url, Failure> {
        let mut path = self.base.path().trim_end_matches('/').to_owned();
        for segment in &call.path {
            if matches!(*segment, "" | "." | "..") {
                return Err(Failure::Refused(Box::new(Refusal {
                    api: self.api,
                    status: 404,
                    id: Some("not_found".into()),
                    message: format!("nothing can be named {segment:?}").into(),
                    request_id: None,
                    body: Value::Null,
                })));
            }
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        let mut url = self.base.clone();
        url.set_path(&path);
        Ok(url)
    }

    fn bearer(&self, token: &SecretString) -> Result<HeaderValue, Miss> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| {
                Miss::Final(
                    self.unavailable("the token to send holds a character that none has".into()),
                )
            })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn refusal(&self, status: StatusCode, request_id: Option<String>, body: &[u8]) -> Refusal {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        Refusal {
            api: self.api,
            status: status.as_u16(),
            id: text("id").map(one_line),
            message: text("message")
                .or_else(|| text("reason"))
                .unwrap_or_else(|| status.canonical_reason().unwrap_or("an error"))
                .into(),
            request_id,
            body,
        }
    }

    fn not_answered(&self, error: &reqwest::Error) -> Miss {
        let place = self.place();
        if let Some(problem) = classify::tls_problem(error) {
            return Miss::Final(Failure::Tls {
                api: self.api,
                host: place,
                problem,
            });
        }
        if error.is_connect() {
            let detail = if error.is_timeout() {
                format!("no connection to {place} within {:?}", self.limits.connect)
            } else {
                format!("can't connect to {place}: {}", root(error))
            };
            return self.passing(detail, Reached::No);
        }
        self.passing(
            format!("lost the connection to {place}: {}", root(error)),
            Reached::Perhaps,
        )
    }

    fn passing(&self, detail: String, reached: Reached) -> Miss {
        Miss::Passing {
            failure: self.unavailable(detail),
            retry_after: None,
            reached,
        }
    }

    fn unavailable(&self, detail: String) -> Failure {
        Failure::Unavailable {
            api: self.api,
            detail,
        }
    }

    fn place(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

fn is_html(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| {
            kind.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/html")
        })
}

/// Reads a body that may not be longer than anything sensible.
async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| root(&error))? {
        if whole.len() + chunk.len() > LONGEST_BODY {
            return Err(format!("more than {LONGEST_BODY} bytes"));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

/// What serde says of a wrong value quotes that value, which may be a secret: only what it
/// says of a missing one is passed on.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        if text.starts_with("missing field") {
            text
        } else {
            format!(
                "{:?} error at line {}, column {}",
                error.classify(),
                error.line(),
                error.column()
            )
        }
    })
}

/// The innermost reason: the outer ones only say that there is one.
fn root(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    if text.is_empty() {
        "the request failed".into()
    } else {
        one_line(&text)
    }
}

fn text_header(response: &Response, name: &HeaderName) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(one_line(value))
}

/// Seconds, or a date as RFC 9110 allows.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

fn date(response: &Response) -> Option<jiff::Timestamp> {
    let value = response.headers().get(DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(value).ok()?.timestamp())
}

/// Text from outside, fit for a line of a log.
fn one_line(text: &str) -> String {
    format!("{:.LONGEST_MESSAGE$}", Escaped(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn http(base: &str) -> Http {
        super::super::install_crypto();
        Http::new(
            Api::Heroku,
            Url::parse(base).unwrap(),
            Limits::default(),
            CancellationToken::new(),
        )
        .unwrap()
    }

    fn path(http: &Http, path: &[&str]) -> Result<String, Failure> {
        let bearer = SecretString::from("t");
        http.url(&Call {
            method: Method::GET,
            path: path.to_vec(),
            bearer: &bearer,
            body: None,
            waiting: Waiting::Somebody,
            leaves: None,
            repeat: Repeat::Freely,
        })
        .map(|url| url.as_str().to_owned())
    }

    #[test]
    fn names_that_leave_the_path_are_not_sent() {
        let http = http("http://127.0.0.1:1/base/");
        assert_eq!(
            path(&http, &["apps", "a/b?c#d%2e e\n", "addons"]).unwrap(),
            "http://127.0.0.1:1/base/apps/a%2Fb%3Fc%23d%252e%20e%0A/addons"
        );
        for bad in ["", ".", ".."] {
            assert_eq!(path(&http, &["apps", bad]).unwrap_err().status(), Some(404));
        }
    }

    #[test]
    fn a_wrong_value_is_not_quoted() {
        let error = parse::<Vec<u16>>(br#"["hunter2"]"#).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    proptest! {
        #[test]
        fn a_segment_stays_one_segment(name in "\\PC{1,20}|[\\x00-\\x7f]{1,20}") {
            prop_assume!(name != "." && name != "..");
            let http = http("http://127.0.0.1:1");
            let url = Url::parse(&path(&http, &["apps", &name, "addons"]).unwrap()).unwrap();
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 3);
            let back = percent_encoding::percent_decode_str(segments[1]).decode_utf8().unwrap();
            prop_assert_eq!(back.as_ref(), name.as_str());
        }
    }
}
