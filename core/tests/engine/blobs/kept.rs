//! What of blobs stays on a device, and what gives way.

use super::*;
use crate::support::Device;

/// A device without any network: nothing can leave it.
fn offline(store: Store) -> Device {
    let ticket = ticket();
    let mut device = Device::new(1, store, &ticket);
    device.command(Command::OpenTopic { ticket }).unwrap();
    device
}

/// A blob of these bytes, at most one chunk, and its manifest.
fn make_offline(device: &mut Device, bytes: &[u8]) -> Manifest {
    let (size, mime) = (bytes.len() as u64, String::new());
    let made = blob(device.command(Command::MakeBlob { size, mime, name: None }));
    let bytes = bytes.to_vec().into();
    device.command(Command::PutChunk { blob: made, number: 0, bytes }).unwrap();
    let made = blob(device.command(Command::FinishBlob { blob: made }));
    device.engine.reader().unwrap().blob_manifest(&made).unwrap().unwrap()
}

fn publish(device: &mut Device, topic: TopicId, attachments: Vec<Manifest>) -> OperationId {
    let content = Content::MessageSend { text: String::new(), reply: None, mentions: vec![], attachments };
    match device.command(Command::Publish { topic, content }).unwrap() {
        Reply::Published(id) => id,
        other => panic!("{other:?}"),
    }
}

fn is_known(device: &Device, blob: BlobId) -> bool {
    device.engine.reader().unwrap().blob_status(&blob).unwrap().is_some()
}

#[test]
fn a_wipe_takes_the_files_of_messages_along_that_were_never_sent() {
    let mut device = offline(Store::in_memory().unwrap());
    let said = make_offline(&mut device, b"photo");
    let topic = ticket().topic();
    publish(&mut device, topic, vec![said.clone()]);
    device.command(Command::Wipe { topic }).unwrap();
    assert!(!is_known(&device, said.id));
    let reader = device.engine.reader().unwrap();
    assert!(reader.blobs_under_way().unwrap().is_empty(), "nor is it sent");
    assert_eq!(reader.outbox_size().unwrap().0, 0);
}

#[test]
fn a_message_that_is_taken_back_takes_its_files_along_unless_another_one_has_them() {
    let mut device = offline(Store::in_memory().unwrap());
    let (topic, one, two) =
        (ticket().topic(), make_offline(&mut device, b"one"), make_offline(&mut device, b"two"));
    publish(&mut device, topic, vec![two.clone()]);
    let slip = publish(&mut device, topic, vec![one.clone(), two.clone()]);
    device.command(Command::Cancel { topic, operation: slip }).unwrap();
    assert!(!is_known(&device, one.id));
    assert!(is_known(&device, two.id));
    assert_eq!(device.engine.reader().unwrap().blobs_under_way().unwrap().len(), 1);
}

#[test]
fn a_blob_of_two_conversations_stays_when_one_of_them_is_wiped() {
    let (mut net, mut a, mut b) = pair();
    let other = carrier(60);
    for peer in [&mut a, &mut b] {
        peer.command(&mut net, Command::OpenTopic { ticket: other.clone() }).unwrap();
        peer.command(&mut net, Command::Subscribe { topic: other.topic() }).unwrap();
    }
    let (blob, _) = say(&mut net, &mut a, &file(10));
    let attachments = vec![manifest(&a, blob)];
    let content = Content::MessageSend { text: String::new(), reply: None, mentions: vec![], attachments };
    a.command(&mut net, Command::Publish { topic: other.topic(), content }).unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    b.command(&mut net, Command::Wipe { topic: ticket().topic() }).unwrap();
    assert_eq!((state(&b, blob), read(&b, blob)), ((BlobState::Here, 1), file(10)));
    b.command(&mut net, Command::Wipe { topic: other.topic() }).unwrap();
    assert!(b.reader().blob_status(&blob).unwrap().is_none());
}

#[test]
fn the_manifest_that_came_first_counts() {
    let (mut net, mut a, mut b) = pair();
    let carrier = carrier(61);
    let (first, [one, two]) = blob_by_hand(&carrier);
    let second = Manifest { mime: "text/html".into(), key: Hidden([1; 32]), ..first.clone() };
    by_hand(&mut net, &carrier, &[(0, &one), (1, &two)]);
    for manifest in [first.clone(), second] {
        send(&mut net, &mut a, vec![manifest]);
    }
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(manifest(&b, first.id), first);
    fetch(&mut net, &mut b, first.id);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!((state(&b, first.id), manifest(&b, first.id)), ((BlobState::Here, 2), first));
}

