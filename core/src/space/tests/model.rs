//! A second opinion on levels: the rules as docs/wire.md states them, over the whole history, without windows, deltas
//! or the library. Slow and short.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::{Author, Identity, OperationId};
use crate::ops::{Action, Level};
use crate::space::{Entry, Statement};

/// What is known of one person: how often they came and went (odd: they are there), their level, and how often it was
/// changed since they came.
type Person = (u32, u32, Level);
type People = BTreeMap<Identity, Person>;
type Step = (OperationId, u8);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Add(Identity, Level),
    Remove(Identity),
    Promote(Identity, Level),
    Demote(Identity, Level),
    Revoke(Author),
    Nothing,
}

#[derive(Clone)]
struct Done {
    author: Identity,
    device: Author,
    before: Vec<Step>,
    deed: Deed,
}

/// The accepted operations so far.
#[derive(Clone, Default)]
pub(super) struct Model {
    steps: BTreeMap<Step, Done>,
    last: BTreeMap<OperationId, Step>,
    refused: BTreeSet<OperationId>,
    /// Whose device each further device is. That it was said everywhere before anything else is the history's part.
    devices: BTreeMap<Author, Identity>,
}

impl Model {
    /// Takes the next operation; everything it cites must be here. Whether it is accepted.
    pub(super) fn take(&mut self, entry: &Entry) -> bool {
        let accepted = self.accepts(entry);
        if accepted {
            self.append(entry);
        } else {
            self.refused.insert(entry.id);
        }
        accepted
    }

    fn accepts(&self, entry: &Entry) -> bool {
        let Statement::Action(action) = &entry.statement else { return false };
        if entry.heads.is_empty() {
            return matches!(action, Action::SpaceCreate { .. });
        }
        if entry.heads.iter().any(|head| self.refused.contains(head)) {
            return false;
        }
        let levels = self.levels(&entry.heads);
        let author = self.identity(entry.author);
        if self.revoked(&entry.heads).contains(&(author, entry.author)) {
            return false;
        }
        if let Action::DeviceAdd { certificate } = action {
            return certificate.device == entry.author
                && levels.contains_key(&certificate.identity)
                && !self.devices.contains_key(&entry.author);
        }
        let own = levels.get(&author).copied();
        let of = |who: &Identity| levels.get(who).copied();
        match action {
            Action::Leave => own.is_some(),
            Action::DeviceRevoke { revocation } => {
                let revoked = (author, revocation.device);
                own.is_some()
                    && revocation.identity == author
                    && !self.revoked(&entry.heads).contains(&revoked)
            }
            _ if own != Some(Level::Manage) => false,
            Action::Add { member, .. } => of(member).is_none(),
            Action::Remove { member } => of(member).is_some(),
            Action::Promote { member, level } => of(member).is_some_and(|now| now < *level),
            Action::Demote { member, level } => of(member).is_some_and(|now| now > *level),
            Action::Transfer { member } => of(member).is_some() && *member != author,
            Action::SpaceUpdate { .. } => true,
            _ => panic!("the model does not know {action:?}"),
        }
    }

    fn append(&mut self, entry: &Entry) {
        let Statement::Action(action) = &entry.statement else { return };
        let told = match action {
            Action::DeviceAdd { certificate } => Some(*certificate),
            Action::SpaceCreate { certificate, .. } => certificate.as_deref().copied(),
            _ => None,
        };
        self.devices.extend(told.map(|certificate| (certificate.device, certificate.identity)));
        let author = self.identity(entry.author);
        let deeds = match action {
            Action::SpaceCreate { .. } => vec![Deed::Create],
            Action::Add { member, level, .. } => vec![Deed::Add(*member, *level)],
            Action::Remove { member } => vec![Deed::Remove(*member)],
            Action::Leave => vec![Deed::Remove(author)],
            Action::Promote { member, level } => vec![Deed::Promote(*member, *level)],
            Action::Demote { member, level } => vec![Deed::Demote(*member, *level)],
            Action::Transfer { member } => {
                vec![Deed::Promote(*member, Level::Manage), Deed::Demote(author, Level::Write)]
            }
            Action::DeviceRevoke { revocation } => vec![Deed::Revoke(revocation.device)],
            _ => vec![Deed::Nothing],
        };
        let mut before: Vec<Step> = entry.heads.iter().map(|head| self.last[head]).collect();
        for (number, deed) in (0..).zip(deeds) {
            let step = (entry.id, number);
            self.steps.insert(step, Done { author, device: entry.author, before, deed });
            before = vec![step];
            self.last.insert(entry.id, step);
        }
    }

