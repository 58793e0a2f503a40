//! People with several devices: what each reads when keys move, and what a revoked one does not.

use delta_core::crypto::{Recipient, Rotator, prepare_rotation};
use delta_core::limits::MAX_TOPICS;

use super::*;

#[test]
fn a_persons_further_device_reads_what_was_said_to_the_person_before_the_keys_moved() {
    let mut town = Town::new(2, false);
    town.say(1, "before").unwrap();
    town.settle();
    town.remove(0, 2);
    town.settle();
    town.say(1, "after").unwrap();
    town.settle();
    let second = town.pair(1, 40);
    assert_eq!(town.texts(second), ["after"], "the newest keys open no more");
    let reader = town.people[1].reader();
    let topics = reader.topics_of_log(town.room).unwrap();
    assert!(topics.len() > 1, "{topics:?}");
    for (_, topic) in topics.into_iter().rev() {
        let ticket = reader.topic(topic).unwrap().unwrap().ticket;
        town.people[second].command(&mut town.net, Command::Meet { ticket }).unwrap();
    }
    town.follow(second);
    town.settle();
    assert_eq!(town.texts(second), ["before", "after"]);
    town.say(second, "and on").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["before", "after", "and on"]);
}

#[test]
fn every_device_of_a_member_reads_on_after_a_removal_the_first_one_too() {
    let mut town = Town::new(2, true);
    let second = town.pair(1, 40);
    town.say(second, "from my tablet").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["from my tablet"]);
    assert_eq!(town.members(0).len(), 3, "three people with four devices");
    town.remove(0, 2);
    town.settle();
    town.wait(KEEP_MAX_MS);
    assert_eq!(town.epochs(0), [1, 1]);
    town.agree(&[0, 1, second]);
    town.say(0, "behind the removal").unwrap();
    town.settle();
    for device in [1, second] {
        assert_eq!(town.texts(device), ["from my tablet", "behind the removal"], "device {device}");
    }
    assert_eq!(town.texts(2), ["from my tablet"]);
}

#[test]
fn a_revoked_device_is_left_behind_and_its_persons_other_one_reads_on() {
    let mut town = Town::new(1, true);
    let second = town.pair(1, 40);
    let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
    let revocation = Revocation::sign(&identity, town.author(second), town.people[1].device.now);
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[1].command(&mut town.net, command).unwrap();
    town.settle();
    town.wait(2 * KEEP_MAX_MS);
    assert_eq!(town.epochs(0), [1, 1]);
    town.agree(&[0, 1]);
    assert_eq!(town.epochs(second), [0, 0]);
    town.say(1, "without my tablet").unwrap();
    town.settle();
    assert_eq!((town.texts(0), town.texts(second)), (vec!["without my tablet".to_owned()], Vec::new()));
    let refused = town.say(second, "found it").unwrap_err();
    assert!(matches!(refused, CommandError::MayNotWrite), "{refused}");
}

/// It is paired and holds keys, and dies before it tells a space of itself.
#[test]
fn a_device_that_is_revoked_before_the_space_has_heard_of_it_is_left_behind() {
    let mut town = Town::new(1, true);
    let lost = town.pair_silently(1, 40);
    town.say(1, "to all I have").unwrap();
    town.settle();
    assert_eq!(town.texts(lost), ["to all I have"]);
    let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
    let revocation = Revocation::sign(&identity, town.author(lost), town.people[1].device.now);
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[1].command(&mut town.net, command).unwrap();
    town.settle();
    town.wait(2 * KEEP_MAX_MS);
    assert_eq!((town.epochs(0), town.epochs(lost)), ([1, 1], [0, 0]));
    town.agree(&[0, 1]);
    town.say(1, "without it").unwrap();
    town.settle();
    assert_eq!(town.texts(lost), ["to all I have"]);
}

/// What tells the space of a device comes too late: the space has moved, and no key was handed to who is unknown there.
#[test]
fn a_device_that_is_paired_while_the_keys_move_gets_them_from_its_persons_other_one() {
    for history in [false, true] {
        let mut town = Town::new(2, history);
        let second = town.pair_silently(1, 40);
        town.remove(0, 2);
        town.settle();
        town.release(second);
        town.settle();
        town.wait(KEEP_MAX_MS);
        town.agree(&[0, 1, second]);
        town.say(0, "behind the removal").unwrap();
        town.say(second, "and here I am").unwrap();
        town.settle();
        for device in [0, 1, second] {
            let mut texts = town.texts(device);
            texts.sort();
            assert_eq!(texts, ["and here I am", "behind the removal"], "device {device}");
        }
    }
}

