//! Who asks to join a space: once a manager has added them they read and write there, without anything more.

use delta_core::engine::ASK_AGAIN_MS;
use delta_core::ops::{EpochKeys, Hidden, TicketBytes};
use delta_core::store::OutboxCounts;

use super::by_inbox::{heads, slip_in};
use super::*;

/// Somebody who has the contact of a manager's device asks it to be added.
fn asks(town: &mut Town, seed: u8, of: usize) -> usize {
    let to = town.author(of);
    let reader = town.people[of].reader();
    let newest = reader.inboxes().unwrap().last().unwrap().topic;
    let keys = reader.topic(newest).unwrap().unwrap().ticket.keys();
    let inbox = Some(Hidden(*keys.write_key().unwrap().seed()));
    let mut peer = alone(&mut town.net, seed);
    peer.device.now = town.people[0].device.now;
    let join = Command::RequestJoin { space: town.space, to, inbox, text: Some("let me in".into()) };
    peer.command(&mut town.net, join).unwrap();
    town.people.push(peer);
    town.settle();
    town.people.len() - 1
}

fn add(town: &mut Town, by: usize, who: usize, level: Level) {
    let member = town.author(who).into();
    town.act(by, Action::Add { member, level, invite: None, claim: None }).unwrap();
    for _ in 0..4 {
        town.settle();
    }
}

fn requests(town: &Town, of: usize) -> usize {
    let rows = town.people[of].reader().requests(&town.space).unwrap();
    rows.iter().filter(|row| row.claim.is_none()).count()
}

fn is_open(town: &Town, who: usize) -> bool {
    !town.people[who].reader().topics_of_log(town.space).unwrap().is_empty()
}

#[test]
fn who_asks_to_join_and_is_added_reads_and_writes_and_the_request_is_done() {
    let mut town = Town::new(1, true);
    town.say(1, "before").unwrap();
    town.settle();
    let who = asks(&mut town, 9, 0);
    assert_eq!(requests(&town, 0), 1);
    assert!(!is_open(&town, who), "nothing is handed to who was not added");
    add(&mut town, 0, who, Level::Write);
    assert_eq!((requests(&town, 0), requests(&town, who)), (0, 0));
    town.say(who, "thank you").unwrap();
    town.settle();
    for who in [0, 1, who] {
        assert_eq!(town.texts(who), ["before", "thank you"], "{who}");
        assert_eq!(town.members(who).len(), 3);
    }
}

#[test]
fn it_is_let_in_by_another_manager_too_and_where_the_space_lives_now() {
    let mut town = Town::new(2, true);
    town.say(1, "before").unwrap();
    town.remove(0, 2);
    town.settle();
    town.promote(1);
    assert_eq!(town.epochs(0), [1, 1]);
    let who = asks(&mut town, 9, 0);
    add(&mut town, 1, who, Level::Write);
    town.wait(KEEP_MAX_MS);
    town.wait(KEEP_MAX_MS);
    assert_eq!(town.epochs(who), [1, 1]);
    town.say(who, "thank you").unwrap();
    town.settle();
    for who in [0, 1, who] {
        assert_eq!(town.texts(who), ["before", "thank you"], "{who}");
    }
}

#[test]
fn who_is_added_to_read_is_handed_no_key_to_write_with() {
    let mut town = Town::new(1, true);
    let who = asks(&mut town, 9, 0);
    add(&mut town, 0, who, Level::Read);
    town.say(1, "for all").unwrap();
    town.settle();
    assert!(!town.ticket(who, town.space).can_write());
    assert_eq!(town.texts(who), ["for all"]);
    // Of the lowest level nothing is handed at all.
    let puller = asks(&mut town, 10, 0);
    add(&mut town, 0, puller, Level::Pull);
    assert!(!is_open(&town, puller));
    assert_eq!(requests(&town, 0), 1);
}

