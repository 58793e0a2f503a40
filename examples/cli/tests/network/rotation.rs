//! A member is removed: real relays, a real server, and somebody who does not take it for an answer.

use std::path::Path;
use std::time::Duration;

use delta_client::{Client, Config, Event, RelayHops, Remaining, Subscription, Update};
use delta_core::identity::OperationId;
use delta_core::ops::{Content, Ticket};
use delta_core::store::Page;
use delta_core::topic::TopicId;

use crate::support::{Network, ticket};

/// However slow the machine: reaching this is a failure, never a pass.
const PATIENCE: Duration = Duration::from_secs(120);

struct Person {
    client: Client,
    updates: Subscription,
    ticket: Ticket,
    topic: TopicId,
}

impl Person {
    async fn join(network: &Network, name: &str, seed: u8, ticket: &Ticket) -> Self {
        let mut config = Config::new(network.folder().join(format!("{name}.db")), [seed; 32]);
        config.allow_plaintext = true;
        let client = Client::open(config).await.unwrap();
        let topic = client.open_topic(ticket).await.unwrap();
        let updates = client.subscribe(topic).await.unwrap();
        let file = |name: &str| std::fs::read_to_string(Path::new(network.fact(name))).unwrap();
        let trusted_keys = vec![network.fact("trust").parse().unwrap()];
        let hops = RelayHops::Directory {
            list: file("directory"),
            records: file("records"),
            trusted_keys,
            threshold: 1,
        };
        client.init_sync(&hops, network.fact("sync")).await.unwrap();
        Self { client, updates, ticket: ticket.clone(), topic }
    }

    async fn say(&self, text: &str) -> OperationId {
        let content = Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        };
        self.client.publish(self.topic, content).await.unwrap()
    }

    async fn until(&mut self, what: &str, happened: impl Fn(&Event) -> bool) {
        let wait = async {
            while let Some(update) = self.updates.next().await {
                if matches!(update, Update::Event(event) if happened(&event)) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited for {what}"));
    }

    async fn texts(&self) -> Vec<String> {
        let log = self.ticket.log();
        let rows = self.client.read(move |reader| reader.messages(&log, Page::Newest, 100)).await.unwrap();
        rows.into_iter().filter_map(|row| row.text).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_43_what_a_removed_member_writes_to_the_closed_topic_is_ignored_everywhere() {
    let network = Network::start();
    let ticket: Ticket = ticket().parse().unwrap();
    let mut manager = Person::join(&network, "manager", 1, &ticket).await;
    let mut friend = Person::join(&network, "friend", 2, &ticket).await;
    let mut removed = Person::join(&network, "removed", 3, &ticket).await;
    // The one who will be removed never accepts that anybody may do that.
    for person in [&manager, &friend] {
        person.client.set_rotators(person.topic, vec![manager.client.author()]).await.unwrap();
    }
    manager.client.publish_bundle(manager.topic).await.unwrap();
    let bundle = friend.client.publish_bundle(friend.topic).await.unwrap();
    let acknowledged = |id: OperationId| move |event: &Event| matches!(event, Event::Acknowledged { operation, .. } if *operation == id);
    friend.until("the bundle's echo", acknowledged(bundle)).await;
    friend.say("before").await;
    manager.until("the first message", |event| matches!(event, Event::Changed { .. })).await;

    let stays = Remaining { device: friend.client.author(), may_write: true };
    let rotated = manager.client.rotate(manager.topic, vec![stays]).await.unwrap();
    assert_eq!(rotated.left_out, []);
    let moved = |event: &Event| matches!(event, Event::Moved { .. });
    manager.until("the manager's move", moved).await;
    friend.until("the friend's move", moved).await;

    let late = removed.say("I am still here").await;
    removed.until("the server takes it", acknowledged(late)).await;
    // Who went on does not read it.
    let between = friend.say("among us").await;
    friend.until("the echo from the new topic", acknowledged(between)).await;
    let manager_reads = async {
        while manager.texts().await != ["before", "among us"] {
            manager.updates.next().await;
        }
    };
    tokio::time::timeout(PATIENCE, manager_reads).await.expect("the manager reads what follows");
    assert_eq!(friend.texts().await, ["before", "among us"]);
    assert_eq!(removed.texts().await, ["before", "I am still here"]);
    for person in [manager, friend, removed] {
        person.client.close().await.unwrap();
    }
}
