//! A manager who is removed and keeps every key: what he says from then on counts for nothing, and leads nobody anywhere.

use cbor_core::{Map, Value};
use ed25519_dalek::{Signer, SigningKey};

use super::*;

/// A manager who is removed, with what is known of the space before, and every key there was.
struct Hostile {
    town: Town,
    key: [u8; 32],
    heads: Vec<OperationId>,
    tickets: Vec<Ticket>,
    /// A message of somebody who stays.
    message: OperationId,
}

const MALLORY: usize = 2;

/// Where in its own log a hostile author puts something.
#[derive(Clone, Copy)]
enum Place {
    /// A second branch from the beginning.
    First,
    /// Beside the last operation that others have.
    Beside,
    /// Where it belongs.
    Next,
}

impl Hostile {
    fn new() -> Self {
        let mut town = Town::new(2, true);
        town.promote(MALLORY);
        let message = town.say(1, "mine").unwrap();
        town.say(MALLORY, "hello").unwrap();
        town.settle();
        let newest = town.people[0].reader().audit(&town.space, None, 1).unwrap();
        let heads = newest.into_iter().map(|row| row.id).collect();
        let tickets = [town.space, town.room].map(|log| town.ticket(MALLORY, log)).to_vec();
        town.remove(0, MALLORY);
        town.settle();
        assert_eq!(town.epochs(1), [1, 1]);
        Self { town, key: [3; 32], heads, tickets, message }
    }

    fn end(&self, ticket: &Ticket) -> LogEnd {
        let author = self.town.author(MALLORY);
        let ends = self.town.people[1].reader().log_ends(&ticket.log()).unwrap();
        ends.into_iter().find(|end| end.author == author).unwrap()
    }

