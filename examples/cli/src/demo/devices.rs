//! The two devices: what they publish, what they are shown, and whether they end alike.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use delta_client::{Client, Config, Event, RelayHops, Subscription, Update};
use delta_core::entropy::Entropy;
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::ops::{Content, Ticket};
use delta_core::projector::{Aggregate, Change};
use delta_core::store::{ListedOperation, MessageRow, Page};
use delta_core::topic::TopicId;

use crate::device::until_live;
use crate::output::Output;
use crate::platform::PlatformEntropy;

/// Rows read in one query.
const PAGE: usize = 1000;

/// A device with its own database.
pub struct Device {
    pub client: Client,
    pub updates: Subscription,
    pub topic: TopicId,
    log: LogId,
}

/// Everything that must be equal on two devices.
#[derive(PartialEq, Eq)]
pub struct Holding {
    /// Every author's log.
    pub operations: Vec<ListedOperation>,
    /// What the app shows, in its order.
    pub messages: Vec<Shown>,
}

/// A message as an app shows it.
#[derive(PartialEq, Eq)]
pub struct Shown {
    /// The operation.
    pub id: OperationId,
    /// Who sent it.
    pub author: Author,
    /// The text.
    pub text: Option<String>,
    /// What it answers.
    pub reply: Option<OperationId>,
}

impl Device {
    /// A new device with a key of its own, in a topic.
    pub async fn open(path: &Path, ticket: &Ticket) -> anyhow::Result<Self> {
        let client = Self::client(path).await?;
        let topic = client.open_topic(ticket).await?;
        let updates = client.subscribe(topic).await?;
        Ok(Self { client, updates, topic, log: ticket.log() })
    }

    /// A new device with a key of its own.
    pub async fn client(path: &Path) -> anyhow::Result<Client> {
        let mut config = Config::new(path, PlatformEntropy.array()?);
        config.allow_plaintext = true;
        // Nobody at a demo waits a minute for a lost packet.
        config.look_before_retry = false;
        // Merging would be counted as latency.
        config.coalesce = Duration::ZERO;
        Ok(Client::open(config).await?)
    }

    /// Connects and waits until it is live.
    pub async fn connect(&mut self, hops: &RelayHops, sync_url: &str, output: &Output) -> anyhow::Result<()> {
        let skipped = self.client.init_sync(hops, sync_url).await?;
        ensure!(skipped.is_empty(), "nodes are left out: {skipped:?}");
        until_live(&self.client, self.topic, &mut self.updates, output).await
    }

    /// Publishes a line, perhaps as an answer.
    pub async fn say(
        client: Client,
        topic: TopicId,
        text: String,
        reply: Option<OperationId>,
    ) -> anyhow::Result<OperationId> {
        let content = Content::MessageSend { text, reply, mentions: Vec::new(), attachments: Vec::new() };
        Ok(client.publish(topic, content).await?)
    }

    /// Whether nothing waits to be sent or read back.
    pub async fn is_drained(&self) -> anyhow::Result<bool> {
        let status = self.client.status(self.topic).await?;
        Ok(status.queued + status.sent == 0)
    }

    /// What it holds, read from its database.
    pub async fn holding(&self) -> anyhow::Result<Holding> {
        let log = self.log;
        let read = self.client.read(move |reader| {
            let (mut operations, mut after) = (Vec::new(), None);
            loop {
                let page: Vec<ListedOperation> = reader.list_operations(after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(*last);
                operations.extend(page);
            }
            let (mut rows, mut page) = (Vec::<MessageRow>::new(), Page::Newest);
            loop {
                let older = reader.messages(&log, page, PAGE)?;
                let Some(first) = older.first() else { break };
                page = Page::Before(first.position);
                rows.splice(0..0, older);
            }
            Ok((operations, rows))
        });
        let (operations, rows) = read.await?;
        let shown =
            |row: MessageRow| Shown { id: row.id, author: row.author(), text: row.text, reply: row.reply };
        Ok(Holding { operations, messages: rows.into_iter().map(shown).collect() })
    }
}

/// Counts how often each message was reported to a device, and when first.
#[derive(Default)]
pub struct Arrivals {
    seen: HashMap<OperationId, (Instant, u64)>,
}

impl Arrivals {
    /// The messages that this update tells of for the first time.
    pub fn take(&mut self, update: Update, now: Instant) -> anyhow::Result<Vec<OperationId>> {
        let changes = match update {
            Update::Event(Event::Changed { changes, .. }) => changes,
            Update::Event(_) => return Ok(Vec::new()),
            Update::Storage(Some(error)) => bail!("a device cannot store what it does: {error}"),
            Update::Storage(None) => return Ok(Vec::new()),
            Update::Lagged { dropped } => bail!("the demo missed {dropped} events: it is too slow"),
        };
        let mut new = Vec::new();
        for id in messages(&changes) {
            let (_, times) = self.seen.entry(id).or_insert((now, 0));
            *times += 1;
            if *times == 1 {
                new.push(id);
            }
        }
        Ok(new)
    }

    /// When a message was first reported.
    pub fn when(&self, id: &OperationId) -> Option<Instant> {
        self.seen.get(id).map(|(at, _)| *at)
    }

    /// How often these messages were reported beyond the first time.
    pub fn repeats<'a>(&self, ids: impl Iterator<Item = &'a OperationId>) -> u64 {
        ids.filter_map(|id| self.seen.get(id)).map(|(_, times)| times - 1).sum()
    }
}

fn messages(changes: &[Change]) -> impl Iterator<Item = OperationId> {
    let messages = changes.iter().filter(|change| change.aggregate == Aggregate::Message);
    messages.flat_map(|change| &change.ids).map(|id| OperationId(*id))
}

#[cfg(test)]
mod tests {
    use delta_core::topic::TopicId;

    use super::*;
    use crate::platform::instant;

    #[test]
    fn a_message_reported_again_is_a_repeat() {
        let (topic, log) = (TopicId([1; 32]), LogId([2; 32]));
        let mut arrivals = Arrivals::default();
        let mut told = |ids: &[u8]| {
            let ids = ids.iter().map(|id| [*id; 32]).collect();
            let changes = vec![Change::new(log, Aggregate::Message, ids)];
            arrivals.take(Update::Event(Event::Changed { topic, changes }), instant()).unwrap().len()
        };
        assert_eq!((told(&[1, 2]), told(&[2, 3]), told(&[2])), (2, 1, 0));
        let id = |id: u8| OperationId([id; 32]);
        assert_eq!(arrivals.repeats([id(1), id(2)].iter()), 2);
        assert_eq!(arrivals.repeats([id(1), id(3), id(4)].iter()), 0);
    }
}