    fn identity(&self, device: Author) -> Identity {
        self.devices.get(&device).copied().unwrap_or_else(|| device.into())
    }

    /// Which devices somebody has revoked before `heads`, whatever else was done.
    pub(super) fn revoked(&self, heads: &[OperationId]) -> BTreeSet<(Identity, Author)> {
        let mut settled = Settled { steps: &self.steps, past: BTreeMap::new() };
        heads.iter().for_each(|head| settled.walk(self.last[head]));
        let revoked = settled.past.keys().filter_map(|step| match self.steps[step].deed {
            Deed::Revoke(device) => Some((self.steps[step].author, device)),
            _ => None,
        });
        revoked.collect()
    }

    /// The members where `heads` are settled.
    pub(super) fn levels(&self, heads: &[OperationId]) -> BTreeMap<Identity, Level> {
        let heads: Vec<Step> = heads.iter().map(|head| self.last[head]).collect();
        let people = Settled::of(&self.steps, &heads);
        let there = people.into_iter().filter(|(_, (count, ..))| count % 2 == 1);
        there.map(|(who, (_, _, level))| (who, level)).collect()
    }
}

/// What is settled, with everything each step builds on.
struct Settled<'a> {
    steps: &'a BTreeMap<Step, Done>,
    past: BTreeMap<Step, BTreeSet<Step>>,
}

impl<'a> Settled<'a> {
    fn of(all: &'a BTreeMap<Step, Done>, heads: &[Step]) -> People {
        let mut settled = Self { steps: all, past: BTreeMap::new() };
        heads.iter().for_each(|head| settled.walk(*head));
        let mutual = settled.mutual();
        let mut states = BTreeMap::<Step, People>::new();
        let mut order: Vec<Step> = settled.past.keys().copied().collect();
        // Whatever has fewer steps before it comes first.
        order.sort_by_key(|step| settled.past[step].len());
        for step in order {
            let done = &settled.steps[&step];
            let mut people = merge(done.before.iter().map(|before| &states[before]));
            if mutual.contains(&step) {
                if let Some(gone) = removed(done)
                    && let Some(person) = people.get_mut(&gone)
                    && person.0 % 2 == 1
                {
                    person.0 += 1;
                }
            } else if !settled.filtered(step) {
                apply(&mut people, done);
            }
            states.insert(step, people);
        }
        merge(heads.iter().map(|head| &states[head]))
    }

    fn walk(&mut self, step: Step) {
        if self.past.contains_key(&step) {
            return;
        }
        let mut past = BTreeSet::new();
        for before in &self.steps[&step].before {
            self.walk(*before);
            past.insert(*before);
            past.extend(&self.past[before]);
        }
        self.past.insert(step, past);
    }

    fn comes_before(&self, a: Step, b: Step) -> bool {
        self.past[&b].contains(&a)
    }

    fn concurrent(&self, a: Step, b: Step) -> bool {
        a != b && !self.comes_before(a, b) && !self.comes_before(b, a)
    }

    /// What a device did that was revoked at the same time is as if it had not been.
    fn void(&self, step: Step) -> bool {
        let done = &self.steps[&step];
        self.past.keys().any(|other| {
            let revoker = &self.steps[other];
            revoker.author == done.author
                && revoker.deed == Deed::Revoke(done.device)
                && self.concurrent(*other, step)
        })
    }

