//! The topic log against a naive reference: a list of everything ever accepted, and clients that check each frame
//! against it.

use std::collections::HashMap;

use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::limits::{MAX_BATCH, MAX_FRAME_OPS_BYTES};
use delta_core::sync::frame::Frame;
use delta_core::topic::{Chain, Generation, Seq, TopicId, WriteKey};
use delta_topic_log::{
    Cursor, GenerationSecret, HistoryQuery, LogReader, MemoryStorage, Subscription, TopicLogs, Write, has,
    history,
};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

/// What may happen to a server and its clients.
#[derive(Clone, Debug)]
enum Step {
    /// Operations named by numbers; equal numbers are equal operations.
    Append(Vec<u8>),
    /// Staged, then undone: as if the process had been killed before its commit.
    AppendAndCrash(Vec<u8>),
    Evict(u8),
    /// A client takes one frame.
    Poll(usize),
    /// A client loses its connection and comes back with its cursor.
    Reconnect(usize),
    /// The original protocol: a cursor without generation and chain.
    ReconnectBare(usize),
    /// The data folder is lost.
    Wipe,
    Backup,
    Restore,
    /// Time passes.
    Sleep(u16),
}

#[derive(Clone, Default)]
struct Model {
    /// Operation, receive time; index + 1 is the seq.
    log: Vec<(u8, u64)>,
    evicted: usize,
}

struct Client {
    subscription: Subscription,
    generation: Generation,
    /// What it holds of this generation, by seq; `None` for a gap.
    held: Vec<Option<u8>>,
    chain: Chain,
    /// Frames of the opening that were not delivered yet.
    opening: std::collections::VecDeque<Frame>,
    ready: bool,
}

struct World {
    logs: TopicLogs<MemoryStorage>,
    key: SigningKey,
    model: Model,
    backup: Option<(MemoryStorage, Model)>,
    clients: Vec<Client>,
    now: Millis,
    wipes: u8,
    secret: GenerationSecret,
}

const TOPIC: TopicId = TopicId([9; 32]);

fn bytes_of(number: u8) -> Vec<u8> {
    vec![number; 1 + usize::from(number)]
}

impl World {
    fn new() -> Self {
        let secret = GenerationSecret::from_bytes([0; 32]);
        let mut world = Self {
            logs: TopicLogs::new(MemoryStorage::new(), secret.clone()),
            key: SigningKey::from_bytes(&[1; 32]),
            model: Model::default(),
            backup: None,
            clients: Vec::new(),
            now: Millis(1_000),
            wipes: 0,
            secret,
        };
        for _ in 0..3 {
            let client = world.connect(&Cursor::default(), Vec::new(), None);
            world.clients.push(client);
        }
        world
    }

    fn connect(&self, cursor: &Cursor, held: Vec<Option<u8>>, known: Option<(Generation, Chain)>) -> Client {
        let (subscription, frames) = self.logs.subscribe(self.now, TOPIC, cursor).unwrap();
        let (generation, chain) = known.unwrap_or_else(|| {
            let generation = self.logs.generation(&TOPIC);
            (generation, Chain::start(&TOPIC, &generation))
        });
        Client { subscription, generation, held, chain, opening: frames.into(), ready: false }
    }

    fn append(&mut self, numbers: &[u8], commit: bool) {
        let ops: Vec<Vec<u8>> = numbers.iter().map(|number| bytes_of(*number)).collect();
        let ops: Vec<&[u8]> = ops.iter().map(Vec::as_slice).collect();
        let mut placed = Vec::new();
        self.logs.append(self.now, &TOPIC, &ops, Write::Signed, &mut placed).unwrap();
        if !commit {
            self.logs.rollback();
            return;
        }
        self.logs.commit().unwrap();
        for (number, placed) in numbers.iter().zip(placed) {
            let known = self.model.log.iter().position(|(known, _)| known == number);
            assert_eq!(placed.fresh, known.is_none());
            let seq = known.unwrap_or_else(|| {
                self.model.log.push((*number, self.now.0));
                self.model.log.len() - 1
            });
            assert_eq!(placed.seq.0, seq as u64 + 1);
        }
    }

