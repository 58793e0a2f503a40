//! A server that plays by the rules, and all the ways not to.

use ed25519_dalek::SigningKey;

use super::*;
use crate::entropy::SeededEntropy;
use crate::sync::frame::SequencedOp;

const TOPIC: TopicId = TopicId([1; 32]);
const GENERATION: Generation = Generation([2; 16]);
const CONN: ConnId = ConnId(1);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn chain(ops: &[&[u8]]) -> Chain {
    let start = Chain::start(&TOPIC, &GENERATION);
    ops.iter().zip(1..).fold(start, |chain, (op, seq)| chain.next(Seq(seq), &EnvelopeHash::of(op)))
}

fn hello(head: u64) -> Frame {
    let server_time = Millis(0);
    Frame::Hello { generation: GENERATION, head: Seq(head), tail: Seq(1), server_time, max_op: 1 << 20 }
}

fn ops(first: u64, ops: &[&[u8]]) -> Frame {
    let item = |(index, op): (usize, &&[u8])| SequencedOp {
        seq: Seq(first + index as u64),
        received: Millis(0),
        op: Bytes::copy_from_slice(op),
    };
    Frame::Ops(ops.iter().enumerate().map(item).collect())
}

fn ready(known: &[&[u8]]) -> Frame {
    Frame::Ready(SignedHead::sign(&key(), &TOPIC, &GENERATION, Seq(known.len() as u64), chain(known)))
}

struct Link {
    session: Session,
    entropy: SeededEntropy,
    now: Millis,
}

impl Link {
    /// A session whose connection is open, started from `cursor`.
    fn open(cursor: Option<Cursor>) -> Self {
        let session = Session::new(TOPIC, key().verifying_key());
        let mut link = Self { session, entropy: SeededEntropy::new([0; 32]), now: Millis(0) };
        link.session.start(link.now);
        link.connect(cursor, CONN);
        link
    }

    fn connect(&mut self, cursor: Option<Cursor>, conn: ConnId) {
        self.now = self.session.poll_timeout().unwrap().max(self.now);
        self.session.handle_timeout(self.now, cursor, conn, &mut self.entropy);
        let transmit = std::iter::from_fn(|| self.session.poll_transmit()).last();
        assert!(matches!(transmit, Some(Transmit::Connect { conn: c, .. }) if c == conn), "{transmit:?}");
        self.session.handle_connected(self.now, conn);
    }

    fn frame(&mut self, frame: &Frame) -> Result<Vec<Step>, Fault> {
        self.raw(frame.encode())
    }

    fn raw(&mut self, message: Vec<u8>) -> Result<Vec<Step>, Fault> {
        self.session.handle_frame(self.now, CONN, message.into(), &mut self.entropy)
    }

    fn closed(&mut self) -> bool {
        self.session.poll_transmit() == Some(Transmit::Close { conn: CONN }) && self.session.conn().is_none()
    }
}

#[test]
fn a_fresh_topic_replays_and_goes_live() {
    let mut link = Link::open(None);
    assert_eq!(link.frame(&hello(2)), Ok(vec![]));
    let steps = link.frame(&ops(1, &[b"a", b"b"])).unwrap();
    assert_eq!(steps.iter().map(|step| step.cursor.seq).collect::<Vec<_>>(), [Seq(1), Seq(2)]);
    assert_eq!(steps[1].cursor.chain, chain(&[b"a", b"b"]));
    assert_eq!(link.session.connection(), Connection::Replaying);
    assert_eq!(link.frame(&ready(&[b"a", b"b"])).unwrap().len(), 1);
    assert_eq!(link.session.connection(), Connection::Live);
    assert_eq!(link.session.poll_timeout(), None, "no timer runs while live");
    assert_eq!(link.frame(&ops(3, &[b"c"])).unwrap()[0].cursor.seq, Seq(3));
}

#[test]
fn the_request_names_the_cursor_and_its_chain() {
    let request = SubscribeRequest {
        topic: TopicId([0xaa; 32]),
        since: Seq(7),
        resume: Some((Generation([0xbb; 16]), [0xcc; 8])),
    };
    let expected =
        format!("/topic/{}?since=7&generation={}&chain=cccccccccccccccc", "aa".repeat(32), "bb".repeat(16));
    assert_eq!(request.path(), expected);
    let first = SubscribeRequest { resume: None, since: Seq(0), ..request };
    assert_eq!(first.path(), format!("/topic/{}?since=0", "aa".repeat(32)));
}

