//! `url`: a session's connection URL.

use serde::Serialize;

use super::{Context, Outcome, target};
use crate::{
    args::{Format, NamedArgs},
    client::{Opened, Reveal},
    failure::Failure,
};

#[derive(Serialize)]
struct Url<'a> {
    url: &'a str,
}

pub(super) async fn run(context: Context<'_>, args: &NamedArgs) -> Outcome {
    let target = target::one(&args.target)?;
    let opened = context.daemon().await?.get(target, Reveal::Secrets).await?;
    require_secrets(&opened)?;
    let url = opened.secrets.url.as_str();
    match context.output.format {
        Format::Table => context.output.text(&format!("{url}\n"))?,
        Format::Csv => context.output.text(&format!("url\n{url}\n"))?,
        Format::Json | Format::Yaml => context.output.value(&Url { url })?,
    }
    Ok(0)
}

/// Refuses a session that has never had a credential: half a URL helps nobody.
pub(super) fn require_secrets(opened: &Opened) -> Result<(), Failure> {
    if !opened.secrets.url.is_empty() {
        return Ok(());
    }
    let session = &opened.session;
    let message = format!(
        "{} has never been up, so its URL is not known yet",
        session.name
    );
    let hint = match &session.last_error {
        Some(error) if error.hint.is_empty() => error.message.clone(),
        Some(error) => format!("{}: {}", error.message, error.hint),
        None => format!("wait for it with `borealisctl open {}`", session.name),
    };
    Err(Failure::failed(message).with_hint(hint))
}
