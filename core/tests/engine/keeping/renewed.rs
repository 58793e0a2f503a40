//! A manager who is removed moves a room before those who stay do: to where nobody can follow, or again and again. The
//! room goes on all the same, for everybody, with what was said before.

use delta_core::crypto::{Recipient, Rotator, prepare_rotation};
use delta_core::engine::{Event, KEEP_MAX_MS, KEEP_MIN_MS};
use delta_core::limits::{MAX_TOPICS, RENEWAL_EPOCHS};
use delta_core::ops::{Contact, Hidden, RoomKeys};
use delta_core::topic::WriteKey;

use super::*;

const MALLORY: usize = 2;

/// A manager who is about to be removed, and knows it: what he signs cites what was before.
struct Raced {
    town: Town,
    heads: Vec<OperationId>,
    /// The room's topic while he belonged there, and then where he leads.
    tickets: Vec<Ticket>,
    next: u32,
    last: Option<OperationId>,
}

impl Raced {
    fn new(others: u8, history: bool) -> Self {
        Self::with(Town::new(others, history))
    }

    fn with(town: Town) -> Self {
        let mut raced = Self::before(town);
        // The one who removes him is slower than he is.
        raced.town.people[0].idle = true;
        raced.town.remove(0, MALLORY);
        raced
    }

    /// He manages the space still.
    fn before(mut town: Town) -> Self {
        town.promote(MALLORY);
        town.say(1, "before").unwrap();
        town.say(MALLORY, "hello").unwrap();
        town.settle();
        let newest = town.people[0].reader().audit(&town.space, None, 1).unwrap();
        let heads = newest.into_iter().map(|row| row.id).collect();
        let ticket = town.ticket(MALLORY, town.room);
        let author = town.author(MALLORY);
        let ends = town.people[1].reader().log_ends(&town.room).unwrap();
        let end = ends.into_iter().find(|end| end.author == author).unwrap();
        Self { town, heads, tickets: vec![ticket], next: end.seq_num + 1, last: Some(end.id) }
    }

    fn says(&mut self, topic: usize, content: Content) {
        let ticket = &self.tickets[topic];
        let mut writer = Writer::new([3; 32], ticket);
        (writer.next, writer.last) = (self.next, self.last);
        let mut body = Body::new(content);
        body.auth_heads.clone_from(&self.heads);
        let envelope = writer.write(body);
        (self.next, self.last) = (writer.next, writer.last);
        self.town.net.world(ticket.topic()).log.push(envelope);
    }

    /// He moves the room once more, and hands the keys to these.
    fn rotates(&mut self, to: &[usize]) {
        let at = self.tickets.last().unwrap().clone();
        let now = self.town.people[0].device.now;
        let entropy = &mut SeededEntropy::new([at.epoch() as u8 + 40; 32]);
        let secrets = TwoParty.generate(now, entropy).unwrap();
        let known = |who: &usize| {
            let author = self.town.author(*who);
            self.town.people.iter().find_map(|peer| peer.reader().device_bundle(&author).unwrap()).unwrap()
        };
        let bundles: Vec<_> = to.iter().map(known).collect();
        let to: Vec<_> = bundles.iter().map(|bundle| Recipient { bundle, may_write: true }).collect();
        let rotator = Rotator { device: self.town.author(MALLORY), secrets: &secrets };
        let prepared = prepare_rotation(&TwoParty, rotator, &at, &to, Vec::new(), now, entropy).unwrap();
        self.says(self.tickets.len() - 1, Content::RoomRotate(Box::new(prepared.rotation)));
        self.tickets.push(prepared.ticket);
    }

    /// How often the room was renewed.
    fn renewals(&self) -> usize {
        let audit = self.town.people[1].reader().audit(&self.town.space, None, 100).unwrap();
        audit.iter().filter(|row| row.kind == "room.renew").count()
    }

