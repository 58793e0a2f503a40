//! Two managers who move a room at the same time, each without knowing what the other did: everybody ends in one room,
//! whatever a device reads first.

use delta_core::engine::{Command, Event, Handover, Input, KEEP_MAX_MS};
use delta_core::identity::LogId;
use delta_core::ops::{Action, Level};
use delta_core::store::{Store, StoreOptions};
use delta_core::topic::TopicId;

use super::{Town, alone};
use crate::net::Peer;

impl Town {
    fn manager(&mut self, by: usize, who: usize) {
        let member = self.author(who).into();
        self.act(by, Action::Promote { member, level: Level::Manage }).unwrap();
    }

    fn ban(&mut self, by: usize, who: usize) {
        let member = self.author(who).into();
        self.act(by, Action::Ban { member, reason: None }).unwrap();
    }

    /// What somebody's device holds back for a log arrives.
    fn release_to(&mut self, who: usize, log: LogId) {
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

/// A rotation that was skipped because nothing was known of its author's right, and then was.
#[test]
fn a_rotation_whose_right_is_heard_of_late_takes_the_place_of_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut town = Town::with(store(), 6, true);
    town.promote(2);
    let (space, room) = (town.ticket(0, town.space).topic(), town.ticket(0, town.room).topic());
    // The maker's rotation is on its way.
    town.people[0].hold = true;
    town.remove(0, 5);
    town.release_to(0, town.space);
    town.settle();
    // Two, the maker one of them, do not hear that somebody else is a manager now, and moves the room, too.
    for who in [0, 3] {
        town.deafen(who, space);
    }
    town.manager(2, 1);
    town.settle();
    town.remove(1, 4);
    town.settle();
    town.release_to(0, town.room);
    town.settle();
    assert_eq!(closes(&town.people[2], room).len(), 1);
    let wrong = town.ticket(0, town.room).topic();
    assert_eq!(closes(&town.people[0], room), [wrong], "it took its own for the first");
    assert_eq!(closes(&town.people[3], room), [wrong]);
    assert_ne!(closes(&town.people[2], room), [wrong]);
    // What is written there is read by nobody else, yet.
    town.release(0);
    town.say(0, "by the maker").unwrap();
    town.say(3, "by another").unwrap();
    town.settle();
    assert_eq!(town.texts(3), ["by the maker", "by another"]);
    assert!(town.texts(2).is_empty());
    town.end();
    assert_eq!(closes(&town.people[3], room).first(), Some(&wrong));
    town.agree(&[0, 1, 2, 3, 6]);
    assert_ne!(town.ticket(0, town.room).topic(), wrong);
    // Nothing is lost, nothing comes twice, and the next word is heard by all.
    town.say(6, "together").unwrap();
    town.settle();
    let read = town.texts(2);
    for text in ["by the maker", "by another", "together"] {
        assert_eq!(read.iter().filter(|said| *said == text).count(), 1, "{read:?}");
    }
    for who in [0, 1, 3, 6] {
        assert_eq!(town.texts(who), read, "{who}");
    }
    assert!(!town.people[3].is_connected(wrong) && !town.people[3].is_connected(room));
    // Nor does a start go back there.
    let now = town.people[0].device.now;
    let nobody = alone(&mut town.net, 99);
    std::mem::replace(&mut town.people[0], nobody).device.engine.close().unwrap();
    let mut again = Peer::with_inbox(&mut town.net, 1, store());
    again.device.now = now;
    town.people[0] = again;
    town.follow(0);
    town.settle();
    town.agree(&[0, 1, 2, 3, 6]);
    town.say(0, "after a start").unwrap();
    town.settle();
    assert_eq!(town.texts(3).last().unwrap(), "after a start");
    let restarted = town.texts(0);
    assert_eq!(restarted, town.texts(2));
    let topic = town.people[0].reader().topics_of_log(town.room).unwrap()[0].1;
    town.people[0].command(&mut town.net, Command::Subscribe { topic }).unwrap();
    assert!(!town.people[0].is_connected(wrong));
}
