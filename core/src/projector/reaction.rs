//! Reactions: one per message, author and emoji; the author's last word counts.

use super::{Aggregate, Fact, Projected, Rows, Skipped, Write};
use crate::identity::OperationId;

pub(super) fn set<'a, R: Rows + ?Sized>(
    fact: &Fact<'a>,
    rows: &R,
    target: OperationId,
    emoji: &'a str,
    active: bool,
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
    let writes = vec![Write::PutReaction { target, emoji, active }];
    Ok(Projected { writes, changed, ..Projected::default() })
}
