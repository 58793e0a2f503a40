//! Direct threads: asked for, accepted, and what two devices then say to each other alone.

use delta_core::crypto::{PREKEY_LIFETIME_MS, PreparedDirect};
use delta_core::engine::{
    BLOCK_WAIT_MS, Command, CommandError, Input, Reply, prepare_message, thread_id, thread_ticket,
};
use delta_core::identity::{Author, Certificate, Identity, IdentityKey, Millis, ThreadId};
use delta_core::limits::{MAX_DEVICES, MAX_DIRECT_REQUESTS};
use delta_core::ops::{Contact, Content, Hidden, inbox_log};
use delta_core::store::{Page, Store, StoreOptions, ThreadState};
use delta_core::topic::{TopicId, WriteKey};

use crate::inbox::{contact, peer};
use crate::net::{Net, Peer, run};

pub fn thread(reply: Reply) -> ThreadId {
    match reply {
        Reply::Thread { thread, .. } => thread,
        other => panic!("{other:?}"),
    }
}

pub fn ask(net: &mut Net, from: &mut Peer, to: &Peer) -> Result<ThreadId, CommandError> {
    let Contact { device: to, inbox } = contact(to);
    let text = Some("hello?".to_owned());
    from.command(net, Command::RequestDirect { to, inbox: Some(inbox), text }).map(thread)
}

/// Whose device it is.
pub fn identity(peer: &mut Peer) -> Identity {
    match peer.command(&mut Net::new(), Command::WhoAmI).unwrap() {
        Reply::Identity(identity) => identity,
        other => panic!("{other:?}"),
    }
}

pub fn prepared(peer: &mut Peer, thread: ThreadId) -> Result<Vec<PreparedDirect>, CommandError> {
    let (author, now) = (peer.author(), peer.device.now);
    let who = (author, identity(peer));
    prepare_message(&peer.reader(), &thread, who, now, &mut peer.device.entropy)
}

pub fn message(text: &str) -> Content {
    Content::MessageSend { text: text.into(), reply: None, mentions: vec![], attachments: Vec::new() }
}

pub fn say(net: &mut Net, peer: &mut Peer, thread: ThreadId, text: &str) -> Result<Reply, CommandError> {
    let prepared = prepared(peer, thread)?.into();
    peer.command(net, Command::PublishDirect { thread, content: message(text), prepared })
}

pub fn texts(peer: &Peer, thread: ThreadId) -> Vec<String> {
    let log = peer.reader().direct_thread(&thread).unwrap().unwrap().log.unwrap();
    let rows = peer.reader().messages(&log, Page::Newest, 1000).unwrap();
    rows.into_iter().filter_map(|row| row.text).collect()
}

pub fn state(peer: &Peer, thread: ThreadId) -> ThreadState {
    peer.reader().direct_thread(&thread).unwrap().unwrap().state
}

pub struct Pair {
    pub net: Net,
    pub a: Peer,
    pub b: Peer,
    thread: ThreadId,
    pub topic: TopicId,
}

impl Pair {
    pub fn new() -> Self {
        let mut net = Net::new();
        let [a, b] = [1, 2].map(|seed| peer(&mut net, seed));
        Self::of(net, a, b)
    }

    fn of(mut net: Net, mut a: Peer, mut b: Peer) -> Self {
        let thread = ask(&mut net, &mut a, &b).unwrap();
        run(&mut net, &mut [&mut a, &mut b]);
        assert_eq!((state(&a, thread), state(&b, thread)), (ThreadState::Asked, ThreadState::Requested));
        b.command(&mut net, Command::AcceptDirect { thread }).unwrap();
        run(&mut net, &mut [&mut a, &mut b]);
        assert_eq!((state(&a, thread), state(&b, thread)), (ThreadState::Open, ThreadState::Open));
        let topic = a.reader().direct_thread(&thread).unwrap().unwrap().topic.unwrap();
        for peer in [&mut a, &mut b] {
            peer.command(&mut net, Command::Subscribe { topic }).unwrap();
        }
        run(&mut net, &mut [&mut a, &mut b]);
        Self { net, a, b, thread, topic }
    }

