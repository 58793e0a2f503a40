//! How a database comes to be sealed, and with another key: every secret column goes from one vault to another in one
//! transaction, row by row. What stood there before is to be in no page of the file and of its log afterwards either.
//!
//! `secure_delete` overwrites what is deleted, but not what moves: a page that is put together anew keeps pieces of its
//! old content in its gap. So a database that held secrets in the clear is written anew once, from a copy that was made
//! when everything was sealed, and its log is emptied. What cannot be done now (a full disk; a reader that still sees
//! what was before) is noted, and done the next time.

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{OpenFlags, params_from_iter};
use zeroize::Zeroizing;

use super::Store;
use super::db::{Db, DbFile};
use super::error::StoreError;
use super::secrets::{Column, MARK, StoreKey, VERSION, Vault, holds_secrets};
use super::staged::{CLEAN, Staged};
use super::tx::Durability;

/// How far a database is clean of what stood there before it was sealed, as the setting `sealed-clean` keeps it.
const CLEANED: &str = "sealed-clean";
/// Every page was written anew; the write-ahead log may still hold old ones.
const REWRITTEN: [u8; 1] = [1];
/// Nothing is left.
const CLEANED_WHOLLY: [u8; 1] = [2];

/// Bodies that hand over keys (see [`holds_secrets`]), or are sealed.
macro_rules! secret_body {
    ($select:literal, $column:literal, $order:literal) => {
        concat!(
            $select,
            " AND (substr(",
            $column,
            ", 1, 1) = x'01' OR substr(",
            $column,
            ", 4, 8) IN (CAST('key.past' AS BLOB), CAST('own.past' AS BLOB)) OR substr(",
            $column,
            ", 4, 9) = CAST('own.topic' AS BLOB) OR substr(",
            $column,
            ", 4, 10) IN (CAST('own.thread' AS BLOB), CAST('room.renew' AS BLOB)) OR substr(",
            $column,
            ", 4, 11) IN (CAST('room.create' AS BLOB), CAST('key.welcome' AS BLOB)) OR substr(",
            $column,
            ", 4, 13) IN (CAST('invite.create' AS BLOB), CAST('direct.accept' AS BLOB), \
              CAST('device.bundle' AS BLOB)) OR substr(",
            $column,
            ", 4, 14) = CAST('direct.request' AS BLOB)) ORDER BY ",
            $order,
            " LIMIT 1"
        )
    };
}

impl Column {
    /// How many columns the key of its table has.
    const fn key_len(self) -> usize {
        match self {
            Self::Session | Self::ClaimToken | Self::ForkBody => 2,
            Self::PastKey | Self::PendingBody => 3,
            _ => 1,
        }
    }

