//! Topics that close: everybody moves, nobody notices, and who stays behind is not heard.

use delta_core::crypto::{
    DeviceSecrets, GroupCrypto, OpenError, PreparedRotation, Recipient, Rotator, TwoParty, prepare_rotation,
};
use delta_core::engine::{Blocked, Cancelled, Command, CommandError, Event, Handover, Input, Reply};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Author, OperationId};
use delta_core::ops::{Content, Ticket};
use delta_core::store::{Store, StoreOptions};

use crate::net::{Net, Peer, run};
use crate::support::{Writer, ticket};

/// Three who share a conversation: a manager, one who stays and one who will be removed.
struct Group {
    net: Net,
    ticket: Ticket,
    manager: Peer,
    friend: Peer,
    removed: Peer,
}

impl Group {
    fn new() -> Self {
        let ticket = ticket();
        let [mut manager, mut friend, mut removed] = [1, 2, 3].map(|seed| Peer::new(seed, &ticket));
        let mut net = Net::new();
        let rotators = vec![manager.author()];
        for (seed, peer) in (1..).zip([&mut manager, &mut friend, &mut removed]) {
            let topic = ticket.topic();
            peer.command(&mut net, Command::SetRotators { topic, devices: rotators.clone() }).unwrap();
            publish_bundle(&mut net, peer, &ticket, seed);
        }
        run(&mut net, &mut [&mut manager, &mut friend, &mut removed]);
        Self { net, ticket, manager, friend, removed }
    }

    fn settle(&mut self) {
        run(&mut self.net, &mut [&mut self.manager, &mut self.friend, &mut self.removed]);
    }

    /// The manager hands the next epoch to these devices.
    fn rotate(&mut self, to: &[Author]) -> Result<Reply, CommandError> {
        let prepared = prepare(&self.manager, &self.ticket, to);
        let command = Command::Rotate { topic: self.ticket.topic(), prepared: Box::new(prepared) };
        self.manager.command(&mut self.net, command)
    }

    /// Puts an operation of the removed member into the first topic, as the server would take it from anyone who has
    /// the topic's write key.
    fn slip_in(&mut self, envelope: Vec<u8>) {
        self.net.world(self.ticket.topic()).log.push(envelope);
    }

    /// The topic in which the manager's side of the conversation lives now.
    fn current(&self) -> Ticket {
        current(&self.manager, &self.ticket)
    }
}

fn publish_bundle(net: &mut Net, peer: &mut Peer, ticket: &Ticket, seed: u8) {
    let secrets = TwoParty.generate(peer.device.now, &mut SeededEntropy::new([seed; 32])).unwrap();
    let command = Command::PublishBundle { topic: ticket.topic(), secrets: Box::new(secrets) };
    peer.command(net, command).unwrap();
}

fn current(peer: &Peer, ticket: &Ticket) -> Ticket {
    let reader = peer.reader();
    let topics = reader.topics_of_log(ticket.log()).unwrap();
    let (_, topic) = *topics.last().unwrap();
    reader.topic(topic).unwrap().unwrap().ticket
}

fn secrets(peer: &Peer) -> DeviceSecrets {
    peer.reader().device_secrets().unwrap().unwrap()
}

fn prepare(from: &Peer, ticket: &Ticket, to: &[Author]) -> PreparedRotation {
    let reader = from.reader();
    let bundles: Vec<_> =
        to.iter().map(|device| reader.device_bundle(device).unwrap().expect("a bundle")).collect();
    let recipients: Vec<Recipient<'_>> =
        bundles.iter().map(|bundle| Recipient { bundle, may_write: true }).collect();
    let (ends, now) = (reader.log_ends(&ticket.log()).unwrap(), from.device.now);
    let at = current(from, ticket);
    let mut entropy = SeededEntropy::new([from.author().0[0].wrapping_add(at.epoch() as u8); 32]);
    let own = secrets(from);
    let rotator = Rotator { device: from.author(), secrets: &own };
    let prepared = prepare_rotation(&TwoParty, rotator, &at, &recipients, ends, now, &mut entropy).unwrap();
    assert!(prepared.left_out.is_empty(), "{:?}", prepared.left_out);
    prepared
}