#[test]
fn nobody_is_led_into_a_space_by_a_device_that_it_did_not_ask() {
    let mut town = Town::new(1, true);
    let who = asks(&mut town, 9, 0);
    let request = town.people[who].reader().requests(&town.space).unwrap()[0].id;
    let welcome = |ticket: &Ticket, request| {
        let bytes = zbase32(&ticket.to_string()).try_into().unwrap();
        Content::EpochKeys(Box::new(EpochKeys::Welcome { request, ticket: TicketBytes(bytes) }))
    };
    let (space, room) = (town.ticket(0, town.space), town.ticket(0, town.room));
    let cited = heads(&town);
    // From another member; by who was asked, about something else; about no request.
    slip_in(&mut town, [2; 32], who, cited.clone(), welcome(&space, request));
    slip_in(&mut town, [1; 32], who, cited, welcome(&room, request));
    town.settle();
    assert!(!is_open(&town, who));
    assert!(town.people[who].reader().topics_of_log(town.room).unwrap().is_empty());
    let mut other = Town::new(1, true);
    let asker = asks(&mut other, 9, 0);
    let (space, cited) = (other.ticket(0, other.space), heads(&other));
    slip_in(&mut other, [1; 32], asker, cited, welcome(&space, OperationId([5; 32])));
    other.settle();
    assert!(!is_open(&other, asker));
}

/// Long enough to ask an inbox what it has.
const HAS_MS: u64 = 1_800_000;

/// The server says that it has the welcome, and throws it away.
#[test]
fn who_asks_again_because_the_welcome_was_lost_is_welcomed_again() {
    let mut town = Town::new(1, true);
    let who = asks(&mut town, 9, 0);
    let inbox = town.people[who].reader().inboxes().unwrap().last().unwrap().topic;
    town.people[who].deaf.insert(inbox);
    let before = town.net.world(inbox).log.len();
    add(&mut town, 0, who, Level::Write);
    // Whoever sent it has been told that it stands there.
    town.wait(HAS_MS);
    assert!(town.net.world(inbox).log.len() > before, "the welcome");
    assert_eq!(town.people[0].reader().outbox_totals().unwrap(), OutboxCounts::default());
    town.net.world(inbox).log.truncate(before);
    town.people[who].deaf.clear();
    town.settle();
    assert!(!is_open(&town, who));
    for _ in 0..3 {
        town.wait(ASK_AGAIN_MS);
    }
    assert!(is_open(&town, who));
    assert_eq!((requests(&town, 0), requests(&town, who)), (0, 0));
    town.say(who, "thank you").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["thank you"]);
}

/// It has as many topics as there may be when it is welcomed.
#[test]
fn a_welcome_that_finds_no_room_is_taken_when_there_is() {
    let mut town = Town::new(1, true);
    town.say(1, "before").unwrap();
    town.settle();
    let who = asks(&mut town, 9, 0);
    crate::unanswered::fill(&mut town.people[who]);
    add(&mut town, 0, who, Level::Write);
    assert!(!is_open(&town, who));
    assert_eq!((requests(&town, 0), requests(&town, who)), (0, 1));
    let rows = town.people[who].reader().topics().unwrap();
    let others = rows.into_iter().filter(|row| !row.ticket.is_of_one_device()).map(|row| row.topic);
    for topic in others.take(8) {
        town.people[who].command(&mut town.net, Command::Wipe { topic }).unwrap();
    }
    town.people[who].feed(vec![Input::Timeout]);
    town.settle();
    assert!(is_open(&town, who));
    assert_eq!(requests(&town, who), 0);
    town.say(who, "thank you").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["before", "thank you"]);
}

/// The bytes of a ticket's text.
fn zbase32(text: &str) -> Vec<u8> {
    const LETTERS: &str = "ybndrfg8ejkmcpqxot1uwisza345h769";
    let (mut bytes, mut bits, mut value) = (Vec::new(), 0, 0_u32);
    for letter in text.chars() {
        value = (value << 5) | LETTERS.find(letter).unwrap() as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((value >> bits) as u8);
            value &= (1 << bits) - 1;
        }
    }
    bytes
}
