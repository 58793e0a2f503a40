//! Blobs from one device to another: chunk by chunk, through restarts, and nothing that is not what was said.

use delta_core::crypto::{open_chunk, seal_chunk};
use delta_core::engine::{BLOB_WAIT_MS, Command, CommandError, Event, Handover, Input, Reply};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::OperationId;
use delta_core::limits::{
    BLOB_CHUNK, BLOB_WINDOW, MAX_ATTACHMENTS, MAX_BLOB, MAX_BLOB_TRANSFERS, MAX_FILE_NAME, MAX_MIME,
};
use delta_core::ops::{BlobId, Body, Content, Hidden, Manifest, Ticket, TicketBytes};
use delta_core::projector::Aggregate;
use delta_core::store::{Attachment, BlobState, Durability, Page, Store, StoreOptions};
use delta_core::topic::TopicId;

use crate::net::{Net, Peer, run};
use crate::support::{Writer, ticket};

mod hostile;
mod kept;
mod waits;

/// Bytes that are the same nowhere.
fn file(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&len.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A blob of these bytes; it is sent from now on.
fn make(net: &mut Net, peer: &mut Peer, bytes: &[u8]) -> BlobId {
    let (mime, name) = ("image/png".to_owned(), Some("a.png".to_owned()));
    let blob = blob(peer.command(net, Command::MakeBlob { size: bytes.len() as u64, mime, name }));
    for (number, chunk) in (0..).zip(bytes.chunks(BLOB_CHUNK)) {
        let bytes = chunk.to_vec().into();
        peer.command(net, Command::PutChunk { blob, number, bytes }).unwrap();
    }
    if bytes.is_empty() {
        peer.command(net, Command::PutChunk { blob, number: 0, bytes: Vec::new().into() }).unwrap();
    }
    self::blob(peer.command(net, Command::FinishBlob { blob }))
}

fn blob(reply: Result<Reply, CommandError>) -> BlobId {
    match reply.unwrap() {
        Reply::Blob(blob) => blob,
        other => panic!("{other:?}"),
    }
}

fn send(net: &mut Net, peer: &mut Peer, attachments: Vec<Manifest>) -> OperationId {
    let content = Content::MessageSend { text: "look".into(), reply: None, mentions: vec![], attachments };
    match peer.command(net, Command::Publish { topic: ticket().topic(), content }).unwrap() {
        Reply::Published(id) => id,
        other => panic!("{other:?}"),
    }
}

fn manifest(peer: &Peer, blob: BlobId) -> Manifest {
    peer.reader().blob_manifest(&blob).unwrap().unwrap()
}

/// Makes a blob and says it.
fn say(net: &mut Net, peer: &mut Peer, bytes: &[u8]) -> (BlobId, OperationId) {
    let blob = make(net, peer, bytes);
    let said = manifest(peer, blob);
    (blob, send(net, peer, vec![said]))
}

fn fetch(net: &mut Net, peer: &mut Peer, blob: BlobId) {
    peer.command(net, Command::FetchBlob { blob }).unwrap();
}

fn state(peer: &Peer, blob: BlobId) -> (BlobState, u32) {
    let status = peer.reader().blob_status(&blob).unwrap().unwrap();
    (status.state, status.have)
}

/// What a device has of a blob.
fn read(peer: &Peer, blob: BlobId) -> Vec<u8> {
    let (reader, manifest) = (peer.reader(), manifest(peer, blob));
    let count = manifest.chunks.len() as u32;
    let open = |number| {
        let sealed = reader.blob_chunk(&blob, number).unwrap().unwrap();
        open_chunk(&manifest.key, number, count, sealed).unwrap()
    };
    (0..count).flat_map(open).collect()
}

/// Topics on the disk, those of blobs among them, and operations.
fn left(peer: &Peer) -> (usize, u64) {
    let reader = peer.reader();
    (
        reader.storage_use().unwrap().logs.len().max(reader.topics().unwrap().len()),
        reader.count_operations().unwrap(),
    )
}

fn carriers(net: &Net) -> Vec<TopicId> {
    net.worlds.keys().copied().filter(|topic| *topic != ticket().topic()).collect()
}

fn pair() -> (Net, Peer, Peer) {
    let (mut net, ticket) = (Net::new(), ticket());
    let (mut a, mut b) = (Peer::new(1, &ticket), Peer::new(2, &ticket));
    run(&mut net, &mut [&mut a, &mut b]);
    (net, a, b)
}

/// A folder and what opens the database in it.
fn on_disk(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path().join("device.db"), StoreOptions::default()).unwrap()
}

