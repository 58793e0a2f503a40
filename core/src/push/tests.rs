//! What an extension is shown, and that nothing opens what it should not.

use super::*;
use crate::entropy::SeededEntropy;
use crate::ops::{self, Body, DeviceKey, Ticket};

const KEY: [u8; 32] = [7; 32];

struct Scene {
    ada: DeviceKey,
    ben: DeviceKey,
    private: Ticket,
    public: Ticket,
}

impl Scene {
    fn new() -> Self {
        let mut entropy = SeededEntropy::new([1; 32]);
        Self {
            ada: DeviceKey::from_bytes(&[1; 32]),
            ben: DeviceKey::from_bytes(&[2; 32]),
            private: Ticket::generate_private(&mut entropy).unwrap(),
            public: Ticket::generate_public(&mut entropy).unwrap(),
        }
    }

    fn writer(&self, writers: Option<&[Author]>) -> SnapshotWriter {
        let mut writer = SnapshotWriter::new(self.ben.author(), &ben(), Millis(5));
        let (ada, long) = (self.ada.author(), "é".repeat(200));
        assert!(writer.add(TopicId([8; 32]), &self.private, Some("Kitchen"), writers, [(ada, "Ada")]));
        let public = self.public.topic();
        assert!(writer.add(public, &self.public, Some(long.as_str()), None, []));
        writer
    }

    fn sealed(&self, writers: Option<&[Author]>) -> Vec<u8> {
        self.writer(writers).seal(&KEY, &mut SeededEntropy::new([2; 32])).unwrap()
    }

    fn snapshot(&self) -> KeySnapshot {
        KeySnapshot::open(&self.sealed(Some(&[self.ada.author()])), &KEY).unwrap()
    }
}

/// Ben, whose identity has a key of its own, and another device.
fn ben() -> Person {
    let other = DeviceKey::from_bytes(&[4; 32]).author();
    Person { identity: DeviceKey::from_bytes(&[3; 32]).author().into(), devices: [other].into() }
}

fn envelope(device: &DeviceKey, ticket: &Ticket, content: Content) -> Vec<u8> {
    let keys = ticket.keys();
    let op = ops::create(device, keys.log(), 0, None, &Body::new(content).sent_at(Millis(9))).unwrap();
    keys.seal(op.header(), op.body_bytes()).unwrap()
}

fn say(text: &str, mentions: Vec<Author>) -> Content {
    Content::MessageSend { text: text.into(), reply: None, mentions, attachments: Vec::new() }
}

#[test]
fn a_message_is_previewed_with_names_and_title() {
    let scene = Scene::new();
    let said = say("dinner", vec![scene.ben.author()]);
    let preview = decrypt_push(&envelope(&scene.ada, &scene.private, said), &scene.snapshot()).unwrap();
    assert_eq!(preview.said, PreviewSaid::Message { text: "dinner".into(), mentions: true });
    assert_eq!((preview.title.as_deref(), preview.name.as_deref()), (Some("Kitchen"), Some("Ada")));
    assert_eq!((preview.topic, preview.log), (TopicId([8; 32]), scene.private.log()));
    assert_eq!((preview.author, preview.own, preview.may_write), (scene.ada.author(), false, true));
    assert_eq!(preview.sent_at, Some(Millis(9)));
    assert!(!format!("{preview:?}").contains("dinner"));
}

#[test]
fn a_person_is_mentioned_by_their_identity_and_has_nothing_to_notice_of_what_their_devices_said() {
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    assert_eq!(snapshot.person(), &ben());
    let preview = |device: &DeviceKey, mentions| {
        let preview = decrypt_push(&envelope(device, &scene.private, say("x", mentions)), &snapshot).unwrap();
        (preview.own, preview.said == PreviewSaid::Message { text: "x".into(), mentions: true })
    };
    let [identity, other] = [3, 4].map(|seed| DeviceKey::from_bytes(&[seed; 32]));
    assert_eq!(preview(&scene.ada, vec![identity.author()]), (false, true));
    assert_eq!(preview(&scene.ada, vec![scene.ada.author()]), (false, false));
    for own in [&scene.ben, &identity, &other] {
        assert!(preview(own, Vec::new()).0);
    }
}

#[test]
fn so_many_devices_of_a_person_are_in_a_snapshot() {
    let devices: std::collections::BTreeSet<_> = (0..=MAX_PERSON_DEVICES as u16)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            Author([&[high, low][..], &[0; 30]].concat().try_into().unwrap())
        })
        .collect();
    let kept = |count: usize| {
        let person = Person { devices: devices.iter().take(count).copied().collect(), ..ben() };
        let sealed = SnapshotWriter::new(Author([1; 32]), &person, Millis(5));
        let sealed = sealed.seal(&KEY, &mut SeededEntropy::new([2; 32])).unwrap();
        KeySnapshot::open(&sealed, &KEY).unwrap().person().devices.len()
    };
    assert_eq!(kept(MAX_PERSON_DEVICES), MAX_PERSON_DEVICES, "at the limit");
    assert_eq!(kept(MAX_PERSON_DEVICES + 1), MAX_PERSON_DEVICES, "past it");
}

