//! A person's own devices: which were revoked, and how far another one has read.

use std::collections::BTreeSet;

use rusqlite::params;
use zeroize::Zeroizing;

use super::db::{Db, int};
use super::error::StoreError;
use super::secrets::Column;
use super::tx::Tx;
use crate::identity::{Author, LogId, OperationId, Revocation};
use crate::ops::Ticket;
use crate::projector::{Place, Position};
use crate::tree::IntoTree;

/// Most messages that another device has read and that are not here yet.
const MAX_READ_AHEAD: usize = 4096;

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
    pub fn revoked_devices(&self) -> Result<BTreeSet<Author>, StoreError> {
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

    /// Another device of the person has read up to a message. Whether the marker moved.
    pub(crate) fn read_elsewhere(&self, log: &LogId, message: &OperationId) -> Result<bool, StoreError> {
        match self.position_of(log, message)? {
            Some(position) => self.set_read(log, &position),
            None => {
                self.run(
                    "INSERT INTO read_ahead (log, message)
                     SELECT ?1, ?2 WHERE (SELECT count(*) FROM read_ahead) < ?3 ON CONFLICT DO NOTHING",
                    params![log.0, message.0, int(MAX_READ_AHEAD as u64)],
                )?;
                Ok(false)
            }
        }
    }

    /// Moves the marker to messages that have come since another device had read them. Gives where it moved.
    pub(crate) fn catch_up_reading(&self, log: &LogId) -> Result<bool, StoreError> {
        let ahead = self.all(
            "SELECT r.message, o.pos, o.author, o.seq_num FROM read_ahead r
             JOIN operations o ON substr(o.hash, 1, 8) = substr(r.message, 1, 8) AND o.hash = r.message
             WHERE r.log = ?1 AND o.log = ?1 AND o.place IS NOT NULL",
            [log.0],
            |row| Ok((OperationId(row.get(0)?), position(row, 1)?)),
        )?;
        let mut moved = false;
        for (message, position) in ahead {
            moved |= self.set_read(log, &position)?;
            self.run("DELETE FROM read_ahead WHERE log = ?1 AND message = ?2", params![log.0, message.0])?;
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

    #[test]
    fn so_many_messages_that_others_have_read_and_are_not_here_are_remembered() {
        let mut store = Store::in_memory().unwrap();
        let tx = store.begin(Durability::Normal).unwrap();
        let count =
            || tx.one("SELECT count(*) FROM read_ahead", [], |row| row.get::<_, i64>(0)).unwrap().unwrap();
        let message = |number: usize| {
            let mut id = OperationId([0; 32]);
            id.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
            id
        };
        let log = LogId([1; 32]);
        for number in 0..MAX_READ_AHEAD {
            tx.read_elsewhere(&log, &message(number)).unwrap();
        }
        assert_eq!(count(), MAX_READ_AHEAD as i64);
        tx.read_elsewhere(&log, &message(0)).unwrap();
        tx.read_elsewhere(&log, &message(MAX_READ_AHEAD)).unwrap();
        assert_eq!(count(), MAX_READ_AHEAD as i64, "one past it is not");
    }
}