fn restart(peer: Peer, seed: u8, folder: &tempfile::TempDir) -> Peer {
    peer.device.engine.close().unwrap();
    Peer::with(seed, &ticket(), on_disk(folder))
}

#[test]
fn a_blob_comes_over_in_a_topic_of_its_own_and_leaves_nothing_else() {
    let (mut net, mut a, mut b) = pair();
    let bytes = file(2 * BLOB_CHUNK + 5);
    let (blob, message) = say(&mut net, &mut a, &bytes);
    assert_eq!(a.reader().topics().unwrap().len(), 1, "apps are not shown the other one");
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&a, blob), (BlobState::Here, 3));
    let about = Attachment { id: blob, size: 512_005, mime: "image/png".into(), name: Some("a.png".into()) };
    let log = ticket().log();
    for peer in [&a, &b] {
        let page = peer.reader().messages(&log, Page::Newest, 10).unwrap();
        assert_eq!(page[0].attachments, std::slice::from_ref(&about));
        assert_eq!(
            peer.reader().message(&message).unwrap().unwrap().attachments,
            std::slice::from_ref(&about)
        );
    }
    assert_eq!(state(&b, blob), (BlobState::Absent, 0));
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&b, blob), (BlobState::Here, 3));
    assert_eq!(read(&b, blob), bytes);
    assert_eq!((left(&a), left(&b)), ((1, 1), (1, 1)), "the message alone is left");
    let told = |event: &Event| match event {
        Event::Changed { topic, changes } => {
            assert_eq!(*topic, ticket().topic());
            changes.iter().any(|it| it.aggregate == Aggregate::Blob && it.ids == [blob.0] && it.log == log)
        }
        event => panic!("nothing is said of the blob's topic: {event:?}"),
    };
    b.events.retain(|event| !matches!(event, Event::Connection { topic, .. } if *topic == ticket().topic()));
    assert!(b.events.iter().filter(|event| told(event)).count() > 0);
    // Whoever reads it cannot write where it stands.
    assert_eq!(manifest(&b, blob).ticket.0[0], 2);
    let [carrier] = carriers(&net)[..] else { panic!() };
    assert_eq!(net.world(carrier).log.len(), 3);
    // Nor is it fetched twice.
    let connects = b.connects.len();
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(b.connects.len(), connects);
}

#[test]
fn an_empty_file_and_one_of_exactly_a_chunk_come_over() {
    let (mut net, mut a, mut b) = pair();
    for bytes in [Vec::new(), file(BLOB_CHUNK)] {
        let (blob, _) = say(&mut net, &mut a, &bytes);
        run(&mut net, &mut [&mut a, &mut b]);
        fetch(&mut net, &mut b, blob);
        run(&mut net, &mut [&mut a, &mut b]);
        assert_eq!((state(&b, blob), read(&b, blob)), ((BlobState::Here, 1), bytes));
    }
}

/// docs/wire.md, section 3: class 3 has 262,144 bytes.
#[test]
fn a_full_chunk_goes_in_a_packet_of_class_3_and_never_with_another() {
    let (mut net, mut a, _) = pair();
    a.hold = true;
    make(&mut net, &mut a, &file(2 * BLOB_CHUNK));
    run(&mut net, &mut [&mut a]);
    let lens: Vec<usize> = a.held.iter().map(|job| job.wrap().unwrap().len()).collect();
    assert_eq!(lens, [262_144, 262_144]);
}

#[test]
fn sending_goes_on_after_a_restart_where_it_stood_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut net, _, mut b) = pair();
    let mut a = Peer::with(1, &ticket(), on_disk(&folder));
    run(&mut net, &mut [&mut a]);
    a.hold = true;
    let chunks = BLOB_WINDOW + 3;
    let bytes = file(chunks * BLOB_CHUNK - 7);
    let (blob, _) = say(&mut net, &mut a, &bytes);
    run(&mut net, &mut [&mut a]);
    let topic = ticket().topic();
    let (said, parts): (Vec<_>, Vec<_>) =
        std::mem::take(&mut a.held).into_iter().partition(|job| net.target(job) == topic);
    assert_eq!((said.len(), parts.len()), (1, BLOB_WINDOW), "so many are on their way at once");
    assert_eq!(state(&a, blob), (BlobState::Sending, 0));
    // Three arrive, and the device stops before it hears of it.
    parts.iter().take(3).for_each(|job| net.carry(job));
    let mut a = restart(a, 1, &folder);
    run(&mut net, &mut [&mut a]);
    for _ in 0..60 {
        if state(&a, blob).0 == BlobState::Here {
            break;
        }
        a.device.now = a.device.now.plus(5_000);
        a.feed(vec![Input::Timeout]);
        run(&mut net, &mut [&mut a]);
    }
    assert_eq!(state(&a, blob), (BlobState::Here, chunks as u32));
    let [carrier] = carriers(&net)[..] else { panic!() };
    assert_eq!(net.world(carrier).log.len(), chunks);
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(read(&b, blob), bytes);
}

