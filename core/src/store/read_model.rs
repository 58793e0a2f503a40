//! The read model's rows: what the projector looks up, what it changes, and how all of it is built again.

use std::ops::Deref;

use rusqlite::params;

use super::blobs::attachments_column;
use super::db::{Db, int, millis};
use super::error::StoreError;
use super::operations::{Entry, NewOperation};
use super::secrets::Column;
use super::spaces::Judged;
use super::tx::{Kept, Tx};
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::ops::{Body, HybridTime, ValueKey};
use crate::projector::{
    self, Change, EditRow, Erased, Fact, MessageKey, MessageText, Place, ProfileText, Projected, Rows, Said,
    Skipped, Waiting, Write,
};
use crate::tree::Set;

/// Operations read at once by a rebuild.
const PAGE: usize = 256;

/// The next device that edited, or deleted, a message.
const EDITORS: &str =
    "SELECT author FROM message_edit WHERE target = ?1 AND author > ?2 ORDER BY author LIMIT 1";
const DELETERS: &str =
    "SELECT author FROM message_delete WHERE target = ?1 AND author > ?2 ORDER BY author LIMIT 1";

impl Db {
    /// Devices that said something about a message, one after the other, however much each of them said.
    fn each_author(
        &self,
        next: &str,
        target: OperationId,
        mut visit: impl FnMut(Author) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = Vec::new();
        while let Some(author) = self.one(next, params![target.0, after], |row| row.get(0).map(Author))? {
            visit(author)?;
            after = author.0.to_vec();
        }
        Ok(())
    }
}

impl Rows for Db {
    type Error = StoreError;

    fn message(&self, id: OperationId) -> Result<Option<MessageKey>, StoreError> {
        self.one(
            "SELECT m.author, m.log, m.seq_num, m.text IS NULL, ifnull(m.identity, m.author) FROM operations o
             JOIN message m ON m.entry = o.entry
             WHERE substr(o.hash, 1, 8) = substr(?1, 1, 8) AND o.hash = ?1",
            [id.0],
            |row| {
                let (author, log) = (Author(row.get(0)?), LogId(row.get(1)?));
                let identity = Identity(row.get(4)?);
                Ok(MessageKey { author, identity, log, seq_num: row.get(2)?, deleted: row.get(3)? })
            },
        )
    }

    fn waiting(&self, target: OperationId) -> Result<Waiting, StoreError> {
        let waiting = self.one(
            "SELECT EXISTS (SELECT 1 FROM message_edit WHERE target = ?1),
                    EXISTS (SELECT 1 FROM message_delete WHERE target = ?1),
                    EXISTS (SELECT 1 FROM reaction WHERE target = ?1)",
            [target.0],
            |row| Ok(Waiting { edits: row.get(0)?, deletes: row.get(1)?, reactions: row.get(2)? }),
        )?;
        Ok(waiting.unwrap_or_default())
    }

    fn last_edit(
        &self,
        target: OperationId,
        identity: Identity,
        log: LogId,
    ) -> Result<Option<EditRow>, StoreError> {
        let mut last: Option<EditRow> = None;
        self.each_author(EDITORS, target, |author| {
            let found = self.one(
                "SELECT seq_num, id, text, sent_ms, ifnull(identity, author) FROM message_edit
                 WHERE target = ?1 AND author = ?2 AND log = ?3 ORDER BY seq_num DESC LIMIT 1",
                [target.0, author.0, log.0],
                |row| {
                    let (seq_num, id) = (row.get(0)?, OperationId(row.get(1)?));
                    let edit = EditRow { seq_num, id, text: row.get(2)?, sent: millis(row.get(3)?) };
                    Ok((edit, Identity(row.get(4)?)))
                },
            )?;
            let of_person = found.filter(|(_, by)| *by == identity).map(|(edit, _)| edit);
            last = last.take().into_iter().chain(of_person).max_by_key(|edit| (edit.sent, edit.id));
            Ok(())
        })?;
        Ok(last)
    }