#[test]
fn a_rotation_moves_everybody_it_names_and_the_app_goes_on_by_the_old_name() {
    let mut group = Group::new();
    group.friend.say(&mut group.net, "before");
    group.settle();
    let friend = group.friend.author();
    group.rotate(&[friend]).unwrap();
    group.settle();
    let (old, new) = (group.ticket.topic(), group.current().topic());
    assert_ne!(old, new);
    for peer in [&group.manager, &group.friend] {
        let moved = peer.events.iter().any(
            |event| matches!(event, Event::Moved { topic, successor } if (*topic, *successor) == (old, new)),
        );
        assert!(moved, "{:?}", peer.events);
        assert_eq!(current(peer, &group.ticket).to_string(), group.current().to_string());
    }
    let before = group.net.world(old).log.len();
    let id = group.friend.say(&mut group.net, "after");
    group.settle();
    assert_eq!(group.net.world(old).log.len(), before, "nothing more goes to the closed topic");
    assert_eq!(group.manager.texts(), ["before", "after"]);
    assert_eq!(group.friend.texts(), ["before", "after"]);
    let acknowledged = group.friend.events.iter().any(
        |event| matches!(event, Event::Acknowledged { topic, operation, .. } if *topic == old && *operation == id),
    );
    assert!(acknowledged, "by the name the app knows");
    // And again.
    group.rotate(&[friend]).unwrap();
    group.settle();
    assert_eq!(group.current().epoch(), 2);
    group.manager.say(&mut group.net, "third");
    group.settle();
    assert_eq!(group.friend.texts(), ["before", "after", "third"]);
}

#[test]
fn case_43_a_removed_member_writes_to_the_closed_topic_and_is_ignored_everywhere() {
    let mut group = Group::new();
    let mut hostile = Writer::new([9; 32], &group.ticket);
    let early = hostile.say("while it still counts");
    group.slip_in(early);
    group.removed.say(&mut group.net, "bye");
    group.settle();
    let friend = group.friend.author();
    group.rotate(&[friend]).unwrap();
    group.settle();
    // The removed member does not take the close for an answer.
    for text in ["still here", "nobody can stop me"] {
        let envelope = hostile.say(text);
        group.slip_in(envelope);
    }
    group.settle();
    let expected = ["while it still counts", "bye"];
    assert_eq!(group.manager.texts(), expected);
    assert_eq!(group.friend.texts(), expected);
    let dropped = |peer: &Peer| peer.reader().dropped(group.ticket.topic()).unwrap();
    assert_eq!(dropped(&group.friend), [], "who went on does not even read it");
    // A device that reads all of it for the first time, and one that reads it again after the server lost it.
    let mut late = Peer::new(8, &group.ticket);
    let devices = vec![group.manager.author()];
    let rotators = Command::SetRotators { topic: group.ticket.topic(), devices };
    late.command(&mut group.net, rotators).unwrap();
    run(&mut group.net, &mut [&mut late]);
    assert_eq!(late.texts(), expected);
    assert_eq!(late.reader().dropped(group.ticket.topic()).unwrap(), [("topic-closed".to_owned(), 2)]);
    let old = group.net.wipe();
    let mut log = old[&group.ticket.topic()].log.clone();
    // Whoever delivers it again puts the removed member's first.
    log.reverse();
    group.net.world(group.ticket.topic()).log = log;
    for peer in [&mut group.manager, &mut group.friend] {
        peer.lose_connections();
    }
    group.settle();
    assert_eq!(group.manager.texts().len(), 2);
    assert_eq!(group.friend.texts().len(), 2, "{:?}", group.friend.texts());
    // Nor does the removed one read or write what follows.
    group.friend.say(&mut group.net, "among us");
    group.settle();
    assert_eq!(group.manager.texts().last().unwrap(), "among us");
    assert!(!group.removed.texts().iter().any(|text| text == "among us"));
    let published = group.removed.command(&mut group.net, group.removed.device.say("let me in"));
    assert!(matches!(published, Err(CommandError::TopicClosed)), "{published:?}");
    let waits = group
        .removed
        .events
        .iter()
        .any(|event| matches!(event, Event::AwaitingKey { why: OpenError::NoPart, .. }));
    assert!(waits, "{:?}", group.removed.events);
}

