//! Which operations become part of a log, and where they are shown. Everything happens in the open transaction:
//! the operation, its place, its log's end and its projection.
//!
//! The rows that come out do not depend on the order operations arrive in: an operation continues its log when its
//! predecessor is there, waits when it is not, or stands as an anchor where the predecessor cannot come
//! (docs/wire.md, "Logs"). A fork ends a log at the place the second branch appears at; see `forks`.

mod close;
mod forks;

pub use close::{close, take_own_back};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{spaces as tests_spaces, support as tests_support};

use thiserror::Error;

use crate::identity::{Author, EnvelopeHash, LogId, Millis, OperationId};
use crate::ops::{Body, KeyId, VerifiedOperation};
use crate::projector::{Change, Place};
use crate::store::{
    Head, LogHole, NewOperation, PendingReason, Receipt, SeqRange, StoreError, StoredPlace, Tx,
    WaitingForPredecessor,
};
use crate::topic::{Generation, Seq, TopicId};
use crate::tree::Arrange;

/// Most operations that one transaction stops waiting for (and what each of them releases).
pub const MAX_OVERDUE: usize = 1024;

/// Where and when an operation was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// In which topic.
    pub topic: TopicId,
    /// The topic's log.
    pub log: LogId,
    /// The topic's epoch.
    pub epoch: u32,
    /// In which copy of the topic's log.
    pub generation: Generation,
    /// After how many resets of the topic.
    pub resets: u32,
    /// The server's order.
    pub seq: Seq,
    /// When the server received it, by its clock.
    pub received: Millis,
    /// This device's clock.
    pub now: Millis,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// It is part of its log now, perhaps with others that waited for it.
    Stored {
        /// What changed in the read model.
        changes: Vec<Change>,
    },
    /// It was part of its log before.
    Duplicate {
        /// Whether this is its place from now on: a first acknowledgement, or a newer reset.
        placed: bool,
    },
    /// It waits.
    Pending(PendingReason),
    /// It is not part of any log.
    Refused(Refusal),
    /// It shows that its author's log has two branches, and ends it.
    Forked {
        /// Whose log.
        author: Author,
        /// In which conversation.
        log: LogId,
        /// Whether the operation itself came before the end, so that others had to go.
        stored: bool,
        /// What changed in the read model.
        changes: Vec<Change>,
    },
}

/// Why an operation is not stored. Its author is at fault, except where said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It belongs to another conversation.
    #[error("the operation belongs to another log")]
    OtherLog,
    /// seq_num 0 with a backlink, or a later one without, or one that points at itself.
    #[error("the backlink does not fit the sequence number")]
    Backlink,
    /// No operation could follow it.
    #[error("the log is full")]
    LastSeqNum,
    /// The place lies outside what a server may give. The server is at fault.
    #[error("the server gave it an impossible place")]
    Place,
    /// A fork ended the log before this place.
    #[error("a fork ended the author's log before this operation")]
    LogEnded,
}

impl Refusal {
    /// Under which name such operations are counted.
    pub const fn code(self) -> &'static str {
        match self {
            Self::OtherLog => "other-log",
            Self::Backlink => "backlink",
            Self::LastSeqNum => "last-seq-num",
            Self::Place => "impossible-place",
            Self::LogEnded => "log-ended",
        }
    }
}

/// An operation of this device could not be added to its log. Nothing was written.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operation does not directly follow the stored end of its log: made from a stale head.
    #[error("the operation does not continue its log")]
    NotNext,
    /// Someone with a copy of this device's key forked its log: take a new device key.
    #[error("a fork ended this device's log: it needs a new key")]
    LogEnded,
    /// The log holds its most operations: take a new device key.
    #[error("this device's log is full")]
    LogFull,
}

/// Takes a received operation into its log.
pub fn ingest(tx: &Tx<'_>, context: &Context, op: &VerifiedOperation) -> Result<Ingested, StoreError> {
    take_with(tx, context, op, Taken::default())
}

/// Takes an operation that was let go before and is read again, when everything after it is here: it waits for
/// nothing. Where its predecessor is missing it is an anchor above a hole, which fills should the predecessor come.
pub fn ingest_again(tx: &Tx<'_>, context: &Context, op: &VerifiedOperation) -> Result<Ingested, StoreError> {
    take_with(tx, context, op, Taken { anchors: Anchors::Any, ..Taken::default() })
}