    /// The next row after a key: what is stored, the two parts by which its row is sealed, and its key. By the order of
    /// the key, so that every step goes on where the last one ended.
    const fn next(self) -> &'static str {
        match self {
            Self::Ticket => {
                "SELECT ticket, topic, x'', topic FROM topic
                 WHERE topic > ?1 AND ticket <> x'' ORDER BY topic LIMIT 1"
            }
            Self::ReadKey => {
                "SELECT read_key, topic, x'', topic FROM topic
                 WHERE topic > ?1 AND read_key IS NOT NULL ORDER BY topic LIMIT 1"
            }
            Self::RotationTicket => {
                "SELECT ticket, operation, x'', operation FROM rotation
                 WHERE operation > ?1 AND ticket IS NOT NULL ORDER BY operation LIMIT 1"
            }
            Self::Session => {
                "SELECT state, peer, session, peer, session FROM two_party
                 WHERE (peer, session) > (?1, ?2) ORDER BY peer, session LIMIT 1"
            }
            Self::PastKey => {
                "SELECT secret, operation, x'', log, epoch, operation FROM key_past
                 WHERE (log, epoch, operation) > (?1, ?2, ?3) ORDER BY log, epoch, operation LIMIT 1"
            }
            Self::DeviceSecrets => {
                "SELECT value, x'', x'', name FROM setting WHERE name = 'device-secrets' AND name > ?1"
            }
            Self::OwnTopic => {
                "SELECT value, x'', x'', name FROM setting WHERE name = 'own-topic' AND name > ?1"
            }
            Self::ClaimToken => {
                "SELECT token, space, invite, space, invite FROM claim
                 WHERE (space, invite) > (?1, ?2) ORDER BY space, invite LIMIT 1"
            }
            Self::DirectShare => {
                "SELECT share, thread, x'', thread FROM direct_thread
                 WHERE thread > ?1 AND share IS NOT NULL ORDER BY thread LIMIT 1"
            }
            Self::PeerInbox => {
                "SELECT seed, device, x'', device FROM peer_inbox
                 WHERE device > ?1 ORDER BY device LIMIT 1"
            }
            Self::DeviceBundle => {
                "SELECT body, device, x'', device FROM device_bundle
                 WHERE device > ?1 ORDER BY device LIMIT 1"
            }
            Self::BlobManifest => {
                "SELECT manifest, id, x'', entry FROM blob WHERE entry > ?1 ORDER BY entry LIMIT 1"
            }
            Self::OperationBody => secret_body!(
                "SELECT body, hash, x'', entry FROM operations WHERE entry > ?1 AND body IS NOT NULL",
                "body",
                "entry"
            ),
            Self::PendingBody => secret_body!(
                "SELECT bytes, hash, x'', topic, resets, seq FROM pending
                 WHERE (topic, resets, seq) > (?1, ?2, ?3) AND author IS NOT NULL",
                "bytes",
                "topic, resets, seq"
            ),
            Self::ForkBody => secret_body!(
                "SELECT second_body, second_hash, x'', author, log FROM fork_proof
                 WHERE (author, log) > (?1, ?2) AND second_body IS NOT NULL",
                "second_body",
                "author, log"
            ),
            Self::Mark => "SELECT value, x'', x'', name FROM setting WHERE name = 'sealed' AND name > ?1",
        }
    }

    /// Puts a value into the row of a key.
    const fn update(self) -> &'static str {
        match self {
            Self::Ticket => "UPDATE topic SET ticket = ?1 WHERE topic = ?2",
            Self::ReadKey => "UPDATE topic SET read_key = ?1 WHERE topic = ?2",
            Self::RotationTicket => "UPDATE rotation SET ticket = ?1 WHERE operation = ?2",
            Self::Session => "UPDATE two_party SET state = ?1 WHERE peer = ?2 AND session = ?3",
            Self::PastKey => {
                "UPDATE key_past SET secret = ?1 WHERE log = ?2 AND epoch = ?3 AND operation = ?4"
            }
            Self::DeviceSecrets | Self::OwnTopic | Self::Mark => {
                "UPDATE setting SET value = ?1 WHERE name = ?2"
            }
            Self::ClaimToken => "UPDATE claim SET token = ?1 WHERE space = ?2 AND invite = ?3",
            Self::DirectShare => "UPDATE direct_thread SET share = ?1 WHERE thread = ?2",
            Self::PeerInbox => "UPDATE peer_inbox SET seed = ?1 WHERE device = ?2",
            Self::DeviceBundle => "UPDATE device_bundle SET body = ?1 WHERE device = ?2",
            Self::BlobManifest => "UPDATE blob SET manifest = ?1 WHERE entry = ?2",
            Self::OperationBody => "UPDATE operations SET body = ?1 WHERE entry = ?2",
            Self::PendingBody => {
                "UPDATE pending SET bytes = ?1 WHERE topic = ?2 AND resets = ?3 AND seq = ?4"
            }
            Self::ForkBody => "UPDATE fork_proof SET second_body = ?1 WHERE author = ?2 AND log = ?3",
        }
    }
}