#[test]
fn what_was_not_acknowledged_before_the_close_gets_one_new_envelope() {
    let mut group = Group::new();
    group.friend.hold = true;
    let ids = ["one", "two"].map(|text| group.friend.say(&mut group.net, text));
    let friend = group.friend.author();
    group.rotate(&[friend]).unwrap();
    group.settle();
    // The packets that were under way arrive after the close.
    group.friend.hold = false;
    for job in std::mem::take(&mut group.friend.held) {
        group.net.carry(&job);
        group.friend.feed(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]);
    }
    group.settle();
    assert_eq!(group.manager.texts(), ["one", "two"]);
    assert_eq!(group.friend.texts(), ["one", "two"]);
    let acknowledged: Vec<OperationId> = group
        .friend
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Acknowledged { operation, .. } => Some(*operation),
            _ => None,
        })
        .filter(|id| ids.contains(id))
        .collect();
    assert_eq!(acknowledged, ids, "each once");
    assert_eq!(group.net.world(group.current().topic()).log.len(), 2, "one new envelope each");
    assert_eq!(group.friend.reader().outbox_size().unwrap().0, 0);
}

#[test]
fn what_left_in_a_closed_topic_is_not_taken_back_as_if_it_never_had() {
    let mut group = Group::new();
    group.friend.hold = true;
    let left = group.friend.say(&mut group.net, "left");
    // From now on it finds no route: what it queues in the next topic stays there.
    let two = group.net.world(group.ticket.topic()).network(2);
    group.friend.command(&mut group.net, Command::Configure(two)).unwrap();
    let friend = group.friend.author();
    group.rotate(&[friend]).unwrap();
    group.settle();
    let topic = group.ticket.topic();
    let cancel = Command::Cancel { topic, operation: left };
    let Ok(Reply::Cancelled(Cancelled::Deleted(_))) = group.friend.command(&mut group.net, cancel) else {
        panic!("others may have it");
    };
    let new = group.friend.say(&mut group.net, "a slip");
    let cancel = Command::Cancel { topic, operation: new };
    let Ok(Reply::Cancelled(Cancelled::Removed)) = group.friend.command(&mut group.net, cancel) else {
        panic!("nobody has it");
    };
}

#[test]
fn the_first_of_two_rotations_closes_and_the_loser_is_told() {
    let mut group = Group::new();
    let devices = vec![group.manager.author(), group.friend.author()];
    for peer in [&mut group.manager, &mut group.friend, &mut group.removed] {
        let command = Command::SetRotators { topic: group.ticket.topic(), devices: devices.clone() };
        peer.command(&mut group.net, command).unwrap();
    }
    // Both rotate before either has seen the other's.
    let (manager, friend) = (group.manager.author(), group.friend.author());
    let others = prepare(&group.friend, &group.ticket, &[manager]);
    let command = Command::Rotate { topic: group.ticket.topic(), prepared: Box::new(others) };
    group.rotate(&[friend]).unwrap();
    let lost = match group.friend.command(&mut group.net, command).unwrap() {
        Reply::Published(id) => id,
        other => panic!("{other:?}"),
    };
    group.settle();
    assert_eq!(group.current().to_string(), current(&group.friend, &group.ticket).to_string());
    assert_eq!(group.current().epoch(), 1);
    let told = |event: &Event| matches!(event, Event::RotationLost { operation, .. } if *operation == lost);
    assert!(group.friend.events.iter().any(told), "{:?}", group.friend.events);
    group.friend.say(&mut group.net, "together");
    group.settle();
    assert_eq!(group.manager.texts(), ["together"]);
    // The part in the lost one was never opened; the loser's next rotation opens all the same.
    let again = prepare(&group.friend, &group.ticket, &[manager]);
    let command = Command::Rotate { topic: group.ticket.topic(), prepared: Box::new(again) };
    group.friend.command(&mut group.net, command).unwrap();
    group.settle();
    assert_eq!(group.current().epoch(), 2);
    assert_eq!(group.current().to_string(), current(&group.friend, &group.ticket).to_string());
}

