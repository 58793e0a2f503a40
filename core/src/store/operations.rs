//! Operations, the ends of their logs, and where servers put them.

use rusqlite::{Row, params};

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::secrets::Column;
use super::tx::{Kept, Tx};
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::ops::{SignedBytes, VerifiedOperation};
use crate::projector::{Erased, Place};
use crate::topic::{Generation, Seq, TopicId};

/// An operation to store. Made from a [`VerifiedOperation`] (or from a row that was).
#[derive(Clone, Copy, Debug)]
pub struct NewOperation<'a> {
    /// BLAKE3 of the header.
    pub id: OperationId,
    /// Who signed it.
    pub author: Author,
    /// In which conversation.
    pub log: LogId,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// The operation before it.
    pub backlink: Option<OperationId>,
    /// The encoded header.
    pub header: &'a [u8],
    /// The encoded body.
    pub body: &'a [u8],
}

impl<'a> From<&'a VerifiedOperation> for NewOperation<'a> {
    fn from(op: &'a VerifiedOperation) -> Self {
        Self {
            id: op.id(),
            author: op.author(),
            log: op.log(),
            seq_num: op.seq_num(),
            backlink: op.backlink(),
            header: op.header(),
            body: op.body_bytes(),
        }
    }
}

/// This device's number for a stored operation, shared by its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(super) i64);

/// An operation that is handed to another device of the person.
pub(crate) struct PastOperation {
    /// This device's number for it.
    pub(crate) entry: u64,
    /// Where it stands.
    pub(crate) place: Place,
    /// Header and body.
    pub(crate) operation: SignedBytes,
}

/// A stored operation.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredOperation {
    /// BLAKE3 of the header.
    pub id: OperationId,
    /// Who signed it.
    pub author: Author,
    /// In which conversation.
    pub log: LogId,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// The operation before it.
    pub backlink: Option<OperationId>,
    /// The encoded header.
    pub header: Vec<u8>,
    /// The encoded body; `None` when it was erased.
    pub body: Option<Vec<u8>>,
}

/// Names the operation and shows nothing of its content.
impl std::fmt::Debug for StoredOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredOperation")
            .field("id", &self.id)
            .field("author", &self.author)
            .field("seq_num", &self.seq_num)
            .finish_non_exhaustive()
    }
}

/// A stored operation without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPlace {
    /// The operation.
    pub id: OperationId,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// The operation before it.
    pub backlink: Option<OperationId>,
    /// The earliest place it was ever seen at; [`Place::UNPLACED`] when none.
    pub first: Place,
    /// Where it lives now; [`Place::UNPLACED`] when not acknowledged.
    pub place: Place,
    /// Where it is shown.
    pub position: Place,
    /// Whether its body was erased, and is taken again where it comes again. (A pruned one is not.)
    pub erased: bool,
}

/// The end of an author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last operation's number.
    pub seq_num: u32,
    /// The last operation.
    pub id: OperationId,
    /// Where it is shown.
    pub position: Place,
    /// A fork ended the log.
    pub ended: bool,
}

macro_rules! select_place {
    ($rest:literal) => {
        concat!(
            "SELECT hash, seq_num, backlink, first, place, pos, body IS NULL AND erased <> 4, author, log FROM operations ",
            $rest
        )
    };
}

impl Db {
    /// The end of an author's log, as stored. An open transaction may know better: see [`Tx::head`].
    pub fn stored_head(&self, author: &Author, log: &LogId) -> Result<Option<Head>, StoreError> {
        self.one(
            "SELECT seq_num, hash, pos, ended FROM heads WHERE author = ?1 AND log = ?2",
            [author.0, log.0],
            |row| {
                let (seq_num, id) = (row.get(0)?, OperationId(row.get(1)?));
                Ok(Head { seq_num, id, position: Place::from_bytes(row.get(2)?), ended: row.get(3)? })
            },
        )
    }

    /// One operation.
    pub fn operation(&self, id: &OperationId) -> Result<Option<StoredOperation>, StoreError> {
        let found = self.one(
            "SELECT hash, author, log, seq_num, backlink, header, body FROM operations WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1",
            [id.0],
            operation_row,
        )?;
        found.map(|found| self.unsealed(found)).transpose()
    }

