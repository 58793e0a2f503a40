//! Section 9: what a client shows of its past, and when the server tells it to start over.

use super::{Check, check};
use crate::failure::{Checked, equal};
use crate::socket::{Ask, Follower, MODES, Mode};
use crate::target::Target;
use crate::topic::{Topic, op, ops};
use crate::view::View;

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        case_44_since_above_the_head_is_reset,
        "9.1",
        Always,
        "since above the head: reset with the log's generation and head, then a replay from the tail.",
    ),
    check!(
        another_generation_is_reset,
        "9.1",
        Always,
        "A generation that differs: reset, whatever since and chain say, then a replay from the tail.",
    ),
    check!(
        another_chain_is_reset,
        "9.1",
        Always,
        "A chain prefix that differs at since: reset, then a replay from the tail.",
    ),
    check!(
        a_client_that_is_right_is_not_reset,
        "9",
        Always,
        "The log's generation, with the right chain prefix or without one, is no reason for a reset.",
    ),
    check!(
        a_reset_concerns_one_client,
        "9.1",
        Always,
        "Nothing a client claims changes a log or what others get.",
    ),
];

/// Subscribes with a query and demands a reset and a replay of the whole log of `count` operations.
async fn expect_reset(target: &Target, topic: &Topic, mode: Mode, query: &str, count: u64) -> Checked {
    let what = format!("{} frames with {query}", mode.name());
    let follower = Follower::open(target, topic, &Ask::new(mode, query), None)
        .await
        .map_err(|failure| failure.within(&what))?;
    let generation = target.head(topic).await?.generation;
    equal(format!("{what}: reset"), &follower.opening.reset, &Some((generation, count)))?;
    equal(format!("{what}: gap"), &follower.opening.gap, &None)?;
    equal(format!("{what}: seqs"), &follower.opening.seqs(), &(1..=count).collect())?;
    equal(format!("{what}: ready.head"), &follower.opening.ready.head, &count)
}

async fn case_44_since_above_the_head_is_reset(target: &Target) -> Checked {
    let (empty, topic) = (Topic::fresh(), Topic::fresh());
    target.seed(&topic, &ops(3, 30)).await?;
    let generation = hex::encode(target.head(&topic).await?.generation);
    for mode in MODES {
        expect_reset(target, &empty, mode, "?since=1", 0).await?;
        for since in [4_u64, 1000, i64::MAX as u64] {
            expect_reset(target, &topic, mode, &format!("?since={since}"), 3).await?;
            let query = format!("?since={since}&generation={generation}");
            expect_reset(target, &topic, mode, &query, 3).await?;
            let query = format!("{query}&chain=0123456789abcdef");
            expect_reset(target, &topic, mode, &query, 3).await?;
        }
    }
    Ok(())
}

async fn another_generation_is_reset(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let at = Follower::start(target, &topic, Mode::Binary).await?.view;
    let mut other = at.generation;
    other[15] ^= 1;
    let other = hex::encode(other);
    for mode in MODES {
        for since in 0..=3 {
            expect_reset(target, &topic, mode, &format!("?since={since}&generation={other}"), 3).await?;
        }
        let query = format!("?since=3&generation={other}&chain={}", at.prefix());
        expect_reset(target, &topic, mode, &query, 3).await?;
    }
    Ok(())
}

async fn another_chain_is_reset(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let log = target.log(&topic).await?;
    let start = View::start(topic.id, target.head(&topic).await?.generation);
    let generation = hex::encode(start.generation);
    for mode in MODES {
        for since in 0..=3 {
            let mut right = start.clone();
            right.extend(&log[..since])?;
            // Another chain in its last shown bit, and the right one of another place.
            let mut near = right.chain;
            near[7] ^= 1;
            let mut elsewhere = start.clone();
            elsewhere.extend(&log[..(since + 1) % 4])?;
            for chain in [hex::encode(&near[..8]), elsewhere.prefix()] {
                let query = format!("?since={since}&generation={generation}&chain={chain}");
                expect_reset(target, &topic, mode, &query, 3).await?;
            }
        }
    }
    Ok(())
}

async fn a_client_that_is_right_is_not_reset(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let log = target.log(&topic).await?;
    let start = View::start(topic.id, target.head(&topic).await?.generation);
    for mode in MODES {
        for since in 0..=3 {
            let mut at = start.clone();
            at.extend(&log[..since])?;
            let short = format!("?since={since}&generation={}", hex::encode(at.generation));
            for query in [format!("{short}&chain={}", at.prefix()), short] {
                let follower = Follower::open(target, &topic, &Ask::new(mode, &*query), Some(&at)).await?;
                equal(format!("reset with {query}"), &follower.opening.reset, &None)?;
                let expected: Vec<u64> = (since as u64 + 1..=3).collect();
                equal(format!("seqs with {query}"), &follower.opening.seqs(), &expected)?;
            }
        }
    }
    Ok(())
}

async fn a_reset_concerns_one_client(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let before = target.head(&topic).await?;
    let mut other = Follower::start(target, &topic, Mode::Binary).await?;
    let mut reset = Follower::open(target, &topic, &Ask::new(Mode::Binary, "?since=99"), None).await?;
    equal("head after another client's reset", &target.head(&topic).await?, &before)?;
    target.deliver_op(&topic, &op(30)).await?;
    for follower in [&mut other, &mut reset] {
        let seqs: Vec<u64> = follower.until(4).await?.iter().map(|item| item.seq).collect();
        equal("live seqs after the reset", &seqs, &vec![4])?;
    }
    Ok(())
}
