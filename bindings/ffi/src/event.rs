//! News for the app.

use delta_client::{ClientError, Update};
use delta_core::engine;
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::projector::{self, Aggregate};
use delta_core::topic::TopicId;

use crate::records::{ClockSkew, Connection, Trouble};
use crate::value::ValueKey;

/// News of a topic. What it names is already durable on this device.
#[derive(Clone, Debug, uniffi::Enum)]
pub enum Event {
    /// Something shown changed: query it again.
    Changed {
        /// Where.
        topic: TopicId,
        /// What.
        changes: Vec<Change>,
    },
    /// An own operation stands in the topic's log.
    Acknowledged {
        /// Where.
        topic: TopicId,
        /// The operation.
        operation: OperationId,
        /// Its place.
        seq: u64,
    },
    /// The connection changed.
    ConnectionChanged {
        /// Which topic's.
        topic: TopicId,
        /// Now.
        connection: Connection,
    },
    /// The server has another log than before; operations it lacks are delivered again.
    Reset {
        /// Which topic.
        topic: TopicId,
    },
    /// The server no longer has these operations.
    Gap {
        /// Which topic.
        topic: TopicId,
        /// First missing seq.
        first: u64,
        /// Last missing seq.
        last: u64,
    },
    /// The server broke the protocol; the connection is tried again.
    ServerFault {
        /// Which topic.
        topic: TopicId,
        /// How, for people.
        reason: String,
    },
    /// The server showed somebody another history than this device.
    ServerEquivocates {
        /// Which topic.
        topic: TopicId,
        /// Who says so.
        author: Author,
        /// The operation that says so.
        operation: OperationId,
    },
    /// The server kept the echo of an own operation from this device; it was found in the log another way.
    ServerWithholds {
        /// Which topic.
        topic: TopicId,
        /// Where it stands.
        seq: u64,
    },
    /// The server told this device that its log is another one, and shows the old one to others.
    FalseReset {
        /// Which topic.
        topic: TopicId,
    },
    /// The topic closed: the conversation goes on in another one.
    TopicClosed {
        /// Which topic.
        topic: TopicId,
        /// Who closed it.
        rotator: Author,
        /// Where the conversation goes on.
        successor: TopicId,
    },
    /// The conversation goes on in another topic, opened by itself; it keeps its name for the app.
    Moved {
        /// The topic as the app knows it.
        topic: TopicId,
        /// Where it lives now.
        successor: TopicId,
    },
    /// The conversation goes on in a topic of which this device has no key (yet): it was removed, or the key is late.
    AwaitingKey {
        /// Which topic.
        topic: TopicId,
        /// Where the conversation goes on.
        successor: TopicId,
        /// Why there is no key, for people.
        reason: String,
    },
    /// A rotation of this device came too late: whatever it was for is to be done again.
    RotationLost {
        /// Which topic.
        topic: TopicId,
        /// The rotation.
        operation: OperationId,
    },
    /// An author signed two operations for one place in a log.
    Forked {
        /// Which topic.
        topic: TopicId,
        /// Who.
        author: Author,
        /// In which conversation.
        log: LogId,
    },
    /// Somebody sent a signal (presence, typing). It is stored nowhere.
    Signal {
        /// Which topic.
        topic: TopicId,
        /// Who.
        author: Author,
        /// What.
        bytes: Vec<u8>,
    },
    /// A signal of this device left, or did not; it is not tried again.
    SignalSent {
        /// Which topic.
        topic: TopicId,
        /// Whether its relay took it.
        taken: bool,
    },
    /// The server does not let this device read the topic, or does again.
    Readable {
        /// Which topic.
        topic: TopicId,
        /// Why not, if not.
        trouble: Option<Trouble>,
    },
    /// Sending stopped, or can go on.
    Delivery {
        /// Which topic.
        topic: TopicId,
        /// Why not, if not.
        trouble: Option<Trouble>,
    },
    /// This device's clock and the server's are more than ten minutes apart, or no longer. Records of relays expire by this
    /// device's: with a wrong one there may soon be no route. Ask the person to set it.
    ClockSkew {
        /// The topic this was heard through; it concerns all.
        topic: TopicId,
        /// How far; nothing when they agree again.
        skew: Option<ClockSkew>,
    },
    /// The device's database takes no changes (its disk is full, say), or does again. Nothing that was reported is lost.
    Storage {
        /// The topic this was heard through; it concerns all.
        topic: TopicId,
        /// Why not, if not.
        trouble: Option<Trouble>,
    },
    /// The listener was too slow and lost events: query again what is shown.
    Lagged {
        /// Which topic.
        topic: TopicId,
        /// How many events.
        dropped: u64,
    },
    /// The last event: the object was closed.
    Closed {
        /// Which topic.
        topic: TopicId,
    },
}

