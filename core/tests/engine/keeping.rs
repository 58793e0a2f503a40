//! Keys of spaces that move by themselves: whoever leaves reads no more, whoever comes reads what it may, and a removed
//! manager who kept everything can do nothing with it.

use delta_core::crypto::{GroupCrypto, TwoParty};
use delta_core::engine::{Command, CommandError, Handover, Input, KEEP_MAX_MS, KEEP_MIN_MS, Reply};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{
    Author, Certificate, Identity, IdentityKey, LogId, Millis, OperationId, Revocation,
};
use delta_core::ops::{
    Action, Body, Content, DeviceKey, Level, LogEnd, RoomText, Rotation, SpaceText, Ticket,
};
use delta_core::store::{Page, RoomState, Store, StoreOptions};
use delta_core::topic::TopicId;

use crate::net::{Net, Peer, run};
use crate::support::Writer;

mod arrival;
mod asking;
mod by_inbox;
mod claims;
mod devices;
mod ended;
mod handing;
mod hostile;
mod joining;
mod leaving;
mod muted;
mod overtaken;
mod renewed;
mod retired;
mod shut_out;
mod split;
mod told;

/// People who share a space with one room; the first made it.
struct Town {
    net: Net,
    people: Vec<Peer>,
    space: LogId,
    room: LogId,
}

fn alone(net: &mut Net, seed: u8) -> Peer {
    Peer::with_inbox(net, seed, Store::in_memory().unwrap())
}

fn opened(reply: Reply) -> (LogId, TopicId) {
    match reply {
        Reply::Space { space, topic } => (space, topic),
        other => panic!("{other:?}"),
    }
}

impl Town {
    /// With so many more writers.
    fn new(others: u8, history: bool) -> Self {
        Self::with(Store::in_memory().unwrap(), others, history)
    }

    fn with(store: Store, others: u8, history: bool) -> Self {
        let mut net = Net::new();
        let mut first = Peer::with_inbox(&mut net, 1, store);
        let about = SpaceText { name: "Town".into(), history, ..SpaceText::default() };
        let (space, _) = opened(first.command(&mut net, Command::CreateSpace { about }).unwrap());
        let about = RoomText { name: "Square".into(), ..RoomText::default() };
        let (room, _) = opened(first.command(&mut net, Command::CreateRoom { space, about }).unwrap());
        let mut town = Self { net, people: vec![first], space, room };
        town.follow(0);
        town.settle();
        for seed in 0..others {
            town.join(seed + 2);
        }
        town
    }

    /// The first one's device stops and starts again, with what this store opens.
    fn restart(&mut self, store: impl FnOnce() -> Store) {
        let (now, deaf) = (self.people[0].device.now, self.people[0].deaf.clone());
        let nobody = alone(&mut self.net, 99);
        let old = std::mem::replace(&mut self.people[0], nobody);
        old.device.engine.close().unwrap();
        let mut again = Peer::with_inbox(&mut self.net, 1, store());
        (again.device.now, again.deaf) = (now, deaf);
        self.people[0] = again;
    }

    /// Somebody comes by an invitation that the first one makes.
    fn join(&mut self, seed: u8) {
        let (space, level) = (self.space, Level::Write);
        let invite = Command::CreateInvite { space, level, expires: None, once: true };
        let Reply::Invite(invite) = self.people[0].command(&mut self.net, invite).unwrap() else { panic!() };
        let mut peer = alone(&mut self.net, seed);
        peer.device.now = self.people[0].device.now;
        peer.command(&mut self.net, Command::AcceptInvite { invite }).unwrap();
        self.people.push(peer);
        let who = self.people.len() - 1;
        self.follow(who);
        self.settle();
        self.settle();
    }

    /// Somebody's second device, which is told of everything by the first one.
    fn pair(&mut self, who: usize, seed: u8) -> usize {
        let second = self.pair_silently(who, seed);
        self.release(second);
        self.settle();
        self.settle();
        second
    }

