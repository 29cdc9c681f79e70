//! Renewing the credentials of sessions, each by itself. The session bounds the time.

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::{Reply, Rotated, Selection, SessionSnapshot, actor::Actor, event::Event};
use crate::{
    model::Cause,
    platform::clock::{BootInstant, Clock},
    session::{self, machine::Phase},
};

impl Actor {
    pub(super) fn rotate(&mut self, selection: &Selection, reply: Reply<Vec<Rotated>>) {
        let views = match self.select(selection) {
            Ok(views) => views,
            Err(cause) => {
                let _ = reply.send(Err(cause));
                return;
            }
        };
        // One moment for all: sessions that share a lease share its renewal.
        let asked = Clock::now();
        let rotations: Vec<_> = views
            .iter()
            .map(|view| {
                let commands = self
                    .session(view.id)
                    .filter(|_| view.status.phase != Phase::Closing)
                    .map(|session| session.commands.clone())
                    .ok_or(Cause::SessionClosing);
                rotation(view.clone(), commands, asked)
            })
            .collect();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let outcomes = join_all(rotations).await;
            // The loop tells what the sessions have now.
            let _ = events.send(Event::Rotated(outcomes, reply)).await;
        });
    }

    pub(super) fn rotated(&self, mut rotated: Vec<Rotated>) -> Vec<Rotated> {
        let views = self.views();
        for Rotated { view, .. } in &mut rotated {
            // One that has ended meanwhile is told as it was.
            if let Some(now) = views.iter().find(|now| now.id == view.id) {
                view.clone_from(now);
            }
        }
        rotated
    }
}

async fn rotation(
    view: SessionSnapshot,
    commands: Result<mpsc::Sender<session::Command>, Cause>,
    asked: BootInstant,
) -> Rotated {
    let asking = async {
        let (reply, answer) = oneshot::channel();
        let rotate = session::Command::Rotate { asked, reply };
        // A session that ends meanwhile drops either end, which is an answer too.
        commands?
            .send(rotate)
            .await
            .map_err(|_| Cause::SessionClosing)?;
        answer.await.unwrap_or(Err(Cause::SessionClosing))
    };
    let outcome = asking.await;
    Rotated { view, outcome }
}
