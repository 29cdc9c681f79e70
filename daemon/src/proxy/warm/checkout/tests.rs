use tokio::{
    io::{AsyncReadExt as _, DuplexStream, duplex},
    time::Instant,
};

use super::*;
use crate::{
    model::Cause,
    proxy::{
        cancel_keys::CancelKeys,
        drain::Drain,
        testing::{Answer, FakeChannel, World, startup, until},
    },
};

/// What a client asks: a message of a kind that the database takes note of.
const QUESTION: &[u8] = b"Q\0\0\0\x06?\0";

/// A connection that is kept ready, with the next one under way behind it, as a client that
/// was told that it may begin has them.
async fn ready(world: &World) -> Reached<FakeChannel> {
    world.warm.prepare(&startup("a"));
    world.until_ready(1).await;
    let ready = world.warm.take(&startup("a")).await.unwrap();
    world.warm.prepare(&startup("a"));
    ready
}

/// Hands a connection over to a client that has asked.
async fn handed_over(
    world: &World,
    ready: Reached<FakeChannel>,
) -> (
    DuplexStream,
    Result<HandedOver<DuplexStream, FakeChannel>, (PrefixedIo<DuplexStream>, Refused)>,
) {
    let (mut client, ours) = duplex(1024);
    client.write_all(QUESTION).await.unwrap();
    let (startup, mut drain) = (startup("a"), Drain::new().follow());
    let handing = hand_over(ours, ready, None, &startup, &world.upstream, &mut drain);
    let handed = handing.await;
    (client, handed)
}

/// What is passed on of what the client asked.
async fn question(client: &mut PrefixedIo<DuplexStream>) -> Vec<u8> {
    let mut asked = vec![0; QUESTION.len()];
    let reading = timeout(Duration::from_secs(1), client.read_exact(&mut asked));
    reading.await.unwrap().unwrap();
    asked
}

fn backend(database: &Reached<FakeChannel>) -> u32 {
    database.cancel.as_ref().unwrap().process_id()
}

#[tokio::test(start_paused = true)]
async fn one_that_is_alive_is_the_clients() {
    let world = World::new(1);
    let ready = ready(&world).await;
    let (_client, handed) = handed_over(&world, ready).await;
    let Ok(mut handed) = handed else { panic!() };
    assert_eq!(backend(&handed.database), 0);
    assert_eq!(question(&mut handed.client).await, QUESTION);
    // The database has heard nothing of it but the Sync.
    assert_eq!(world.database.backends()[0].asked, b"");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_replaced_at_the_limit_and_what_was_asked_survives() {
    let world = World::new(1);
    let ready = ready(&world).await;
    world.until_ready(1).await;
    world.database.hang(0);
    world.database.set_search_path("other");
    let limit = liveness_check::limit(ready.round_trip);
    let began = Instant::now();
    let (mut client, handed) = handed_over(&world, ready).await;
    let Ok(mut handed) = handed else { panic!() };
    assert_eq!(began.elapsed(), limit);
    assert_eq!(backend(&handed.database), 2);
    assert_eq!(question(&mut handed.client).await, QUESTION);
    let backends = world.database.backends();
    assert!(backends.iter().all(|backend| backend.asked.is_empty()));
    // The client learns what is different now, and nothing else.
    drop(handed.client);
    let mut told = Vec::new();
    client.read_to_end(&mut told).await.unwrap();
    assert!(told.ends_with(b"search_path\0other\0"), "{told:?}");
    assert_eq!(told.iter().filter(|byte| **byte == b'S').count(), 1);
    // The one that was ready beside it may hang too.
    until(|| world.database.backends()[1].has_ended).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_one_that_is_being_made_goes_on_where_one_had_ended() {
    let world = World::new(1);
    world.warm.prepare(&startup("a"));
    world.until_ready(1).await;
    let ready = world.warm.take(&startup("a")).await.unwrap();
    // Its log-in takes longer than the check of the one that hangs.
    world.database.answer([Answer::Hang]);
    world.warm.prepare(&startup("a"));
    until(|| world.database.backends().len() == 2).await;
    world.database.hang(0);
    let (_client, handed) = handed_over(&world, ready).await;
    assert!(handed.is_ok());
    // No second one was begun for the next client.
    let backends = world.database.backends();
    assert_eq!(backends.len(), 3);
    assert!(!backends[1].has_ended, "{backends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_key_leads_to_the_new_one() {
    let world = World::new(1);
    let ready = ready(&world).await;
    world.database.hang(0);
    let keys = CancelKeys::new();
    let given = ready.cancel_target().unwrap();
    let key = keys.give(given.key.clone(), given.clone());
    let (_client, ours) = duplex(1024);
    let (startup, mut drain) = (startup("a"), Drain::new().follow());
    let handing = hand_over(
        ours,
        ready,
        Some(&key),
        &startup,
        &world.upstream,
        &mut drain,
    );
    let Ok(handed) = handing.await else { panic!() };
    let found = keys.find(&given.key).unwrap();
    assert_eq!(found.key.process_id(), backend(&handed.database));
    assert_ne!(found.key.process_id(), given.key.process_id());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_waits_for_no_check() {
    let world = World::new(1);
    let ready = ready(&world).await;
    world.database.hang(0);
    let drain = Drain::new();
    drain.now(Cause::SessionClosing);
    let (_client, ours) = duplex(1024);
    let (startup, mut follow) = (startup("a"), drain.follow());
    let began = Instant::now();
    let handing = hand_over(ours, ready, None, &startup, &world.upstream, &mut follow);
    let Err((_, Refused::Because(cause))) = handing.await else {
        panic!()
    };
    assert_eq!(cause, Cause::SessionClosing);
    assert_eq!(began.elapsed(), Duration::ZERO);
}
