//! Sections 9 and 10: what comes after `ready`.

use std::time::Duration;

use futures_util::future::{join, try_join_all};

use super::delivery::deliver_each;
use super::{Check, check};
use crate::failure::{Checked, Failure, ensure, equal, equal_lists};
use crate::frame::Frame;
use crate::socket::{Event, Follower, MODES, Mode};
use crate::target::Target;
use crate::topic::{Content, Topic, op, ops};

/// A head follows 30 s of silence; on a busy machine a little later.
const SILENCE: Duration = Duration::from_secs(60);
/// A head after 256 operations must come before silence could bring one.
const BEFORE_SILENCE: Duration = Duration::from_secs(20);

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        a_head_follows_30_s_of_silence,
        "9.1",
        Always,
        "30 s of silence after a live operation are followed by a signed head.",
    ),
    check!(
        a_head_follows_256_live_operations,
        "9.1",
        Everlasting,
        "After every 256 live operations comes a signed head of what was sent.",
    ),
    check!(
        case_52_operations_accepted_during_replay_come_exactly_once,
        "10",
        Everlasting,
        "A subscriber is registered before its replay starts: nothing is missed, nothing doubled.",
    ),
    check!(
        all_subscribers_get_one_order,
        "10",
        Everlasting,
        "Every subscriber of a topic gets the same operations in the same order, in either kind of frames.",
    ),
    check!(
        subscribers_hear_of_their_own_topic_only,
        "9",
        Always,
        "What is delivered to another topic does not come.",
    ),
    check!(
        a_reader_resumes_where_it_was,
        "9, 15",
        Always,
        "A client that comes back with since, generation and chain gets what it missed, and nothing again.",
    ),
    check!(
        signals_reach_binary_subscribers_and_leave_no_trace,
        "4, 9.1",
        Always,
        "A signal is passed to the topic's binary subscribers, gets no seq and is not stored; a replayed one is dropped.",
    ),
];

async fn a_head_follows_30_s_of_silence(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut follower = Follower::start(target, &topic, Mode::Binary).await?;
    target.deliver_op(&topic, &op(30)).await?;
    follower.until(1).await?;
    expect_head(&mut follower, SILENCE).await
}

async fn a_head_follows_256_live_operations(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 16)).await?;
    let mut follower = Follower::start(target, &topic, Mode::Binary).await?;
    for round in 1..=2 {
        for part in ops(256, 16).chunks(64) {
            target.deliver_list(&topic, part).await?;
        }
        follower.until(3 + round * 256).await?;
        if (follower.heads.len() as u64) < round {
            expect_head(&mut follower, BEFORE_SILENCE).await?;
        }
        equal("heads so far", &(follower.heads.len() as u64), &round)?;
    }
    Ok(())
}

/// Demands that the next frame is a head (checked against the view).
async fn expect_head(follower: &mut Follower, within: Duration) -> Checked {
    match follower.socket.event_within(within).await? {
        Some(Event::Frame(frame @ Frame::Head(_))) => follower.take(frame).map(drop),
        other => Err(Failure::new(format!("what comes within {within:?}"), "a head", format!("{other:?}"))),
    }
}

async fn case_52_operations_accepted_during_replay_come_exactly_once(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let (old, new) = (ops(1200, 300), ops(120, 300));
    target.seed(&topic, &old).await?;
    let total = (old.len() + new.len()) as u64;
    let reader = |mode: Mode, wait: u64| {
        let topic = &topic;
        async move {
            // Subscribers come while the writers write, at different places of the log.
            target.wait_head(topic, wait).await?;
            let mut follower = Follower::start(target, topic, mode).await?;
            let mut items = std::mem::take(&mut follower.opening.items);
            items.extend(follower.until(total).await?);
            Checked::Ok(items.into_iter().map(|item| item.op).collect::<Vec<_>>())
        }
    };
    let starts = [1200, 1200, 1201, 1220, 1240, 1260, 1280, 1300];
    let readers = starts.iter().enumerate().map(|(at, wait)| reader(MODES[at % 2], *wait));
    let writers = try_join_all(new.chunks(30).map(|mine| deliver_each(target, &topic, mine)));
    let (written, read) = join(writers, try_join_all(readers)).await;
    written?;
    let log = target.log_ops(&topic).await?;
    equal("operations in the log", &(log.len() as u64), &total)?;
    for replay in read? {
        ensure(replay == log, "what a subscriber got", "the log, each operation once, in order", "another")?;
    }
    Ok(())
}

async fn all_subscribers_get_one_order(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut followers = Vec::new();
    for mode in [Mode::Binary, Mode::Json, Mode::Binary, Mode::Json] {
        followers.push(Follower::start(target, &topic, mode).await?);
    }
    let given = ops(120, 60);
    let total = given.len() as u64;
    let writers = try_join_all(given.chunks(15).map(|mine| deliver_each(target, &topic, mine)));
    let readers = try_join_all(followers.iter_mut().map(|follower| follower.until(total)));
    let (written, read) = join(writers, readers).await;
    written?;
    let log = target.log_ops(&topic).await?;
    for items in read? {
        let came: Vec<Vec<u8>> = items.into_iter().map(|item| item.op).collect();
        ensure(came == log, "what a subscriber got", "the log's order", "another")?;
    }
    Ok(())
}

async fn subscribers_hear_of_their_own_topic_only(target: &Target) -> Checked {
    let (mine, other) = (Topic::fresh(), Topic::fresh());
    let mut followers = Vec::new();
    for mode in MODES {
        followers.push(Follower::start(target, &mine, mode).await?);
    }
    target.seed(&other, &ops(3, 30)).await?;
    let given = op(31);
    target.deliver_op(&mine, &given).await?;
    for follower in &mut followers {
        let items = follower.until(1).await?;
        let came: Vec<Vec<u8>> = items.into_iter().map(|item| item.op).collect();
        equal_lists("what came", &came, std::slice::from_ref(&given))?;
    }
    Ok(())
}

async fn a_reader_resumes_where_it_was(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for mode in MODES {
        let mut view = Follower::start(target, &topic, mode).await?.view;
        for _ in 0..4 {
            target.seed(&topic, &ops(2, 30)).await?;
            let mut follower = Follower::resume(target, &topic, mode, &view).await?;
            let expected = vec![view.seq + 1, view.seq + 2];
            equal("seqs after coming back", &follower.opening.seqs(), &expected)?;
            target.deliver_op(&topic, &op(30)).await?;
            follower.until(view.seq + 3).await?;
            view = follower.view;
        }
    }
    Ok(())
}

async fn signals_reach_binary_subscribers_and_leave_no_trace(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut binary = Follower::start(target, &topic, Mode::Binary).await?;
    let mut json = Follower::start(target, &topic, Mode::Json).await?;
    let signal = op(200);
    let packet = target.pack(&Content::right(&topic, 2, &signal).encode())?;
    target.deliver_packet(&packet).await?;
    while binary.signals.is_empty() {
        binary.step().await?;
    }
    target.deliver_packet(&packet).await?;
    // Signals that break their bounds, then an operation that ends the wait.
    for refused in [op(4097), Vec::new()] {
        target.deliver(&Content::right(&topic, 2, &refused).encode()).await?;
    }
    target.deliver_op(&topic, &op(30)).await?;
    binary.until(1).await?;
    json.until(1).await?;
    equal_lists("signals on the binary socket", &binary.signals, &[signal])?;
    equal("signals on the JSON socket", &json.signals.len(), &0)?;
    equal("operations in the log", &target.log(&topic).await?.len(), &1)
}