#[test]
fn a_public_topic_is_found_by_what_the_operation_says() {
    let scene = Scene::new();
    let sealed = envelope(&scene.ben, &scene.public, say("news", Vec::new()));
    let preview = decrypt_push(&sealed, &scene.snapshot()).unwrap();
    assert_eq!((preview.topic, preview.own, preview.may_write), (scene.public.topic(), true, true));
    // 200 letters of two bytes each were too long.
    assert_eq!(preview.title, Some("é".repeat(127)));
    let other = Ticket::generate_public(&mut SeededEntropy::new([3; 32])).unwrap();
    let sealed = envelope(&scene.ada, &other, say("elsewhere", Vec::new()));
    assert_eq!(decrypt_push(&sealed, &scene.snapshot()), Err(PushError::NoKey));
}

#[test]
fn a_removed_members_message_is_marked() {
    let scene = Scene::new();
    let sealed = envelope(&DeviceKey::from_bytes(&[9; 32]), &scene.private, say("still here", Vec::new()));
    assert!(!decrypt_push(&sealed, &scene.snapshot()).unwrap().may_write);
    let open = KeySnapshot::open(&scene.sealed(None), &KEY).unwrap();
    assert!(decrypt_push(&sealed, &open).unwrap().may_write, "without a space whoever has the key may");
}

#[test]
fn what_says_something_else_has_nothing_to_show() {
    let scene = Scene::new();
    let target = OperationId([4; 32]);
    let emoji = || "👍".to_owned();
    for (content, said) in [
        (Content::MessageDelete { target }, PreviewSaid::Delete { target }),
        (Content::MessageEdit { target, text: "b".into() }, PreviewSaid::Edit { target, text: "b".into() }),
        (Content::ReactionAdd { target, emoji: emoji() }, PreviewSaid::Reaction { target, emoji: emoji() }),
        (Content::ReactionRemove { target, emoji: emoji() }, PreviewSaid::Other),
    ] {
        let sealed = envelope(&scene.ada, &scene.private, content);
        assert_eq!(decrypt_push(&sealed, &scene.snapshot()).unwrap().said, said);
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let (scene, snapshot) = (Scene::new(), Scene::new().snapshot());
    let other = Ticket::generate_private(&mut SeededEntropy::new([3; 32])).unwrap();
    let foreign = envelope(&scene.ada, &other, say("x", Vec::new()));
    assert_eq!(decrypt_push(&foreign, &snapshot), Err(PushError::NoKey));
    for needs in [1, 4] {
        assert_eq!(decrypt_push(&[needs; 300], &snapshot), Err(PushError::NeedsDatabase));
    }
    for junk in [&[][..], &[3], &[2; 300], &[255]] {
        assert_eq!(decrypt_push(junk, &snapshot), Err(PushError::NoKey));
    }
    let mut damaged = envelope(&scene.ada, &scene.private, say("x", Vec::new()));
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(decrypt_push(&damaged, &snapshot), Err(PushError::Envelope(_))));
    let signed_elsewhere = {
        let op = ops::create(&scene.ada, other.log(), 0, None, &Body::new(say("x", Vec::new()))).unwrap();
        scene.private.keys().seal(op.header(), op.body_bytes()).unwrap()
    };
    assert!(matches!(decrypt_push(&signed_elsewhere, &snapshot), Err(PushError::Operation(_))));
}

#[test]
fn a_snapshot_opens_whole_with_its_key_or_not_at_all() {
    let scene = Scene::new();
    let sealed = scene.sealed(None);
    let error = |bytes: &[u8]| KeySnapshot::open(bytes, &KEY).unwrap_err();
    assert_eq!(KeySnapshot::open(&sealed, &[8; 32]).unwrap_err(), SnapshotError::Damaged);
    for end in 0..sealed.len() {
        let wanted = if end < 4 { SnapshotError::NotOne } else { SnapshotError::Damaged };
        assert_eq!(error(&sealed[..end]), wanted, "{end}");
    }
    for place in [5, 30, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        assert_eq!(error(&changed), SnapshotError::Damaged);
    }
    let mut newer = sealed.clone();
    newer[4] = 3;
    assert_eq!(error(&newer), SnapshotError::Version { found: 3 });
    assert_eq!(error(&vec![0; MAX_SNAPSHOT + 1]), SnapshotError::TooLarge);
    assert_eq!(KeySnapshot::open(&sealed, &KEY).unwrap().taken(), Millis(5));
}

#[test]
fn neither_write_keys_nor_more_than_fits_are_in_a_snapshot() {
    let scene = Scene::new();
    assert!(scene.snapshot().topics().iter().all(|topic| topic.keys.write_key().is_none()));
    let mut writer = scene.writer(None);
    let (name, authors) = ("n".repeat(255), (0..1000u16).map(|n| Author([n.to_be_bytes()[1]; 32])));
    let names: Vec<_> = authors.map(|author| (author, name.as_str())).collect();
    let mut added = 2;
    // Names first give way, then topics.
    while added < 200 && writer.add(TopicId([9; 32]), &scene.private, None, None, names.iter().copied()) {
        added += 1;
    }
    assert_eq!(added, 200);
    let sealed = writer.seal(&KEY, &mut SeededEntropy::new([2; 32])).unwrap();
    assert!(sealed.len() <= MAX_SNAPSHOT);
    let snapshot = KeySnapshot::open(&sealed, &KEY).unwrap();
    assert_eq!(snapshot.topics().len(), 200);
    assert!(snapshot.topics()[199].names.is_empty());
}