    /// The one who removed him does what there is to do, and time passes.
    fn go_on(&mut self) {
        self.begin();
        self.pass();
    }

    fn pass(&mut self) {
        for _ in 0..6 {
            self.town.wait(KEEP_MAX_MS);
        }
    }

    fn begin(&mut self) {
        self.town.settle();
        self.town.people[0].idle = false;
        for job in std::mem::take(&mut self.town.people[0].unsealed) {
            let sealed = Input::Sealed(delta_core::engine::seal(job));
            self.town.people[0].feed(vec![sealed]);
        }
    }

    /// Everybody who stays reads and writes in one place, which he knows nothing of.
    fn stays_whole(&mut self, among: &[usize], before: &[&str]) {
        let town = &mut self.town;
        let space = town.ticket(0, town.space);
        let mut expected: Vec<_> = before.iter().map(|text| (*text).to_owned()).collect();
        for who in among {
            town.say(*who, &format!("{who}")).unwrap();
            town.settle();
            expected.push(format!("{who}"));
        }
        for who in among {
            assert_eq!(town.texts(*who), expected, "{who}");
        }
        // Where the last of it stands.
        let rooms = among.iter().map(|who| town.ticket(*who, town.room));
        let room = rooms.max_by_key(|room| town.net.worlds[&room.topic()].log.len()).unwrap();
        let keys: Vec<_> = self.tickets.iter().map(Ticket::keys).collect();
        let last = town.net.worlds[&room.topic()].log.iter().rev().take(among.len());
        assert!(last.clone().count() == among.len() && last.clone().all(|it| room.keys().open(it).is_ok()));
        for envelope in last {
            assert!(keys.iter().all(|keys| keys.open(envelope).is_err()));
        }
        assert!(town.ticket(MALLORY, town.space).topic() != space.topic(), "he reads nothing of the space");
    }
}

#[test]
fn a_room_that_a_removed_manager_led_to_where_nobody_has_the_key_goes_on() {
    let mut raced = Raced::new(3, true);
    raced.rotates(&[]);
    raced.go_on();
    assert_eq!(raced.town.epochs(0), [1, RENEWAL_EPOCHS]);
    raced.stays_whole(&[0, 1, 3], &["before", "hello"]);
    // Whoever comes later reads all of it.
    raced.town.join(9);
    raced.town.wait(KEEP_MAX_MS);
    raced.town.agree(&[0, 4]);
    assert_eq!(raced.town.texts(4), raced.town.texts(0));
    // Its keys stand in the space's log: nobody is handed them.
    for who in [1, 3, 4] {
        let reader = raced.town.people[0].reader();
        let handed = reader.handed_to(&raced.town.room, &raced.town.author(who)).unwrap();
        assert!(handed.iter().all(|handed| handed.epoch != RENEWAL_EPOCHS), "{who}");
    }
}

#[test]
fn where_newcomers_read_nothing_of_before_the_renewed_room_moves_once_more() {
    let mut raced = Raced::new(3, false);
    // The room has moved already: its first keys stand in the space's log.
    let moved = raced.tickets[0].epoch();
    assert!(moved > 0);
    raced.rotates(&[]);
    raced.go_on();
    assert_eq!(raced.town.epochs(0)[1], RENEWAL_EPOCHS + 1);
    raced.stays_whole(&[0, 1, 3], &["before", "hello"]);
}

#[test]
fn it_does_so_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut raced = Raced::with(Town::with(store(), 3, true));
    // He hands the key to one: whose topics end where it had read them.
    raced.rotates(&[0]);
    raced.rotates(&[]);
    raced.go_on();
    let town = &mut raced.town;
    town.restart(store);
    town.follow(0);
    town.settle();
    town.wait(KEEP_MAX_MS);
    assert_eq!(town.epochs(0), [1, RENEWAL_EPOCHS]);
    raced.stays_whole(&[0, 1, 3], &["before", "hello"]);
}

