//! Section 8: pages of history and `has`.

use std::collections::BTreeSet;

use super::{Check, check};
use crate::failure::{Checked, Failure, ensure, equal, equal_lists};
use crate::frame::Item;
use crate::http::Body;
use crate::target::{OCTETS, Page, Target, ops_path};
use crate::topic::{Topic, hash, op, ops};

/// Most operation bytes of a page.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// After so many operations, one after the other, the server's clock must have moved by two milliseconds.
const ENOUGH: usize = 2000;

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        ops_pages_obey_all_bounds_in_both_formats,
        "8",
        Everlasting,
        "Oldest first, bounds exclusive; after: the oldest above it, before alone: the newest below it, else from tail.",
    ),
    check!(
        ops_pages_by_time_of_receipt,
        "8",
        Everlasting,
        "from_ms and to_ms keep operations received strictly between them, and combine with the other bounds.",
    ),
    check!(ops_pages_hold_100_by_default, "8", Everlasting, "limit is 1 to 1000, 100 if missing."),
    check!(
        ops_pages_end_at_4_mib,
        "8, 16",
        Everlasting,
        "A page ends early at 4 MiB of operations, but holds at least one.",
    ),
    check!(ops_refuses_bad_numbers, "8", Always, "Bad numbers are answered 400."),
    check!(
        has_answers_in_request_order,
        "8",
        Always,
        "has answers one u64 for each hash in request order: its seq, or 0.",
    ),
    check!(
        has_takes_1_to_256_hashes,
        "8, 16",
        Always,
        "has takes 1 to 256 hashes of 32 bytes; any other length is 400.",
    ),
    check!(
        history_agrees_with_head,
        "8",
        Always,
        "A page names the generation, head and tail that /head names.",
    ),
];

/// The bounds of a query.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    after: Option<u64>,
    before: Option<u64>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    limit: Option<usize>,
}

impl Bounds {
    fn query(&self) -> String {
        let limit = self.limit.map(|limit| limit as u64);
        let named = [
            ("after", self.after),
            ("before", self.before),
            ("from_ms", self.from_ms),
            ("to_ms", self.to_ms),
            ("limit", limit),
        ];
        let set = named.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}")));
        format!("?{}", set.collect::<Vec<_>>().join("&"))
    }

    /// The page that section 8 describes, taken from the whole log.
    fn page(&self, log: &[Item]) -> Vec<Item> {
        let within = |item: &&Item| {
            let received = item.received_ms.unwrap_or_default();
            self.after.is_none_or(|after| item.seq > after)
                && self.before.is_none_or(|before| item.seq < before)
                && self.from_ms.is_none_or(|from| received > from)
                && self.to_ms.is_none_or(|to| received < to)
        };
        let found: Vec<Item> = log.iter().filter(within).cloned().collect();
        let limit = self.limit.unwrap_or(100);
        if self.before.is_some() && self.after.is_none() {
            let start = found.len().saturating_sub(limit);
            return found[start..].to_vec();
        }
        found.into_iter().take(limit).collect()
    }
}

async fn compare(target: &Target, topic: &Topic, log: &[Item], bounds: Bounds) -> Checked {
    let query = bounds.query();
    let expected = bounds.page(log);
    let page = target.page(topic, &query).await?;
    equal_lists(&format!("ops{query} in bytes"), &page.items, &expected)?;
    let page = target.page_json(topic, &query).await?;
    equal_lists(&format!("ops{query} in JSON"), &page.items, &expected)
}

async fn ops_pages_obey_all_bounds_in_both_formats(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(9, 30)).await?;
    let log = target.page(&topic, "").await?.items;
    equal("seqs of the whole log", &seqs(&log), &(1..=9).collect())?;
    let end = i64::MAX as u64;
    for after in [None, Some(0), Some(4), Some(8), Some(9), Some(end)] {
        for before in [None, Some(0), Some(1), Some(6), Some(10), Some(end)] {
            for limit in [None, Some(1), Some(3), Some(1000)] {
                let bounds = Bounds { after, before, limit, ..Bounds::default() };
                compare(target, &topic, &log, bounds).await?;
            }
        }
    }
    Ok(())
}

async fn ops_pages_by_time_of_receipt(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let log = log_at_three_times(target, &topic).await?;
    let times: Vec<u64> = log.iter().filter_map(|item| item.received_ms).collect();
    ensure(times.is_sorted(), "received_ms along the log", "never less than before", format!("{times:?}"))?;
    let (first, last) = (times[0], times[times.len() - 1]);
    let plausible = 1_600_000_000_000..4_000_000_000_000;
    let got = first.to_string();
    ensure(plausible.contains(&first), "received_ms", "milliseconds since the Unix epoch", got)?;
    let count = log.len() as u64;
    for from_ms in [None, Some(0), Some(first), Some(last - 1), Some(last)] {
        for to_ms in [None, Some(0), Some(first), Some(first + 1), Some(last)] {
            for (after, before) in [(None, None), (Some(1), None), (None, Some(count)), (Some(0), Some(2))] {
                let bounds = Bounds { after, before, from_ms, to_ms, limit: Some(2) };
                compare(target, &topic, &log, bounds).await?;
            }
        }
    }
    Ok(())
}

