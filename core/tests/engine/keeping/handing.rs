//! `key.hand` and `key.ask` as hostile devices say them: whoever hands a key that it may not, or another one than there
//! is, leads nobody astray, and whoever asks without end is handed four.

use delta_core::crypto::{DeviceSecrets, GroupCrypto, Purpose, Rotator, TwoParty, seal_key};
use delta_core::engine::{Command, Input, KEEP_MAX_MS, Reply, seal};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::limits::MAX_HANDED_AGAIN;
use delta_core::ops::{
    Action, BLOCK_LEN, Block, Body, Content, DeviceKey, EpochKeys, HandedKey, Level, RoomText, Ticket,
};
use delta_core::topic::WriteKey;

use super::{Town, alone, opened};
use crate::support::Writer;

/// Somebody comes by an invitation to this level.
fn join_as(town: &mut Town, seed: u8, level: Level) -> usize {
    let invite = Command::CreateInvite { space: town.space, level, expires: None, once: true };
    let Reply::Invite(invite) = town.people[0].command(&mut town.net, invite).unwrap() else { panic!() };
    let mut peer = alone(&mut town.net, seed);
    peer.device.now = town.people[0].device.now;
    peer.command(&mut town.net, Command::AcceptInvite { invite }).unwrap();
    town.people.push(peer);
    let who = town.people.len() - 1;
    town.follow(who);
    town.settle();
    town.settle();
    who
}

/// Somebody has come to a town, and nobody has handed it the room's key yet.
fn behind(mut town: Town) -> (Town, usize) {
    town.people[0].idle = true;
    town.join(70);
    let victim = town.people.len() - 1;
    assert_eq!(town.epochs(victim)[1], 0, "what stands in the space's log, and is over");
    (town, victim)
}

/// The first one's device is busy no more.
fn go_on(town: &mut Town) {
    town.people[0].idle = false;
    for job in std::mem::take(&mut town.people[0].unsealed) {
        town.people[0].feed(vec![Input::Sealed(seal(job))]);
    }
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
}

pub(super) fn heads(town: &Town) -> Vec<OperationId> {
    let newest = town.people[0].reader().audit(&town.space, None, 1).unwrap();
    newest.into_iter().map(|row| row.id).collect()
}

/// A ticket of the room in some epoch that leads to a place of one's own.
fn forged(town: &Town, epoch: u32, salt: u8) -> Ticket {
    Ticket::private(town.room, epoch, WriteKey::from_seed([salt; 32]), [salt; 32])
}

/// The very key to the very device, sealed as it must be.
fn handed(town: &Town, key: [u8; 32], secrets: &DeviceSecrets, to: usize, ticket: &Ticket) -> HandedKey {
    let device = DeviceKey::from_bytes(&key).author();
    let (reader, to) = (town.people[0].reader(), town.author(to));
    let bundle = reader.device_bundle(&to).unwrap().expect("a bundle");
    let from = Rotator { device, secrets };
    let now = town.people[0].device.now;
    let block = seal_key(&TwoParty, from, Purpose::Handed, &bundle, ticket, now).unwrap();
    let (log, epoch, topic) = (ticket.log(), ticket.epoch(), ticket.topic());
    HandedKey { log, epoch, topic, device: to, write: ticket.can_write(), block }
}

fn secrets(town: &Town) -> DeviceSecrets {
    TwoParty.generate(town.people[0].device.now, &mut SeededEntropy::new([66; 32])).unwrap()
}

/// Signs something into a log of the space as its author's next operation, whatever its own device would say to that.
pub(super) fn slip_in(
    town: &mut Town,
    key: [u8; 32],
    ticket: &Ticket,
    heads: &[OperationId],
    keys: EpochKeys,
) {
    let author = DeviceKey::from_bytes(&key).author();
    let ends = town.people[0].reader().log_ends(&ticket.log()).unwrap();
    let end = ends.into_iter().find(|end| end.author == author);
    let mut writer = Writer::new(key, ticket);
    if let Some(end) = end {
        (writer.next, writer.last) = (end.seq_num + 1, Some(end.id));
    }
    let mut body = Body::new(Content::EpochKeys(Box::new(keys)));
    body.auth_heads = heads.to_vec();
    let envelope = writer.write(body);
    town.net.world(ticket.topic()).log.push(envelope);
    town.settle();
}

fn knows(town: &Town, who: usize, ticket: &Ticket) -> bool {
    town.people[who].reader().topic(ticket.topic()).unwrap().is_some()
}

/// Everybody reads what everybody says.
fn talk(town: &mut Town, among: &[usize]) {
    town.agree(among);
    for who in among {
        town.say(*who, &format!("from {who}")).unwrap();
        town.settle();
    }
    for who in among {
        let texts = town.texts(*who);
        assert!(among.iter().all(|by| texts.contains(&format!("from {by}"))), "{who}: {texts:?}");
    }
}