#[cfg(test)]
impl Column {
    /// What sealing runs for each row.
    pub(super) const fn statements(self) -> [&'static str; 2] {
        [self.next(), self.update()]
    }
}

/// A stored value, by what its row is sealed, and the key of the row.
type Row = (Zeroizing<Vec<u8>>, Vec<u8>, Vec<Value>);

impl Db {
    /// Every secret column from one vault to another, within the transaction at hand. One row at a time is in memory.
    fn reseal(&self, from: &Vault, to: &Vault) -> Result<(), StoreError> {
        for column in Column::SECRET {
            // Before every key: SQLite sorts numbers first.
            let mut at = vec![Value::Integer(i64::MIN); column.key_len()];
            while let Some((stored, row, key)) = self.next_secret(column, &at)? {
                // The selection takes whole families of kinds, so that others' unknown ones are among the rows.
                let is_meant = match from {
                    Vault::Plain => holds_secrets(&stored),
                    Vault::Locked | Vault::Open(_) => stored.first() == Some(&VERSION),
                };
                if is_meant || !column.is_body() {
                    let value = self.unseal_in(from, column, &row, stored)?;
                    let sealed = Value::Blob(self.seal_in(to, column, &row, &value)?);
                    self.run(column.update(), params_from_iter([&sealed].into_iter().chain(&key)))?;
                }
                at = key;
            }
        }
        // What waits has another length now.
        self.run(
            "UPDATE pending_size SET
                bytes = (SELECT ifnull(sum(length(bytes) + ifnull(length(header), 0)), 0) FROM pending
                         WHERE pending.topic = pending_size.topic),
                key_bytes = (SELECT ifnull(sum(iif(key_id IS NULL, 0, length(bytes))), 0) FROM pending
                             WHERE pending.topic = pending_size.topic)",
            [],
        )
        .map(drop)
    }

    fn next_secret(&self, column: Column, at: &[Value]) -> Result<Option<Row>, StoreError> {
        self.one(column.next(), params_from_iter(at), |row| {
            let stored = Zeroizing::new(row.get::<_, Vec<u8>>(0)?);
            let sealed_by = [row.get::<_, Vec<u8>>(1)?, row.get(2)?].concat();
            let key = (3..3 + column.key_len()).map(|index| row.get(index)).collect::<Result<_, _>>()?;
            Ok((stored, sealed_by, key))
        })
    }

    /// [`Self::reseal`], and notes with which key: nothing of what was before is in the clear, unless `clean` is false.
    fn change_vault(&self, from: &Vault, to: &Vault, clean: bool) -> Result<(), StoreError> {
        self.reseal(from, to)?;
        self.run("DELETE FROM setting WHERE name IN (?1, ?2)", [MARK, CLEANED])?;
        if matches!(to, Vault::Plain) {
            return Ok(());
        }
        self.put_mark(MARK, &self.seal_in(to, Column::Mark, &[], &[])?)?;
        if clean { self.put_mark(CLEANED, &CLEANED_WHOLLY) } else { Ok(()) }
    }

    fn put_mark(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO setting (name, value) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.run(sql, (name, value)).map(drop)
    }

    /// Seals the secrets of a copy that was just made of this database with a key of its own. `false`: they are not sealed
    /// here, and not there.
    pub(super) fn reseal_copy(&self, path: &Path, key: &StoreKey) -> Result<bool, StoreError> {
        if matches!(self.vault, Vault::Plain) {
            return Ok(false);
        }
        let copy = Self::open(&DbFile::Path(Arc::from(path)), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // It is removed when this fails, and nobody else has it.
        copy.batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN IMMEDIATE")?;
        copy.change_vault(&self.vault, &Vault::open(key), true)?;
        copy.batch("COMMIT")?;
        Ok(true)
    }
}

impl Store {
    /// Whether secret columns are sealed: then [`Store::unlock`] is needed before they can be read.
    pub fn is_sealed(&self) -> bool {
        !matches!(self.db.vault, Vault::Plain)
    }