    pub fn a_says(&mut self, text: &str) {
        say(&mut self.net, &mut self.a, self.thread, text).unwrap();
    }

    fn b_says(&mut self, text: &str) {
        say(&mut self.net, &mut self.b, self.thread, text).unwrap();
    }

    fn settle(&mut self) {
        run(&mut self.net, &mut [&mut self.a, &mut self.b]);
    }

    /// The second one reads the thread, or does not.
    pub fn b_is_away(&mut self, away: bool) {
        let topic = self.topic;
        let command = match away {
            true => Command::Unsubscribe { topic },
            false => Command::Subscribe { topic },
        };
        if away {
            self.b.lose_connections();
        }
        self.b.command(&mut self.net, command).unwrap();
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        let dropped = self.b.reader().dropped(self.topic).unwrap();
        dropped.iter().find(|(found, _)| found == reason).map_or(0, |(_, count)| *count)
    }
}

#[test]
fn two_devices_talk_in_a_topic_that_nobody_else_can_name() {
    let mut pair = Pair::new();
    let asked = pair.b.reader().direct_thread(&pair.thread).unwrap().unwrap();
    assert_eq!((asked.peer, asked.text.as_deref()), (pair.a.author(), Some("hello?")));
    for round in 0..3 {
        pair.a_says(&format!("a{round}"));
        pair.settle();
        pair.b_says(&format!("b{round}"));
        pair.settle();
    }
    let all = ["a0", "b0", "a1", "b1", "a2", "b2"];
    assert_eq!(texts(&pair.a, pair.thread), all);
    assert_eq!(texts(&pair.b, pair.thread), all);
    // Every envelope is a two-party one, and of one length.
    let lengths: Vec<usize> = pair.net.world(pair.topic).log.iter().map(Vec::len).collect();
    assert!(lengths.windows(2).all(|two| two[0] == two[1]), "{lengths:?}");
    assert!(pair.net.world(pair.topic).log.iter().all(|envelope| envelope[0] == 4));
    let twice = pair.b.command(&mut pair.net, Command::AcceptDirect { thread: pair.thread }).unwrap_err();
    assert!(matches!(twice, CommandError::ThreadState), "{twice}");
    let topic = pair.topic;
    let publish = Command::Publish { topic, content: message("in the clear") };
    assert!(matches!(pair.a.command(&mut pair.net, publish), Err(CommandError::Seal(_))));
    pair.a.command(&mut pair.net, Command::CloseDirect { thread: pair.thread }).unwrap();
    assert!(matches!(say(&mut pair.net, &mut pair.a, pair.thread, "no"), Err(CommandError::ThreadState)));
}

#[test]
fn out_of_order_and_doubled_delivery_do_not_break_the_ratchet() {
    let mut pair = Pair::new();
    pair.b.lose_connections();
    pair.b.command(&mut pair.net, Command::Unsubscribe { topic: pair.topic }).unwrap();
    let spoken: Vec<String> = (0..12).map(|n| format!("m{n}")).collect();
    for text in &spoken {
        pair.a_says(text);
        run(&mut pair.net, &mut [&mut pair.a]);
    }
    // The server gives them in another order, and some of them twice under other seqs.
    let log = &mut pair.net.world(pair.topic).log;
    assert_eq!(log.len(), spoken.len());
    log.reverse();
    log.swap(2, 7);
    let doubled = [log[4].clone(), log[0].clone()];
    log.extend(doubled);
    pair.b.command(&mut pair.net, Command::Subscribe { topic: pair.topic }).unwrap();
    run(&mut pair.net, &mut [&mut pair.b]);
    let mut got = texts(&pair.b, pair.thread);
    got.sort_by_key(|text| text[1..].parse::<u32>().unwrap());
    assert_eq!(got, spoken);
    assert_eq!(pair.b.reader().pending_count(pair.topic).unwrap().key, 0);
    assert_eq!((pair.dropped("direct"), pair.dropped("direct-duplicate")), (0, 0), "known by their hashes");
}

