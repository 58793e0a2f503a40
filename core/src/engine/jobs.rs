//! The work the engine gives out because it is pure and expensive: packets to wrap, envelopes to open. Any thread may
//! do it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::entropy::SeededEntropy;
use crate::identity::{EnvelopeHash, Millis, NodeId};
use crate::onion::control::Control;
use crate::onion::deliver::{self, DeliverError};
use crate::onion::v2;
use crate::onion::v3::{self, Hop, Terminal, WrapError};
use crate::ops::{
    AuthorKeys, EnvelopeError, InboxError, Rejected, Signal, SignalError, TopicKeys, VerifiedOperation,
    open_inbox,
};
use crate::sync::frame::SequencedOp;
use crate::sync::history::HistoryPage;
use crate::sync::outbox::AttemptId;
use crate::sync::session::{ConnId, Cursor, Step, StepKind};
use crate::topic::{Generation, Seq, TopicId, WriteKey};

/// A packet to build and to POST. Pure until it is sent: may run on any thread.
#[derive(Clone)]
pub struct PostJob {
    /// Name of the packet.
    pub attempt: AttemptId,
    /// The first relay.
    pub entry: NodeId,
    /// Where to POST: the first relay's `/hop`.
    pub url: String,
    pub(super) onion: Onion,
    /// Every ephemeral key of the packet comes from it.
    pub(super) seed: Zeroizing<[u8; 32]>,
}

/// The layers of a packet and what is inside. A packet has one version from end to end.
#[derive(Clone)]
pub(super) enum Onion {
    /// Signed content for a topic, or nothing: cover traffic.
    V3 { hops: Arc<[Hop]>, content: Option<(WriteKey, PostContent)> },
    /// One operation of a topic.
    V2 { hops: Arc<[v2::Hop]>, topic: TopicId, envelope: Bytes },
}

/// What a packet delivers.
#[derive(Clone)]
pub(super) enum PostContent {
    Operations(Vec<Bytes>),
    Signal(Bytes),
    Control(Control),
}

/// A packet could not be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PostJobError {
    /// The content is not deliverable.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// The packet cannot be wrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// The same, of version 2.
    #[error(transparent)]
    WrapV2(#[from] v2::WrapError),
}

impl PostJob {
    /// Wraps the envelopes in their onion layers.
    pub fn wrap(&self) -> Result<Vec<u8>, PostJobError> {
        let mut entropy = SeededEntropy::new(*self.seed);
        match &self.onion {
            Onion::V3 { hops, content: Some((key, content)) } => {
                let content = content.encode(key)?;
                Ok(v3::wrap(hops, Terminal::Deliver(&content), &mut entropy)?)
            }
            Onion::V3 { hops, content: None } => Ok(v3::wrap(hops, Terminal::Drop, &mut entropy)?),
            Onion::V2 { hops, topic, envelope } => Ok(v2::wrap(hops, topic, envelope, &mut entropy)?),
        }
    }

    /// Whether it is a packet of version 2.
    pub const fn is_v2(&self) -> bool {
        matches!(self.onion, Onion::V2 { .. })
    }

    /// Operations in the packet.
    pub const fn operations(&self) -> usize {
        match &self.onion {
            Onion::V3 { content: Some((_, PostContent::Operations(envelopes))), .. } => envelopes.len(),
            Onion::V3 { .. } => 0,
            Onion::V2 { .. } => 1,
        }
    }
}

impl PostContent {
    fn encode(&self, key: &WriteKey) -> Result<Vec<u8>, DeliverError> {
        match self {
            Self::Operations(envelopes) => match envelopes.as_slice() {
                [one] => deliver::encode_operation(key, one),
                many => {
                    let many: Vec<&[u8]> = many.iter().map(AsRef::as_ref).collect();
                    deliver::encode_list(key, &many)
                }
            },
            Self::Signal(envelope) => deliver::encode_signal(key, envelope),
            Self::Control(control) => deliver::encode_control(key, control),
        }
    }
}

impl std::fmt::Debug for PostJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostJob")
            .field("attempt", &self.attempt)
            .field("operations", &self.operations())
            .finish()
    }
}

/// Steps of one connection, or a page of history, whose envelopes are to be opened. What comes out depends on no
/// other job: may run on any thread.
#[derive(Clone, Debug)]
pub struct OpenJob {
    pub(super) conn: ConnId,
    pub(super) topic: TopicId,
    pub(super) keys: TopicKeys,
    pub(super) authors: AuthorKeys,
    pub(super) work: Work,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Steps(Vec<TriagedStep>),
    Page(HistoryPage),
}

#[derive(Clone, Debug)]
pub(super) struct TriagedStep {
    pub(super) step: Step,
    /// The envelope is our own and still in the outbox: nothing to open.
    pub(super) own: bool,
}

/// An [`OpenJob`] after its work.
#[derive(Debug)]
pub struct OpenedBatch {
    pub(super) conn: ConnId,
    pub(super) topic: TopicId,
    pub(super) opened: OpenedWork,
}

#[derive(Debug)]
pub(super) enum OpenedWork {
    Steps(Vec<OpenedStep>),
    Page(OpenedPage),
}

/// A page of history after its envelopes were opened.
#[derive(Debug)]
pub(super) struct OpenedPage {
    pub(super) generation: Generation,
    pub(super) tail: Seq,
    pub(super) ops: Vec<OpenedOp>,
}

#[derive(Debug)]
pub(super) struct OpenedOp {
    pub(super) seq: Seq,
    pub(super) hash: EnvelopeHash,
    pub(super) received: Millis,
    pub(super) opened: Opened,
}

