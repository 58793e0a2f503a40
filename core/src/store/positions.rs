//! Display positions: an operation is never shown before its predecessor, so one that moves may move what follows.

use rusqlite::params;

use super::db::int;
use super::error::StoreError;
use super::tx::Tx;
use crate::identity::{Author, LogId};
use crate::projector::{Aggregate, Change, Place};
use crate::tree::Map;

/// Most operations of a log looked at in one query.
const PAGE: usize = 256;

impl Tx<'_> {
    /// Notes that positions of a log must be computed again from `seq_num` on. Done once per transaction, not once
    /// per operation: after a reset every operation of a long log moves all that follow it.
    pub(crate) fn mark_moved(&self, author: &Author, log: &LogId, seq_num: u32) {
        let mut moved = self.moved.borrow_mut();
        let range = moved.entry((*author, *log)).or_insert((seq_num, seq_num));
        *range = (range.0.min(seq_num), range.1.max(seq_num));
    }

    /// Computes the noted positions again; gives the messages that moved. [`Tx::commit`] does it, if nobody did.
    pub fn settle_positions(&self) -> Result<Vec<Change>, StoreError> {
        let mut messages = Map::<LogId, Vec<[u8; 32]>>::new();
        let noted = std::mem::take(&mut *self.moved.borrow_mut());
        for ((author, log), (from, last)) in noted {
            self.settle_log(&author, &log, from, last, messages.entry(log).or_default())?;
        }
        let moved = messages.into_iter().filter(|(_, ids)| !ids.is_empty());
        Ok(moved.map(|(log, ids)| Change::new(log, Aggregate::Message, ids)).collect())
    }

    fn settle_log(
        &self,
        author: &Author,
        log: &LogId,
        from: u32,
        last: u32,
        messages: &mut Vec<[u8; 32]>,
    ) -> Result<(), StoreError> {
        // What is moved here may be the head.
        self.release_head(author, log)?;
        let mut before = self.position_below(author, log, from)?;
        let mut next = Some(from);
        'pages: while let Some(start) = next {
            // As a rule one operation after `last` shows that nothing moves from there on.
            let limit = last.checked_sub(start).map_or(PAGE, |more| PAGE.min(more as usize + 2));
            let page = self.position_page(author, log, start, limit)?;
            next = match page.last() {
                Some((seq_num, ..)) if page.len() == limit => seq_num.checked_add(1),
                _ => None,
            };
            for (seq_num, place, position) in page {
                let wanted = before.map_or(place, |before| place.max(before));
                if wanted != position {
                    self.set_position(author, log, seq_num, wanted, messages)?;
                } else if seq_num > last {
                    break 'pages;
                }
                before = Some(wanted);
            }
        }
        self.run(
            "UPDATE heads SET pos = (SELECT o.pos FROM operations o WHERE o.author = ?1 AND o.log = ?2
                 AND o.seq_num = heads.seq_num) WHERE author = ?1 AND log = ?2",
            [author.0, log.0],
        )
        .map(drop)
    }

    /// Where the nearest stored operation below `seq_num` is shown. It need not be the predecessor: across a hole,
    /// too, one author's messages never swap. So what can never come (evicted, or erased before a server lost its
    /// log: both lie below everything in the log at hand) makes no difference to the order.
    pub(crate) fn position_below(
        &self,
        author: &Author,
        log: &LogId,
        seq_num: u32,
    ) -> Result<Option<Place>, StoreError> {
        self.one(
            "SELECT pos FROM operations WHERE author = ?1 AND log = ?2 AND seq_num < ?3
             ORDER BY seq_num DESC LIMIT 1",
            params![author.0, log.0, seq_num],
            |row| row.get(0).map(Place::from_bytes),
        )
    }

    #[allow(clippy::type_complexity, reason = "seq_num, place, position")]
    fn position_page(
        &self,
        author: &Author,
        log: &LogId,
        from: u32,
        limit: usize,
    ) -> Result<Vec<(u32, Place, Place)>, StoreError> {
        self.all(
            "SELECT seq_num, place, pos FROM operations WHERE author = ?1 AND log = ?2 AND seq_num >= ?3
             ORDER BY seq_num LIMIT ?4",
            params![author.0, log.0, from, int(limit as u64)],
            |row| {
                let place = row.get::<_, Option<[u8; 16]>>(1)?.map_or(Place::UNPLACED, Place::from_bytes);
                Ok((row.get(0)?, place, Place::from_bytes(row.get(2)?)))
            },
        )
    }

    fn set_position(
        &self,
        author: &Author,
        log: &LogId,
        seq_num: u32,
        position: Place,
        messages: &mut Vec<[u8; 32]>,
    ) -> Result<(), StoreError> {
        let bytes = position.to_bytes();
        self.run(
            "UPDATE operations SET pos = ?4 WHERE author = ?1 AND log = ?2 AND seq_num = ?3",
            params![author.0, log.0, seq_num, bytes],
        )?;
        let message = self.one(
            "UPDATE message SET pos = ?4 WHERE entry =
                 (SELECT entry FROM operations WHERE author = ?1 AND log = ?2 AND seq_num = ?3) RETURNING id",
            params![author.0, log.0, seq_num, bytes],
            |row| row.get::<_, [u8; 32]>(0),
        )?;
        messages.extend(message);
        Ok(())
    }
}