#[test]
fn case_44_a_seq_that_does_not_follow_closes_and_the_next_connection_starts_from_the_store() {
    for bad in [0, 1, 2, 4, 9, Seq::MAX.0, u64::MAX] {
        let mut link = Link::open(None);
        link.frame(&hello(2)).unwrap();
        link.frame(&ops(1, &[b"a", b"b"])).unwrap();
        assert_eq!(
            link.raw(ops(bad, &[b"x"]).encode()),
            Err(Fault::Sequence { last: Seq(2), got: Seq(bad) }),
            "{bad}"
        );
        assert!(link.closed());
        let pause = link.session.poll_timeout().unwrap().since(link.now);
        assert!(pause >= FAULT_PAUSE_MS, "a broken server does not make us spin");
        let stored = Cursor { generation: GENERATION, resets: 0, seq: Seq(1), chain: chain(&[b"a"]) };
        link.connect(Some(stored), ConnId(2));
        let steps = {
            link.session
                .handle_frame(link.now, ConnId(2), hello(2).encode().into(), &mut link.entropy)
                .unwrap();
            let message = ops(2, &[b"b"]).encode().into();
            link.session.handle_frame(link.now, ConnId(2), message, &mut link.entropy).unwrap()
        };
        assert_eq!(steps[0].cursor.chain, chain(&[b"a", b"b"]));
    }
}

#[test]
fn case_45_a_head_no_log_can_have_is_refused() {
    for head in [1 << 63, u64::MAX] {
        assert_eq!(Link::open(None).frame(&hello(head)), Err(Fault::HeadTooLarge(Seq(head))));
        let mut link = Link::open(None);
        link.frame(&hello(1)).unwrap();
        let gap = Frame::Gap { from: Seq(1), to: Seq(head), chain: chain(&[]) };
        assert_eq!(link.frame(&gap), Err(Fault::HeadTooLarge(Seq(head))));
    }
}

#[test]
fn a_head_that_contradicts_the_operations_is_a_fault() {
    let cases: [(Frame, Fault); 3] = [
        (ready(&[b"a", b"x"]), Fault::HeadChain),
        (ready(&[b"a"]), Fault::Sequence { last: Seq(2), got: Seq(1) }),
        (
            Frame::Ready(SignedHead { signature: [0; 64], head: Seq(2), chain: chain(&[b"a", b"b"]) }),
            Fault::HeadSignature,
        ),
    ];
    for (frame, fault) in cases {
        let mut link = Link::open(None);
        link.frame(&hello(2)).unwrap();
        link.frame(&ops(1, &[b"a", b"b"])).unwrap();
        assert_eq!(link.frame(&frame), Err(fault));
        assert!(link.closed());
    }
}

#[test]
fn another_generation_must_be_followed_by_a_reset() {
    let old = Cursor { generation: Generation([8; 16]), resets: 3, seq: Seq(40), chain: Chain([0; 32]) };
    let mut link = Link::open(Some(old));
    link.frame(&hello(1)).unwrap();
    assert_eq!(link.frame(&ops(1, &[b"a"])), Err(Fault::Unexpected("a frame before reset")));

    let mut link = Link::open(Some(old));
    link.frame(&hello(1)).unwrap();
    let steps = link.frame(&Frame::Reset { generation: GENERATION, head: Seq(1) }).unwrap();
    let start = Cursor { generation: GENERATION, resets: 4, seq: Seq(0), chain: chain(&[]) };
    assert_eq!(steps, [Step { cursor: start, kind: StepKind::Reset { head: Seq(1) } }]);
    assert_eq!(link.frame(&ops(1, &[b"a"])).unwrap()[0].cursor.resets, 4);
    assert!(link.frame(&ready(&[b"a"])).is_ok());
}

#[test]
fn an_evicted_prefix_is_a_gap_with_its_chain() {
    let mut link = Link::open(None);
    link.frame(&hello(3)).unwrap();
    let gap = Frame::Gap { from: Seq(1), to: Seq(2), chain: chain(&[b"a", b"b"]) };
    let steps = link.frame(&gap).unwrap();
    assert_eq!(steps[0].kind, StepKind::Gap { from: Seq(1), to: Seq(2) });
    link.frame(&ops(3, &[b"c"])).unwrap();
    assert!(link.frame(&ready(&[b"a", b"b", b"c"])).is_ok());
    let late = Frame::Gap { from: Seq(4), to: Seq(5), chain: chain(&[b"a"]) };
    assert_eq!(link.frame(&late).unwrap()[0].cursor.seq, Seq(5), "evicted before we got it");
    let again = Frame::Gap { from: Seq(5), to: Seq(5), chain: chain(&[]) };
    assert_eq!(link.frame(&again), Err(Fault::Sequence { last: Seq(5), got: Seq(5) }));
}