fn take_with(
    tx: &Tx<'_>,
    context: &Context,
    op: &VerifiedOperation,
    mut taken: Taken,
) -> Result<Ingested, StoreError> {
    if op.log() != context.log {
        return Ok(Ingested::Refused(Refusal::OtherLog));
    }
    if context.epoch == u32::MAX || context.seq > Seq::MAX || context.seq == Seq(0) {
        return Ok(Ingested::Refused(Refusal::Place));
    }
    let new = NewOperation::from(op);
    let ingested = take(tx, &context.receipt(), &new, op.body(), &mut taken)?;
    taken.anchors = Anchors::None;
    taken.release(tx, &new)?;
    Ok(taken.report(ingested, &new))
}

/// Adds an operation this device has just made to its log. It is shown last until a server has placed it.
pub fn publish_local(
    tx: &Tx<'_>,
    topic: TopicId,
    op: &VerifiedOperation,
    _now: Millis,
) -> Result<Vec<Change>, PublishError> {
    let new = NewOperation::from(op);
    let head = tx.head(&new.author, &new.log)?;
    let next = match head {
        Some(head) => head.seq_num.checked_add(1),
        None => Some(0),
    };
    if next.is_none() || new.seq_num == u32::MAX {
        return Err(PublishError::LogFull);
    }
    let ended = match head {
        Some(head) => head.ended,
        None => tx.log_end(&new.author, &new.log)?.is_some(),
    };
    if ended {
        return Err(PublishError::LogEnded);
    }
    if next != Some(new.seq_num) || new.backlink != head.map(|head| head.id) {
        return Err(PublishError::NotNext);
    }
    let entry = tx.put_operation(&new, None, Place::UNPLACED)?;
    tx.raise_head(&new, Place::UNPLACED, false)?;
    let (change, skipped) = tx.project_new(entry, &new, op.body(), Place::UNPLACED, None)?;
    if let Some(skipped) = skipped {
        tx.count_dropped(topic, skipped.code())?;
    }
    Ok(change.into_iter().collect())
}

/// Places a stored operation whose echo came: known by its envelope, so its bytes need not be opened again. `None`
/// when it is not stored (any more): then its envelope is to be opened and ingested like anyone's.
pub fn place(
    tx: &Tx<'_>,
    context: &Context,
    operation: &OperationId,
) -> Result<Option<Ingested>, StoreError> {
    let Some((author, log, stored)) = tx.located(operation)? else { return Ok(None) };
    let placed = move_to(tx, &context.receipt(), &author, &log, &stored)?;
    Ok(Some(Ingested::Duplicate { placed }))
}

/// Places an own operation of which only the envelope's hash is known. When its outbox row is gone already, the
/// place is noted to be read again.
pub fn place_by_envelope(
    tx: &Tx<'_>,
    context: &Context,
    envelope: &EnvelopeHash,
) -> Result<Ingested, StoreError> {
    if let Some(operation) = tx.outbox_operation(context.topic, *envelope)?
        && let Some(placed) = place(tx, context, &operation)?
    {
        return Ok(placed);
    }
    let range = SeqRange { resets: context.resets, from: context.seq, to: context.seq };
    tx.add_refetch(context.topic, context.generation, range)?;
    Ok(Ingested::Pending(PendingReason::Refetch))
}

/// Keeps an envelope that no key opens yet.
pub fn await_key(
    tx: &Tx<'_>,
    context: &Context,
    key_id: &KeyId,
    envelope: &[u8],
) -> Result<Ingested, StoreError> {
    tx.await_key(&context.receipt(), key_id.as_ref(), envelope).map(Ingested::Pending)
}

/// At `ready`: the log has just been replayed from where this device began, so what authors without any stored
/// operation wrote before their first visible one will not come. That one becomes their anchor.
pub fn settle_ready(tx: &Tx<'_>, topic: TopicId) -> Result<Settled, StoreError> {
    let Some(row) = tx.topic(topic)? else { return Ok(Settled::default()) };
    let mut taken = Taken::default();
    for (author, seq_num) in tx.first_waiting(&row.ticket.log())? {
        taken.anchor(tx, Anchors::Unseen, &author, &row.ticket.log(), seq_num)?;
    }
    Ok(taken.settled(false))
}