    fn first_delete(
        &self,
        target: OperationId,
        identity: Identity,
        log: LogId,
    ) -> Result<Option<(u32, OperationId)>, StoreError> {
        let mut first = None;
        self.each_author(DELETERS, target, |author| {
            let found = self.one(
                "SELECT seq_num, id, ifnull(identity, author) FROM message_delete
                 WHERE target = ?1 AND author = ?2 AND log = ?3 ORDER BY seq_num LIMIT 1",
                [target.0, author.0, log.0],
                |row| Ok(((row.get(0)?, OperationId(row.get(1)?)), Identity(row.get(2)?))),
            )?;
            let of_person = found.filter(|(_, by)| *by == identity).map(|(delete, _)| delete);
            first = first.into_iter().chain(of_person).min();
            Ok(())
        })?;
        Ok(first)
    }

    fn manager_delete(&self, target: OperationId, log: LogId) -> Result<Option<OperationId>, StoreError> {
        let id = self.one(
            "SELECT min(id) FROM message_delete WHERE target = ?1 AND log = ?2 AND manager",
            [target.0, log.0],
            |row| row.get::<_, Option<[u8; 32]>>(0),
        )?;
        Ok(id.flatten().map(OperationId))
    }

    fn reaction(
        &self,
        target: OperationId,
        author: Author,
        log: LogId,
        emoji: &str,
    ) -> Result<Option<u32>, StoreError> {
        self.one(
            "SELECT seq_num FROM reaction WHERE target = ?1 AND author = ?2 AND log = ?3 AND emoji = ?4",
            params![target.0, author.0, log.0, emoji],
            |row| row.get(0),
        )
    }

    fn profile(&self, author: Author, log: LogId) -> Result<Option<u32>, StoreError> {
        self.one("SELECT seq_num FROM profile WHERE author = ?1 AND log = ?2", [author.0, log.0], |row| {
            row.get(0)
        })
    }

    fn standing_value(
        &self,
        log: LogId,
        at: &ValueKey,
    ) -> Result<Option<(HybridTime, OperationId)>, StoreError> {
        Ok(self.standing_values(&log, at, 1)?.pop())
    }

    fn is_replaced(&self, log: LogId, at: &ValueKey, id: OperationId) -> Result<bool, StoreError> {
        self.was_replaced(&log, at, &id)
    }
}

