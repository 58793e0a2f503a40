//! How long blobs wait for each other, for the server and for what it does not have.

use delta_core::engine::Unreadable;
use delta_core::sync::session::ConnId;

use super::*;

/// A blob of two chunks of which the server has the first, said to `b` and being fetched there.
fn half(net: &mut Net, a: &mut Peer, b: &mut Peer, seed: u8) -> (BlobId, TopicId) {
    let carrier = carrier(seed);
    let (manifest, [first, _]) = blob_by_hand(&carrier);
    // As many as are wanted, all of the same bytes: what they are is asked at their ends alone.
    let manifest = Manifest { id: BlobId([seed; 32]), ..manifest };
    let blob = manifest.id;
    by_hand(net, &carrier, &[(0, &first)]);
    send(net, a, vec![manifest]);
    run(net, &mut [a, b]);
    fetch(net, b, blob);
    run(net, &mut [b]);
    assert_eq!(state(b, blob), (BlobState::Fetching, 1));
    (blob, carrier.topic())
}

fn later(net: &mut Net, peer: &mut Peer, ms: u64) {
    peer.device.now = peer.device.now.plus(ms);
    peer.feed(vec![Input::Timeout]);
    run(net, &mut [peer]);
}

fn conn_to(peer: &Peer, topic: TopicId) -> ConnId {
    *peer.conns.iter().find(|(_, (of, _))| *of == topic).expect("it is connected").0
}

#[test]
fn what_it_was_waited_for_over_several_connections_counts_together() {
    let (mut net, mut a, mut b) = pair();
    let (blob, _) = half(&mut net, &mut a, &mut b, 50);
    for _ in 0..3 {
        assert_eq!(state(&b, blob).0, BlobState::Fetching);
        later(&mut net, &mut b, BLOB_WAIT_MS / 4);
        // A day without any network is not waited for.
        b.lose_connections();
        b.device.now = b.device.now.plus(24 * 3_600_000);
        run(&mut net, &mut [&mut b]);
    }
    assert_eq!(state(&b, blob).0, BlobState::Fetching);
    later(&mut net, &mut b, BLOB_WAIT_MS / 4);
    assert_eq!(state(&b, blob).0, BlobState::Unavailable);
}

#[test]
fn the_end_of_the_wait_is_an_instant_at_which_the_engine_wakes() {
    let (mut net, mut a, mut b) = pair();
    let (blob, _) = half(&mut net, &mut a, &mut b, 51);
    let start = b.device.now;
    while state(&b, blob).0 == BlobState::Fetching {
        let at = b.device.engine.next_wakeup().expect("it is waited for");
        assert!(at.since(start) <= BLOB_WAIT_MS, "woken after {} ms", at.since(start));
        b.device.now = b.device.now.max(at);
        b.feed(vec![Input::Timeout]);
        // The server says that it is still there.
        let conns: Vec<(ConnId, TopicId)> = b.conns.iter().map(|(conn, (of, _))| (*conn, *of)).collect();
        for (conn, topic) in conns {
            let ready = net.world(topic).ready();
            b.device_frame(conn, &ready);
        }
        b.drain(&mut net);
    }
    assert_eq!(state(&b, blob), (BlobState::Unavailable, 1));
}

#[test]
fn a_topic_that_cannot_be_read_has_no_blob() {
    let (mut net, mut a, mut b) = pair();
    for (seed, unreadable) in [(52, Unreadable::NoReadKey), (53, Unreadable::Gone)] {
        let (blob, topic) = half(&mut net, &mut a, &mut b, seed);
        let conn = conn_to(&b, topic);
        b.feed(vec![Input::Refused { conn, unreadable }]);
        assert_eq!(state(&b, blob).0, BlobState::Unavailable);
    }
}

