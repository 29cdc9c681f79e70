use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};

use super::*;

const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";
const PROOF: &[u8] = b"Z\0\0\0\x05I";
const PARAMETER: &[u8] = b"S\0\0\0\x08a\0b\0";
const FATAL: &[u8] = b"E\0\0\0\x0cC57P01\0\0";

const LIMIT: Duration = Duration::from_secs(1);

/// What a check comes to, what the client heard of it, and what it asked that is still unread.
async fn over<F: Future<Output = DuplexStream>>(
    asked: &[u8],
    database: impl FnOnce(DuplexStream) -> F,
) -> (Liveness, Vec<u8>, Vec<u8>) {
    let (mut client, mut near_client) = duplex(1024);
    let (mut near_database, far_database) = duplex(1024);
    client.write_all(asked).await.unwrap();
    let handing = check_liveness(&mut near_client, &mut near_database, LIMIT);
    let (handed, mut database) = tokio::join!(handing, database(far_database));
    drop(near_database);
    let mut passed_on = Vec::new();
    database.read_to_end(&mut passed_on).await.unwrap();
    assert_eq!(passed_on, b"", "the database hears nothing but the check");
    client.shutdown().await.unwrap();
    let mut unread = Vec::new();
    near_client.read_to_end(&mut unread).await.unwrap();
    drop(near_client);
    let mut told = Vec::new();
    client.read_to_end(&mut told).await.unwrap();
    (handed, told, unread)
}

async fn expect(stream: &mut DuplexStream, bytes: &[u8]) {
    let mut heard = vec![0; bytes.len()];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, bytes);
}

#[tokio::test]
async fn nothing_is_passed_on_before_the_proof() {
    let (handed, told, unread) = over(QUERY, async |mut database| {
        expect(&mut database, SYNC).await;
        let said = [PROOF, PARAMETER].concat();
        database.write_all(&said).await.unwrap();
        database
    })
    .await;
    let Liveness::Alive { asked, said } = handed else {
        panic!("{handed:?}");
    };
    // It may have been read or not, but none of it is lost.
    assert_eq!([&asked, &unread[..]].concat(), QUERY);
    assert_eq!(said, PARAMETER);
    assert_eq!(told, b"");
}

#[tokio::test]
async fn what_ended_before_is_replaced_and_nothing_asked_is_lost() {
    for last in [FATAL, &[PARAMETER, FATAL].concat(), b""] {
        let (handed, told, unread) = over(QUERY, async |mut database| {
            expect(&mut database, SYNC).await;
            database.write_all(last).await.unwrap();
            database.shutdown().await.unwrap();
            database
        })
        .await;
        let Liveness::Dead { asked } = handed else {
            panic!("{handed:?}");
        };
        assert_eq!([&asked, &unread[..]].concat(), QUERY);
        assert_eq!(told, b"", "the client hears nothing of it");
    }
}

/// A backend that is stopped, or whose host is: the line takes the question, nobody answers it.
#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_replaced_and_nothing_asked_is_lost() {
    let began = tokio::time::Instant::now();
    let (handed, told, unread) = over(QUERY, async |mut database| {
        expect(&mut database, SYNC).await;
        // A word that may come at any time is no sign of life.
        database.write_all(PARAMETER).await.unwrap();
        database
    })
    .await;
    let Liveness::Dead { asked } = handed else {
        panic!("{handed:?}");
    };
    assert_eq!([&asked, &unread[..]].concat(), QUERY);
    assert_eq!(told, b"");
    assert_eq!(began.elapsed(), LIMIT);
}

#[test]
fn a_long_line_has_its_round_trips() {
    let milliseconds = Duration::from_millis;
    assert_eq!(limit(milliseconds(1)), milliseconds(1000));
    assert_eq!(limit(milliseconds(600)), milliseconds(2400));
}

#[tokio::test]
async fn what_may_come_at_any_time_is_kept_for_the_client() {
    for whole in [true, false] {
        let (handed, told, _) = over(b"", async |mut database| {
            expect(&mut database, SYNC).await;
            let all = [PARAMETER, PARAMETER, PROOF].concat();
            for piece in all.chunks(if whole { all.len() } else { 1 }) {
                database.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            database
        })
        .await;
        let wanted = Liveness::Alive {
            asked: Bytes::new(),
            said: Bytes::from([PARAMETER, PARAMETER].concat()),
        };
        assert_eq!(handed, wanted);
        assert_eq!(told, b"");
    }
}

#[test]
fn only_what_differs_is_told_again() {
    let before = Bytes::from([PARAMETER, b"K\0\0\0\x08abcd"].concat());
    let other = b"S\0\0\0\x08a\0c\0";
    let now = Bytes::from([PARAMETER, other, PROOF].concat());
    assert_eq!(changed_parameters(&before, &now), Bytes::from_static(other));
    assert_eq!(changed_parameters(&before, &before), Bytes::new());
}

proptest! {
    #[test]
    fn whatever_the_database_says_never_panics(said in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut looked_at = 0;
        let _ = scan(&said, &mut looked_at);
        prop_assert!(looked_at <= said.len());
        let greeting = Bytes::from(said);
        let _ = changed_parameters(&greeting, &greeting);
    }
}