#[test]
fn what_was_being_made_when_the_device_stopped_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut net = Net::new();
    let mut a = Peer::with(1, &ticket(), on_disk(&folder));
    let made = Command::MakeBlob { size: 9, mime: String::new(), name: None };
    let draft = blob(a.command(&mut net, made));
    let put = |bytes: &[u8], number| Command::PutChunk { blob: draft, number, bytes: bytes.to_vec().into() };
    for wrong in [put(b"too long for it", 0), put(b"123456789", 1), Command::FinishBlob { blob: draft }] {
        assert!(matches!(a.command(&mut net, wrong), Err(CommandError::BlobChunk)));
    }
    assert!(a.reader().blob_manifest(&draft).unwrap().is_none(), "nobody can say it");
    a.command(&mut net, put(b"123456789", 0)).unwrap();
    assert!(matches!(a.command(&mut net, put(b"123456789", 0)), Err(CommandError::BlobChunk)), "once");
    let mut a = restart(a, 1, &folder);
    run(&mut net, &mut [&mut a]);
    let gone = a.command(&mut net, Command::FinishBlob { blob: draft }).unwrap_err();
    assert!(matches!(gone, CommandError::UnknownBlob), "{gone}");
}

#[test]
fn fetching_goes_on_after_a_restart_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let (mut net, mut a, _) = pair();
    let mut b = Peer::with(2, &ticket(), on_disk(&folder));
    let bytes = file(3 * BLOB_CHUNK);
    let (blob, _) = say(&mut net, &mut a, &bytes);
    run(&mut net, &mut [&mut a, &mut b]);
    let [carrier] = carriers(&net)[..] else { panic!() };
    let later = net.world(carrier).log.split_off(2);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut b]);
    assert_eq!(state(&b, blob), (BlobState::Fetching, 2));
    let mut b = restart(b, 2, &folder);
    assert_eq!(state(&b, blob), (BlobState::Fetching, 2));
    net.world(carrier).log.extend(later);
    run(&mut net, &mut [&mut b]);
    assert_eq!((state(&b, blob), read(&b, blob)), ((BlobState::Here, 3), bytes));
    assert_eq!(left(&b), (1, 1));
}

#[test]
fn after_the_server_lost_its_disk_what_was_not_done_is_sent_again() {
    let (mut net, mut a, mut b) = pair();
    a.hold = true;
    let bytes = file(2 * BLOB_CHUNK);
    let (blob, _) = say(&mut net, &mut a, &bytes);
    run(&mut net, &mut [&mut a]);
    // One chunk stood there when it happened.
    let topic = ticket().topic();
    let held = std::mem::take(&mut a.held);
    let (said, mut parts): (Vec<_>, Vec<_>) = held.into_iter().partition(|job| net.target(job) == topic);
    net.carry(&parts.remove(0));
    run(&mut net, &mut [&mut a]);
    assert_eq!(state(&a, blob), (BlobState::Sending, 1));
    drop(net.wipe());
    a.lose_connections();
    a.hold = false;
    for job in said.iter().chain(&parts) {
        net.carry(job);
        a.feed(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]);
    }
    run(&mut net, &mut [&mut a, &mut b]);
    for _ in 0..40 {
        a.device.now = a.device.now.plus(5_000);
        a.feed(vec![Input::Timeout]);
        run(&mut net, &mut [&mut a, &mut b]);
    }
    assert_eq!(state(&a, blob).0, BlobState::Here);
    b.lose_connections();
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!((state(&b, blob).0, read(&b, blob)), (BlobState::Here, bytes));
}

/// Chunks put into a topic by hand, in this order.
fn by_hand(net: &mut Net, carrier: &Ticket, chunks: &[(u32, &[u8])]) {
    let mut writer = Writer::new([9; 32], carrier);
    for (index, bytes) in chunks {
        let envelope = writer.write(Body::new(Content::BlobChunk { index: *index, bytes: bytes.to_vec() }));
        net.world(carrier.topic()).log.push(envelope);
    }
}