    /// The same, before anything that it says arrives.
    fn pair_silently(&mut self, who: usize, seed: u8) -> usize {
        let tickets = [self.space, self.room].map(|log| self.ticket(who, log));
        self.pair_with(who, seed, tickets)
    }

    /// The same, with these keys.
    fn pair_with(&mut self, who: usize, seed: u8, tickets: [Ticket; 2]) -> usize {
        let identity = IdentityKey::from_seed(&[self.seed(who); 32]);
        let mut peer = alone(&mut self.net, seed);
        peer.hold = true;
        peer.device.now = self.people[who].device.now;
        let certificate = Certificate::sign(&identity, peer.author(), peer.device.now);
        peer.command(&mut self.net, Command::Certify { certificate }).unwrap();
        let mut own = |peer: &mut Peer, ticket| {
            let Reply::Ticket(ticket) = peer.command(&mut self.net, Command::OwnTopic { ticket }).unwrap()
            else {
                panic!("a ticket");
            };
            ticket
        };
        let ticket = own(&mut self.people[who], None);
        own(&mut peer, Some(ticket));
        for ticket in tickets {
            peer.command(&mut self.net, Command::OpenTopic { ticket }).unwrap();
        }
        self.people.push(peer);
        self.follow(self.people.len() - 1);
        self.settle();
        self.people.len() - 1
    }

    /// What somebody's key was made from.
    fn seed(&self, who: usize) -> u8 {
        let is = |seed: &u8| IdentityKey::from_seed(&[*seed; 32]).identity() == self.author(who).into();
        (0..=255).find(is).unwrap()
    }

    /// Its app wants to read everything that is open.
    fn follow(&mut self, who: usize) {
        for log in [self.space, self.room] {
            let topics = self.people[who].reader().topics_of_log(log).unwrap();
            for (_, topic) in topics {
                self.people[who].command(&mut self.net, Command::Subscribe { topic }).unwrap();
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            let mut people: Vec<&mut Peer> = self.people.iter_mut().collect();
            run(&mut self.net, &mut people);
            for who in 0..self.people.len() {
                self.follow(who);
            }
        }
    }

    /// What somebody's device sent and was held back arrives.
    fn release(&mut self, who: usize) {
        let peer = &mut self.people[who];
        peer.hold = false;
        for job in std::mem::take(&mut peer.held) {
            self.net.carry(&job);
            peer.feed(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]);
        }
    }

    /// So much time passes.
    fn wait(&mut self, ms: u64) {
        for who in 0..self.people.len() {
            let peer = &mut self.people[who];
            let until = peer.device.now.plus(ms);
            while let Some(at) = peer.device.engine.next_wakeup().filter(|at| *at <= until) {
                peer.device.now = at.max(peer.device.now);
                peer.feed(vec![Input::Timeout]);
                peer.drain(&mut self.net);
                peer.receive(&mut self.net);
            }
            peer.device.now = until;
        }
        self.settle();
    }

    fn author(&self, who: usize) -> Author {
        self.people[who].author()
    }

    fn act(&mut self, who: usize, action: Action) -> Result<Reply, CommandError> {
        let command = Command::Act { space: self.space, action: Box::new(action) };
        self.people[who].command(&mut self.net, command)
    }

    fn remove(&mut self, by: usize, who: usize) {
        let member = self.author(who).into();
        self.act(by, Action::Remove { member }).unwrap();
    }

    fn promote(&mut self, who: usize) {
        let member = self.author(who).into();
        self.act(0, Action::Promote { member, level: Level::Manage }).unwrap();
        self.settle();
    }

    /// Where somebody's side of a log lives.
    fn ticket(&self, who: usize, log: LogId) -> Ticket {
        let reader = self.people[who].reader();
        let (_, first) = reader.topics_of_log(log).unwrap()[0];
        let topic = reader.living_in(first).unwrap();
        reader.topic(topic).unwrap().unwrap().ticket
    }

    fn epochs(&self, who: usize) -> [u32; 2] {
        [self.space, self.room].map(|log| self.ticket(who, log).epoch())
    }