#[test]
fn a_rotation_by_somebody_who_may_not_closes_nothing() {
    let mut group = Group::new();
    let friend = group.friend.author();
    // The friend believes that it may.
    let command = Command::SetRotators { topic: group.ticket.topic(), devices: vec![friend] };
    group.friend.command(&mut group.net, command).unwrap();
    let prepared = prepare(&group.friend, &group.ticket, &[group.manager.author()]);
    let command = Command::Rotate { topic: group.ticket.topic(), prepared: Box::new(prepared) };
    group.friend.command(&mut group.net, command).unwrap();
    group.settle();
    assert_eq!(group.current().epoch(), 0);
    group.removed.say(&mut group.net, "nothing happened");
    group.settle();
    assert_eq!(group.manager.texts(), ["nothing happened"]);
    // And a device that knows it may not does not try.
    let prepared = prepare(&group.manager, &group.ticket, &[friend]);
    let command = Command::SetRotators { topic: group.ticket.topic(), devices: Vec::new() };
    group.manager.command(&mut group.net, command).unwrap();
    let command = Command::Rotate { topic: group.ticket.topic(), prepared: Box::new(prepared) };
    let refused = group.manager.command(&mut group.net, command);
    assert!(matches!(refused, Err(CommandError::NotRotator)), "{refused:?}");
}

#[test]
fn a_rotation_that_is_judged_late_takes_back_what_came_after_it() {
    let mut group = Group::new();
    let mut late = Peer::new(8, &group.ticket);
    publish_bundle(&mut group.net, &mut late, &group.ticket, 8);
    run(&mut group.net, &mut [&mut late]);
    group.settle();
    let (friend, newcomer) = (group.friend.author(), late.author());
    group.rotate(&[friend, newcomer]).unwrap();
    group.settle();
    // It does not know yet who may rotate: for it the topic is open.
    let mut hostile = Writer::new([9; 32], &group.ticket);
    let envelope = hostile.say("after the close");
    group.slip_in(envelope);
    let id = late.say(&mut group.net, "mine");
    run(&mut group.net, &mut [&mut late]);
    assert_eq!(late.texts(), ["after the close", "mine"]);
    let devices = vec![group.manager.author()];
    let command = Command::SetRotators { topic: group.ticket.topic(), devices };
    late.command(&mut group.net, command).unwrap();
    assert_eq!(late.texts(), ["mine"]);
    run(&mut group.net, &mut [&mut late]);
    group.settle();
    assert_eq!(group.friend.texts(), ["mine"], "sent again, where it counts");
    assert!(late.reader().place_of(&id).unwrap().unwrap().place.epoch == 1);
}