/// A blob of two chunks made by hand: its manifest, and the chunks.
fn blob_by_hand(carrier: &Ticket) -> (Manifest, [Vec<u8>; 2]) {
    let key = Hidden([7; 32]);
    let mut chunks = [file(BLOB_CHUNK), b"the end".to_vec()];
    for (number, chunk) in (0..).zip(&mut chunks) {
        *chunk = seal_chunk(&key, number, 2, chunk).unwrap();
    }
    let mut ticket = [0; TicketBytes::LEN];
    // As the second implementation writes it: version, log id, epoch, write_vk, secret.
    ticket.copy_from_slice(&z32_bytes(&carrier.read_only().to_string()));
    let manifest = Manifest {
        id: BlobId(*blake3::hash(&chunks.concat()).as_bytes()),
        key,
        size: BLOB_CHUNK as u64 + 7,
        mime: String::new(),
        name: None,
        ticket: TicketBytes(ticket),
        chunks: chunks.iter().map(|chunk| *blake3::hash(chunk).as_bytes()).collect(),
    };
    (manifest, chunks)
}

fn z32_bytes(text: &str) -> Vec<u8> {
    z32::decode(text.as_bytes()).unwrap()
}

fn carrier(seed: u8) -> Ticket {
    Ticket::generate_private(&mut SeededEntropy::new([seed; 32])).unwrap()
}

#[test]
fn chunks_count_by_their_hashes_alone_in_any_order_whoever_says_them() {
    let (mut net, mut a, mut b) = pair();
    let carrier = carrier(77);
    let (manifest, [first, second]) = blob_by_hand(&carrier);
    let blob = manifest.id;
    send(&mut net, &mut a, vec![manifest]);
    let forged = [&first[1..], &[0]].concat();
    by_hand(
        &mut net,
        &carrier,
        &[(0, &forged), (1, &first), (1, &second), (1, &second), (2, &first), (0, &first), (0, &forged)],
    );
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&b, blob), (BlobState::Here, 2));
    assert_eq!(read(&b, blob), [&file(BLOB_CHUNK)[..], b"the end"].concat());
}

#[test]
fn a_blob_that_is_not_what_its_id_says_is_corrupt_and_nothing_of_it_stays() {
    let (mut net, mut a, mut b) = pair();
    let carrier = carrier(78);
    let (manifest, [first, second]) = blob_by_hand(&carrier);
    let wrong = BlobId([5; 32]);
    send(&mut net, &mut a, vec![Manifest { id: wrong, ..manifest }]);
    by_hand(&mut net, &carrier, &[(0, &first), (1, &second)]);
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, wrong);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&b, wrong), (BlobState::Corrupt, 0));
    assert!(b.reader().blob_chunk(&wrong, 0).unwrap().is_none());
    assert_eq!(left(&b), (1, 1));
}

/// The topic of a manifest goes with the blob: it must be no other one of this device.
#[test]
fn a_manifest_that_names_a_conversation_takes_nothing_from_it() {
    let (mut net, mut a, mut b) = pair();
    let (mut manifest, _) = blob_by_hand(&ticket());
    let room = manifest.id;
    let operation = send(&mut net, &mut a, vec![manifest.clone()]);
    // Another topic, with the room's log id.
    manifest.id = BlobId([6; 32]);
    let mut other = z32_bytes(&carrier(79).read_only().to_string());
    other[1..33].copy_from_slice(&ticket().log().0);
    manifest.ticket.0.copy_from_slice(&other);
    send(&mut net, &mut a, vec![manifest]);
    run(&mut net, &mut [&mut a, &mut b]);
    for blob in [room, BlobId([6; 32])] {
        fetch(&mut net, &mut b, blob);
        run(&mut net, &mut [&mut a, &mut b]);
        assert_eq!(state(&b, blob), (BlobState::Corrupt, 0));
    }
    assert!(b.reader().message(&operation).unwrap().is_some());
    a.say(&mut net, "still there");
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(b.texts().last().unwrap(), "still there");
}