#[test]
fn a_stolen_database_with_the_devices_key_opens_nothing_that_is_said_after_both_have_answered() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| Store::open(folder.path().join(name), StoreOptions::default()).unwrap();
    let mut net = Net::new();
    let a = peer(&mut net, 1);
    let b = Peer::with_inbox(&mut net, 2, open("own.db"));
    let mut pair = Pair::of(net, a, b);
    pair.a_says("before");
    pair.settle();
    pair.b_says("yes");
    pair.settle();
    let nobody = peer(&mut pair.net, 9);
    std::mem::replace(&mut pair.b, nobody).device.engine.close().unwrap();
    for suffix in ["", "-wal", ".lock"] {
        let file = |name: &str| folder.path().join(format!("{name}{suffix}"));
        if file("own.db").exists() {
            std::fs::copy(file("own.db"), file("stolen.db")).unwrap();
        }
    }
    pair.b = Peer::with_inbox(&mut pair.net, 2, open("own.db"));
    let mut thief = Peer::with_inbox(&mut pair.net, 2, open("stolen.db"));
    thief.hold = true;
    let topic = pair.topic;
    for peer in [&mut pair.b, &mut thief] {
        peer.command(&mut pair.net, Command::Subscribe { topic }).unwrap();
    }
    pair.a_says("too early");
    pair.settle();
    pair.b_says("an answer");
    pair.settle();
    pair.a_says("a secret");
    pair.settle();
    pair.b_says("another answer");
    pair.a_says("a last secret");
    pair.settle();
    run(&mut pair.net, &mut [&mut thief]);
    let all = ["before", "yes", "too early", "an answer", "a secret", "another answer", "a last secret"];
    assert_eq!(texts(&pair.b, pair.thread), all);
    assert_eq!(
        texts(&thief, pair.thread),
        ["before", "yes", "too early"],
        "what was sealed to the stolen state"
    );
}