    fn reconnect(&mut self, index: usize, bare: bool) {
        let client = &self.clients[index];
        let cursor = Cursor {
            since: Seq(client.held.len() as u64),
            generation: (!bare).then_some(client.generation),
            chain: (!bare).then(|| client.chain.prefix()),
        };
        // A bare client cannot notice that it talks to another log of the same length or longer: the limit of the
        // original protocol. It starts over, so that the model can go on checking.
        let view = self.logs.view(&TOPIC).unwrap();
        let ours = view.chain_at(self.logs.storage(), &TOPIC, cursor.since).unwrap();
        let same = ours == Some(client.chain);
        let fresh = bare && !same;
        let (cursor, held, known) = match fresh {
            true => (Cursor::default(), Vec::new(), None),
            false => (cursor, client.held.clone(), Some((client.generation, client.chain))),
        };
        self.clients[index] = self.connect(&cursor, held, known);
    }

    fn poll(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        let frame = match client.opening.pop_front() {
            Some(frame) => Some(frame),
            None => self.logs.poll(self.now, &mut client.subscription, &self.key).unwrap(),
        };
        let Some(frame) = frame else { return false };
        let round_trip = Frame::decode(frame.encode().into()).unwrap();
        assert_eq!(round_trip, frame);
        client.take(frame, &self.model, &self.key);
        true
    }

    /// Every client takes all there is: then it must hold exactly what the model holds.
    fn settle(&mut self) {
        for index in 0..self.clients.len() {
            while self.poll(index) {}
            let client = &self.clients[index];
            assert!(client.ready);
            assert_eq!(client.held.len(), self.model.log.len());
            // Below the tail the chain is not compared: a fork hidden there is the clients' to find out.
            for (held, (op, _)) in client.held.iter().zip(&self.model.log).skip(self.model.evicted) {
                assert!(held.is_none_or(|held| held == *op));
            }
        }
        let view = self.logs.view(&TOPIC).unwrap();
        assert_eq!(view.head.0, self.model.log.len() as u64);
        assert_eq!(view.tail.0, self.model.evicted as u64 + 1);
    }

    fn check_history(&self, query: &HistoryQuery) {
        let view = self.logs.view(&TOPIC).unwrap();
        let page = history(self.logs.storage(), &view, &TOPIC, query).unwrap();
        let mut expected: Vec<u64> = (self.model.evicted..self.model.log.len())
            .map(|index| (index as u64 + 1, self.model.log[index].1))
            .filter(|(seq, _)| query.after.is_none_or(|after| *seq > after.0))
            .filter(|(seq, _)| query.before.is_none_or(|before| *seq < before.0))
            .filter(|(_, received)| query.from.is_none_or(|from| *received > from.0))
            .filter(|(_, received)| query.to.is_none_or(|to| *received < to.0))
            .map(|(seq, _)| seq)
            .collect();
        if query.before.is_some() && query.after.is_none() {
            expected = expected.split_off(expected.len().saturating_sub(usize::from(query.limit)));
        }
        expected.truncate(usize::from(query.limit));
        assert_eq!(page.ops.iter().map(|op| op.seq.0).collect::<Vec<_>>(), expected);
        for op in &page.ops {
            assert_eq!(op.op, bytes_of(self.model.log[op.seq.0 as usize - 1].0));
        }
    }
}

