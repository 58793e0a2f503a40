//! Sections 9 and 10: what a server that evicts operations says about those it no longer has (case 50).

use super::{Check, check};
use crate::failure::{Checked, ensure, equal, equal_lists};
use crate::frame::Item;
use crate::socket::{Ask, Follower, MODES, Mode};
use crate::target::Target;
use crate::topic::{Topic, hash, op, ops};
use crate::view::View;

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        case_50_gap_precedes_what_is_left,
        "9.1, 10",
        Evicting,
        "gap runs from since + 1 to tail − 1 and carries the chain at its end; then the operations from tail on.",
    ),
    check!(
        case_50_no_gap_from_the_tail_on,
        "9.1",
        Evicting,
        "A client that has everything up to tail − 1 gets no gap; its chain is compared there and above.",
    ),
    check!(
        case_50_a_reset_is_followed_by_a_gap_from_1,
        "9.1",
        Evicting,
        "After a reset the gap runs from 1 to tail − 1.",
    ),
    check!(
        evicted_operations_keep_their_seq,
        "10",
        Evicting,
        "Hashes of evicted operations are kept: has names the old seq, a new delivery of one is not pushed.",
    ),
    check!(
        history_starts_at_the_tail,
        "8",
        Evicting,
        "A page without bounds, or after an evicted seq, starts at the tail.",
    ),
];

/// A log that has lost its oldest operations: everything that was delivered, and the tail.
struct Evicted {
    topic: Topic,
    given: Vec<Vec<u8>>,
    tail: u64,
}

impl Evicted {
    async fn log(target: &Target) -> Checked<Self> {
        let keep = target.settings.ops_per_topic.unwrap_or(1);
        let topic = Topic::fresh();
        let given = ops(usize::try_from(keep).unwrap_or(1000) * 3, 30);
        target.seed(&topic, &given).await?;
        let few = format!("at most {keep} operations to be left");
        target.wait(&few, &topic, |log| log.head - log.tail < keep).await?;
        let log = target.head(&topic).await?;
        ensure(log.tail > 2 && log.tail <= log.head + 1, "tail", "within the log", log.tail.to_string())?;
        Ok(Self { topic, given, tail: log.tail })
    }

    fn head(&self) -> u64 {
        self.given.len() as u64
    }

    /// What a client that has read everything up to `seq` knows.
    fn view(&self, generation: [u8; 16], seq: u64) -> Checked<View> {
        let mut view = View::start(self.topic.id, generation);
        for (seq, op) in (1..=seq).zip(&self.given) {
            view.extend(&[Item { seq, received_ms: None, op: op.clone() }])?;
        }
        Ok(view)
    }
}

async fn case_50_gap_precedes_what_is_left(target: &Target) -> Checked {
    let log = Evicted::log(target).await?;
    let generation = target.head(&log.topic).await?.generation;
    let chain = log.view(generation, log.tail - 1)?.chain;
    for mode in MODES {
        for since in [0, 1, log.tail - 2] {
            // Below tail − 1 the server can compare no chain.
            let unknown = format!("&generation={}&chain=0123456789abcdef", hex::encode(generation));
            for more in ["", &unknown] {
                let ask = Ask::new(mode, format!("?since={since}{more}"));
                let opening = Follower::open(target, &log.topic, &ask, None).await?.opening;
                let what = format!("{} frames since {since}{more}", mode.name());
                equal(format!("{what}: gap"), &opening.gap, &Some((since + 1, log.tail - 1, chain)))?;
                equal(format!("{what}: reset"), &opening.reset, &None)?;
                equal(format!("{what}: seqs"), &opening.seqs(), &(log.tail..=log.head()).collect())?;
            }
        }
    }
    Ok(())
}

async fn case_50_no_gap_from_the_tail_on(target: &Target) -> Checked {
    let log = Evicted::log(target).await?;
    let generation = target.head(&log.topic).await?.generation;
    for mode in MODES {
        for since in [log.tail - 1, log.tail, log.head()] {
            let at = log.view(generation, since)?;
            let opening = Follower::resume(target, &log.topic, mode, &at).await?.opening;
            equal(format!("gap and reset since {since}"), &(opening.gap, opening.reset), &(None, None))?;
            equal(format!("seqs since {since}"), &opening.seqs(), &(since + 1..=log.head()).collect())?;

            let query =
                format!("?since={since}&generation={}&chain=0123456789abcdef", hex::encode(generation));
            let opening = Follower::open(target, &log.topic, &Ask::new(mode, query), None).await?.opening;
            let what = format!("reset since {since} with another chain");
            equal(what, &opening.reset, &Some((generation, log.head())))?;
        }
    }
    Ok(())
}

async fn case_50_a_reset_is_followed_by_a_gap_from_1(target: &Target) -> Checked {
    let log = Evicted::log(target).await?;
    let generation = target.head(&log.topic).await?.generation;
    let chain = log.view(generation, log.tail - 1)?.chain;
    for mode in MODES {
        let ask = Ask::new(mode, format!("?since={}", log.head() + 1));
        let opening = Follower::open(target, &log.topic, &ask, None).await?.opening;
        equal("reset", &opening.reset, &Some((generation, log.head())))?;
        equal("gap", &opening.gap, &Some((1, log.tail - 1, chain)))?;
        equal("seqs", &opening.seqs(), &(log.tail..=log.head()).collect())?;
    }
    Ok(())
}

async fn evicted_operations_keep_their_seq(target: &Target) -> Checked {
    let log = Evicted::log(target).await?;
    let hashes: Vec<[u8; 32]> = log.given.iter().map(|op| hash(op)).collect();
    let expected: Vec<u64> = (1..=log.head()).collect();
    for (hashes, expected) in hashes.chunks(256).zip(expected.chunks(256)) {
        equal_lists("has", &target.has(&log.topic, hashes).await?, expected)?;
    }
    let ask = Ask::new(Mode::Binary, "?since=0");
    let mut follower = Follower::open(target, &log.topic, &ask, None).await?;
    target.deliver_op(&log.topic, &log.given[0]).await?;
    target.deliver_list(&log.topic, &log.given[..2]).await?;
    let new = op(30);
    target.deliver_op(&log.topic, &new).await?;
    let came: Vec<Vec<u8>> = follower.until(log.head() + 1).await?.into_iter().map(|item| item.op).collect();
    equal_lists("what was pushed", &came, &[new])?;
    equal("has, afterwards", &target.has(&log.topic, &hashes[..1]).await?, &vec![1])
}

async fn history_starts_at_the_tail(target: &Target) -> Checked {
    let log = Evicted::log(target).await?;
    for query in ["", "?after=0", "?after=1"] {
        let page = target.page(&log.topic, query).await?;
        equal(format!("tail with ops{query}"), &page.tail, &log.tail)?;
        let first = page.items.first().map(|item| item.seq);
        equal(format!("the first seq of ops{query}"), &first, &Some(log.tail))?;
    }
    let page = target.page(&log.topic, &format!("?before={}", log.tail)).await?;
    equal("operations below the tail", &page.items.len(), &0)
}