#[test]
fn what_the_server_does_not_have_is_unavailable_and_not_waited_for_for_ever() {
    let (mut net, mut a, mut b) = pair();
    a.hold = true;
    let bytes = file(2 * BLOB_CHUNK);
    let (blob, _) = say(&mut net, &mut a, &bytes);
    run(&mut net, &mut [&mut a]);
    let topic = ticket().topic();
    let held = std::mem::take(&mut a.held);
    let (said, parts): (Vec<_>, Vec<_>) = held.into_iter().partition(|job| net.target(job) == topic);
    said.iter().for_each(|job| net.carry(job));
    run(&mut net, &mut [&mut b]);
    fetch(&mut net, &mut b, blob);
    net.carry(&parts[0]);
    run(&mut net, &mut [&mut b]);
    let wait = |b: &mut Peer, net: &mut Net, ms: u64| {
        b.device.now = b.device.now.plus(ms);
        b.feed(vec![Input::Timeout]);
        run(net, &mut [b]);
        state(b, blob)
    };
    assert_eq!(wait(&mut b, &mut net, BLOB_WAIT_MS - 30_000), (BlobState::Fetching, 1));
    assert_eq!(wait(&mut b, &mut net, 30_000), (BlobState::Unavailable, 1));
    assert_eq!(left(&b), (1, 1));
    // The rest comes: what was there is not fetched again in vain.
    net.carry(&parts[1]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut b]);
    assert_eq!((state(&b, blob), read(&b, blob)), ((BlobState::Here, 2), bytes));
}

#[test]
fn a_blob_of_which_the_server_evicted_something_is_unavailable_at_once() {
    let (mut net, mut a, mut b) = pair();
    let (blob, _) = say(&mut net, &mut a, &file(2 * BLOB_CHUNK));
    run(&mut net, &mut [&mut a, &mut b]);
    let [carrier] = carriers(&net)[..] else { panic!() };
    net.world(carrier).tail = 2;
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(state(&b, blob), (BlobState::Unavailable, 1));
}

#[test]
fn the_least_recently_used_give_way_and_what_is_sent_does_not() {
    let (mut net, mut a, mut b) = pair();
    let limit = 1000;
    b.device.engine.limit_blobs(Some(limit));
    let blobs: Vec<BlobId> = [400, 500, 100, 1].map(|len| say(&mut net, &mut a, &file(len)).0).to_vec();
    run(&mut net, &mut [&mut a, &mut b]);
    let get = |b: &mut Peer, net: &mut Net, blob| {
        b.device.now = b.device.now.plus(1);
        fetch(net, b, blob);
        run(net, &mut [b]);
    };
    let here =
        |b: &Peer| -> Vec<bool> { blobs.iter().map(|blob| state(b, *blob).0 == BlobState::Here).collect() };
    blobs[..3].iter().for_each(|blob| get(&mut b, &mut net, *blob));
    assert_eq!(here(&b), [true, true, true, false], "at the limit");
    get(&mut b, &mut net, blobs[0]);
    get(&mut b, &mut net, blobs[3]);
    assert_eq!(here(&b), [true, false, true, true], "past it");
    get(&mut b, &mut net, blobs[1]);
    assert_eq!(state(&b, blobs[1]).0, BlobState::Here, "fetched again");
    // Nothing may be kept: the one used last is, and what is sent.
    a.device.now = a.device.now.plus(1);
    fetch(&mut net, &mut a, blobs[2]);
    a.device.engine.limit_blobs(Some(0));
    a.hold = true;
    let sent = make(&mut net, &mut a, &file(9));
    run(&mut net, &mut [&mut a]);
    assert_eq!(here(&a), [false, false, true, false]);
    assert_eq!(state(&a, sent).0, BlobState::Sending);
}

#[test]
fn with_its_message_a_blob_is_gone_also_while_it_is_fetched() {
    let (mut net, mut a, mut b) = pair();
    let (here, first) = say(&mut net, &mut a, &file(10));
    let (twice, second) = say(&mut net, &mut a, &file(11));
    let again = manifest(&a, twice);
    send(&mut net, &mut a, vec![again]);
    a.hold = true;
    let (coming, third) = say(&mut net, &mut a, &file(12));
    let topic = ticket().topic();
    run(&mut net, &mut [&mut a]);
    let held = std::mem::take(&mut a.held);
    let (said, _): (Vec<_>, Vec<_>) = held.into_iter().partition(|job| net.target(job) == topic);
    said.iter().for_each(|job| net.carry(job));
    a.hold = false;
    for blob in [here, twice, coming] {
        run(&mut net, &mut [&mut b]);
        fetch(&mut net, &mut b, blob);
    }
    run(&mut net, &mut [&mut b]);
    assert_eq!([here, twice, coming].map(|blob| state(&b, blob).0 == BlobState::Here), [true, true, false]);
    for target in [first, second, third] {
        let content = Content::MessageDelete { target };
        a.command(&mut net, Command::Publish { topic, content }).unwrap();
    }
    run(&mut net, &mut [&mut a, &mut b]);
    for peer in [&a, &b] {
        for gone in [here, coming] {
            assert!(peer.reader().blob_status(&gone).unwrap().is_none(), "nothing says what it was");
            assert!(peer.reader().blob_chunk(&gone, 0).unwrap().is_none());
        }
        assert_eq!(state(peer, twice).0, BlobState::Here, "another message has it, too");
        let row = peer.reader().message(&first).unwrap().unwrap();
        assert!(row.attachments.is_empty() && row.text.is_none());
    }
    assert_eq!(left(&b).0, 1);
}

