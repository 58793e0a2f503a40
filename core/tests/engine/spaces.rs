//! Devices in a space: what they cite, what they refuse to sign, whom they let in.

use delta_core::engine::{Command, CommandError, Event, Handover, Input, Output, Reply};
use delta_core::identity::{Author, Identity, LogId, Millis, OperationId};
use delta_core::ops::{Action, Body, Content, DeviceKey, Level, RoomText, Rotation, Signal, SpaceText};
use delta_core::space::Refusal;
use delta_core::store::{MemberRow, Store};
use delta_core::sync::frame::Frame;
use delta_core::topic::TopicId;

use crate::support::{Device, World, Writer, ticket};

fn alone(seed: u8) -> Device {
    Device::new(seed, Store::in_memory().unwrap(), &ticket())
}

fn opened(reply: Reply) -> (LogId, TopicId) {
    match reply {
        Reply::Space { space, topic } => (space, topic),
        other => panic!("{other:?}"),
    }
}

fn space(device: &mut Device) -> (LogId, TopicId) {
    let about = SpaceText { name: "Garden".into(), ..SpaceText::default() };
    opened(device.command(Command::CreateSpace { about }).unwrap())
}

fn room(device: &mut Device, space: LogId) -> (LogId, TopicId) {
    let about = RoomText { name: "Shed".into(), ..RoomText::default() };
    opened(device.command(Command::CreateRoom { space, about }).unwrap())
}

fn act(device: &mut Device, space: LogId, action: Action) -> Result<Reply, CommandError> {
    device.command(Command::Act { space, action: Box::new(action) })
}

fn say(device: &mut Device, topic: TopicId, text: &str) -> Result<Reply, CommandError> {
    let content =
        Content::MessageSend { text: text.into(), reply: None, mentions: vec![], attachments: Vec::new() };
    device.command(Command::Publish { topic, content })
}

fn members(device: &Device, space: LogId) -> Vec<MemberRow> {
    device.engine.reader().unwrap().members(&space).unwrap()
}

fn add(member: Author) -> Action {
    Action::Add { member: member.into(), level: Level::Write, invite: None, claim: None }
}

fn cited(device: &Device, id: OperationId) -> Vec<OperationId> {
    let operation = device.engine.reader().unwrap().operation(&id).unwrap().unwrap();
    Body::decode(&operation.body.unwrap()).unwrap().auth_heads
}

/// Packets reach the server, and their senders hear of it; gives the answer to a command, if there was one.
fn deliver(device: &mut Device, world: &mut World, outputs: Vec<Output>) -> Option<Reply> {
    let (mut answer, mut packets) = (None, Vec::new());
    for output in outputs {
        match output {
            Output::Reply { result, .. } => answer = Some(result.unwrap()),
            Output::Post(job) => packets.push(job),
            _ => {}
        }
    }
    for job in packets {
        world.carry(&job);
        let taken = Input::Posted { attempt: job.attempt, handover: Handover::Taken };
        let outputs = device.handle(vec![taken]).unwrap();
        deliver(device, world, outputs);
    }
    answer
}

/// Runs a command of a device that is online.
fn run(device: &mut Device, world: &mut World, command: Command) -> Reply {
    let input = device.input(command);
    let outputs = device.handle(vec![input]).unwrap();
    deliver(device, world, outputs).expect("every command is answered")
}

/// Brings a device up to date with the world, and the world with the device.
fn meet(device: &mut Device, world: &mut World) {
    if let Some(conn) = device.conn.take() {
        device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    }
    let (_, outputs) = device.catch_up(world);
    deliver(device, world, outputs);
}

/// Goes online.
fn join(device: &mut Device, world: &mut World) {
    run(device, world, Command::Configure(world.network(3)));
    let topic = device.ticket.topic();
    run(device, world, Command::Subscribe { topic });
    meet(device, world);
}