#[test]
fn a_removed_manager_who_moves_a_room_again_and_again_is_shaken_off() {
    let mut raced = Raced::new(3, true);
    let mine = || Content::MessageSend {
        text: "mine".into(),
        reply: None,
        mentions: vec![],
        attachments: Vec::new(),
    };
    // He hands all keys to everybody but one, and wherever they come his next rotation stands already.
    for _ in 0..5 {
        raced.rotates(&[0, 1]);
    }
    raced.town.people[0].hold = true;
    raced.begin();
    for _ in 0..2 {
        raced.town.settle();
        // Before the one that follows from his removal.
        raced.rotates(&[0, 1]);
        raced.town.release(0);
        raced.town.people[0].hold = true;
    }
    raced.says(6, mine());
    raced.town.settle();
    assert_eq!(raced.town.epochs(1)[1], 7);
    raced.town.say(1, "meanwhile").unwrap();
    raced.town.settle();
    raced.says(7, mine());
    raced.town.release(0);
    raced.pass();
    assert_eq!(raced.town.epochs(0), [1, RENEWAL_EPOCHS]);
    raced.says(7, mine());
    raced.stays_whole(&[0, 1, 3], &["before", "hello", "meanwhile"]);
}

#[test]
fn only_one_manager_renews_a_room_and_not_before_others_had_time_to_hand_on_the_key() {
    let mut raced = Raced::new(4, true);
    raced.town.promote(3);
    raced.rotates(&[]);
    raced.town.settle();
    raced.town.wait(KEEP_MAX_MS);
    assert_eq!(raced.town.epochs(3)[1], 0);
    raced.begin();
    // Each hears in time what the other did.
    for _ in 0..30 {
        raced.town.wait(5_000);
    }
    assert_eq!(raced.town.epochs(3), [1, RENEWAL_EPOCHS]);
    assert_eq!(raced.renewals(), 1);
    raced.town.agree(&[0, 1, 3, 4]);
    raced.stays_whole(&[0, 1, 3, 4], &["before", "hello"]);
}

#[test]
fn of_two_managers_who_renew_a_room_at_once_everybody_goes_where_one_of_them_says() {
    let mut raced = Raced::new(4, true);
    raced.town.promote(3);
    raced.rotates(&[]);
    // In one step, without a word of the other.
    raced.go_on();
    assert_eq!(raced.renewals(), 2);
    assert_eq!(raced.town.epochs(3), [1, RENEWAL_EPOCHS]);
    raced.stays_whole(&[0, 1, 3, 4], &["before", "hello"]);
}

/// By a manager, before he is removed by somebody who had not heard of it.
#[test]
fn a_renewal_that_a_removal_takes_away_leads_nobody_anywhere() {
    let mut town = Town::new(3, true);
    town.promote(MALLORY);
    town.say(1, "before").unwrap();
    town.settle();
    let topic = town.ticket(0, town.space).topic();
    for who in [0, 1] {
        town.people[who].deaf.insert(topic);
    }
    let room = town.room;
    let keys = RoomKeys { write: Hidden([5; 32]), secret: Hidden([6; 32]) };
    town.act(MALLORY, Action::RoomRenew { room, epoch: RENEWAL_EPOCHS, from: 0, keys }).unwrap();
    town.settle();
    // Who heard of it goes there, and says something.
    assert_eq!(town.epochs(3)[1], RENEWAL_EPOCHS);
    town.say(3, "there").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["before"]);
    town.remove(0, MALLORY);
    town.settle();
    for who in [0, 1] {
        town.people[who].deaf.clear();
    }
    for _ in 0..4 {
        town.wait(KEEP_MIN_MS + KEEP_MAX_MS);
    }
    for who in [0, 1, 3] {
        assert_eq!(town.epochs(who), [1, 1], "{who}");
    }
    town.agree(&[0, 1]);
    town.say(3, "here").unwrap();
    town.settle();
    town.say(0, "and here").unwrap();
    town.settle();
    // What was said where nobody else was is said again.
    for who in [0, 1, 3] {
        assert_eq!(town.texts(who), ["before", "there", "here", "and here"], "{who}");
    }
}

