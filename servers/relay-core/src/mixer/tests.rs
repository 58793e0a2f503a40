use delta_core::entropy::SeededEntropy;

use super::*;

const A: NodeId = NodeId([1; 32]);
const B: NodeId = NodeId([2; 32]);

struct Broken;

impl Entropy for Broken {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError)
    }
}

fn entropy() -> SeededEntropy {
    SeededEntropy::new([5; 32])
}

fn mixer(batch_ms: u64) -> Mixer {
    Mixer::new(Limits { batch_ms, ..Limits::default() })
}

fn packet(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

fn drain(mixer: &mut Mixer, now: Millis) -> Vec<Forward> {
    std::iter::from_fn(|| mixer.poll_transmit(now)).collect()
}

#[test]
fn without_a_window_a_packet_goes_out_at_once_and_in_order() {
    let mut mixer = mixer(0);
    for n in 0..10 {
        mixer.push(Millis(0), A, 0, packet(n)).unwrap();
    }
    assert_eq!(mixer.poll_timeout(), None);
    let out: Vec<_> = drain(&mut mixer, Millis(0)).iter().map(|forward| forward.packet().clone()).collect();
    assert_eq!(out, (0..10).map(packet).collect::<Vec<_>>());
}

#[test]
fn a_window_holds_everything_until_its_end_and_shuffles() {
    let mut mixer = mixer(100);
    for n in 0..64 {
        mixer.push(Millis(u64::from(n)), A, 0, packet(n)).unwrap();
    }
    assert_eq!(mixer.poll_timeout(), Some(Millis(100)));
    mixer.handle_timeout(Millis(99), &mut entropy()).unwrap();
    assert!(mixer.poll_transmit(Millis(99)).is_none());
    mixer.handle_timeout(Millis(100), &mut entropy()).unwrap();
    let out: Vec<_> = drain(&mut mixer, Millis(100)).iter().map(|forward| forward.packet().clone()).collect();
    let sent: Vec<_> = (0..64).map(packet).collect();
    assert_ne!(out, sent);
    let mut sorted = out;
    sorted.sort();
    assert_eq!(sorted, sent);
    // The next packet opens a window of its own.
    mixer.push(Millis(500), A, 0, packet(0)).unwrap();
    assert_eq!(mixer.poll_timeout(), Some(Millis(600)));
}

#[test]
fn shuffling_reaches_every_order() {
    let mut source = entropy();
    let mut orders = std::collections::HashSet::new();
    for _ in 0..200 {
        let mut items = [1, 2, 3];
        shuffle(&mut items, &mut source).unwrap();
        orders.insert(items);
    }
    assert_eq!(orders.len(), 6);
}

#[test]
fn a_failed_random_source_sends_nothing_unshuffled_and_loses_nothing() {
    let mut mixer = mixer(100);
    for n in 0..3 {
        mixer.push(Millis(0), A, 0, packet(n)).unwrap();
    }
    assert_eq!(mixer.handle_timeout(Millis(100), &mut Broken), Err(EntropyError));
    assert!(mixer.poll_transmit(Millis(100)).is_none());
    mixer.handle_timeout(Millis(101), &mut entropy()).unwrap();
    assert_eq!(drain(&mut mixer, Millis(101)).len(), 3);
}

#[test]
fn case_21_a_delay_is_kept_and_capped_at_a_minute() {
    let mut mixer = mixer(0);
    mixer.push(Millis(1000), A, 655_350, packet(1)).unwrap();
    mixer.push(Millis(1000), A, 20, packet(2)).unwrap();
    assert_eq!(mixer.poll_timeout(), Some(Millis(1020)));
    mixer.handle_timeout(Millis(1020), &mut entropy()).unwrap();
    assert_eq!(drain(&mut mixer, Millis(1020)).len(), 1);
    assert_eq!(mixer.poll_timeout(), Some(Millis(1000 + MAX_DELAY_MS)));
    mixer.handle_timeout(Millis(1000 + MAX_DELAY_MS), &mut entropy()).unwrap();
    assert_eq!(drain(&mut mixer, Millis(61_000)).len(), 1);
}

#[test]
fn an_unreachable_node_is_tried_at_0_2_10_and_40_seconds() {
    let mut mixer = mixer(0);
    mixer.push(Millis(0), A, 500, packet(1)).unwrap();
    let mut tried = Vec::new();
    let mut last = Event::Retried;
    while let Some(due) = mixer.poll_timeout() {
        mixer.handle_timeout(due, &mut entropy()).unwrap();
        let forward = mixer.poll_transmit(due).unwrap();
        tried.push(due.0);
        last = mixer.handle_outcome(due, forward, Outcome::Unreachable);
    }
    assert_eq!(tried, [500, 2500, 10_500, 40_500]);
    assert_eq!(last, Event::Exhausted);
    assert!(mixer.is_empty());
}

#[test]
fn a_try_that_took_longer_than_the_gap_is_followed_at_once() {
    let mut mixer = mixer(0);
    mixer.push(Millis(0), A, 0, packet(1)).unwrap();
    let forward = mixer.poll_transmit(Millis(0)).unwrap();
    assert_eq!(mixer.handle_outcome(Millis(15_000), forward, Outcome::Unreachable), Event::Retried);
    assert_eq!(mixer.poll_timeout(), Some(Millis(15_000)));
}

#[test]
fn final_outcomes_are_not_tried_again() {
    for (outcome, event) in [
        (Outcome::Delivered, Event::Delivered),
        (Outcome::Refused, Event::Refused),
        (Outcome::AddressRefused, Event::AddressRefused),
    ] {
        let mut mixer = mixer(0);
        mixer.push(Millis(0), A, 0, packet(1)).unwrap();
        let forward = mixer.poll_transmit(Millis(0)).unwrap();
        assert_eq!(mixer.handle_outcome(Millis(1), forward, outcome), event);
        assert_eq!(mixer.poll_timeout(), None);
        assert!(mixer.is_empty());
    }
}

#[test]
fn a_full_queue_drops_for_that_node_alone_and_frees_with_every_outcome() {
    let limits = Limits { hop_packets: 2, hop_bytes: 8, ..Limits::default() };
    let mut mixer = Mixer::new(limits);
    assert_eq!(mixer.push(Millis(0), A, 0, packet(1)), Ok(()));
    // The limit is for what waits and what is in flight together.
    let flying = mixer.poll_transmit(Millis(0)).unwrap();
    assert_eq!(mixer.push(Millis(0), A, 9, packet(2)), Ok(()), "one of two may wait for its delay");
    assert_eq!(mixer.push(Millis(0), A, 0, packet(3)), Err(Event::QueueFull));
    assert_eq!(mixer.push(Millis(0), B, 0, packet(3)), Ok(()));
    assert_eq!(mixer.push(Millis(0), B, 0, Bytes::from_static(b"12345")), Err(Event::QueueFull));
    mixer.handle_outcome(Millis(0), flying, Outcome::Delivered);
    assert_eq!(mixer.push(Millis(0), A, 0, packet(3)), Ok(()));
    assert_eq!(mixer.len(), 3);
}

#[test]
fn packets_that_ask_for_a_delay_take_half_of_the_room_and_give_it_back_when_they_go() {
    let limits = Limits { hop_packets: 4, hop_bytes: 1000, delayed_bytes: 12, ..Limits::default() };
    let mut mixer = Mixer::new(limits);
    let long = MAX_DELAY_MS;
    assert_eq!([1, 2].map(|n| mixer.push(Millis(0), A, long, packet(n))), [Ok(()); 2]);
    assert_eq!(mixer.push(Millis(0), A, 1, packet(3)), Err(Event::QueueFull), "half of A's are delayed");
    assert_eq!([4, 5].map(|n| mixer.push(Millis(0), A, 0, packet(n))), [Ok(()); 2], "the rest is for others");
    assert_eq!(mixer.push(Millis(0), B, long, packet(6)), Ok(()));
    assert_eq!(mixer.push(Millis(0), B, long, packet(7)), Err(Event::QueueFull), "12 bytes wait in all");
    assert_eq!(mixer.push(Millis(0), B, 0, packet(7)), Ok(()));
    for forward in drain(&mut mixer, Millis(0)) {
        // A next try waits, too, but not because it was asked for.
        mixer.handle_outcome(Millis(0), forward, Outcome::Unreachable);
    }
    mixer.handle_timeout(Millis(long), &mut entropy()).unwrap();
    assert_eq!(mixer.push(Millis(long), B, long, packet(8)), Ok(()));
    let out = drain(&mut mixer, Millis(long));
    assert_eq!(out.len(), 6);
    for forward in out {
        mixer.handle_outcome(Millis(long), forward, Outcome::Delivered);
    }
    assert_eq!([1, 2].map(|n| mixer.push(Millis(long), A, long, packet(n))), [Ok(()); 2]);
    assert_eq!(mixer.len(), 3);
}