/// A space that is on a server, with what the device that made it does in it first.
fn founded(first: impl FnOnce(&mut Device, LogId)) -> (Device, World, LogId) {
    let mut device = alone(1);
    let (space, topic) = space(&mut device);
    device.ticket = device.engine.reader().unwrap().topic(topic).unwrap().unwrap().ticket;
    first(&mut device, space);
    let mut world = World::new(topic);
    join(&mut device, &mut world);
    (device, world, space)
}

#[test]
fn what_is_published_in_a_space_and_its_rooms_cites_what_this_device_knows() {
    let mut device = alone(1);
    let (space, _) = space(&mut device);
    let (room, topic) = room(&mut device, space);
    let Reply::Published(message) = say(&mut device, topic, "hello").unwrap() else { panic!("published") };
    let reader = device.engine.reader().unwrap();
    let made = reader.room(&room).unwrap().unwrap().about;
    assert_eq!(cited(&device, message), [made]);
    assert_eq!(cited(&device, made), [reader.space(&space).unwrap().unwrap().about]);
    assert_eq!(reader.messages(&room, delta_core::store::Page::Newest, 9).unwrap().len(), 1);
    let plain = alone(2);
    assert_eq!(plain.engine.reader().unwrap().spaces().unwrap(), []);
}

#[test]
fn what_would_not_count_is_not_signed() {
    let mut device = alone(1);
    let (space, topic) = space(&mut device);
    let (room, in_room) = room(&mut device, space);
    let other = Author([7; 32]);
    let operations = |device: &Device| device.engine.reader().unwrap().count_operations().unwrap();
    let before = operations(&device);
    let refused = act(&mut device, space, Action::Remove { member: other.into() }).unwrap_err();
    assert!(matches!(refused, CommandError::Refused(Refusal::Member)), "{refused}");
    let membership = Content::Membership(Box::new(add(other)));
    let publish = |topic, content| Command::Publish { topic, content };
    let refused = device.command(publish(in_room, membership.clone())).unwrap_err();
    assert!(matches!(refused, CommandError::NotASpace), "{refused}");
    let ticket = device.ticket.clone();
    let plain = ticket.topic();
    device.command(Command::OpenTopic { ticket }).unwrap();
    assert!(matches!(device.command(publish(plain, membership)), Err(CommandError::NotASpace)));
    assert!(matches!(act(&mut device, room, add(other)), Err(CommandError::NotASpace)));
    let too_long = SpaceText { name: "x".repeat(65), ..SpaceText::default() };
    let refused = device.command(Command::CreateSpace { about: too_long }).unwrap_err();
    assert!(matches!(refused, CommandError::Content(_)), "{refused}");
    assert_eq!(operations(&device), before);

    act(&mut device, space, Action::RoomArchive { room }).unwrap();
    assert!(matches!(say(&mut device, in_room, "late"), Err(CommandError::MayNotWrite)));
    act(&mut device, space, add(other)).unwrap();
    assert!(matches!(act(&mut device, space, Action::Leave), Err(CommandError::LastManager)));
    act(&mut device, space, Action::Transfer { member: other.into() }).unwrap();
    act(&mut device, space, Action::Leave).unwrap();
    assert!(matches!(say(&mut device, topic, "gone"), Err(CommandError::MayNotWrite)));
}

#[test]
fn a_command_of_a_batch_that_fails_leaves_the_spaces_of_the_others() {
    let mut device = alone(1);
    let (space, _) = space(&mut device);
    let (one, two) = (Author([7; 32]), Author([8; 32]));
    let inputs = [one, one, two].map(|member| {
        let action = Box::new(add(member));
        device.input(Command::Act { space, action })
    });
    device.handle(inputs.into()).unwrap();
    assert_eq!(members(&device, space).len(), 3);
}