impl Client {
    fn take(&mut self, frame: Frame, model: &Model, key: &SigningKey) {
        match frame {
            Frame::Hello { generation, .. } => self.generation = generation,
            Frame::Reset { generation, .. } => {
                assert_eq!(generation, self.generation);
                self.held.clear();
                self.chain = Chain::start(&TOPIC, &generation);
            }
            Frame::Gap { from, to, chain } => {
                assert_eq!(from.0, self.held.len() as u64 + 1);
                assert!(to.0 as usize <= model.evicted, "a gap over retained operations");
                self.held.resize(to.0 as usize, None);
                self.chain = chain;
            }
            Frame::Ops(ops) => {
                assert!(ops.len() <= MAX_BATCH);
                let bytes: usize = ops.iter().map(|op| op.op.len()).sum();
                assert!(ops.len() == 1 || bytes <= MAX_FRAME_OPS_BYTES);
                for op in ops {
                    assert_eq!(op.seq.0, self.held.len() as u64 + 1, "missed or doubled");
                    let (number, received) = model.log[self.held.len()];
                    assert_eq!((op.op.as_ref(), op.received.0), (&bytes_of(number)[..], received));
                    self.held.push(Some(number));
                    self.chain = self.chain.next(op.seq, &EnvelopeHash::of(&op.op));
                }
            }
            Frame::Ready(head) | Frame::Head(head) => {
                assert_eq!((head.head.0, head.chain), (self.held.len() as u64, self.chain));
                assert!(head.verify(&key.verifying_key(), &TOPIC, &self.generation));
                self.ready = true;
            }
            Frame::Signal(_) | Frame::Slow { .. } => panic!("nobody sent one"),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = || prop::collection::vec(0u8..60, 1..6);
    prop_oneof![
        6 => numbers().prop_map(Step::Append),
        1 => numbers().prop_map(Step::AppendAndCrash),
        1 => (0u8..40).prop_map(Step::Evict),
        8 => (0usize..3).prop_map(Step::Poll),
        2 => (0usize..3).prop_map(Step::Reconnect),
        1 => (0usize..3).prop_map(Step::ReconnectBare),
        1 => Just(Step::Wipe),
        1 => Just(Step::Backup),
        1 => Just(Step::Restore),
        1 => (0u16..40_000).prop_map(Step::Sleep),
    ]
}

fn run(world: &mut World, step: Step) {
    match step {
        Step::Append(numbers) => world.append(&numbers, true),
        Step::AppendAndCrash(numbers) => world.append(&numbers, false),
        Step::Evict(up_to) => {
            world.logs.evict(&TOPIC, Seq(up_to.into())).unwrap();
            world.logs.commit().unwrap();
            let up_to = usize::from(up_to).min(world.model.log.len());
            world.model.evicted = world.model.evicted.max(up_to);
        }
        Step::Poll(index) => {
            world.poll(index);
        }
        Step::Reconnect(index) => world.reconnect(index, false),
        Step::ReconnectBare(index) => world.reconnect(index, true),
        Step::Wipe => {
            world.wipes += 1;
            world.secret = GenerationSecret::from_bytes([world.wipes; 32]);
            world.logs = TopicLogs::new(MemoryStorage::new(), world.secret.clone());
            world.model = Model::default();
            world.backup = None;
            (0..world.clients.len()).for_each(|index| world.reconnect(index, false));
        }
        Step::Backup => world.backup = Some((world.logs.storage().clone(), world.model.clone())),
        Step::Restore => {
            if let Some((storage, model)) = world.backup.clone() {
                world.logs = TopicLogs::new(storage, world.secret.clone());
                world.model = model;
                (0..world.clients.len()).for_each(|index| world.reconnect(index, false));
            }
        }
        Step::Sleep(ms) => world.now = world.now.plus(ms.into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn clients_hold_what_the_log_holds(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            run(&mut world, step);
        }
        world.settle();
        world.now = world.now.plus(60_000);
        world.settle();
    }

    #[test]
    fn history_pages_are_filtered_lists(
        batches in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..8), 0u64..50), 1..20),
        evict in 0u64..40,
        (after, before) in (prop::option::of(0u64..60), prop::option::of(0u64..60)),
        (from, to) in (prop::option::of(900u64..1500), prop::option::of(900u64..1500)),
        limit in 1u16..30,
    ) {
        let mut world = World::new();
        for (numbers, pause) in batches {
            world.append(&numbers, true);
            world.now = world.now.plus(pause);
        }
        run(&mut world, Step::Evict(evict as u8));
        let (after, before) = (after.map(Seq), before.map(Seq));
        let (from, to) = (from.map(Millis), to.map(Millis));
        world.check_history(&HistoryQuery { after, before, from, to, limit });
    }
}

#[test]
fn case_39_a_hundred_deliveries_of_one_operation_are_one_entry_one_push_one_seq() {
    let write_key = WriteKey::from_seed([3; 32]);
    let content = delta_core::onion::deliver::encode_operation(&write_key, b"once").unwrap();
    let key = SigningKey::from_bytes(&[1; 32]);
    let mut logs = TopicLogs::new(MemoryStorage::new(), GenerationSecret::from_bytes([0; 32]));
    let topic = write_key.topic();
    let (mut subscription, _) = logs.subscribe(Millis(0), topic, &Cursor::default()).unwrap();
    assert!(matches!(logs.poll(Millis(0), &mut subscription, &key).unwrap(), Some(Frame::Ready(_))));
    let mut pushed = Vec::new();
    for time in 0..100 {
        assert_eq!(logs.deliver(Millis(time), &content).unwrap().placed[0].seq, Seq(1));
        if let Some(frame) = logs.poll(Millis(time), &mut subscription, &key).unwrap() {
            pushed.push(frame);
        }
    }
    assert!(matches!(&pushed[..], [Frame::Ops(ops)] if ops.len() == 1));
    assert_eq!(logs.view(&topic).unwrap().head, Seq(1));
}

