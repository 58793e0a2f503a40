//! Sessions of direct threads whose next block never comes, and what a peer gains by making up many.

use delta_core::engine::{BLOCK_WAIT_MS, Input};
use delta_core::limits::MAX_SESSIONS;

use crate::direct::Pair;
use crate::net::run;

const DAY: u64 = 24 * 3_600_000;

/// The first of two says three things, of which the second is lost, and blocks of so many sessions that never were.
fn with_sessions_made_up(count: usize) -> Pair {
    let mut pair = Pair::new();
    for text in ["one", "lost", "late"] {
        pair.a_says(text);
    }
    pair.b_is_away(true);
    run(&mut pair.net, &mut [&mut pair.a]);
    let log = &mut pair.net.world(pair.topic).log;
    let late = log[2].clone();
    log.remove(1);
    for number in 0..count {
        let mut made_up = late.clone();
        made_up[1..9].copy_from_slice(&(number as u64).to_be_bytes());
        log.push(made_up);
    }
    pair.b_is_away(false);
    run(&mut pair.net, &mut [&mut pair.b]);
    pair
}

/// How many sessions had ended after each day on which any did.
fn ended_by_day(pair: &mut Pair) -> Vec<u64> {
    let (until, mut days) = (pair.b.device.now.plus(BLOCK_WAIT_MS + 4 * DAY), vec![0]);
    while pair.b.device.now < until {
        let next = pair.b.device.engine.next_wakeup().unwrap().max(pair.b.device.now.plus(1));
        pair.b.device.now = next.min(until);
        pair.b.feed(vec![Input::Timeout]);
        pair.b.drain(&mut pair.net);
        let ended = pair.dropped("direct-lost");
        if days.last() != Some(&ended) {
            days.push(ended);
        }
    }
    days.split_off(1)
}

#[test]
fn of_sessions_that_never_were_as_many_end_in_one_look_as_are_kept_with_a_device() {
    // One of them is real: it comes first, however the others are called.
    let at = MAX_SESSIONS as u64;
    assert_eq!(ended_by_day(&mut with_sessions_made_up(MAX_SESSIONS - 1)), [at]);
    let mut pair = with_sessions_made_up(MAX_SESSIONS);
    let real = |pair: &Pair| pair.b.reader().latest_session(&pair.a.author()).unwrap().is_some();
    assert!(real(&pair));
    assert_eq!(ended_by_day(&mut pair), [at, at + 1], "one past it waits for the next day");
    assert!(!real(&pair));
    let mut pair = with_sessions_made_up(3 * MAX_SESSIONS);
    assert_eq!(ended_by_day(&mut pair), [at, 2 * at, 3 * at, 3 * at + 1]);
}

#[test]
fn the_real_one_among_them_ends_first_and_another_begins() {
    let mut pair = with_sessions_made_up(3 * MAX_SESSIONS);
    let until = pair.b.device.now.plus(BLOCK_WAIT_MS + DAY + DAY / 2);
    while pair.b.device.now < until {
        let next = pair.b.device.engine.next_wakeup().unwrap().max(pair.b.device.now.plus(1));
        pair.b.device.now = next.min(until);
        pair.b.feed(vec![Input::Timeout]);
        pair.b.drain(&mut pair.net);
    }
    assert!(pair.b.reader().latest_session(&pair.a.author()).unwrap().is_none());
    assert_eq!(pair.dropped("direct-lost"), MAX_SESSIONS as u64);
}
