//! What the tests of the chat are made of.

use delta_core::identity::{Author, LogId, Millis, OperationId};
use delta_core::projector::{Place, Position};
use delta_core::store::MessageRow;
use delta_core::topic::{Seq, TopicId};

use super::conversation::Conversation;

pub const ME: Author = Author([1; 32]);
pub const THEM: Author = Author([2; 32]);
pub const LOG: LogId = LogId([3; 32]);

pub fn conversation() -> Conversation {
    Conversation::new(LOG, TopicId([4; 32]), "Shed".to_owned(), ME)
}

/// A message that stands at `seq`, or at `u64::MAX` in the outbox. It was sent in the minute of that number.
pub fn row(author: Author, seq: u64, text: &str) -> MessageRow {
    let place = if seq == u64::MAX { Place::UNPLACED } else { Place { epoch: 0, resets: 0, seq: Seq(seq) } };
    let mut id = [0; 32];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    MessageRow {
        id: OperationId(id),
        log: LOG,
        position: Position { place, author, seq_num: u32::try_from(seq).unwrap_or(u32::MAX) },
        text: Some(text.to_owned()),
        reply: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
        edit: None,
        edited_at: None,
        deleted_by: None,
        sent_at: Some(Millis(if seq == u64::MAX { 0 } else { seq * 60_000 })),
        received_at: None,
    }
}