/// Rows of one kind that changed.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Change {
    /// In which conversation.
    pub log: LogId,
    /// What kind.
    pub kind: ChangedKind,
    /// Which: ids of messages; for reactions, of the messages they belong to; for profiles, the
    /// authors; otherwise of the space, the rooms, the members, the operations that changed the keys, the documents.
    pub ids: Vec<Vec<u8>>,
    /// Which keys, where they are values of keys; empty otherwise.
    pub keys: Vec<ValueKey>,
}

/// Kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum ChangedKind {
    /// Messages.
    Message,
    /// Reactions.
    Reaction,
    /// Profiles.
    Profile,
    /// A space itself.
    Space,
    /// Rooms of a space.
    Room,
    /// Members of a space.
    Member,
    /// Values of keys.
    KeyValue,
    /// Documents, or what was written to them.
    Document,
    /// Direct threads.
    DirectThread,
    /// Blobs that messages name.
    Blob,
}

impl From<projector::Change> for Change {
    fn from(change: projector::Change) -> Self {
        let kind = match change.aggregate {
            Aggregate::Message => ChangedKind::Message,
            Aggregate::Reaction => ChangedKind::Reaction,
            Aggregate::Profile => ChangedKind::Profile,
            Aggregate::Space => ChangedKind::Space,
            Aggregate::Room => ChangedKind::Room,
            Aggregate::Member => ChangedKind::Member,
            Aggregate::KeyValue => ChangedKind::KeyValue,
            Aggregate::Document => ChangedKind::Document,
            Aggregate::DirectThread => ChangedKind::DirectThread,
            Aggregate::Blob => ChangedKind::Blob,
        };
        let keys = change.keys.into_iter().map(Into::into).collect();
        Self { log: change.log, kind, ids: change.ids.iter().map(|id| id.to_vec()).collect(), keys }
    }
}

impl Event {
    pub(crate) fn of(topic: TopicId, update: Update) -> Self {
        match update {
            Update::Event(event) => event.into(),
            Update::Lagged { dropped } => Self::Lagged { topic, dropped },
            Update::Storage(failing) => {
                Self::Storage { topic, trouble: failing.map(|error| Trouble::of(&ClientError::from(error))) }
            }
        }
    }
}

impl From<engine::Event> for Event {
    fn from(event: engine::Event) -> Self {
        use engine::Event as News;
        match event {
            News::Changed { topic, changes } => {
                Self::Changed { topic, changes: changes.into_iter().map(Into::into).collect() }
            }
            News::Acknowledged { topic, operation, seq } => {
                Self::Acknowledged { topic, operation, seq: seq.0 }
            }
            News::Connection { topic, connection } => {
                Self::ConnectionChanged { topic, connection: connection.into() }
            }
            News::Reset { topic } => Self::Reset { topic },
            News::Gap { topic, from, to } => Self::Gap { topic, first: from.0, last: to.0 },
            News::ServerFault { topic, fault } => Self::ServerFault { topic, reason: fault.to_string() },
            News::ServerEquivocates { topic, equivocation } => Self::ServerEquivocates {
                topic,
                author: equivocation.author,
                operation: equivocation.operation,
            },
            News::ServerWithholds { topic, seq } => Self::ServerWithholds { topic, seq: seq.0 },
            News::FalseReset { topic, .. } => Self::FalseReset { topic },
            News::Closed { topic, rotator, successor } => Self::TopicClosed { topic, rotator, successor },
            News::Moved { topic, successor } => Self::Moved { topic, successor },
            News::AwaitingKey { topic, successor, why } => {
                Self::AwaitingKey { topic, successor, reason: why.to_string() }
            }
            News::RotationLost { topic, operation } => Self::RotationLost { topic, operation },
            News::Forked { topic, author, log } => Self::Forked { topic, author, log },
            News::Signal { topic, signal } => {
                Self::Signal { topic, author: signal.author, bytes: signal.bytes.to_vec() }
            }
            News::SignalSent { topic, taken } => Self::SignalSent { topic, taken },
            News::Readable { topic, unreadable } => {
                Self::Readable { topic, trouble: unreadable.map(Trouble::unreadable) }
            }
            News::ClockSkew { topic, skew } => Self::ClockSkew { topic, skew: skew.map(Into::into) },
            News::Delivery { topic, blocked } => {
                Self::Delivery { topic, trouble: blocked.as_ref().map(Trouble::blocked) }
            }
        }
    }
}
