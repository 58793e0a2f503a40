//! Arrival order makes no difference, and what comes out is what the reference model says.

use proptest::prelude::*;
use proptest::sample::Index;

use super::model::Model;
use super::support::{Space, add, creation, entry, id, invitation, person, room, space, who};
use crate::identity::OperationId;
use crate::ops::{Action, Level, SpaceText, room_id};
use crate::projector::Place;
use crate::space::resolve::settle_above;
use crate::space::{Entry, Judgement, Membership, Verdict};
use crate::topic::Seq;

const PEOPLE: u8 = 5;

/// One deed: who, what, to whom, which level, and which of what is there it cites.
type Deed = (u8, u8, u8, u8, Vec<Index>);

fn deeds(kinds: u8, most: usize) -> impl Strategy<Value = Vec<Deed>> {
    let deed = (0..PEOPLE, 0..kinds, 0..PEOPLE, 0..4u8, prop::collection::vec(any::<Index>(), 0..4));
    prop::collection::vec(deed, 1..most)
}

/// A history: the creation, four more managers (so that much is allowed), then the deeds. Where a deed names nothing to
/// cite, it cites everything that nobody cited yet.
fn history(deeds: &[Deed]) -> Vec<Entry> {
    let mut log = vec![creation()];
    for number in 1..PEOPLE {
        let level = if number < 4 { Level::Manage } else { Level::Write };
        log.push(entry(log.len(), 0, &[id(log.len() - 1)], add(number, level)));
    }
    let mut ends = vec![id(log.len() - 1)];
    for (author, kind, subject, level, cited) in deeds {
        // Not before the managers are there: as a rule it would only be refused.
        let first = usize::from(PEOPLE) - 1;
        let mut heads: Vec<OperationId> =
            cited.iter().map(|index| id(first + index.index(log.len() - first))).collect();
        heads.sort_unstable();
        heads.dedup();
        if cited.len() == 3 {
            // Many at the same time, by managers: where the rules differ.
            heads = vec![id(first)];
        } else if heads.is_empty() {
            heads = ends.iter().rev().take(8).copied().collect();
        }
        let level = Level::ALL[usize::from(*level)];
        let (member, invite) = (person(*subject), id(usize::from(*subject) + 6));
        let action = match kind {
            0 => add(*subject, level),
            1 | 2 => Action::Remove { member },
            3 => Action::Promote { member, level: level.max(Level::Read) },
            4 => Action::Demote { member, level: level.min(Level::Write) },
            5 => Action::Leave,
            6 => Action::Transfer { member },
            7 => Action::SpaceUpdate { about: SpaceText::default() },
            8 => Action::Ban { member, reason: None },
            9 => Action::Unban { member },
            10 => Action::Mute { member, until: None },
            11 => Action::Unmute { member },
            12 => room(*subject),
            13 => Action::RoomArchive { room: room_id(space(), &[*subject; 32]) },
            14 => Action::RoomDelete { room: room_id(space(), &[*subject; 32]) },
            15 => invitation(level >= Level::Write),
            16 => Action::Add { member, level: Level::Write, invite: Some(invite), claim: None },
            _ => Action::InviteRevoke { invite },
        };
        let number = log.len();
        ends.retain(|end| !heads.contains(end));
        ends.push(id(number));
        log.push(entry(number, *author, &heads, action));
    }
    log
}