#[test]
fn where_a_renewal_led_that_was_taken_away_is_left_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut town = Town::with(store(), 3, true);
    town.promote(MALLORY);
    town.promote(1);
    let topic = town.ticket(0, town.space).topic();
    town.people[1].deaf.insert(topic);
    let room = town.room;
    let keys = RoomKeys { write: Hidden([5; 32]), secret: Hidden([6; 32]) };
    let led = Ticket::private(room, RENEWAL_EPOCHS, WriteKey::from_seed([5; 32]), [6; 32]).topic();
    town.act(MALLORY, Action::RoomRenew { room, epoch: RENEWAL_EPOCHS, from: 0, keys }).unwrap();
    town.settle();
    let known = town.people[0].reader().topics_of_log(room).unwrap()[0].1;
    assert_eq!(town.people[0].reader().living_in(known).unwrap(), led);
    town.remove(1, MALLORY);
    town.settle();
    town.people[1].deaf.clear();
    for _ in 0..4 {
        town.wait(KEEP_MIN_MS + KEEP_MAX_MS);
    }
    town.restart(store);
    // Before anything is heard again.
    let lives = town.people[0].reader().living_in(known).unwrap();
    assert_ne!(lives, led);
    assert_eq!(lives, town.ticket(1, room).topic());
    let stands = |town: &Town| [lives, led].map(|topic| town.net.worlds[&topic].log.len());
    let before = stands(&town);
    town.say(0, "once more").unwrap();
    town.settle();
    assert_eq!(stands(&town), [before[0] + 1, before[1]]);
}

#[test]
fn a_room_that_was_deleted_is_not_renewed_and_nobody_waits_for_it() {
    let mut raced = Raced::new(3, true);
    raced.rotates(&[]);
    raced.town.settle();
    let room = raced.town.room;
    raced.town.people[0].idle = false;
    raced.town.act(0, Action::RoomDelete { room }).unwrap();
    raced.go_on();
    assert_eq!(raced.renewals(), 0);
    let device = &raced.town.people[0].device;
    let next = device.engine.next_wakeup().unwrap();
    let hour = 3_600_000;
    assert!(next.since(device.now) > hour, "{}", next.since(device.now));
}

