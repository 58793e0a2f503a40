//! Pages of history and the question whether envelopes are in the log: what anyone may ask over HTTP.

use bytes::Bytes;
use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::sync::frame::SequencedOp;
pub use delta_core::sync::history::{HISTORY_MAX_BYTES, HISTORY_MAX_LIMIT, HistoryPage};
use delta_core::topic::{Seq, TopicId};

use crate::storage::{LogReader, LogView, Order, StoredOp};

/// Operations of a page when the request names no limit.
pub const HISTORY_DEFAULT_LIMIT: u16 = 100;
/// Most hashes of one `has` request.
pub const MAX_HAS: usize = 256;

/// Which part of a log. All bounds are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Only above this seq; the page takes the oldest of them.
    pub after: Option<Seq>,
    /// Only below this seq; alone, the page takes the newest of them.
    pub before: Option<Seq>,
    /// Only received later than this.
    pub from: Option<Millis>,
    /// Only received earlier than this.
    pub to: Option<Millis>,
    /// Most operations, 1–1000.
    pub limit: u16,
}

impl Default for HistoryQuery {
    fn default() -> Self {
        Self { after: None, before: None, from: None, to: None, limit: HISTORY_DEFAULT_LIMIT }
    }
}

/// Reads a page.
///
/// # Errors
/// The storage failed.
pub fn history<R: LogReader + ?Sized>(
    reader: &R,
    view: &LogView,
    topic: &TopicId,
    query: &HistoryQuery,
) -> Result<HistoryPage, R::Error> {
    let (after, before) = seq_range(reader, view, topic, query)?;
    let mut ops = Vec::new();
    let mut bytes = 0;
    let mut visit = |stored: StoredOp<'_>| {
        bytes += stored.op.len();
        if !ops.is_empty() && bytes > HISTORY_MAX_BYTES {
            return false;
        }
        let op = Bytes::copy_from_slice(stored.op);
        ops.push(SequencedOp { seq: stored.seq, received: stored.received, op });
        ops.len() < usize::from(query.limit)
    };
    let newest = query.before.is_some() && query.after.is_none();
    let order = if newest { Order::Descending } else { Order::Ascending };
    reader.walk(topic, after, before, order, &mut visit)?;
    if newest {
        ops.reverse();
    }
    Ok(HistoryPage { generation: view.generation, head: view.head, tail: view.tail, ops })
}

/// The retained operations that a query's bounds name: those strictly between the two seqs.
///
/// # Errors
/// The storage failed.
pub fn seq_range<R: LogReader + ?Sized>(
    reader: &R,
    view: &LogView,
    topic: &TopicId,
    query: &HistoryQuery,
) -> Result<(Seq, Seq), R::Error> {
    let mut after = query.after.unwrap_or_default().max(view.tail.previous());
    let mut before = query.before.unwrap_or(Seq(u64::MAX)).min(Seq(view.head.0.saturating_add(1)));
    // Receive times never decrease along a log, so a range of times is a range of seqs.
    if let Some(from) = query.from {
        after = after.max(last_where(reader, view, topic, |received| received <= from)?);
    }
    if let Some(to) = query.to {
        let last = last_where(reader, view, topic, |received| received < to)?;
        before = before.min(Seq(last.0.saturating_add(1)));
    }
    Ok((after, before))
}

/// For each hash the seq it has or had, in the order asked; 0 for none. The answer's bytes are these as u64.
///
/// # Errors
/// The storage failed.
pub fn has<R: LogReader + ?Sized>(
    reader: &R,
    topic: &TopicId,
    hashes: &[EnvelopeHash],
) -> Result<Vec<Seq>, R::Error> {
    hashes.iter().map(|hash| reader.find(topic, hash).map(Option::unwrap_or_default)).collect()
}

/// The last seq whose receive time fulfils `early` (true up to some seq, false after it), by bisection.
fn last_where<R: LogReader + ?Sized>(
    reader: &R,
    view: &LogView,
    topic: &TopicId,
    early: impl Fn(Millis) -> bool,
) -> Result<Seq, R::Error> {
    let (mut low, mut high) = (view.tail.previous().0, view.head.0);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match reader.mark(topic, Seq(middle))? {
            Some((_, received)) if early(received) => low = middle,
            _ => high = middle - 1,
        }
    }
    Ok(Seq(low))
}
