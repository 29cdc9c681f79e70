use super::*;
use crate::proxy::testing::{Answer, World, startup, until};

const FIRST: Generation = Generation(1);

#[tokio::test]
async fn one_for_each_set_of_parameters_and_the_oldest_gives_way() {
    let World { warm, counters, .. } = World::new(2);
    let first = warm.reserve(&startup("a"), FIRST).unwrap();
    assert!(warm.reserve(&startup("a"), FIRST).is_none());
    let second = warm.reserve(&startup("b"), FIRST).unwrap();
    let mut claimed = warm.put(first.id).unwrap();
    assert_eq!(counters.warm(), 1);
    let _third = warm.reserve(&startup("c"), FIRST).unwrap();
    assert_eq!(counters.warm(), 0);
    // Whoever holds it lets go.
    assert!(claimed.try_recv().is_err());
    assert!(warm.put(first.id).is_none());
    assert!(warm.put(second.id).is_some());
}

#[tokio::test(start_paused = true)]
async fn none_with_other_parameters_or_an_older_credential() {
    let world = World::new(1);
    let World { warm, counters, .. } = &world;
    let place = warm.reserve(&startup("a"), FIRST).unwrap();
    assert!(warm.take(&startup("a")).await.is_none());
    let mut claimed = warm.put(place.id).unwrap();
    assert!(warm.take(&startup("b")).await.is_none());
    assert!(claimed.try_recv().is_err());
    assert_eq!(counters.warm(), 1);
    world.database.renew();
    let taking = timeout(LOGIN_LIMIT, async {
        warm.take(&startup("a")).await.is_some()
    });
    assert_eq!(taking.await, Ok(false));
    assert_eq!(counters.warm(), 0);
}

#[tokio::test]
async fn none_where_none_is_to_be_or_the_database_is_full() {
    let off = World::new(0).warm;
    assert!(off.reserve(&startup("a"), FIRST).is_none());
    let warm = World::new(1).warm;
    let replication = StartupParameters::new([("replication", "database")]).unwrap();
    assert!(warm.reserve(&replication, FIRST).is_none());
    let place = warm.reserve(&startup("a"), FIRST).unwrap();
    // It is being made, and may have its place at the database already.
    assert!(warm.give_back());
    assert!(place.given_up.is_cancelled());
    assert!(warm.put(place.id).is_none());
    assert!(warm.reserve(&startup("a"), FIRST).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_has_ended_counts_until_the_database_knows() {
    let warm = World::new(1).warm;
    assert!(!warm.give_back());
    tokio::time::advance(FULL_FOR).await;
    drop(warm.reserve(&startup("a"), FIRST).unwrap());
    assert!(warm.give_back());
    tokio::time::advance(RELEASE_LIMIT).await;
    assert!(!warm.give_back());
}

/// Each client with parameters of its own, as job runners have them.
#[tokio::test]
async fn no_more_are_made_at_a_time_than_are_kept() {
    let warm = World::new(2).warm;
    let names: Vec<_> = (0..200).map(|number| format!("job {number}")).collect();
    let own = |name: &String| {
        StartupParameters::new([("user", "u".to_owned()), ("application_name", name.clone())])
            .unwrap()
    };
    let making: Vec<_> = names
        .iter()
        .filter_map(|name| warm.reserve(&own(name), FIRST))
        .collect();
    assert_eq!(making.len(), 2);
    assert!(!making.iter().any(|place| place.given_up.is_cancelled()));
    // Ready ones make room, but not faster than they end.
    let ready: Vec<_> = making
        .iter()
        .filter_map(|place| warm.put(place.id))
        .collect();
    let next: Vec<_> = names
        .iter()
        .filter_map(|name| warm.reserve(&own(name), FIRST))
        .collect();
    assert_eq!((ready.len(), next.len()), (2, 2));
    for place in &next {
        warm.put(place.id).unwrap();
    }
    assert!(warm.reserve(&own(&names[199]), FIRST).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_ready_is_the_next_clients() {
    let world = World::new(1);
    world.warm.prepare(&startup("a"));
    world.until_ready(1).await;
    let mut ready = world.warm.take(&startup("a")).await.unwrap();
    assert_eq!(world.counters.warm(), 0);
    // It is logged in, and the only one.
    last_words::say(&mut ready.stream, b"Q\0\0\0\x06?\0")
        .await
        .unwrap();
    until(|| world.database.backends()[0].asked == b"?\0").await;
    assert_eq!(world.database.backends().len(), 1);
    assert!(world.warm.take(&startup("a")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn those_that_are_being_made_count_for_the_limit() {
    let world = World::new(2);
    world.database.answer_always(Answer::Hang);
    for name in ["a", "b", "c", "d"] {
        world.warm.prepare(&startup(name));
    }
    until(|| world.database.backends().len() == 2).await;
    // A log-in that hangs keeps its place no longer than its limit.
    tokio::time::advance(LOGIN_LIMIT).await;
    until(|| world.database.connections() == 0).await;
    assert_eq!(world.database.backends().len(), 2);
    world.database.answer_always(Answer::Usual);
    world.warm.prepare(&startup("c"));
    world.until_ready(1).await;
}

#[tokio::test(start_paused = true)]
async fn one_of_an_older_credential_ends_and_the_next_has_the_newest() {
    let world = World::new(1);
    world.warm.prepare(&startup("a"));
    world.until_ready(1).await;
    world.database.renew();
    until(|| world.database.connections() == 0).await;
    world.until_ready(0).await;
    world.warm.prepare(&startup("a"));
    world.until_ready(1).await;
    let ready = world.warm.take(&startup("a")).await.unwrap();
    assert_eq!(ready.generation, Generation(2));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_begun_before_a_rotation_is_nobodys() {
    let world = World::new(1);
    world.database.answer([Answer::Hang]);
    world.warm.prepare(&startup("a"));
    until(|| world.database.backends().len() == 1).await;
    world.database.renew();
    world.warm.clear_ready();
    until(|| world.database.connections() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_given_up_while_it_is_made_is_aborted() {
    let world = World::new(1);
    world.database.answer([Answer::Hang]);
    world.warm.prepare(&startup("a"));
    until(|| world.database.connections() == 1).await;
    world.warm.clear();
    until(|| world.database.connections() == 0).await;
    // Its place is free.
    world.warm.prepare(&startup("b"));
    world.until_ready(1).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_being_made_outlives_those_that_were_ready() {
    let world = World::new(2);
    world.warm.prepare(&startup("a"));
    world.until_ready(1).await;
    world.database.answer([Answer::Hang]);
    world.warm.prepare(&startup("b"));
    until(|| world.database.connections() == 2).await;
    world.warm.clear_ready();
    until(|| world.database.connections() == 1).await;
    let backends = world.database.backends();
    assert!(
        backends[0].has_ended && !backends[1].has_ended,
        "{backends:?}"
    );
    // It is known, so no other is made.
    world.warm.prepare(&startup("b"));
    assert_eq!(world.database.backends().len(), 2);
    // Where log-ins begin with other settings now, it would have the old ones.
    world.warm.clear();
    until(|| world.database.connections() == 0).await;
}
