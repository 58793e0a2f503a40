//! What the outside world was told, and whether it is true.
//!
//! Everything the server answers or pushes is recorded here, by copy of the log (an *era* lasts from one wipe to the
//! next). What contradicts something told earlier is found at once; at the end [`History::compare`] holds everything
//! against the logs as they are.

use std::collections::{BTreeMap, HashMap, HashSet};

use delta_core::identity::EnvelopeHash;
use delta_core::topic::{Chain, Generation, Seq, TopicId};
use thiserror::Error;

/// Counts the wipes: each begins a new copy of every log.
pub type Era = u32;

/// A guarantee that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Two operations were told of at one seq: subscribers see different orders.
    #[error("two operations at seq {0}")]
    TwoAtOneSeq(Seq),
    /// One operation was told of at two seqs.
    #[error("one operation at seqs {0} and {1}")]
    Doubled(Seq, Seq),
    /// The log misses a seq.
    #[error("the log goes from seq {0} to {1}")]
    Hole(Seq, Seq),
    /// What was answered or pushed is not in the log.
    #[error("the log has nothing, or something else, at seq {0}, of which somebody was told")]
    Lost(Seq),
    /// The log was said to reach further than it does.
    #[error("the log ends at {end}; a head of {told} was told")]
    Shorter {
        /// Where it ends.
        end: Seq,
        /// What was told.
        told: Seq,
    },
    /// A signed head speaks of another history.
    #[error("the log has another chain at seq {0} than a signed head")]
    Chain(Seq),
    /// An operation was refused and stored all the same.
    #[error("the operation at seq {0} was refused")]
    RefusedButStored(Seq),
    /// Of one packet's operations some are stored.
    #[error("{stored} of the {all} operations of one packet are stored")]
    HalfStored {
        /// How many.
        stored: usize,
        /// Of how many.
        all: usize,
    },
    /// The operations of one packet are stored in another order, or with others between them.
    #[error("the operations of one packet are not stored in a row")]
    TornApart,
    /// A topic has two generations although nothing was wiped.
    #[error("a topic changed its generation without a wipe")]
    GenerationChanged,
    /// A topic kept its generation although the server was wiped.
    #[error("a topic kept its generation over a wipe")]
    GenerationKept,
}

/// A log as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its generation.
    pub generation: Generation,
    /// Seqs and what is there, as the server gives them.
    pub operations: Vec<(Seq, EnvelopeHash)>,
}

/// What was told of one copy of one topic's log.
#[derive(Debug, Default)]
struct Told {
    generation: Option<Generation>,
    by_seq: HashMap<u64, EnvelopeHash>,
    by_hash: HashMap<EnvelopeHash, Seq>,
    heads: BTreeMap<u64, Chain>,
    highest: Seq,
    refused: HashSet<EnvelopeHash>,
    packets: Vec<Vec<EnvelopeHash>>,
    log: Option<Log>,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub struct History {
    told: HashMap<(TopicId, Era), Told>,
    /// What contradicted something told before.
    violations: Vec<(TopicId, Era, Violation)>,
}

impl History {
    /// Somebody was told that an operation is at a seq: an answer to a delivery, a page of history, a push.
    pub fn operation(&mut self, topic: TopicId, era: Era, seq: Seq, hash: EnvelopeHash) {
        let told = self.told.entry((topic, era)).or_default();
        let other = told.by_seq.insert(seq.0, hash).is_some_and(|before| before != hash);
        let elsewhere = told.by_hash.insert(hash, seq).filter(|before| *before != seq);
        told.highest = told.highest.max(seq);
        if other {
            self.violations.push((topic, era, Violation::TwoAtOneSeq(seq)));
        }
        if let Some(before) = elsewhere {
            self.violations.push((topic, era, Violation::Doubled(before, seq)));
        }
    }

    /// Somebody was told the generation of a topic.
    pub fn generation(&mut self, topic: TopicId, era: Era, generation: Generation) {
        let told = self.told.entry((topic, era)).or_default();
        if *told.generation.get_or_insert(generation) != generation {
            self.violations.push((topic, era, Violation::GenerationChanged));
        }
    }

    /// Somebody was told how far a log reaches.
    pub fn head(&mut self, topic: TopicId, era: Era, head: Seq) {
        let told = self.told.entry((topic, era)).or_default();
        told.highest = told.highest.max(head);
    }

    /// Somebody has a signed head; its signature was checked.
    pub fn signed_head(&mut self, topic: TopicId, era: Era, head: Seq, chain: Chain) {
        self.head(topic, era, head);
        let told = self.told.entry((topic, era)).or_default();
        if *told.heads.entry(head.0).or_insert(chain) != chain {
            self.violations.push((topic, era, Violation::Chain(head)));
        }
    }

    /// An operation was refused, and was never sent before.
    pub fn refused(&mut self, topic: TopicId, era: Era, hash: EnvelopeHash) {
        self.told.entry((topic, era)).or_default().refused.insert(hash);
    }

