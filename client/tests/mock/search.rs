//! The index for search follows by itself.

use std::time::Duration;

use delta_client::{Client, Config};

use crate::device::{message, ticket};

/// Ten steps of the index: a pause between any two would be noticed.
const MESSAGES: usize = 5_000;
/// Ten times what it takes.
const PATIENCE: Duration = Duration::from_secs(12);

async fn until_indexed(client: &Client) {
    let followed = async {
        while client.read(|reader| reader.unindexed()).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, followed).await;
    assert!(in_time.is_ok(), "{:?} wait", client.read(|reader| reader.unindexed()).await);
}

#[tokio::test]
async fn the_index_follows_at_once_when_nothing_else_is_to_be_done_and_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Client::open(Config::new(dir.path().join("device.db"), [1; 32]));
    let client = open().await.unwrap();
    let topic = client.open_topic(&ticket(1)).await.unwrap();
    let contents = |from: usize| {
        (from..from + MESSAGES).map(|number| message(&format!("word{number}"))).collect::<Vec<_>>()
    };
    let said = client.publish_all(topic, contents(0)).await;
    assert!(said.iter().all(Result::is_ok));
    until_indexed(&client).await;
    // Closed before it can follow: whoever opens the database next goes on, though nothing comes.
    let said = client.publish_all(topic, contents(MESSAGES)).await;
    assert!(said.iter().all(Result::is_ok));
    client.close().await.unwrap();
    let client = open().await.unwrap();
    until_indexed(&client).await;
    let oldest = delta_core::store::Search { words: "word0".into(), ..Default::default() };
    let found = client.read(move |reader| reader.search(&oldest, 10)).await.unwrap();
    assert_eq!(found.len(), 1);
    client.close().await.unwrap();
}