#[test]
fn a_wiped_conversation_takes_its_blobs_along_and_a_dropped_blob_can_be_fetched_again() {
    let (mut net, mut a, mut b) = pair();
    let (blob, _) = say(&mut net, &mut a, &file(10));
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut b]);
    b.command(&mut net, Command::DropBlob { blob }).unwrap();
    assert_eq!(state(&b, blob), (BlobState::Absent, 0));
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut b]);
    assert_eq!(read(&b, blob), file(10));
    let topic = ticket().topic();
    b.command(&mut net, Command::Wipe { topic }).unwrap();
    assert!(b.reader().blob_chunk(&blob, 0).unwrap().is_none());
    let unknown = b.command(&mut net, Command::FetchBlob { blob }).unwrap_err();
    assert!(matches!(unknown, CommandError::UnknownBlob), "{unknown}");
}

#[test]
fn a_shared_blob_is_found_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let (mut net, mut a, _) = pair();
    let mut b = Peer::with(2, &ticket(), on_disk(&folder));
    let blob = make(&mut net, &mut a, &file(10));
    let content = Content::BlobShare(Box::new(manifest(&a, blob)));
    let topic = ticket().topic();
    a.command(&mut net, Command::Publish { topic, content }).unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    fetch(&mut net, &mut b, blob);
    run(&mut net, &mut [&mut b]);
    assert_eq!(read(&b, blob), file(10));
    // Also when all rows are made anew.
    b.command(&mut net, Command::DropBlob { blob }).unwrap();
    let said = manifest(&b, blob);
    b.device.engine.close().unwrap();
    let mut store = on_disk(&folder);
    let tx = store.begin(Durability::Full).unwrap();
    tx.rebuild().unwrap();
    tx.commit().unwrap();
    assert_eq!(store.blob_manifest(&blob).unwrap(), Some(said));
}

#[test]
fn only_so_many_are_sent_at_once() {
    let (mut net, mut a, _) = pair();
    a.hold = true;
    let blobs: Vec<BlobId> =
        (0..=MAX_BLOB_TRANSFERS).map(|len| make(&mut net, &mut a, &file(10 + len))).collect();
    run(&mut net, &mut [&mut a]);
    assert_eq!(a.held.len(), MAX_BLOB_TRANSFERS);
    let first = a.held.remove(0);
    net.carry(&first);
    run(&mut net, &mut [&mut a]);
    assert_eq!(a.held.len(), MAX_BLOB_TRANSFERS, "the next one's turn");
    assert_eq!(blobs.iter().filter(|blob| state(&a, **blob).0 == BlobState::Here).count(), 1);
}

#[test]
fn limits_hold_at_them_and_past_them() {
    let (mut net, mut a, _) = pair();
    let text = |len| "x".repeat(len);
    let mut make = |size, mime, name| {
        let made = Command::MakeBlob { size, mime: text(mime), name: Some(text(name)) };
        a.command(&mut net, made).is_ok()
    };
    assert!(make(MAX_BLOB, MAX_MIME, MAX_FILE_NAME));
    assert!(!make(MAX_BLOB + 1, 0, 0));
    assert!(!make(0, MAX_MIME + 1, 0));
    assert!(!make(0, 0, MAX_FILE_NAME + 1));
    let (manifest, _) = blob_by_hand(&carrier(80));
    let said = |count| {
        Body::new(Content::MessageSend {
            text: String::new(),
            reply: None,
            mentions: vec![],
            attachments: vec![manifest.clone(); count],
        })
    };
    assert!(said(MAX_ATTACHMENTS).encode().is_ok());
    assert!(said(MAX_ATTACHMENTS + 1).encode().is_err());
}
