//! What a log lacks: holes below stored operations, and the end a fork put to it.

use rusqlite::params;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::operations::{StoredOperation, StoredPlace};
use super::pending::{Receipt, WaitingForPredecessor};
use super::secrets::Column;
use super::topics::SeqRange;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::projector::{Aggregate, Change, Place};
use crate::topic::{Generation, TopicId};

/// seq_nums `from..=to` below a stored operation that this device does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHole {
    /// First missing number.
    pub from: u32,
    /// Last missing number.
    pub to: u32,
}

/// Proof that an author's log has two branches.
#[derive(Clone, PartialEq, Eq)]
pub struct ForkProof {
    /// Where the branches part.
    pub seq_num: u32,
    /// The place the second branch appears at: nothing of the log from here on counts.
    pub ends: Place,
    /// An operation of the branch that stays.
    pub first: (OperationId, Vec<u8>),
    /// An operation of the branch that does not; not projected.
    pub second: (OperationId, Vec<u8>),
    /// Its body, unless erased.
    pub second_body: Option<Vec<u8>>,
}

/// Names the operations, shows no content.
impl std::fmt::Debug for ForkProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForkProof")
            .field("seq_num", &self.seq_num)
            .field("ends", &self.ends)
            .field("first", &self.first.0)
            .field("second", &self.second.0)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// What an author's log lacks, lowest first.
    pub fn log_holes(&self, author: &Author, log: &LogId) -> Result<Vec<LogHole>, StoreError> {
        self.all(
            "SELECT from_seq, to_seq FROM log_hole WHERE author = ?1 AND log = ?2 ORDER BY from_seq",
            [author.0, log.0],
            |row| Ok(LogHole { from: row.get(0)?, to: row.get(1)? }),
        )
    }

    /// The proof that ended an author's log.
    pub fn fork_proof(&self, author: &Author, log: &LogId) -> Result<Option<ForkProof>, StoreError> {
        let found = self.one(
            "SELECT seq_num, ends, first_hash, first_header, second_hash, second_header, second_body
             FROM fork_proof WHERE author = ?1 AND log = ?2",
            [author.0, log.0],
            |row| {
                Ok(ForkProof {
                    seq_num: row.get(0)?,
                    ends: Place::from_bytes(row.get(1)?),
                    first: (OperationId(row.get(2)?), row.get(3)?),
                    second: (OperationId(row.get(4)?), row.get(5)?),
                    second_body: row.get(6)?,
                })
            },
        )?;
        let Some(mut proof) = found else { return Ok(None) };
        let body = proof.second_body.take();
        let unseal = |body| self.unseal_body(Column::ForkBody, &proof.second.0, body);
        proof.second_body = body.map(unseal).transpose()?;
        Ok(Some(proof))
    }

    /// The place a fork ended a log at.
    pub(crate) fn log_end(&self, author: &Author, log: &LogId) -> Result<Option<Place>, StoreError> {
        self.one("SELECT ends FROM fork_proof WHERE author = ?1 AND log = ?2", [author.0, log.0], |row| {
            row.get(0).map(Place::from_bytes)
        })
    }

    /// The hole a missing number lies in.
    pub(crate) fn hole_around(
        &self,
        author: &Author,
        log: &LogId,
        seq_num: u32,
    ) -> Result<Option<LogHole>, StoreError> {
        let hole = self.one(
            "SELECT from_seq, to_seq FROM log_hole WHERE author = ?1 AND log = ?2 AND from_seq <= ?3
             ORDER BY from_seq DESC LIMIT 1",
            params![author.0, log.0, seq_num],
            |row| Ok(LogHole { from: row.get(0)?, to: row.get(1)? }),
        )?;
        Ok(hole.filter(|hole| hole.to >= seq_num))
    }

    /// Whether something this device never read may lie before `place` in the log: an evicted range, a range to be
    /// read again, or an epoch it has no key for.
    pub(crate) fn may_lack(&self, log: &LogId, topic: TopicId, place: Place) -> Result<bool, StoreError> {
        let found: Option<bool> = self.one(
            "SELECT EXISTS (SELECT 1 FROM topic CROSS JOIN gap USING (topic) WHERE topic.log = ?1
                        AND (topic.epoch < ?2 OR (topic.topic = ?3 AND (gap.resets, gap.from_seq) < (?4, ?5))))
                 OR EXISTS (SELECT 1 FROM topic CROSS JOIN refetch USING (topic) WHERE topic.log = ?1
                        AND (topic.epoch < ?2 OR (topic.topic = ?3
                            AND (refetch.resets, refetch.from_seq) < (?4, ?5))))
                 OR (SELECT count(DISTINCT epoch) FROM topic WHERE log = ?1 AND epoch < ?2) < ?2",
            params![log.0, place.epoch, topic.0, place.resets, int(place.seq.0)],
            |row| row.get(0),
        )?;
        Ok(found.unwrap_or(false))
    }
}