/// When operations have waited long enough: a predecessor may never come, because its body is erased on every device
/// that held it, or because it was evicted from a log that a server then lost. What waits becomes an anchor above a
/// hole, the lowest of each author first; should the predecessor come after all, it fills the hole.
///
/// One pass over at most [`MAX_OVERDUE`] of them; [`Settled::more`] says whether there are others.
pub fn settle_overdue(tx: &Tx<'_>, topic: TopicId) -> Result<Settled, StoreError> {
    let Some(row) = tx.topic(topic)? else { return Ok(Settled::default()) };
    let log = row.ticket.log();
    let mut taken = Taken::default();
    // In order: by the turn of one, everything below it in its log is there or will not come. One that was released
    // meanwhile no longer waits.
    let waiting = tx.waiting_in_order(&log, MAX_OVERDUE)?;
    let more = waiting.len() == MAX_OVERDUE;
    for (author, seq_num) in waiting {
        if taken.released >= MAX_OVERDUE {
            return Ok(taken.settled(true));
        }
        taken.anchor(tx, Anchors::Any, &author, &log, seq_num)?;
    }
    Ok(taken.settled(more))
}

/// What became of operations that waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What changed in the read model.
    pub changes: Vec<Change>,
    /// Logs that turned out to have two branches.
    pub forks: Vec<(Author, LogId)>,
    /// There was too much for one transaction: call again.
    pub more: bool,
}

impl Context {
    pub(super) fn receipt(&self) -> Receipt {
        let Self { topic, epoch, generation, resets, seq, received, .. } = *self;
        Receipt { topic, generation, place: Place { epoch, resets, seq }, received }
    }
}

/// What one call has done so far.
#[derive(Default)]
struct Taken {
    changes: Vec<Change>,
    /// seq_nums stored since the waiting operations were looked at.
    stored: Vec<u32>,
    /// Whether an operation may be looked for among the waiting ones at all.
    waiting: bool,
    anchors: Anchors,
    /// Logs that what waited has shown to be forked.
    forks: Vec<(Author, LogId)>,
    /// How many no longer wait.
    released: usize,
}

/// Which operation without predecessor becomes an anchor, beside those that may lack one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Anchors {
    /// None.
    #[default]
    None,
    /// One of an author of whose log nothing is stored.
    Unseen,
    /// Any.
    Any,
}

impl Taken {
    /// Takes what waited for the stored operations, and what then waited for those. Bounded by what may wait.
    fn release(&mut self, tx: &Tx<'_>, op: &NewOperation<'_>) -> Result<(), StoreError> {
        while let Some(seq_num) = self.stored.pop() {
            if !self.waiting {
                continue;
            }
            let above = seq_num.saturating_add(1);
            for waiting in tx.waiting_operations(&op.author, &op.log, seq_num, above)? {
                tx.remove_pending(&waiting.receipt)?;
                self.take_waiting(tx, &waiting)?;
            }
        }
        Ok(())
    }

    /// Takes what waits at a place in a log as an anchor, then what waited for it.
    fn anchor(
        &mut self,
        tx: &Tx<'_>,
        anchors: Anchors,
        author: &Author,
        log: &LogId,
        seq_num: u32,
    ) -> Result<(), StoreError> {
        for waiting in tx.waiting_operations(author, log, seq_num, seq_num)? {
            tx.remove_pending(&waiting.receipt)?;
            self.anchors = anchors;
            self.take_waiting(tx, &waiting)?;
            self.anchors = Anchors::None;
            self.release(tx, &waiting.operation())?;
        }
        Ok(())
    }

    fn take_waiting(&mut self, tx: &Tx<'_>, waiting: &WaitingForPredecessor) -> Result<(), StoreError> {
        self.released += 1;
        let Ok(body) = Body::decode(&waiting.body) else {
            return tx.count_dropped(waiting.receipt.topic, "undecodable-row");
        };
        let ingested = take(tx, &waiting.receipt, &waiting.operation(), &body, self)?;
        match ingested {
            Ingested::Refused(why) => tx.count_dropped(waiting.receipt.topic, why.code())?,
            Ingested::Forked { author, log, .. } => self.forks.push((author, log)),
            _ => {}
        }
        Ok(())
    }

    fn settled(mut self, more: bool) -> Settled {
        self.forks.arrange();
        self.forks.dedup();
        Settled { changes: Change::merge(self.changes), forks: self.forks, more }
    }

