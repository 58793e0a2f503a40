use super::*;
use crate::entropy::SeededEntropy;

fn row(id: RowId, len: u32) -> OutboxRow {
    let hash = EnvelopeHash::of(&id.to_be_bytes());
    OutboxRow { id, hash, len, tries: 0, not_before: Millis(0) }
}

fn path() -> Path {
    [NodeId([1; 32]), NodeId([2; 32])].into()
}

fn hash(id: RowId) -> EnvelopeHash {
    row(id, 0).hash
}

#[test]
fn queued_rows_share_a_packet_in_order_up_to_its_limits() {
    let mut outbox = Outbox::default();
    for id in 1..=300 {
        outbox.insert(row(id, 100));
    }
    let plan = outbox.plan(Millis(0), Retries::All).unwrap();
    assert_eq!(plan.rows, (1..=256).collect::<Vec<_>>());

    let mut outbox = Outbox::default();
    outbox.insert(row(1, 150_000));
    outbox.insert(row(2, 60_000));
    assert_eq!(outbox.plan(Millis(0), Retries::All).unwrap().rows, [1]);
}

#[test]
fn the_window_closes_at_eight_packets_and_an_echo_opens_it() {
    let mut entropy = SeededEntropy::new([3; 32]);
    let mut outbox = Outbox::default();
    for id in 1..=9 {
        outbox.insert(row(id, MAX_SHARED_BYTES as u32));
    }
    for attempt in 1..=8 {
        let plan = outbox.plan(Millis(0), Retries::All).unwrap();
        outbox.sent(&plan, AttemptId(attempt), &path(), Millis(0), 0, &mut entropy);
    }
    assert_eq!(outbox.plan(Millis(0), Retries::All), None);
    let done = outbox.acknowledge(&hash(3), Millis(40)).unwrap();
    assert_eq!(done, Acknowledged { id: 3, round_trip_ms: Some(40), path: Some(path()) });
    assert_eq!(outbox.plan(Millis(0), Retries::All).unwrap().rows, [9]);
}

