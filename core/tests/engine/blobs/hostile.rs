//! Manifests whose sender means no good.

use delta_core::identity::{Identity, LogId};
use delta_core::ops::{Action, Level, RoomText, SpaceText};

use super::*;

fn opened(reply: Result<Reply, CommandError>) -> (LogId, TopicId) {
    match reply.unwrap() {
        Reply::Space { space, topic } => (space, topic),
        other => panic!("{other:?}"),
    }
}

fn say_in(net: &mut Net, peer: &mut Peer, topic: TopicId, text: &str) {
    let content =
        Content::MessageSend { text: text.into(), reply: None, mentions: vec![], attachments: vec![] };
    peer.command(net, Command::Publish { topic, content }).unwrap();
}

fn texts(peer: &Peer, log: LogId) -> Vec<String> {
    let page = peer.reader().messages(&log, Page::Newest, 100).unwrap();
    page.into_iter().filter_map(|row| row.text).collect()
}

/// A manifest that says the blob is in this topic.
fn manifest_in(carrier: &Ticket, id: u8) -> Manifest {
    let (manifest, _) = blob_by_hand(carrier);
    Manifest { id: BlobId([id; 32]), ..manifest }
}

/// Long after every blob was given up.
fn wait(net: &mut Net, peers: &mut [&mut Peer]) {
    for _ in 0..3 {
        for peer in peers.iter_mut() {
            peer.device.now = peer.device.now.plus(BLOB_WAIT_MS);
            peer.feed(vec![Input::Timeout]);
        }
        run(net, peers);
    }
}

#[test]
fn a_conversation_that_a_blob_was_to_be_in_is_one_like_any_other_once_it_is_opened() {
    let (mut net, mut a, mut b) = pair();
    let room = carrier(81);
    // Another topic, with the room's log id.
    let mut beside = manifest_in(&carrier(82), 2);
    beside.ticket.0[1..33].copy_from_slice(&room.log().0);
    a.command(&mut net, Command::OpenTopic { ticket: room.clone() }).unwrap();
    a.command(&mut net, Command::Subscribe { topic: room.topic() }).unwrap();
    say_in(&mut net, &mut a, room.topic(), "before");
    for manifest in [manifest_in(&room, 1), beside] {
        let mut b = Peer::new(manifest.id.0[0] + 10, &ticket());
        let blob = manifest.id;
        send(&mut net, &mut a, vec![manifest]);
        run(&mut net, &mut [&mut a, &mut b]);
        fetch(&mut net, &mut b, blob);
        run(&mut net, &mut [&mut a, &mut b]);
        assert_eq!(state(&b, blob), (BlobState::Fetching, 0));
        b.events.clear();
        let opened = b.command(&mut net, Command::OpenTopic { ticket: room.clone() }).unwrap();
        assert!(matches!(opened, Reply::Topic(topic) if topic == room.topic()), "{opened:?}");
        assert_eq!(state(&b, blob), (BlobState::Corrupt, 0));
        b.command(&mut net, Command::Subscribe { topic: room.topic() }).unwrap();
        run(&mut net, &mut [&mut a, &mut b]);
        say_in(&mut net, &mut b, room.topic(), "after");
        run(&mut net, &mut [&mut a, &mut b]);
        // Fetched again it is nothing else.
        fetch(&mut net, &mut b, blob);
        wait(&mut net, &mut [&mut a, &mut b]);
        assert_eq!(state(&b, blob), (BlobState::Corrupt, 0));
        assert_eq!(texts(&b, room.log()).first().unwrap(), "before");
        assert_eq!(texts(&b, room.log()).last().unwrap(), "after");
        assert_eq!(b.reader().topics().unwrap().len(), 2);
        let shown = |event: &Event| matches!(event, Event::Changed { topic, .. } if *topic == room.topic());
        assert!(b.events.iter().any(shown), "{:?}", b.events);
    }
    run(&mut net, &mut [&mut a, &mut b]);
}

#[test]
fn a_room_that_a_blob_was_to_be_in_opens_with_its_space() {
    let (mut net, mut a, mut b) = pair();
    let about = SpaceText { name: "Garden".into(), history: true, ..SpaceText::default() };
    let (space, _) = opened(a.command(&mut net, Command::CreateSpace { about }));
    let about = RoomText { name: "Shed".into(), ..RoomText::default() };
    let (room, topic) = opened(a.command(&mut net, Command::CreateRoom { space, about }));
    let member = Identity::from(b.author());
    let add = Box::new(Action::Add { member, level: Level::Write, invite: None, claim: None });
    a.command(&mut net, Command::Act { space, action: add }).unwrap();
    let space_topic = a.reader().topics().unwrap().into_iter().find(|row| row.ticket.log() == space).unwrap();
    for topic in [space_topic.topic, topic] {
        a.command(&mut net, Command::Subscribe { topic }).unwrap();
    }
    say_in(&mut net, &mut a, topic, "in the room");
    let manifest = manifest_in(&a.reader().topic(topic).unwrap().unwrap().ticket, 3);
    let blob = manifest.id;
    send(&mut net, &mut a, vec![manifest]);
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&b, blob), (BlobState::Fetching, 0));
    b.command(&mut net, Command::OpenTopic { ticket: space_topic.ticket }).unwrap();
    b.command(&mut net, Command::Subscribe { topic: space_topic.topic }).unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&b, blob), (BlobState::Corrupt, 0));
    b.command(&mut net, Command::Subscribe { topic }).unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    say_in(&mut net, &mut b, topic, "me, too");
    run(&mut net, &mut [&mut a, &mut b]);
    wait(&mut net, &mut [&mut a, &mut b]);
    for peer in [&a, &b] {
        assert_eq!(texts(peer, room), ["in the room", "me, too"]);
    }
    let rooms = b.reader().rooms(&space).unwrap();
    assert_eq!(rooms.len(), 1, "the space still knows it");
}

/// With chunks of other lengths than its size asks for a blob would be larger than it says, or have holes.
#[test]
fn a_chunk_of_another_length_does_not_count() {
    let (mut net, mut a, mut b) = pair();
    for (seed, len) in [(83, BLOB_CHUNK - 1), (84, 0)] {
        let carrier = carrier(seed);
        let (manifest, [_, second]) = blob_by_hand(&carrier);
        let short = seal_chunk(&manifest.key, 0, 2, &file(len)).unwrap();
        let manifest = Manifest {
            id: BlobId(*blake3::hash(&[&short[..], &second[..]].concat()).as_bytes()),
            chunks: [&short, &second].map(|chunk| *blake3::hash(chunk).as_bytes()).to_vec(),
            ..manifest
        };
        let blob = manifest.id;
        send(&mut net, &mut a, vec![manifest]);
        by_hand(&mut net, &carrier, &[(0, &short), (1, &second)]);
        run(&mut net, &mut [&mut a, &mut b]);
        fetch(&mut net, &mut b, blob);
        run(&mut net, &mut [&mut a, &mut b]);
        assert_eq!(state(&b, blob), (BlobState::Fetching, 1));
    }
}