#[test]
fn what_was_deleted_after_a_close_that_is_judged_late_leaves_no_gap_in_its_authors_log() {
    let mut group = Group::new();
    let mut late = Peer::new(8, &group.ticket);
    publish_bundle(&mut group.net, &mut late, &group.ticket, 8);
    run(&mut group.net, &mut [&mut late]);
    group.settle();
    let (friend, newcomer) = (group.friend.author(), late.author());
    group.rotate(&[friend, newcomer]).unwrap();
    group.settle();
    let slip = late.say(&mut group.net, "a slip");
    let topic = group.ticket.topic();
    let content = Content::MessageDelete { target: slip };
    late.command(&mut group.net, Command::Publish { topic, content }).unwrap();
    late.say(&mut group.net, "mine");
    run(&mut group.net, &mut [&mut late]);
    let before = late.reader().log_heads(&group.ticket.log()).unwrap();
    let command = Command::SetRotators { topic, devices: vec![group.manager.author()] };
    late.command(&mut group.net, command).unwrap();
    assert_eq!(late.reader().log_heads(&group.ticket.log()).unwrap(), before);
    run(&mut group.net, &mut [&mut late]);
    late.say(&mut group.net, "next");
    run(&mut group.net, &mut [&mut late]);
    group.settle();
    assert_eq!(late.texts(), ["mine", "next"]);
    let forked = |peer: &Peer| peer.events.iter().any(|event| matches!(event, Event::Forked { .. }));
    assert!(!forked(&group.friend) && !forked(&group.manager));
    assert_eq!(late.reader().place_of(&slip).unwrap().unwrap().seq_num, 1);
}

#[test]
fn a_key_that_comes_by_another_way_ends_the_waiting() {
    let mut group = Group::new();
    // This one publishes nothing by itself: its packets do not leave.
    group.removed.hold = true;
    let waiting = group.removed.say(&mut group.net, "written before I knew");
    let friend = group.friend.author();
    group.rotate(&[friend]).unwrap();
    group.settle();
    let status = group.removed.device.status();
    assert_eq!(status.blocked, Some(Blocked::Closed), "{status:?}");
    group.removed.hold = false;
    let ticket = group.current();
    group.removed.command(&mut group.net, Command::OpenTopic { ticket }).unwrap();
    group.settle();
    assert_eq!(group.friend.texts(), ["written before I knew"]);
    let placed = group.removed.reader().place_of(&waiting).unwrap().unwrap().place;
    assert_eq!(placed.epoch, 1);
    group.friend.say(&mut group.net, "welcome back");
    group.settle();
    assert_eq!(group.removed.texts(), ["written before I knew", "welcome back"]);
}

#[test]
fn a_restart_remembers_where_the_conversation_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let mut group = Group::new();
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut newcomer = Peer::with(8, &group.ticket, store());
    let devices = vec![group.manager.author()];
    let rotators = Command::SetRotators { topic: group.ticket.topic(), devices };
    newcomer.command(&mut group.net, rotators).unwrap();
    publish_bundle(&mut group.net, &mut newcomer, &group.ticket, 8);
    run(&mut group.net, &mut [&mut newcomer]);
    group.settle();
    let author = newcomer.author();
    group.rotate(&[author]).unwrap();
    group.settle();
    run(&mut group.net, &mut [&mut newcomer]);
    newcomer.device.engine.close().unwrap();
    let mut newcomer = Peer::with(8, &group.ticket, store());
    run(&mut group.net, &mut [&mut newcomer]);
    newcomer.say(&mut group.net, "again");
    run(&mut group.net, &mut [&mut newcomer]);
    group.settle();
    assert_eq!(group.manager.texts(), ["again"]);
    group.manager.say(&mut group.net, "and back");
    group.settle();
    run(&mut group.net, &mut [&mut newcomer]);
    assert_eq!(newcomer.texts(), ["again", "and back"]);
}

#[test]
fn a_rotation_prepared_from_an_older_state_is_refused() {
    let mut group = Group::new();
    let friend = group.friend.author();
    let stale = prepare(&group.manager, &group.ticket, &[friend]);
    group.rotate(&[friend]).unwrap();
    group.settle();
    let command = Command::Rotate { topic: group.ticket.topic(), prepared: Box::new(stale) };
    let refused = group.manager.command(&mut group.net, command);
    assert!(matches!(refused, Err(CommandError::StaleRotation)), "{refused:?}");
    let content =
        Content::MessageSend { text: "fine".into(), reply: None, mentions: vec![], attachments: Vec::new() };
    let publish = Command::Publish { topic: group.ticket.topic(), content };
    group.manager.command(&mut group.net, publish).unwrap();
    group.settle();
    assert_eq!(group.friend.texts(), ["fine"]);
}