    /// Operations were sent in one packet: all of them are stored in a row, or none.
    pub fn packet(&mut self, topic: TopicId, era: Era, hashes: Vec<EnvelopeHash>) {
        self.told.entry((topic, era)).or_default().packets.push(hashes);
    }

    /// A log as the server gave it at the end of an era.
    pub fn log(&mut self, topic: TopicId, era: Era, log: Log) {
        self.generation(topic, era, log.generation);
        self.told.entry((topic, era)).or_default().log = Some(log);
    }

    /// Everything that does not hold. Every log must have been read.
    pub fn compare(&self) -> Vec<(TopicId, Era, Violation)> {
        let mut found = self.violations.clone();
        let mut generations = HashMap::new();
        let mut all: Vec<_> = self.told.iter().collect();
        all.sort_unstable_by_key(|((topic, era), _)| (*topic, *era));
        for ((topic, era), told) in all {
            let mut add = |violation| found.push((*topic, *era, violation));
            if told.log.is_some()
                && generations.insert((*topic, told.generation), *era).is_some_and(|other| other != *era)
            {
                add(Violation::GenerationKept);
            }
            told.compare(topic, &mut add);
        }
        found
    }

    /// How many operations somebody was told of, over all logs.
    pub fn told(&self) -> usize {
        self.told.values().map(|told| told.by_seq.len()).sum()
    }
}

impl Told {
    fn compare(&self, topic: &TopicId, add: &mut dyn FnMut(Violation)) {
        // Without a log there is nothing that anything could be in.
        let empty =
            Log { generation: self.generation.unwrap_or(Generation([0; 16])), operations: Vec::new() };
        let log = self.log.as_ref().unwrap_or(&empty);
        let mut places = HashMap::with_capacity(log.operations.len());
        let mut chain = Chain::start(topic, &log.generation);
        let mut end = Seq(0);
        for (seq, hash) in &log.operations {
            if end.next() != Some(*seq) {
                add(Violation::Hole(end, *seq));
            }
            end = *seq;
            chain = chain.next(*seq, hash);
            if self.heads.get(&seq.0).is_some_and(|told| *told != chain) {
                add(Violation::Chain(*seq));
            }
            if let Some(before) = places.insert(*hash, *seq) {
                add(Violation::Doubled(before, *seq));
            }
            if self.refused.contains(hash) {
                add(Violation::RefusedButStored(*seq));
            }
        }
        if self.highest > end {
            add(Violation::Shorter { end, told: self.highest });
        }
        let lost = self.by_seq.iter().filter(|(seq, hash)| places.get(hash).is_none_or(|at| at.0 != **seq));
        lost.for_each(|(seq, _)| add(Violation::Lost(Seq(*seq))));
        for packet in &self.packets {
            compare_packet(packet, &places, add);
        }
    }
}

fn compare_packet(
    packet: &[EnvelopeHash],
    places: &HashMap<EnvelopeHash, Seq>,
    add: &mut dyn FnMut(Violation),
) {
    let seqs: Vec<Seq> = packet.iter().filter_map(|hash| places.get(hash).copied()).collect();
    if !seqs.is_empty() && seqs.len() < packet.len() {
        add(Violation::HalfStored { stored: seqs.len(), all: packet.len() });
    } else if seqs.iter().zip(seqs.iter().skip(1)).any(|(seq, after)| seq.next() != Some(*after)) {
        add(Violation::TornApart);
    }
}

/// The checker itself: a history that keeps every rule passes, and one that breaks a rule does not.
#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId([1; 32]);
    const FIRST: Generation = Generation([1; 16]);
    const SECOND: Generation = Generation([2; 16]);

    fn op(n: u8) -> EnvelopeHash {
        EnvelopeHash([n; 32])
    }

    fn log(ops: &[(u64, u8)]) -> Log {
        Log { generation: FIRST, operations: ops.iter().map(|(seq, n)| (Seq(*seq), op(*n))).collect() }
    }

    fn chain(ops: &[u8]) -> Chain {
        let steps = ops.iter().zip(1..);
        steps.fold(Chain::start(&TOPIC, &FIRST), |chain, (n, seq)| chain.next(Seq(seq), &op(*n)))
    }

    /// A history of one era whose log holds operations 1, 2, 3, changed by `tell`.
    fn found(tell: impl FnOnce(&mut History)) -> Vec<Violation> {
        found_in(log(&[(1, 1), (2, 2), (3, 3)]), tell)
    }

    fn found_in(log: Log, tell: impl FnOnce(&mut History)) -> Vec<Violation> {
        let mut history = History::default();
        tell(&mut history);
        history.log(TOPIC, 0, log);
        history.compare().into_iter().map(|(_, _, violation)| violation).collect()
    }

