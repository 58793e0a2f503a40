//! What is said by inbox once and lost: it is said again until it is answered, and nobody hears it twice. What comes while
//! there is no room for it is taken when there is.

use delta_core::engine::{ASK_AGAIN_MS, Command, CommandError, Input};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{LogId, ThreadId};
use delta_core::limits::{MAX_ASK_ROUNDS, MAX_TOPICS};
use delta_core::ops::{Contact, Ticket};
use delta_core::store::{OutboxCounts, Store, StoreOptions, ThreadState};
use delta_core::topic::TopicId;

use crate::direct::{ask, say, state};
use crate::inbox::{contact, inbox, peer};
use crate::net::{Net, Peer, run};
use crate::support::reply;

const HOUR: u64 = 3_600_000;

fn tickets() -> Vec<Ticket> {
    let mut entropy = SeededEntropy::new([77; 32]);
    (0..MAX_TOPICS).map(|_| Ticket::generate_private(&mut entropy).unwrap()).collect()
}

/// The topics that fill a device, as far as they are still there.
pub fn fillers(peer: &Peer) -> Vec<TopicId> {
    let reader = peer.reader();
    let is_there = |topic: &TopicId| reader.topic(*topic).unwrap().is_some();
    tickets().iter().map(Ticket::topic).filter(is_there).collect()
}

/// A device has as many topics as it can have. Gives one of them.
pub fn fill(peer: &mut Peer) -> TopicId {
    let tickets = tickets();
    let first = tickets[0].topic();
    // Its person's other devices do not hear of them.
    let open = |ticket| peer.device.input(Command::Meet { ticket });
    let inputs = tickets.into_iter().map(open).collect();
    peer.feed(inputs);
    let answers = std::iter::from_fn(|| peer.device.engine.poll_output()).filter_map(reply);
    let refused: Vec<_> = answers.filter_map(Result::err).collect();
    assert!(refused.iter().all(|error| matches!(error, CommandError::TooManyTopics)), "{refused:?}");
    assert_eq!(peer.reader().topics().unwrap().len(), MAX_TOPICS);
    first
}

/// The server says that it has what somebody sent to an inbox, and throws it away.
fn lose(net: &mut Net, from: &mut Peer, topic: TopicId) {
    later(net, from, HOUR / 2);
    assert!(!net.world(topic).log.is_empty(), "something was sent");
    assert_eq!(from.reader().outbox_totals().unwrap(), OutboxCounts::default());
    net.world(topic).log.clear();
}

fn later(net: &mut Net, peer: &mut Peer, ms: u64) {
    let until = peer.device.now.plus(ms);
    while peer.device.now < until {
        // Connections would be looked at every few seconds.
        let next = peer.device.engine.next_wakeup().unwrap().max(peer.device.now.plus(HOUR / 4));
        peer.device.now = next.min(until);
        peer.feed(vec![Input::Timeout]);
        run(net, &mut [peer]);
    }
}

fn accept(net: &mut Net, peer: &mut Peer, thread: ThreadId) {
    peer.command(net, Command::AcceptDirect { thread }).unwrap();
}

#[test]
fn a_request_and_an_acceptance_that_a_server_lost_are_said_again_and_count_once() {
    let mut net = Net::new();
    let [mut a, mut b] = [1, 2].map(|seed| peer(&mut net, seed));
    let thread = ask(&mut net, &mut a, &b).unwrap();
    run(&mut net, &mut [&mut a]);
    lose(&mut net, &mut a, inbox(&b));
    later(&mut net, &mut a, ASK_AGAIN_MS + HOUR);
    run(&mut net, &mut [&mut b]);
    assert_eq!(state(&b, thread), ThreadState::Requested);
    // Again, and nothing new.
    later(&mut net, &mut a, 2 * ASK_AGAIN_MS + HOUR);
    run(&mut net, &mut [&mut b]);
    assert_eq!(b.reader().direct_threads().unwrap().len(), 1);
    accept(&mut net, &mut b, thread);
    run(&mut net, &mut [&mut b]);
    lose(&mut net, &mut b, inbox(&a));
    run(&mut net, &mut [&mut a]);
    assert_eq!(state(&a, thread), ThreadState::Asked);
    later(&mut net, &mut b, ASK_AGAIN_MS + HOUR);
    run(&mut net, &mut [&mut a]);
    assert_eq!(state(&a, thread), ThreadState::Open);
    // What was answered is not said again: nor is the acceptance, once somebody has said something there.
    let topic = a.reader().direct_thread(&thread).unwrap().unwrap().topic.unwrap();
    for peer in [&mut a, &mut b] {
        peer.command(&mut net, Command::Subscribe { topic }).unwrap();
    }
    say(&mut net, &mut a, thread, "hello").unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    let sent = [inbox(&a), inbox(&b)].map(|topic| net.world(topic).log.len());
    for peer in [&mut a, &mut b] {
        later(&mut net, peer, 20 * 24 * HOUR);
    }
    assert_eq!([inbox(&a), inbox(&b)].map(|topic| net.world(topic).log.len()), sent);
}

