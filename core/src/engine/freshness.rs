//! When the nodes' records are collected anew, and when they are too old to be used.
//!
//! Relays change their onion keys every day and erase old ones: what is wrapped for an erased key is lost without a
//! word. So records are renewed once a day, by itself, and those that could not be are not used for ever.

use super::io::{Network, Output};
use super::state::State;
use crate::entropy::Entropy;
use crate::identity::Millis;
use crate::onion::directory::Node;
use crate::sync::backoff::{doubled, jitter};

/// Earliest age at which records are renewed, milliseconds. Devices draw their time, so that they do not all come at
/// once.
pub const RENEW_MIN_MS: u64 = 16 * HOUR_MS;
/// Latest age at which records are renewed, milliseconds.
pub const RENEW_MAX_MS: u64 = 22 * HOUR_MS;
/// Age from which on records are not used, milliseconds: the key that was current then has been erased.
pub const STALE_AFTER_MS: u64 = 48 * HOUR_MS;
/// Pause after a renewal that failed, milliseconds, doubled by each further one.
pub const RENEW_RETRY_MS: u64 = 60_000;
/// Longest such pause, milliseconds.
pub const RENEW_RETRY_MAX_MS: u64 = HOUR_MS / 2;
/// How long a renewal may take, milliseconds.
pub const RENEW_TIMEOUT_MS: u64 = 5 * 60_000;
/// Failures after which another relay than the guards is asked, too: it learns that this address uses the network.
const FAILURES_OF_GUARDS: u32 = 3;

const HOUR_MS: u64 = 60 * 60 * 1_000;

/// Records that were collected by the device itself, as they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// When.
    pub at: Millis,
    /// A JSON array of record objects.
    pub records: String,
}

impl Renewed {
    /// Under which name the store keeps them.
    pub fn setting(scope: &str) -> String {
        format!("directory-records:{scope}")
    }

    /// From stored bytes; `None` when they cannot be read: then the app's own are the newest.
    pub fn load(bytes: &[u8]) -> Option<Self> {
        let (at, records) = bytes.split_first_chunk()?;
        let records = std::str::from_utf8(records).ok()?.to_owned();
        Some(Self { at: Millis(u64::from_be_bytes(*at)), records })
    }

    /// The bytes to store: collected_ms u64 | the text.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.at.0.to_be_bytes(), self.records.as_bytes()].concat()
    }
}

/// How old the records in use are, and when new ones are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Freshness {
    as_of: Option<Millis>,
    pub(super) due: Option<Millis>,
    failures: u32,
}

impl Freshness {
    /// Other records are in use from now on.
    pub(super) fn configured(&mut self, as_of: Option<Millis>, now: Millis, entropy: &mut dyn Entropy) {
        // None were collected in the future, whatever a clock said.
        let as_of = as_of.map(|at| at.min(now));
        let age = RENEW_MIN_MS + jitter(RENEW_MAX_MS - RENEW_MIN_MS, entropy);
        *self = Self { as_of, due: as_of.map(|at| at.plus(age).max(now)), failures: 0 };
    }

    /// Since when the records are what they are, when they are too old to be used.
    pub(super) fn stale(&self, now: Millis) -> Option<Millis> {
        self.as_of.filter(|as_of| now.since(*as_of) >= STALE_AFTER_MS)
    }

    /// The network changed: what could not be had over the old one is asked for again.
    pub(super) fn hurry(&mut self, now: Millis) {
        if self.failures > 0 {
            self.due = self.due.map(|due| due.min(now));
        }
    }

    /// Whether new ones are to be asked for now.
    fn take(&mut self, now: Millis) -> bool {
        // A clock that went back must not put it off for longer than ever meant.
        let due = self.due.map(|due| due.min(now.plus(RENEW_MAX_MS)));
        let take = due.is_some_and(|due| due <= now);
        self.due = if take { Some(now.plus(RENEW_TIMEOUT_MS)) } else { due };
        take
    }

    /// The renewal is over. New records have come before this.
    pub(super) fn ended(&mut self, ok: bool, now: Millis, entropy: &mut dyn Entropy) {
        if ok || self.as_of.is_none() {
            return;
        }
        let pause = doubled(RENEW_RETRY_MS, self.failures, RENEW_RETRY_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now.plus(pause / 2 + jitter(pause / 2, entropy)));
    }
}

impl State {
    /// Asks for new records when it is time.
    pub(super) fn renew_records(&mut self, now: Millis, entropy: &mut dyn Entropy, staged: &mut Vec<Output>) {
        if !self.topics.is_empty() && self.freshness.take(now) {
            let sources = self.record_sources(now, entropy);
            staged.push(Output::RenewRecords { sources });
        }
    }