    fn unsealed(&self, mut operation: StoredOperation) -> Result<StoredOperation, StoreError> {
        let body = operation.body.take();
        operation.body =
            body.map(|body| self.unseal_body(Column::OperationBody, &operation.id, body)).transpose()?;
        Ok(operation)
    }

    /// Header and body of an operation, unless its body was erased.
    #[allow(clippy::type_complexity, reason = "two byte strings")]
    pub fn operation_bytes(&self, id: &OperationId) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let found = self.one("SELECT header, body FROM operations WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1 AND body IS NOT NULL", [id.0], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        let Some((header, body)) = found else { return Ok(None) };
        Ok(Some((header, self.unseal_body(Column::OperationBody, id, body)?)))
    }

    /// Where an operation is, by id.
    pub fn place_of(&self, id: &OperationId) -> Result<Option<StoredPlace>, StoreError> {
        Ok(self.located(id)?.map(|(_, _, place)| place))
    }

    /// What an author said in a log and no server has placed yet.
    pub(crate) fn unplaced(&self, author: &Author, log: &LogId) -> Result<Vec<OperationId>, StoreError> {
        self.all(
            "SELECT hash FROM operations WHERE author = ?1 AND log = ?2 AND place IS NULL ORDER BY seq_num",
            [author.0, log.0],
            |row| row.get(0).map(OperationId),
        )
    }

    /// The first place at which an operation and all before it in its author's log could be read. `None`: nowhere yet.
    pub(crate) fn readable_from(&self, id: &OperationId) -> Result<Option<Place>, StoreError> {
        let Some((author, log, stored)) = self.located(id)?.filter(|(.., stored)| stored.first.is_placed())
        else {
            return Ok(None);
        };
        let last = self.one(
            "SELECT max(first) FROM operations WHERE author = ?1 AND log = ?2 AND seq_num <= ?3",
            params![author.0, log.0, stored.seq_num],
            |row| row.get::<_, Option<[u8; Place::LEN]>>(0),
        )?;
        Ok(last.flatten().map(Place::from_bytes))
    }

    /// Where an operation is and in whose log, by id.
    pub(crate) fn located(
        &self,
        id: &OperationId,
    ) -> Result<Option<(Author, LogId, StoredPlace)>, StoreError> {
        self.one(select_place!("WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1"), [id.0], |row| {
            Ok((Author(row.get(7)?), LogId(row.get(8)?), place_row(row)?))
        })
    }

    /// Operations of one log with `from <= seq_num <= to`, without their bytes.
    pub(crate) fn places(
        &self,
        author: &Author,
        log: &LogId,
        from: u32,
        to: u32,
    ) -> Result<Vec<StoredPlace>, StoreError> {
        self.all(
            select_place!("WHERE author = ?1 AND log = ?2 AND seq_num BETWEEN ?3 AND ?4 ORDER BY seq_num"),
            params![author.0, log.0, from, to],
            place_row,
        )
    }

    /// Operations of one log with `from <= seq_num <= to`, at most `limit`.
    pub fn log_entries(
        &self,
        author: &Author,
        log: &LogId,
        from: u32,
        to: u32,
        limit: usize,
    ) -> Result<Vec<StoredOperation>, StoreError> {
        let rows = self.all(
            "SELECT hash, author, log, seq_num, backlink, header, body FROM operations
             WHERE author = ?1 AND log = ?2 AND seq_num BETWEEN ?3 AND ?4 ORDER BY seq_num LIMIT ?5",
            params![author.0, log.0, from, to, int(limit as u64)],
            operation_row,
        )?;
        rows.into_iter().map(|row| self.unsealed(row)).collect()
    }