#[test]
fn a_packet_without_echo_is_lost_after_eight_seconds_give_or_take_a_quarter_and_its_rows_go_alone() {
    let mut entropy = SeededEntropy::new([4; 32]);
    let mut outbox = Outbox::default();
    outbox.insert(row(1, 10));
    outbox.insert(row(2, 10));
    let plan = outbox.plan(Millis(0), Retries::All).unwrap();
    let stored = outbox.sent(&plan, AttemptId(1), &path(), Millis(0), 0, &mut entropy);
    assert!((6_000..=10_000).contains(&stored.0), "{stored}");
    assert_eq!(outbox.poll_due(), Some(Millis(HANDOVER_MAX_MS)), "a slow uplink is no loss");
    outbox.taken(AttemptId(1), Millis(50_000));
    let due = outbox.poll_due().unwrap();
    assert_eq!(due, Millis(50_000 + stored.0));
    assert_eq!(outbox.handle_timeout(Millis(due.0 - 1), &mut entropy), Lost::default());
    let lost = outbox.handle_timeout(due, &mut entropy);
    assert_eq!(lost.rows.iter().map(|row| (row.id, row.tries)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
    assert_eq!((lost.paths, lost.attempts), (vec![path()], vec![AttemptId(1)]));
    assert_eq!(outbox.plan(due, Retries::None), None, "without the log at hand nothing is sent twice");
    let again = outbox.plan(due, Retries::All).unwrap();
    assert_eq!(again, Plan { rows: vec![1], tries: 1 });
    assert_eq!(outbox.used(&again), [path()]);
}

#[test]
fn after_four_quick_attempts_the_delay_grows_to_half_an_hour() {
    let mut entropy = SeededEntropy::new([5; 32]);
    let mut outbox = Outbox::default();
    outbox.insert(row(1, 10));
    let mut now = Millis(0);
    let mut delays = Vec::new();
    for attempt in 1..=20 {
        let plan = outbox.plan(now, Retries::All).unwrap();
        outbox.sent(&plan, AttemptId(attempt), &path(), now, 0, &mut entropy);
        outbox.taken(AttemptId(attempt), now);
        now = outbox.poll_due().unwrap();
        let again = outbox.handle_timeout(now, &mut entropy).rows.remove(0).not_before;
        delays.push(again.since(now));
        now = again;
    }
    assert_eq!(delays[..3], [0, 0, 0]);
    assert!(delays.iter().all(|delay| *delay <= RETRY_MAX_MS));
    assert!(delays.iter().any(|delay| *delay > 60_000), "{delays:?}");
    outbox.sent(&outbox.plan(now, Retries::All).unwrap(), AttemptId(99), &path(), now, 0, &mut entropy);
    outbox.refused(AttemptId(99), now, 0, &mut entropy);
    assert!(outbox.hurry(now).len() <= 1);
    assert!(outbox.plan(now, Retries::All).is_some(), "a changed network ends the wait");
}

#[test]
fn fresh_rows_wait_when_they_would_run_too_far_ahead_of_the_oldest_unacknowledged_one() {
    let mut entropy = SeededEntropy::new([7; 32]);
    let mut outbox = Outbox::default();
    outbox.insert(row(1, 10));
    let plan = outbox.plan(Millis(0), Retries::All).unwrap();
    outbox.sent(&plan, AttemptId(1), &path(), Millis(0), 0, &mut entropy);
    outbox.taken(AttemptId(1), Millis(0));
    outbox.insert(row(1 + OUTBOX_RUN_AHEAD, 10));
    outbox.insert(row(2 + OUTBOX_RUN_AHEAD, 10));
    let plan = outbox.plan(Millis(0), Retries::All).unwrap();
    assert_eq!(plan.rows, [1 + OUTBOX_RUN_AHEAD], "the one past the limit stays");
    outbox.sent(&plan, AttemptId(2), &path(), Millis(0), 0, &mut entropy);
    assert_eq!(outbox.plan(Millis(0), Retries::All), None);
    assert_eq!(outbox.poll_timeout(true), outbox.poll_due(), "and wakes nobody");
    outbox.acknowledge(&hash(1), Millis(5));
    assert_eq!(outbox.plan(Millis(5), Retries::All).unwrap().rows, [2 + OUTBOX_RUN_AHEAD]);
}

#[test]
fn a_busy_relay_is_given_the_time_it_asks_for_within_a_minute() {
    for (asked, waits) in
        [(5_000, 5_000), (BUSY_MAX_MS, BUSY_MAX_MS), (BUSY_MAX_MS + 1, BUSY_MAX_MS), (u64::MAX, BUSY_MAX_MS)]
    {
        let mut entropy = SeededEntropy::new([8; 32]);
        let mut outbox = Outbox::default();
        outbox.insert(row(1, 10));
        let plan = outbox.plan(Millis(0), Retries::All).unwrap();
        outbox.sent(&plan, AttemptId(1), &path(), Millis(0), 0, &mut entropy);
        let [requeued] = outbox.refused(AttemptId(1), Millis(0), asked, &mut entropy).try_into().unwrap();
        assert_eq!(requeued.not_before, Millis(waits));
    }
}

#[test]
fn what_relays_were_asked_to_wait_is_waited_for_and_is_no_part_of_a_round_trip() {
    let mut entropy = SeededEntropy::new([10; 32]);
    for delays in [0, 20_000, 60_000] {
        for _ in 0..50 {
            let mut outbox = Outbox::default();
            outbox.insert(row(1, 10));
            let plan = outbox.plan(Millis(0), Retries::All).unwrap();
            let wait = outbox.sent(&plan, AttemptId(1), &path(), Millis(0), delays, &mut entropy).0;
            assert!(
                (delays + 6_000..=(delays.max(8_000) * 5 / 4).max(delays + 6_000)).contains(&wait),
                "{wait}"
            );
            outbox.taken(AttemptId(1), Millis(0));
            let done = outbox.acknowledge(&hash(1), Millis(delays + 30)).unwrap();
            assert_eq!(done.round_trip_ms, Some(30));
        }
    }
}

#[test]
fn only_a_row_that_was_never_sent_is_withdrawn() {
    let mut entropy = SeededEntropy::new([9; 32]);
    let mut outbox = Outbox::default();
    outbox.insert(row(1, 10));
    let plan = outbox.plan(Millis(0), Retries::All).unwrap();
    outbox.sent(&plan, AttemptId(1), &path(), Millis(0), 0, &mut entropy);
    outbox.insert(row(2, 10));
    outbox.withdraw(&hash(1));
    outbox.withdraw(&hash(2));
    outbox.withdraw(&hash(3));
    assert_eq!((outbox.counts(), outbox.find(&hash(2))), ((0, 1), None));
    outbox.refused(AttemptId(1), Millis(0), 0, &mut entropy);
    outbox.withdraw(&hash(1));
    assert_eq!(outbox.counts(), (1, 0), "a packet that failed may have arrived all the same");
}

#[test]
fn a_late_echo_of_a_retried_row_counts_but_is_no_round_trip() {
    let mut entropy = SeededEntropy::new([6; 32]);
    let mut outbox = Outbox::default();
    outbox.insert(row(1, 10));
    let plan = outbox.plan(Millis(0), Retries::All).unwrap();
    let due = outbox.sent(&plan, AttemptId(1), &path(), Millis(0), 0, &mut entropy);
    outbox.taken(AttemptId(1), Millis(0));
    outbox.handle_timeout(due, &mut entropy);
    let plan = outbox.plan(due, Retries::All).unwrap();
    outbox.sent(&plan, AttemptId(2), &path(), due, 0, &mut entropy);
    assert_eq!(
        outbox.acknowledge(&hash(1), due),
        Some(Acknowledged { id: 1, round_trip_ms: None, path: Some(path()) })
    );
    assert_eq!(outbox.acknowledge(&hash(1), due), None);
    assert!(outbox.is_empty());
    assert_eq!(outbox.poll_timeout(true), None);
}

#[test]
fn what_may_have_arrived_waits_for_a_look_and_what_never_left_does_not() {
    let mut entropy = SeededEntropy::new([9; 32]);
    type End = fn(&mut Outbox, Millis, &mut SeededEntropy);
    let refused: End = |outbox, now, entropy| drop(outbox.refused(AttemptId(1), now, 0, entropy));
    let lost: End = |outbox, _, entropy| drop(outbox.handle_timeout(Millis(HANDOVER_MAX_MS), entropy));
    let unreached: End = |outbox, now, entropy| drop(outbox.unreached(AttemptId(1), now, entropy));
    let late = Millis(2 * HANDOVER_MAX_MS);
    for (end, may_have_arrived) in [(refused, true), (lost, true), (unreached, false)] {
        let mut outbox = Outbox::default();
        outbox.insert(row(1, 100));
        let plan = outbox.plan(Millis(0), Retries::None).unwrap();
        outbox.sent(&plan, AttemptId(1), &path(), Millis(0), 0, &mut entropy);
        end(&mut outbox, Millis(1), &mut entropy);
        assert_eq!(outbox.wants_look(late), may_have_arrived);
        assert_eq!(outbox.plan(late, Retries::Looked).is_none(), may_have_arrived);
        assert!(outbox.plan(late, Retries::All).is_some());
        outbox.looked();
        assert!(outbox.plan(late, Retries::Looked).is_some());
    }
    // What was sent by an earlier process.
    let mut outbox = Outbox::default();
    outbox.insert(OutboxRow { tries: 1, ..row(1, 100) });
    assert!(outbox.wants_look(late));
    let plan = outbox.plan(late, Retries::All).unwrap();
    outbox.sent(&plan, AttemptId(2), &path(), late, 0, &mut entropy);
    outbox.unreached(AttemptId(2), late, &mut entropy);
    assert!(outbox.wants_look(late.plus(RETRY_MAX_MS)), "the first packet may still have arrived");
}
