//! Whose device is whose, and which of a person's devices must have what the person has.
//!
//! A device *is told* when the space knows whose it is; it is *linked* when it shares the topic of its person's devices.
//! Of a device that died in the middle of something that makes it its person's, or no more, nothing is demanded.

use std::collections::{BTreeMap, BTreeSet};

use delta_core::identity::{Author, Identity, IdentityKey, LogId, Millis, Revocation};

use super::reference::Stands;
use crate::device::Device;
use crate::rng::Rng;

/// Devices that a person has at once, at most.
pub(crate) const MAX_DEVICES: usize = 3;

/// Somebody, beyond their devices.
#[derive(Debug)]
pub(crate) struct Person {
    pub identity: Identity,
    /// Certifies and revokes devices.
    pub key: IdentityKey,
    /// Written down as words, and no device's own key: a device that lost everything is the person's again.
    pub words: bool,
}

/// What a device is to its person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    /// Nobody's (yet).
    None,
    /// It cannot be said.
    Loose,
    /// The person's.
    Own,
    /// It was, up to this round.
    Revoked(usize),
}

/// A device as its person knows it.
#[derive(Debug)]
pub(crate) struct Home {
    pub person: usize,
    pub bond: Bond,
    /// What it was when the round began.
    before: Bond,
    /// It has what another device of the person had: everything.
    pub full: bool,
    pub linked: bool,
    /// What its person's devices share moved while it was paired, and left it behind: it is to be paired again.
    pub left: bool,
    /// Since the end of which round it reads what its person does, without a break in its own doing.
    pub since: Option<usize>,
    /// At the end of which round it last did.
    pub settled: Option<usize>,
    /// Lost what it had in this round.
    pub wiped: bool,
    /// Since the end of which round it provably reads nothing new.
    pub out: Option<usize>,
    /// Keys it had before it lost them.
    pub past: Vec<Author>,
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Kin {
    pub people: Vec<Person>,
    pub homes: Vec<Home>,
    /// The conversation that a device shares with its person's others.
    pub own: BTreeMap<usize, LogId>,
    /// Whose devices were revoked in this round.
    revoking: BTreeSet<usize>,
}

impl Home {
    const fn new(person: usize, bond: Bond) -> Self {
        Self {
            person,
            bond,
            before: bond,
            full: true,
            linked: false,
            left: false,
            since: None,
            settled: None,
            wiped: false,
            out: None,
            past: Vec::new(),
        }
    }

    /// What it does in this round is its person's doing; `None`: perhaps.
    pub(crate) fn speaks(&self) -> Option<bool> {
        match (self.before, self.bond) {
            _ if self.wiped => None,
            (Bond::Own, Bond::Own) => Some(true),
            (Bond::None, Bond::None) => Some(false),
            (Bond::Revoked(_), Bond::Revoked(_)) if self.out.is_some() => Some(false),
            _ => None,
        }
    }

    /// Whether what it does in this round is sure to be its person's; the space must know of it, or (`comes`) need not.
    pub(crate) fn is_steady(&self, comes: bool) -> bool {
        self.speaks() == Some(true) && (comes || self.since.is_some())
    }

    /// Whether it must show what was said in a round, if its person must read that.
    pub(crate) fn must_show(&self, round: usize, history: bool) -> bool {
        let all = self.full || history || self.since.is_some_and(|since| since < round);
        all && self.settled.is_some_and(|settled| settled >= round)
    }

    /// Whether it must not show it, whatever its person may.
    pub(crate) fn must_not_show(&self, round: usize) -> bool {
        self.out.is_some_and(|out| round > out)
    }
}

impl Kin {
    /// One device for each person. The words of some are on paper, and their devices certified by them.
    pub(crate) fn new(devices: &mut [Device], now: Millis, rng: &mut Rng) -> Self {
        let people = devices.iter_mut().map(|device| {
            let words = rng.chance(500);
            let key = IdentityKey::from_seed(&if words { rng.bytes() } else { *device.key() });
            if words {
                device.certify(&key, now);
            }
            Person { identity: key.identity(), key, words }
        });
        let people: Vec<_> = people.collect();
        let homes = (0..people.len()).map(|person| Home::new(person, Bond::Own)).collect();
        Self { people, homes, own: BTreeMap::new(), revoking: BTreeSet::new() }
    }

    /// A further device of somebody, not paired yet.
    pub(crate) fn add(&mut self, person: usize) {
        self.homes.push(Home::new(person, Bond::None));
    }

    /// The devices that somebody has.
    pub(crate) fn devices(&self, person: usize) -> Vec<usize> {
        self.all(person).into_iter().filter(|device| self.homes[*device].bond == Bond::Own).collect()
    }

    /// The same, with those that are not the person's (yet, or any more).
    pub(crate) fn all(&self, person: usize) -> Vec<usize> {
        (0..self.homes.len()).filter(|device| self.homes[*device].person == person).collect()
    }

    pub(crate) fn person(&self, device: usize) -> usize {
        self.homes[device].person
    }

    /// The person's word against a device.
    pub(crate) fn revoke(&mut self, person: usize, device: Author, now: Millis) -> Revocation {
        self.revoking.insert(person);
        Revocation::sign(&self.people[person].key, device, now)
    }

    /// Devices that were paired in this round, when one of their person's was revoked: what they share may have moved
    /// before anybody knew with which keys they are handed others.
    pub(crate) fn may_be_left(&self, device: usize) -> bool {
        let home = &self.homes[device];
        home.linked && home.before != Bond::Own && self.revoking.contains(&home.person)
    }

    /// Whether keys may move in this round because of a device.
    pub(crate) fn moves(&self) -> bool {
        !self.revoking.is_empty()
    }

    /// Whether keys must have moved: a device of who is there was revoked for sure.
    pub(crate) fn moved(&self, round: usize, before: &[Stands], now: &[Stands]) -> bool {
        let there = |person: usize| before[person].access() == 2 && now[person].access() == 2;
        let revoked = |home: &Home| home.bond == Bond::Revoked(round) && home.before == Bond::Own;
        self.homes.iter().any(|home| revoked(home) && there(home.person))
    }

    /// A device loses what it had; whoever enters the words on it has it at once.
    pub(crate) fn wipe(&mut self, device: usize, old: Author, bond: Bond) {
        let home = &mut self.homes[device];
        if home.bond == Bond::Own || home.bond == Bond::Loose {
            home.past.push(old);
        }
        (home.bond, home.wiped, home.full, home.linked) = (bond, true, false, false);
        (home.since, home.settled, home.out) = (None, None, None);
    }

    /// The round is over: which devices read what their people read.
    pub(crate) fn end_round(&mut self, round: usize, whole: &[bool], now: &[Stands]) {
        for (home, whole) in self.homes.iter_mut().zip(whole) {
            if *whole {
                home.since.get_or_insert(round);
                home.settled = Some(round);
            } else {
                home.since = None;
            }
            let sure = now[home.person].access() != 1;
            if matches!(home.bond, Bond::Revoked(_)) && sure {
                home.out.get_or_insert(round);
            }
            (home.before, home.wiped) = (home.bond, false);
        }
        self.revoking.clear();
    }
}
