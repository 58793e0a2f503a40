//! Entry guards: the few relays that ever see this device's address.
//!
//! Whoever runs the first and the last relay of a route can tell by timing who sent what. With a new entry for every
//! packet each device would sooner or later meet such a pair; with one entry kept for a month or two most never do.
//! So an entry is kept across restarts, a spare stands in while it is down, and new ones are drawn so slowly that an
//! attacker who knocks guards out gains little by it.

use super::draw::{Candidate, Pool};
use super::health::{Health, Score};
use crate::codec::{DecodeError, Reader};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Millis, NodeId};

/// Guards a device keeps ready: the primary and a spare.
pub const GUARDS: usize = 2;
/// Most guards remembered, those included that are down or have left the directory.
pub const MAX_GUARDS: usize = 8;
/// Shortest time a guard is kept, milliseconds: 30 days.
pub const GUARD_LIFETIME_MIN_MS: u64 = 30 * DAY_MS;
/// Longest time a guard is kept, milliseconds: 60 days.
pub const GUARD_LIFETIME_MAX_MS: u64 = 60 * DAY_MS;
/// Most guards drawn in 24 hours, the very first primary and spare not counted.
pub const NEW_GUARDS_PER_DAY: usize = 2;
/// Attempts of one operation over the same guard before the next one is tried.
pub const GUARD_PATIENCE: usize = 3;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// First byte of the stored form.
const VERSION: u8 = 1;

/// The guards of a device, to be stored whenever they change. Routes of version 2 have their own: the two kinds of
/// relays never share a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    pub(super) v3: GuardSet,
    pub(super) v2: GuardSet,
}

impl Guards {
    /// From stored bytes; none at all are a device without guards. Broken ones are an error, because drawing anew
    /// without need is what guards are there to avoid: the caller decides.
    pub fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(DecodeError::Invalid("version"));
        }
        let guards = Self { v3: GuardSet::read(&mut reader)?, v2: GuardSet::read(&mut reader)? };
        reader.finish()?;
        Ok(guards)
    }

    /// The bytes to store: 01, then for v3 and v2 each: filled u8 | count u8 | guards | count u8 | draw times u64.
    /// A guard is node id 32 | until u64 | confirmed u8 | lost u16 | delivered u16 | scored at u64.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.v3.write(&mut out);
        self.v2.write(&mut out);
        out
    }

    /// All guards, those of v3 routes first, each in order of preference: the relays that see that this device
    /// publishes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.v3.guards.iter().chain(&self.v2.guards).map(|guard| guard.node)
    }

    /// Whether there are any for routes of version 2, or for the others.
    pub const fn are_drawn(&self, v2: bool) -> bool {
        let set = if v2 { &self.v2 } else { &self.v3 };
        !set.guards.is_empty()
    }
}

/// One kept entry relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    pub(super) node: NodeId,
    /// When it is given up for a new one.
    until: Millis,
    /// A packet over it has arrived.
    confirmed: bool,
    /// Its health when that last got worse, so that a guard that loses everything cannot hide behind restarts.
    pub(super) score: Score,
}

/// The guards of one version, in order of preference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GuardSet {
    pub(super) guards: Vec<Guard>,
    /// Whether there ever were a primary and a spare.
    filled: bool,
    /// When guards were drawn in the last 24 hours, first ones not counted.
    drawn: Vec<Millis>,
}

/// What [`GuardSet::choose`] came to.
pub(super) enum Choice<'p, 'd> {
    Guard(&'p Candidate<'d>),
    /// No guard can be used and no new one may be drawn before this instant.
    Wait(Millis),
}