/// What the other device shares came before this one could use it, and after more read markers than there may be topics.
#[test]
fn where_a_conversation_moved_is_found_among_thousands_of_read_markers() {
    let mut town = Town::new(2, true);
    let second = town.pair_silently(1, 40);
    let own = own_ticket(&mut town, 1, None);
    let (own, among) = (own.topic(), own.log());
    let marker = |number: u64| {
        let mut message = OperationId([0; 32]);
        message.0[..8].copy_from_slice(&number.to_be_bytes());
        Command::Publish { topic: own, content: Content::ReadSet { log: town.room, message } }
    };
    let markers: Vec<_> = (0..=MAX_TOPICS as u64).map(marker).collect();
    let first = &mut town.people[1];
    let inputs = markers.into_iter().map(|marker| first.device.input(marker)).collect();
    first.feed(inputs);
    town.settle();
    // The first one hears of it, and nobody else.
    town.release_to(second, among);
    town.settle();
    // It reads that its conversations moved only when it has heard where to.
    let before = [town.space, town.room].map(|log| town.ticket(second, log).topic());
    town.people[second].deaf.extend(before);
    town.remove(0, 2);
    town.settle();
    assert_eq!((town.epochs(1), town.epochs(second)), ([1, 1], [0, 0]));
    town.people[second].deaf.clear();
    // Nothing that it says leaves it: nobody else hands it anything.
    town.settle();
    town.agree(&[0, 1, second]);
}