#[test]
fn an_evicted_operation_delivered_again_keeps_its_seq_and_is_not_pushed() {
    let mut world = World::new();
    world.append(&[1, 2, 3], true);
    run(&mut world, Step::Evict(2));
    world.append(&[1, 4, 2], true);
    let hashes = [1, 9, 4].map(|number| EnvelopeHash::of(&bytes_of(number)));
    assert_eq!(has(world.logs.storage(), &TOPIC, &hashes).unwrap(), [Seq(1), Seq(0), Seq(4)]);
    world.settle();
}

#[test]
fn case_42_bad_write_signatures_store_nothing() {
    let key = WriteKey::from_seed([3; 32]);
    let other = WriteKey::from_seed([4; 32]);
    let mut logs = TopicLogs::new(MemoryStorage::new(), GenerationSecret::from_bytes([0; 32]));
    let good = delta_core::onion::deliver::encode_operation(&key, b"op").unwrap();
    let foreign = delta_core::onion::deliver::encode_operation(&other, b"op").unwrap();
    let splice = |range: std::ops::Range<usize>| {
        let mut content = good.clone();
        content[range.clone()].copy_from_slice(&foreign[range]);
        content
    };
    // Foreign write key, signature of another topic, topic of another key, signature of another operation.
    let mut other_op = good.clone();
    *other_op.last_mut().unwrap() ^= 1;
    for bad in [splice(36..68), splice(68..132), splice(4..36), other_op] {
        assert!(logs.deliver(Millis(0), &bad).is_err());
    }
    assert_eq!(logs.storage().state(&key.topic()).unwrap(), None);
    assert_eq!(logs.storage().state(&other.topic()).unwrap(), None);
    assert!(logs.deliver(Millis(0), &good).is_ok());
}

#[test]
fn case_72_an_unknown_topic_answers_like_an_empty_one() {
    let world = World::new();
    let view = world.logs.view(&TopicId([77; 32])).unwrap();
    assert_eq!((view.head, view.tail), (Seq(0), Seq(1)));
    let (_, frames) = world.logs.subscribe(Millis(0), TopicId([77; 32]), &Cursor::default()).unwrap();
    assert!(matches!(&frames[..], [Frame::Hello { head: Seq(0), tail: Seq(1), .. }]));
}

#[test]
fn a_signed_topic_refuses_unsigned_writes_and_a_list_is_taken_whole_or_not() {
    let mut logs = TopicLogs::new(MemoryStorage::new(), GenerationSecret::from_bytes([0; 32]));
    let mut placed = Vec::new();
    let large = vec![0; delta_core::limits::MAX_ENVELOPE + 1];
    assert!(logs.append(Millis(0), &TOPIC, &[b"a", &large], Write::Unsigned, &mut placed).is_err());
    assert!(logs.append(Millis(0), &TOPIC, &[b"a", b""], Write::Unsigned, &mut placed).is_err());
    assert_eq!((placed.len(), logs.view(&TOPIC).unwrap().head), (0, Seq(0)));
    logs.append(Millis(0), &TOPIC, &[&large[1..]], Write::Unsigned, &mut placed).unwrap();
    logs.append(Millis(0), &TOPIC, &[b"a"], Write::Signed, &mut placed).unwrap();
    assert!(logs.append(Millis(0), &TOPIC, &[b"b"], Write::Unsigned, &mut placed).is_err());
    logs.commit().unwrap();
    assert_eq!(placed.len(), 2);
}