impl GuardSet {
    /// The guard for the next route, and whether the set has changed. `tried` says how many attempts of the operation
    /// went over a guard already; `listed` whether the directory still has it.
    pub(super) fn choose<'p, 'd>(
        &mut self,
        pool: &'p Pool<'d>,
        listed: impl Fn(&NodeId) -> bool,
        health: &Health,
        tried: impl Fn(&NodeId) -> usize,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<(Choice<'p, 'd>, bool), EntropyError> {
        let mut changed = self.settle(now);
        while self.guards.iter().filter(|guard| listed(&guard.node)).count() < GUARDS
            && self.may_draw()
            && let Some(new) = pool.draw_guard(&self.nodes(), false, entropy)?
        {
            self.add(new.node.id, &listed, now, entropy)?;
            changed = true;
        }
        self.filled |= self.guards.len() >= GUARDS;

        let usable = || {
            self.guards.iter().enumerate().filter_map(|(place, guard)| Some((place, pool.get(&guard.node)?)))
        };
        let healthy = usable().filter(|(_, candidate)| !candidate.excluded);
        if let Some((_, guard)) =
            healthy.min_by_key(|(place, candidate)| (tried(&candidate.node.id) / GUARD_PATIENCE, *place))
        {
            return Ok((Choice::Guard(guard), changed));
        }
        let fallback = usable()
            .min_by_key(|(place, candidate)| {
                let id = &candidate.node.id;
                (health.down_until(id).max(now), tried(id) / GUARD_PATIENCE, *place)
            })
            .map(|(_, guard)| guard);
        if self.may_draw()
            && let Some(new) = pool.draw_guard(&self.nodes(), fallback.is_none(), entropy)?
        {
            self.add(new.node.id, &listed, now, entropy)?;
            return Ok((Choice::Guard(new), true));
        }
        let wait = self.drawn.iter().min().map_or(now, |first| first.plus(DAY_MS));
        Ok((fallback.map_or(Choice::Wait(wait), Choice::Guard), changed))
    }

    /// A packet arrived over `node`. Guards that were drawn after it because nothing arrived, and over which nothing
    /// has arrived since, are forgotten: the fault was elsewhere. True when the set has changed.
    pub(super) fn confirm(&mut self, node: &NodeId) -> bool {
        let Some(place) = self.guards.iter().position(|guard| guard.node == *node) else { return false };
        let before = self.guards.len();
        let mut index = 0;
        self.guards.retain(|guard| {
            index += 1;
            guard.confirmed || index <= GUARDS.max(place + 1)
        });
        let Some(guard) = self.guards.get_mut(place) else { return true };
        let first = !std::mem::replace(&mut guard.confirmed, true);
        first || self.guards.len() < before
    }

    /// Notes a guard's health. True when it has to be stored: always when it got worse, and when it got well.
    pub(super) fn note(&mut self, node: &NodeId, score: Score) -> bool {
        let Some(guard) = self.guards.iter_mut().find(|guard| guard.node == *node) else { return false };
        let worth = score.lost > guard.score.lost || (score.lost == 0 && guard.score.lost > 0);
        if worth || score.lost < guard.score.lost {
            guard.score = score;
        }
        worth
    }

    /// Forgets guards whose time is over, and puts right what a wrong clock wrote down.
    fn settle(&mut self, now: Millis) -> bool {
        let before = (self.guards.len(), self.drawn.len());
        self.guards.retain(|guard| guard.until > now);
        self.drawn.retain(|drawn| now.since(*drawn) < DAY_MS);
        for guard in &mut self.guards {
            guard.until = guard.until.min(now.plus(GUARD_LIFETIME_MAX_MS));
        }
        for drawn in &mut self.drawn {
            *drawn = (*drawn).min(now);
        }
        before != (self.guards.len(), self.drawn.len())
    }

    const fn may_draw(&self) -> bool {
        !self.filled || self.drawn.len() < NEW_GUARDS_PER_DAY
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.guards.iter().map(|guard| guard.node).collect()
    }

    fn add(
        &mut self,
        node: NodeId,
        listed: impl Fn(&NodeId) -> bool,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<(), EntropyError> {
        let spread = GUARD_LIFETIME_MAX_MS - GUARD_LIFETIME_MIN_MS + 1;
        let until = now.plus(GUARD_LIFETIME_MIN_MS + entropy.below(spread)?);
        if self.guards.len() >= MAX_GUARDS {
            let gone = self.guards.iter().rposition(|guard| !listed(&guard.node));
            self.guards.remove(gone.unwrap_or(MAX_GUARDS - 1));
        }
        self.guards.push(Guard { node, until, confirmed: false, score: Score::default() });
        if self.filled {
            self.drawn.push(now);
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.filled));
        out.push(self.guards.len() as u8);
        for guard in &self.guards {
            out.extend_from_slice(&guard.node.0);
            out.extend_from_slice(&guard.until.0.to_be_bytes());
            out.push(u8::from(guard.confirmed));
            out.extend_from_slice(&guard.score.lost.to_be_bytes());
            out.extend_from_slice(&guard.score.delivered.to_be_bytes());
            out.extend_from_slice(&guard.score.at.0.to_be_bytes());
        }
        out.push(self.drawn.len() as u8);
        for drawn in &self.drawn {
            out.extend_from_slice(&drawn.0.to_be_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let filled = flag(reader, "filled")?;
        let mut guards: Vec<Guard> = Vec::new();
        for _ in 0..count(reader, MAX_GUARDS, "guards")? {
            let node = NodeId(reader.array("guard")?);
            if guards.iter().any(|guard| guard.node == node) {
                return Err(DecodeError::Invalid("guard"));
            }
            let until = Millis(reader.u64("until")?);
            let confirmed = flag(reader, "confirmed")?;
            let (lost, delivered) = (reader.u16("lost")?, reader.u16("delivered")?);
            let score = Score { lost, delivered, at: Millis(reader.u64("scored at")?) };
            guards.push(Guard { node, until, confirmed, score });
        }
        let mut drawn = Vec::new();
        for _ in 0..count(reader, NEW_GUARDS_PER_DAY, "draws")? {
            drawn.push(Millis(reader.u64("draw")?));
        }
        Ok(Self { guards, filled, drawn })
    }
}

fn count(reader: &mut Reader<'_>, limit: usize, field: &'static str) -> Result<usize, DecodeError> {
    let count = usize::from(reader.u8(field)?);
    if count > limit { Err(DecodeError::TooLarge(field)) } else { Ok(count) }
}

fn flag(reader: &mut Reader<'_>, field: &'static str) -> Result<bool, DecodeError> {
    match reader.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid(field)),
    }
}
