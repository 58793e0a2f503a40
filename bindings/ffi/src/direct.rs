//! Direct threads as values.

use std::time::SystemTime;

use delta_core::identity::{Author, LogId, ThreadId};
use delta_core::store::{self, ThreadRow};
use delta_core::topic::TopicId;

use crate::message::time;

/// Where a direct thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum ThreadState {
    /// This device has asked, and waits.
    Asked,
    /// The other one asks.
    Requested,
    /// Both can write.
    Open,
    /// Not to be used any more.
    Closed,
}

/// A direct thread.
#[derive(Clone, uniffi::Record)]
pub struct DirectThread {
    /// Its name.
    pub thread: ThreadId,
    /// The other device.
    pub peer: Author,
    /// Where it stands.
    pub state: ThreadState,
    /// What was said with the request.
    pub text: Option<String>,
    /// The conversation, once it is open.
    pub log: Option<LogId>,
    /// Its topic then.
    pub topic: Option<TopicId>,
    /// When it was asked for, by this device's clock.
    pub made_at: SystemTime,
}

impl From<ThreadRow> for DirectThread {
    fn from(row: ThreadRow) -> Self {
        let state = match row.state {
            store::ThreadState::Asked => ThreadState::Asked,
            store::ThreadState::Requested => ThreadState::Requested,
            store::ThreadState::Open => ThreadState::Open,
            store::ThreadState::Closed => ThreadState::Closed,
        };
        let ThreadRow { thread, peer, text, log, topic, made, .. } = row;
        Self { thread, peer, state, text, log, topic, made_at: time(made) }
    }
}
