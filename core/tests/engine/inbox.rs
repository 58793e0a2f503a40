//! What is said to one device alone: claims, who answers them, and what strangers may leave there.

use delta_core::engine::{Command, CommandError, Event, INBOX_LIFETIME_MS, Reply};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Author, Identity, LogId, Millis, OperationId};
use delta_core::limits::MAX_INBOX_PER_SENDER;
use delta_core::ops::{
    Action, Body, Contact, Content, DeviceKey, Hidden, Level, RoomText, SpaceText, create, inbox_log,
    seal_inbox,
};
use delta_core::space::Invite;
use delta_core::store::{MemberRow, Store};
use delta_core::topic::TopicId;

use crate::net::{Net, Peer, run};

const DAY: u64 = 24 * 3_600_000;

/// A device with an inbox.
pub fn peer(net: &mut Net, seed: u8) -> Peer {
    Peer::with_inbox(net, seed, Store::in_memory().unwrap())
}

pub fn contact(peer: &Peer) -> Contact {
    let (reader, device) = (peer.reader(), peer.author());
    let newest = reader.inboxes().unwrap().last().unwrap().topic;
    let keys = reader.topic(newest).unwrap().unwrap().ticket.keys();
    Contact { device, inbox: Hidden(*keys.write_key().unwrap().seed()) }
}

pub fn inbox(peer: &Peer) -> TopicId {
    peer.reader().inboxes().unwrap().last().unwrap().topic
}

fn dropped(peer: &Peer, reason: &str) -> u64 {
    let dropped = peer.reader().dropped(inbox(peer)).unwrap();
    dropped.iter().find(|(found, _)| found == reason).map_or(0, |(_, count)| *count)
}

fn opened(reply: Reply) -> (LogId, TopicId) {
    match reply {
        Reply::Space { space, topic } => (space, topic),
        other => panic!("{other:?}"),
    }
}

fn founded(net: &mut Net, peer: &mut Peer) -> (LogId, TopicId) {
    let about = SpaceText { name: "Garden".into(), ..SpaceText::default() };
    let (space, topic) = opened(peer.command(net, Command::CreateSpace { about }).unwrap());
    peer.command(net, Command::Subscribe { topic }).unwrap();
    (space, topic)
}

fn invitation(net: &mut Net, peer: &mut Peer, space: LogId, expires: Option<Millis>, once: bool) -> Invite {
    let level = Level::Write;
    match peer.command(net, Command::CreateInvite { space, level, expires, once }).unwrap() {
        Reply::Invite(invite) => *invite,
        other => panic!("{other:?}"),
    }
}

fn accept(net: &mut Net, peer: &mut Peer, invite: &Invite) {
    let (_, topic) =
        opened(peer.command(net, Command::AcceptInvite { invite: Box::new(invite.clone()) }).unwrap());
    peer.command(net, Command::Subscribe { topic }).unwrap();
}

fn members(peer: &Peer, space: LogId) -> Vec<MemberRow> {
    peer.reader().members(&space).unwrap()
}

fn act(net: &mut Net, peer: &mut Peer, space: LogId, action: Action) {
    peer.command(net, Command::Act { space, action: Box::new(action) }).unwrap();
}