    /// What an author said in a log that has a place, after an entry of this device's: the newest, at most `limit`.
    pub(crate) fn past_operations(
        &self,
        author: &Author,
        log: &LogId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PastOperation>, StoreError> {
        let rows = self.all(
            "SELECT entry, place, hash, header, body FROM operations
             WHERE author = ?1 AND log = ?2 AND entry > ?3 AND place IS NOT NULL AND body IS NOT NULL
             ORDER BY seq_num DESC LIMIT ?4",
            params![author.0, log.0, int(after), int(limit as u64)],
            |row| {
                let (entry, place) = (uint(row.get(0)?), Place::from_bytes(row.get(1)?));
                let operation = SignedBytes { header: row.get(3)?, body: row.get(4)? };
                Ok((PastOperation { entry, place, operation }, OperationId(row.get(2)?)))
            },
        )?;
        let unseal = |(mut past, id): (PastOperation, OperationId)| {
            past.operation.body = self.unseal_body(Column::OperationBody, &id, past.operation.body)?;
            Ok(past)
        };
        rows.into_iter().map(unseal).collect()
    }

    /// Operations that an older copy of the topic's log held and the copy at hand (after `resets` resets) does not,
    /// above everything that had been evicted from the older copy, in its order. Erased ones cannot be delivered
    /// again and are left out; so is what the copy at hand holds and has evicted, as far as this device can know it:
    /// a server put back to an older state still has the generation, and the same operations at the same places. (It
    /// would take them for duplicates and stay silent, and nothing would ever end the delivery.)
    pub fn missing_after_reset(
        &self,
        topic: TopicId,
        generation: &Generation,
        resets: u32,
    ) -> Result<Vec<OperationId>, StoreError> {
        let rows = self.all(
            "SELECT p.operation, o.place, p.resets, p.seq FROM placement p
             JOIN operations o ON substr(o.hash, 1, 8) = substr(p.operation, 1, 8) AND o.hash = p.operation
             WHERE p.topic = ?1 AND p.resets < ?2 AND o.body IS NOT NULL AND p.seq > ifnull(
                 (SELECT max(to_seq) FROM gap WHERE gap.topic = ?1 AND gap.resets = p.resets), 0)
               AND NOT (p.generation = ?3 AND p.seq <= ifnull(
                 (SELECT max(to_seq) FROM gap WHERE gap.topic = ?1 AND gap.resets = ?2), 0))
             ORDER BY p.resets, p.seq",
            params![topic.0, resets, generation.0],
            |row| {
                let place = row.get::<_, Option<[u8; 16]>>(1)?.map_or(Place::UNPLACED, Place::from_bytes);
                let row_place = (row.get::<_, u32>(2)?, Seq(uint(row.get(3)?)));
                Ok((OperationId(row.get(0)?), (place.resets, place.seq) == row_place))
            },
        )?;
        // A row left behind by an operation that was placed twice in one copy does not count.
        Ok(rows.into_iter().filter_map(|(id, current)| current.then_some(id)).collect())
    }
}

impl Tx<'_> {
    /// Inserts an operation, with its place unless this device has just made it; gives its entry.
    pub(crate) fn put_operation(
        &self,
        op: &NewOperation<'_>,
        place: Option<(Place, Millis)>,
        position: Place,
    ) -> Result<Entry, StoreError> {
        let bytes = place.map(|(place, _)| place.to_bytes());
        self.run_kept(
            Kept::Operation,
            "INSERT INTO operations (author, log, seq_num, hash, backlink, first, place, pos, received_ms, header, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10)",
            params![
                op.author.0,
                op.log.0,
                op.seq_num,
                op.id.0,
                op.backlink.map(|id| id.0),
                bytes,
                position.to_bytes(),
                place.map(|(_, received)| int(received.0)),
                op.header,
                self.seal_body(Column::OperationBody, &op.id, op.body)?,
            ],
        )?;
        Ok(Entry(self.last_insert_rowid()))
    }

    /// Notes where a server put an operation.
    pub(crate) fn put_placement(
        &self,
        topic: TopicId,
        place: Place,
        operation: &OperationId,
        generation: Generation,
        received: Millis,
    ) -> Result<(), StoreError> {
        self.run_kept(
            Kept::Placement,
            "INSERT INTO placement (topic, resets, seq, operation, generation, received_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            params![topic.0, place.resets, int(place.seq.0), operation.0, generation.0, int(received.0)],
        )
        .map(drop)
    }