impl OpenedBatch {
    /// Steps in the batch: a measure for how long its transaction will take.
    pub fn len(&self) -> usize {
        match &self.opened {
            OpenedWork::Steps(steps) => steps.len(),
            OpenedWork::Page(page) => page.ops.len(),
        }
    }

    /// No step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The connection it came from.
    pub const fn conn(&self) -> ConnId {
        self.conn
    }
}

#[derive(Debug)]
pub(super) struct OpenedStep {
    pub(super) cursor: Cursor,
    pub(super) kind: OpenedKind,
}

#[derive(Debug)]
pub(super) enum OpenedKind {
    Reset,
    Gap { from: Seq, to: Seq },
    Op { hash: EnvelopeHash, received: Millis, opened: Opened },
    Ready(crate::topic::SignedHead),
    Head(crate::topic::SignedHead),
    Signal(Result<Signal, SignalError>),
}

/// What an envelope turned out to be.
#[derive(Debug)]
pub enum Opened {
    /// Our own, read back: nothing to open as long as its outbox row is there.
    Own {
        /// In case the row has gone meanwhile.
        envelope: Bytes,
    },
    /// Of a direct thread: opened where the sessions are, in order.
    Direct {
        /// As it came.
        envelope: Bytes,
    },
    /// A valid operation.
    Verified(Box<VerifiedOperation>),
    /// Not valid: counted and dropped.
    Rejected(Why),
}

/// Why an envelope was dropped. Its author or the server is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Why {
    /// The envelope does not open.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The operation is not valid.
    #[error(transparent)]
    Operation(#[from] Rejected),
    /// It is not for this device's inbox.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// Opening it panicked: this library is at fault. Dropped all the same, so that it can do it only once.
    #[error("opening the envelope failed for a bug in this library")]
    Panicked,
}

impl Why {
    /// Under which name such envelopes are counted.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Envelope(EnvelopeError::NoKey { .. }) => "other-key",
            Self::Envelope(_) => "envelope",
            Self::Operation(Rejected::Signature) => "signature",
            Self::Operation(Rejected::WrongLog { .. }) => "other-log",
            Self::Operation(_) => "operation",
            Self::Inbox(_) => "inbox",
            Self::Panicked => "panicked",
        }
    }
}

/// Opens a job's envelopes: decrypts, decodes, verifies. No clock, no randomness, and no state that what comes out would
/// depend on.
pub fn open(job: OpenJob) -> OpenedBatch {
    let OpenJob { conn, topic, keys, authors, work } = job;
    let opened = match work {
        Work::Steps(steps) => {
            let opened = steps.into_iter().map(|triaged| open_step(&keys, &authors, triaged));
            OpenedWork::Steps(opened.collect())
        }
        Work::Page(HistoryPage { generation, tail, ops, .. }) => {
            let ops = ops.into_iter().map(|SequencedOp { seq, received, op }| {
                let hash = EnvelopeHash::of(&op);
                OpenedOp { seq, hash, received, opened: open_envelope(&keys, &authors, op) }
            });
            OpenedWork::Page(OpenedPage { generation, tail, ops: ops.collect() })
        }
    };
    OpenedBatch { conn, topic, opened }
}

fn open_step(keys: &TopicKeys, authors: &AuthorKeys, TriagedStep { step, own }: TriagedStep) -> OpenedStep {
    let kind = match step.kind {
        StepKind::Reset { .. } => OpenedKind::Reset,
        StepKind::Gap { from, to } => OpenedKind::Gap { from, to },
        StepKind::Ready(head) => OpenedKind::Ready(head),
        StepKind::Head(head) => OpenedKind::Head(head),
        StepKind::Signal(envelope) => OpenedKind::Signal(Signal::open(keys, &envelope)),
        StepKind::Op { hash, received, envelope } => {
            let opened = if own { Opened::Own { envelope } } else { open_envelope(keys, authors, envelope) };
            OpenedKind::Op { hash, received, opened }
        }
    };
    OpenedStep { cursor: step.cursor, kind }
}

/// One envelope. Foreign bytes must not make anything panic; should some do it all the same, they cost themselves and
/// not the device, which would read them again after every restart.
pub(super) fn open_envelope(keys: &TopicKeys, authors: &AuthorKeys, envelope: Bytes) -> Opened {
    guarded(|| open_unguarded(keys, authors, envelope))
}

fn guarded(open: impl FnOnce() -> Opened) -> Opened {
    // Nothing that is shared is written to while opening, so nothing can be left half done.
    catch_unwind(AssertUnwindSafe(open)).unwrap_or(Opened::Rejected(Why::Panicked))
}

fn open_unguarded(keys: &TopicKeys, authors: &AuthorKeys, envelope: Bytes) -> Opened {
    if let Some(device) = keys.inbox_of() {
        return match open_inbox(device, envelope.to_vec()) {
            Ok(operation) => Opened::Verified(Box::new(operation)),
            Err(error) => Opened::Rejected(error.into()),
        };
    }
    if keys.is_direct() {
        return Opened::Direct { envelope };
    }
    let opened = match keys.open(&envelope) {
        Ok(opened) => opened,
        // A topic opened from its ticket has all the keys it will ever have: what another key sealed is not to be
        // kept until that one comes.
        Err(error) => return Opened::Rejected(error.into()),
    };
    match opened.verify_with(&keys.log(), authors) {
        Ok(operation) => Opened::Verified(Box::new(operation)),
        Err(error) => Opened::Rejected(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_opening_costs_one_envelope() {
        let opened = guarded(|| panic!("this message is part of the test"));
        assert!(matches!(opened, Opened::Rejected(Why::Panicked)));
    }
}