#[test]
fn a_changed_block_costs_itself_alone() {
    let mut pair = Pair::new();
    pair.a_says("one");
    pair.settle();
    let mut forged = pair.net.world(pair.topic).log[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    pair.net.world(pair.topic).log.extend([forged, vec![4; 9], vec![4; 900]]);
    pair.settle();
    pair.a_says("two");
    pair.settle();
    assert_eq!(texts(&pair.b, pair.thread), ["one", "two"]);
    assert!(pair.dropped("direct") + pair.dropped("direct-duplicate") >= 2);
}

#[test]
fn what_was_prepared_from_a_state_of_before_is_refused_and_nothing_is_signed() {
    let mut pair = Pair::new();
    pair.a_says("first");
    pair.settle();
    let thread = pair.thread;
    let early = prepared(&mut pair.a, thread).unwrap();
    pair.a_says("second");
    let count = pair.a.reader().count_operations().unwrap();
    let late = Command::PublishDirect { thread, content: message("again"), prepared: early.into() };
    let refused = pair.a.command(&mut pair.net, late).unwrap_err();
    assert!(matches!(refused, CommandError::StaleKeys), "{refused}");
    assert_eq!(pair.a.reader().count_operations().unwrap(), count);
    // Also when something was opened meanwhile.
    let early = prepared(&mut pair.b, thread).unwrap();
    pair.a_says("third");
    pair.settle();
    let late = Command::PublishDirect { thread, content: message("again"), prepared: early.into() };
    assert!(matches!(pair.b.command(&mut pair.net, late), Err(CommandError::StaleKeys)));
    assert_eq!(texts(&pair.b, thread), ["first", "second", "third"]);
}

#[test]
fn a_server_that_lost_its_log_gets_the_kept_envelopes_again() {
    let mut pair = Pair::new();
    pair.a_says("a");
    pair.settle();
    pair.b_says("b");
    pair.settle();
    let before = pair.net.wipe().remove(&pair.topic).unwrap().log;
    for peer in [&mut pair.a, &mut pair.b] {
        peer.lose_connections();
    }
    for _ in 0..400 {
        pair.settle();
        if pair.net.world(pair.topic).log.len() == 2 {
            break;
        }
        for peer in [&mut pair.a, &mut pair.b] {
            peer.device.now = peer.device.engine.next_wakeup().unwrap().max(peer.device.now);
            peer.feed(vec![Input::Timeout]);
        }
    }
    pair.settle();
    let mut after = pair.net.world(pair.topic).log.clone();
    let mut before = before;
    before.sort();
    after.sort();
    assert_eq!(after, before, "byte for byte");
    assert_eq!(pair.dropped("direct"), 0);
    pair.a_says("on");
    pair.settle();
    assert!(texts(&pair.b, pair.thread).contains(&"on".to_owned()));
}

#[test]
fn a_session_whose_next_block_never_comes_ends_after_a_week_and_another_begins() {
    let mut pair = Pair::new();
    pair.a_says("one");
    pair.settle();
    pair.b.lose_connections();
    pair.b.command(&mut pair.net, Command::Unsubscribe { topic: pair.topic }).unwrap();
    pair.a_says("lost");
    pair.a_says("late");
    run(&mut pair.net, &mut [&mut pair.a]);
    // The server has lost the second and says nothing of it.
    pair.net.world(pair.topic).log.remove(1);
    pair.b.command(&mut pair.net, Command::Subscribe { topic: pair.topic }).unwrap();
    run(&mut pair.net, &mut [&mut pair.b]);
    assert_eq!(texts(&pair.b, pair.thread), ["one"]);
    let until = pair.b.device.now.plus(BLOCK_WAIT_MS + 2 * 24 * 3_600_000);
    while pair.b.device.now < until {
        let next = pair.b.device.engine.next_wakeup().unwrap().max(pair.b.device.now);
        pair.b.device.now = next.min(until);
        pair.b.feed(vec![Input::Timeout]);
        pair.b.drain(&mut pair.net);
    }
    assert_eq!(pair.dropped("direct-lost"), 1);
    // The other device hears of it in its inbox, and begins another session.
    pair.settle();
    pair.a_says("anew");
    pair.settle();
    // What is missing before it is waited for, and then no longer.
    pair.b.device.now = pair.b.device.now.plus(6 * 60_000);
    pair.b.feed(vec![Input::Timeout]);
    assert!(texts(&pair.b, pair.thread).contains(&"anew".to_owned()));
}

#[test]
fn a_person_with_devices_without_end_is_written_to_on_sixteen() {
    let mut pair = Pair::new();
    let identity = IdentityKey::from_seed(&[2; 32]);
    let (mut recipients, mut ones) = (Vec::new(), Vec::new());
    for seed in 0..MAX_DEVICES as u8 {
        recipients.push(prepared(&mut pair.a, pair.thread).unwrap().len());
        let mut one = peer(&mut pair.net, 100 + seed);
        let certificate = Certificate::sign(&identity, one.author(), Millis(1));
        one.command(&mut pair.net, Command::Certify { certificate }).unwrap();
        ask(&mut pair.net, &mut one, &pair.a).unwrap();
        run(&mut pair.net, &mut [&mut pair.a, &mut one]);
        ones.push(one);
    }
    recipients.push(prepared(&mut pair.a, pair.thread).unwrap().len());
    let expected: Vec<usize> = (1..=MAX_DEVICES).chain([MAX_DEVICES]).collect();
    assert_eq!(recipients, expected);
    // And asked on sixteen, of which the one that is named is one.
    for named in [0, ones.len() - 1] {
        let asked = ask(&mut pair.net, &mut pair.a, &ones[named]).unwrap();
        let mut peers: Vec<&mut Peer> = ones.iter_mut().chain([&mut pair.a, &mut pair.b]).collect();
        run(&mut pair.net, &mut peers);
        let is_asked =
            |peer: &&Peer| peer.reader().direct_threads().unwrap().iter().any(|row| row.thread == asked);
        assert!(is_asked(&&ones[named]));
        assert_eq!(ones.iter().chain([&pair.b]).filter(is_asked).count(), MAX_DEVICES, "{named}");
    }
}

#[test]
fn a_device_that_cannot_be_reached_does_not_keep_the_persons_others_from_hearing() {
    let mut pair = Pair::new();
    pair.a_says("one");
    pair.settle();
    pair.b_says("two");
    pair.settle();
    // Another device of b's person (its identity is its first device's key) was heard of once, and never again.
    let mut lost = peer(&mut pair.net, 3);
    let identity = IdentityKey::from_seed(&[2; 32]);
    assert_eq!(identity.identity().0, pair.b.author().0);
    let certificate = Certificate::sign(&identity, lost.author(), Millis(1));
    lost.command(&mut pair.net, Command::Certify { certificate }).unwrap();
    ask(&mut pair.net, &mut lost, &pair.a).unwrap();
    run(&mut pair.net, &mut [&mut pair.a, &mut lost]);
    let recipients = |pair: &mut Pair| -> Vec<Author> {
        let prepared = prepared(&mut pair.a, pair.thread).unwrap();
        prepared.iter().map(PreparedDirect::recipient).collect()
    };
    assert_eq!(recipients(&mut pair).len(), 2);
    pair.a.device.now = pair.a.device.now.plus(PREKEY_LIFETIME_MS + 1);
    assert_eq!(recipients(&mut pair), [pair.b.author()]);
    pair.a_says("three");
    pair.settle();
    assert_eq!(texts(&pair.b, pair.thread), ["one", "two", "three"]);
}

#[test]
fn requests_that_wait_for_an_answer_are_bounded() {
    let mut net = Net::new();
    let [mut a, mut b] = [1, 2].map(|seed| peer(&mut net, seed));
    for _ in 0..=MAX_DIRECT_REQUESTS.0 {
        ask(&mut net, &mut a, &b).unwrap();
    }
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(b.reader().direct_threads().unwrap().len() as u64, MAX_DIRECT_REQUESTS.0);
    let first = b.reader().direct_threads().unwrap()[0].thread;
    b.command(&mut net, Command::AcceptDirect { thread: first }).unwrap();
    ask(&mut net, &mut a, &b).unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(b.reader().direct_threads().unwrap().len() as u64, MAX_DIRECT_REQUESTS.0 + 1);
    let long = Command::RequestDirect {
        to: b.author(),
        inbox: None,
        text: Some("x".repeat(delta_core::limits::MAX_DESCRIPTION + 1)),
    };
    assert!(matches!(a.command(&mut net, long), Err(CommandError::Content(_))));
    let unknown = Command::AcceptDirect { thread: ThreadId([3; 32]) };
    assert!(matches!(a.command(&mut net, unknown), Err(CommandError::UnknownThread)));
    let mut without = Peer::tunnelled(7, Store::in_memory().unwrap());
    let refused = ask(&mut net, &mut without, &b).unwrap_err();
    assert!(matches!(refused, CommandError::NoInbox), "{refused}");
}

/// Made by a second implementation: docs/vectors/inbox.py.
#[test]
fn names_and_contacts_are_those_of_the_second_implementation() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../vectors/inbox.json")).unwrap();
    let bytes = |value: &serde_json::Value, key: &str| -> [u8; 32] {
        hex::decode(value[key].as_str().unwrap()).unwrap().try_into().unwrap()
    };
    let list = |key: &str| vectors[key].as_array().unwrap().clone();
    assert_eq!((list("inbox_logs").len(), list("contacts").len(), list("threads").len()), (6, 1, 2));
    for row in list("inbox_logs") {
        let log = inbox_log(&Author(bytes(&row, "sender")), &Author(bytes(&row, "recipient")));
        assert_eq!(log.0, bytes(&row, "log_id"));
    }
    for row in list("contacts") {
        let contact = Contact::parse(row["text"].as_str().unwrap()).unwrap();
        assert_eq!((contact.device.0, contact.inbox.0), (bytes(&row, "device"), bytes(&row, "seed")));
        assert_eq!(WriteKey::from_seed(contact.inbox.0).topic().0, bytes(&row, "topic_id"));
    }
    for row in list("threads") {
        let share = |key| Hidden(bytes(&row, key));
        let [requester, accepter] = ["requester", "accepter"].map(|key| Author(bytes(&row, key)));
        let (asked, accepted) = (share("share_of_request"), share("share_of_acceptance"));
        assert_eq!(thread_id(&asked, &requester).0, bytes(&row, "thread_id"));
        let ticket = thread_ticket(&asked, &accepted, &requester, &accepter);
        assert_eq!(ticket.log().0, bytes(&row, "log_id"));
        assert_eq!(ticket.topic().0, bytes(&row, "topic_id"));
    }
}