#[test]
fn case_61_a_key_counts_only_when_a_manager_hands_it() {
    // 1 writes, 2 manages and is muted, 3 managed and was removed, 4 reads.
    let mut town = Town::new(3, false);
    town.promote(2);
    town.promote(3);
    let old = (heads(&town), town.ticket(3, town.space));
    let reader = join_as(&mut town, 8, Level::Read);
    assert_eq!(reader, 4);
    town.remove(0, 3);
    town.settle();
    let member = town.author(2).into();
    town.act(0, Action::Mute { member, until: None }).unwrap();
    town.settle();
    assert_eq!(town.epochs(1), [1, 2]);
    let (mut town, victim) = behind(town);
    let (now, secrets) = ((heads(&town), town.ticket(0, town.space)), secrets(&town));
    let mut astray = Vec::new();
    // Writer, muted manager, reader, nobody at all; the removed manager where it can still write, with what it knew.
    for (salt, key, (heads, place)) in [
        (40, 2, &now),
        (41, 3, &now),
        (42, 8, &now),
        (43, 99, &now),
        (44, 4, &old),
        (45, 4, &(now.0.clone(), old.1.clone())),
    ] {
        let ticket = forged(&town, 2, salt);
        let hand = EpochKeys::Hand(vec![handed(&town, [key; 32], &secrets, victim, &ticket)]);
        slip_in(&mut town, [key; 32], place, heads, hand);
        assert!(!knows(&town, victim, &ticket), "of {key}");
        astray.push(ticket);
    }
    go_on(&mut town);
    assert!(astray.iter().all(|ticket| !knows(&town, victim, ticket)));
    talk(&mut town, &[0, 1, victim]);
}

#[test]
fn a_manager_who_hands_a_key_that_opens_nothing_is_asked_about_and_others_hand_the_right_one() {
    let mut town = Town::new(2, false);
    town.promote(2);
    let (mut town, victim) = behind(town);
    let (heads, place, secrets) = (heads(&town), town.ticket(0, town.space), secrets(&town));
    // Noise; the right block under another topic's name; one that was sealed for somebody else, and for another log.
    let right = town.ticket(2, town.room);
    let sealed = |ticket: &Ticket, to| handed(&town, [3; 32], &secrets, to, ticket);
    let noise = HandedKey { block: Block::from_bytes(&[5; BLOCK_LEN]).unwrap(), ..sealed(&right, victim) };
    let elsewhere = HandedKey { topic: forged(&town, 1, 50).topic(), ..sealed(&right, victim) };
    let others = HandedKey { device: town.author(victim), ..sealed(&right, 1) };
    let of_space = Ticket::private(town.space, 1, WriteKey::from_seed([51; 32]), [51; 32]);
    let misplaced = HandedKey { log: town.room, topic: right.topic(), ..sealed(&of_space, victim) };
    // And one that opens the right topic, with another secret than everybody has: the rotation that led there says so.
    let room = z32::decode(right.to_string().as_bytes()).unwrap();
    let write = WriteKey::from_seed(room[37..69].try_into().unwrap());
    let split = sealed(&Ticket::private(town.room, 1, write, [52; 32]), victim);
    assert_eq!(split.topic, right.topic());
    for key in [noise, elsewhere, others, misplaced, split] {
        slip_in(&mut town, [3; 32], &place, &heads, EpochKeys::Hand(vec![key]));
        assert_eq!(town.epochs(victim)[1], 0);
    }
    go_on(&mut town);
    talk(&mut town, &[0, 1, victim]);
}

#[test]
fn nobody_is_led_away_from_a_topic_that_is_open_and_nobody_behind_to_another_than_the_next() {
    let mut town = Town::new(2, false);
    town.promote(2);
    let (mut town, victim) = behind(town);
    let (heads, place, secrets) = (heads(&town), town.ticket(0, town.space), secrets(&town));
    // The next epoch of the room is known by its topic.
    let wrong = forged(&town, 1, 60);
    let hand = EpochKeys::Hand(vec![handed(&town, [3; 32], &secrets, victim, &wrong)]);
    slip_in(&mut town, [3; 32], &place, &heads, hand);
    assert!(!knows(&town, victim, &wrong));
    go_on(&mut town);
    town.agree(&[0, 1, victim]);
    // The same epoch, the next one, one far ahead; of the room and of the space.
    for (salt, epoch) in [(61, 1), (62, 2), (63, u32::MAX - 2)] {
        let room = forged(&town, epoch, salt);
        let space = Ticket::private(town.space, epoch, WriteKey::from_seed([salt; 32]), [salt; 32]);
        for ticket in [room, space] {
            let keys = [1, victim].map(|who| handed(&town, [3; 32], &secrets, who, &ticket));
            slip_in(&mut town, [3; 32], &place, &heads, EpochKeys::Hand(keys.to_vec()));
            assert!([1, victim].iter().all(|who| !knows(&town, *who, &ticket)), "epoch {epoch}");
        }
    }
    talk(&mut town, &[0, 1, victim]);
}

