//! What comes before there is what it needs: of a device that nobody has introduced yet, or while there is no room for a
//! topic.

use delta_core::limits::MAX_TOPICS;
use delta_core::store::Store;

use super::*;
use crate::inbox::inbox;
use crate::unanswered::{fill, fillers};

/// Packets overtake each other: what a new device says may be read before anything that introduces it.
#[test]
fn a_new_device_is_heard_before_it_was_introduced() {
    for first_for_b in [true, false] {
        let mut two = Two::new();
        let thread = two.open(0, 1, &[0, 1]);
        let topic = two.agree(&[0, 1], thread);
        two.say(0, thread, "before");
        two.settle();
        let b = two.devices[1].author();
        let inbox = inbox(&two.devices[1]);
        two.devices[1].deaf.insert(inbox);
        let a2 = two.pair(0, 11);
        let mut expected = vec!["before"];
        if !first_for_b {
            // What shows whose device it is was not for this one.
            let mut prepared = prepared(&mut two.devices[a2], thread).unwrap();
            prepared.retain(|it| it.recipient() != b);
            let publish =
                Command::PublishDirect { thread, content: message("not for you"), prepared: prepared.into() };
            two.devices[a2].command(&mut two.net, publish).unwrap();
            two.settle();
        }
        two.say(a2, thread, "from my tablet");
        two.say(a2, thread, "and once more");
        two.settle();
        if first_for_b {
            expected.extend(["from my tablet", "and once more"]);
        }
        assert_eq!(two.texts(1, thread), expected);
        two.devices[1].deaf.clear();
        two.settle();
        assert_eq!(two.devices[1].reader().pending_count(topic).unwrap().key, 0);
        // What this device was not told in between is waited for.
        two.wait(6 * 60_000);
        assert_eq!(two.texts(1, thread), ["before", "from my tablet", "and once more"]);
    }
}

/// The bundle that says whose device it is comes after what goes by inbox with it.
#[test]
fn a_new_device_may_accept_before_it_was_introduced() {
    let mut two = Two::new();
    let b2 = two.pair(1, 12);
    let thread = two.ask(0, 1);
    two.settle();
    let inbox = inbox(&two.devices[0]);
    two.devices[0].deaf.insert(inbox);
    let known = two.net.world(inbox).log.len();
    two.accept(b2, thread).unwrap();
    two.settle();
    two.net.world(inbox).log[known..].reverse();
    two.devices[0].deaf.clear();
    two.settle();
    two.agree(&[0, 1, b2], thread);
}

#[test]
fn what_was_said_is_taken_when_there_is_room_for_the_thread() {
    let mut two = Two::new();
    let thread = two.open(0, 1, &[0, 1]);
    two.say(0, thread, "before");
    two.settle();
    let mut new = peer(&mut two.net, 11);
    let one = fill(&mut new);
    // Room for what the person's devices share, and no more.
    new.command(&mut two.net, Command::Wipe { topic: one }).unwrap();
    let a2 = two.pair_with(0, new);
    assert_eq!(two.devices[a2].reader().topics().unwrap().len(), MAX_TOPICS);
    assert_eq!(two.devices[a2].reader().direct_thread(&thread).unwrap(), None);
    let left = fillers(&two.devices[a2])[0];
    two.wipe(a2, left);
    assert_eq!(two.texts(a2, thread), ["before"]);
}

#[test]
fn what_another_device_of_the_person_has_is_opened_when_there_is_room() {
    let mut two = Two::new();
    let a2 = two.pair(0, 11);
    let one = fill(&mut two.devices[a2]);
    let room = crate::support::ticket();
    two.devices[0].command(&mut two.net, Command::OpenTopic { ticket: room.clone() }).unwrap();
    let thread = two.open(0, 1, &[0, 1]);
    let has = |two: &Two| {
        let reader = two.devices[a2].reader();
        let state = reader.direct_thread(&thread).unwrap().unwrap().state;
        [reader.topic(room.topic()).unwrap().is_some(), state == ThreadState::Open]
    };
    assert_eq!(has(&two), [false, false]);
    two.wipe(a2, one);
    let mut after = has(&two);
    after.sort_unstable();
    assert_eq!(after, [false, true], "as many as there is room for");
    let left = fillers(&two.devices[a2]);
    two.wipe(a2, left[0]);
    assert_eq!(has(&two), [true, true]);
    two.agree(&[0, 1, a2], thread);
    // The other person's inbox, in which it introduces itself, needs room, too.
    two.wipe(a2, left[1]);
    two.follow(a2, thread);
    two.say(1, thread, "for all");
    two.settle();
    assert_eq!(two.texts(a2, thread), ["for all"]);
}

/// One that only reads what the person's others have.
#[test]
fn a_device_without_an_inbox_opens_what_others_have_when_there_is_room() {
    let mut two = Two::new();
    let mut new = Peer::tunnelled(11, Store::in_memory().unwrap());
    let one = fill(&mut new);
    new.command(&mut two.net, Command::Wipe { topic: one }).unwrap();
    let a2 = two.pair_with(0, new);
    assert_eq!(two.devices[a2].reader().inboxes().unwrap(), []);
    let room = crate::support::ticket();
    two.devices[0].command(&mut two.net, Command::OpenTopic { ticket: room.clone() }).unwrap();
    two.settle();
    let has = |two: &Two| two.devices[a2].reader().topic(room.topic()).unwrap().is_some();
    assert!(!has(&two));
    let left = fillers(&two.devices[a2])[0];
    two.wipe(a2, left);
    assert!(has(&two));
}
