//! Direct threads of people with several devices: whichever of them asks, accepts, speaks or reads.

mod early;
mod handed;

use delta_core::engine::{Command, CommandError, Input, KEEP_MAX_MS, Reply};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{
    Author, Certificate, IdentityKey, LogId, Millis, OperationId, Revocation, ThreadId,
};
use delta_core::limits::MAX_TOLD_REVOCATIONS;
use delta_core::ops::{
    Action, Body, Content, DeviceKey, Hidden, OwnDevices, OwnPast, OwnThread, SignedBytes, Stage,
    ThreadPlace, Ticket, VerifiedOperation, create, inbox_log, seal_inbox,
};
use delta_core::store::{ThreadRow, ThreadState};
use delta_core::topic::{Generation, Seq, TopicId};

use crate::direct::{ask, message, prepared, say, state, texts};
use crate::inbox::peer;
use crate::net::{Net, Peer, run};

/// Two people. The first device of each holds the identity's key.
struct Two {
    net: Net,
    /// First those of the first one, as many as there are in `of_first`.
    devices: Vec<Peer>,
    /// Whose each is, by the seed of the identity.
    whose: Vec<u8>,
}

const A: u8 = 1;
const B: u8 = 2;

impl Two {
    /// With one device each.
    fn new() -> Self {
        let mut net = Net::new();
        let devices = [A, B].map(|seed| peer(&mut net, seed)).into();
        Self { net, devices, whose: vec![A, B] }
    }