#[test]
fn whoever_claims_an_invitation_is_let_in_once_and_no_member_reads_the_claim() {
    let mut net = Net::new();
    let [mut alice, mut bob, mut carol] = [1, 2, 3].map(|seed| peer(&mut net, seed));
    let (space, _) = founded(&mut net, &mut alice);
    let about = RoomText { name: "Shed".into(), ..RoomText::default() };
    let (_, in_room) = opened(alice.command(&mut net, Command::CreateRoom { space, about }).unwrap());
    let invite = invitation(&mut net, &mut alice, space, None, true);
    run(&mut net, &mut [&mut alice]);
    accept(&mut net, &mut bob, &invite);
    accept(&mut net, &mut carol, &invite);
    run(&mut net, &mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(members(&alice, space).len(), 2, "one of the two");
    for peer in [&mut bob, &mut carol] {
        assert_eq!(members(peer, space), members(&alice, space));
        let is_member = members(&alice, space).iter().any(|row| row.member == peer.author().into());
        let content = Content::MessageSend {
            text: "hi".into(),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        };
        let said = peer.command(&mut net, Command::Publish { topic: in_room, content });
        assert_eq!(said.is_ok(), is_member, "who is a member has the room, and writes in it: {said:?}");
        assert_eq!(peer.reader().claims().unwrap().is_empty(), is_member);
    }
    // Neither of them has anything of the other's that stands outside the space's log and their own inbox logs.
    for (peer, other) in [(&bob, carol.author()), (&carol, bob.author())] {
        let listed = peer.reader().list_operations(None, 1000).unwrap();
        let of_other = listed.iter().filter(|op| op.author == other);
        assert!(of_other.clone().all(|op| op.log == space), "{:?}", of_other.collect::<Vec<_>>());
        assert_eq!(peer.reader().requests(&space).unwrap().len(), 1, "its own");
    }
    assert_eq!(alice.reader().requests(&space).unwrap().len(), 2);
}

#[test]
fn a_claim_too_late_with_a_wrong_token_or_answered_before_lets_nobody_in() {
    let mut net = Net::new();
    let [mut alice, mut bob, mut carol, mut dave] = [1, 2, 3, 4].map(|seed| peer(&mut net, seed));
    let (space, _) = founded(&mut net, &mut alice);
    let expired = invitation(&mut net, &mut alice, space, Some(Millis(1)), false);
    let good = invitation(&mut net, &mut alice, space, None, false);
    run(&mut net, &mut [&mut alice]);
    let forged = Invite { token: Hidden([9; 32]), ..good.clone() };
    accept(&mut net, &mut bob, &expired);
    accept(&mut net, &mut carol, &forged);
    accept(&mut net, &mut dave, &good);
    run(&mut net, &mut [&mut alice, &mut bob, &mut carol, &mut dave]);
    let added: Vec<Identity> = members(&alice, space).into_iter().map(|row| row.member).collect();
    let mut expected = [alice.author(), dave.author()].map(Identity::from);
    expected.sort_unstable();
    assert_eq!(added, expected);
    act(&mut net, &mut alice, space, Action::Remove { member: dave.author().into() });
    act(&mut net, &mut alice, space, Action::SpaceUpdate { about: SpaceText::default() });
    run(&mut net, &mut [&mut alice]);
    assert_eq!(members(&alice, space).len(), 1, "an old claim is not answered again");
}

#[test]
fn a_claim_goes_to_another_manager_when_who_made_the_invitation_manages_no_more() {
    let mut net = Net::new();
    let [mut alice, mut bob, mut carol] = [1, 2, 3].map(|seed| peer(&mut net, seed));
    let (space, _) = founded(&mut net, &mut alice);
    let invite = invitation(&mut net, &mut alice, space, None, false);
    run(&mut net, &mut [&mut alice]);
    accept(&mut net, &mut bob, &invite);
    run(&mut net, &mut [&mut alice, &mut bob]);
    act(&mut net, &mut alice, space, Action::Transfer { member: bob.author().into() });
    run(&mut net, &mut [&mut alice, &mut bob]);
    accept(&mut net, &mut carol, &invite);
    run(&mut net, &mut [&mut bob, &mut carol]);
    assert_eq!(members(&bob, space).len(), 3);
    assert_eq!(bob.reader().requests(&space).unwrap().len(), 2, "bob's own and carol's");
    assert_eq!(alice.reader().requests(&space).unwrap().len(), 1, "bob's alone");
}

#[test]
fn a_request_to_join_comes_by_inbox_and_claims_are_refused_anywhere_else() {
    let mut net = Net::new();
    let [mut alice, mut bob] = [1, 2].map(|seed| peer(&mut net, seed));
    let (space, topic) = founded(&mut net, &mut alice);
    let Contact { device: to, inbox } = contact(&alice);
    let text = Some("let me in".to_owned());
    let join = |inbox, text| Command::RequestJoin { space, to, inbox, text };
    let unknown = bob.command(&mut net, join(None, text.clone())).unwrap_err();
    assert!(matches!(unknown, CommandError::NotReachable), "{unknown}");
    bob.command(&mut net, join(Some(inbox), text.clone())).unwrap();
    let long = bob.command(&mut net, join(None, Some("x".repeat(2049)))).unwrap_err();
    assert!(matches!(long, CommandError::Content(_)), "{long}");
    run(&mut net, &mut [&mut alice, &mut bob]);
    let requests = alice.reader().requests(&space).unwrap();
    assert_eq!((requests[0].author, requests[0].text.clone()), (bob.author(), text));
    let claim = Content::InviteClaim { invite: OperationId([1; 32]), mac: [2; 32], space };
    let refused = alice.command(&mut net, Command::Publish { topic, content: claim }).unwrap_err();
    assert!(matches!(refused, CommandError::InboxOnly), "{refused}");
}

/// What a stranger writes into an inbox by hand.
struct Stranger {
    key: DeviceKey,
    next: u32,
    last: Option<OperationId>,
}

impl Stranger {
    fn new(seed: u8) -> Self {
        Self { key: DeviceKey::from_bytes(&[seed; 32]), next: 0, last: None }
    }

    fn write(&mut self, to: Author, content: Content) -> Vec<u8> {
        let log = inbox_log(&self.key.author(), &to);
        let operation = create(&self.key, log, self.next, self.last, &Body::new(content)).unwrap();
        (self.next, self.last) = (self.next + 1, Some(operation.id()));
        seal_inbox(&operation, &to, &mut SeededEntropy::new([self.next as u8; 32])).unwrap()
    }
}

fn request(space: u8) -> Content {
    Content::JoinRequest { text: None, space: LogId([space; 32]) }
}

#[test]
fn case_58_what_was_written_for_another_device_or_in_another_kind_is_dropped() {
    let mut net = Net::new();
    let [mut alice, bob] = [1, 2].map(|seed| peer(&mut net, seed));
    let mut stranger = Stranger::new(9);
    let message =
        Content::MessageSend { text: "spam".into(), reply: None, mentions: vec![], attachments: Vec::new() };
    let to_bob = stranger.write(bob.author(), request(1));
    let mut stranger = Stranger::new(9);
    let (good, spam) = (stranger.write(alice.author(), request(1)), stranger.write(alice.author(), message));
    let log = &mut net.world(inbox(&alice)).log;
    log.extend([to_bob, vec![1; 40], Vec::from([3; 300]), spam, good]);
    run(&mut net, &mut [&mut alice]);
    assert_eq!((dropped(&alice, "inbox"), dropped(&alice, "inbox-kind")), (3, 1));
    assert_eq!(
        alice.reader().requests(&LogId([1; 32])).unwrap().len(),
        1,
        "what is missing below holds nothing up"
    );
    assert_eq!(alice.reader().count_operations().unwrap(), 1);
}

#[test]
fn case_59_what_one_stranger_leaves_in_an_inbox_is_bounded() {
    let mut net = Net::new();
    let mut alice = peer(&mut net, 1);
    let mut stranger = Stranger::new(9);
    let writes: Vec<_> =
        (0..=MAX_INBOX_PER_SENDER).map(|_| stranger.write(alice.author(), request(1))).collect();
    net.world(inbox(&alice)).log.extend(writes);
    let other = Stranger::new(8).write(alice.author(), request(2));
    net.world(inbox(&alice)).log.push(other);
    run(&mut net, &mut [&mut alice]);
    let kept = alice.reader().requests(&LogId([1; 32])).unwrap().len() as u64;
    assert_eq!((kept, dropped(&alice, "inbox-full")), (MAX_INBOX_PER_SENDER, 1));
    assert_eq!(alice.reader().requests(&LogId([2; 32])).unwrap().len(), 1, "others still have room");
}

#[test]
fn what_was_sent_to_an_inbox_is_asked_for_through_a_tunnel_of_its_own_and_sent_again_byte_for_byte() {
    let mut net = Net::new();
    let [mut alice, mut bob] = [1, 2].map(|seed| peer(&mut net, seed));
    let Contact { device: to, inbox: seed } = contact(&alice);
    bob.hold = true;
    let space = LogId([5; 32]);
    bob.command(&mut net, Command::RequestJoin { space, to, inbox: Some(seed), text: None }).unwrap();
    // The first packet is lost, its relay took it.
    let lost = bob.held.remove(0);
    let Reply::Unsent(unsent) = bob.command(&mut net, Command::Unsent).unwrap() else { panic!("a number") };
    assert_eq!(unsent, 1, "the relay has not answered");
    let taken = delta_core::engine::Handover::Taken;
    bob.feed(vec![delta_core::engine::Input::Posted { attempt: lost.attempt, handover: taken }]);
    while bob.held.is_empty() {
        let Reply::Unsent(unsent) = bob.command(&mut net, Command::Unsent).unwrap() else {
            panic!("a number")
        };
        assert_eq!(unsent, 0, "whether it arrived is asked for later");
        bob.drain(&mut net);
        bob.device.now = bob.device.engine.next_wakeup().unwrap().max(bob.device.now);
        bob.feed(vec![delta_core::engine::Input::Timeout]);
        bob.drain(&mut net);
    }
    let [(topic, via, hashes)] = bob.asked[..] else { panic!("{:?}", bob.asked) };
    assert_eq!((topic, hashes), (inbox(&alice), 2), "what it is answered with, and the request");
    let carries = bob.conns.len();
    assert!(via.is_some() && carries > 0, "through a tunnel, beside those of its topics");
    assert!(!bob.conns.values().any(|(read, _)| *read == topic), "another's inbox is never read");
    // The second arrives; they are the same envelopes.
    bob.hold = false;
    let again = bob.held.remove(0);
    net.carry(&again);
    net.carry(&lost);
    assert_eq!(net.world(topic).log.len(), 2);
    bob.feed(vec![delta_core::engine::Input::Posted { attempt: again.attempt, handover: taken }]);
    while bob.asked.len() < 4 && bob.reader().outbox_totals().unwrap() != Default::default() {
        bob.device.now = bob.device.engine.next_wakeup().unwrap().max(bob.device.now);
        bob.feed(vec![delta_core::engine::Input::Timeout]);
        bob.drain(&mut net);
    }
    assert!(
        bob.events.iter().any(|event| matches!(event, Event::Acknowledged { topic: of, .. } if *of == topic))
    );
    assert_eq!(bob.reader().outbox_totals().unwrap(), Default::default());
    assert!(bob.reader().topic(topic).unwrap().is_none(), "nothing is left of the other's inbox here");
    run(&mut net, &mut [&mut alice]);
    assert_eq!(alice.reader().requests(&space).unwrap().len(), 1);
}

#[test]
fn keys_and_inbox_are_renewed_by_themselves_and_the_old_inbox_is_read_for_a_while() {
    let mut net = Net::new();
    let [mut alice, mut bob] = [1, 2].map(|seed| peer(&mut net, seed));
    let (space, _) = founded(&mut net, &mut alice);
    run(&mut net, &mut [&mut alice]);
    let (old, old_contact) = (inbox(&alice), contact(&alice));
    let bundle = |peer: &Peer| peer.reader().device_secrets().unwrap().unwrap().expires();
    let first = bundle(&alice);
    let later = |peer: &mut Peer, net: &mut Net, days: u64| {
        let until = peer.device.now.plus(days * DAY);
        while peer.device.now < until {
            // Connections would be looked at every few seconds.
            let hour = peer.device.now.plus(3_600_000);
            let next = peer.device.engine.next_wakeup().unwrap().max(hour);
            peer.device.now = next.min(until);
            peer.feed(vec![delta_core::engine::Input::Timeout]);
            peer.drain(net);
        }
    };
    later(&mut alice, &mut net, 29);
    assert_eq!((bundle(&alice), inbox(&alice)), (first, old), "not before half of the time is over");
    later(&mut alice, &mut net, 3);
    assert!(bundle(&alice) > first.plus(29 * DAY));
    assert_ne!(inbox(&alice), old);
    run(&mut net, &mut [&mut alice]);
    // The members of the space hear of it.
    let log = alice.reader().topics_of_log(space).unwrap()[0].1;
    assert_eq!(net.world(log).log.len(), 3, "the creation, the first bundle, the second");
    // Who knows the old one still reaches it.
    let Contact { device: to, inbox: seed } = old_contact;
    let other = LogId([7; 32]);
    bob.command(&mut net, Command::RequestJoin { space: other, to, inbox: Some(seed), text: None }).unwrap();
    run(&mut net, &mut [&mut alice, &mut bob]);
    assert_eq!(alice.reader().requests(&other).unwrap().len(), 1);
    later(&mut alice, &mut net, INBOX_LIFETIME_MS / DAY);
    let left = alice.reader().inboxes().unwrap();
    assert!(left.len() <= 4 && !left.iter().any(|row| row.topic == old), "{left:?}");
    assert!(alice.reader().topic(old).unwrap().is_none());
}

#[test]
fn an_inbox_is_read_through_tunnels_alone() {
    let mut net = Net::new();
    let mut alice = peer(&mut net, 1);
    run(&mut net, &mut [&mut alice]);
    assert_eq!(alice.conns.len(), 1);
    let none = crate::support::World::new(TopicId([0; 32])).network(3);
    alice.command(&mut net, Command::Configure(none)).unwrap();
    alice.lose_connections();
    run(&mut net, &mut [&mut alice]);
    assert_eq!(alice.conns.len(), 0, "no relay offers tunnels");
    let open = delta_core::engine::Network {
        hide_reading: false,
        ..crate::support::World::new(TopicId([0; 32])).network(3)
    };
    alice.command(&mut net, Command::Configure(open)).unwrap();
    run(&mut net, &mut [&mut alice]);
    assert_eq!(alice.conns.len(), 1, "the app wants no tunnels");
}