fn taken(log: impl IntoIterator<Item = Entry>) -> Membership {
    let mut members = Membership::new(space());
    for entry in log {
        members.insert(entry);
    }
    members
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn case_62_levels_are_the_reference_models(deeds in deeds(8, 16)) {
        let log = history(&deeds);
        let members = taken(log.clone());
        let mut model = Model::default();
        for entry in &log {
            let accepted = model.take(entry);
            prop_assert_eq!(
                members.verdict(entry.id) == Some(Verdict::Accepted), accepted,
                "{:?} {:?}", entry, members.verdict(entry.id)
            );
            if accepted {
                let state = members.graph.state_after(entry.id);
                prop_assert_eq!(&state.levels, &model.levels(&[entry.id]).into_iter().collect(), "after {:?}", entry);
            }
        }
        let heads = members.cite(who(0));
        let point = members.point(&heads).unwrap();
        prop_assert_eq!(&members.graph.state(&point).levels, &model.levels(&heads).into_iter().collect());
    }

    #[test]
    fn case_62_what_is_current_goes_by_places_and_not_by_arrival(
        deeds in deeds(18, 40),
        order in Just((0..64usize).collect::<Vec<_>>()).prop_shuffle(),
        places in prop::collection::vec(prop::option::of(1..20u64), 64),
        late in prop::collection::vec(any::<bool>(), 64),
    ) {
        let log = history(&deeds);
        let place = |members: &mut Membership, number: usize| {
            if let Some(seq) = places[number] {
                members.place(log[number].id, Place { epoch: 0, resets: 0, seq: Seq(seq) });
            }
        };
        let mut known = Membership::new(space());
        (0..log.len()).for_each(|number| place(&mut known, number));
        log.iter().for_each(|entry| drop(known.insert(entry.clone())));
        // Some have no place when they come, and get it then; what is current is looked at in between.
        let mut other = Membership::new(space());
        let came: Vec<usize> = order.into_iter().filter(|number| *number < log.len()).collect();
        for number in &came {
            if !late[*number] {
                place(&mut other, *number);
            }
            other.insert(log[*number].clone());
            other.current();
        }
        came.iter().for_each(|number| place(&mut other, *number));
        prop_assert_eq!(known.cite(who(0)), other.cite(who(0)));
        prop_assert_eq!(known.current(), other.current());
    }

    #[test]
    fn case_62_any_arrival_order_gives_the_same(
        deeds in deeds(18, 24),
        order in Just((0..64usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let log = history(&deeds);
        let members = taken(log.clone());
        let shuffled = order.iter().filter_map(|place| log.get(*place)).cloned();
        let other = taken(shuffled);
        prop_assert_eq!(members.counts(), other.counts());
        for entry in &log {
            prop_assert_eq!(members.verdict(entry.id), other.verdict(entry.id));
            prop_assert_eq!(members.audit(entry.id), other.audit(entry.id));
            for person in 0..PEOPLE {
                prop_assert_eq!(
                    members.judge(who(person), &[entry.id], None),
                    other.judge(who(person), &[entry.id], None)
                );
            }
        }
        prop_assert_eq!(members.current(), other.current());
        prop_assert_eq!(members.cite(who(1)), other.cite(who(1)));
    }

    #[test]
    fn a_judgement_never_changes(deeds in deeds(18, 20)) {
        let log = history(&deeds);
        let mut members = Membership::new(space());
        let mut seen = Vec::new();
        for entry in log {
            members.insert(entry.clone());
            let judgements = |members: &Membership| -> Vec<Judgement> {
                (0..PEOPLE).map(|person| members.judge(who(person), &entry.heads, None)).collect()
            };
            if !entry.heads.is_empty() {
                seen.push((entry.heads.clone(), judgements(&members)));
            }
        }
        for (heads, judgements) in seen {
            for (person, judgement) in (0..PEOPLE).zip(judgements) {
                prop_assert_eq!(members.judge(who(person), &heads, None), judgement);
            }
        }
    }

    /// What the window leaves out makes no difference: the library over the whole history says the same.
    #[test]
    fn a_window_gives_what_the_whole_history_gives(deeds in deeds(18, 20)) {
        let log = history(&deeds);
        let members = taken(log.clone());
        let accepted = |entry: &&Entry| members.verdict(entry.id) == Some(Verdict::Accepted);
        for entry in log.iter().filter(accepted).skip(1) {
            let mut past: Vec<_> =
                log.iter().filter(accepted).filter(|other| comes_before(&log, other.id, entry.id)).collect();
            past.sort_by_key(|other| members.graph.nodes[&other.id].rank);
            let window: Vec<_> = past.into_iter().skip(1).map(|other| other.id).chain([entry.id]).collect();
            let whole = settle_above(&members.graph, space(), &[entry.id], id(0), &window).unwrap();
            prop_assert_eq!(&*whole, &*members.graph.state_after(entry.id), "after {:?}", entry);
        }
    }
}

fn comes_before(log: &[Entry], a: OperationId, b: OperationId) -> bool {
    let heads = |id: OperationId| log.iter().find(|entry| entry.id == id).map(|entry| entry.heads.clone());
    let mut open = heads(b).unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = open.pop() {
        if id == a {
            return true;
        }
        if seen.insert(id) {
            open.extend(heads(id).unwrap_or_default());
        }
    }
    false
}

/// docs/wire.md, section 12: "Removals that remove each other's authors all stand".
#[test]
fn case_62_managers_who_remove_each_other_at_the_same_time_are_all_gone() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Manage));
    space.done(0, add(2, Level::Manage));
    let base = space.done(0, add(3, Level::Manage));
    for (author, removed) in [(0, 1), (1, 2), (2, 0)] {
        space.at(&[base], author, Action::Remove { member: person(removed) });
    }
    assert_eq!(space.levels(), [(3, Level::Manage)].into());
}

#[test]
fn case_62_a_promotion_and_a_removal_at_the_same_time() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Manage));
    let base = space.done(0, add(2, Level::Write));
    space.at(&[base], 0, Action::Promote { member: person(2), level: Level::Manage });
    space.at(&[base], 1, Action::Remove { member: person(2) });
    let expected = [(0, Level::Manage), (1, Level::Manage)].into();
    assert_eq!(space.levels(), expected, "gone, whatever was said beside it");
    let mut backwards = space.log.clone();
    backwards.reverse();
    assert_eq!(taken(backwards).current(), space.members.current());
}
