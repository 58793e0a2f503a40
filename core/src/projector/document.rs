//! Documents: who made one under which path, and what was written to it. Merging is the app's: parts of a document that
//! is not here yet are kept all the same, and count in any order.

use super::{Aggregate, Fact, Projected, Write};
use crate::ops::DocumentPart;

pub(super) fn create<'a>(fact: &Fact<'a>, path: &'a str) -> Projected<'a> {
    let changed = Some((Aggregate::Document, fact.id.0));
    Projected { changed, ..Projected::of(Write::PutDocument { path }) }
}

pub(super) fn part(part: &DocumentPart) -> Projected<'_> {
    let changed = Some((Aggregate::Document, part.document.0));
    Projected { changed, ..Projected::of(Write::PutPart { document: part.document }) }
}
