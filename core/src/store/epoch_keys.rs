//! Keys of a space's epochs: which device was handed which, who asks again, and what reads an epoch that is over.

use rusqlite::params;
use zeroize::Zeroizing;

use super::db::{Db, uint};
use super::error::StoreError;
use super::secrets::Column;
use super::tx::Tx;
use crate::identity::{Author, LogId, OperationId};
use crate::limits::MAX_HANDED_AGAIN;
use crate::ops::{Content, EpochKeys, HandedKey, Hidden, Ticket};
use crate::projector::Fact;
use crate::space::Access;
use crate::topic::TopicId;
use crate::tree::Map;

/// A key that an operation handed to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Of which epoch.
    pub epoch: u32,
    /// Where that epoch lives.
    pub topic: TopicId,
    /// The operation.
    pub operation: OperationId,
    /// What is in it.
    pub access: Access,
}

/// What devices hold of an epoch, as far as was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Who holds what.
    pub held: Map<Author, Access>,
    /// Who is handed nothing more of it, however often it asks.
    pub spent: Vec<Author>,
}

/// Whether only managers may say it, whatever the room takes.
pub(crate) fn is_for_managers(content: &Content) -> bool {
    match content {
        Content::RoomRotate(_) => true,
        Content::EpochKeys(keys) => !matches!(**keys, EpochKeys::Ask { .. }),
        _ => false,
    }
}

impl Db {
    /// Which devices were handed the key of an epoch that lives in a topic, without those that say it does not open.
    pub fn holders(&self, log: &LogId, epoch: u32, topic: &TopicId) -> Result<Holders, StoreError> {
        let rows = self.all(
            "SELECT device, max(CASE WHEN EXISTS (SELECT 1 FROM key_ask a WHERE a.log = h.log AND a.epoch = h.epoch
                        AND a.device = h.device AND a.failed = h.operation) THEN -1 ELSE write END), count(*)
             FROM handed h WHERE log = ?1 AND epoch = ?2 AND topic = ?3 GROUP BY device",
            params![log.0, epoch, topic.0],
            |row| Ok((Author(row.get(0)?), row.get::<_, i64>(1)?, uint(row.get(2)?))),
        )?;
        let mut holders = Holders::default();
        for (device, best, times) in rows {
            match best {
                0 => drop(holders.held.insert(device, Access::Read)),
                1 => drop(holders.held.insert(device, Access::Write)),
                _ => {}
            }
            if times >= MAX_HANDED_AGAIN as u64 {
                holders.spent.push(device);
            }
        }
        Ok(holders)
    }

    /// Which operations handed the key of an epoch that lives in a topic to which device, without those of which it says
    /// that they do not open.
    pub(crate) fn handed_in(
        &self,
        log: &LogId,
        epoch: u32,
        topic: &TopicId,
    ) -> Result<Vec<(Author, OperationId)>, StoreError> {
        self.all(
            "SELECT device, operation FROM handed h WHERE log = ?1 AND epoch = ?2 AND topic = ?3 AND NOT EXISTS
                 (SELECT 1 FROM key_ask a WHERE a.log = h.log AND a.epoch = h.epoch AND a.device = h.device
                      AND a.failed = h.operation)
             ORDER BY device, operation",
            params![log.0, epoch, topic.0],
            |row| Ok((Author(row.get(0)?), OperationId(row.get(1)?))),
        )
    }

    /// The keys of a log that were handed to a device, newest epoch first.
    pub fn handed_to(&self, log: &LogId, device: &Author) -> Result<Vec<Handed>, StoreError> {
        self.all(
            "SELECT epoch, topic, operation, write FROM handed WHERE log = ?1 AND device = ?2
             ORDER BY epoch DESC, write DESC, operation",
            [log.0, device.0],
            |row| {
                let (topic, operation) = (TopicId(row.get(1)?), OperationId(row.get(2)?));
                let access = if row.get(3)? { Access::Write } else { Access::Read };
                Ok(Handed { epoch: row.get(0)?, topic, operation, access })
            },
        )
    }

    /// The logs that a space judges, its own first.
    pub fn logs_of_space(&self, space: &LogId) -> Result<Vec<LogId>, StoreError> {
        self.all("SELECT log FROM space_log WHERE space = ?1 ORDER BY room, log", [space.0], |row| {
            row.get(0).map(LogId)
        })
    }

    /// Who asks for the key of an epoch of a log, by epoch.
    pub fn key_asks(&self, log: &LogId) -> Result<Vec<(u32, Author)>, StoreError> {
        self.all(
            "SELECT DISTINCT epoch, device FROM key_ask WHERE log = ?1 ORDER BY epoch, device",
            [log.0],
            |row| Ok((row.get(0)?, Author(row.get(1)?))),
        )
    }

    /// Whether a device has asked for a key already, after this one did not open.
    pub fn has_asked(
        &self,
        log: &LogId,
        epoch: u32,
        device: &Author,
        failed: Option<OperationId>,
    ) -> Result<bool, StoreError> {
        let found = self.one(
            "SELECT 1 FROM key_ask WHERE log = ?1 AND epoch = ?2 AND device = ?3 AND failed = ?4",
            params![log.0, epoch, device.0, failed_bytes(failed)],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// What reads an epoch that is over, as it was left behind.
    pub(crate) fn past_keys(&self, log: &LogId, epoch: u32) -> Result<Vec<Ticket>, StoreError> {
        let keys = self.all(
            "SELECT write_vk, secret, operation FROM key_past WHERE log = ?1 AND epoch = ?2 ORDER BY operation",
            params![log.0, epoch],
            |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, [u8; 32]>(2)?)),
        )?;
        let mut tickets = Vec::with_capacity(keys.len());
        for (write, stored, operation) in keys {
            let secret = self.unseal_array(Column::PastKey, &operation, stored)?;
            tickets.extend(Ticket::past(*log, epoch, write, *secret));
        }
        Ok(tickets)
    }
}

