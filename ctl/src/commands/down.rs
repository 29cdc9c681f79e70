//! `down`: closes what a project's file lists, and nothing else.

use borealis_proto::v1;

use super::{Context, Outcome, close::print};
use crate::{
    args::ProjectArgs,
    output::text::name,
    project::{Entry, Project},
};

pub(super) async fn run(context: Context<'_>, args: &ProjectArgs) -> Outcome {
    let project = Project::at(args.file.as_deref())?.believed()?;
    let mut daemon = context.daemon().await?;
    let sessions = daemon.list().await?;
    let mut targets = Vec::new();
    for entry in &project.sessions {
        match entry.among(&sessions) {
            Some(session) if session.declared => context.output.note(&format!(
                "{} is in config.toml too, so it stays open; `borealisctl close {0}` closes it",
                name(&session.name)
            )),
            Some(session) => targets.push(v1::Target {
                name: session.name.clone(),
                ..v1::Target::default()
            }),
            None => tell_of_another(context, entry, &sessions),
        }
    }
    let closed = if targets.is_empty() {
        Vec::new()
    } else {
        let request = v1::CloseSessionsRequest {
            targets,
            all: false,
            grace: None,
        };
        let spinner = context.output.spinner("closing".to_owned());
        let closed = daemon.close(request).await;
        drop(spinner);
        closed?
    };
    print(context, &closed)?;
    if closed.is_empty() {
        context.output.note("nothing of the project was open");
    }
    Ok(0)
}

/// A session may have the name and be somebody else's: of another project, say.
fn tell_of_another(context: Context<'_>, entry: &Entry, sessions: &[v1::Session]) {
    if let Some(other) = sessions.iter().find(|session| entry.has_name_of(session)) {
        context.output.warning(&format!(
            "{} is open and not what the project lists, so it stays open: see `borealisctl show {0}`",
            name(&other.name)
        ));
    }
}
