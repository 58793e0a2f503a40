//! Key-values: of all that was written to a key and not replaced by name, the one with the highest (hybrid logical
//! time, operation id) stands. So devices agree in whatever order it comes.

use super::{Aggregate, Fact, Projected, Rows, Write};
use crate::ops::KeyValue;

pub(super) fn set<'a, R: Rows + ?Sized>(
    fact: &Fact<'a>,
    rows: &R,
    write: &'a KeyValue,
) -> Result<Projected<'a>, R::Error> {
    let standing = rows.standing_value(fact.log, &write.at)?;
    let wins = standing.is_none_or(|standing| standing < (write.time, fact.id))
        && !rows.is_replaced(fact.log, &write.at, fact.id)?;
    let replaces = standing.is_some_and(|(_, id)| write.replaces.contains(&id));
    let mut projected = Projected { writes: vec![Write::PutVersion(write)], ..Projected::default() };
    if wins || replaces {
        projected.writes.push(Write::SettleValue(write));
        projected.changed = Some((Aggregate::KeyValue, fact.id.0));
        projected.key = Some(&write.at);
    }
    Ok(projected)
}