#[test]
fn who_followed_a_manager_into_a_far_epoch_comes_back_when_he_is_removed() {
    let mut town = Town::new(2, false);
    town.promote(2);
    let (mut town, victim) = behind(town);
    let (heads, place, secrets) = (heads(&town), town.ticket(0, town.space), secrets(&town));
    // Of an epoch that does not follow on one it knows it takes a manager's word.
    let far = forged(&town, 1 << 31, 70);
    let hand = EpochKeys::Hand(vec![handed(&town, [3; 32], &secrets, victim, &far)]);
    slip_in(&mut town, [3; 32], &place, &heads, hand);
    assert!(knows(&town, victim, &far));
    go_on(&mut town);
    town.remove(0, 2);
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    let before = town.net.world(far.topic()).log.len();
    for who in [0, victim, 1] {
        town.say(who, &format!("from {who}")).unwrap();
        town.settle();
    }
    let said = ["from 0".to_owned(), format!("from {victim}"), "from 1".to_owned()];
    for who in [0, victim, 1] {
        assert_eq!(town.texts(who), said, "{who}");
    }
    assert_eq!(town.net.world(far.topic()).log.len(), before, "nothing is said to the removed one");
}

#[test]
fn a_hand_over_that_is_said_again_by_somebody_else_or_elsewhere_changes_nothing() {
    let mut town = Town::new(2, false);
    town.promote(2);
    let (mut town, victim) = behind(town);
    go_on(&mut town);
    let before = (town.epochs(victim), town.ticket(victim, town.room).to_string());
    // The first one's own hand-over, as it stands in the log, in the mouth of another manager.
    let (heads, place) = (heads(&town), town.ticket(0, town.space));
    let log = town.net.worlds[&place.topic()].log.clone();
    let mut again = 0;
    for envelope in &log {
        let opened = place.keys().open(envelope).unwrap();
        let Ok(Body { content: Content::EpochKeys(keys), .. }) = Body::decode(&opened.body) else { continue };
        let EpochKeys::Hand(_) = &*keys else { continue };
        slip_in(&mut town, [3; 32], &place, &heads, (*keys).clone());
        again += 1;
        // And the very envelope.
        town.net.world(place.topic()).log.push(envelope.clone());
        town.settle();
    }
    assert!(again > 0);
    town.wait(KEEP_MAX_MS);
    assert_eq!((town.epochs(victim), town.ticket(victim, town.room).to_string()), before);
    talk(&mut town, &[0, 1, 2, victim]);
}

/// How often a key was handed to a device.
fn hands(town: &Town, to: Author, epoch: u32) -> usize {
    let place = town.ticket(0, town.space);
    let handed = |envelope: &Vec<u8>| {
        let body = place.keys().open(envelope).ok().and_then(|opened| Body::decode(&opened.body).ok());
        let Some(Body { content: Content::EpochKeys(keys), .. }) = body else { return 0 };
        let EpochKeys::Hand(keys) = *keys else { return 0 };
        keys.iter().filter(|key| key.device == to && key.log == town.room && key.epoch == epoch).count()
    };
    town.net.worlds[&place.topic()].log.iter().map(handed).sum()
}

#[test]
fn who_says_without_end_that_nothing_opens_is_handed_a_key_four_times() {
    let mut town = Town::new(2, false);
    let about = RoomText { name: "Cellar".into(), ..RoomText::default() };
    let made = Command::CreateRoom { space: town.space, about };
    let (room, _) = opened(town.people[0].command(&mut town.net, made).unwrap());
    town.room = room;
    town.follow(0);
    town.settle();
    town.join(7);
    let (asks, honest) = (town.author(3), town.author(1));
    let first = hands(&town, asks, 1);
    assert!(first > 0, "it came after the room");
    assert_eq!(hands(&town, honest, 1), 0, "it was handed the key by the rotation");
    // It says of every one that it does not open, and of operations that nobody made.
    let (heads, place) = (heads(&town), town.ticket(0, town.space));
    for round in 0..12u8 {
        let handed = town.people[0].reader().handed_to(&room, &asks).unwrap();
        let failed = handed.iter().map(|handed| Some(handed.operation));
        for failed in failed.chain([None, Some(OperationId([round; 32]))]) {
            slip_in(&mut town, [7; 32], &place, &heads, EpochKeys::Ask { log: room, epoch: 1, failed });
        }
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(hands(&town, asks, 1), MAX_HANDED_AGAIN, "at the limit, and no more past it");
    // Epochs that are not there, and other people's rooms, cost nobody anything.
    let before = town.net.worlds[&place.topic()].log.len();
    for epoch in 0..50 {
        let log = LogId([epoch as u8; 32]);
        for log in [log, room] {
            let ask = EpochKeys::Ask { log, epoch: epoch + 7, failed: None };
            slip_in(&mut town, [7; 32], &place, &heads, ask);
        }
    }
    town.wait(KEEP_MAX_MS);
    assert_eq!(town.net.worlds[&place.topic()].log.len(), before + 100, "no answers");
    // Whoever did not ask is as well off as before.
    town.agree(&[0, 1]);
    town.say(1, "undisturbed").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["undisturbed"]);
}