/// hello, then `reset` and `gap` as the cursor deserves: the rules as a table over a log of 10 with 4 evicted.
#[test]
fn what_a_cursor_gets_first() {
    let mut world = World::new();
    world.append(&(1..=10).collect::<Vec<u8>>(), true);
    run(&mut world, Step::Evict(4));
    let generation = Some(world.logs.generation(&TOPIC));
    let chain_at =
        |seq| world.logs.view(&TOPIC).unwrap().chain_at(world.logs.storage(), &TOPIC, Seq(seq)).unwrap();
    let prefix = |seq| chain_at(seq).map(|chain| chain.prefix());
    let wrong = Some([0; 8]);
    let foreign = Some(Generation([0; 16]));
    // since, generation, chain → reset, gap, first operation
    let table = [
        (0, None, None, false, Some((1, 4)), 5),
        (3, None, None, false, Some((4, 4)), 5),
        (4, None, None, false, None, 5),
        (10, None, None, false, None, 0),
        (11, None, None, true, Some((1, 4)), 5),
        (i64::MAX as u64, None, None, true, Some((1, 4)), 5),
        (7, generation, prefix(7), false, None, 8),
        (7, generation, wrong, true, Some((1, 4)), 5),
        (4, generation, prefix(4), false, None, 5),
        (4, generation, wrong, true, Some((1, 4)), 5),
        (3, generation, wrong, false, Some((4, 4)), 5), // below tail − 1 the chain is not compared
        (0, generation, wrong, false, Some((1, 4)), 5),
        (7, foreign, None, true, Some((1, 4)), 5),
        (0, foreign, None, true, Some((1, 4)), 5),
    ];
    for (since, generation, chain, reset, gap, first) in table {
        let cursor = Cursor { since: Seq(since), generation, chain };
        let (mut subscription, frames) = world.logs.subscribe(world.now, TOPIC, &cursor).unwrap();
        assert!(matches!(frames[0], Frame::Hello { head: Seq(10), tail: Seq(5), .. }));
        let resets = frames.iter().any(|frame| matches!(frame, Frame::Reset { head: Seq(10), .. }));
        assert_eq!(resets, reset, "{cursor:?}");
        let found = frames.iter().find_map(|frame| match frame {
            Frame::Gap { from, to, chain } => {
                assert_eq!(Some(*chain), chain_at(to.0));
                Some((from.0, to.0))
            }
            _ => None,
        });
        assert_eq!(found, gap, "{cursor:?}");
        match world.logs.poll(world.now, &mut subscription, &world.key).unwrap().unwrap() {
            Frame::Ops(ops) => assert_eq!(ops[0].seq.0, first, "{cursor:?}"),
            Frame::Ready(head) => assert_eq!((first, head.head), (0, Seq(10)), "{cursor:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_signed_head_follows_256_live_operations_and_30_s_of_silence() {
    let mut world = World::new();
    let mut subscription = world.logs.subscribe(world.now, TOPIC, &Cursor::default()).unwrap().0;
    let mut poll = |world: &World| {
        let mut kinds = HashMap::new();
        while let Some(frame) = world.logs.poll(world.now, &mut subscription, &world.key).unwrap() {
            *kinds.entry(frame.encode()[0]).or_insert(0) += 1;
        }
        (
            kinds.get(&2).copied().unwrap_or(0),
            kinds.get(&3).copied().unwrap_or(0),
            kinds.get(&8).copied().unwrap_or(0),
        )
    };
    assert_eq!(poll(&world), (0, 1, 0));
    world.append(&(0..=254).collect::<Vec<u8>>(), true);
    assert_eq!(poll(&world), (1, 0, 0), "255 are not enough");
    world.append(&[255], true);
    assert_eq!(poll(&world), (1, 0, 1));
    world.now = world.now.plus(30_000);
    assert_eq!(poll(&world), (0, 0, 0), "nothing live since the last head");
    world.logs.append(world.now, &TOPIC, &[b"one more"], Write::Signed, &mut Vec::new()).unwrap();
    world.logs.commit().unwrap();
    assert_eq!(poll(&world), (1, 0, 0));
    world.now = world.now.plus(29_999);
    assert_eq!(poll(&world), (0, 0, 0));
    world.now = world.now.plus(1);
    assert_eq!(poll(&world), (0, 0, 1));
}

/// Restored from an old backup, then grown past the old head: a client with the old chain is told.
#[test]
fn a_restored_log_that_grew_past_the_old_head_resets_its_clients() {
    let mut world = World::new();
    world.append(&[1, 2], true);
    run(&mut world, Step::Backup);
    world.append(&[3, 4], true);
    world.settle();
    run(&mut world, Step::Restore);
    world.append(&[5, 6, 7], true);
    (0..3).for_each(|index| world.reconnect(index, false));
    assert!(
        world.clients.iter().all(|client| client.opening.iter().any(|f| matches!(f, Frame::Reset { .. })))
    );
    world.settle();
}
