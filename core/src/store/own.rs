//! A person's own devices: which were revoked, and how far another one has read.

use rusqlite::params;
use zeroize::Zeroizing;

use super::db::{Db, int};
use super::error::StoreError;
use super::secrets::Column;
use super::tx::Tx;
use crate::identity::{Author, LogId, OperationId, Revocation};
use crate::limits::{MAX_READ_AHEAD, MAX_TOPICS};
use crate::ops::Ticket;
use crate::projector::{Place, Position};
use crate::tree::{IntoTree, Set};

/// What the body of a read marker begins with, after the first byte: its kind.
const READ_MARKER: &[u8] = b"\x00\x68read.set";

/// Under which name a ticket of the topic of a person's devices is kept.
const OWN_TOPIC: &str = "own-topic";

impl Db {
    /// A ticket of the topic that the person's devices share: of the epoch in which this device made it, or was given it when
    /// it was paired last. The topic may have moved on since.
    pub fn own_topic(&self) -> Result<Option<Ticket>, StoreError> {
        let Some(stored) = self.setting(OWN_TOPIC)? else { return Ok(None) };
        let text = self.unseal(Column::OwnTopic, &[], stored)?;
        Ok(std::str::from_utf8(&text).ok().and_then(|text| Ticket::parse(text).ok()))
    }

    /// Devices of this device's person that were revoked.
    pub fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        let rows = self.all("SELECT revocation FROM revoked_device ORDER BY device", [], |row| {
            row.get::<_, Vec<u8>>(0)
        })?;
        Ok(rows.iter().filter_map(|bytes| Revocation::from_bytes(bytes).ok()).collect())
    }

    /// The same, by their keys.
    pub fn revoked_devices(&self) -> Result<Set<Author>, StoreError> {
        Ok(self.revocations()?.into_iter().map(|revocation| revocation.device).into_set())
    }

    /// Whether this device's person has revoked a device.
    pub fn is_revoked(&self, device: &Author) -> Result<bool, StoreError> {
        let found = self.one("SELECT 1 FROM revoked_device WHERE device = ?1", [device.0], |_| Ok(()))?;
        Ok(found.is_some())
    }

    /// The operation at a position of a conversation.
    pub fn operation_at(&self, log: &LogId, at: &Position) -> Result<Option<OperationId>, StoreError> {
        self.one(
            "SELECT hash FROM operations WHERE author = ?1 AND log = ?2 AND seq_num = ?3",
            params![at.author.0, log.0, at.seq_num],
            |row| row.get(0).map(OperationId),
        )
    }

    /// The ids and bodies of what a device of the person said among the person's devices, the newest first. Its read
    /// markers, which are many, are not among them.
    pub(crate) fn said_among_own(
        &self,
        author: &Author,
        own: &LogId,
    ) -> Result<Vec<(OperationId, Vec<u8>)>, StoreError> {
        let rows = self.all(
            "SELECT hash, body FROM operations WHERE author = ?1 AND log = ?2 AND body IS NOT NULL
                 AND substr(body, 2, 10) <> ?3 ORDER BY seq_num DESC LIMIT ?4",
            params![author.0, own.0, READ_MARKER, int(MAX_TOPICS as u64)],
            |row| Ok((OperationId(row.get(0)?), row.get(1)?)),
        )?;
        let unsealed = |(id, body)| Ok((id, self.unseal_body(Column::OperationBody, &id, body)?));
        rows.into_iter().map(unsealed).collect()
    }

    /// Where a message is shown; `None`: it is not here.
    fn position_of(&self, log: &LogId, message: &OperationId) -> Result<Option<Position>, StoreError> {
        self.one(
            "SELECT pos, author, seq_num FROM operations
             WHERE substr(hash, 1, 8) = substr(?2, 1, 8) AND hash = ?2 AND log = ?1 AND place IS NOT NULL",
            [log.0, message.0],
            |row| position(row, 0),
        )
    }
}

