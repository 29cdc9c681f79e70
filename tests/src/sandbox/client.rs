//! The other side of the control API, for `borealis-sandbox fault`.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::SandboxError;

/// Speaks to a running sandbox.
#[derive(Debug)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

// === impl Client ===

impl Client {
    /// For the sandbox at that control URL.
    ///
    /// # Errors
    /// When the URL is none.
    pub(crate) fn new(base: &str) -> Result<Self, SandboxError> {
        // The HTTP library wants a TLS provider at hand even where there is no TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(SandboxError::failed)?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            http,
        })
    }

    /// Asks for something and returns the answer's JSON.
    ///
    /// # Errors
    /// When there is no sandbox at the URL, or it refuses; in its words.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, SandboxError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| {
            SandboxError::failed(format!(
                "no sandbox answers at {}: {}; start one with `borealis-sandbox up`",
                self.base,
                error.without_url()
            ))
        })?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|error| SandboxError::failed(error.without_url()))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(SandboxError::failed);
        }
        Err(SandboxError::Failed(refusal(status, &text)))
    }
}

fn refusal(status: StatusCode, text: &str) -> String {
    serde_json::from_str::<Value>(text)
        .ok()
        .and_then(|body| Some(body.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| format!("the sandbox answered {status}: {text}"))
}