    fn report(self, ingested: Ingested, op: &NewOperation<'_>) -> Ingested {
        let (author, log, changes) = (op.author, op.log, Change::merge(self.changes));
        match ingested {
            Ingested::Forked { stored, .. } => Ingested::Forked { author, log, stored, changes },
            // One that waited for this operation showed the fork.
            Ingested::Stored { .. } if !self.forks.is_empty() => {
                Ingested::Forked { author, log, stored: true, changes }
            }
            Ingested::Stored { .. } => Ingested::Stored { changes },
            Ingested::Duplicate { placed: _ } if !changes.is_empty() => Ingested::Stored { changes },
            other => other,
        }
    }
}

/// Takes one operation; what waited for it is released by the caller.
fn take(
    tx: &Tx<'_>,
    receipt: &Receipt,
    op: &NewOperation<'_>,
    body: &Body,
    taken: &mut Taken,
) -> Result<Ingested, StoreError> {
    if (op.seq_num == 0) != op.backlink.is_none() || op.backlink == Some(op.id) {
        return Ok(Ingested::Refused(Refusal::Backlink));
    }
    if op.seq_num == u32::MAX {
        return Ok(Ingested::Refused(Refusal::LastSeqNum));
    }
    let head = tx.head(&op.author, &op.log)?;
    let around = Around::look(tx, op, head.as_ref())?;
    if let Some(stored) = around.stored(op.seq_num).filter(|stored| stored.id == op.id) {
        return take_again(tx, receipt, op, body, stored, taken);
    }
    let ended = match head {
        Some(head) if !head.ended => None,
        _ => tx.log_end(&op.author, &op.log)?,
    };
    if ended.is_some_and(|end| receipt.place >= end) {
        return Ok(Ingested::Refused(Refusal::LogEnded));
    }
    taken.waiting |= !around.waiting.is_empty();
    let Some(fork) =
        forks::find(&around, op, receipt.place).filter(|fork| ended.is_none_or(|end| fork.end() < end))
    else {
        return join(tx, receipt, op, body, head, &around, taken);
    };
    taken.changes.extend(forks::end(tx, &fork, op, &around)?);
    let stored = receipt.place < fork.end() && {
        // What is stored may be less now: look again.
        let head = tx.head(&op.author, &op.log)?;
        let around = Around::look(tx, op, head.as_ref())?;
        matches!(join(tx, receipt, op, body, head, &around, taken)?, Ingested::Stored { .. })
    };
    Ok(Ingested::Forked { author: op.author, log: op.log, stored, changes: Vec::new() })
}

/// Stores an operation that conflicts with nothing, or keeps it waiting.
fn join(
    tx: &Tx<'_>,
    receipt: &Receipt,
    op: &NewOperation<'_>,
    body: &Body,
    head: Option<Head>,
    around: &Around,
    taken: &mut Taken,
) -> Result<Ingested, StoreError> {
    let before = op.seq_num.checked_sub(1).and_then(|below| around.stored(below));
    let in_hole = head.is_some_and(|head| op.seq_num < head.seq_num);
    if op.seq_num > 0 && before.is_none() && !in_hole {
        let anchor = match taken.anchors {
            Anchors::None => false,
            Anchors::Unseen => head.is_none(),
            Anchors::Any => true,
        };
        if !anchor && !tx.may_lack(&op.log, receipt.topic, receipt.place)? {
            return tx.await_predecessor(receipt, op).map(Ingested::Pending);
        }
    }
    let below = match before {
        Some(before) => Some(before.position),
        // Nothing stored, or the log begins here: the common cases.
        None if op.seq_num == 0 || head.is_none() => None,
        None => tx.position_below(&op.author, &op.log, op.seq_num)?,
    };
    let position = below.map_or(receipt.place, |below| below.max(receipt.place));
    let entry = tx.put_operation(op, Some((receipt.place, receipt.received)), position)?;
    match head {
        Some(head) if op.seq_num < head.seq_num => {
            fill_hole(tx, op)?;
            tx.mark_moved(&op.author, &op.log, op.seq_num.saturating_add(1));
        }
        _ => {
            let from = head.map_or(0, |head| head.seq_num.saturating_add(1));
            if from < op.seq_num {
                tx.put_hole(&op.author, &op.log, LogHole { from, to: op.seq_num - 1 })?;
            }
            let ended = match head {
                Some(head) => head.ended,
                None => tx.log_end(&op.author, &op.log)?.is_some(),
            };
            tx.raise_head(op, position, ended)?;
        }
    }
    tx.put_placement(receipt.topic, receipt.place, &op.id, receipt.generation, receipt.received)?;
    let (change, skipped) = tx.project_new(entry, op, body, position, Some(receipt.received))?;
    if let Some(skipped) = skipped {
        tx.count_dropped(receipt.topic, skipped.code())?;
    }
    taken.changes.extend(change);
    taken.stored.push(op.seq_num);
    Ok(Ingested::Stored { changes: Vec::new() })
}