#[test]
fn a_room_is_renewed_by_managers_in_steps() {
    let mut town = Town::new(2, true);
    let keys = |seed| RoomKeys { write: Hidden([seed; 32]), secret: Hidden([6; 32]) };
    let renew = |room, epoch, from| Action::RoomRenew { room, epoch, from, keys: keys(5) };
    let room = town.room;
    assert!(town.act(1, renew(room, RENEWAL_EPOCHS, 0)).is_err(), "a writer");
    assert!(town.act(0, renew(LogId([9; 32]), RENEWAL_EPOCHS, 0)).is_err(), "no room");
    assert!(town.act(0, renew(room, 2 * RENEWAL_EPOCHS, 0)).is_err(), "not the next");
    assert!(town.act(0, renew(room, RENEWAL_EPOCHS, RENEWAL_EPOCHS)).is_err(), "from itself");
    town.act(0, renew(room, RENEWAL_EPOCHS, 0)).unwrap();
    town.settle();
    assert!(town.act(0, renew(room, RENEWAL_EPOCHS, 0)).is_err(), "the same once more");
    // No key of an epoch between is taken.
    let ticket = Ticket::private(room, 7, WriteKey::from_seed([8; 32]), [9; 32]);
    let _ = town.people[1].command(&mut town.net, Command::Meet { ticket });
    let known = town.people[1].reader().topics_of_log(room).unwrap();
    assert_eq!(known.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [0, RENEWAL_EPOCHS]);
    // With keys that are somewhere else already it leads nowhere; the next one does.
    town.act(0, renew(room, 2 * RENEWAL_EPOCHS, RENEWAL_EPOCHS)).unwrap();
    town.settle();
    assert_eq!(town.epochs(1), [0, RENEWAL_EPOCHS]);
    // Nor with those of another room.
    let about = RoomText { name: "Shed".into(), ..RoomText::default() };
    let shed = Command::CreateRoom { space: town.space, about };
    let (shed, topic) = opened(town.people[0].command(&mut town.net, shed).unwrap());
    town.settle();
    let write = {
        let row = town.people[0].reader().topic(topic).unwrap().unwrap();
        Hidden(*row.ticket.keys().write_key().unwrap().seed())
    };
    let used = RoomKeys { write, secret: Hidden([6; 32]) };
    let (epoch, from) = (3 * RENEWAL_EPOCHS, RENEWAL_EPOCHS);
    town.act(0, Action::RoomRenew { room, epoch, from, keys: used }).unwrap();
    town.settle();
    assert_eq!(town.epochs(1), [0, RENEWAL_EPOCHS]);
    town.say(1, "in the square").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["in the square"]);
    assert!(town.people[0].reader().messages(&shed, Page::Newest, 9).unwrap().is_empty());
    let epoch = 4 * RENEWAL_EPOCHS;
    town.act(0, Action::RoomRenew { room, epoch, from: RENEWAL_EPOCHS, keys: keys(7) }).unwrap();
    town.settle();
    assert_eq!(town.epochs(1), [0, epoch]);
    town.agree(&[0, 1, 2]);
}

/// It ends an epoch beside the one it says that counts; what is taken back goes on, with what was to be sent.
#[test]
fn what_a_renewal_ended_goes_on_where_that_is_taken_away() {
    let mut town = Town::new(4, true);
    town.promote(MALLORY);
    town.remove(0, 4);
    town.settle();
    assert_eq!(town.epochs(3), [1, 1]);
    town.say(1, "before").unwrap();
    town.settle();
    let topic = town.ticket(0, town.space).topic();
    for who in [0, 1] {
        town.people[who].deaf.insert(topic);
    }
    let room = town.room;
    let keys = RoomKeys { write: Hidden([5; 32]), secret: Hidden([6; 32]) };
    town.act(MALLORY, Action::RoomRenew { room, epoch: RENEWAL_EPOCHS, from: 0, keys }).unwrap();
    town.settle();
    assert_eq!(town.epochs(3)[1], RENEWAL_EPOCHS);
    town.people[3].hold = true;
    town.say(3, "on its way").unwrap();
    town.remove(0, MALLORY);
    town.settle();
    for who in [0, 1] {
        town.people[who].deaf.clear();
    }
    town.settle();
    town.release(3);
    for _ in 0..4 {
        town.wait(KEEP_MIN_MS + KEEP_MAX_MS);
    }
    assert_eq!(town.epochs(0), [2, 2]);
    town.agree(&[0, 1]);
    town.say(1, "here").unwrap();
    town.settle();
    town.say(3, "and here").unwrap();
    town.settle();
    for who in [0, 1, 3] {
        let mut texts = town.texts(who);
        texts.sort_unstable();
        assert_eq!(texts, ["and here", "before", "here", "on its way"], "{who}");
    }
}

#[test]
fn what_was_said_in_an_epoch_that_he_closed_himself_is_said_again_too() {
    let mut raced = Raced::new(3, true);
    for _ in 0..5 {
        raced.rotates(&[0, 1]);
    }
    raced.town.people[0].hold = true;
    raced.begin();
    for _ in 0..2 {
        raced.town.settle();
        raced.rotates(&[0, 1]);
        raced.town.release(0);
        raced.town.people[0].hold = true;
    }
    raced.town.settle();
    raced.town.say(1, "meanwhile").unwrap();
    raced.town.settle();
    raced.rotates(&[0, 1]);
    raced.town.settle();
    assert_eq!(raced.town.epochs(1)[1], 8, "closed, and not the newest");
    raced.town.release(0);
    raced.pass();
    assert_eq!(raced.town.epochs(0), [1, RENEWAL_EPOCHS]);
    raced.stays_whole(&[0, 1, 3], &["before", "hello", "meanwhile"]);
}

