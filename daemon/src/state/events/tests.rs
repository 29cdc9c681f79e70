use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;
use crate::{journal::Kind, model::SessionName, platform::clock};

fn name(text: &str) -> SessionName {
    SessionName::parse(text).unwrap()
}

/// Reads the file again, as a daemon that starts does.
fn start(dir: &Path) -> (Journal, EventWriter, Vec<Problem>) {
    let lock = Arc::new(Lock::take(dir).unwrap());
    let mut problems = Vec::new();
    let events = Events::open(dir, clock::timestamp(), lock, &mut problems);
    let (journal, writer) = events.go_on();
    (journal, writer, problems)
}

fn record(sequence: u64) -> Record {
    Record {
        sequence,
        at: Timestamp::new(1_795_000_000, 5).unwrap(),
        kind: format!("kind-{sequence}"),
        session: sequence.is_multiple_of(2).then(|| name("sushi")),
        message: format!("\"it\" happened\u{202e}\n{sequence}"),
        failure: sequence
            .is_multiple_of(3)
            .then(|| (&Cause::NotLoggedIn).into()),
        count: 1 + sequence % 5,
        // Of another event, which stays.
        replaces: sequence.is_multiple_of(7).then_some(sequence - 1),
    }
}

#[test]
fn events_and_their_counts_survive_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, writer, _) = start(dir.path());
    journal.record(Kind::DaemonStarted, "(1)");
    for _ in 0..7 {
        journal.failure(Some(&name("sushi")), Kind::AttemptFailed, &Cause::NoNetwork);
    }
    let before = journal.records();
    drop(writer);
    let path = dir.path().join(FILE);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (journal, writer, problems) = start(dir.path());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(journal.records(), before);
    assert_eq!(
        journal.follow().earlier[1].sentence(),
        "could not connect: this machine has no network (7 times)"
    );
    journal.record(Kind::DaemonStarted, "(2)");
    assert_eq!(journal.follow().recent[0].sequence, 3);
    drop(writer);
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 3);
}

/// Told again after a minute, an event has a new number; the old line is for nobody.
#[tokio::test(start_paused = true)]
async fn what_is_told_again_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, writer, _) = start(dir.path());
    for _ in 0..3 {
        journal.counted(&name("sushi"), Kind::PasswordRefused, "no");
        // Written in between.
        let told = format!("\"sequence\":{},", journal.records()[0].sequence);
        let began = Instant::now();
        let is_written = || {
            let text = fs::read_to_string(dir.path().join(FILE)).unwrap_or_default();
            text.contains(&told)
        };
        while !is_written() {
            assert!(began.elapsed() < Duration::from_secs(30), "{told}");
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_secs(61)).await;
    }
    drop(writer);
    let (journal, _writer, _) = start(dir.path());
    let [only] = &journal.records()[..] else {
        panic!("{:?}", journal.records());
    };
    assert_eq!((only.sequence, only.count), (3, 3));
}

#[test]
fn the_file_is_bounded_and_so_is_what_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let (journal, writer, _) = start(dir.path());
        for number in 0..LINES {
            journal.of_session(&name("sushi"), Kind::SessionUp, number.to_string());
        }
        let all = journal.records();
        assert_eq!(all.len(), CAPACITY);
        drop(writer);
        let (again, _writer, _) = start(dir.path());
        assert_eq!(again.records(), all);
        let lines = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(lines.lines().count() <= LINES);
    }
}