    fn say(&mut self, who: usize, text: &str) -> Result<OperationId, CommandError> {
        let content = Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        };
        // By the name that the app knows from the beginning.
        let topic = self.people[who].reader().topics_of_log(self.room).unwrap()[0].1;
        match self.people[who].command(&mut self.net, Command::Publish { topic, content })? {
            Reply::Published(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn texts(&self, who: usize) -> Vec<String> {
        let page = self.people[who].reader().messages(&self.room, Page::Newest, 100).unwrap();
        page.into_iter().filter_map(|row| row.text).collect()
    }

    fn members(&self, who: usize) -> Vec<Identity> {
        let rows = self.people[who].reader().members(&self.space).unwrap();
        rows.into_iter().filter(|row| row.standing.level.is_some()).map(|row| row.member).collect()
    }

    /// What somebody's newest topics can be opened with, by everyone else who is to be able to.
    fn agree(&self, among: &[usize]) {
        for log in [self.space, self.room] {
            let topics: Vec<_> = among.iter().map(|who| self.ticket(*who, log).topic()).collect();
            assert!(topics.windows(2).all(|pair| pair[0] == pair[1]), "{topics:?}");
        }
    }
}

#[test]
fn a_removal_moves_the_space_and_its_rooms_and_apps_notice_nothing() {
    let mut town = Town::new(2, true);
    assert_eq!(town.epochs(1), [0, 0]);
    town.say(2, "hello").unwrap();
    town.settle();
    town.remove(0, 2);
    town.settle();
    assert_eq!((town.epochs(0), town.epochs(1)), ([1, 1], [1, 1]));
    town.agree(&[0, 1]);
    town.say(1, "among us").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["hello", "among us"]);
    assert_eq!(town.texts(1), ["hello", "among us"]);
    assert_eq!(town.texts(2), ["hello"]);
    let refused = town.say(2, "and me?").unwrap_err();
    assert!(matches!(refused, CommandError::TopicClosed | CommandError::MayNotWrite), "{refused}");
    // And nothing more moves.
    town.wait(2 * KEEP_MAX_MS);
    assert_eq!(town.epochs(0), [1, 1]);
    // What was read to its end holds no connection, also after a restart.
    let live = |town: &Town| {
        let epochs: Vec<u32> = [town.space, town.room]
            .iter()
            .flat_map(|log| town.people[1].reader().topics_of_log(*log).unwrap())
            .filter(|(_, topic)| town.people[1].is_connected(*topic))
            .map(|(epoch, _)| epoch)
            .collect();
        epochs
    };
    assert_eq!(live(&town), [1, 1]);
    town.people[1].lose_connections();
    town.settle();
    assert_eq!(live(&town), [1, 1]);
}

#[test]
fn who_leaves_is_left_behind_by_one_manager_and_not_by_all() {
    let mut town = Town::new(3, true);
    town.promote(1);
    town.promote(2);
    town.act(3, Action::Leave).unwrap();
    town.settle();
    assert_eq!(town.epochs(0), [0, 0], "managers wait for a turn");
    town.wait(KEEP_MIN_MS - 6_000);
    assert_eq!(town.epochs(0), [0, 0]);
    for _ in 0..40 {
        town.wait(2_000);
    }
    assert_eq!(town.epochs(0), [1, 1], "one of them did it");
    town.agree(&[0, 1, 2]);
    town.say(1, "quiet now").unwrap();
    town.settle();
    assert_eq!(town.texts(2), ["quiet now"]);
    assert!(town.texts(3).is_empty());
}

#[test]
fn a_turn_that_comes_while_nothing_is_heard_is_taken_when_it_is() {
    let mut town = Town::new(2, true);
    town.act(2, Action::Leave).unwrap();
    town.settle();
    assert_eq!(town.epochs(0), [0, 0]);
    // Its turn comes while it has no connection.
    let peer = &mut town.people[0];
    peer.lose_connections();
    let until = peer.device.now.plus(KEEP_MAX_MS);
    while let Some(at) = peer.device.engine.next_wakeup().filter(|at| *at <= until) {
        peer.device.now = at.max(peer.device.now.plus(1));
        peer.feed(vec![Input::Timeout]);
    }
    peer.device.now = until;
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!(town.epochs(0), [1, 1]);
}

#[test]
fn a_ban_and_a_demotion_below_write_move_keys_and_other_demotions_do_not() {
    let mut town = Town::new(2, true);
    town.promote(1);
    let (one, two) = (town.author(1).into(), town.author(2).into());
    town.act(0, Action::Demote { member: one, level: Level::Write }).unwrap();
    town.settle();
    assert_eq!(town.epochs(0), [0, 0]);
    town.act(0, Action::Demote { member: one, level: Level::Read }).unwrap();
    town.settle();
    assert_eq!(town.epochs(0), [1, 1]);
    // It reads on, and has no key to write with.
    town.say(2, "for readers").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["for readers"]);
    assert!(!town.ticket(1, town.room).can_write() && town.ticket(2, town.room).can_write());
    town.act(0, Action::Ban { member: two, reason: None }).unwrap();
    town.settle();
    assert_eq!(town.epochs(0), [2, 2]);
    town.agree(&[0, 1]);
    assert_eq!(town.epochs(2), [0, 0].map(|_| 1), "what it had");
    // Whoever may write again is handed the key for it.
    town.act(0, Action::Promote { member: one, level: Level::Write }).unwrap();
    town.settle();
    assert!(town.ticket(1, town.room).can_write());
    town.say(1, "writing again").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["for readers", "writing again"]);
}

