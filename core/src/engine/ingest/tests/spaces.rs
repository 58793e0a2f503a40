//! Spaces on a device: what is judged by them, whatever order operations arrive in.

use std::collections::BTreeMap;

use crate::engine::ingest::{Context, Ingested, ingest};
use crate::identity::{Author, Certificate, Identity, IdentityKey, LogId, Millis, OperationId, Revocation};
use crate::ops::{
    self, Action, Body, Content, DeviceKey, Hidden, InviteTerms, Level, RoomKeys, RoomText, SpaceText,
    Ticket, VerifiedOperation, inbox_log, room_id, space_id,
};
use crate::projector::{Aggregate, Change};
use crate::space::{Entry, Judgement, Membership, Standing, Statement, Told};
use crate::store::{
    AuditRow, Durability, InviteRow, MemberRow, MessageRow, Page, ReactionRow, RequestRow, RoomRow, SpaceRow,
    Store, Tx, Unread,
};
use crate::topic::{Generation, Seq, WriteKey};

mod crowded;
mod forked;
mod order;
mod profiles;
mod searching;
mod world;

use world::*;

#[test]
fn a_space_its_members_and_its_room_are_rows() {
    let mut world = World::peopled();
    world.act(1, Action::Mute { member: who(2).into(), until: None });
    let device = Device::with(&world);
    let row = device.store.space(&space()).unwrap().unwrap();
    assert_eq!((row.text.name.as_str(), row.deleted, row.update_required), ("Garden", false, false));
    assert_eq!(device.store.spaces().unwrap(), [row]);
    let standing = |level, muted| Standing { level: Some(level), muted, banned: false };
    let members: BTreeMap<_, _> =
        device.store.members(&space()).unwrap().into_iter().map(|row| (row.member, row.standing)).collect();
    let expected = [
        (Identity::from(who(0)), standing(Level::Manage, false)),
        (Identity::from(who(1)), standing(Level::Manage, false)),
        (Identity::from(who(2)), standing(Level::Write, true)),
        (Identity::from(who(3)), standing(Level::Read, false)),
    ];
    assert_eq!(members, expected.into());
    let rooms = device.store.rooms(&space()).unwrap();
    assert_eq!((rooms.len(), rooms[0].room, rooms[0].text.name.as_str()), (1, room(), "Shed"));
    let kinds: Vec<_> =
        device.store.audit(&space(), None, 50).unwrap().into_iter().map(|row| row.kind).collect();
    let expected = ["member.mute", "room.create", "member.add", "member.add", "member.add", "space.create"];
    assert_eq!(kinds, expected);
    let (mut lines, mut before) = (Vec::new(), None);
    while let Some(line) = device.store.audit(&space(), before, 1).unwrap().pop() {
        before = Some((line.rank, line.id));
        lines.push(line);
    }
    assert_eq!(lines, device.store.audit(&space(), None, 50).unwrap(), "line by line");
    let (mut people, mut after) = (Vec::new(), None);
    while let Some(row) = device.store.members_after(&space(), after.as_ref(), 1).unwrap().pop() {
        after = Some(row.member);
        people.push(row);
    }
    assert_eq!(people, device.store.members(&space()).unwrap(), "one by one");
    let older = device.store.audit(&space(), Some((2, OperationId([0; 32]))), 50).unwrap();
    assert_eq!(older.iter().map(|row| row.rank).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn case_61_a_member_without_write_access_is_ignored_everywhere() {
    let mut world = World::peopled();
    let hello = world.say(2, "hello");
    for person in [3, 4] {
        world.say(person, "nobody hears this");
        let emoji = "👍".to_owned();
        world.tell(person, room(), Content::ReactionAdd { target: hello, emoji });
        world.tell(person, room(), Content::MessageDelete { target: hello });
        world.tell(person, room(), Content::MessageEdit { target: hello, text: "no".into() });
    }
    let device = Device::with(&world);
    assert_eq!(device.texts(), ["hello"]);
    assert_eq!(device.store.reactions(&hello).unwrap(), []);
    let topic = ticket(room()).topic();
    assert_eq!(device.store.dropped(topic).unwrap(), [("skipped-not-allowed".to_owned(), 8)]);
}

#[test]
fn a_message_from_before_a_removal_stays_and_one_from_after_it_is_ignored() {
    let mut world = World::peopled();
    world.say(2, "before");
    let stale = world.graph.cite(who(2));
    world.act(1, Action::Remove { member: who(2).into() });
    world.say_at(2, stale, "did not know");
    world.say(2, "did");
    assert_eq!(Device::with(&world).texts(), ["before", "did not know"]);
}

#[test]
fn case_60_managers_delete_others_messages_and_nobody_else_does() {
    let mut world = World::peopled();
    let (one, two) = (world.say(2, "one"), world.say(2, "two"));
    let delete = world.tell(1, room(), Content::MessageDelete { target: one });
    world.act(0, add(4, Level::Write));
    world.tell(4, room(), Content::MessageDelete { target: two });
    world.tell(1, room(), Content::MessageEdit { target: two, text: "not even a manager".into() });
    let mut device = Device::with(&world);
    assert_eq!(device.texts(), ["†", "two"]);
    assert_eq!(device.messages()[0].deleted_by, Some(delete));
    assert_eq!(device.store.operation(&one).unwrap().unwrap().body, None, "erased");
    let view = device.view();
    device.write(|tx| tx.rebuild().unwrap());
    assert_eq!(device.view(), view);
    // Whatever comes first.
    let mut other = Device::new();
    for written in world.written.iter().rev() {
        other.receive(written);
    }
    assert_eq!(other.view(), view);
}

#[test]
fn what_cites_unknown_operations_waits_and_is_shown_when_they_come() {
    let mut world = World::peopled();
    world.say(2, "first");
    let mut device = Device::new();
    let (message, space_log) = world.written.split_last().unwrap();
    // Nobody knows yet that this is a room.
    device.receive(message);
    assert_eq!((device.texts(), device.store.unjudged(&room()).unwrap()), (vec![], 1));
    let (last, before) = space_log.split_last().unwrap();
    before.iter().for_each(|written| drop(device.receive(written)));
    assert_eq!(device.texts(), [""; 0]);
    let mut late = World::peopled();
    late.act(0, add(4, Level::Write));
    late.say(4, "second");
    let changes = device.receive_and_settle(last);
    assert!(changes.iter().any(|it| it.aggregate == Aggregate::Message && it.ids == [message.1.id().0]));
    assert_eq!((device.texts(), device.store.unjudged(&room()).unwrap()), (vec!["first".into()], 0));
    let [.., added, second] = &late.written[..] else { panic!("two more") };
    assert_eq!(device.receive(second), Ingested::Stored { changes: vec![] });
    assert_eq!((device.texts(), device.store.unjudged(&room()).unwrap()), (vec!["first".into()], 1));
    let changes = device.receive_and_settle(added);
    assert!(changes.iter().any(|change| change.aggregate == Aggregate::Message && change.log == room()));
    assert!(changes.iter().any(|change| change.aggregate == Aggregate::Member && change.ids == [who(4).0]));
    assert_eq!((device.texts().len(), device.store.unjudged(&room()).unwrap()), (2, 0));
}

#[test]
fn claims_and_requests_are_rows_and_change_nothing() {
    let mut world = World::peopled();
    let terms =
        InviteTerms { token: Hidden([7; 32]), level: Level::Write, expires: Some(Millis(5)), once: true };
    let invite = world.act(1, Action::InviteCreate(terms));
    let inbox = inbox_log(&who(4), &OWNER);
    let claim = |mac| Content::InviteClaim { invite, mac, space: space() };
    let text = Some("please".into());
    let claimed = world.write(4, inbox, vec![], claim([1; 32])).id();
    world.write(4, inbox, vec![], Content::JoinRequest { text, space: space() });
    // In the space's log, and in the inbox of another device, they are nothing.
    world.write(4, space(), vec![], claim([2; 32]));
    world.write(4, inbox_log(&who(4), &who(1)), vec![], claim([3; 32]));
    let (device, claim) = (Device::with(&world), claimed);
    let requests = device.store.requests(&space()).unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().any(|row| row.id == claim && row.claim == Some((invite, [1; 32]))));
    assert!(requests.iter().any(|row| row.text.as_deref() == Some("please") && row.claim.is_none()));
    let row =
        InviteRow { id: invite, level: Level::Write, expires: Some(Millis(5)), once: true, used: false };
    assert_eq!(device.store.invites(&space()).unwrap(), [row]);
    world.act(
        0,
        Action::Add { member: who(4).into(), level: Level::Write, invite: Some(invite), claim: Some(claim) },
    );
    let device = Device::with(&world);
    assert_eq!(device.store.invites(&space()).unwrap(), [InviteRow { used: true, ..row }]);
}

#[test]
fn unread_messages_and_mentions_are_counted_from_the_marker() {
    let mut world = World::peopled();
    world.say(2, "one");
    world.say(0, "two");
    let content = Content::MessageSend {
        text: "three".into(),
        reply: None,
        mentions: vec![who(0)],
        attachments: Vec::new(),
    };
    world.tell(2, room(), content);
    let mut device = Device::with(&world);
    assert_eq!(device.store.unread(&room(), &who(0)).unwrap(), Unread { messages: 2, mentions: 1 });
    let positions: Vec<_> = device.messages().into_iter().map(|row| row.position).collect();
    device.write(|tx| tx.set_read(&room(), &positions[0]).unwrap());
    assert_eq!(device.store.unread(&room(), &who(0)).unwrap(), Unread { messages: 1, mentions: 1 });
    device.write(|tx| tx.set_read(&room(), &positions[2]).unwrap());
    device.write(|tx| tx.set_read(&room(), &positions[1]).unwrap());
    assert_eq!(device.store.unread(&room(), &who(0)).unwrap(), Unread::default(), "markers do not go back");
}

/// What a device does that reads a small space as it comes, some of it too early, and shows it.
pub(crate) fn read_a_small_space() {
    let (mut world, member) = with_two_devices();
    let early = world.say(5, "before the space is known");
    let invite = InviteTerms { token: Hidden([7; 32]), level: Level::Read, expires: None, once: false };
    world.act(1, Action::InviteCreate(invite));
    world.act(1, Action::Mute { member, until: Some(Millis(99_000)) });
    let inbox = inbox_log(&who(4), &OWNER);
    world.write(4, inbox, vec![], Content::JoinRequest { text: None, space: space() });
    world.tell(1, room(), Content::MessageDelete { target: early });
    let mut device = Device::new();
    let (first, rest) = world.written.split_last().unwrap();
    for written in [first].into_iter().chain(rest) {
        device.receive_and_settle(written);
    }
    let view = device.view();
    assert!(view.unjudged == 0 && view.members.len() == 5 && view.messages.len() == 1);
    device.store.unread(&room(), &who(0)).unwrap();
    device.store.person(&room(), &who(5)).unwrap();
}

/// Person 0's space with a member who has devices 5 and 6.
fn with_two_devices() -> (World, Identity) {
    let mut world = World::peopled();
    let key = IdentityKey::from_seed(&[77; 32]);
    let member = key.identity();
    world.act(0, Action::Add { member, level: Level::Write, invite: None, claim: None });
    for device in [5, 6] {
        let certificate = Certificate::sign(&key, who(device), Millis(1));
        world.act(device, Action::DeviceAdd { certificate });
    }
    (world, member)
}

#[test]
fn case_60_a_persons_devices_edit_and_delete_what_any_of_them_wrote_and_nobody_elses() {
    let (mut world, member) = with_two_devices();
    let (one, two, three) = (world.say(5, "one"), world.say(5, "two"), world.say(2, "three"));
    let mut edit = |person: usize, target, text: &str, clock| {
        world.clock = clock;
        world.tell(person, room(), Content::MessageEdit { target, text: text.into() })
    };
    edit(5, one, "first", 2_000);
    let last = edit(6, one, "second", 3_000);
    // Of each device its last one counts, by its log; of these the latest.
    edit(5, one, "third", 1_500);
    edit(2, one, "not mine", 9_000);
    edit(6, three, "not mine either", 9_000);
    world.clock = 4_000;
    let delete = world.tell(6, room(), Content::MessageDelete { target: two });
    let emoji = || "👍".to_owned();
    world.tell(5, room(), Content::ReactionAdd { target: three, emoji: emoji() });
    world.clock = 5_000;
    let added = world.tell(6, room(), Content::ReactionAdd { target: three, emoji: emoji() });
    let mut device = Device::with(&world);
    assert_eq!(device.texts(), ["second", "†", "three"]);
    assert_eq!(device.messages()[0].edit, Some(last));
    assert_eq!(device.messages()[1].deleted_by, Some(delete));
    let of_six = ReactionRow { message: three, emoji: emoji(), author: who(6), identity: member, id: added };
    assert_eq!(device.store.reactions(&three).unwrap(), [of_six], "one person, one reaction");
    let history = device.store.message_history(&one).unwrap();
    let texts: Vec<_> = history.iter().map(|edit| edit.text.as_str()).collect();
    assert_eq!(texts, ["one", "first", "third", "second"], "by device, then by the person's clocks");
    assert_eq!(device.store.person(&room(), &who(6)).unwrap(), member);
    let view = device.view();
    device.write(|tx| tx.rebuild().unwrap());
    assert_eq!(device.view(), view);
    let mut other = Device::new();
    for written in world.written.iter().rev() {
        other.receive(written);
    }
    assert_eq!(other.view(), view);
    // Taken back by the other device.
    world.clock = 6_000;
    world.tell(5, room(), Content::ReactionRemove { target: three, emoji: emoji() });
    assert_eq!(Device::with(&world).store.reactions(&three).unwrap(), []);
    // What a person's other device wrote is not unread.
    assert_eq!(device.store.unread(&room(), &who(6)).unwrap().messages, 1);
    assert_eq!(device.store.unread(&room(), &who(2)).unwrap().messages, 1);
}

/// What `person` says behind the room's place `place` is taken back: its log has another branch, from `ends` on.
fn fork(world: &mut World, person: usize, ends: (u32, OperationId), place: u64) -> (u64, VerifiedOperation) {
    let known = world.ends.insert((person, room()), ends);
    let text = "another branch".to_owned();
    world.tell(
        person,
        room(),
        Content::MessageSend { text, reply: None, mentions: Vec::new(), attachments: Vec::new() },
    );
    world.ends.extend(known.map(|known| ((person, room()), known)));
    let (_, op) = world.written.pop().unwrap();
    (place, op)
}

#[test]
fn what_a_fork_takes_back_is_settled_by_person() {
    // Whoever speaks about the other's messages: a certified device, and the key that is the identity.
    let (mut certified, _) = with_two_devices();
    let mut own_key = World::peopled();
    let certificate = Certificate::sign(&IdentityKey::from_seed(&[3; 32]), who(7), Millis(1));
    own_key.act(7, Action::DeviceAdd { certificate });
    for (world, writer, other) in [(&mut certified, 5, 6), (&mut own_key, 7, 2)] {
        let [one, two] = ["one", "two"].map(|text| world.say(writer, text));
        let edit = world.tell(writer, room(), Content::MessageEdit { target: two, text: "two!".into() });
        world.say(other, "mine");
        let ends = world.ends[&(other, room())];
        let fork_at = world.places[&room()] + 1;
        world.places.insert(room(), fork_at);
        world.clock += 1_000;
        world.tell(other, room(), Content::MessageEdit { target: one, text: "one!".into() });
        world.tell(other, room(), Content::MessageDelete { target: two });
        let branch = fork(world, other, ends, fork_at);
        let mut device = Device::with(world);
        assert_eq!(device.texts(), ["one!", "†", "mine"]);
        assert_eq!(device.store.operation(&edit).unwrap().unwrap().body, None, "erased with its message");

        let Ingested::Forked { stored: true, changes, .. } = device.receive(&branch) else {
            panic!("no fork")
        };
        let ids: Vec<_> = changes.into_iter().flat_map(|change| change.ids).collect();
        assert!(
            ids.contains(&one.0) && ids.contains(&two.0),
            "others' messages changed: the app looks again"
        );
        assert_eq!(device.texts(), ["one", "†", "mine", "another branch"]);
        assert_eq!(device.messages()[1].deleted_by, None);
        assert_eq!(device.refetches(), [2, 3], "the message and its edit");
        let again = world.written.iter().filter(|(_, op)| [two, edit].contains(&op.id())).cloned();
        again.collect::<Vec<_>>().iter().for_each(|written| drop(device.receive(written)));
        assert_eq!(device.texts(), ["one", "two!", "mine", "another branch"]);

        // The same as where the other branch was known before.
        let mut early = Device::new();
        let (before, after) = world.written.split_at(world.written.len() - 2);
        before.iter().chain([&branch]).chain(after).for_each(|written| drop(early.receive(written)));
        assert_eq!(device.view(), early.view());
        device.write(|tx| tx.rebuild().unwrap());
        assert_eq!(device.view(), early.view());
    }
}

#[test]
fn a_managers_delete_that_a_fork_takes_back_lets_the_message_be_read_again() {
    let mut world = World::peopled();
    let (one, two) = (world.say(2, "one"), world.say(2, "two"));
    world.say(1, "hello");
    let ends = world.ends[&(1, room())];
    let fork_at = world.places[&room()] + 1;
    world.places.insert(room(), fork_at);
    world.tell(1, room(), Content::MessageDelete { target: one });
    world.tell(1, room(), Content::MessageDelete { target: two });
    let own = world.tell(2, room(), Content::MessageDelete { target: two });
    let branch = fork(&mut world, 1, ends, fork_at);
    let mut device = Device::with(&world);
    assert_eq!(device.texts(), ["†", "†", "hello"]);
    device.receive(&branch);
    assert_eq!(device.refetches(), [1], "the other one's author deleted it, too");
    let deleted_by: Vec<_> = device.messages().iter().map(|row| row.deleted_by).collect();
    assert_eq!(deleted_by[..2], [None, Some(own)]);
    device.receive(&world.written.iter().find(|(_, op)| op.id() == one).unwrap().clone());
    assert_eq!(device.texts(), ["one", "†", "hello", "another branch"]);
}

#[test]
fn a_revoked_device_is_a_row_and_what_it_writes_counts_for_nothing() {
    let (mut world, member) = with_two_devices();
    world.say(6, "before");
    let revocation = Revocation::sign(&IdentityKey::from_seed(&[77; 32]), who(6), Millis(2));
    world.act(5, Action::DeviceRevoke { revocation });
    world.say(6, "after");
    world.say(5, "mine");
    let device = Device::with(&world);
    assert_eq!(device.texts(), ["before", "mine"]);
    let rows = device.store.space_devices(&space()).unwrap();
    let mut expected = [(5, false), (6, true)].map(|(device, revoked)| Told {
        device: who(device),
        identity: member,
        revoked,
    });
    expected.sort_by_key(|row| row.device);
    assert_eq!(rows, expected);
    let newest = device.store.audit(&space(), None, 1).unwrap().remove(0);
    assert_eq!((newest.who, newest.kind.as_str(), newest.device), (member, "device.revoke", Some(who(6))));
}

#[test]
fn an_undone_command_leaves_no_trace_in_what_is_known_of_a_space() {
    let mut world = World::peopled();
    let mut device = Device::with(&world);
    let view = device.view();
    world.act(0, add(4, Level::Write));
    let written = world.written.last().unwrap().clone();
    let context = context(written.0, &written.1);
    device.write(|tx| {
        let undone = tx.savepoint(|tx| {
            ingest(tx, &context, &written.1)?;
            Err::<(), _>(crate::store::StoreError::from(crate::store::LimitReached::Topics))
        });
        assert!(undone.is_err());
    });
    assert_eq!(device.view(), view);
    drop({
        let tx = device.store.begin(Durability::Normal).unwrap();
        ingest(&tx, &context, &written.1).unwrap();
        tx
    });
    assert_eq!(device.view(), view);
    device.receive(&written);
    assert_eq!(device.store.members(&space()).unwrap().len(), 5);
}