    /// Forgets a place that a newer reset has replaced.
    pub(crate) fn remove_placement(&self, topic: TopicId, place: Place) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM placement WHERE topic = ?1 AND resets = ?2 AND seq = ?3",
            params![topic.0, place.resets, int(place.seq.0)],
        )
        .map(drop)
    }

    /// Changes where an operation lives, and its message's time of receipt with it.
    pub(crate) fn move_operation(
        &self,
        author: &Author,
        log: &LogId,
        seq_num: u32,
        first: Place,
        place: Place,
        received: Option<Millis>,
    ) -> Result<(), StoreError> {
        let received = received.map(|at| int(at.0));
        self.run(
            "UPDATE operations SET first = ?4, place = ?5, received_ms = ifnull(?6, received_ms)
             WHERE author = ?1 AND log = ?2 AND seq_num = ?3",
            params![author.0, log.0, seq_num, first.to_bytes(), place.to_bytes(), received],
        )?;
        self.run(
            "UPDATE message SET received_ms = ifnull(?4, received_ms) WHERE entry =
                 (SELECT entry FROM operations WHERE author = ?1 AND log = ?2 AND seq_num = ?3)",
            params![author.0, log.0, seq_num, received],
        )
        .map(drop)
    }

    /// Erases the body of an operation; header and hash stay.
    pub(crate) fn erase_body(
        &self,
        author: &Author,
        log: &LogId,
        seq_num: u32,
        was: Erased,
    ) -> Result<(), StoreError> {
        self.run(
            "UPDATE operations SET body = NULL, erased = ?4 WHERE author = ?1 AND log = ?2 AND seq_num = ?3",
            params![author.0, log.0, seq_num, erased_code(was)],
        )
        .map(drop)
    }

    /// Gives an operation its body back, when it came again and nothing deletes it any more; gives its entry.
    pub(crate) fn restore_body(&self, op: &NewOperation<'_>) -> Result<Entry, StoreError> {
        let entry = self.one(
            "UPDATE operations SET body = ?4, erased = 0 WHERE author = ?1 AND log = ?2 AND seq_num = ?3
             RETURNING entry",
            params![
                op.author.0,
                op.log.0,
                op.seq_num,
                self.seal_body(Column::OperationBody, &op.id, op.body)?
            ],
            |row| row.get(0).map(Entry),
        )?;
        entry.ok_or_else(|| self.missing_row("operations"))
    }

    /// Takes an operation out; its message goes with it.
    pub(crate) fn remove_operation(
        &self,
        author: &Author,
        log: &LogId,
        seq_num: u32,
    ) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM operations WHERE author = ?1 AND log = ?2 AND seq_num = ?3",
            params![author.0, log.0, seq_num],
        )
        .map(drop)
    }

    /// Puts the end of a log back to its highest stored operation.
    pub(crate) fn recount_head(&self, author: &Author, log: &LogId, ended: bool) -> Result<(), StoreError> {
        self.release_head(author, log)?;
        self.run("DELETE FROM heads WHERE author = ?1 AND log = ?2", [author.0, log.0])?;
        self.run(
            "INSERT INTO heads (author, log, seq_num, hash, pos, ended)
             SELECT author, log, seq_num, hash, pos, ?3 FROM operations WHERE author = ?1 AND log = ?2
             ORDER BY seq_num DESC LIMIT 1",
            params![author.0, log.0, ended],
        )
        .map(drop)
    }
}

pub(super) const fn erased_code(was: Erased) -> i64 {
    match was {
        Erased::Message => 1,
        Erased::Edit => 2,
        Erased::Other => 3,
    }
}

pub(super) fn operation_row(row: &Row<'_>) -> rusqlite::Result<StoredOperation> {
    Ok(StoredOperation {
        id: OperationId(row.get(0)?),
        author: Author(row.get(1)?),
        log: LogId(row.get(2)?),
        seq_num: row.get(3)?,
        backlink: row.get::<_, Option<[u8; 32]>>(4)?.map(OperationId),
        header: row.get(5)?,
        body: row.get(6)?,
    })
}

fn place_row(row: &Row<'_>) -> rusqlite::Result<StoredPlace> {
    let place = |column| -> rusqlite::Result<Place> {
        Ok(row.get::<_, Option<[u8; 16]>>(column)?.map_or(Place::UNPLACED, Place::from_bytes))
    };
    Ok(StoredPlace {
        id: OperationId(row.get(0)?),
        seq_num: row.get(1)?,
        backlink: row.get::<_, Option<[u8; 32]>>(2)?.map(OperationId),
        first: place(3)?,
        place: place(4)?,
        position: place(5)?,
        erased: row.get(6)?,
    })
}