/// What nobody was told of yet, and what was: the first stays for a day, and the other gives way at once.
#[test]
fn an_own_blob_waits_a_day_for_its_message() {
    let (mut net, mut a, _) = pair();
    a.device.engine.limit_blobs(Some(0));
    let at_once = |net: &mut Net, a: &mut Peer, len| {
        a.device.now = a.device.now.plus(1);
        let blob = make(net, a, &file(len));
        run(net, &mut [a]);
        blob
    };
    let is_here = |a: &Peer, blob| a.reader().blob_chunk(&blob, 0).unwrap().is_some();
    let [draft, said, last] = [10, 11, 12].map(|len| at_once(&mut net, &mut a, len));
    for blob in [said, last] {
        let named = manifest(&a, blob);
        send(&mut net, &mut a, vec![named]);
    }
    let next = at_once(&mut net, &mut a, 13);
    let here = |a: &Peer| [draft, said, last, next].map(|blob| is_here(a, blob));
    assert_eq!(here(&a), [true, false, true, true]);
    assert_eq!(manifest(&a, draft).size, 10, "it can still be said");
    a.device.now = a.device.now.plus(24 * 3_600_000 - 60_000);
    at_once(&mut net, &mut a, 14);
    assert!(is_here(&a, draft));
    a.device.now = a.device.now.plus(60_000);
    at_once(&mut net, &mut a, 15);
    assert_eq!(here(&a), [false, false, false, true], "the last one that was used");
}

#[test]
fn what_is_not_here_takes_no_room() {
    let (mut net, mut a, mut b) = pair();
    b.device.engine.limit_blobs(Some(1_000));
    let (here, _) = say(&mut net, &mut a, &file(900));
    let (corrupt, [first, second]) = blob_by_hand(&carrier(62));
    let corrupt = Manifest { id: BlobId([5; 32]), ..corrupt };
    by_hand(&mut net, &carrier(62), &[(0, &first), (1, &second)]);
    let (lost, [_, second]) = blob_by_hand(&carrier(63));
    by_hand(&mut net, &carrier(63), &[(0, b"gone"), (1, &second)]);
    net.world(carrier(63).topic()).tail = 2;
    let blobs = [here, corrupt.id, lost.id];
    send(&mut net, &mut a, vec![corrupt, lost]);
    for blob in blobs {
        run(&mut net, &mut [&mut a, &mut b]);
        b.device.now = b.device.now.plus(1);
        fetch(&mut net, &mut b, blob);
    }
    run(&mut net, &mut [&mut a, &mut b]);
    let states = blobs.map(|blob| state(&b, blob));
    assert_eq!(states, [(BlobState::Here, 1), (BlobState::Corrupt, 0), (BlobState::Unavailable, 1)]);
}

#[test]
fn what_arrives_late_is_not_gone_at_once_and_the_app_is_told_of_what_is() {
    let (mut net, mut a, mut b) = pair();
    b.device.engine.limit_blobs(Some(0));
    a.hold = true;
    let (late, _) = say(&mut net, &mut a, &file(10));
    run(&mut net, &mut [&mut a]);
    let held = std::mem::take(&mut a.held);
    let topic = ticket().topic();
    let (said, parts): (Vec<_>, Vec<_>) = held.into_iter().partition(|job| net.target(job) == topic);
    said.iter().for_each(|job| net.carry(job));
    a.hold = false;
    let (soon, _) = say(&mut net, &mut a, &file(11));
    run(&mut net, &mut [&mut a, &mut b]);
    for blob in [late, soon] {
        b.device.now = b.device.now.plus(1);
        fetch(&mut net, &mut b, blob);
        run(&mut net, &mut [&mut b]);
    }
    assert_eq!([late, soon].map(|blob| state(&b, blob).0), [BlobState::Fetching, BlobState::Here]);
    b.events.clear();
    b.device.now = b.device.now.plus(1);
    parts.iter().for_each(|job| net.carry(job));
    run(&mut net, &mut [&mut b]);
    assert_eq!([late, soon].map(|blob| state(&b, blob).0), [BlobState::Here, BlobState::Absent]);
    let told = |event: &Event| match event {
        Event::Changed { changes, .. } => changes.iter().any(|it| it.ids.contains(&soon.0)),
        _ => false,
    };
    assert!(b.events.iter().any(told), "{:?}", b.events);
}

#[test]
fn in_a_copied_database_what_never_left_is_sent_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = offline(on_disk(&folder));
    let said = make_offline(&mut device, b"photo");
    device.engine.close().unwrap();
    let mut store = on_disk(&folder);
    let tx = store.begin(Durability::Full).unwrap();
    assert_eq!(tx.forget_unsent(None).unwrap(), 1, "the chunk");
    tx.commit().unwrap();
    let mut net = Net::new();
    let mut a = Peer::with(1, &ticket(), store);
    run(&mut net, &mut [&mut a]);
    assert_eq!(state(&a, said.id), (BlobState::Here, 1));
    let [carrier] = carriers(&net)[..] else { panic!("it was sent") };
    assert_eq!(net.world(carrier).log.len(), 1);
}
