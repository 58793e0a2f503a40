//! Blobs: what messages say of them, and the chunks that are here.

use std::fmt;

use cbor_core::Value;
use rusqlite::{Row, params};

use super::db::{Db, int};
use super::error::StoreError;
use super::operations::Entry;
use super::secrets::Column;
use super::tx::Tx;
use crate::cbor::{array, decode, items, text, unsigned};
use crate::identity::{LogId, Millis, OperationId};
use crate::ops::{BlobId, Body, Content, Manifest};
use crate::topic::TopicId;

/// How long an own blob that no message names is kept for one, milliseconds.
const UNSAID_MS: u64 = 24 * 3_600_000;

/// What an app shows of an attachment before it has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The blob.
    pub id: BlobId,
    /// Its size, bytes.
    pub size: u64,
    /// Its MIME type, as the sender says.
    pub mime: String,
    /// The name of its file, as the sender says: not to be trusted as a path.
    pub name: Option<String>,
}

/// Names the blob and shows nothing of what its sender said.
impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("id", &self.id).field("size", &self.size).finish_non_exhaustive()
    }
}

/// How a blob stands on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobState {
    /// It is known and was not fetched, or was let go.
    Absent,
    /// It is whole here, and on its way to the server.
    Sending,
    /// It is being fetched, or waits for its turn.
    Fetching,
    /// It is whole here.
    Here,
    /// The server does not have all of it, or had nothing new for a while. Fetched again, it goes on where it stood.
    Unavailable,
    /// What was fetched is not what the message said: its sender is at fault.
    Corrupt,
}

/// How far a blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobStatus {
    /// What it is.
    pub about: Attachment,
    /// Whether it is here.
    pub state: BlobState,
    /// Chunks that are here; of one that is sent, that the server has.
    pub have: u32,
    /// Chunks in all.
    pub of: u32,
}

/// A row of `blob`, but for its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) entry: i64,
    pub(crate) id: BlobId,
    pub(crate) state: i64,
    pub(crate) chunks: u32,
    pub(crate) next: u32,
    pub(crate) carrier: Option<TopicId>,
}

impl BlobRow {
    pub(crate) const MADE: i64 = 0;
    pub(crate) const SENDING: i64 = 1;
    pub(crate) const FETCHING: i64 = 2;
    pub(crate) const HERE: i64 = 3;
    pub(crate) const UNAVAILABLE: i64 = 4;
    pub(crate) const CORRUPT: i64 = 5;

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            entry: row.get(0)?,
            id: BlobId(row.get(1)?),
            state: row.get(2)?,
            chunks: row.get(3)?,
            next: row.get(4)?,
            carrier: row.get::<_, Option<[u8; 32]>>(5)?.map(TopicId),
        })
    }
}

macro_rules! blob {
    ($rest:literal) => {
        concat!("SELECT entry, id, state, chunks, next, carrier FROM blob WHERE ", $rest)
    };
}

impl Db {
    /// How a blob stands; `None` where nothing says anything of it.
    pub fn blob_status(&self, id: &BlobId) -> Result<Option<BlobStatus>, StoreError> {
        let Some(manifest) = self.blob_manifest(id)? else { return Ok(None) };
        let of = u32::try_from(manifest.chunks.len()).unwrap_or(u32::MAX);
        let about = attachment(&manifest);
        let Some(row) = self.blob(id)? else {
            return Ok(Some(BlobStatus { about, state: BlobState::Absent, have: 0, of }));
        };
        let (state, have) = match (row.state, row.carrier) {
            (BlobRow::SENDING, Some(carrier)) => {
                let counts = self.outbox_counts(carrier)?;
                let waiting = u32::try_from(counts.queued + counts.sent + counts.parked).unwrap_or(u32::MAX);
                (BlobState::Sending, row.next.saturating_sub(waiting))
            }
            (BlobRow::SENDING, None) => (BlobState::Sending, 0),
            (BlobRow::FETCHING, _) => (BlobState::Fetching, self.blob_have(row.entry)?),
            (BlobRow::HERE, _) => (BlobState::Here, of),
            (BlobRow::UNAVAILABLE, _) => (BlobState::Unavailable, self.blob_have(row.entry)?),
            _ => (BlobState::Corrupt, 0),
        };
        Ok(Some(BlobStatus { about, state, have, of }))
    }