#[test]
fn what_a_persons_devices_share_moves_away_from_one_that_is_revoked() {
    let mut town = Town::new(1, true);
    let (lost, kept) = (town.pair(1, 40), town.pair(1, 41));
    let own = |town: &mut Town, who: usize| -> Ticket {
        let command = Command::OwnTopic { ticket: None };
        match town.people[who].command(&mut town.net, command).unwrap() {
            Reply::Ticket(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    };
    town.wait(2 * KEEP_MAX_MS);
    assert_eq!([1, lost, kept].map(|who| own(&mut town, who).epoch()), [0, 0, 0]);
    let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
    let revocation = Revocation::sign(&identity, town.author(lost), town.people[1].device.now);
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[1].command(&mut town.net, command).unwrap();
    town.settle();
    town.wait(2 * KEEP_MAX_MS);
    assert_eq!([1, lost, kept].map(|who| own(&mut town, who).epoch()), [1, 0, 1]);
    assert_eq!(own(&mut town, 1).topic(), own(&mut town, kept).topic());
    // What one of them opens from now on the other has, too, and the lost one has not.
    let ticket = crate::support::ticket();
    let (log, command) = (ticket.log(), Command::OpenTopic { ticket });
    town.people[kept].command(&mut town.net, command).unwrap();
    town.settle();
    let has = |who: usize| !town.people[who].reader().topics_of_log(log).unwrap().is_empty();
    assert_eq!([1, lost, kept].map(has), [true, false, true]);
    // And it stays where it is, also for one that is paired now.
    let newcomer = town.pair(1, 42);
    town.wait(2 * KEEP_MAX_MS);
    assert_eq!([1, kept, newcomer].map(|who| own(&mut town, who).epoch()), [1, 1, 1]);
    // That one has the keys from its welcome, and no rotation named it: it is left behind all the same.
    let revocation = Revocation::sign(&identity, town.author(newcomer), town.people[1].device.now);
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[1].command(&mut town.net, command).unwrap();
    town.settle();
    for _ in 0..2 {
        town.wait(2 * KEEP_MAX_MS);
        assert_eq!([1, kept, newcomer].map(|who| own(&mut town, who).epoch()), [2, 2, 1]);
    }
}

/// With the person's words any device revokes another.
#[test]
fn a_device_that_revokes_another_moves_what_they_share_at_once() {
    let mut town = Town::new(1, true);
    let (lost, kept) = (town.pair(1, 40), town.pair(1, 41));
    let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
    let revocation = Revocation::sign(&identity, town.author(lost), town.people[kept].device.now);
    // The one whose key is the identity is not there.
    let topics = town.people[1].reader().topics().unwrap();
    town.people[1].deaf.extend(topics.iter().map(|row| row.topic));
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[kept].command(&mut town.net, command).unwrap();
    town.settle();
    assert_eq!([lost, kept].map(|who| own_ticket(&mut town, who, None).epoch()), [0, 1]);
    town.people[1].deaf.clear();
    town.settle();
    let [one, other] = [1, kept].map(|who| own_ticket(&mut town, who, None));
    assert_eq!((one.epoch(), one.topic()), (1, other.topic()));
}

/// The identity has signed it: whoever passes it on, and wherever it stands.
#[test]
fn a_revocation_that_is_heard_of_in_a_space_moves_what_the_persons_devices_share() {
    let mut town = Town::new(1, true);
    let (lost, kept) = (town.pair(1, 40), town.pair(1, 41));
    let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
    let revocation = Revocation::sign(&identity, town.author(lost), town.people[1].device.now);
    town.people[1].hold = true;
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[1].command(&mut town.net, command).unwrap();
    // What it says where the person's devices are among themselves never arrives.
    town.release_to(1, town.space);
    town.settle();
    town.wait(2 * KEEP_MAX_MS);
    let own = [lost, kept].map(|who| {
        let command = Command::OwnTopic { ticket: None };
        match town.people[who].command(&mut town.net, command).unwrap() {
            Reply::Ticket(ticket) => ticket.epoch(),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(own, [0, 1]);
}

fn own_ticket(town: &mut Town, who: usize, ticket: Option<Ticket>) -> Ticket {
    match town.people[who].command(&mut town.net, Command::OwnTopic { ticket }).unwrap() {
        Reply::Ticket(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

/// It was away while the topic moved, and nobody knew with which keys it is handed others.
#[test]
fn a_device_that_was_left_behind_by_what_its_persons_devices_share_is_paired_again() {
    for knows in [true, false] {
        let mut town = Town::new(1, true);
        let lost = town.pair(1, 40);
        let behind = town.pair_silently(1, 41);
        if !knows {
            town.people[behind].lose_connections();
        }
        let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
        let revocation = Revocation::sign(&identity, town.author(lost), town.people[1].device.now);
        let command = Command::Revoke { revocation: Box::new(revocation) };
        let mut away = (!knows).then(|| town.people.remove(behind));
        town.people[1].command(&mut town.net, command).unwrap();
        town.settle();
        town.wait(2 * KEEP_MAX_MS);
        if let Some(mut peer) = away.take() {
            peer.device.now = town.people[1].device.now;
            town.people.insert(behind, peer);
        }
        let ticket = own_ticket(&mut town, 1, None);
        assert_eq!((ticket.epoch(), own_ticket(&mut town, behind, None).epoch()), (1, 0));
        own_ticket(&mut town, behind, Some(ticket.clone()));
        town.release(behind);
        for _ in 0..3 {
            town.settle();
        }
        assert_eq!(own_ticket(&mut town, behind, None).topic(), ticket.topic(), "knows {knows}");
        let opened = crate::support::ticket();
        let log = opened.log();
        town.people[behind].command(&mut town.net, Command::OpenTopic { ticket: opened }).unwrap();
        town.settle();
        assert!(!town.people[1].reader().topics_of_log(log).unwrap().is_empty());
    }
}

/// Two devices are revoked, one after the other. The second one moves the topic away from the first, and its person's word
/// against itself stands behind that, or before.
#[test]
fn what_a_revoked_device_moved_before_it_was_known_to_be_one_moves_on_with_everybody_else() {
    for moves_first in [true, false] {
        let mut town = Town::new(1, true);
        let (lost, mover, kept) = (town.pair(1, 40), town.pair(1, 41), town.pair(1, 42));
        let log = own_ticket(&mut town, 1, None).log();
        let revoke = |town: &mut Town, who: usize| {
            let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
            let revocation = Revocation::sign(&identity, town.author(who), town.people[1].device.now);
            let command = Command::Revoke { revocation: Box::new(revocation) };
            town.people[1].command(&mut town.net, command).unwrap();
        };
        (town.people[1].idle, town.people[kept].idle) = (true, true);
        revoke(&mut town, lost);
        town.settle();
        town.people[mover].hold = true;
        town.wait(KEEP_MAX_MS);
        town.people[1].hold = true;
        revoke(&mut town, mover);
        for who in if moves_first { [mover, 1] } else { [1, mover] } {
            town.release_to(who, log);
        }
        for who in [mover, 1] {
            town.release(who);
        }
        (town.people[1].idle, town.people[kept].idle) = (false, false);
        for _ in 0..5 {
            town.wait(KEEP_MAX_MS);
        }
        let lives = [1, kept, mover, lost].map(|who| own_ticket(&mut town, who, None).epoch());
        assert_eq!(
            lives,
            if moves_first { [2, 2, 1, 0] } else { [1, 1, 0, 0] },
            "moves first: {moves_first}"
        );
        let [one, other] = [1, kept].map(|who| own_ticket(&mut town, who, None).topic());
        assert_eq!(one, other, "moves first: {moves_first}");
    }
}

type End = (u32, Option<OperationId>);

/// Where a device's log ends, as its person has read it.
fn own_end(town: &Town, at: &Ticket, by: Author) -> End {
    let ends = town.people[1].reader().log_ends(&at.log()).unwrap();
    ends.into_iter().find(|end| end.author == by).map(|end| (end.seq_num + 1, Some(end.id))).unwrap()
}

/// Whoever has the lost device of key 41 moves the topic on, and hands the keys to these.
fn leads(town: &mut Town, by: Author, at: &Ticket, to: &[usize], number: u8, end: &mut End) -> Ticket {
    let now = town.people[1].device.now;
    let known = |who: &usize| town.people[0].reader().device_bundle(&town.author(*who)).unwrap().unwrap();
    let bundles: Vec<_> = to.iter().map(known).collect();
    let to: Vec<_> = bundles.iter().map(|bundle| Recipient { bundle, may_write: true }).collect();
    let entropy = &mut SeededEntropy::new([number; 32]);
    let secrets = TwoParty.generate(now, entropy).unwrap();
    let rotator = Rotator { device: by, secrets: &secrets };
    let prepared = prepare_rotation(&TwoParty, rotator, at, &to, Vec::new(), now, entropy).unwrap();
    let mut writer = Writer::new([41; 32], at);
    (writer.next, writer.last) = *end;
    let envelope = writer.write(Body::new(Content::RoomRotate(Box::new(prepared.rotation))));
    *end = (writer.next, writer.last);
    town.net.world(at.topic()).log.push(envelope);
    prepared.ticket
}

/// It hears in the space that a device was revoked, before it reads where the person's topic went meanwhile.
#[test]
fn a_device_that_was_away_goes_where_everybody_went_whatever_it_hears_of_first() {
    let mut town = Town::new(1, true);
    let (kept, lost, other) = (town.pair(1, 40), town.pair(1, 41), town.pair(1, 42));
    let first = own_ticket(&mut town, 1, None);
    let revoke = |town: &mut Town, device: Author| {
        let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
        let revocation = Revocation::sign(&identity, device, town.people[1].device.now);
        let command = Command::Revoke { revocation: Box::new(revocation) };
        town.people[1].command(&mut town.net, command).unwrap();
        for _ in 0..4 {
            town.wait(KEEP_MAX_MS);
        }
    };
    let device = town.author(other);
    town.people.pop();
    town.people[kept].deaf.insert(first.topic());
    revoke(&mut town, device);
    let second = own_ticket(&mut town, 1, None);
    assert_eq!(second.epoch(), 1);
    let by = town.author(lost);
    town.people.pop();
    let mut end = own_end(&town, &second, by);
    let third = leads(&mut town, by, &second, &[1, kept], 90, &mut end);
    town.settle();
    assert_eq!(own_ticket(&mut town, 1, None).topic(), third.topic(), "nobody knows better");
    revoke(&mut town, by);
    let lives = own_ticket(&mut town, 1, None);
    assert_eq!(lives.epoch(), 3);
    town.people[kept].deaf.clear();
    for _ in 0..4 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(own_ticket(&mut town, kept, None).topic(), lives.topic());
}

/// Whoever has a lost device moves the topic again and again before the word against it stands there, and hands the keys to
/// these. Gives where the person is then, and where the lost device led to.
fn led_by_whoever_has_it(moves: u8, handed: bool) -> (Town, Vec<Ticket>) {
    let mut town = Town::new(1, true);
    let (kept, lost) = (town.pair(1, 40), town.pair(1, 41));
    let mut at = own_ticket(&mut town, 1, None);
    let by = town.people.pop().unwrap().author();
    let identity = IdentityKey::from_seed(&[town.seed(1); 32]);
    let revocation = Revocation::sign(&identity, by, town.people[1].device.now);
    assert_eq!((kept, lost), (2, 3));
    town.people[1].hold = true;
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[1].command(&mut town.net, command).unwrap();
    let mut end = own_end(&town, &at, by);
    let mut led = Vec::new();
    for number in 90..90 + moves {
        at = leads(&mut town, by, &at, if handed { &[1, 2] } else { &[] }, number, &mut end);
        led.push(at.clone());
    }
    town.settle();
    town.release(1);
    for _ in 0..5 {
        town.wait(KEEP_MAX_MS);
    }
    (town, led)
}

#[test]
fn a_revoked_device_leads_its_person_to_no_place_without_a_key() {
    let (mut town, led) = led_by_whoever_has_it(1, false);
    let lives = own_ticket(&mut town, 1, None);
    assert_eq!(lives.epoch(), 1, "it moved by the person's own hand");
    assert_ne!(lives.topic(), led[0].topic());
}

#[test]
fn a_revoked_device_does_not_lead_its_person_on_and_on() {
    let (mut town, led) = led_by_whoever_has_it(3, true);
    let lives = own_ticket(&mut town, 1, None);
    assert_eq!(lives.epoch(), 2, "from where it led at first");
    assert!(led.iter().all(|led| led.topic() != lives.topic()));
}