impl Tx<'_> {
    /// Notes that an operation handed the key of an epoch to a device.
    pub(crate) fn put_handed(&self, log: &LogId, device: &Author, handed: &Handed) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO handed (log, epoch, device, operation, topic, write) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
            params![
                log.0,
                handed.epoch,
                device.0,
                handed.operation.0,
                handed.topic.0,
                handed.access == Access::Write
            ],
        )
        .map(drop)
    }

    /// Takes what counts in a space about keys of its epochs. In a room's log only what is about that room's past.
    pub(super) fn take_epoch_keys(
        &self,
        space: LogId,
        fact: &Fact<'_>,
        keys: &EpochKeys,
    ) -> Result<(), StoreError> {
        let own_log = fact.log == space;
        match keys {
            EpochKeys::Hand(keys) if own_log => {
                for HandedKey { log, epoch, topic, device, write, .. } in keys {
                    if self.belongs(log)?.is_some_and(|belongs| belongs.space == space) {
                        let access = if *write { Access::Write } else { Access::Read };
                        let handed = Handed { epoch: *epoch, topic: *topic, operation: fact.id, access };
                        self.put_handed(log, device, &handed)?;
                    }
                }
            }
            EpochKeys::Past { epoch, write, secret } => self.put_past(fact, *epoch, write, secret)?,
            EpochKeys::Ask { log, epoch, failed } if own_log => {
                self.put_key_ask(log, *epoch, &fact.author, *failed)?;
            }
            EpochKeys::Hand(_) | EpochKeys::Ask { .. } | EpochKeys::Welcome { .. } => {}
        }
        self.note_space_news(space);
        Ok(())
    }

    /// Notes that a device asks for the key of an epoch.
    pub(crate) fn put_key_ask(
        &self,
        log: &LogId,
        epoch: u32,
        device: &Author,
        failed: Option<OperationId>,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO key_ask (log, epoch, device, failed) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![log.0, epoch, device.0, failed_bytes(failed)],
        )
        .map(drop)
    }

    fn put_past(
        &self,
        fact: &Fact<'_>,
        epoch: u32,
        write: &[u8; 32],
        secret: &Hidden,
    ) -> Result<(), StoreError> {
        let sealed = Zeroizing::new(self.seal(Column::PastKey, &fact.id.0, &secret.0)?);
        self.run(
            "INSERT INTO key_past (log, epoch, operation, write_vk, secret) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING",
            params![fact.log.0, epoch, fact.id.0, write, &sealed[..]],
        )
        .map(drop)
    }
}

fn failed_bytes(failed: Option<OperationId>) -> Vec<u8> {
    failed.map_or_else(Vec::new, |id| id.0.to_vec())
}
