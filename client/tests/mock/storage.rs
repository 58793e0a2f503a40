//! Old messages pruned, a conversation wiped and opened again, everything removed.

use delta_core::identity::Millis;

use crate::device::{Device, message, ticket};
use crate::net::Net;

#[tokio::test]
async fn a_wiped_conversation_is_read_again_and_its_log_goes_on() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    let mut b = Device::on(&net, 2, &ticket(1)).await;
    for text in ["one", "two"] {
        let id = a.say(text).await;
        a.until_acknowledged(id).await;
    }
    b.until_texts(&["one", "two"]).await;
    a.client.wipe_topic(a.topic).await.unwrap();
    assert_eq!(a.client.status(a.topic).await.unwrap_err().code(), "unknown_topic");
    assert_eq!(a.client.wipe_topic(a.topic).await.unwrap_err().code(), "unknown_topic");
    let kept = a.client.read(|reader| reader.list_operations(None, 10)).await.unwrap();
    assert_eq!(kept.len(), 1, "the end of the own log");

    a.client.open_topic(&ticket(1)).await.unwrap();
    // Before the first connection: the number must not be used twice.
    let third = a.client.publish(a.topic, message("three")).await.unwrap();
    a.updates = a.client.subscribe(a.topic).await.unwrap();
    a.until_texts(&["one", "two", "three"]).await;
    b.until_texts(&["one", "two", "three"]).await;
    let (operations, _) = b.state().await;
    let last = operations.iter().find(|operation| operation.id == third).unwrap();
    assert_eq!(last.seq_num, 2);
}

#[tokio::test]
async fn what_never_left_goes_without_a_trace_with_its_conversation() {
    let mut a = Device::offline(1, &ticket(1)).await;
    a.say("never sent").await;
    a.client.wipe_topic(a.topic).await.unwrap();
    let statistics = a.client.statistics().await.unwrap();
    assert_eq!((statistics.topics, statistics.operations, statistics.outbox.queued), (0, 0, 0));
    a.client.open_topic(&ticket(1)).await.unwrap();
    a.say("first").await;
    let (operations, _) = a.state().await;
    assert_eq!(operations.iter().map(|operation| operation.seq_num).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn pruned_messages_are_gone_here_and_nowhere_else() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    let mut b = Device::on(&net, 2, &ticket(1)).await;
    let id = a.say("old").await;
    a.until_acknowledged(id).await;
    b.until_texts(&["old"]).await;
    assert_eq!(a.client.prune(a.topic, Millis(0)).await.unwrap(), 0);
    assert_eq!(a.client.prune(a.topic, Millis(u64::MAX)).await.unwrap(), 1);
    assert!(a.texts().await.is_empty());
    let used = a.client.storage_use().await.unwrap();
    assert_eq!(used.logs.len(), 1);
    a = a.restart().await;
    a.join(&net).await;
    let second = a.say("new").await;
    a.until_acknowledged(second).await;
    b.until_texts(&["old", "new"]).await;
    assert_eq!(a.texts().await, ["new"]);
}

#[tokio::test]
async fn a_wipe_of_everything_leaves_no_file() {
    let mut a = Device::offline(1, &ticket(1)).await;
    a.say("x").await;
    let (database, folder) = (a.database(), a.database().parent().unwrap().to_path_buf());
    a.client.wipe().await.unwrap();
    let name = database.file_name().unwrap().to_string_lossy().into_owned();
    let left = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|file| file.to_string_lossy().starts_with(&name)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(a.client.status(a.topic).await.unwrap_err().code(), "closed");
    a.client.wipe().await.unwrap();
}