    /// A removal beats what the removed did, and a new adding of them, at the same time.
    fn filtered(&self, step: Step) -> bool {
        if self.void(step) {
            return true;
        }
        let done = &self.steps[&step];
        let added = match done.deed {
            Deed::Add(member, _) => Some(member),
            _ => None,
        };
        self.past.keys().any(|other| {
            removed(&self.steps[other]).is_some_and(|gone| gone == done.author || Some(gone) == added)
                && self.concurrent(*other, step)
                && !self.void(*other)
        })
    }

    /// Removals that remove each other's authors in a circle, over managers made on the way too: all stand.
    fn mutual(&self) -> BTreeSet<Step> {
        let mut leads = BTreeMap::<Step, Vec<Step>>::new();
        for a in self.past.keys().filter(|step| !self.void(**step)) {
            for b in self.past.keys().filter(|step| !self.void(**step)) {
                let (first, second) = (&self.steps[a], &self.steps[b]);
                let removes = removed(first).filter(|gone| *gone != first.author);
                let to_removal = removed(second).is_some_and(|gone| gone != second.author);
                let to_making = made_manager(second).is_some();
                let from_removal = removes == Some(second.author)
                    && (to_removal && self.concurrent(*a, *b)
                        || to_making && a != b && !self.comes_before(*b, *a));
                let from_making = made_manager(first) == Some(second.author)
                    && self.comes_before(*a, *b)
                    && (to_removal || to_making);
                if from_removal || from_making {
                    leads.entry(*a).or_default().push(*b);
                }
            }
        }
        let reaches_itself = |start: Step| {
            let mut seen = BTreeSet::new();
            let mut open = leads.get(&start).cloned().unwrap_or_default();
            while let Some(step) = open.pop() {
                if step == start {
                    return true;
                }
                if seen.insert(step) {
                    open.extend(leads.get(&step).into_iter().flatten());
                }
            }
            false
        };
        let removals = self.past.keys().filter(|step| removed(&self.steps[step]).is_some());
        removals.copied().filter(|step| reaches_itself(*step)).collect()
    }
}

fn removed(done: &Done) -> Option<Identity> {
    match done.deed {
        Deed::Remove(member) => Some(member),
        Deed::Demote(member, level) if level < Level::Manage => Some(member),
        _ => None,
    }
}

fn made_manager(done: &Done) -> Option<Identity> {
    match done.deed {
        Deed::Add(member, Level::Manage) | Deed::Promote(member, Level::Manage) => Some(member),
        _ => None,
    }
}

/// Whoever came and went more often is right; then the level that was changed more often; then the lower one.
fn merge<'a>(states: impl Iterator<Item = &'a People>) -> People {
    let mut merged = People::new();
    for (who, person) in states.flatten() {
        let better = |old: &Person| {
            (person.0, person.1, std::cmp::Reverse(person.2)) > (old.0, old.1, std::cmp::Reverse(old.2))
        };
        if merged.get(who).is_none_or(better) {
            merged.insert(*who, *person);
        }
    }
    merged
}

fn apply(people: &mut People, done: &Done) {
    let there = |who: &Identity| people.get(who).is_some_and(|(count, ..)| count % 2 == 1);
    let manager = there(&done.author) && people[&done.author].2 == Level::Manage;
    match done.deed {
        Deed::Create => drop(people.insert(done.author, (1, 0, Level::Manage))),
        Deed::Add(who, level) if manager && !there(&who) => {
            let count = people.get(&who).map_or(0, |person| person.0);
            people.insert(who, (count + 1, 0, level));
        }
        Deed::Remove(who) if there(&who) && (manager || there(&done.author) && who == done.author) => {
            let person = people.get_mut(&who).unwrap();
            *person = (person.0 + 1, 0, person.2);
        }
        Deed::Promote(who, level) | Deed::Demote(who, level) if manager && there(&who) => {
            let person = people.get_mut(&who).unwrap();
            let best = matches!(done.deed, Deed::Promote(..)) && person.2 == Level::Manage;
            let least = matches!(done.deed, Deed::Demote(..)) && person.2 == Level::Pull;
            if !best && !least && person.2 != level {
                *person = (person.0, person.1 + 1, level);
            }
        }
        _ => {}
    }
}
