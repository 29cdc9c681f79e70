//! `url`: a session's connection URL.

use borealis_proto::v1;
use serde::Serialize;

use super::{Context, Outcome, target};
use crate::{
    args::UrlArgs,
    client::{Opened, Reveal},
    failure::Failure,
    libpq,
    output::{Format, Text, text::line},
    ports,
};

#[derive(Serialize)]
struct Url<'a> {
    url: &'a str,
}

pub(super) async fn run(context: Context<'_>, args: &UrlArgs) -> Outcome {
    let (mut daemon, target) = target::open_session(context, &args.target).await?;
    let opened = daemon.get(target, Reveal::Secrets).await?;
    let session = &opened.session;
    let url = if args.socket {
        if session.mode() == v1::Mode::Passthrough {
            context.output.note(
                "clients of a passthrough session need the database's own password on the socket too",
            );
        }
        libpq::socket_url(session)
    } else {
        ports::warn_of_thief(context.output, session);
        opened.secrets.url.clone()
    };
    require(&url, &opened)?;
    match context.output.format {
        Format::Table => context.output.text(&Text::lines(line(&url)).then("\n"))?,
        Format::Csv => context.output.data(format!("url\n{url}\n").as_bytes())?,
        Format::Json | Format::Yaml => context.output.value(&Url { url: &url })?,
    }
    Ok(0)
}

/// Refuses a session that has never had a credential: half a URL helps nobody.
pub(super) fn require(url: &str, opened: &Opened) -> Result<(), Failure> {
    if !url.is_empty() {
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