#[test]
fn what_is_sent_does_not_wait_for_what_does_not_come() {
    let (mut net, mut a, mut b) = pair();
    let blobs: Vec<BlobId> =
        (0..MAX_BLOB_TRANSFERS as u8).map(|seed| half(&mut net, &mut a, &mut b, 90 + seed).0).collect();
    let sent = make(&mut net, &mut b, &file(10));
    run(&mut net, &mut [&mut b]);
    assert_eq!(state(&b, sent).0, BlobState::Here);
    assert!(blobs.iter().all(|blob| state(&b, *blob).0 == BlobState::Fetching));
    // One more of the same kind does wait.
    let (next, _) = say(&mut net, &mut a, &file(11));
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, next);
    run(&mut net, &mut [&mut b]);
    assert_eq!(state(&b, next), (BlobState::Fetching, 0));
    b.command(&mut net, Command::DropBlob { blob: blobs[0] }).unwrap();
    run(&mut net, &mut [&mut b]);
    assert_eq!(state(&b, next).0, BlobState::Here);
}

#[test]
fn what_was_made_first_is_sent_first() {
    let (mut net, mut a, _) = pair();
    a.hold = true;
    let blobs: Vec<BlobId> =
        (0..MAX_BLOB_TRANSFERS + 2).map(|len| make(&mut net, &mut a, &file(10 + len))).collect();
    run(&mut net, &mut [&mut a]);
    for turn in [MAX_BLOB_TRANSFERS, MAX_BLOB_TRANSFERS + 1] {
        // One of those before is through, and the next one's chunk is the last that is held.
        let first = a.held.remove(0);
        net.carry(&first);
        run(&mut net, &mut [&mut a]);
        let next = a.held.pop().unwrap();
        net.carry(&next);
        run(&mut net, &mut [&mut a]);
        assert_eq!(state(&a, blobs[turn]).0, BlobState::Here);
        let waiting = blobs[turn + 1..].iter().all(|blob| state(&a, *blob) == (BlobState::Sending, 0));
        assert!(waiting);
    }
}

#[test]
fn an_own_blob_that_could_not_be_sent_is_sent_again_when_it_is_wanted() {
    let (mut net, mut a, mut b) = pair();
    a.hold = true;
    let bytes = file(BLOB_CHUNK + 1);
    let (blob, _) = say(&mut net, &mut a, &bytes);
    run(&mut net, &mut [&mut a]);
    let [carrier] = carriers(&net)[..] else { panic!() };
    let conn = conn_to(&a, carrier);
    a.feed(vec![Input::Refused { conn, unreadable: Unreadable::Gone }]);
    assert_eq!(state(&a, blob).0, BlobState::Unavailable);
    a.hold = false;
    let held = std::mem::take(&mut a.held);
    let said: Vec<_> = held.iter().filter(|job| net.target(job) != carrier).collect();
    said.iter().for_each(|job| net.carry(job));
    fetch(&mut net, &mut a, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&a, blob), (BlobState::Here, 2));
    assert_eq!(net.world(carrier).log.len(), 2, "it stands there");
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(read(&b, blob), bytes);
}

/// How often the app was told that there is more of a blob, since last time.
fn told(peer: &mut Peer, blob: BlobId) -> usize {
    let events = std::mem::take(&mut peer.events).into_iter();
    let changes = events.filter_map(|event| match event {
        Event::Changed { changes, .. } => Some(changes),
        _ => None,
    });
    changes.flatten().filter(|it| it.aggregate == Aggregate::Blob && it.ids == [blob.0]).count()
}

#[test]
fn apps_are_told_of_every_step_on_both_sides() {
    let (mut net, mut a, mut b) = pair();
    a.hold = true;
    let (blob, _) = say(&mut net, &mut a, &file(3 * BLOB_CHUNK));
    run(&mut net, &mut [&mut a]);
    let held = std::mem::take(&mut a.held);
    let topic = ticket().topic();
    let (said, parts): (Vec<_>, Vec<_>) = held.into_iter().partition(|job| net.target(job) == topic);
    said.iter().for_each(|job| net.carry(job));
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut b]);
    for peer in [&mut a, &mut b] {
        peer.events.clear();
    }
    for (have, part) in (1..).zip(&parts) {
        net.carry(part);
        run(&mut net, &mut [&mut a, &mut b]);
        let is = if have == 3 { [BlobState::Here; 2] } else { [BlobState::Sending, BlobState::Fetching] };
        assert_eq!([state(&a, blob), state(&b, blob)], is.map(|state| (state, have)));
        assert_eq!((told(&mut a, blob), told(&mut b, blob)), (1, 1));
    }
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!((told(&mut a, blob), told(&mut b, blob)), (0, 0), "no further one");
}