/// Rotations of the space's topic by devices 2 (a writer), 3 (removed) and 4 (a manager), in this order.
#[test]
fn a_spaces_topic_is_closed_by_its_managers_and_by_nobody_else() {
    let of = |seed: u8| Identity::from(DeviceKey::from_bytes(&[seed; 32]).author());
    let mut heads = Vec::new();
    let (mut alice, mut world, space) = founded(|alice, space| {
        act(alice, space, add(Author(of(2).0))).unwrap();
        let manager =
            |seed| Action::Add { member: of(seed), level: Level::Manage, invite: None, claim: None };
        act(alice, space, manager(3)).unwrap();
        act(alice, space, manager(4)).unwrap();
        act(alice, space, Action::Remove { member: of(3) }).unwrap();
        let newest = alice.engine.reader().unwrap().audit(&space, None, 1).unwrap();
        heads = newest.into_iter().map(|row| row.id).collect();
    });
    let mut rotate = |alice: &mut Device, seed: u8, heads: &[OperationId]| {
        let (topic, commitment) = (TopicId([seed; 32]), [0; 32]);
        let rotation = Rotation { epoch: 1, topic, parts: Vec::new(), ends: Vec::new(), commitment };
        let mut body = Body::new(Content::RoomRotate(Box::new(rotation)));
        body.auth_heads = heads.to_vec();
        world.log.push(Writer::new([seed; 32], &alice.ticket).write(body));
        if let Some(conn) = alice.conn.take() {
            alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
        }
        let (_, outputs) = alice.catch_up(&world);
        outputs.into_iter().find_map(|output| match output {
            Output::Event(Event::Closed { rotator, .. }) => Some(rotator),
            _ => None,
        })
    };
    assert_eq!(rotate(&mut alice, 2, &heads), None, "a writer");
    assert_eq!(rotate(&mut alice, 3, &heads), None, "removed");
    assert_eq!(rotate(&mut alice, 5, &[]), None, "a stranger who cites nothing");
    assert_eq!(rotate(&mut alice, 4, &heads), Some(Author(of(4).0)));
    assert_eq!(members(&alice, space).len(), 3);
}

/// Signals are stored nowhere, so they cite nothing: what counts is how their authors stand now.
#[test]
fn in_a_space_those_are_heard_whose_messages_would_count() {
    let of = |seed: u8| Identity::from(DeviceKey::from_bytes(&[seed; 32]).author());
    let (mut alice, _, space) = founded(|alice, space| {
        let add = |seed, level| Action::Add { member: of(seed), level, invite: None, claim: None };
        for (seed, level) in [(2, Level::Write), (3, Level::Write), (4, Level::Read), (5, Level::Manage)] {
            act(alice, space, add(seed, level)).unwrap();
        }
        act(alice, space, Action::Mute { member: of(3), until: None }).unwrap();
        act(alice, space, Action::Remove { member: of(5) }).unwrap();
    });
    let conn = alice.conn.unwrap();
    let mut at = 0;
    let mut hears = |alice: &mut Device, seed: u8| {
        at += 1;
        let (key, keys) = (DeviceKey::from_bytes(&[seed; 32]), alice.ticket.keys());
        let signal = Signal::seal(&key, &keys, Millis(at), b"typing").unwrap();
        let outputs = alice.frame(conn, &Frame::Signal(signal.into()));
        outputs.iter().any(|output| matches!(output, Output::Event(Event::Signal { .. })))
    };
    let heard = (2..=6).filter(|seed| hears(&mut alice, *seed));
    assert_eq!(heard.collect::<Vec<_>>(), [2], "not the muted, a reader, who was removed, a stranger");
    assert_eq!(alice.standing().dropped, [("signal-not-allowed".to_owned(), 4)]);
    act(&mut alice, space, Action::Unmute { member: of(3) }).unwrap();
    act(&mut alice, space, Action::Remove { member: of(2) }).unwrap();
    let heard = (2..=3).filter(|seed| hears(&mut alice, *seed));
    assert_eq!(heard.collect::<Vec<_>>(), [3]);
    act(&mut alice, space, Action::SpaceDelete).unwrap();
    assert!(!hears(&mut alice, 3));
}
