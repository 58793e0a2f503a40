//! What a server is held to: the chain values of its logs, and heads that contradict them.

use rusqlite::params;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::tx::Tx;
use crate::identity::{Author, Millis, OperationId};
use crate::ops::ObservedHead;
use crate::sync::session::Cursor;
use crate::topic::{Chain, Generation, Seq, TopicId};

/// Contradictions kept of one topic: one is enough, more show how it went on.
pub const MAX_EQUIVOCATIONS: usize = 16;
/// Chain values in one row: a row that grows by one value at a time stays within a page.
const ROW_CHAINS: usize = 64;
/// Bytes of a chain value.
const CHAIN: usize = 32;

/// A head that another device says the server showed it, and that this device's copy of the log contradicts. The
/// server has shown two histories, or the author lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equivocation {
    /// What this device was shown: the last place it knows at or below the other one.
    pub own: ObservedHead,
    /// What the author says to have been shown.
    pub other: ObservedHead,
    /// Who says so.
    pub author: Author,
    /// The operation that says so, signed by the author.
    pub operation: OperationId,
    /// When it was noticed, by this device's clock.
    pub seen: Millis,
}

impl Db {
    /// The chain value at a seq of a topic's copy after `resets` resets, as received; `None` where this device has
    /// not read.
    pub fn chain_at(
        &self,
        topic: TopicId,
        generation: &Generation,
        resets: u32,
        seq: Seq,
    ) -> Result<Option<Chain>, StoreError> {
        if seq == Seq(0) {
            return Ok(Some(Chain::start(&topic, generation)));
        }
        let found = self.one(
            "SELECT substr(chains, 32 * (?3 - from_seq) + 1, 32) FROM chain
             WHERE topic = ?1 AND resets = ?2 AND from_seq <= ?3 AND generation = ?4
             ORDER BY from_seq DESC LIMIT 1",
            params![topic.0, resets, int(seq.0), generation.0],
            |row| row.get::<_, Vec<u8>>(0),
        )?;
        Ok(found.and_then(|bytes| bytes.try_into().ok()).map(Chain))
    }

    /// Heads that contradict a topic's log, by generation and seq.
    pub fn equivocations(&self, topic: TopicId) -> Result<Vec<Equivocation>, StoreError> {
        self.all(
            "SELECT generation, own_seq, own_chain, seq, other_chain, author, operation, seen_ms
             FROM equivocation WHERE topic = ?1 ORDER BY generation, seq, other_chain",
            [topic.0],
            |row| {
                let generation = Generation(row.get(0)?);
                let head = |seq, chain| -> rusqlite::Result<ObservedHead> {
                    Ok(ObservedHead {
                        generation,
                        seq: Seq(uint(row.get(seq)?)),
                        chain: Chain(row.get(chain)?),
                    })
                };
                Ok(Equivocation {
                    own: head(1, 2)?,
                    other: head(3, 4)?,
                    author: Author(row.get(5)?),
                    operation: OperationId(row.get(6)?),
                    seen: Millis(uint(row.get(7)?)),
                })
            },
        )
    }
}

impl Tx<'_> {
    /// Keeps the chain values of the seqs that end at `cursor`, one for each.
    pub fn put_chains(&self, topic: TopicId, cursor: &Cursor, chains: &[Chain]) -> Result<(), StoreError> {
        let Some(mut from) = cursor.seq.0.checked_sub((chains.len() as u64).saturating_sub(1)) else {
            return Ok(());
        };
        for some in chains.chunks(ROW_CHAINS) {
            let mut row = (from, some.iter().flat_map(|chain| chain.0).collect::<Vec<_>>());
            if let Some(last) = self.growing_row(topic, cursor, from, some.len())? {
                row = (last.0, [last.1, row.1].concat());
            }
            self.run(
                "INSERT INTO chain (topic, resets, from_seq, chains, generation) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (topic, resets, from_seq) DO UPDATE SET
                     chains = excluded.chains, generation = excluded.generation",
                params![topic.0, cursor.resets, int(row.0), row.1, cursor.generation.0],
            )?;
            from = from.saturating_add(some.len() as u64);
        }
        Ok(())
    }

    /// The last row, when values for `from` on continue it and `more` of them still fit.
    fn growing_row(
        &self,
        topic: TopicId,
        cursor: &Cursor,
        from: u64,
        more: usize,
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        if more == ROW_CHAINS {
            return Ok(None);
        }
        let last = self.one(
            "SELECT from_seq, chains FROM chain WHERE topic = ?1 AND resets = ?2 AND generation = ?3
             ORDER BY from_seq DESC LIMIT 1",
            params![topic.0, cursor.resets, cursor.generation.0],
            |row| Ok((uint(row.get(0)?), row.get::<_, Vec<u8>>(1)?)),
        )?;
        Ok(last.filter(|(first, chains)| {
            let held = chains.len() / CHAIN;
            first.saturating_add(held as u64) == from && held + more <= ROW_CHAINS
        }))
    }

    /// Keeps a contradiction. `false`: it is known, or there are enough of this topic.
    pub fn put_equivocation(&self, topic: TopicId, found: &Equivocation) -> Result<bool, StoreError> {
        let Equivocation { own, other, author, operation, seen } = found;
        let added = self.run(
            "INSERT INTO equivocation
                 (topic, generation, seq, other_chain, own_seq, own_chain, author, operation, seen_ms)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
             WHERE (SELECT count(*) FROM equivocation WHERE topic = ?1) < ?10
             ON CONFLICT DO NOTHING",
            params![
                topic.0,
                other.generation.0,
                int(other.seq.0),
                other.chain.0,
                int(own.seq.0),
                own.chain.0,
                author.0,
                operation.0,
                int(seen.0),
                int(MAX_EQUIVOCATIONS as u64),
            ],
        )?;
        Ok(added > 0)
    }
}