impl Tx<'_> {
    /// Projects one stored operation; gives what changed, and why nothing did when it was skipped.
    fn project(
        &self,
        entry: Entry,
        fact: &Fact<'_>,
    ) -> Result<(Option<Change>, Option<Skipped>), StoreError> {
        let (manager, identity) = match self.judge(entry, fact)? {
            Judged::Counts { manager, identity } => (manager, identity),
            Judged::Taken(change) => return Ok((change, None)),
            Judged::Ignored => return Ok((None, Some(Skipped::NotAllowed))),
            Judged::Waits => return Ok((None, None)),
        };
        let fact = &Fact { manager, identity, ..*fact };
        let Projected { writes, changed, key, skipped } = projector::project(fact, self.deref())?;
        for write in &writes {
            self.apply(entry, fact, write)?;
        }
        let change = changed.map(|(aggregate, id)| Change {
            keys: key.cloned().into_iter().collect(),
            ..Change::new(fact.log, aggregate, vec![id])
        });
        Ok((change, skipped))
    }

    fn apply(&self, entry: Entry, fact: &Fact<'_>, write: &Write<'_>) -> Result<(), StoreError> {
        let Fact { id, author, log, seq_num, .. } = *fact;
        let identity = foreign(fact);
        match write {
            Write::PutMessage { text, edit, deleted_by } => {
                self.put_message(entry, fact, text.as_ref(), edit.as_ref(), *deleted_by)
            }
            Write::PutEdit { target, text, sent } => self.run(
                "INSERT INTO message_edit (target, author, log, seq_num, id, text, sent_ms, identity)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
                params![target.0, author.0, log.0, seq_num, id.0, text, sent.map(|at| int(at.0)), identity],
            ),
            Write::SettleEdit { target, message } => return self.settle_edit(*target, message),
            Write::PutDelete { target } => self.run(
                "INSERT INTO message_delete (target, author, log, seq_num, id, manager, identity)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![target.0, author.0, log.0, seq_num, id.0, fact.manager, identity],
            ),
            Write::Tombstone { target, message, deleted_by } => {
                self.bury(*target, message, *deleted_by)?;
                return Ok(());
            }
            Write::EraseBody(was) => return self.erase_body(&author, &log, seq_num, *was),
            Write::DropEdits { target } => return self.drop_edits(*target, &fact.identity, &log),
            Write::DropForeign { target, identity, log } => {
                return self.drop_foreign(*target, identity, log);
            }
            Write::PutReaction { target, emoji, active, sent } => self.run(
                "INSERT INTO reaction (target, author, log, emoji, seq_num, id, active, identity, sent_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (target, author, log, emoji) DO UPDATE
                 SET seq_num = excluded.seq_num, id = excluded.id, active = excluded.active,
                     identity = excluded.identity, sent_ms = excluded.sent_ms",
                params![
                    target.0,
                    author.0,
                    log.0,
                    emoji,
                    seq_num,
                    id.0,
                    active,
                    identity,
                    sent.map(|at| int(at.0))
                ],
            ),
            Write::PutProfile(profile) => self.put_profile(fact, profile),
            Write::PutDocument { path } => self.put_document(fact, path),
            Write::PutPart { document } => self.put_part(entry, fact, *document),
            Write::PutVersion(write) => return self.put_version(entry, fact, write),
            Write::SettleValue(write) => return self.settle_value(&log, &write.at, Some((id, write))),
            Write::PutShare(manifest) => {
                return self.put_attachments(entry, &log, std::slice::from_ref(manifest));
            }
        }
        .map(drop)
    }

    fn put_message(
        &self,
        entry: Entry,
        fact: &Fact<'_>,
        text: Option<&MessageText<'_>>,
        edit: Option<&EditRow>,
        deleted_by: Option<OperationId>,
    ) -> Result<usize, StoreError> {
        let mentions = text
            .filter(|text| !text.mentions.is_empty())
            .map(|text| text.mentions.iter().flat_map(|author| author.0).collect::<Vec<u8>>());
        self.put_mentions(entry, &fact.log, text.map_or(&[], |text| text.mentions))?;
        let attachments = text.map_or(&[][..], |text| text.attachments);
        self.put_attachments(entry, &fact.log, attachments)?;
        self.run_kept(
            Kept::Message,
            "INSERT INTO message (entry, author, log, seq_num, id, pos, received_ms, sent_ms, text, reply, mentions,
                 edit, edited_text, edited_ms, deleted_by, identity, attachments)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (entry) DO UPDATE SET sent_ms = excluded.sent_ms, text = excluded.text,
                 reply = excluded.reply, mentions = excluded.mentions, edit = excluded.edit,
                 edited_text = excluded.edited_text, edited_ms = excluded.edited_ms, deleted_by = excluded.deleted_by,
                 identity = excluded.identity, attachments = excluded.attachments",
            params![
                entry.0,
                fact.author.0,
                fact.log.0,
                fact.seq_num,
                fact.id.0,
                fact.place.to_bytes(),
                fact.received.map(|at| int(at.0)),
                text.and_then(|text| text.sent).map(|at| int(at.0)),
                text.map(|text| text.text),
                text.and_then(|text| text.reply).map(|id| id.0),
                mentions,
                edit.map(|edit| edit.id.0),
                edit.map(|edit| edit.text.as_str()),
                edit.and_then(|edit| edit.sent).map(|at| int(at.0)),
                deleted_by.map(|id| id.0),
                foreign(fact),
                attachments_column(attachments),
            ],
        )
    }

    fn settle_edit(&self, target: OperationId, message: &MessageKey) -> Result<(), StoreError> {
        let edit = self.last_edit(target, message.identity, message.log)?;
        self.run(
            "UPDATE message SET edit = ?4, edited_text = ?5, edited_ms = ?6 WHERE entry =
                 (SELECT entry FROM operations WHERE author = ?1 AND log = ?2 AND seq_num = ?3)",
            params![
                message.author.0,
                message.log.0,
                message.seq_num,
                edit.as_ref().map(|edit| edit.id.0),
                edit.as_ref().map(|edit| edit.text.as_str()),
                edit.as_ref().and_then(|edit| edit.sent).map(|at| int(at.0))
            ],
        )
        .map(drop)
    }

    fn put_profile(&self, fact: &Fact<'_>, profile: &ProfileText<'_>) -> Result<usize, StoreError> {
        self.run(
            "INSERT INTO profile (author, log, seq_num, id, name, bio, avatar, availability, public)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (author, log) DO UPDATE SET seq_num = excluded.seq_num, id = excluded.id,
                 name = excluded.name, bio = excluded.bio, avatar = excluded.avatar,
                 availability = excluded.availability, public = excluded.public",
            params![
                fact.author.0,
                fact.log.0,
                fact.seq_num,
                fact.id.0,
                profile.name,
                profile.bio,
                profile.avatar.map(|id| id.0),
                profile.availability,
                profile.public,
            ],
        )
    }

    /// The row stays as a tombstone; text, reply, mentions, attachments, clock and edits are gone, the stored bodies with them.
    fn bury(
        &self,
        target: OperationId,
        message: &MessageKey,
        deleted_by: OperationId,
    ) -> Result<(), StoreError> {
        let MessageKey { author, identity, log, seq_num, .. } = message;
        let entry = self.one(
            "UPDATE message SET text = NULL, reply = NULL, mentions = NULL, sent_ms = NULL, edit = NULL,
                 edited_text = NULL, edited_ms = NULL, attachments = NULL, deleted_by = ?4 WHERE entry =
                 (SELECT entry FROM operations WHERE author = ?1 AND log = ?2 AND seq_num = ?3) RETURNING entry",
            params![author.0, log.0, seq_num, deleted_by.0],
            |row| row.get(0).map(Entry),
        )?;
        entry.map_or(Ok(()), |entry| self.drop_attachments(entry))?;
        self.erase_body(author, log, *seq_num, Erased::Message)?;
        self.drop_edits(target, identity, log)
    }

    fn drop_edits(&self, target: OperationId, of: &Identity, log: &LogId) -> Result<(), StoreError> {
        let edits = self.all(
            "DELETE FROM message_edit WHERE target = ?1 AND ifnull(identity, author) = ?2 AND log = ?3
             RETURNING author, seq_num",
            [target.0, of.0, log.0],
            |row| Ok((Author(row.get(0)?), row.get(1)?)),
        )?;
        for (author, seq_num) in edits {
            self.erase_body(&author, log, seq_num, Erased::Edit)?;
        }
        Ok(())
    }

    fn drop_foreign(&self, target: OperationId, of: &Identity, log: &LogId) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM message_edit WHERE target = ?1 AND NOT (ifnull(identity, author) = ?2 AND log = ?3)",
            "DELETE FROM message_delete
             WHERE target = ?1 AND NOT ((ifnull(identity, author) = ?2 OR manager) AND log = ?3)",
        ] {
            self.run(sql, [target.0, of.0, log.0])?;
        }
        self.run("DELETE FROM reaction WHERE target = ?1 AND log <> ?2", [target.0, log.0]).map(drop)
    }

    /// Drops the read model and builds it again from the operations.
    pub fn rebuild(&self) -> Result<(), StoreError> {
        let read_model = [
            "message",
            "message_edit",
            "message_delete",
            "reaction",
            "profile",
            "attachment",
            "document",
            "document_part",
        ];
        for table in read_model {
            self.run(&format!("DELETE FROM {table}"), [])?;
        }
        self.forget_values()?;
        self.find_spaces()?;
        let mut after = (Vec::new(), Vec::new(), -1);
        loop {
            let page = self.all(
                "SELECT entry, author, log, seq_num, hash, pos, received_ms, erased, body FROM operations
                 WHERE (author, log, seq_num) > (?1, ?2, ?3) ORDER BY author, log, seq_num LIMIT ?4",
                params![after.0, after.1, after.2, PAGE as i64],
                StoredFact::read,
            )?;
            let Some(last) = page.last() else { return self.write_spaces() };
            after = (last.author.0.to_vec(), last.log.0.to_vec(), i64::from(last.seq_num));
            for row in &page {
                self.project_stored(row)?;
            }
        }
    }

    /// The same for what one author said in one log, of which operations were taken out.
    pub(crate) fn rebuild_log(&self, author: &Author, log: &LogId) -> Result<(), StoreError> {
        match self.belongs(log)? {
            Some(belongs) if !belongs.room => self.judge_space_again(*log),
            _ => self.project_logs(&[*author], log),
        }
    }

    /// Projects anew all that these authors said in one log. Every row they could have touched is keyed by the author;
    /// messages of others that they had edited or deleted (a person's other devices do, and managers) are settled again.
    pub(super) fn project_logs(&self, authors: &[Author], log: &LogId) -> Result<(), StoreError> {
        let (mut about, mut keys) = (Set::new(), Set::new());
        // All rows go before any comes back: who a device belongs to may be judged differently now.
        for author in authors {
            about.extend(self.all(
                "SELECT target FROM message_edit WHERE author = ?1 AND log = ?2
                 UNION SELECT target FROM message_delete WHERE author = ?1 AND log = ?2",
                [author.0, log.0],
                |row| row.get(0).map(OperationId),
            )?);
            keys.extend(self.forget_log_rows(author, log)?);
        }
        for author in authors {
            self.project_stored_log(author, log)?;
        }
        keys.iter().try_for_each(|at| self.settle_value(log, at, None))?;
        let mut back = Set::new();
        for target in about {
            back.extend(self.settle_message(target, log)?);
        }
        for device in self.writers_of(log, &back)? {
            self.refetch_erased(&device, log)?;
        }
        Ok(())
    }

    fn forget_log_rows(&self, author: &Author, log: &LogId) -> Result<Vec<ValueKey>, StoreError> {
        for table in ["message", "attachment"] {
            let of_log = "WHERE entry IN (SELECT entry FROM operations WHERE author = ?1 AND log = ?2)";
            self.run(&format!("DELETE FROM {table} {of_log}"), [author.0, log.0])?;
        }
        for table in ["message_edit", "message_delete", "reaction", "profile", "document", "document_part"] {
            self.run(&format!("DELETE FROM {table} WHERE author = ?1 AND log = ?2"), [author.0, log.0])?;
        }
        self.run(
            "DELETE FROM unjudged WHERE entry IN (SELECT entry FROM operations WHERE author = ?1 AND log = ?2)",
            [author.0, log.0],
        )?;
        self.forget_versions(author, log)
    }

    fn project_stored_log(&self, author: &Author, log: &LogId) -> Result<(), StoreError> {
        let mut from = Some(0);
        while let Some(start) = from {
            let page = self.all(
                "SELECT entry, author, log, seq_num, hash, pos, received_ms, erased, body FROM operations
                 WHERE author = ?1 AND log = ?2 AND seq_num >= ?3 ORDER BY seq_num LIMIT ?4",
                params![author.0, log.0, start, PAGE as i64],
                StoredFact::read,
            )?;
            from = page.last().and_then(|last| last.seq_num.checked_add(1));
            for row in &page {
                self.project_stored(row)?;
            }
        }
        Ok(())
    }

    /// What had been said about a message may be gone: which edit stands, and what deletes it. Gives whose it is when
    /// nothing deletes it any more: what was erased with it is to be read again.
    fn settle_message(&self, target: OperationId, log: &LogId) -> Result<Option<Identity>, StoreError> {
        let Some(message) = Rows::message(self.deref(), target)?.filter(|message| message.log == *log) else {
            return Ok(None);
        };
        if !message.deleted {
            self.settle_edit(target, &message)?;
            return Ok(None);
        }
        let deleted_by = projector::deleted_by(self.deref(), target, message.identity, message.log)?;
        self.run(
            "UPDATE message SET deleted_by = ?4 WHERE entry =
                 (SELECT entry FROM operations WHERE author = ?1 AND log = ?2 AND seq_num = ?3)",
            params![message.author.0, log.0, message.seq_num, deleted_by.map(|id| id.0)],
        )?;
        Ok(deleted_by.is_none().then_some(message.identity))
    }

    /// Projects an operation that was just stored, or whose body came back.
    pub(crate) fn project_new(
        &self,
        entry: Entry,
        op: &NewOperation<'_>,
        body: &Body,
        position: Place,
        received: Option<Millis>,
    ) -> Result<(Option<Change>, Option<Skipped>), StoreError> {
        let (said, place) = (Said::Body(body), position);
        let NewOperation { id, author, log, seq_num, .. } = *op;
        let identity = author.into();
        self.project(
            entry,
            &Fact { id, author, identity, log, seq_num, place, received, manager: false, said },
        )
    }

    pub(super) fn project_stored(&self, row: &StoredFact) -> Result<Option<Change>, StoreError> {
        let body;
        let stored =
            row.body.as_ref().map(|body| self.unseal_body(Column::OperationBody, &row.id, body.clone()));
        let said = match (&stored.transpose()?, row.erased) {
            (Some(bytes), _) => match Body::decode(bytes) {
                Ok(decoded) => {
                    body = decoded;
                    Said::Body(&body)
                }
                Err(error) => {
                    let detail = format!("the body of operation {} does not decode: {error}", row.id);
                    return Err(StoreError::Corrupt { path: self.file().path(), detail });
                }
            },
            (None, 1) => Said::Erased(Erased::Message),
            (None, 2) => Said::Erased(Erased::Edit),
            (None, _) => Said::Erased(Erased::Other),
        };
        let StoredFact { entry, id, author, log, seq_num, place, received, .. } = *row;
        let identity = author.into();
        let fact = Fact { id, author, identity, log, seq_num, place, received, manager: false, said };
        Ok(self.project(entry, &fact)?.0)
    }
}

/// Whose device the author is, where the row does not say so by the author's key.
fn foreign(fact: &Fact<'_>) -> Option<[u8; 32]> {
    (fact.identity.0 != fact.author.0).then_some(fact.identity.0)
}

pub(super) struct StoredFact {
    entry: Entry,
    id: OperationId,
    author: Author,
    log: LogId,
    seq_num: u32,
    place: Place,
    received: Option<Millis>,
    erased: i64,
    body: Option<Vec<u8>>,
}

impl StoredFact {
    /// Of the columns entry, author, log, seq_num, hash, pos, received_ms, erased, body.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            entry: Entry(row.get(0)?),
            author: Author(row.get(1)?),
            log: LogId(row.get(2)?),
            seq_num: row.get(3)?,
            id: OperationId(row.get(4)?),
            place: Place::from_bytes(row.get(5)?),
            received: millis(row.get(6)?),
            erased: row.get(7)?,
            body: row.get(8)?,
        })
    }
}