#[test]
fn of_two_removals_at_once_no_epoch_stays_with_either_removed() {
    let mut town = Town::new(3, true);
    town.promote(1);
    for who in [0, 1] {
        town.people[who].hold = true;
    }
    town.remove(0, 2);
    town.remove(1, 3);
    for who in [0, 1] {
        town.release(who);
    }
    for _ in 0..4 {
        town.wait(KEEP_MAX_MS);
    }
    let mut expected: Vec<Identity> = vec![town.author(0).into(), town.author(1).into()];
    expected.sort_unstable();
    assert_eq!((town.members(0), town.members(1)), (expected.clone(), expected));
    town.agree(&[0, 1]);
    town.say(0, "just us").unwrap();
    town.say(1, "indeed").unwrap();
    town.settle();
    for who in [0, 1] {
        let mut texts = town.texts(who);
        texts.sort_unstable();
        assert_eq!(texts, ["indeed", "just us"]);
    }
    for who in [2, 3] {
        assert!(town.texts(who).is_empty(), "{:?}", town.texts(who));
    }
}

#[test]
fn who_comes_later_reads_what_was_before_where_history_is_readable() {
    let mut town = Town::new(2, true);
    town.say(1, "first").unwrap();
    town.settle();
    town.remove(0, 2);
    town.settle();
    town.say(1, "second").unwrap();
    town.settle();
    town.join(7);
    assert_eq!(town.members(3).len(), 3);
    town.agree(&[0, 1, 3]);
    assert_eq!(town.texts(3), ["first", "second"]);
    town.say(3, "third").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["first", "second", "third"]);
}

#[test]
fn who_comes_later_reads_only_the_epoch_at_hand_where_it_is_not() {
    let mut town = Town::new(2, false);
    assert_eq!(town.epochs(1), [0, 1], "a room's first keys stand in the space's log: they are not used");
    town.say(1, "first").unwrap();
    town.settle();
    town.remove(0, 2);
    town.settle();
    town.say(1, "second").unwrap();
    town.settle();
    town.join(7);
    assert_eq!(town.members(3).len(), 3);
    town.agree(&[0, 1, 3]);
    assert_eq!(town.texts(3), ["second"]);
    town.say(3, "third").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["first", "second", "third"]);
}

