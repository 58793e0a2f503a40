//! What a person's devices tell each other of direct threads, against values made without any code of this project
//! (docs/vectors/threads.py), and the limits of it.

use delta_core::engine::{accepted_share, thread_id, thread_ticket};
use delta_core::identity::{Author, Identity, LogId, Millis, ThreadId};
use delta_core::limits::{MAX_DEVICES, MAX_HANDED_PAST};
use delta_core::ops::{
    Body, Content, EncodeError, Hidden, LimitError, OwnDevices, OwnPast, OwnThread, SignedBytes, Stage,
    ThreadPlace, verify,
};
use delta_core::topic::{Generation, Seq};
use serde_json::Value;

use crate::{array, bytes, rows};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/threads.json")).unwrap()
}

fn signed(row: &Value) -> SignedBytes {
    SignedBytes { header: bytes(&row["header"]), body: bytes(&row["body"]) }
}

fn thread(vectors: &Value, stage: Stage) -> OwnThread {
    OwnThread {
        thread: ThreadId(array(&vectors["thread"])),
        stage,
        peer: Author(array(&vectors["peer"])),
        made: Millis(vectors["made_ms"].as_u64().unwrap()),
        text: None,
        bundles: Vec::new(),
    }
}

fn place(vectors: &Value) -> ThreadPlace {
    ThreadPlace { log: LogId(array(&vectors["log"])), write: Hidden(array(&vectors["write"])) }
}

fn said(thread: OwnThread) -> Content {
    Content::OwnDevices(Box::new(OwnDevices::Thread(Box::new(thread))))
}

fn past(thread: OwnThread, said: Vec<(Seq, SignedBytes)>, generation: Generation) -> Content {
    Content::OwnDevices(Box::new(OwnDevices::Past(Box::new(OwnPast { thread, generation, said }))))
}

#[test]
fn a_person_with_several_devices_accepts_what_the_vectors_say() {
    for row in rows(&vectors()["accepted"], 2) {
        let (asked, requester) = (Hidden(array(&row["share_of_request"])), Author(array(&row["requester"])));
        let thread = thread_id(&asked, &requester);
        assert_eq!(thread.0, array(&row["thread_id"]));
        let share = accepted_share(&LogId(array(&row["own_log"])), &thread);
        assert_eq!(share.0, array(&row["share"]));
        let ticket = thread_ticket(&asked, &share, &requester, &Author(array(&row["identity"])));
        assert_eq!((ticket.log().0, ticket.topic().0), (array(&row["log_id"]), array(&row["topic_id"])));
    }
}

#[test]
fn what_devices_say_of_threads_is_written_and_read_byte_for_byte() {
    let vectors = vectors();
    let share = || Hidden(array(&vectors["share"]));
    let open = || thread(&vectors, Stage::Open(place(&vectors)));
    let messages: Vec<_> =
        [7, 9].map(Seq).into_iter().zip(rows(&vectors["said"], 2).iter().map(signed)).collect();
    let generation = Generation(array(&vectors["generation"]));
    let accept = |identity, bundles| Content::DirectAccept {
        thread: ThreadId(array(&vectors["thread"])),
        share: share(),
        identity,
        bundles,
    };
    let contents = [
        said(thread(&vectors, Stage::Asked(share()))),
        said(OwnThread { text: Some("It is me".into()), ..thread(&vectors, Stage::Requested(share())) }),
        said(open()),
        said(OwnThread { bundles: vec![signed(&vectors["bundle"])], ..open() }),
        said(thread(&vectors, Stage::Closed(Some(place(&vectors))))),
        said(thread(&vectors, Stage::Closed(None))),
        past(open(), Vec::new(), generation),
        past(open(), messages, generation),
        accept(None, Vec::new()),
        accept(Some(Identity(array(&vectors["identity"]))), vec![signed(&vectors["bundle"])]),
    ];
    for (row, content) in rows(&vectors["bodies"], contents.len()).iter().zip(contents) {
        let body = Body::new(content);
        assert_eq!(hex::encode(body.encode().unwrap()), row["body"], "{}", row["name"]);
        assert_eq!(Body::decode(&bytes(&row["body"])), Ok(body), "{}", row["name"]);
    }
    for row in rows(&vectors["malformed"], 17) {
        let content = Body::decode(&bytes(&row["body"])).unwrap().content;
        assert!(matches!(content, Content::Malformed { .. }), "{}: {content:?}", row["name"]);
    }
    // A bundle that is passed on is its device's own word, and says whose device that is.
    let SignedBytes { header, body } = signed(&vectors["bundle"]);
    let bundle = verify(&header, &body, &LogId(array(&vectors["log"]))).unwrap();
    assert_eq!(bundle.author().0, array(&vectors["device"]));
    assert_eq!(bundle.certificate().unwrap().identity.0, array(&vectors["identity"]));
}

#[test]
fn what_is_written_of_threads_is_within_the_limits() {
    let vectors = vectors();
    let one = || SignedBytes { header: vec![1], body: vec![2] };
    let with =
        |count| said(OwnThread { bundles: vec![one(); count], ..thread(&vectors, Stage::Closed(None)) });
    let handed = |count| {
        past(thread(&vectors, Stage::Closed(None)), vec![(Seq(1), one()); count], Generation([1; 16]))
    };
    for content in [with(MAX_DEVICES), handed(MAX_HANDED_PAST)] {
        let body = Body::new(content);
        assert_eq!(Body::decode(&body.encode().unwrap()), Ok(body));
    }
    let refused = [
        (with(MAX_DEVICES + 1), LimitError::Devices { count: MAX_DEVICES + 1 }),
        (handed(MAX_HANDED_PAST + 1), LimitError::Past { count: MAX_HANDED_PAST + 1 }),
    ];
    for (content, limit) in refused {
        assert_eq!(Body::new(content).encode(), Err(EncodeError::Limit(limit)));
    }
}