#[test]
fn case_49_bytes_that_are_no_frame_close_the_connection() {
    for bytes in [vec![], vec![0xff], vec![2, 0, 1], vec![1; 3], [hello(1).encode(), vec![0]].concat()] {
        let mut link = Link::open(None);
        assert!(matches!(link.raw(bytes), Err(Fault::Decode(_))));
        assert!(link.closed());
    }
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let mut link = Link::open(None);
    link.frame(&hello(1)).unwrap();
    let deadline = link.session.poll_timeout().unwrap();
    assert_eq!(deadline.since(link.now), PROGRESS_TIMEOUT_MS);
    let fault = link.session.handle_timeout(deadline, None, ConnId(2), &mut link.entropy);
    assert_eq!(fault, Some(Fault::NoProgress));
    assert!(link.closed());
}

#[test]
fn frames_of_an_old_connection_change_nothing() {
    let mut link = Link::open(None);
    let message = hello(u64::MAX).encode().into();
    let steps = link.session.handle_frame(link.now, ConnId(77), message, &mut link.entropy);
    assert_eq!(steps, Ok(vec![]));
    assert_eq!(link.session.conn(), Some(CONN));
}

#[test]
fn slow_is_honoured_and_a_proven_connection_comes_back_at_once() {
    let mut link = Link::open(None);
    link.frame(&hello(0)).unwrap();
    link.frame(&ready(&[])).unwrap();
    link.frame(&Frame::Slow { retry_after_ms: 7_000 }).unwrap();
    link.session.handle_disconnected(link.now, CONN, 0, &mut link.entropy);
    assert_eq!(link.session.poll_timeout().unwrap().since(link.now), 7_000);
    link.session.network_changed(link.now);
    assert_eq!(link.session.poll_timeout(), Some(link.now));

    for (asked, waits) in [
        (MAX_RETRY_AFTER_MS as u32, MAX_RETRY_AFTER_MS),
        (MAX_RETRY_AFTER_MS as u32 + 1, MAX_RETRY_AFTER_MS),
        (u32::MAX, MAX_RETRY_AFTER_MS),
    ] {
        let mut link = Link::open(None);
        link.frame(&hello(0)).unwrap();
        link.frame(&Frame::Slow { retry_after_ms: asked }).unwrap();
        link.session.handle_disconnected(link.now, CONN, 0, &mut link.entropy);
        assert_eq!(link.session.poll_timeout().unwrap().since(link.now), waits);
    }

    let mut link = Link::open(None);
    link.frame(&hello(0)).unwrap();
    link.frame(&ready(&[])).unwrap();
    link.now = link.now.plus(PROVEN_AFTER_MS);
    link.session.handle_disconnected(link.now, CONN, 0, &mut link.entropy);
    assert_eq!(link.session.poll_timeout(), Some(link.now));
}

/// `ready` and `head` alike: signed by another key, for another topic, in another generation, or for another place.
#[test]
fn heads_are_checked_against_the_pinned_key_at_every_ready_and_head() {
    type Signed = fn(&SigningKey, Seq, Chain) -> SignedHead;
    let other_key: Signed =
        |_, seq, chain| SignedHead::sign(&SigningKey::from_bytes(&[8; 32]), &TOPIC, &GENERATION, seq, chain);
    let other_topic: Signed =
        |key, seq, chain| SignedHead::sign(key, &TopicId([2; 32]), &GENERATION, seq, chain);
    let other_generation: Signed =
        |key, seq, chain| SignedHead::sign(key, &TOPIC, &Generation([3; 16]), seq, chain);
    let other_seq: Signed = |key, seq, chain| {
        let sealed = SignedHead::sign(key, &TOPIC, &GENERATION, Seq(seq.0 + 1), chain);
        SignedHead { head: seq, ..sealed }
    };
    for forged in [other_key, other_topic, other_generation, other_seq] {
        let known: &[&[u8]] = &[b"a", b"b"];
        let head = forged(&key(), Seq(2), chain(known));
        let mut link = Link::open(None);
        link.frame(&hello(2)).unwrap();
        link.frame(&ops(1, known)).unwrap();
        assert_eq!(link.frame(&Frame::Ready(head)), Err(Fault::HeadSignature));
        assert!(link.closed());

        let mut link = Link::open(None);
        link.frame(&hello(2)).unwrap();
        link.frame(&ops(1, known)).unwrap();
        link.frame(&ready(known)).unwrap();
        assert_eq!(link.frame(&Frame::Head(head)), Err(Fault::HeadSignature));
        assert!(link.closed());
    }
}

