//! What an app is told. Everything it names is durable.

use super::clock::ClockSkew;
use super::refusal::{Blocked, Unreadable};
use crate::crypto::OpenError;
use crate::identity::{Author, LogId, OperationId};
use crate::ops::Signal;
use crate::projector::Change;
use crate::store::Equivocation;
use crate::sync::session::{Connection, Cursor, Fault};
use crate::topic::{Seq, TopicId};

/// News for the app. Everything named here is already durable.
#[derive(Clone, Debug)]
pub enum Event {
    /// The read model changed.
    Changed {
        /// Where.
        topic: TopicId,
        /// What.
        changes: Vec<Change>,
    },
    /// An own operation stands in the topic log.
    Acknowledged {
        /// Where.
        topic: TopicId,
        /// The operation.
        operation: OperationId,
        /// Its place.
        seq: Seq,
    },
    /// The connection of a topic changed.
    Connection {
        /// Which topic.
        topic: TopicId,
        /// Now.
        connection: Connection,
    },
    /// The server has another log than before; operations it lacks are going to be delivered again.
    Reset {
        /// Which topic.
        topic: TopicId,
    },
    /// The server no longer has these operations.
    Gap {
        /// Which topic.
        topic: TopicId,
        /// First missing seq.
        from: Seq,
        /// Last missing seq.
        to: Seq,
    },
    /// The server broke the protocol; the connection was given up and will be tried again.
    ServerFault {
        /// Which topic.
        topic: TopicId,
        /// How.
        fault: Fault,
    },
    /// Somebody was shown another history by the server than this device, or says so. Kept in the database
    /// ([`crate::store::Db::equivocations`]).
    ServerEquivocates {
        /// Which topic.
        topic: TopicId,
        /// Both heads, and who says it.
        equivocation: Box<Equivocation>,
    },
    /// An operation of this device stands in the topic log, as another view of it shows, and was not sent to this
    /// device although it is connected: the server, or the relay that carries the topic, keeps it back. It counts as
    /// acknowledged, and the topic is read anew. (`server_withholds`)
    ServerWithholds {
        /// Which topic.
        topic: TopicId,
        /// Where it stands.
        seq: Seq,
    },
    /// The server told this device that its log is another one, and shows the old one to others. Nothing is delivered
    /// again. (`server_equivocates`)
    FalseReset {
        /// Which topic.
        topic: TopicId,
        /// Where this device stood in the log that is still there.
        old: Cursor,
        /// Where it stands in the one it was told of.
        new: Cursor,
    },
    /// An author signed two operations for one place in a log. What was positioned before the second stays.
    Forked {
        /// Which topic.
        topic: TopicId,
        /// Who.
        author: Author,
        /// In which log.
        log: LogId,
    },
    /// The topic closed: what stands in it from now on is ignored.
    Closed {
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
        /// Why there is no key.
        why: OpenError,
    },
    /// A rotation of this device came after the one that closed the topic: whatever it was for is to be done again.
    RotationLost {
        /// Which topic.
        topic: TopicId,
        /// The rotation.
        operation: OperationId,
    },
    /// Somebody sent a signal. It is stored nowhere.
    Signal {
        /// Which topic.
        topic: TopicId,
        /// Who, when by their clock, and what.
        signal: Signal,
    },
    /// A signal of this device left, or did not; it is not tried again.
    SignalSent {
        /// Which topic.
        topic: TopicId,
        /// Whether its entry relay took it.
        taken: bool,
    },
    /// The server does not let this device read the topic, or does again.
    Readable {
        /// Which topic.
        topic: TopicId,
        /// Why not, if not.
        unreadable: Option<Unreadable>,
    },
    /// This device's clock and the server's are far apart, or no longer. Records expire by this device's: with a wrong one
    /// there may soon be no route.
    ClockSkew {
        /// Through which topic this was noticed; it concerns all.
        topic: TopicId,
        /// How far; `None`: no longer.
        skew: Option<ClockSkew>,
    },
    /// Sending stopped or can go on.
    Delivery {
        /// Which topic.
        topic: TopicId,
        /// Why not, if not.
        blocked: Option<Blocked>,
    },
}

/// The field that every event has.
macro_rules! topic_of {
    ($event:expr) => {
        match $event {
            Event::Changed { topic, .. }
            | Event::Acknowledged { topic, .. }
            | Event::Connection { topic, .. }
            | Event::Reset { topic }
            | Event::Gap { topic, .. }
            | Event::ServerFault { topic, .. }
            | Event::ServerEquivocates { topic, .. }
            | Event::ServerWithholds { topic, .. }
            | Event::FalseReset { topic, .. }
            | Event::Forked { topic, .. }
            | Event::Closed { topic, .. }
            | Event::Moved { topic, .. }
            | Event::AwaitingKey { topic, .. }
            | Event::RotationLost { topic, .. }
            | Event::Signal { topic, .. }
            | Event::SignalSent { topic, .. }
            | Event::ClockSkew { topic, .. }
            | Event::Readable { topic, .. }
            | Event::Delivery { topic, .. } => topic,
        }
    };
}

impl Event {
    /// The topic it is about.
    pub fn topic(&self) -> TopicId {
        *topic_of!(self)
    }

    pub(super) fn topic_mut(&mut self) -> &mut TopicId {
        topic_of!(self)
    }
}