#[test]
fn the_space_moves_only_behind_the_place_of_the_removal_so_that_who_is_removed_is_told() {
    let mut town = Town::new(2, true);
    let (space, room) = (town.ticket(0, town.space).topic(), town.ticket(0, town.room).topic());
    town.people[0].hold = true;
    town.remove(0, 2);
    let waits = |town: &Town, topic: TopicId| {
        let counts = town.people[0].reader().outbox_counts(topic).unwrap();
        counts.queued + counts.sent
    };
    assert_eq!((waits(&town, space), waits(&town, room)), (1, 1), "the removal, and the room's rotation");
    town.people[0].hold = false;
    // Packets overtake each other: the last goes first.
    for job in std::mem::take(&mut town.people[0].held).into_iter().rev() {
        town.net.carry(&job);
        let taken = Input::Posted { attempt: job.attempt, handover: Handover::Taken };
        town.people[0].feed(vec![taken]);
    }
    town.settle();
    assert_eq!((town.epochs(0), town.epochs(1)), ([1, 1], [1, 1]));
    assert_eq!((town.members(1).len(), town.members(2).len()), (2, 2), "who was removed knows it");
}

#[test]
fn a_removal_made_offline_is_followed_by_its_rotation_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut town = Town::with(store(), 2, true);
    let manager = &mut town.people[0];
    (manager.hold, manager.idle) = (true, true);
    town.remove(0, 2);
    assert_eq!(town.people[0].unsealed.len(), 1, "the keys were to be sealed, and never were");
    town.restart(store);
    town.follow(0);
    town.settle();
    // Packets that were handed out before are sent again after a look.
    for _ in 0..4 {
        town.wait(60_000);
    }
    assert_eq!((town.epochs(0), town.epochs(1)), ([1, 1], [1, 1]));
    town.say(1, "after").unwrap();
    town.settle();
    assert_eq!((town.texts(0), town.texts(2)), (vec!["after".to_owned()], Vec::new()));
}

#[test]
fn a_key_that_does_not_open_is_asked_for_again_and_visible_until_it_comes() {
    let mut town = Town::new(1, false);
    // It renewed its secrets twice and has forgotten the first, which are those the others know of.
    town.people[1].hold = true;
    let topic = town.ticket(1, town.space).topic();
    let now = town.people[1].device.now;
    let known = town.people[1].reader().device_secrets().unwrap().unwrap();
    let second = TwoParty.rotate_prekey(&known, now.plus(5_000)).unwrap();
    let third = TwoParty.rotate_prekey(&second, now.plus(10_000)).unwrap();
    let third = third.forget_expired(now.plus(200 * 24 * 3_600_000)).unwrap();
    for secrets in [second, third] {
        let command = Command::PublishBundle { topic, secrets: Box::new(secrets) };
        town.people[1].command(&mut town.net, command).unwrap();
    }
    let about = RoomText { name: "Cellar".into(), ..RoomText::default() };
    let made = Command::CreateRoom { space: town.space, about };
    let (room, _) = opened(town.people[0].command(&mut town.net, made).unwrap());
    town.room = room;
    town.follow(0);
    town.settle();
    assert_eq!((town.epochs(0)[1], town.epochs(1)[1]), (1, 0));
    let topic = town.ticket(1, room).topic();
    let Ok(Reply::Status(status)) = town.people[1].command(&mut town.net, Command::Status { topic }) else {
        panic!("a status");
    };
    assert_eq!(status.awaiting_key, Some(1));
    town.release(1);
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(town.epochs(1)[1], 1);
    town.say(1, "here at last").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["here at last"]);
    let reader = town.people[0].reader();
    assert_eq!(reader.key_asks(&room).unwrap(), [(1, town.author(1))]);
}

#[test]
fn keys_whose_sealing_never_ends_are_sealed_again() {
    let mut town = Town::new(2, true);
    town.people[0].idle = true;
    town.remove(0, 2);
    town.settle();
    assert_eq!(town.people[0].unsealed.len(), 1);
    town.wait(120_000);
    assert!(town.people[0].unsealed.len() > 1, "given out again");
    town.people[0].idle = false;
    let last = town.people[0].unsealed.pop().unwrap();
    town.people[0].feed(vec![Input::Sealed(delta_core::engine::seal(last))]);
    town.settle();
    assert_eq!((town.epochs(0), town.epochs(1)), ([1, 1], [1, 1]));
}