    /// The same of a kind that this version does not know, and so does not write: what a version that is to come would do.
    fn slip_in_unknown(&mut self, ticket: &Ticket) {
        let map = |pairs: Vec<(u64, Value<'static>)>| Value::from(Map::from_pairs(pairs));
        let heads: Vec<_> = self.heads.iter().map(|head| Value::from(head.0)).collect();
        let body = [(0, Value::from("member.x")), (1, map(Vec::new())), (4, Value::from(heads))];
        let body = map(body.to_vec()).encode();
        let (end, key) = (self.end(ticket), SigningKey::from_bytes(&self.key));
        let mut header = vec![Value::from(1), Value::from(key.verifying_key().to_bytes())];
        header.extend([Value::from(body.len() as u64), Value::from(*blake3::hash(&body).as_bytes())]);
        header.extend([Value::from(u64::from(end.seq_num) + 1), Value::from(end.id.0)]);
        header.push(map(vec![(0, Value::from(ticket.log().0))]));
        let signature = key.sign(&Value::from(header.clone()).encode());
        header.insert(2, Value::from(signature.to_bytes()));
        let envelope = ticket.keys().seal(&Value::from(header).encode(), &body).unwrap();
        self.town.net.world(ticket.topic()).log.push(envelope);
    }

    /// Signs whatever it wants into a topic of which it has the keys, as if it had not heard of its removal.
    fn slip_in(&mut self, ticket: &Ticket, place: Place, content: Content) {
        let end = self.end(ticket);
        let mut writer = Writer::new(self.key, ticket);
        (writer.next, writer.last) = match place {
            Place::First => (0, None),
            Place::Beside => (end.seq_num, (end.seq_num > 0).then_some(OperationId([7; 32]))),
            Place::Next => (end.seq_num + 1, Some(end.id)),
        };
        let mut body = Body::new(content);
        body.auth_heads.clone_from(&self.heads);
        let envelope = writer.write(body);
        self.town.net.world(ticket.topic()).log.push(envelope);
    }

    fn settle(&mut self) {
        self.town.settle();
        self.town.wait(KEEP_MAX_MS);
    }

    fn said(text: &str) -> Content {
        Content::MessageSend { text: text.into(), reply: None, mentions: vec![], attachments: Vec::new() }
    }
}

#[test]
fn a_removed_manager_who_kept_every_key_reads_nothing_new() {
    let mut hostile = Hostile::new();
    assert_eq!(DeviceKey::from_bytes(&hostile.key).author(), hostile.town.author(MALLORY));
    let town = &mut hostile.town;
    town.say(0, "he is gone").unwrap();
    town.settle();
    let kept: Vec<_> = hostile.tickets.iter().map(Ticket::keys).collect();
    let mut new = 0;
    for log in [town.space, town.room] {
        let topic = town.ticket(0, log).topic();
        for envelope in &town.net.worlds[&topic].log {
            new += 1;
            assert!(kept.iter().all(|keys| keys.open(envelope).is_err()));
        }
    }
    assert!(new > 0);
    assert_eq!(town.texts(MALLORY), ["mine", "hello"]);
}

#[test]
fn case_53_case_61_a_removed_manager_writes_nothing_that_counts() {
    let mut hostile = Hostile::new();
    let before: Vec<_> = [0, 1].map(|who| hostile.town.texts(who)).into();
    let (space, room) = (hostile.tickets[0].clone(), hostile.tickets[1].clone());
    let victim = hostile.message;
    // Backdated; a second branch from the first operation on, and from a later one; deletes by who manages there.
    for next in [Place::Next, Place::Beside, Place::First] {
        hostile.slip_in(&room, next, Hostile::said("backdated"));
        hostile.slip_in(&room, next, Content::MessageDelete { target: victim });
        let member = Identity([9; 32]);
        let add = Action::Add { member, level: Level::Manage, invite: None, claim: None };
        hostile.slip_in(&space, next, Content::Membership(Box::new(add)));
        let own = hostile.town.author(0).into();
        hostile.slip_in(&space, next, Content::Membership(Box::new(Action::Remove { member: own })));
    }
    hostile.settle();
    for who in [0, 1] {
        assert_eq!(hostile.town.texts(who), before[who]);
        assert_eq!(hostile.town.members(who).len(), 2);
    }
    // Nor does whoever comes later see any of it.
    hostile.town.join(7);
    assert_eq!(hostile.town.texts(3), before[0]);
    assert_eq!(hostile.town.members(3).len(), 3);
}

#[test]
fn a_removed_manager_cannot_move_what_is_current() {
    let mut hostile = Hostile::new();
    let tickets = hostile.tickets.clone();
    for ticket in &tickets {
        for (next, epoch) in [(Place::Next, 1), (Place::Beside, 2), (Place::First, 7)] {
            let to = Ticket::generate_private(&mut SeededEntropy::new([epoch as u8; 32])).unwrap();
            let ends = vec![LogEnd { author: hostile.town.author(1), seq_num: 0, id: OperationId([1; 32]) }];
            let rotation =
                Rotation { epoch, topic: to.topic(), parts: Vec::new(), ends, commitment: [0; 32] };
            hostile.slip_in(ticket, next, Content::RoomRotate(Box::new(rotation)));
        }
    }
    hostile.settle();
    assert_eq!((hostile.town.epochs(0), hostile.town.epochs(1)), ([1, 1], [1, 1]));
    hostile.town.agree(&[0, 1]);
    hostile.town.join(7);
    hostile.town.agree(&[0, 1, 3]);
    hostile.town.say(3, "still here").unwrap();
    hostile.town.settle();
    assert_eq!(hostile.town.texts(1).last().unwrap(), "still here");
}

/// Somebody who stays gives him the keys of where everything lives now.
#[test]
fn a_removed_manager_with_an_accomplice_cannot_move_what_is_current() {
    let mut hostile = Hostile::new();
    let tickets = [hostile.town.space, hostile.town.room].map(|log| hostile.town.ticket(1, log));
    for ticket in &tickets {
        let to = ticket.next_epoch(&mut SeededEntropy::new([8; 32])).unwrap();
        let (parts, ends) = (Vec::new(), Vec::new());
        let rotation = Rotation { epoch: 2, topic: to.topic(), parts, ends, commitment: [0; 32] };
        hostile.slip_in(ticket, Place::Next, Content::RoomRotate(Box::new(rotation)));
    }
    hostile.settle();
    assert_eq!((hostile.town.epochs(0), hostile.town.epochs(1)), ([1, 1], [1, 1]));
    hostile.town.say(1, "still here").unwrap();
    hostile.town.settle();
    assert_eq!(hostile.town.texts(0).last().unwrap(), "still here");
}

#[test]
fn a_removed_manager_who_is_faster_than_the_rotation_does_not_move_the_space() {
    let mut town = Town::new(2, true);
    town.promote(2);
    let newest = town.people[0].reader().audit(&town.space, None, 1).unwrap();
    let heads: Vec<_> = newest.into_iter().map(|row| row.id).collect();
    let ticket = town.ticket(2, town.space);
    // The removal stands in the log, and the keys take their time.
    town.people[0].idle = true;
    town.remove(0, 2);
    let to = Ticket::generate_private(&mut SeededEntropy::new([5; 32])).unwrap();
    let (parts, ends) = (Vec::new(), Vec::new());
    let rotation = Rotation { epoch: 1, topic: to.topic(), parts, ends, commitment: [0; 32] };
    let mut body = Body::new(Content::RoomRotate(Box::new(rotation)));
    body.auth_heads = heads;
    let mallory = town.author(2);
    let ends = town.people[1].reader().log_ends(&town.space).unwrap();
    let end = ends.into_iter().find(|end| end.author == mallory).unwrap();
    let mut writer = Writer::new([3; 32], &ticket);
    (writer.next, writer.last) = (end.seq_num + 1, Some(end.id));
    let envelope = writer.write(body);
    town.net.world(ticket.topic()).log.push(envelope);
    town.settle();
    town.people[0].idle = false;
    for job in std::mem::take(&mut town.people[0].unsealed) {
        town.people[0].feed(vec![delta_core::engine::Input::Sealed(delta_core::engine::seal(job))]);
    }
    town.settle();
    assert_eq!((town.epochs(0), town.epochs(1)), ([1, 1], [1, 1]));
    town.agree(&[0, 1]);
    assert_ne!(town.ticket(1, town.space).topic(), to.topic());
}

#[test]
fn a_removed_manager_does_not_stop_the_space_with_a_kind_that_nobody_knows() {
    let mut hostile = Hostile::new();
    let space = hostile.tickets[0].clone();
    hostile.slip_in_unknown(&space);
    hostile.settle();
    let town = &mut hostile.town;
    town.say(0, "still here").unwrap();
    town.say(1, "and me").unwrap();
    town.settle();
    assert_eq!(town.texts(1)[2..], ["still here", "and me"]);
}

#[test]
fn a_demoted_manager_does_not_stop_the_space_and_one_who_manages_it_can_be_removed_for_it() {
    let mut town = Town::new(2, true);
    town.promote(MALLORY);
    let newest = town.people[0].reader().audit(&town.space, None, 1).unwrap();
    let heads: Vec<_> = newest.into_iter().map(|row| row.id).collect();
    let tickets = [town.space, town.room].map(|log| town.ticket(MALLORY, log)).to_vec();
    let message = town.say(1, "mine").unwrap();
    town.settle();
    let mut hostile = Hostile { town, key: [3; 32], heads, tickets, message };
    let space = hostile.tickets[0].clone();
    let stopped = |hostile: &mut Hostile| {
        hostile.settle();
        matches!(hostile.town.say(0, "who?"), Err(CommandError::UpdateRequired))
    };
    // While he manages it nobody else can know whether it is right; a manager may decide that it is not.
    hostile.slip_in_unknown(&space);
    assert!(stopped(&mut hostile));
    let member = hostile.town.author(MALLORY).into();
    let room = Action::RoomArchive { room: hostile.town.room };
    assert!(matches!(hostile.town.act(0, room), Err(CommandError::UpdateRequired)));
    hostile.town.act(0, Action::Demote { member, level: Level::Write }).unwrap();
    assert!(!stopped(&mut hostile));
    // He still has the keys, and says that he has not heard of it.
    hostile.slip_in_unknown(&space);
    assert!(!stopped(&mut hostile));
    hostile.settle();
    assert_eq!(hostile.town.texts(1).last().unwrap(), "who?");
}
