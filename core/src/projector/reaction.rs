//! Reactions: one per message, person and emoji; the person's last word counts. A row is one device's last word, and
//! those who read them take the latest of a person's devices.

use super::{Aggregate, Fact, Projected, Rows, Skipped, Write};
use crate::identity::{Millis, OperationId};

pub(super) fn set<'a, R: Rows + ?Sized>(
    fact: &Fact<'a>,
    rows: &R,
    target: OperationId,
    emoji: &'a str,
    (active, sent): (bool, Option<Millis>),
) -> Result<Projected<'a>, R::Error> {
    let message = rows.message(target)?;
    if message.is_some_and(|message| message.log != fact.log) {
        return Ok(Projected::skip(Skipped::NotAllowed));
    }
    let decided = rows.reaction(target, fact.author, fact.log, emoji)?;
    if decided.is_some_and(|seq_num| seq_num >= fact.seq_num) {
        return Ok(Projected::default());
    }
    let changed = message.map(|_| (Aggregate::Reaction, target.0));
    let writes = vec![Write::PutReaction { target, emoji, active, sent }];
    Ok(Projected { writes, changed, ..Projected::default() })
}