    /// Whom to ask, one after the other: the entry guards, which know this device's address anyway.
    fn record_sources(&mut self, now: Millis, entropy: &mut dyn Entropy) -> Vec<String> {
        let Some(Network { directory, .. }) = self.network.clone() else { return Vec::new() };
        let listed = |node: &Node| format!("{}/records", node.url);
        let guards = |state: &Self| -> Vec<String> {
            state.routes.guards().nodes().filter_map(|id| directory.node(&id)).map(listed).collect()
        };
        let mut sources = guards(self);
        if sources.is_empty() {
            // Without a route any relay has to do.
            self.draw_guards(now, entropy);
            sources = guards(self);
        }
        let asked_in_vain = self.freshness.failures >= FAILURES_OF_GUARDS;
        if sources.is_empty() || asked_in_vain {
            let others: Vec<String> =
                directory.relays().map(listed).filter(|url| !sources.contains(url)).collect();
            let place = entropy.below(others.len() as u64).unwrap_or(0);
            sources.extend(others.into_iter().nth(place as usize));
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    const START: Millis = Millis(1_800_000_000_000);

    #[test]
    fn records_are_renewed_once_a_day_at_a_time_of_ones_own_and_stale_after_two() {
        let mut entropy = SeededEntropy::new([1; 32]);
        let mut dues = Vec::new();
        for _ in 0..100 {
            let mut freshness = Freshness::default();
            freshness.configured(Some(START), START, &mut entropy);
            let due = freshness.due.unwrap();
            assert!((RENEW_MIN_MS..=RENEW_MAX_MS).contains(&due.since(START)));
            assert!(!freshness.take(Millis(due.0 - 1)));
            assert!(freshness.take(due));
            assert!(!freshness.take(due), "one at a time");
            dues.push(due);
            assert_eq!(freshness.stale(START.plus(STALE_AFTER_MS - 1)), None);
            assert_eq!(freshness.stale(START.plus(STALE_AFTER_MS)), Some(START));
        }
        dues.sort_unstable();
        dues.dedup();
        assert!(dues.len() > 90);
    }

    #[test]
    fn old_records_are_renewed_at_once_and_a_failure_is_tried_again_ever_more_slowly() {
        let mut entropy = SeededEntropy::new([2; 32]);
        let mut freshness = Freshness::default();
        let mut now = START;
        freshness.configured(Some(START.0).map(|at| Millis(at - 3 * 24 * HOUR_MS)), now, &mut entropy);
        assert!(freshness.stale(now).is_some());
        for failure in 0..12 {
            assert!(freshness.take(now), "{failure}");
            freshness.ended(false, now, &mut entropy);
            let (pause, most) = (freshness.due.unwrap().since(now), RENEW_RETRY_MS << failure.min(5));
            assert!(
                (most.min(RENEW_RETRY_MAX_MS) / 2..=most.min(RENEW_RETRY_MAX_MS)).contains(&pause),
                "{pause}"
            );
            now = freshness.due.unwrap();
        }
        freshness.take(now);
        freshness.ended(false, now, &mut entropy);
        freshness.hurry(now);
        assert!(freshness.take(now), "another network");
        freshness.configured(Some(now), now, &mut entropy);
        freshness.ended(true, now, &mut entropy);
        assert!(freshness.due.unwrap().since(now) >= RENEW_MIN_MS);
        assert_eq!(freshness.stale(now), None);
    }

    #[test]
    fn an_answer_that_never_comes_is_asked_for_again_and_no_clock_puts_it_off_for_good() {
        let mut entropy = SeededEntropy::new([3; 32]);
        let mut freshness = Freshness::default();
        freshness.configured(Some(Millis(u64::MAX)), START, &mut entropy);
        let due = freshness.due.unwrap();
        assert!(due.since(START) <= RENEW_MAX_MS, "collected now, not in the future");
        assert!(freshness.take(due) && !freshness.take(due.plus(RENEW_TIMEOUT_MS - 1)));
        assert!(freshness.take(due.plus(RENEW_TIMEOUT_MS)));
        // The clock goes back by ten years.
        let back = Millis(START.0 - 10 * 365 * 24 * HOUR_MS);
        assert!(!freshness.take(back));
        assert!(freshness.due.unwrap().since(back) <= RENEW_MAX_MS);
        freshness.configured(None, START, &mut entropy);
        freshness.ended(false, START, &mut entropy);
        assert!(!freshness.take(Millis(u64::MAX)), "what never grows old is not renewed");
        assert_eq!(freshness.stale(Millis(u64::MAX)), None);
    }

    #[test]
    fn what_was_collected_is_kept_and_read_back() {
        let renewed = Renewed { at: START, records: "[]".into() };
        assert_eq!(Renewed::load(&renewed.to_bytes()), Some(renewed));
        for bad in [&[][..], &[0; 7], &[0, 0, 0, 0, 0, 0, 0, 0, 0xff]] {
            assert_eq!(Renewed::load(bad), None);
        }
    }
}
