//! Devices that write, a device that reads, and everything it shows.

use crate::engine::ingest::{Context, Ingested, ingest, place, settle_ready};
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::ops::{self, Body, Content, DeviceKey, Ticket, VerifiedOperation};
use crate::projector::{Place, Position};
use crate::store::{Db, Durability, MessageRow, Page, ProfileRow, ReactionRow, Store, Tx};
use crate::topic::{Generation, Seq, WriteKey};

pub const LOG: LogId = LogId([7; 32]);

/// The ticket of one epoch of [`LOG`].
pub fn ticket(epoch: u32) -> Ticket {
    Ticket::private(LOG, epoch, WriteKey::from_seed([100 + epoch as u8; 32]), [9; 32])
}

/// A device that only writes.
pub struct Writer {
    key: DeviceKey,
    next: u32,
    last: Option<OperationId>,
}

impl Writer {
    pub fn new(seed: u8) -> Self {
        Self { key: DeviceKey::from_bytes(&[seed; 32]), next: 0, last: None }
    }

    pub fn author(&self) -> Author {
        self.key.author()
    }

    pub fn write(&mut self, content: Content) -> VerifiedOperation {
        let body = Body::new(content).sent_at(Millis(1_000 + u64::from(self.next)));
        let op = ops::create(&self.key, LOG, self.next, self.last, &body).unwrap();
        (self.next, self.last) = (self.next + 1, Some(op.id()));
        op
    }

    pub fn say(&mut self, text: &str) -> VerifiedOperation {
        self.write(Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        })
    }

    pub fn edit(&mut self, target: OperationId, text: &str) -> VerifiedOperation {
        self.write(Content::MessageEdit { target, text: text.into() })
    }

    pub fn delete(&mut self, target: OperationId) -> VerifiedOperation {
        self.write(Content::MessageDelete { target })
    }

    pub fn react(&mut self, target: OperationId, emoji: &str, add: bool) -> VerifiedOperation {
        let emoji = emoji.into();
        self.write(match add {
            true => Content::ReactionAdd { target, emoji },
            false => Content::ReactionRemove { target, emoji },
        })
    }

    /// The same device with the same log so far: what it writes from here on is a second branch.
    pub fn branch(&self) -> Self {
        Self { key: self.key.clone(), next: self.next, last: self.last }
    }
}

/// A device that only reads.
pub struct Device {
    pub store: Store,
    pub resets: u32,
}

impl Device {
    pub fn new() -> Self {
        let mut store = Store::in_memory().unwrap();
        let tx = store.begin(Durability::Normal).unwrap();
        tx.put_topic(&ticket(0), Millis(0)).unwrap();
        tx.commit().unwrap();
        Self { store, resets: 0 }
    }

    pub fn write<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> T) -> T {
        let tx = self.store.begin(Durability::Normal).unwrap();
        let out = work(&tx);
        tx.commit().unwrap();
        out
    }

    /// Receives an operation at a place of the first epoch's topic.
    pub fn receive(&mut self, seq: u64, op: &VerifiedOperation) -> Ingested {
        self.receive_in(0, seq, op)
    }

    pub fn receive_in(&mut self, epoch: u32, seq: u64, op: &VerifiedOperation) -> Ingested {
        let context = self.context(epoch, seq);
        self.write(|tx| ingest(tx, &context, op).unwrap())
    }

    /// The same for an operation that may be this device's own, as the engine does it.
    pub fn echo(&mut self, seq: u64, op: &VerifiedOperation) -> Ingested {
        let context = self.context(0, seq);
        self.write(|tx| match place(tx, &context, &op.id()).unwrap() {
            Some(placed) => placed,
            None => ingest(tx, &context, op).unwrap(),
        })
    }

    /// Receives all of `(seq, operation)`, in one transaction, and reaches `ready`.
    pub fn receive_all<'a>(&mut self, ops: impl IntoIterator<Item = (u64, &'a VerifiedOperation)>) {
        let contexts: Vec<_> = ops.into_iter().map(|(seq, op)| (self.context(0, seq), op)).collect();
        self.write(|tx| {
            for (context, op) in contexts {
                ingest(tx, &context, op).unwrap();
            }
            settle_ready(tx, ticket(0).topic()).unwrap();
        });
    }

    pub fn context(&self, epoch: u32, seq: u64) -> Context {
        Context {
            topic: ticket(epoch).topic(),
            log: LOG,
            epoch,
            generation: Generation([self.resets as u8; 16]),
            resets: self.resets,
            seq: Seq(seq),
            received: Millis(50_000u64.saturating_add(seq)),
            now: Millis(60_000),
        }
    }

    pub fn messages(&self) -> Vec<MessageRow> {
        self.store.messages(&LOG, Page::Newest, 10_000).unwrap()
    }

    pub fn texts(&self) -> Vec<String> {
        self.messages().into_iter().map(|row| row.text.unwrap_or_else(|| "†".into())).collect()
    }

    pub fn positions(&self) -> Vec<Position> {
        self.messages().into_iter().map(|row| row.position).collect()
    }

    /// Everything that must not depend on the order of arrival.
    pub fn view(&self, authors: &[Author]) -> View {
        let db = &self.store;
        let messages = self.messages();
        let operations = db.list_operations(None, 10_000).unwrap();
        let holes = |author| {
            let holes = db.log_holes(author, &LOG).unwrap();
            holes.into_iter().map(|hole| (hole.from, hole.to)).collect()
        };
        View {
            erased: operations
                .iter()
                .map(|op| op.id)
                .filter(|id| db.operation(id).unwrap().unwrap().body.is_none())
                .collect(),
            histories: messages.iter().map(|row| history(db, &row.id)).collect(),
            reactions: messages.iter().flat_map(|row| db.reactions(&row.id).unwrap()).collect(),
            profiles: authors.iter().flat_map(|author| db.profiles(author).unwrap()).collect(),
            heads: db.log_heads(&LOG).unwrap().into_iter().map(|head| head.id).collect(),
            holes: authors.iter().map(holes).collect(),
            ends: authors.iter().map(|author| db.log_end(author, &LOG).unwrap()).collect(),
            operations: operations.into_iter().map(|op| op.id).collect(),
            messages,
        }
    }
}

fn history(db: &Db, id: &OperationId) -> Vec<OperationId> {
    db.message_history(id).unwrap().into_iter().map(|edit| edit.id).collect()
}

/// Everything a device shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// In display order.
    pub messages: Vec<MessageRow>,
    /// Sorted by (author, log, seq_num).
    pub operations: Vec<OperationId>,
    /// Those without a body, in the same order.
    pub erased: Vec<OperationId>,
    /// Of each message, oldest text first.
    pub histories: Vec<Vec<OperationId>>,
    /// Message by message.
    pub reactions: Vec<ReactionRow>,
    /// Author by author.
    pub profiles: Vec<ProfileRow>,
    /// By author.
    pub heads: Vec<OperationId>,
    /// Of each author.
    pub holes: Vec<Vec<(u32, u32)>>,
    /// Of each author.
    pub ends: Vec<Option<Place>>,
}