#[test]
fn what_is_never_answered_is_said_so_often_and_no_more_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(folder.path().join("device.db"), StoreOptions::default()).unwrap();
    let mut net = Net::new();
    let mut a = Peer::with_inbox(&mut net, 1, open());
    let b = peer(&mut net, 2);
    ask(&mut net, &mut a, &b).unwrap();
    run(&mut net, &mut [&mut a]);
    let to = inbox(&b);
    let requests = |net: &mut Net, like: usize| {
        net.world(to).log.iter().filter(|envelope| envelope.len() == like).count() as u32
    };
    // Its key bundle, which is smaller, then the request.
    let [bundle, request] = net.world(to).log.iter().map(Vec::len).collect::<Vec<_>>()[..] else {
        panic!("two envelopes")
    };
    assert_ne!(bundle, request);
    later(&mut net, &mut a, 3 * ASK_AGAIN_MS + HOUR);
    assert_eq!(requests(&mut net, request), 3, "after one hour, and after two more");
    let now = a.device.now;
    a.device.engine.close().unwrap();
    let mut a = Peer::with_inbox(&mut net, 1, open());
    a.device.now = now;
    later(&mut net, &mut a, 60 * 24 * HOUR);
    assert_eq!(requests(&mut net, request), MAX_ASK_ROUNDS);
}

#[test]
fn a_clock_that_was_ahead_when_something_was_said_does_not_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(folder.path().join("device.db"), StoreOptions::default()).unwrap();
    let mut net = Net::new();
    let mut a = Peer::with_inbox(&mut net, 1, open());
    let b = peer(&mut net, 2);
    let right = a.device.now;
    a.device.now = right.plus(30 * 24 * HOUR);
    ask(&mut net, &mut a, &b).unwrap();
    run(&mut net, &mut [&mut a]);
    lose(&mut net, &mut a, inbox(&b));
    a.device.engine.close().unwrap();
    let mut a = Peer::with_inbox(&mut net, 1, open());
    a.device.now = right;
    later(&mut net, &mut a, ASK_AGAIN_MS + HOUR);
    assert!(!net.world(inbox(&b)).log.is_empty());
}

#[test]
fn what_was_turned_down_here_is_not_asked_for_again() {
    let mut net = Net::new();
    let [mut a, b] = [1, 2].map(|seed| peer(&mut net, seed));
    let thread = ask(&mut net, &mut a, &b).unwrap();
    run(&mut net, &mut [&mut a]);
    a.command(&mut net, Command::CloseDirect { thread }).unwrap();
    later(&mut net, &mut a, 9 * 24 * HOUR);
    assert_eq!(net.world(inbox(&b)).log.len(), 2);
}

#[test]
fn a_request_to_join_that_a_server_lost_is_said_again_and_counts_once() {
    let mut net = Net::new();
    let [mut alice, mut bob] = [1, 2].map(|seed| peer(&mut net, seed));
    let Contact { device: to, inbox: seed } = contact(&alice);
    let space = LogId([5; 32]);
    let join = Command::RequestJoin { space, to, inbox: Some(seed), text: Some("let me in".into()) };
    bob.command(&mut net, join).unwrap();
    run(&mut net, &mut [&mut bob]);
    lose(&mut net, &mut bob, inbox(&alice));
    for _ in 0..3 {
        later(&mut net, &mut bob, 9 * HOUR);
        run(&mut net, &mut [&mut alice]);
        let requests = alice.reader().requests(&space).unwrap();
        let [request] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!((request.author, request.text.as_deref()), (bob.author(), Some("let me in")));
    }
}

#[test]
fn an_acceptance_that_finds_no_room_opens_the_thread_when_there_is() {
    let mut net = Net::new();
    let [mut a, mut b] = [1, 2].map(|seed| peer(&mut net, seed));
    let threads = [(); 2].map(|()| ask(&mut net, &mut a, &b).unwrap());
    run(&mut net, &mut [&mut a, &mut b]);
    let states = |a: &Peer| threads.map(|thread| state(a, thread));
    let one = fill(&mut a);
    for thread in threads {
        accept(&mut net, &mut b, thread);
    }
    run(&mut net, &mut [&mut a, &mut b]);
    assert_eq!(states(&a), [ThreadState::Asked; 2]);
    a.command(&mut net, Command::Wipe { topic: one }).unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    a.feed(vec![Input::Timeout]);
    let mut after = states(&a).map(|state| state == ThreadState::Open);
    after.sort_unstable();
    assert_eq!(after, [false, true], "as many as there is room for");
    assert_eq!(a.reader().topics().unwrap().len(), MAX_TOPICS);
    let rows = a.reader().topics().unwrap();
    let other = rows.iter().find(|row| !row.ticket.is_of_one_device()).unwrap().topic;
    a.command(&mut net, Command::Wipe { topic: other }).unwrap();
    run(&mut net, &mut [&mut a, &mut b]);
    a.feed(vec![Input::Timeout]);
    assert_eq!(states(&a), [ThreadState::Open; 2]);
    for thread in threads {
        let topics = [&a, &b].map(|it| it.reader().direct_thread(&thread).unwrap().unwrap().topic.unwrap());
        assert_eq!(topics[0], topics[1]);
    }
}
