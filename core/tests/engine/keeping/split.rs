//! Two managers who move a room at the same time, each without knowing what the other did: everybody ends in one room,
//! whatever a device reads first.

use delta_core::engine::{Event, Handover, Input, KEEP_MAX_MS, WORD_WAIT_MAX_MS, WORD_WAIT_MS};
use delta_core::identity::LogId;
use delta_core::ops::{Action, Level, SpaceText};
use delta_core::store::{Store, StoreOptions};
use delta_core::topic::TopicId;

use super::Town;
use crate::net::Peer;

impl Town {
    fn ban(&mut self, by: usize, who: usize) {
        let member = self.author(who).into();
        self.act(by, Action::Ban { member, reason: None }).unwrap();
    }

    /// What somebody's device holds back for a log arrives.
    pub(super) fn release_to(&mut self, who: usize, log: LogId) {
        let topic = self.ticket(who, log).topic();
        let held = std::mem::take(&mut self.people[who].held);
        let (to, rest) = held.into_iter().partition::<Vec<_>, _>(|job| self.net.target(job) == topic);
        assert!(!to.is_empty(), "nothing is held back for {topic:?}");
        let peer = &mut self.people[who];
        peer.held = rest;
        for job in to {
            self.net.carry(&job);
            peer.feed(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]);
        }
    }

    /// Somebody's device hears nothing of a topic for now.
    fn deafen(&mut self, who: usize, topic: TopicId) {
        self.people[who].deaf.insert(topic);
    }

    fn end(&mut self) {
        for who in 0..self.people.len() {
            self.people[who].deaf.clear();
            self.release(who);
        }
        for _ in 0..8 {
            self.wait(KEEP_MAX_MS);
        }
    }
}

/// Where a topic led to, as somebody's app was told.
fn closes(peer: &Peer, of: TopicId) -> Vec<TopicId> {
    let successor = |event: &Event| match event {
        Event::Closed { topic, successor, .. } => (*topic == of).then_some(*successor),
        _ => None,
    };
    peer.events.iter().filter_map(successor).collect()
}

/// A manager bans another, who moves the room before he hears of it, and cites what stands behind the ban.
fn banned_while_he_rotates(reads: impl Fn(&mut Town, usize, TopicId, TopicId)) {
    let mut town = Town::new(4, true);
    town.promote(1);
    let (space, room) = (town.ticket(0, town.space).topic(), town.ticket(0, town.room).topic());
    for who in [0, 1] {
        town.people[who].hold = true;
    }
    // Each acts without a word of the other.
    town.ban(0, 1);
    town.remove(1, 4);
    reads(&mut town, 2, space, room);
    // The ban, what he did beside it, his rotation, and then the other one.
    town.release_to(0, town.space);
    town.release_to(1, town.space);
    town.release_to(1, town.room);
    town.release_to(0, town.room);
    let stands = |town: &mut Town, topic| town.net.world(topic).log.len();
    assert!(stands(&mut town, room) >= 2, "two rotations stand there");
    town.settle();
    town.end();
    // The removal by who was banned has no effect.
    assert_eq!(town.members(0).len(), 4);
    town.agree(&[0, 2, 3, 4]);
    for who in [0, 2, 3, 4] {
        town.say(who, &format!("{who}")).unwrap();
        town.settle();
    }
    for who in [0, 2, 3, 4] {
        let mut texts = town.texts(who);
        texts.sort();
        assert_eq!(texts, ["0", "2", "3", "4"], "{who}");
    }
    assert!(town.texts(1).is_empty());
}

#[test]
fn a_manager_who_rotates_a_room_while_he_is_banned_splits_nothing() {
    banned_while_he_rotates(|_, _, _, _| {});
}

#[test]
fn nor_where_the_room_is_read_before_the_space() {
    banned_while_he_rotates(|town, who, space, _| town.deafen(who, space));
}

#[test]
fn nor_where_the_space_is_read_before_the_room() {
    banned_while_he_rotates(|town, who, _, room| town.deafen(who, room));
}

#[test]
fn who_is_demoted_while_it_rotates_goes_where_everybody_goes() {
    let mut town = Town::new(4, true);
    town.promote(1);
    let (space, room) = (town.ticket(0, town.space).topic(), town.ticket(0, town.room).topic());
    for who in [0, 1] {
        town.people[who].hold = true;
    }
    let member = town.author(1).into();
    town.act(0, Action::Demote { member, level: Level::Write }).unwrap();
    town.remove(0, 3);
    town.remove(1, 4);
    // It hears of its own rotation before it hears of anything in the space.
    town.deafen(1, space);
    town.release_to(0, town.space);
    town.release_to(1, town.space);
    town.release_to(1, town.room);
    town.release_to(0, town.room);
    town.settle();
    assert!(closes(&town.people[1], room).is_empty());
    town.end();
    assert_eq!(town.members(0).len(), 4, "the removal by who was demoted has no effect");
    town.agree(&[0, 1, 2, 4]);
    let first = closes(&town.people[2], room)[0];
    assert_eq!(closes(&town.people[1], room)[0], first);
}