/// Who was removed reads the space's log until that has moved.
#[test]
fn no_room_is_renewed_where_who_was_removed_could_read_the_keys() {
    let mut raced = Raced::new(3, true);
    raced.rotates(&[]);
    // The space moves late: the one who removed him has the keys made, and it takes long.
    raced.pass();
    assert_eq!((raced.town.epochs(0)[0], raced.renewals()), (0, 0));
    raced.go_on();
    assert_eq!(raced.town.epochs(0), [1, RENEWAL_EPOCHS]);
    raced.stays_whole(&[0, 1, 3], &["before", "hello"]);
}

#[test]
fn a_device_with_as_many_topics_as_there_may_be_follows_a_renewal_when_it_has_room() {
    let mut town = Town::new(1, true);
    // Something is on its way to somebody's inbox.
    let Contact { device: to, inbox } = crate::inbox::contact(&town.people[0]);
    let ask = Command::RequestJoin { space: LogId([9; 32]), to, inbox: Some(inbox), text: None };
    town.people[1].hold = true;
    town.people[1].command(&mut town.net, ask).unwrap();
    crate::unanswered::fill(&mut town.people[1]);
    let keys = RoomKeys { write: Hidden([5; 32]), secret: Hidden([6; 32]) };
    let room = town.room;
    town.act(0, Action::RoomRenew { room, epoch: RENEWAL_EPOCHS, from: 0, keys }).unwrap();
    town.settle();
    assert_eq!((town.epochs(0)[1], town.epochs(1)[1]), (RENEWAL_EPOCHS, 0));
    town.release(1);
    town.wait(KEEP_MAX_MS);
    assert!(town.people[1].reader().topics().unwrap().len() < MAX_TOPICS, "it has arrived");
    town.act(0, Action::SpaceUpdate { about: SpaceText { history: true, ..SpaceText::default() } }).unwrap();
    town.settle();
    assert_eq!(town.epochs(1)[1], RENEWAL_EPOCHS);
    town.say(1, "here I am").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["here I am"]);
}

/// The room stays where he led it until somebody removes him.
#[test]
fn a_room_is_not_renewed_as_long_as_who_led_it_away_manages_the_space() {
    let mut raced = Raced::before(Town::new(3, true));
    raced.rotates(&[]);
    raced.pass();
    assert_eq!((raced.town.epochs(0), raced.renewals()), ([0, 0], 0));
    raced.town.remove(0, MALLORY);
    raced.pass();
    assert_eq!(raced.town.epochs(0), [1, RENEWAL_EPOCHS]);
    raced.stays_whole(&[0, 1, 3], &["before", "hello"]);
}

#[test]
fn a_room_is_not_renewed_because_rotations_lose_to_those_of_another_manager() {
    let mut town = Town::new(7, true);
    town.promote(1);
    for gone in [2, 4, 6] {
        for who in [0, 1] {
            town.people[who].hold = true;
        }
        town.remove(0, gone);
        town.remove(1, gone + 1);
        for who in [0, 1] {
            town.release(who);
        }
        for _ in 0..3 {
            town.wait(KEEP_MAX_MS);
        }
    }
    town.agree(&[0, 1]);
    assert_eq!(town.members(1).len(), 2);
    let lost = |event: &Event| matches!(event, Event::RotationLost { .. });
    assert!(town.people[1].events.iter().filter(|event| lost(event)).count() >= 2, "in the room, too");
    assert!(town.epochs(0)[1] < RENEWAL_EPOCHS);
}
