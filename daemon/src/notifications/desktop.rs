//! The desktop's notification service on the session bus (freedesktop.org's Desktop
//! Notifications). The only importer of `zbus`.

use std::{collections::BTreeMap, collections::HashMap, future::Future, time::Duration};

use tokio::time::timeout;
use zbus::{Connection, zvariant::Value};

use super::needs::{Message, Topic};

/// A service that is there answers within milliseconds; one that the bus starts first takes a
/// second or two.
const LIMIT: Duration = Duration::from_secs(5);
const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";
/// As the icon naming specification has it.
const ICON: &str = "dialog-warning";

/// What is shown there, by the service's own numbers.
#[derive(Debug, Default)]
pub(super) struct Desktop(BTreeMap<Topic, u32>);

// === impl Desktop ===

impl Desktop {
    /// Shows a message; answers whether anybody took it.
    pub(super) async fn show(&mut self, topic: &Topic, message: &Message) -> bool {
        let shown = limited(async {
            let bus = Connection::session().await?;
            let capabilities = call(&bus, "GetCapabilities", &()).await?;
            let capabilities: Vec<String> = capabilities.body().deserialize()?;
            // Without the capability the service shows the text as it stands.
            let body = if capabilities.iter().any(|known| known == "body-markup") {
                escaped(&message.body)
            } else {
                message.body.clone()
            };
            let actions: [&str; 0] = [];
            let hints = HashMap::from([("urgency", Value::U8(1))]);
            let replaces = 0_u32;
            let service_decides = -1_i32;
            let request = (
                "borealisd",
                replaces,
                ICON,
                message.summary.as_str(),
                body.as_str(),
                actions.as_slice(),
                hints,
                service_decides,
            );
            call(&bus, "Notify", &request).await?.body().deserialize()
        });
        match shown.await {
            Ok(number) => {
                self.0.insert(topic.clone(), number);
                true
            }
            Err(problem) => {
                tracing::debug!(%problem, summary = %message.summary, "the desktop can't be told");
                false
            }
        }
    }

    /// Takes away what is shown of something that has passed.
    pub(super) async fn withdraw(&mut self, topic: &Topic) {
        let Some(number) = self.0.remove(topic) else {
            return;
        };
        let closed = limited(async {
            let bus = Connection::session().await?;
            call(&bus, "CloseNotification", &number).await.map(drop)
        });
        if let Err(problem) = closed.await {
            tracing::debug!(%problem, "what was shown on the desktop stays there");
        }
    }
}

async fn call<B>(bus: &Connection, method: &str, body: &B) -> zbus::Result<zbus::Message>
where
    B: serde::Serialize + zbus::zvariant::DynamicType,
{
    bus.call_method(Some(NAME), PATH, Some(NAME), method, body)
        .await
}

async fn limited<T>(work: impl Future<Output = zbus::Result<T>>) -> Result<T, String> {
    match timeout(LIMIT, work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

/// So that nothing in the text is taken for markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markup() {
        assert_eq!(
            escaped("<a href=\"x\">&'</a> ü"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt; ü"
        );
    }
}