/// What took his right stands before his rotation of the space, and builds on what comes after: nobody but its author
/// could judge it when they read the rotation.
#[test]
fn who_rotates_the_space_before_his_demotion_can_be_read_leads_everybody() {
    let mut town = Town::new(4, true);
    town.promote(1);
    let space = town.ticket(0, town.space).topic();
    town.people[1].hold = true;
    town.remove(1, 4);
    town.release_to(1, town.space);
    town.people[0].hold = true;
    // His removal stands there, and he has read it back: now the keys move.
    town.settle();
    town.act(0, Action::SpaceUpdate { about: SpaceText { name: "Town".into(), ..SpaceText::default() } })
        .unwrap();
    let member = town.author(1).into();
    town.act(0, Action::Demote { member, level: Level::Write }).unwrap();
    let [update, demotion]: [_; 2] = {
        let held = std::mem::take(&mut town.people[0].held);
        let (there, rest) = held.into_iter().partition::<Vec<_>, _>(|job| town.net.target(job) == space);
        town.people[0].held = rest;
        there.try_into().unwrap()
    };
    let carry = |town: &mut Town, job: &delta_core::engine::PostJob| {
        town.net.carry(job);
        let taken = Input::Posted { attempt: job.attempt, handover: Handover::Taken };
        town.people[0].feed(vec![taken]);
    };
    carry(&mut town, &demotion);
    town.release_to(1, town.space);
    carry(&mut town, &update);
    town.settle();
    let moved = closes(&town.people[2], space);
    assert_eq!(moved.len(), 1);
    town.end();
    for who in [0, 1, 3] {
        assert_eq!(closes(&town.people[who], space), moved, "{who}");
    }
    town.agree(&[0, 1, 2, 3]);
}

/// A device that has not heard yet that somebody was made a manager, who moves the room at the same time as another manager
/// does, and before.
struct Late {
    town: Town,
    room: TopicId,
}

/// Which of the town's people is late.
const LATE: usize = 0;

/// Settling takes some seconds of a device's time.
const SLACK: u64 = 20_000;

impl Late {
    fn new(mut town: Town) -> Self {
        town.promote(1);
        town.promote(3);
        let (space, room) = (town.ticket(0, town.space).topic(), town.ticket(0, town.room).topic());
        // One removes somebody, which all read, and moves the room.
        town.people[1].hold = true;
        town.remove(1, 4);
        town.release_to(1, town.space);
        town.settle();
        // The other is made a manager, removes somebody and moves the room, of which it does not read.
        town.deafen(LATE, space);
        let member = town.author(2).into();
        town.act(3, Action::Promote { member, level: Level::Manage }).unwrap();
        town.settle();
        town.people[2].hold = true;
        town.remove(2, 5);
        town.release_to(2, town.space);
        town.release_to(2, town.room);
        town.release_to(1, town.room);
        assert_eq!(town.net.world(room).log.len(), 2, "two rotations stand there");
        town.settle();
        Self { town, room }
    }

    /// Where its side of the room led, and where everybody else's did.
    fn led(&self) -> (Vec<TopicId>, Vec<TopicId>) {
        (closes(&self.town.people[LATE], self.room), closes(&self.town.people[1], self.room))
    }

    /// It waits for as long as it ever does, or hears of everything half-way.
    fn waits_long(&mut self, hears: bool) {
        self.town.wait(WORD_WAIT_MAX_MS / 2);
        assert_eq!(self.led().0, []);
        if hears {
            return self.hears();
        }
        self.town.wait(WORD_WAIT_MAX_MS / 2 - SLACK);
        assert_eq!(self.led().0, []);
        self.town.wait(SLACK);
        assert_eq!(self.led().0.len(), 1);
    }

    /// It hears of everything.
    fn hears(&mut self) {
        self.town.people[LATE].deaf.clear();
        self.town.settle();
        // Until it connects again.
        self.town.wait(2 * WORD_WAIT_MS);
        let (here, there) = self.led();
        assert_eq!((here.len(), here), (1, there));
        self.town.end();
        self.town.agree(&[0, 1, 2, 3]);
    }
}

#[test]
fn a_rotation_waits_where_one_stands_before_it_by_who_may_have_been_made_a_manager() {
    let mut late = Late::new(Town::new(5, true));
    late.town.wait(WORD_WAIT_MS - SLACK);
    assert_eq!(late.led().0, []);
    late.hears();
}

/// Whoever cites what does not exist holds up a room for so long, and no longer.
#[test]
fn it_waits_for_a_bounded_time() {
    let mut late = Late::new(Town::new(5, true));
    late.town.wait(WORD_WAIT_MS - SLACK);
    assert_eq!(late.led().0, []);
    late.town.wait(SLACK);
    let (here, there) = late.led();
    assert_eq!((here.len(), there.len()), (1, 1));
    assert_ne!(here, there);
}

#[test]
fn it_waits_longer_while_the_space_cannot_be_read() {
    for hears in [false, true] {
        let mut late = Late::new(Town::new(5, true));
        late.town.people[LATE].lose_connections();
        late.waits_long(hears);
    }
}

#[test]
fn it_waits_anew_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for hears in [false, true] {
        let path = folder.path().join(format!("{hears}.db"));
        let store = || Store::open(&path, StoreOptions::default()).unwrap();
        let mut late = Late::new(Town::with(store(), 5, true));
        late.town.restart(store);
        late.town.follow(LATE);
        late.waits_long(hears);
    }
}