    /// The topics of the blobs that are sent and fetched just now; `None` for each that waits for its turn.
    pub fn blobs_under_way(&self) -> Result<Vec<Option<TopicId>>, StoreError> {
        self.all("SELECT carrier FROM blob WHERE state IN (1, 2)", [], |row| {
            Ok(row.get::<_, Option<[u8; 32]>>(0)?.map(TopicId))
        })
    }

    /// What opens a blob, with a ticket that only reads: an own one, or as it was said first here.
    pub fn blob_manifest(&self, id: &BlobId) -> Result<Option<Manifest>, StoreError> {
        if let Some(row) = self.blob(id)?.filter(|row| row.state != BlobRow::MADE) {
            return Ok(Some(self.stored_manifest(row.entry)?.read_only()));
        }
        let said = self.all(
            "SELECT o.hash FROM attachment a JOIN operations o ON o.entry = a.entry
             WHERE a.blob = ?1 AND o.body IS NOT NULL ORDER BY a.entry LIMIT 1",
            [id.0],
            |row| row.get(0).map(OperationId),
        )?;
        for operation in said {
            let bytes = self.operation_bytes(&operation)?;
            let body = bytes.and_then(|(_, body)| Body::decode(&body).ok());
            let manifests = match body.map(|body| body.content) {
                Some(Content::MessageSend { attachments, .. }) => attachments,
                Some(Content::BlobShare(manifest)) => vec![*manifest],
                _ => continue,
            };
            if let Some(found) = manifests.into_iter().find(|manifest| manifest.id == *id) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A chunk of a blob, sealed; `None` unless all of the blob is here, and was checked.
    pub fn blob_chunk(&self, id: &BlobId, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let whole = self.blob(id)?.filter(|row| matches!(row.state, BlobRow::SENDING | BlobRow::HERE));
        whole.map_or(Ok(None), |row| self.chunk(row.entry, number))
    }

    pub(crate) fn chunk(&self, entry: i64, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        self.one(
            "SELECT bytes FROM blob_chunk WHERE blob = ?1 AND number = ?2",
            params![entry, number],
            |row| row.get(0),
        )
    }

    pub(crate) fn blob(&self, id: &BlobId) -> Result<Option<BlobRow>, StoreError> {
        self.one(blob!("id = ?1"), [id.0], BlobRow::read)
    }

    pub(crate) fn blob_at(&self, entry: i64) -> Result<Option<BlobRow>, StoreError> {
        self.one(blob!("entry = ?1"), [entry], BlobRow::read)
    }

    /// The next one in this state, to be sent or to be fetched, that has no topic for it.
    pub(crate) fn next_transfer(&self, state: i64) -> Result<Option<BlobRow>, StoreError> {
        self.one(blob!("state = ?1 AND carrier IS NULL ORDER BY entry LIMIT 1"), [state], BlobRow::read)
    }

    /// The topics in which blobs are sent and fetched, and which.
    pub(crate) fn blob_carriers(&self) -> Result<Vec<(TopicId, i64)>, StoreError> {
        self.all("SELECT carrier, entry FROM blob WHERE carrier IS NOT NULL", [], |row| {
            Ok((TopicId(row.get(0)?), row.get(1)?))
        })
    }

    /// How many chunks of a blob are here.
    pub(crate) fn blob_have(&self, entry: i64) -> Result<u32, StoreError> {
        let have = self.one("SELECT count(*) FROM blob_chunk WHERE blob = ?1", [entry], |row| row.get(0))?;
        Ok(have.unwrap_or(0))
    }

    /// The manifest of a row, as it is kept.
    pub(crate) fn stored_manifest(&self, entry: i64) -> Result<Manifest, StoreError> {
        let sql = "SELECT id, manifest FROM blob WHERE entry = ?1";
        let found =
            self.one(sql, [entry], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let (id, sealed) = found.ok_or_else(|| self.missing_row("blob"))?;
        let bytes = self.unseal(Column::BlobManifest, &id, sealed)?;
        Manifest::from_bytes(&bytes).ok_or_else(|| self.damaged("a blob's manifest does not read back"))
    }

    /// The conversations that name a blob.
    pub(crate) fn logs_of_blob(&self, id: &BlobId) -> Result<Vec<LogId>, StoreError> {
        self.all("SELECT DISTINCT log FROM attachment WHERE blob = ?1", [id.0], |row| row.get(0).map(LogId))
    }
}

impl Tx<'_> {
    /// Keeps what is said of a blob under its id, or a random one while it is made. Gives its entry.
    pub(crate) fn put_blob(&self, manifest: &Manifest, state: i64, now: Millis) -> Result<i64, StoreError> {
        let sealed = self.seal(Column::BlobManifest, &manifest.id.0, &manifest.to_bytes())?;
        let (chunks, bytes) = (manifest.chunks.len() as i64, int(manifest.size));
        self.run(
            "INSERT INTO blob (id, manifest, state, chunks, bytes, used_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![manifest.id.0, sealed, state, chunks, bytes, int(now.0)],
        )?;
        Ok(self.last_insert_rowid())
    }

    /// One that was made is whole: from now on it has its id.
    pub(crate) fn finish_blob(&self, entry: i64, manifest: &Manifest) -> Result<(), StoreError> {
        let sealed = self.seal(Column::BlobManifest, &manifest.id.0, &manifest.to_bytes())?;
        self.run(
            "UPDATE blob SET id = ?2, manifest = ?3, state = 1, next = 0 WHERE entry = ?1",
            params![entry, manifest.id.0, sealed],
        )
        .map(drop)
    }

    /// Where it stands: its state, the next chunk to be sent and the topic for it.
    pub(crate) fn set_blob(&self, row: &BlobRow) -> Result<(), StoreError> {
        self.run(
            "UPDATE blob SET state = ?2, next = ?3, carrier = ?4 WHERE entry = ?1",
            params![row.entry, row.state, row.next, row.carrier.map(|topic| topic.0)],
        )
        .map(drop)
    }

    /// Somebody wants it: it is the last to give way.
    pub(crate) fn use_blob(&self, entry: i64, now: Millis) -> Result<(), StoreError> {
        self.run("UPDATE blob SET used_ms = ?2 WHERE entry = ?1", params![entry, int(now.0)]).map(drop)
    }

    /// Keeps a chunk that was checked; again is harmless.
    pub(crate) fn put_chunk(&self, entry: i64, number: u32, bytes: &[u8]) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO blob_chunk (blob, number, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![entry, number, bytes],
        )
        .map(drop)
    }

    /// Erases the chunks of a blob.
    pub(crate) fn erase_chunks(&self, entry: i64) -> Result<(), StoreError> {
        self.run("DELETE FROM blob_chunk WHERE blob = ?1", [entry]).map(drop)
    }

    /// Removes a blob with its chunks.
    pub(crate) fn remove_blob(&self, entry: i64) -> Result<(), StoreError> {
        self.run("DELETE FROM blob WHERE entry = ?1", [entry]).map(drop)
    }

    /// Removes what was being made when the device stopped.
    pub(crate) fn remove_unmade_blobs(&self) -> Result<(), StoreError> {
        self.run("DELETE FROM blob WHERE state = 0", []).map(drop)
    }

    /// The server of a topic has lost what stood in it: the blob that is sent there is sent again.
    pub(crate) fn send_blob_again(&self, carrier: TopicId) -> Result<(), StoreError> {
        self.run("UPDATE blob SET next = 0 WHERE carrier = ?1 AND state = 1", [carrier.0]).map(drop)
    }

    /// What waited to be sent was taken back: the blobs that are sent are sent from their beginning.
    pub(super) fn send_blobs_again(&self) -> Result<(), StoreError> {
        self.run("UPDATE blob SET next = 0 WHERE state = 1", []).map(drop)
    }

    /// Removes the least recently used blobs that nothing waits for, until what is here of the rest takes at most so many
    /// bytes. The one used last stays in any case: somebody has just fetched it. So does what was used at this very instant,
    /// which has just arrived, and for a while what no message names (yet): that is an own one that is about to be said.
    /// Gives what is gone.
    pub(crate) fn evict_blobs(&self, limit: u64, now: Millis) -> Result<Vec<BlobId>, StoreError> {
        let unsaid = now.0.saturating_sub(UNSAID_MS);
        self.all(
            "DELETE FROM blob WHERE entry IN (SELECT entry FROM (SELECT entry, used_ms,
                 sum(here) OVER used AS upto, sum(here > 0) OVER used AS place FROM
                 (SELECT entry, used_ms, CASE state WHEN 3 THEN bytes ELSE
                     (SELECT ifnull(sum(length(c.bytes)), 0) FROM blob_chunk c WHERE c.blob = b.entry) END AS here
                  FROM blob b WHERE state >= 3
                  AND (used_ms <= ?3 OR EXISTS (SELECT 1 FROM attachment a WHERE a.blob = b.id)))
                 WINDOW used AS (ORDER BY used_ms DESC, entry DESC))
                 WHERE upto > ?1 AND place > 1 AND used_ms <> ?2) RETURNING id",
            [int(limit), int(now.0), int(unsaid)],
            |row| row.get(0).map(BlobId),
        )
    }

    pub(super) fn put_attachments(
        &self,
        entry: Entry,
        log: &LogId,
        attachments: &[Manifest],
    ) -> Result<(), StoreError> {
        for manifest in attachments {
            self.run(
                "INSERT INTO attachment (blob, entry, log) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![manifest.id.0, entry.0, log.0],
            )?;
        }
        Ok(())
    }

    /// A message is gone, and its attachments with it, unless others have them, too.
    pub(super) fn drop_attachments(&self, entry: Entry) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM blob WHERE id IN (SELECT blob FROM attachment a WHERE a.entry = ?1 AND NOT EXISTS
                 (SELECT 1 FROM attachment b WHERE b.blob = a.blob AND b.entry <> ?1))",
            [entry.0],
        )?;
        self.run("DELETE FROM attachment WHERE entry = ?1", [entry.0]).map(drop)
    }

    /// The same for a message that is about to be taken back.
    pub(crate) fn drop_attachments_named_by(&self, message: &OperationId) -> Result<(), StoreError> {
        let entry = self.one(
            "SELECT entry FROM operations WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1",
            [message.0],
            |row| row.get(0).map(Entry),
        )?;
        entry.map_or(Ok(()), |entry| self.drop_attachments(entry))
    }

    /// The same for a conversation.
    pub(super) fn drop_attachments_of(&self, log: &LogId) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM blob WHERE id IN (SELECT blob FROM attachment a WHERE a.log = ?1 AND NOT EXISTS
                 (SELECT 1 FROM attachment b WHERE b.blob = a.blob AND b.log <> ?1))",
            [log.0],
        )
        .map(drop)
    }
}