impl Tx<'_> {
    /// Keeps it.
    pub(crate) fn set_own_topic(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let text = Zeroizing::new(ticket.to_string());
        self.set_setting(OWN_TOPIC, &self.seal(Column::OwnTopic, &[], text.as_bytes())?)
    }

    /// Keeps a revocation that was checked.
    pub(crate) fn put_revocation(&self, revocation: &Revocation) -> Result<(), StoreError> {
        self.run(
            "INSERT OR IGNORE INTO revoked_device (device, revocation) VALUES (?1, ?2)",
            params![revocation.device.0, revocation.to_bytes()],
        )
        .map(drop)
    }

    /// Another device of the person has read up to a message, as it says in its operation with this number. Whether the
    /// marker moved.
    pub(crate) fn read_elsewhere(
        &self,
        (device, seq_num): (&Author, u32),
        log: &LogId,
        message: &OperationId,
    ) -> Result<bool, StoreError> {
        if let Some(position) = self.position_of(log, message)? {
            return self.set_read(log, &position);
        }
        // Of each device the newest, and of all these the ones that came last.
        self.run(
            "INSERT INTO read_ahead (entry, log, device, seq_num, message)
             SELECT ifnull(max(entry), 0) + 1, ?1, ?2, ?3, ?4 FROM read_ahead WHERE true
             ON CONFLICT (log, device) DO UPDATE SET entry = excluded.entry, seq_num = excluded.seq_num,
                 message = excluded.message WHERE excluded.seq_num > read_ahead.seq_num",
            params![log.0, device.0, seq_num, message.0],
        )?;
        self.run(
            "DELETE FROM read_ahead WHERE entry <=
                 (SELECT entry FROM read_ahead ORDER BY entry DESC LIMIT 1 OFFSET ?1)",
            [int(MAX_READ_AHEAD as u64)],
        )?;
        Ok(false)
    }

    /// Moves the marker to messages that have come since another device had read them. Gives where it moved.
    pub(crate) fn catch_up_reading(&self, log: &LogId) -> Result<bool, StoreError> {
        let ahead = self.all(
            "SELECT r.entry, o.pos, o.author, o.seq_num FROM read_ahead r
             JOIN operations o ON substr(o.hash, 1, 8) = substr(r.message, 1, 8) AND o.hash = r.message
             WHERE r.log = ?1 AND o.log = ?1 AND o.place IS NOT NULL",
            [log.0],
            |row| Ok((row.get::<_, i64>(0)?, position(row, 1)?)),
        )?;
        let mut moved = false;
        for (entry, position) in ahead {
            moved |= self.set_read(log, &position)?;
            self.run("DELETE FROM read_ahead WHERE entry = ?1", [entry])?;
        }
        Ok(moved)
    }
}

/// Where an operation stands, from the columns `pos, author, seq_num`.
fn position(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Position> {
    let (place, author) = (Place::from_bytes(row.get(first)?), Author(row.get(first + 1)?));
    Ok(Position { place, author, seq_num: row.get(first + 2)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Store};

    fn key(number: usize) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        key
    }

    fn ahead(tx: &Tx<'_>) -> Vec<(LogId, OperationId)> {
        let rows = tx.all("SELECT log, message FROM read_ahead ORDER BY entry", [], |row| {
            Ok((LogId(row.get(0)?), OperationId(row.get(1)?)))
        });
        rows.unwrap()
    }

    #[test]
    fn of_what_others_have_read_and_is_not_here_the_newest_of_so_many_is_remembered() {
        let mut store = Store::in_memory().unwrap();
        let tx = store.begin(Durability::Normal).unwrap();
        let sister = Author([1; 32]);
        let read = |log: usize, seq_num: u32, message: usize| {
            let (log, message) = (LogId(key(log)), OperationId(key(message)));
            assert!(!tx.read_elsewhere((&sister, seq_num), &log, &message).unwrap());
        };
        // However far somebody reads in one conversation takes the place of one.
        for number in 0..10 {
            read(0, number, number as usize);
        }
        read(0, 5, 99);
        assert_eq!(ahead(&tx), [(LogId(key(0)), OperationId(key(9)))], "the last that it said");
        let other = Author([2; 32]);
        tx.read_elsewhere((&other, 0), &LogId(key(0)), &OperationId(key(3))).unwrap();
        assert_eq!(ahead(&tx).len(), 2, "of each device");
        for log in 1..MAX_READ_AHEAD - 1 {
            read(log, 0, log);
        }
        let full = ahead(&tx);
        assert_eq!((full.len(), full[0].1), (MAX_READ_AHEAD, OperationId(key(9))), "at the limit");
        read(MAX_READ_AHEAD, 0, 7);
        let after = ahead(&tx);
        assert_eq!(after[..MAX_READ_AHEAD - 1], full[1..], "one past it the oldest gives way");
        assert_eq!(after.last(), Some(&(LogId(key(MAX_READ_AHEAD)), OperationId(key(7)))));
        // What is said anew is new.
        read(1, 1, 8);
        assert_eq!(ahead(&tx).last(), Some(&(LogId(key(1)), OperationId(key(8)))));
        assert_eq!(ahead(&tx).len(), MAX_READ_AHEAD);
    }
}