impl Tx<'_> {
    pub(crate) fn put_hole(&self, author: &Author, log: &LogId, hole: LogHole) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO log_hole (author, log, from_seq, to_seq) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (author, log, from_seq) DO UPDATE SET to_seq = excluded.to_seq",
            params![author.0, log.0, hole.from, hole.to],
        )
        .map(drop)
    }

    pub(crate) fn remove_hole(&self, author: &Author, log: &LogId, hole: LogHole) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM log_hole WHERE author = ?1 AND log = ?2 AND from_seq = ?3",
            params![author.0, log.0, hole.from],
        )
        .map(drop)
    }

    /// Writes the holes of a log anew from what is stored of it.
    pub(crate) fn recount_holes(&self, author: &Author, log: &LogId) -> Result<(), StoreError> {
        self.run("DELETE FROM log_hole WHERE author = ?1 AND log = ?2", [author.0, log.0])?;
        self.run(
            "INSERT INTO log_hole (author, log, from_seq, to_seq)
             SELECT ?1, ?2, below + 1, seq_num - 1 FROM (
                 SELECT seq_num, lag(seq_num, 1, -1) OVER (ORDER BY seq_num) AS below
                 FROM operations WHERE author = ?1 AND log = ?2)
             WHERE seq_num > below + 1",
            [author.0, log.0],
        )
        .map(drop)
    }

    /// What is stored of a log at or after a place: first places count, operations without one are last.
    pub(crate) fn stored_from(
        &self,
        author: &Author,
        log: &LogId,
        end: Place,
    ) -> Result<Vec<StoredPlace>, StoreError> {
        let all = self.places(author, log, 0, u32::MAX)?;
        Ok(all.into_iter().filter(|stored| stored.first >= end).collect())
    }

    /// Takes the places of an operation that stays in its log: no server has it.
    pub(crate) fn take_place(
        &self,
        author: &Author,
        log: &LogId,
        stored: &StoredPlace,
    ) -> Result<(), StoreError> {
        for place in [stored.first, stored.place] {
            if let Some(Receipt { topic, .. }) = self.receipt_of(log, place)? {
                self.remove_placement(topic, place)?;
            }
        }
        self.run(
            "UPDATE operations SET first = NULL, place = NULL, received_ms = NULL, pos = ?4
             WHERE author = ?1 AND log = ?2 AND seq_num = ?3",
            params![author.0, log.0, stored.seq_num, Place::UNPLACED.to_bytes()],
        )
        .map(drop)
    }

    /// Takes a stored operation out of its log; gives where it was received and its bytes.
    pub(crate) fn take_out(
        &self,
        author: &Author,
        log: &LogId,
        stored: &StoredPlace,
    ) -> Result<Option<WaitingForPredecessor>, StoreError> {
        let taken = match (self.operation(&stored.id)?, self.receipt_of(log, stored.place)?) {
            (
                Some(StoredOperation { id, seq_num, backlink, header, body: Some(body), .. }),
                Some(receipt),
            ) => {
                let (author, log) = (*author, *log);
                Some(WaitingForPredecessor { receipt, id, author, log, seq_num, backlink, header, body })
            }
            _ => None,
        };
        self.remove_operation(author, log, stored.seq_num)?;
        for place in [stored.first, stored.place] {
            if let Some(Receipt { topic, .. }) = self.receipt_of(log, place)? {
                self.remove_placement(topic, place)?;
            }
        }
        Ok(taken)
    }

    /// Notes that what was erased from a log must be read again: the delete that erased it does not count. What was
    /// pruned does not come back.
    pub(crate) fn refetch_erased(&self, author: &Author, log: &LogId) -> Result<(), StoreError> {
        let erased = self.all(
            "SELECT o.place FROM operations o
             LEFT JOIN message m ON m.entry = o.entry
             WHERE o.author = ?1 AND o.log = ?2 AND o.body IS NULL AND o.place IS NOT NULL
               AND o.erased <> 4 AND m.deleted_by IS NULL",
            [author.0, log.0],
            |row| row.get(0).map(Place::from_bytes),
        )?;
        for place in erased {
            if let Some(Receipt { topic, generation, .. }) = self.receipt_of(log, place)? {
                let range = SeqRange { resets: place.resets, from: place.seq, to: place.seq };
                self.add_refetch(topic, generation, range)?;
            }
        }
        Ok(())
    }

    fn receipt_of(&self, log: &LogId, place: Place) -> Result<Option<Receipt>, StoreError> {
        self.one(
            "SELECT topic.topic, generation, received_ms FROM topic JOIN placement USING (topic)
             WHERE log = ?1 AND epoch = ?2 AND resets = ?3 AND seq = ?4",
            params![log.0, place.epoch, place.resets, int(place.seq.0)],
            |row| {
                let (topic, generation) = (TopicId(row.get(0)?), Generation(row.get(1)?));
                Ok(Receipt { topic, generation, place, received: Millis(uint(row.get(2)?)) })
            },
        )
    }

    /// The topic of a log's epoch.
    pub(crate) fn topic_at(&self, log: &LogId, epoch: u32) -> Result<Option<TopicId>, StoreError> {
        self.one("SELECT topic FROM topic WHERE log = ?1 AND epoch = ?2", params![log.0, epoch], |row| {
            row.get(0).map(TopicId)
        })
    }

    /// Everything in the read model that an author's operations in a log decide: also about messages of others.
    pub(crate) fn rows_of(&self, author: &Author, log: &LogId) -> Result<Vec<Change>, StoreError> {
        let ids = |sql| self.all(sql, [author.0, log.0], |row| row.get::<_, [u8; 32]>(0));
        let change = |aggregate, ids| Change::new(*log, aggregate, ids);
        let keys = self.keys_of(author, log)?;
        let changes = vec![
            Change { keys, ..change(Aggregate::KeyValue, Vec::new()) },
            change(
                Aggregate::Message,
                ids("SELECT m.id FROM operations o JOIN message m ON m.entry = o.entry
                     WHERE o.author = ?1 AND o.log = ?2
                     UNION ALL SELECT target FROM message_edit WHERE author = ?1 AND log = ?2
                     UNION ALL SELECT target FROM message_delete WHERE author = ?1 AND log = ?2")?,
            ),
            change(Aggregate::Reaction, ids("SELECT target FROM reaction WHERE author = ?1 AND log = ?2")?),
            change(
                Aggregate::Document,
                ids("SELECT id FROM document WHERE author = ?1 AND log = ?2
                     UNION SELECT document FROM document_part WHERE author = ?1 AND log = ?2")?,
            ),
            change(Aggregate::Profile, ids("SELECT author FROM profile WHERE author = ?1 AND log = ?2")?),
        ];
        Ok(changes.into_iter().filter(|change| !change.ids.is_empty() || !change.keys.is_empty()).collect())
    }

    /// Keeps the proof that ended a log; an earlier one gives way.
    pub(crate) fn put_fork_proof(
        &self,
        author: &Author,
        log: &LogId,
        proof: &ForkProof,
    ) -> Result<(), StoreError> {
        let seal = |body| self.seal_body(Column::ForkBody, &proof.second.0, body);
        let second_body = proof.second_body.as_deref().map(seal).transpose()?;
        self.run(
            "INSERT INTO fork_proof (author, log, seq_num, ends, first_hash, first_header, second_hash,
                 second_header, second_body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (author, log) DO UPDATE SET seq_num = excluded.seq_num, ends = excluded.ends,
                 first_hash = excluded.first_hash, first_header = excluded.first_header,
                 second_hash = excluded.second_hash, second_header = excluded.second_header,
                 second_body = excluded.second_body",
            params![
                author.0,
                log.0,
                proof.seq_num,
                proof.ends.to_bytes(),
                proof.first.0.0,
                proof.first.1,
                proof.second.0.0,
                proof.second.1,
                second_body,
            ],
        )?;
        self.release_head(author, log)?;
        self.run("UPDATE heads SET ended = 1 WHERE author = ?1 AND log = ?2", [author.0, log.0]).map(drop)
    }
}
