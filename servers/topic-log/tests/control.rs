//! Public topics: described, closed to readers and deleted by those who hold the write key.

use delta_core::identity::Millis;
use delta_core::onion::control::{Action, Control, Metadata};
use delta_core::topic::{Seq, TopicId};
use delta_topic_log::{
    AppendError, Closed, ControlRefused, Controlled, GenerationSecret, LogReader, MemoryStorage, TopicFacts,
    TopicLogs, Write,
};

const TOPIC: TopicId = TopicId([7; 32]);

fn logs() -> TopicLogs<MemoryStorage> {
    TopicLogs::new(MemoryStorage::new(), GenerationSecret::from_bytes([0; 32]))
}

fn describe(counter: u64, name: &str) -> Control {
    Control { counter, action: Action::Metadata(Metadata { name: name.to_owned(), description: None }) }
}

fn append(
    logs: &mut TopicLogs<MemoryStorage>,
    op: &[u8],
) -> Result<Seq, AppendError<std::convert::Infallible>> {
    let mut placed = Vec::new();
    logs.append(Millis(1), &TOPIC, &[op], Write::Signed, &mut placed)?;
    let Ok(()) = logs.commit();
    Ok(placed[0].seq)
}

#[test]
fn the_last_counter_counts_and_an_old_message_does_nothing() {
    let mut logs = logs();
    assert_eq!(logs.control(&TOPIC, &describe(5, "five")), Ok(Controlled::Described));
    for old in [1, 5] {
        assert_eq!(logs.control(&TOPIC, &describe(old, "old")), Err(ControlRefused::Old(old)));
    }
    let key = Control { counter: 6, action: Action::ReadKey(Some([3; 32])) };
    assert_eq!(logs.control(&TOPIC, &key), Ok(Controlled::ReadKeyChanged));
    let Ok(()) = logs.commit();
    let facts = logs.storage().facts(&TOPIC).unwrap();
    let metadata = describe(5, "five").encode().unwrap();
    let expected = TopicFacts { counter: 6, read_key: Some([3; 32]), metadata: Some(metadata), closed: None };
    assert_eq!(facts, expected);
}

#[test]
fn a_topic_whose_first_operation_came_first_cannot_be_controlled() {
    let mut logs = logs();
    append(&mut logs, b"private").unwrap();
    for action in [Action::Delete, Action::ReadKey(None)] {
        let refused = logs.control(&TOPIC, &Control { counter: 1, action });
        assert_eq!(refused, Err(ControlRefused::NotPublic));
    }
    assert_eq!(append(&mut logs, b"goes on"), Ok(Seq(2)));
}

#[test]
fn a_deleted_topic_keeps_its_seqs_and_takes_nothing() {
    let mut logs = logs();
    logs.control(&TOPIC, &describe(1, "channel")).unwrap();
    append(&mut logs, b"one").unwrap();
    append(&mut logs, b"two").unwrap();
    let delete = Control { counter: 2, action: Action::Delete };
    assert_eq!(logs.control(&TOPIC, &delete), Ok(Controlled::Deleted));
    let Ok(()) = logs.commit();
    let view = logs.view(&TOPIC).unwrap();
    assert_eq!((view.head, view.tail, view.closed), (Seq(2), Seq(3), Some(Closed::Deleted)));
    assert_eq!(append(&mut logs, b"three"), Err(AppendError::Closed));
    assert_eq!(logs.control(&TOPIC, &describe(3, "again")), Err(ControlRefused::Closed));
    assert_eq!(logs.storage().facts(&TOPIC).unwrap().metadata, None);
}

#[test]
fn an_operator_blocks_for_a_time_and_deletes_for_good() {
    let mut logs = logs();
    append(&mut logs, b"one").unwrap();
    for (closed, tail) in [(Some(Closed::Blocked), 1), (None, 1), (Some(Closed::Deleted), 2)] {
        let Ok(()) = logs.set_closed(&TOPIC, closed);
        let Ok(()) = logs.commit();
        let view = logs.view(&TOPIC).unwrap();
        assert_eq!((view.head, view.tail, view.closed), (Seq(1), Seq(tail), closed));
        let refused = logs.append(Millis(1), &TOPIC, &[b"one"], Write::Signed, &mut Vec::new());
        assert_eq!(refused.is_err(), closed.is_some());
        let Ok(()) = logs.commit();
    }
}

#[test]
fn what_is_not_committed_is_undone() {
    let mut logs = logs();
    logs.control(&TOPIC, &describe(1, "channel")).unwrap();
    append(&mut logs, b"one").unwrap();
    logs.control(&TOPIC, &Control { counter: 2, action: Action::Delete }).unwrap();
    logs.rollback();
    let view = logs.view(&TOPIC).unwrap();
    assert_eq!((view.head, view.tail, view.closed), (Seq(1), Seq(1), None));
    assert_eq!(logs.storage().facts(&TOPIC).unwrap().counter, 1);
    assert_eq!(append(&mut logs, b"two"), Ok(Seq(2)));
}
