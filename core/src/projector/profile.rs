//! Profiles: replaced whole, the author's last one in a log counts.

use super::{Aggregate, Fact, Projected, Rows, Write};
use crate::ops::BlobId;

/// A whole profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileText<'a> {
    /// Display name.
    pub name: &'a str,
    /// About the author.
    pub bio: Option<&'a str>,
    /// Picture.
    pub avatar: Option<BlobId>,
    /// Free text such as "away".
    pub availability: Option<&'a str>,
    /// Whether strangers may read it.
    pub public: bool,
}

pub(super) fn set<'a, R: Rows + ?Sized>(
    fact: &Fact<'a>,
    rows: &R,
    profile: ProfileText<'a>,
) -> Result<Projected<'a>, R::Error> {
    if rows.profile(fact.author, fact.log)?.is_some_and(|seq_num| seq_num >= fact.seq_num) {
        return Ok(Projected::default());
    }
    let changed = Some((Aggregate::Profile, fact.author.0));
    Ok(Projected { writes: vec![Write::PutProfile(profile)], changed, ..Projected::default() })
}