    /// The error of a database that is sealed where there is no key.
    pub fn key_missing(&self) -> StoreError {
        StoreError::KeyMissing { path: self.db.file().path() }
    }

    /// Gives the key of the secret columns. A database whose columns are not sealed yet has them sealed with it, now and
    /// from now on; it is then written anew, once, which takes as long as copying the file twice, and room for it twice.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`], and nothing is changed. Whether it could be written anew is no error: it is tried again
    /// by the next call.
    pub fn unlock(&mut self, key: &StoreKey) -> Result<(), StoreError> {
        let vault = Vault::open(key);
        match self.setting(MARK)? {
            Some(mark) => {
                let opened = self.db.unseal_in(&vault, Column::Mark, &[], mark.into());
                opened.map_err(|_| StoreError::WrongKey { path: self.db.file().path() })?;
                self.db.vault = vault;
            }
            None => self.change_to(vault)?,
        }
        // Sealed is sealed: what is left of before is seen to as far as it can be now.
        let _ = self.clean();
        Ok(())
    }

    /// Seals the secret columns of a database that is open with another key, or with `None` not at all.
    ///
    /// # Errors
    /// As [`Store::unlock`] where it has not been called; then nothing is changed.
    pub fn change_key(&mut self, key: Option<&StoreKey>) -> Result<(), StoreError> {
        self.change_to(key.map_or(Vault::Plain, Vault::open))
    }

    /// One transaction: cut anywhere, everything is as before or as it is to be.
    fn change_to(&mut self, to: Vault) -> Result<(), StoreError> {
        let from = self.db.vault.clone();
        // In a file that was just made nothing has stood yet.
        let clean = self.fresh || self.setting(CLEANED)?.is_some_and(|how| how == CLEANED_WHOLLY);
        let tx = self.begin(Durability::Full)?;
        tx.change_vault(&from, &to, clean)?;
        tx.commit()?;
        self.db.vault = to;
        Ok(())
    }

    /// Removes what stood in the clear before the database was sealed.
    fn clean(&mut self) -> Result<(), StoreError> {
        match self.setting(CLEANED)?.as_deref() {
            Some(how) if how == CLEANED_WHOLLY => return Ok(()),
            Some(how) if how == REWRITTEN => {}
            _ => {
                self.rewrite()?;
                self.note_cleaned(&REWRITTEN)?;
            }
        }
        self.log_to_empty = true;
        self.clean_log()
    }

    /// Empties the write-ahead log, unless somebody reads what was before it: then when the database is closed, or opened
    /// again.
    pub(super) fn clean_log(&mut self) -> Result<(), StoreError> {
        if self.log_to_empty && self.db.empty_log()? {
            self.note_cleaned(&CLEANED_WHOLLY)?;
            self.log_to_empty = false;
        }
        Ok(())
    }

    fn note_cleaned(&mut self, how: &[u8]) -> Result<(), StoreError> {
        let tx = self.begin(Durability::Normal)?;
        tx.put_mark(CLEANED, how)?;
        tx.commit()
    }

    /// Makes every page anew, from a copy beside the database that holds nothing but what is there now: a `VACUUM` that
    /// takes no memory, and no folder for temporary files that a phone may not have.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        let DbFile::Path(path) = self.db.file().clone() else { return Ok(()) };
        let copy = Staged::make(&path, CLEAN)?;
        self.db.vacuum_into(copy.path())?;
        self.db.replace_by(copy.path())
    }

    /// As [`Store::unlock`] of a database that is not sealed yet, without what follows the commit.
    #[cfg(test)]
    pub(super) fn seal_without_cleaning(&mut self, key: &StoreKey) -> Result<(), StoreError> {
        self.change_to(Vault::open(key))
    }
}