    #[test]
    fn a_history_that_keeps_every_rule_passes() {
        let violations = found(|history| {
            history.generation(TOPIC, 0, FIRST);
            history.packet(TOPIC, 0, vec![op(1), op(2)]);
            history.packet(TOPIC, 0, vec![op(8), op(9)]);
            history.refused(TOPIC, 0, op(7));
            for _ in 0..2 {
                history.operation(TOPIC, 0, Seq(1), op(1));
                history.operation(TOPIC, 0, Seq(3), op(3));
            }
            history.head(TOPIC, 0, Seq(3));
            history.signed_head(TOPIC, 0, Seq(2), chain(&[1, 2]));
            // The same operation may have another place after a wipe.
            history.operation(TOPIC, 1, Seq(1), op(3));
            history.log(TOPIC, 1, Log { generation: SECOND, operations: vec![(Seq(1), op(3))] });
        });
        assert_eq!(violations, []);
    }

    #[test]
    fn a_hole_in_the_log_is_found() {
        assert_eq!(found_in(log(&[(1, 1), (3, 3)]), |_| {}), [Violation::Hole(Seq(1), Seq(3))]);
        assert_eq!(found_in(log(&[(2, 2)]), |_| {}), [Violation::Hole(Seq(0), Seq(2))]);
    }

    #[test]
    fn a_doubled_hash_is_found_in_the_log_and_in_what_was_told() {
        assert_eq!(found_in(log(&[(1, 1), (2, 1)]), |_| {}), [Violation::Doubled(Seq(1), Seq(2))]);
        let violations = found(|history| {
            history.operation(TOPIC, 0, Seq(1), op(1));
            history.operation(TOPIC, 0, Seq(2), op(1));
        });
        assert_eq!(violations, [Violation::Doubled(Seq(1), Seq(2)), Violation::Lost(Seq(2))]);
    }

    #[test]
    fn what_was_told_and_is_not_there_is_found() {
        let lost = |seq, n| found(|history| history.operation(TOPIC, 0, Seq(seq), op(n)));
        assert_eq!(lost(2, 9), [Violation::Lost(Seq(2))]);
        let beyond = [Violation::Shorter { end: Seq(3), told: Seq(4) }, Violation::Lost(Seq(4))];
        assert_eq!(lost(4, 4), beyond);
        let violations = found(|history| history.head(TOPIC, 0, Seq(4)));
        assert_eq!(violations, [Violation::Shorter { end: Seq(3), told: Seq(4) }]);
    }

    #[test]
    fn a_topic_whose_log_is_gone_is_found() {
        let mut history = History::default();
        history.operation(TOPIC, 0, Seq(1), op(1));
        let violations: Vec<_> = history.compare().into_iter().map(|(_, _, violation)| violation).collect();
        let gone = [Violation::Shorter { end: Seq(0), told: Seq(1) }, Violation::Lost(Seq(1))];
        assert_eq!(violations, gone);
    }

    #[test]
    fn two_orders_are_found() {
        let violations = found(|history| {
            history.operation(TOPIC, 0, Seq(2), op(2));
            history.operation(TOPIC, 0, Seq(2), op(9));
            history.operation(TOPIC, 0, Seq(2), op(2));
        });
        let two = Violation::TwoAtOneSeq(Seq(2));
        assert_eq!(violations, [two.clone(), two]);
    }

    #[test]
    fn a_chain_that_is_not_the_logs_is_found() {
        let told = |head, chain| found(|history| history.signed_head(TOPIC, 0, Seq(head), chain));
        assert_eq!(told(2, chain(&[2, 1])), [Violation::Chain(Seq(2))]);
        let violations = found(|history| {
            history.signed_head(TOPIC, 0, Seq(1), chain(&[1]));
            history.signed_head(TOPIC, 0, Seq(1), chain(&[2]));
        });
        assert_eq!(violations, [Violation::Chain(Seq(1))]);
    }

    #[test]
    fn what_was_refused_or_half_written_is_found() {
        let refused = found(|history| history.refused(TOPIC, 0, op(2)));
        assert_eq!(refused, [Violation::RefusedButStored(Seq(2))]);
        let packet = |ops: &[u8]| {
            let hashes = ops.iter().map(|n| op(*n)).collect();
            found(|history| history.packet(TOPIC, 0, hashes))
        };
        assert_eq!(packet(&[3, 4]), [Violation::HalfStored { stored: 1, all: 2 }]);
        assert_eq!(packet(&[2, 1]), [Violation::TornApart]);
        assert_eq!(packet(&[1, 3]), [Violation::TornApart]);
    }

    #[test]
    fn generations_that_change_or_stay_when_they_should_not_are_found() {
        let changed = found(|history| history.generation(TOPIC, 0, SECOND));
        assert_eq!(changed, [Violation::GenerationChanged]);
        let kept = found(|history| history.log(TOPIC, 1, log(&[])));
        assert_eq!(kept, [Violation::GenerationKept]);
    }
}
