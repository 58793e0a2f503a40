//! A person's new device is handed what was said in a thread, by that person's devices alone.

use super::*;

#[test]
fn a_new_device_is_handed_what_was_said_and_not_what_was_deleted() {
    let mut two = Two::new();
    let thread = two.open(0, 1, &[0, 1]);
    let mut ids = Vec::new();
    for (who, text) in [(0, "one"), (1, "two"), (0, "a mistake"), (1, "four")] {
        match say(&mut two.net, &mut two.devices[who], thread, text).unwrap() {
            Reply::Published(id) => ids.push(id),
            other => panic!("{other:?}"),
        }
        two.settle();
    }
    for content in [
        Content::MessageDelete { target: ids[2] },
        Content::MessageEdit { target: ids[0], text: "One".into() },
    ] {
        let prepared = prepared(&mut two.devices[0], thread).unwrap().into();
        let publish = Command::PublishDirect { thread, content, prepared };
        two.devices[0].command(&mut two.net, publish).unwrap();
        two.settle();
    }
    let topic = two.agree(&[0, 1], thread);
    two.devices[0].command(&mut two.net, Command::CloseDirect { thread }).unwrap();
    let a2 = two.pair(0, 11);
    // What it says is its own: the topic was not even read yet.
    assert_eq!(two.states(&[a2], thread), [ThreadState::Closed]);
    assert_eq!(two.texts(a2, thread), ["One", "two", "four"]);
    two.devices[a2].command(&mut two.net, Command::Subscribe { topic }).unwrap();
    two.settle();
    assert_eq!(two.texts(a2, thread), ["One", "two", "four"]);
    // Neither device keeps what was handed over twice.
    for who in [0, a2] {
        let reader = two.devices[who].reader();
        let log = inbox_log(&two.devices[0].author(), &two.devices[a2].author());
        let author = two.devices[0].author();
        let kept = reader.log_entries(&author, &log, 0, u32::MAX, 100).unwrap();
        let said = kept.iter().filter_map(|it| it.body.as_deref()).filter_map(|body| Body::decode(body).ok());
        assert!(said.into_iter().all(|body| body.content.kind() != "own.past"), "device {who}");
    }
}

/// The other person has not heard of the new device yet when it says something.
#[test]
fn what_was_sealed_before_the_new_device_was_known_is_handed_over_the_day_after() {
    let mut two = Two::new();
    let thread = two.open(0, 1, &[0, 1]);
    two.say(0, thread, "one");
    two.settle();
    two.devices[1].hold = true;
    two.say(1, thread, "written on a train");
    let a2 = two.pair(0, 11);
    two.follow(a2, thread);
    let held = std::mem::take(&mut two.devices[1].held);
    two.devices[1].hold = false;
    for job in held {
        two.net.carry(&job);
    }
    two.settle();
    let all = ["one", "written on a train"];
    assert_eq!(
        (two.texts(0, thread), two.texts(a2, thread)),
        (all.map(str::to_owned).into(), vec!["one".to_owned()])
    );
    two.wait(25 * 3_600_000);
    assert_eq!(two.texts(a2, thread), all);
}

/// What stands in its inbox counts as handed over from devices of its person alone, and holds nobody's words but theirs.
#[test]
fn nobody_else_hands_a_device_what_was_said() {
    let (mut two, [a1, b1, a2, b2]) = Two::with_two_each();
    let thread = two.open(a1, b1, &[a1, b1, a2, b2]);
    two.say(a1, thread, "one");
    two.settle();
    let row = two.row(a1, thread);
    let (log, topic) = (row.log.unwrap(), row.topic.unwrap());
    let write =
        *two.devices[a1].reader().topic(topic).unwrap().unwrap().ticket.keys().write_key().unwrap().seed();
    let about = OwnThread {
        thread,
        stage: Stage::Open(ThreadPlace { log, write: Hidden(write) }),
        peer: row.peer,
        made: row.made,
        text: None,
        bundles: Vec::new(),
    };
    let nobody = DeviceKey::from_bytes(&[77; 32]);
    let forged = create(&nobody, log, 0, None, &Body::new(message("I never said so"))).unwrap();
    let real = DeviceKey::from_bytes(&[1; 32]);
    let of_a1 = create(&real, log, 9, Some(forged.id()), &Body::new(message("said by a1"))).unwrap();
    let past = |ops: &[&VerifiedOperation]| {
        let signed = |op: &&VerifiedOperation| SignedBytes {
            header: op.header().to_vec(),
            body: op.body_bytes().to_vec(),
        };
        let generation = Generation([1; 16]);
        let said = (900..).map(Seq).zip(ops.iter().map(signed)).collect();
        let past = OwnPast { thread: about.clone(), generation, said };
        Content::OwnDevices(Box::new(OwnDevices::Past(Box::new(past))))
    };
    let to = two.devices[a2].author();
    let inbox = two.devices[a2].reader().inboxes().unwrap().last().unwrap().topic;
    // By the other person, by one who is nobody's, and by a device of the person.
    let b1_key = DeviceKey::from_bytes(&[2; 32]);
    let identity = IdentityKey::from_seed(&[1; 32]);
    let sister = DeviceKey::from_bytes(&[78; 32]);
    let certificate = Certificate::sign(&identity, sister.author(), Millis(1));
    let sister = sister.certified(certificate).unwrap();
    let mut entropy = SeededEntropy::new([5; 32]);
    let mut put = |two: &mut Two, key: &DeviceKey, seq_num: u32, content| {
        let backlink = (seq_num > 0).then_some(OperationId([1; 32]));
        let op = create(key, inbox_log(&key.author(), &to), seq_num, backlink, &Body::new(content)).unwrap();
        let envelope = seal_inbox(&op, &to, &mut entropy).unwrap();
        two.net.world(inbox).log.push(envelope);
        two.settle();
    };
    put(&mut two, &b1_key, 50, past(&[&of_a1]));
    put(&mut two, &nobody, 0, past(&[&of_a1]));
    assert_eq!(two.texts(a2, thread), ["one"]);
    put(&mut two, &sister, 0, past(&[&forged, &of_a1]));
    assert_eq!(two.texts(a2, thread), ["one", "said by a1"]);
}
