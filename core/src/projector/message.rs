//! Messages: sent once, edited and deleted by the devices of their author in the log they were sent in.

use super::{Aggregate, Erased, Fact, Projected, Rows, Skipped, Write};
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::ops::Manifest;

/// Whose message it is, and whether it is still one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageKey {
    /// The device that sent it.
    pub author: Author,
    /// Whose device that is.
    pub identity: Identity,
    /// In which conversation.
    pub log: LogId,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// A tombstone.
    pub deleted: bool,
}

/// The content of a message as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageText<'a> {
    /// The text.
    pub text: &'a str,
    /// The message it answers.
    pub reply: Option<OperationId>,
    /// Whom it mentions.
    pub mentions: &'a [Author],
    /// What it brings along.
    pub attachments: &'a [Manifest],
    /// The sender's clock.
    pub sent: Option<Millis>,
}

/// One edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditRow {
    /// Its number in the author's log: the highest stands.
    pub seq_num: u32,
    /// The operation.
    pub id: OperationId,
    /// The new text.
    pub text: String,
    /// The sender's clock.
    pub sent: Option<Millis>,
}

/// What has been said about an operation before it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// There are edits.
    pub edits: bool,
    /// There are deletes.
    pub deletes: bool,
    /// There are reactions.
    pub reactions: bool,
}

pub(super) fn send<'a, R: Rows + ?Sized>(
    fact: &Fact<'a>,
    rows: &R,
    text: MessageText<'a>,
) -> Result<Projected<'a>, R::Error> {
    let Fact { id, identity, log, .. } = *fact;
    let waiting = rows.waiting(id)?;
    let mut writes = Vec::with_capacity(1);
    if waiting != Waiting::default() {
        writes.push(Write::DropForeign { target: id, identity, log });
    }
    let delete = if waiting.deletes { deleted_by(rows, id, identity, log)? } else { None };
    if let Some(delete) = delete {
        writes.push(Write::PutMessage { text: None, edit: None, deleted_by: Some(delete) });
        writes.push(Write::EraseBody(Erased::Message));
        writes.push(Write::DropEdits { target: id });
    } else {
        let edit = if waiting.edits { rows.last_edit(id, identity, log)? } else { None };
        writes.push(Write::PutMessage { text: Some(text), edit, deleted_by: None });
    }
    Ok(changed(writes, id))
}

/// A message whose body is gone already: its tombstone. The delete may be projected before or after it.
pub(super) fn erased<'a, R: Rows + ?Sized>(fact: &Fact<'a>, rows: &R) -> Result<Projected<'a>, R::Error> {
    let Fact { id, identity, log, .. } = *fact;
    let deleted_by = deleted_by(rows, id, identity, log)?;
    let writes = vec![
        Write::DropForeign { target: id, identity, log },
        Write::PutMessage { text: None, edit: None, deleted_by },
        Write::DropEdits { target: id },
    ];
    Ok(changed(writes, id))
}

pub(super) fn edit<'a, R: Rows + ?Sized>(
    fact: &Fact<'a>,
    rows: &R,
    target: OperationId,
    text: &'a str,
    sent: Option<Millis>,
) -> Result<Projected<'a>, R::Error> {
    let put = Write::PutEdit { target, text, sent };
    let Some(message) = rows.message(target)? else {
        return Ok(Projected { writes: vec![put], ..Projected::default() });
    };
    if !owns(fact, &message) {
        return Ok(Projected::skip(Skipped::NotAllowed));
    }
    if message.deleted {
        return Ok(Projected { writes: vec![Write::EraseBody(Erased::Edit)], ..Projected::default() });
    }
    Ok(changed(vec![put, Write::SettleEdit { target, message }], target))
}

pub(super) fn delete<'a, R: Rows + ?Sized>(
    fact: &Fact<'a>,
    rows: &R,
    target: OperationId,
) -> Result<Projected<'a>, R::Error> {
    let put = Write::PutDelete { target };
    let Some(message) = rows.message(target)? else {
        return Ok(Projected { writes: vec![put], ..Projected::default() });
    };
    let first = rows.first_delete(target, message.identity, message.log)?;
    let deleted_by = if owns(fact, &message) {
        match first {
            Some(first) if first < (fact.seq_num, fact.id) => first.1,
            _ => fact.id,
        }
    } else if fact.manager && fact.log == message.log {
        let other = rows.manager_delete(target, fact.log)?.map_or(fact.id, |other| other.min(fact.id));
        first.map_or(other, |(_, own)| own)
    } else {
        return Ok(Projected::skip(Skipped::NotAllowed));
    };
    Ok(changed(vec![put, Write::Tombstone { target, message, deleted_by }], target))
}

/// The delete that stands: the author's own first one, else that of the managers' with the lowest id.
pub(crate) fn deleted_by<R: Rows + ?Sized>(
    rows: &R,
    target: OperationId,
    identity: Identity,
    log: LogId,
) -> Result<Option<OperationId>, R::Error> {
    match rows.first_delete(target, identity, log)? {
        Some((_, own)) => Ok(Some(own)),
        None => rows.manager_delete(target, log),
    }
}

/// Edits and deletes are the author's, in the log the message is in.
fn owns(fact: &Fact<'_>, message: &MessageKey) -> bool {
    (fact.identity, fact.log) == (message.identity, message.log)
}

fn changed(writes: Vec<Write<'_>>, id: OperationId) -> Projected<'_> {
    Projected { writes, changed: Some((Aggregate::Message, id.0)), ..Projected::default() }
}
