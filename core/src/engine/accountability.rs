//! Holding a server to what it showed: each device says in its operations how far it had read, and compares what
//! others say with its own copy of the log.
//!
//! A difference means that the server keeps two histories under one generation (or was put back to an older state
//! without a new one), or that the author lies: the observed head is signed by the author, not by the server.

use super::event::Event;
use super::ingest::Context;
use super::receive::News;
use crate::identity::{Author, OperationId};
use crate::ops::ObservedHead;
use crate::store::{Equivocation, StoreError, Tx};
use crate::sync::session::Cursor;
use crate::topic::{Seq, SignedHead};

/// Older copies of a log that a head is looked for in.
const OLDER_COPIES: u32 = 8;

/// The last head that a server signed for this device, until it was said to the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    head: Option<ObservedHead>,
    said: bool,
}

impl Observed {
    /// A head was checked, and everything up to it is stored.
    pub(super) fn verified(&mut self, cursor: &Cursor, head: &SignedHead) {
        let head = ObservedHead { generation: cursor.generation, seq: head.head, chain: head.chain };
        // An empty log says nothing.
        if head.seq > Seq(0) && self.head != Some(head) {
            *self = Self { head: Some(head), said: false };
        }
    }

    /// What the next operation is to say.
    pub(super) fn unsaid(&self) -> Option<ObservedHead> {
        self.head.filter(|_| !self.said)
    }

    /// An operation that says it is stored.
    pub(super) const fn said(&mut self) {
        self.said = true;
    }

    /// The operation that said it was taken back: the next one says it.
    pub(super) const fn unsaid_again(&mut self) {
        self.said = false;
    }
}

/// What an operation says its author has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    context: Context,
    author: Author,
    operation: OperationId,
    head: ObservedHead,
}

impl Claim {
    /// The claim of an operation received at `context`.
    pub(super) fn of(context: &Context, op: &crate::ops::VerifiedOperation) -> Option<Self> {
        let head = op.body().observed?;
        Some(Self { context: *context, author: op.author(), operation: op.id(), head })
    }

    /// Compares it with this device's copies of the log; keeps a contradiction.
    pub(super) fn compare(self, tx: &Tx<'_>, news: &mut News) -> Result<(), StoreError> {
        let Self { context, author, operation, head: other } = self;
        let topic = context.topic;
        let Some(own) = self.contradicted(tx)? else { return Ok(()) };
        let equivocation = Equivocation { own, other, author, operation, seen: context.now };
        if tx.put_equivocation(topic, &equivocation)? {
            news.events.push(Event::ServerEquivocates { topic, equivocation: Box::new(equivocation) });
        }
        Ok(())
    }

    /// What this device has instead; `None` when it has the same, or cannot know (another generation, evicted).
    fn contradicted(&self, tx: &Tx<'_>) -> Result<Option<ObservedHead>, StoreError> {
        let Self { context, head, .. } = self;
        let mut own = None;
        for resets in (context.resets.saturating_sub(OLDER_COPIES)..=context.resets).rev() {
            let generation = head.generation;
            // An author has seen what lies before its operation, never the operation itself or what follows.
            let here = generation == context.generation && resets == context.resets;
            let seq = if here { head.seq.min(context.seq) } else { head.seq };
            let Some(chain) = tx.chain_at(context.topic, &generation, resets, seq)? else { continue };
            if seq == head.seq && chain == head.chain && !(here && seq == context.seq) {
                return Ok(None);
            }
            own.get_or_insert(ObservedHead { generation, seq, chain });
        }
        Ok(own)
    }
}