/// Delivers until the log holds operations of three different milliseconds by the server's clock.
async fn log_at_three_times(target: &Target, topic: &Topic) -> Checked<Vec<Item>> {
    for _ in 0..ENOUGH {
        target.seed(topic, &[op(30)]).await?;
        let log = target.log(topic).await?;
        if log.iter().map(|item| item.received_ms).collect::<BTreeSet<_>>().len() >= 3 {
            return Ok(log);
        }
    }
    Err(Failure::new(
        "times of receipt",
        "a clock that goes on",
        format!("the same after {ENOUGH} operations"),
    ))
}

async fn ops_pages_hold_100_by_default(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(130, 10)).await?;
    for page in [target.page(&topic, "").await?, target.page_json(&topic, "").await?] {
        equal("seqs of a page without limit", &seqs(&page.items), &(1..=100).collect())?;
    }
    let newest = target.page(&topic, "?before=131").await?;
    equal("seqs of the newest page without limit", &seqs(&newest.items), &(31..=130).collect())?;
    let all = target.page(&topic, "?limit=1000").await?;
    equal("seqs of a page with limit 1000", &seqs(&all.items), &(1..=130).collect())
}

async fn ops_pages_end_at_4_mib(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let big = ops(6, 900 * 1024);
    target.seed(&topic, &big).await?;
    within_a_page(&target.page_json(&topic, "?limit=1000").await?)?;
    let newest = target.page(&topic, "?before=7&limit=1000").await?;
    within_a_page(&newest)?;
    equal("the last seq of the newest page", &newest.items.last().map(|item| item.seq), &Some(6))?;

    let mut read = Vec::new();
    while read.len() < big.len() {
        let page = target.page(&topic, &format!("?after={}&limit=1000", read.len())).await?;
        within_a_page(&page)?;
        read.extend(page.items.into_iter().map(|item| item.op));
    }
    ensure(read == big, "the log read page by page", "the operations as delivered", "others")
}

fn within_a_page(page: &Page) -> Checked {
    let bytes: usize = page.items.iter().map(|item| item.op.len()).sum();
    let got = format!("{} operations of {bytes} bytes", page.items.len());
    let holds = !page.items.is_empty() && bytes <= PAGE_BYTES;
    ensure(holds, "a page of large operations", "at least one, at most 4 MiB in all", got)
}

async fn ops_refuses_bad_numbers(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut queries: Vec<String> = Vec::new();
    for value in ["0", "1001", "-1", "x", "", "1e2"] {
        queries.push(format!("limit={value}"));
    }
    for name in ["after", "before", "from_ms", "to_ms"] {
        for value in ["-1", "x", "", "1.0", "9223372036854775808", "99999999999999999999999"] {
            queries.push(format!("{name}={value}"));
        }
    }
    for query in queries {
        for accept in ["application/json", OCTETS] {
            let answer =
                target.get(&ops_path(&topic, &format!("?{query}")), vec![("Accept", accept)]).await?;
            equal(format!("the status of ops?{query}"), &answer.status, &400)?;
        }
    }
    Ok(())
}

async fn has_answers_in_request_order(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let delivered = ops(5, 30);
    target.seed(&topic, &delivered).await?;
    let hashes: Vec<[u8; 32]> = delivered.iter().map(|op| hash(op)).collect();
    let asked = [hashes[3], hash(b"unknown"), hashes[0], hashes[3], hashes[4]];
    equal("has", &target.has(&topic, &asked).await?, &vec![4, 0, 1, 4, 5])?;
    equal("has in another topic", &target.has(&Topic::fresh(), &asked).await?, &vec![0; 5])
}

async fn has_takes_1_to_256_hashes(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let path = format!("/topic/{}/has", topic.hex);
    equal("the answer to 256 hashes", &target.has(&topic, &[[7; 32]; 256]).await?, &vec![0; 256])?;
    for len in [0, 1, 31, 33, 63, 257 * 32] {
        let answer = target.post(&path, OCTETS, Body::Bytes(&vec![7; len])).await?;
        equal(format!("the status of has with {len} bytes"), &answer.status, &400)?;
    }
    Ok(())
}

async fn history_agrees_with_head(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let log = target.head(&topic).await?;
    for page in [target.page(&topic, "").await?, target.page_json(&topic, "").await?] {
        equal("generation", &page.generation, &log.generation)?;
        equal("head and tail", &(page.head, page.tail), &(log.head, log.tail))?;
    }
    Ok(())
}

fn seqs(items: &[Item]) -> Vec<u64> {
    items.iter().map(|item| item.seq).collect()
}
