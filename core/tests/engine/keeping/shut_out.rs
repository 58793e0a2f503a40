//! Members whom a rotation names that they cannot read: they are handed the space's key by inbox.

use delta_core::engine::{Command, Input, KEEP_MAX_MS, Reply, seal};
use delta_core::identity::OperationId;
use delta_core::limits::MAX_HANDED_AGAIN;
use delta_core::ops::{Action, Content, EpochKeys, Level};

use super::asking::{come_back, go_away};
use super::by_inbox::{heads, slip_in_after};
use super::{Town, alone};

/// Seals what a device has to seal for the topic that it names, after what comes before it.
fn seal_up_to(town: &mut Town, who: usize, topic: &str) {
    while !town.people[who].unsealed.iter().any(|job| format!("{job:?}").contains(topic)) {
        let job = town.people[who].unsealed.pop().expect("something comes first");
        town.people[who].feed(vec![Input::Sealed(seal(job))]);
        town.settle();
    }
}

#[test]
fn who_was_let_in_beside_one_rotation_and_is_named_in_the_next_is_handed_the_spaces_key() {
    let mut town = Town::new(3, false);
    town.promote(1);
    for manager in [0, 1] {
        town.people[manager].idle = true;
    }
    town.remove(1, 2);
    town.settle();
    let place = town.ticket(1, town.space).topic().to_string();
    seal_up_to(&mut town, 1, &place);
    // The second manager's device moves the space, and has not heard whom the first one let in.
    let mut away = town.people.remove(1);
    away.lose_connections();
    town.join(60);
    assert!(town.members(0).contains(&town.author(3).into()), "the first one let it in");
    away.idle = false;
    for job in std::mem::take(&mut away.unsealed) {
        away.feed(vec![Input::Sealed(seal(job))]);
    }
    away.drain(&mut town.net);
    town.people.insert(1, away);
    let who = 4;
    town.settle();
    assert_eq!((town.epochs(1)[0], town.epochs(who)[0]), (1, 0), "moved by who knew nothing of it");
    // Before anybody hands it that key, the space moves once more: this time it is named.
    town.remove(1, 3);
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!((town.epochs(1)[0], town.epochs(who)[0]), (2, 0));
    let held = town.people[1].reader().holders(&town.space, 2, &town.ticket(1, town.space).topic()).unwrap();
    assert!(held.held.contains_key(&town.author(who)));
    town.people[0].idle = false;
    for job in std::mem::take(&mut town.people[0].unsealed) {
        town.people[0].feed(vec![Input::Sealed(seal(job))]);
    }
    for _ in 0..4 {
        town.wait(KEEP_MAX_MS);
    }
    town.agree(&[0, 1, who]);
    town.say(who, "found you").unwrap();
    town.settle();
    for reader in [0, 1] {
        assert_eq!(town.texts(reader), ["found you"]);
    }
}

#[test]
fn who_never_read_that_it_was_let_in_is_handed_the_spaces_key_though_a_rotation_names_it() {
    let mut town = Town::new(3, false);
    town.promote(1);
    let (space, level) = (town.space, Level::Write);
    let invite = Command::CreateInvite { space, level, expires: None, once: false };
    let Reply::Invite(invite) = town.people[0].command(&mut town.net, invite).unwrap() else { panic!() };
    town.settle();
    // Somebody claims it, and its packets are on their way.
    let mut claimant = alone(&mut town.net, 50);
    claimant.device.now = town.people[0].device.now;
    claimant.hold = true;
    town.people.push(claimant);
    let who = 4;
    town.people[who].command(&mut town.net, Command::AcceptInvite { invite }).unwrap();
    town.follow(who);
    town.settle();
    // The first one lets it in behind the place at which the second one moved the space.
    let mut first = go_away(&mut town, 0);
    town.remove(1, 2);
    town.settle();
    assert_eq!(town.epochs(1)[0], 1);
    first.idle = true;
    let member = town.author(who).into();
    let add = Box::new(Action::Add { member, level, invite: None, claim: None });
    first.command(&mut town.net, Command::Act { space, action: add }).unwrap();
    come_back(&mut town, 0, first);
    assert!(town.members(1).contains(&member) && !town.members(who).contains(&member));
    // What was sealed for it is of no use: the space moves once more.
    town.release(who);
    town.settle();
    assert!(!town.people[0].unsealed.is_empty());
    town.remove(0, 3);
    town.people[0].idle = false;
    for job in std::mem::take(&mut town.people[0].unsealed) {
        town.people[0].feed(vec![Input::Sealed(seal(job))]);
    }
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(town.epochs(0)[0], 2);
    town.agree(&[0, 1, who]);
    town.say(who, "so I am one of you").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["so I am one of you"]);
}

/// The operations that handed a device the key of the space's epoch at hand, as the first person's device knows.
fn hands(town: &Town, to: usize) -> Vec<OperationId> {
    let place = town.ticket(0, town.space);
    let handed = town.people[0].reader().handed_to(&town.space, &town.author(to)).unwrap();
    handed.into_iter().filter(|it| it.epoch == place.epoch()).map(|it| it.operation).collect()
}

#[test]
fn who_says_that_it_has_no_key_of_an_epoch_is_handed_the_one_at_hand_again_and_not_without_end() {
    let mut town = Town::new(3, false);
    let member = town.author(1).into();
    town.act(0, Action::Demote { member, level: Level::Read }).unwrap();
    town.settle();
    town.remove(0, 3);
    town.settle();
    assert_eq!(town.epochs(0)[0], 2);
    town.wait(KEEP_MAX_MS);
    assert_eq!(hands(&town, 1).len(), 1, "the rotation named it, and it reads that");
    // It says by inbox that it has no key of the epoch before, behind whatever it said there.
    let ask = EpochKeys::Ask { log: town.space, epoch: 1, failed: None };
    let (known, mut counts) = (heads(&town), Vec::new());
    let mut last = Some((100, OperationId([8; 32])));
    for _ in 0..MAX_HANDED_AGAIN + 2 {
        let content = Content::EpochKeys(Box::new(ask.clone()));
        last = Some(slip_in_after(&mut town, [2; 32], 0, known.clone(), content, last));
        for _ in 0..2 {
            town.wait(KEEP_MAX_MS);
        }
        counts.push(hands(&town, 1).len());
    }
    assert_eq!(counts, [2, 3, 4, 4, 4, 4], "at the limit, and no more past it");
    assert_eq!(MAX_HANDED_AGAIN, 4);
}