/// A stored operation came again: a place of it, or its erased body where nothing deletes it any more.
fn take_again(
    tx: &Tx<'_>,
    receipt: &Receipt,
    op: &NewOperation<'_>,
    body: &Body,
    stored: &StoredPlace,
    taken: &mut Taken,
) -> Result<Ingested, StoreError> {
    let placed = move_to(tx, receipt, &op.author, &op.log, stored)?;
    if stored.erased {
        // Projecting erases it again, unless what deleted it is gone.
        let entry = tx.restore_body(op)?;
        let (change, _) = tx.project_new(entry, op, body, stored.position, Some(receipt.received))?;
        taken.changes.extend(change);
    }
    Ok(Ingested::Duplicate { placed })
}

/// Gives a stored operation a place; what follows it in its log may move with it. Whether the place counts.
fn move_to(
    tx: &Tx<'_>,
    receipt: &Receipt,
    author: &Author,
    log: &LogId,
    stored: &StoredPlace,
) -> Result<bool, StoreError> {
    let Receipt { topic, generation, place, received } = *receipt;
    tx.put_placement(topic, place, &stored.id, generation, received)?;
    let (first, preferred) = (stored.first.min(place), stored.place.prefer(place));
    let placed = preferred != stored.place;
    if !placed && first == stored.first {
        return Ok(false);
    }
    tx.move_operation(author, log, stored.seq_num, first, preferred, placed.then_some(received))?;
    if first != stored.first {
        tx.note_first(log, stored.id, first)?;
    }
    if placed {
        if stored.place.is_placed() && stored.place.epoch == place.epoch {
            tx.remove_placement(topic, stored.place)?;
        }
        tx.mark_moved(author, log, stored.seq_num);
    }
    Ok(placed)
}

fn fill_hole(tx: &Tx<'_>, op: &NewOperation<'_>) -> Result<(), StoreError> {
    let (author, log, seq_num) = (&op.author, &op.log, op.seq_num);
    let Some(hole) = tx.hole_around(author, log, seq_num)? else { return Ok(()) };
    tx.remove_hole(author, log, hole)?;
    if hole.from < seq_num {
        tx.put_hole(author, log, LogHole { from: hole.from, to: seq_num - 1 })?;
    }
    if seq_num < hole.to {
        tx.put_hole(author, log, LogHole { from: seq_num + 1, to: hole.to })?;
    }
    Ok(())
}

/// What is known of a log right around an operation.
struct Around {
    stored: Vec<StoredPlace>,
    waiting: Vec<WaitingForPredecessor>,
}

impl Around {
    fn look(tx: &Tx<'_>, op: &NewOperation<'_>, head: Option<&Head>) -> Result<Self, StoreError> {
        let (from, to) = (op.seq_num.saturating_sub(1), op.seq_num.saturating_add(1));
        let waiting = tx.waiting_operations(&op.author, &op.log, from, to)?;
        let stored = match head {
            None => Vec::new(),
            Some(head) if op.seq_num > head.seq_num.saturating_add(1) => Vec::new(),
            // The common case: the end of the log says all there is to know.
            Some(head) if op.seq_num > head.seq_num && op.backlink == Some(head.id) && waiting.is_empty() => {
                vec![StoredPlace {
                    id: head.id,
                    seq_num: head.seq_num,
                    backlink: None,
                    first: Place::UNPLACED,
                    place: Place::UNPLACED,
                    position: head.position,
                    erased: false,
                }]
            }
            Some(_) => tx.places(&op.author, &op.log, from, to)?,
        };
        Ok(Self { stored, waiting })
    }

    fn stored(&self, seq_num: u32) -> Option<&StoredPlace> {
        self.stored.iter().find(|stored| stored.seq_num == seq_num)
    }
}