fn attachment(manifest: &Manifest) -> Attachment {
    let Manifest { id, size, mime, name, .. } = manifest;
    Attachment { id: *id, size: *size, mime: mime.clone(), name: name.clone() }
}

/// What a message's row says of its attachments.
pub(super) fn attachments_column(attachments: &[Manifest]) -> Option<Vec<u8>> {
    let row = |it: &Manifest| {
        let mut row = vec![Value::from(it.id.0), Value::from(it.size), Value::from(it.mime.clone())];
        row.extend(it.name.clone().map(Value::from));
        Value::from(row)
    };
    let rows: Vec<_> = attachments.iter().map(row).collect();
    (!rows.is_empty()).then(|| Value::from(rows).encode())
}

/// The inverse of [`attachments_column`].
pub(super) fn read_attachments(column: Option<Vec<u8>>) -> Vec<Attachment> {
    let column = column.unwrap_or_default();
    let column = column.as_slice();
    let Ok(rows) = decode(&column, 2, column.len()) else { return Vec::new() };
    let row = |row: &Value<'_>| {
        let row = items(row)?;
        Some(Attachment {
            id: BlobId(array(row.first()?)?),
            size: unsigned(row.get(1)?)?,
            mime: text(row.get(2)?)?.to_owned(),
            name: row.get(3).and_then(text).map(str::to_owned),
        })
    };
    items(&rows).unwrap_or_default().iter().filter_map(row).collect()
}