#[test]
fn a_disk_that_takes_nothing_costs_events_only_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let lock = Arc::new(Lock::take(dir.path()).unwrap());
    let mut events = Events::open(dir.path(), clock::timestamp(), lock, &mut Vec::new());
    // As full: what is written there goes nowhere.
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let first = events.file.write(&[record(1)], || vec![record(1)]);
    assert!(
        matches!(first, Err(Cause::StateUnwritable { .. })),
        "{first:?}"
    );
    // What was half written is not gone on with.
    let second = events
        .file
        .write(&[record(2)], || vec![record(1), record(2)]);
    assert_eq!(second, Ok(()));
    assert_eq!(parse(&fs::read(&path).unwrap()).0, [record(1), record(2)]);
    assert_eq!(events.file.known.unwrap().lines, 2);

    let journal = Journal::new();
    journal.record(Kind::Reloaded, "");
    let taken = journal.take_unsaved(COUNTS_AFTER, None).unwrap();
    journal.saved(&taken, first);
    assert!(journal.problem().is_some());
    let again = journal.take_unsaved(COUNTS_AFTER, None).unwrap();
    assert_eq!(again, taken, "it is tried again");
    journal.saved(&again, Ok(()));
    assert_eq!(journal.problem(), None);
    // At the end nobody waits for a disk.
    journal.record(Kind::Reloaded, "");
    journal.close();
    let taken = journal.take_unsaved(COUNTS_AFTER, None).unwrap();
    journal.saved(&taken, Err(Cause::NoNetwork));
    assert_eq!(journal.take_unsaved(COUNTS_AFTER, None), None);
}

#[test]
fn what_is_no_file_is_set_aside_and_lines_of_others_cost_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::create_dir(&path).unwrap();
    let (journal, writer, problems) = start(dir.path());
    assert_eq!(problems[0].code, "state-unreadable");
    journal.record(Kind::Reloaded, "");
    drop(writer);
    assert!(path.is_file());

    let mut text = line::write(&[record(1), record(2)]);
    text.push_str("\n{\"sequence\":3,\"when\":\"later\"}\nnonsense\n\u{0}\n");
    text.push_str("{\"sequence\":18446744073709551615,\"at\":\"2026-11-22T14:15:00Z\",\"kind\":\"x\",\"message\":\"y\"}\n");
    text.push_str("{\"sequence\":4,\"at\":\"2026-11-22T14:15:00Z\",\"kind\":\"of-a-later-version\",\"message\":\"y\",\"new\":[1],\"failure\":{\"code\":\"c\",\"class\":\"new\",\"message\":\"m\"}}\n{\"sequ");
    fs::write(&path, text).unwrap();
    let (journal, writer, problems) = start(dir.path());
    assert!(problems.is_empty());
    let records = journal.records();
    assert_eq!(records[..2], [record(1), record(2)]);
    assert_eq!(
        (records.len(), records[2].kind.as_str()),
        (3, "of-a-later-version")
    );
    // The file is mended with the next event.
    journal.record(Kind::Reloaded, "");
    assert_eq!(journal.records()[3].sequence, 5);
    drop(writer);
    let (again, known) = parse(&fs::read(&path).unwrap());
    assert_eq!((again.len(), known.unwrap().lines), (4, 4));
    assert_eq!(again[2], records[2]);
}

proptest! {
    #[test]
    fn a_file_cut_off_anywhere_loses_what_was_cut(count in 1..40_u64, cut in 0..1_000_000_usize) {
        let records: Vec<_> = (1..=count).map(record).collect();
        let text = line::write(&records);
        let end = cut % (text.len() + 1);
        let whole = text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count();
        let (found, known) = parse(&text.as_bytes()[..end]);
        // A line without its end may still be an event.
        prop_assert!(found.len() == whole || found.len() == whole + 1);
        prop_assert_eq!(&found[..], &records[..found.len()]);
        prop_assert_eq!(known.is_some(), end == 0 || text.as_bytes()[end - 1] == b'\n');
    }

    #[test]
    fn a_wrong_byte_costs_the_event_that_it_is_in(
        count in 2..40_u64,
        at in 0..1_000_000_usize,
        byte in any::<u8>(),
    ) {
        let records: Vec<_> = (1..=count).map(record).collect();
        let mut bytes = line::write(&records).into_bytes();
        let at = at % bytes.len();
        // Its end is a part of each line: without it, the next one is torn as well.
        let broken = bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
        let torn = if bytes[at] == b'\n' { 2 } else { 1 };
        bytes[at] = byte;
        let (found, _) = parse(&bytes);
        for (place, record) in records.iter().enumerate() {
            let may_be_lost = (broken..broken + torn).contains(&place);
            prop_assert!(may_be_lost || found.contains(record), "{place} at {at}");
        }
    }

    #[test]
    fn nothing_that_is_read_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        parse(&bytes);
    }
}
