//! `up`: the sessions of a project.

use std::time::Duration;

use borealis_proto::v1;
use tokio::task::JoinSet;

use super::{Context, Outcome, open::not_up};
use crate::{
    args::ProjectArgs,
    client::{Client, Opened},
    failure::Failure,
    project::{Entry, Project},
};

/// What each session gets to come up.
const UP: Duration = Duration::from_secs(60);

pub(super) async fn run(context: Context<'_>, args: &ProjectArgs) -> Outcome {
    let project = Project::at(args.file.as_deref())?.believed()?;
    let mut daemon = context.daemon().await?;
    daemon.check_version().await?;
    let spinner = context
        .output
        .spinner("opening the project's sessions".to_owned());
    let answers = open_all(&daemon, &project).await?;
    drop(spinner);
    let mut opened = Vec::new();
    let mut failures = Vec::new();
    for answer in answers {
        match answer {
            Ok(session) => {
                if session.session.state() != v1::State::Up {
                    failures.push(not_up(&session, UP));
                }
                opened.push(session);
            }
            Err(failure) => failures.push(failure),
        }
    }
    context.output.opened(&opened)?;
    // The last one is the command's own, and printed with it.
    let Some(last) = failures.pop() else {
        return Ok(0);
    };
    failures
        .iter()
        .for_each(|failure| context.output.failure(failure));
    Err(last)
}

/// Opens all at once; answers in the file's order.
async fn open_all(
    daemon: &Client,
    project: &Project,
) -> Result<Vec<Result<Opened, Failure>>, Failure> {
    let mut opening = JoinSet::new();
    for (place, entry) in project.sessions.iter().enumerate() {
        let mut daemon = daemon.clone();
        let request = request(entry)?;
        let at = format!("{}:{}", project.file.display(), entry.line);
        opening.spawn(async move {
            let answer = daemon.open(request).await;
            let told = answer.map_err(|failure| Failure {
                message: format!("{at}: {}", failure.message),
                ..failure
            });
            (place, told)
        });
    }
    let mut answers = opening.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Everything is said, so that no session of another kind is answered.
fn request(entry: &Entry) -> Result<v1::OpenSessionRequest, Failure> {
    Ok(v1::OpenSessionRequest {
        target: Some(entry.as_target()),
        access: entry.access.into(),
        role: entry.role.into(),
        mode: v1::Mode::Managed.into(),
        port: entry.port.map_or(0, u32::from),
        name: entry.name.clone().unwrap_or_default(),
        expires_in: None,
        grace: None,
        wait: Some(super::duration(UP)?),
    })
}