    /// With two devices each: a1, b1, a2, b2.
    fn with_two_each() -> (Self, [usize; 4]) {
        let mut two = Self::new();
        let (a2, b2) = (two.pair(0, 11), two.pair(1, 12));
        (two, [0, 1, a2, b2])
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            run(&mut self.net, &mut self.devices.iter_mut().collect::<Vec<_>>());
        }
    }

    /// A further device of the person whose first one this is.
    fn pair(&mut self, host: usize, seed: u8) -> usize {
        let new = peer(&mut self.net, seed);
        self.pair_with(host, new)
    }

    fn pair_with(&mut self, host: usize, mut new: Peer) -> usize {
        new.device.now = self.devices[host].device.now;
        let identity = IdentityKey::from_seed(&[self.whose[host]; 32]);
        let certificate = Certificate::sign(&identity, new.author(), new.device.now);
        new.command(&mut self.net, Command::Certify { certificate }).unwrap();
        let own = self.own(host);
        new.command(&mut self.net, Command::OwnTopic { ticket: Some(own) }).unwrap();
        let to = new.author();
        self.devices[host].command(&mut self.net, Command::HandPast { to }).unwrap();
        self.devices.push(new);
        self.whose.push(self.whose[host]);
        self.settle();
        self.devices.len() - 1
    }

    fn own(&mut self, who: usize) -> Ticket {
        match self.devices[who].command(&mut self.net, Command::OwnTopic { ticket: None }).unwrap() {
            Reply::Ticket(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, from: usize, to: usize) -> ThreadId {
        let (from, to) = match from < to {
            true => {
                let (left, right) = self.devices.split_at_mut(to);
                (&mut left[from], &right[0])
            }
            false => {
                let (left, right) = self.devices.split_at_mut(from);
                (&mut right[0], &left[to])
            }
        };
        ask(&mut self.net, from, to).unwrap()
    }

    fn accept(&mut self, who: usize, thread: ThreadId) -> Result<Reply, CommandError> {
        self.devices[who].command(&mut self.net, Command::AcceptDirect { thread })
    }

    /// Its app wants to read the thread.
    fn follow(&mut self, who: usize, thread: ThreadId) {
        let topic = self.row(who, thread).topic.unwrap();
        self.devices[who].command(&mut self.net, Command::Subscribe { topic }).unwrap();
    }

    /// Asked by one and accepted by another; these and others read.
    fn open(&mut self, from: usize, to: usize, readers: &[usize]) -> ThreadId {
        let thread = self.ask(from, to);
        self.settle();
        self.accept(to, thread).unwrap();
        self.settle();
        for who in readers {
            self.follow(*who, thread);
        }
        self.settle();
        thread
    }

    fn say(&mut self, who: usize, thread: ThreadId, text: &str) {
        say(&mut self.net, &mut self.devices[who], thread, text).unwrap();
    }

    fn row(&self, who: usize, thread: ThreadId) -> ThreadRow {
        self.devices[who].reader().direct_thread(&thread).unwrap().unwrap()
    }

    fn states(&self, who: &[usize], thread: ThreadId) -> Vec<ThreadState> {
        who.iter().map(|who| state(&self.devices[*who], thread)).collect()
    }

    fn texts(&self, who: usize, thread: ThreadId) -> Vec<String> {
        texts(&self.devices[who], thread)
    }

    fn agree(&self, who: &[usize], thread: ThreadId) -> TopicId {
        let places: Vec<_> = who.iter().map(|who| self.row(*who, thread)).collect();
        let first = (places[0].log.unwrap(), places[0].topic.unwrap());
        for row in &places {
            assert_eq!((row.state, row.log, row.topic), (ThreadState::Open, Some(first.0), Some(first.1)));
        }
        first.1
    }

    fn recipients(&mut self, who: usize, thread: ThreadId) -> Vec<Author> {
        let prepared = prepared(&mut self.devices[who], thread).unwrap();
        let mut recipients: Vec<_> = prepared.iter().map(|it| it.recipient()).collect();
        recipients.sort();
        recipients
    }

    /// All but one, sorted.
    fn others(&self, who: usize) -> Vec<Author> {
        let mut others: Vec<_> = self.devices.iter().map(Peer::author).collect();
        others.remove(who);
        others.sort();
        others
    }

    fn revoke(&mut self, host: usize, device: usize) {
        let identity = IdentityKey::from_seed(&[self.whose[host]; 32]);
        let (device, now) = (self.devices[device].author(), self.devices[host].device.now);
        let revocation = Box::new(Revocation::sign(&identity, device, now));
        self.devices[host].command(&mut self.net, Command::Revoke { revocation }).unwrap();
    }

    /// A device removes a topic, and does what there is room for then.
    fn wipe(&mut self, who: usize, topic: TopicId) {
        self.devices[who].command(&mut self.net, Command::Wipe { topic }).unwrap();
        self.settle();
        self.devices[who].feed(vec![Input::Timeout]);
        self.settle();
    }

    /// Time passes, and everything that is due is done.
    fn wait(&mut self, ms: u64) {
        let until = self.devices[0].device.now.plus(ms);
        loop {
            self.settle();
            let next = self.devices.iter().filter_map(|peer| peer.device.engine.next_wakeup()).min();
            let Some(next) = next.filter(|next| *next < until) else { break };
            for peer in &mut self.devices {
                peer.device.now = peer.device.now.max(next);
                peer.feed(vec![Input::Timeout]);
            }
        }
        for peer in &mut self.devices {
            peer.device.now = peer.device.now.max(until);
            peer.feed(vec![Input::Timeout]);
        }
        self.settle();
    }
}

#[test]
fn what_any_device_of_two_people_says_all_of_them_read() {
    let (mut two, all) = Two::with_two_each();
    let [a1, b1, a2, b2] = all;
    let thread = two.ask(a1, b1);
    two.settle();
    let (asked, requested) = (ThreadState::Asked, ThreadState::Requested);
    assert_eq!(two.states(&all, thread), [asked, requested, asked, requested]);
    assert_eq!(
        (two.row(b2, thread).peer, two.row(b2, thread).text.as_deref()),
        (two.devices[a1].author(), Some("hello?"))
    );
    two.accept(b1, thread).unwrap();
    two.settle();
    let topic = two.agree(&all, thread);
    for who in all {
        two.follow(who, thread);
    }
    two.settle();
    for who in all {
        assert_eq!(two.recipients(who, thread), two.others(who), "device {who}");
    }
    let mut said = Vec::new();
    for round in 0..3 {
        for who in [a2, b2, a1, b1] {
            let text = format!("{round} from {who}");
            two.say(who, thread, &text);
            said.push(text);
            two.settle();
        }
    }
    for who in all {
        assert_eq!(two.texts(who, thread), said, "device {who}");
        assert_eq!(
            two.devices[who].reader().pending_count(topic).unwrap().key,
            0,
            "others' envelopes do not wait"
        );
    }
    // One envelope for each of the other three.
    let log = &two.net.world(topic).log;
    assert_eq!(log.len(), 3 * said.len());
    assert!(log.iter().all(|envelope| envelope[0] == 4));
    assert!(matches!(two.accept(b2, thread), Err(CommandError::ThreadState)));
}

#[test]
fn a_request_is_accepted_on_a_device_that_was_not_asked() {
    let mut two = Two::new();
    let b2 = two.pair(1, 12);
    let b3 = two.pair(1, 13);
    // The contact is that of a further device: nobody has heard yet whose it is.
    let thread = two.ask(0, b2);
    two.settle();
    assert_eq!(two.states(&[1, b2, b3], thread), [ThreadState::Requested; 3]);
    two.accept(b3, thread).unwrap();
    two.settle();
    two.agree(&[0, 1, b2, b3], thread);
    for who in 0..4 {
        two.follow(who, thread);
    }
    two.settle();
    two.say(0, thread, "to all of you");
    two.settle();
    two.say(1, thread, "thanks");
    two.settle();
    for who in 0..4 {
        assert_eq!(two.texts(who, thread), ["to all of you", "thanks"], "device {who}");
    }
}

#[test]
fn two_devices_that_accept_at_once_open_one_thread() {
    let (mut two, all) = Two::with_two_each();
    let thread = two.ask(0, 1);
    two.settle();
    let topics = [all[1], all[3]].map(|who| match two.accept(who, thread).unwrap() {
        Reply::Thread { topic: Some(topic), .. } => topic,
        other => panic!("{other:?}"),
    });
    assert_eq!(topics[0], topics[1]);
    two.settle();
    assert_eq!(two.agree(&all, thread), topics[0]);
}

#[test]
fn what_is_turned_down_or_closed_on_one_device_is_on_all() {
    let (mut two, [a1, b1, a2, b2]) = Two::with_two_each();
    let (first, second) = (two.ask(a1, b1), two.ask(a1, b1));
    two.settle();
    two.devices[b2].command(&mut two.net, Command::CloseDirect { thread: first }).unwrap();
    two.accept(b2, second).unwrap();
    two.settle();
    assert_eq!(two.states(&[b1, b2], first), [ThreadState::Closed; 2]);
    assert_eq!(two.states(&[a1, a2], first), [ThreadState::Asked; 2]);
    assert!(matches!(two.accept(b1, first), Err(CommandError::ThreadState)));
    two.devices[a2].command(&mut two.net, Command::CloseDirect { thread: second }).unwrap();
    two.settle();
    assert_eq!(two.states(&[a1, a2], second), [ThreadState::Closed; 2]);
    assert_eq!(two.states(&[b1, b2], second), [ThreadState::Open; 2]);
    // Also on one that comes later.
    let a3 = two.pair(a1, 13);
    assert_eq!(two.states(&[a3], second), [ThreadState::Closed]);
}

#[test]
fn a_device_that_is_paired_later_has_the_threads_and_reads_on() {
    let mut two = Two::new();
    let thread = two.open(0, 1, &[0, 1]);
    let request = two.ask(1, 0);
    two.say(0, thread, "before");
    two.settle();
    let a2 = two.pair(0, 11);
    assert_eq!(two.states(&[a2], request), [ThreadState::Requested]);
    two.agree(&[0, 1, a2], thread);
    two.follow(a2, thread);
    two.settle();
    two.say(a2, thread, "from my tablet");
    two.settle();
    two.say(1, thread, "I see");
    two.settle();
    two.say(0, thread, "so do I");
    two.settle();
    for who in [0, 1, a2] {
        assert_eq!(two.texts(who, thread), ["before", "from my tablet", "I see", "so do I"], "device {who}");
    }
    two.accept(a2, request).unwrap();
    two.settle();
    two.agree(&[0, 1, a2], request);
}

#[test]
fn a_revoked_device_reads_nothing_new_and_is_not_heard() {
    let (mut two, all) = Two::with_two_each();
    let [a1, b1, a2, b2] = all;
    let thread = two.open(a1, b1, &all);
    two.say(a1, thread, "to all");
    two.settle();
    two.say(b2, thread, "I am here");
    two.settle();
    two.revoke(b1, b2);
    two.settle();
    two.wait(2 * KEEP_MAX_MS);
    let lost = two.devices[b2].author();
    for who in [a1, a2, b1] {
        assert!(!two.recipients(who, thread).contains(&lost), "device {who}");
    }
    for who in [a1, a2, b1] {
        two.say(who, thread, &format!("secret of {who}"));
        two.settle();
    }
    // It has the thread's topic still, and its old sessions.
    two.say(b2, thread, "let me in");
    two.settle();
    let topic = two.row(b2, thread).topic.unwrap();
    assert!(two.devices[b2].is_connected(topic));
    assert_eq!(two.texts(b2, thread), ["to all", "I am here", "let me in"]);
    let all = ["to all", "I am here", "secret of 0", "secret of 2", "secret of 1"];
    for who in [a1, a2, b1] {
        assert_eq!(two.texts(who, thread), all, "device {who}");
    }
    // Of what happens from now on it hears nothing, and a thread that is new is not told it either.
    let later = two.ask(a2, b1);
    two.settle();
    assert_eq!(two.states(&[a1, b1], later), [ThreadState::Asked, ThreadState::Requested]);
    two.accept(b1, later).unwrap();
    two.settle();
    assert!(two.devices[b2].reader().direct_thread(&later).unwrap().is_none_or(|row| row.log.is_none()));
    assert!(!two.recipients(a2, later).contains(&lost));
}

#[test]
fn one_that_was_revoked_before_a_thread_was_there_is_no_device_of_it() {
    let mut two = Two::new();
    let b2 = two.pair(1, 12);
    two.revoke(1, b2);
    two.settle();
    two.wait(2 * KEEP_MAX_MS);
    let thread = two.open(0, 1, &[0, 1]);
    // It asks for a thread of its own, and shows its certificate.
    two.ask(b2, 0);
    two.settle();
    let lost = two.devices[b2].author();
    assert_eq!(two.recipients(0, thread), [two.devices[1].author()]);
    assert!(!two.recipients(1, thread).contains(&lost));
}

#[test]
fn out_of_order_and_doubled_delivery_do_not_break_the_ratchets_of_many_devices() {
    let (mut two, all) = Two::with_two_each();
    let thread = two.open(0, 1, &all);
    let topic = two.agree(&all, thread);
    let reader = all[3];
    two.devices[reader].lose_connections();
    two.devices[reader].command(&mut two.net, Command::Unsubscribe { topic }).unwrap();
    let mut said = Vec::new();
    for round in 0..4 {
        for who in [0, 1, 2] {
            said.push(format!("{round} {who}"));
            two.say(who, thread, said.last().unwrap());
        }
        two.settle();
    }
    let log = &mut two.net.world(topic).log;
    log.reverse();
    let doubled: Vec<_> = log.iter().step_by(3).cloned().collect();
    log.extend(doubled);
    two.devices[reader].command(&mut two.net, Command::Subscribe { topic }).unwrap();
    two.settle();
    let mut got = two.texts(reader, thread);
    got.sort();
    said.sort();
    assert_eq!(got, said);
    assert_eq!(two.devices[reader].reader().pending_count(topic).unwrap().key, 0);
    two.say(reader, thread, "and on");
    two.settle();
    for who in all {
        assert!(two.texts(who, thread).contains(&"and on".to_owned()), "device {who}");
    }
}

/// Nobody but a device of the person is believed, and what it says takes no place of something else.
#[test]
fn what_is_said_of_threads_counts_from_devices_of_the_person_alone_and_takes_nothing_over() {
    let (mut two, [a1, _, a2, _]) = Two::with_two_each();
    let own = two.own(a1);
    let ticket = crate::support::ticket();
    let opened = Command::OpenTopic { ticket: ticket.clone() };
    two.devices[a1].command(&mut two.net, opened).unwrap();
    let said = |number: u8, log| {
        let place = ThreadPlace { log, write: Hidden([number; 32]) };
        let thread = OwnThread {
            thread: ThreadId([number; 32]),
            stage: Stage::Open(place),
            peer: Author([7; 32]),
            made: Millis(1),
            text: None,
            bundles: Vec::new(),
        };
        Content::OwnDevices(Box::new(OwnDevices::Thread(Box::new(thread))))
    };
    // A stranger got hold of the topic's ticket.
    let mut stranger = peer(&mut two.net, 66);
    stranger.command(&mut two.net, Command::OpenTopic { ticket: own.clone() }).unwrap();
    let free = LogId([9; 32]);
    for (who, content) in
        [(None, said(3, free)), (Some(a2), said(4, ticket.log())), (Some(a2), said(5, free))]
    {
        let publish = Command::Publish { topic: own.topic(), content };
        let speaker = match who {
            Some(who) => &mut two.devices[who],
            None => &mut stranger,
        };
        speaker.command(&mut two.net, publish).unwrap();
        run(&mut two.net, &mut [speaker]);
    }
    two.settle();
    let reader = two.devices[a1].reader();
    let known = |number: u8| reader.direct_thread(&ThreadId([number; 32])).unwrap().map(|row| row.state);
    assert_eq!([3, 4, 5].map(known), [None, None, Some(ThreadState::Open)]);
    let refused = two.devices[a1]
        .command(&mut two.net, Command::Publish { topic: ticket.topic(), content: message("mine") });
    assert!(refused.is_ok(), "the room is a room");
}

#[test]
fn another_person_is_told_of_so_many_revoked_devices_the_newest() {
    let mut two = Two::new();
    let identity = IdentityKey::from_seed(&[A; 32]);
    two.open(0, 1, &[0, 1]);
    let [a, b] = [0, 1].map(|who: usize| two.devices[who].author());
    let revoke = |two: &mut Two, numbers: std::ops::RangeInclusive<usize>| {
        let inputs = numbers.map(|number| {
            let revocation = Revocation::sign(&identity, Author([number as u8; 32]), Millis(number as u64));
            let revocation = Box::new(revocation);
            two.devices[0].device.input(Command::Revoke { revocation })
        });
        let inputs = inputs.collect();
        two.devices[0].feed(inputs);
        two.settle();
    };
    let told = |two: &Two| -> Vec<u8> {
        let kept = two.devices[1].reader().log_entries(&a, &inbox_log(&a, &b), 0, u32::MAX, 1000).unwrap();
        let bodies = kept.iter().filter_map(|it| Body::decode(it.body.as_deref()?).ok());
        let device = |body: Body| match body.content {
            Content::Membership(action) => match *action {
                Action::DeviceRevoke { revocation } => Some(revocation.device.0[0]),
                _ => None,
            },
            _ => None,
        };
        bodies.filter_map(device).collect()
    };
    // In one batch: one more than it is told of.
    revoke(&mut two, 1..=MAX_TOLD_REVOCATIONS + 1);
    let mut known = told(&two);
    known.sort_unstable();
    assert_eq!(known, (2..=MAX_TOLD_REVOCATIONS as u8 + 1).collect::<Vec<_>>());
    revoke(&mut two, 100..=100);
    assert_eq!(told(&two).len(), MAX_TOLD_REVOCATIONS, "and of no more");
}