#[test]
fn a_head_that_goes_back_is_a_fault_though_it_is_signed() {
    let Frame::Ready(old) = ready(&[b"a"]) else { unreachable!() };
    let mut link = Link::open(None);
    link.frame(&hello(1)).unwrap();
    link.frame(&ops(1, &[b"a"])).unwrap();
    link.frame(&ready(&[b"a"])).unwrap();
    link.frame(&ops(2, &[b"b"])).unwrap();
    assert_eq!(link.frame(&Frame::Head(old)), Err(Fault::Sequence { last: Seq(2), got: Seq(1) }));
    assert!(link.closed());
}

#[test]
fn a_log_that_became_shorter_in_its_generation_must_be_followed_by_a_reset() {
    let stored = Cursor { generation: GENERATION, resets: 0, seq: Seq(2), chain: chain(&[b"a", b"b"]) };
    for frame in [ready(&[b"a", b"b"]), ops(3, &[b"c"])] {
        let mut link = Link::open(Some(stored));
        link.frame(&hello(1)).unwrap();
        assert_eq!(link.frame(&frame), Err(Fault::Unexpected("a frame before reset")));
    }
    let mut link = Link::open(Some(stored));
    link.frame(&hello(1)).unwrap();
    link.frame(&Frame::Reset { generation: GENERATION, head: Seq(1) }).unwrap();
    assert_eq!(link.frame(&ops(1, &[b"a"])).unwrap()[0].cursor.resets, 1);
    assert!(link.frame(&ready(&[b"a"])).is_ok());
}

#[test]
fn case_44_a_server_resets_once_a_connection_and_only_directly_after_hello() {
    let held = Cursor { generation: GENERATION, resets: 0, seq: Seq(1), chain: chain(&[b"a"]) };
    let reset = Frame::Reset { generation: GENERATION, head: Seq(1) };
    let mut link = Link::open(Some(held));
    link.frame(&hello(1)).unwrap();
    assert_eq!(link.frame(&reset).unwrap()[0].cursor.resets, 1);
    assert_eq!(link.frame(&reset), Err(Fault::Unexpected("reset")));
    assert!(link.closed());

    let mut link = Link::open(Some(held));
    link.frame(&hello(2)).unwrap();
    link.frame(&ops(2, &[b"b"])).unwrap();
    assert_eq!(link.frame(&reset), Err(Fault::Unexpected("reset")));
    let mut link = Link::open(None);
    link.frame(&hello(1)).unwrap();
    assert_eq!(link.frame(&reset), Err(Fault::Unexpected("reset")), "nothing was held before");
}

#[test]
fn a_network_change_replaces_a_connection_that_may_be_dead() {
    let mut link = Link::open(None);
    link.frame(&hello(0)).unwrap();
    link.frame(&ready(&[])).unwrap();
    link.session.network_changed(link.now);
    assert!(link.closed());
    assert_eq!(link.session.poll_timeout(), Some(link.now));
    link.session.stop();
    link.session.network_changed(link.now);
    assert_eq!(link.session.poll_timeout(), None, "what is not wanted stays away");
}

#[test]
fn leaving_and_coming_back_does_not_cut_a_pause_short() {
    let mut link = Link::open(None);
    link.frame(&hello(0)).unwrap();
    link.frame(&Frame::Slow { retry_after_ms: 7_000 }).unwrap();
    link.session.handle_disconnected(link.now, CONN, 0, &mut link.entropy);
    link.session.stop();
    link.session.start(link.now.plus(1_000));
    assert_eq!(link.session.poll_timeout().unwrap().since(link.now), 7_000);
    link.session.stop();
    link.session.start(link.now.plus(8_000));
    assert_eq!(link.session.poll_timeout(), Some(link.now.plus(8_000)), "it is over");
}
