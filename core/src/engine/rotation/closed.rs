//! How a topic ended, and what a rotation says.

use super::super::ingest::Context;
use crate::identity::{Author, OperationId};
use crate::ops::{Body, Content, LogEnd, Rotation, Ticket};
use crate::store::TopicClose;
use crate::sync::session::Cursor;

/// How a topic ended.
#[derive(Clone, Debug)]
pub(in super::super) struct Closed {
    pub(in super::super) at: TopicClose,
    /// Who closed it.
    pub(in super::super) rotator: Author,
    /// Which membership operations that device had seen.
    pub(in super::super) heads: Vec<OperationId>,
    /// By author.
    ends: Vec<LogEnd>,
    /// To the ticket that everybody moves on with.
    commitment: Option<[u8; 32]>,
    /// By a renewal, as far as it had been read by then; not by a rotation.
    pub(in super::super) renewed: bool,
}

impl Closed {
    pub(in super::super) fn new(at: TopicClose, rotator: Author, read: Option<Read>) -> Self {
        let (heads, ends, commitment) = match read {
            Some(Read { rotation, heads }) => (heads, rotation.ends, Some(rotation.commitment)),
            None => (Vec::new(), Vec::new(), None),
        };
        Self { at, rotator, heads, ends, commitment, renewed: false }
    }

    /// A topic of an epoch that is over since its room was renewed.
    pub(in super::super) fn by_renewal(at: TopicClose, by: Author) -> Self {
        let (heads, ends) = (vec![at.operation], Vec::new());
        Self { at, rotator: by, heads, ends, commitment: None, renewed: true }
    }

    /// Whether this is the ticket that everybody moves on with, by whatever way it came.
    pub(in super::super) fn leads_to(&self, ticket: &Ticket) -> bool {
        let promised = self.commitment.is_none_or(|promised| promised == ticket.commitment(&self.rotator));
        self.at.successor == ticket.topic() && promised
    }

    /// Whether a place in the topic comes after the close. In a later copy of the log everything does: what counts
    /// there was counted before, or is named by the rotation.
    pub(in super::super) const fn precedes(&self, context: &Context) -> bool {
        let TopicClose { resets, seq, .. } = self.at;
        context.resets > resets || (context.resets == resets && context.seq.0 > seq.0)
    }

    /// Whether what was read reaches the close.
    pub(in super::super) const fn is_before(&self, cursor: &Cursor) -> bool {
        let TopicClose { resets, seq, .. } = self.at;
        cursor.resets > resets || (cursor.resets == resets && cursor.seq.0 >= seq.0)
    }

    /// Whether the rotation names the operation as part of its author's log.
    pub(in super::super) fn covers(&self, author: &Author, seq_num: u32, id: &OperationId) -> bool {
        let Ok(index) = self.ends.binary_search_by_key(author, |end| end.author) else { return false };
        self.ends
            .get(index)
            .is_some_and(|end| seq_num < end.seq_num || (seq_num == end.seq_num && end.id == *id))
    }
}

/// A rotation, and which membership operations its author had seen.
pub(in super::super) struct Read {
    pub(in super::super) rotation: Rotation,
    pub(in super::super) heads: Vec<OperationId>,
}

/// The rotation in a body.
pub(in super::super) fn read(body: &[u8]) -> Option<Read> {
    let Body { content: Content::RoomRotate(rotation), auth_heads, .. } = Body::decode(body).ok()? else {
        return None;
    };
    Some(Read { rotation: *rotation, heads: auth_heads })
}
