//! One reader's view of a topic: takes frames as they come and says what is wrong with them.

use delta_core::identity::EnvelopeHash;
use delta_core::sync::frame::Frame;
use delta_core::topic::{Chain, Generation, Seq, SignedHead, TopicId};
use ed25519_dalek::VerifyingKey;
use thiserror::Error;

/// The server said something that contradicts what it said before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Wrong {
    /// An operation or a gap does not follow the cursor.
    #[error("seq {got} came after {cursor}")]
    Order {
        /// Where the reader was.
        cursor: Seq,
        /// What came.
        got: Seq,
    },
    /// A signed head is not where the reader is, or has another chain.
    #[error("the signed head at {head} has another chain than the operations, which end at {cursor}")]
    Chain {
        /// Where the head is.
        head: Seq,
        /// Where the reader is.
        cursor: Seq,
    },
    /// The signature of a head does not verify.
    #[error("the signature of the head at {0} does not verify")]
    Signature(Seq),
    /// A reset to the log the reader was in, at a place that log has.
    #[error("a reset to the same generation at {cursor}, although its head is {head}")]
    Reset {
        /// Where the reader was.
        cursor: Seq,
        /// The head of the log.
        head: Seq,
    },
    /// Operations before the first, after no reset, or of no generation.
    #[error("a frame that does not belong here: {0}")]
    Misplaced(&'static str),
}

/// A reader's view.
#[derive(Clone, Debug)]
pub struct View {
    topic: TopicId,
    key: VerifyingKey,
    /// Which copy of the log; before the first `hello` none.
    pub generation: Option<Generation>,
    /// The last seq taken.
    pub cursor: Seq,
    /// The chain there.
    pub chain: Chain,
    /// Whether `ready` came on this connection.
    pub ready: bool,
    /// Operations from here on are no longer there; they were evicted before this reader got them.
    pub gaps: u64,
}

impl View {
    /// At the beginning of a topic, for the server with this key.
    pub fn new(topic: TopicId, key: VerifyingKey) -> Self {
        let chain = Chain([0; 32]);
        Self { topic, key, generation: None, cursor: Seq(0), chain, ready: false, gaps: 0 }
    }

    /// The query of a reconnect, which begins a new connection.
    pub fn reconnect(&mut self) -> String {
        self.ready = false;
        let Some(generation) = self.generation else { return "since=0".to_owned() };
        let chain: String = self.chain.prefix().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("since={}&generation={generation}&chain={chain}", self.cursor)
    }

    /// Takes a frame; `each` sees every operation of it, in order.
    ///
    /// # Errors
    /// The frame contradicts what came before. The view is not to be used after that.
    pub fn take(
        &mut self,
        frame: &Frame,
        mut each: impl FnMut(Seq, EnvelopeHash, &[u8]),
    ) -> Result<(), Wrong> {
        match frame {
            Frame::Hello { generation, .. } => {
                if self.generation.is_none() {
                    self.start(*generation);
                }
                Ok(())
            }
            Frame::Reset { generation, head } => {
                if self.generation == Some(*generation) && self.cursor <= *head {
                    return Err(Wrong::Reset { cursor: self.cursor, head: *head });
                }
                self.start(*generation);
                Ok(())
            }
            Frame::Gap { from, to, chain } => {
                self.follows(*from)?;
                (self.cursor, self.chain) = (*to, *chain);
                self.gaps += 1;
                Ok(())
            }
            Frame::Ops(ops) => ops.iter().try_for_each(|op| {
                self.follows(op.seq)?;
                let hash = EnvelopeHash::of(&op.op);
                (self.cursor, self.chain) = (op.seq, self.chain.next(op.seq, &hash));
                each(op.seq, hash, &op.op);
                Ok(())
            }),
            Frame::Ready(_) if self.ready => Err(Wrong::Misplaced("a second ready")),
            Frame::Head(_) if !self.ready => Err(Wrong::Misplaced("a head before ready")),
            Frame::Ready(head) => {
                self.ready = true;
                self.check(head)
            }
            Frame::Head(head) => self.check(head),
            Frame::Signal(_) | Frame::Slow { .. } => Ok(()),
        }
    }

    fn start(&mut self, generation: Generation) {
        self.generation = Some(generation);
        self.cursor = Seq(0);
        self.chain = Chain::start(&self.topic, &generation);
    }

    fn follows(&self, got: Seq) -> Result<(), Wrong> {
        match (self.generation, self.cursor.next()) {
            (None, _) => Err(Wrong::Misplaced("an operation before hello")),
            (Some(_), Some(next)) if next == got => Ok(()),
            _ => Err(Wrong::Order { cursor: self.cursor, got }),
        }
    }

    fn check(&self, head: &SignedHead) -> Result<(), Wrong> {
        let generation = self.generation.ok_or(Wrong::Misplaced("a head before hello"))?;
        if !head.verify(&self.key, &self.topic, &generation) {
            return Err(Wrong::Signature(head.head));
        }
        if (head.head, head.chain) != (self.cursor, self.chain) {
            return Err(Wrong::Chain { head: head.head, cursor: self.cursor });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use delta_core::identity::Millis;
    use delta_core::sync::frame::SequencedOp;
    use ed25519_dalek::SigningKey;

    use super::*;

    const TOPIC: TopicId = TopicId([5; 32]);
    const GENERATION: Generation = Generation([6; 16]);

    fn server() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn hello() -> Frame {
        let server_time = Millis(0);
        Frame::Hello { generation: GENERATION, head: Seq(0), tail: Seq(1), server_time, max_op: 1 }
    }

    fn ops(seqs: &[u64]) -> Frame {
        let op = |seq: &u64| SequencedOp {
            seq: Seq(*seq),
            received: Millis(0),
            op: Bytes::from(seq.to_be_bytes().to_vec()),
        };
        Frame::Ops(seqs.iter().map(op).collect())
    }

    /// The chain after operations 1 to `head` of [`ops`].
    fn chain(head: u64) -> Chain {
        (1..=head).fold(Chain::start(&TOPIC, &GENERATION), |chain, seq| {
            chain.next(Seq(seq), &EnvelopeHash::of(&seq.to_be_bytes()))
        })
    }

    fn head(seq: u64, chain: Chain) -> SignedHead {
        SignedHead::sign(&server(), &TOPIC, &GENERATION, Seq(seq), chain)
    }

    fn taken(frames: &[Frame]) -> Result<View, Wrong> {
        let mut view = View::new(TOPIC, server().verifying_key());
        frames.iter().try_for_each(|frame| view.take(frame, |_, _, _| {})).map(|()| view)
    }

    #[test]
    fn what_a_good_server_says_is_taken() {
        let gap = Frame::Gap { from: Seq(1), to: Seq(2), chain: chain(2) };
        let ready = Frame::Ready(head(4, chain(4)));
        let view = taken(&[hello(), gap, ops(&[3, 4]), ready, ops(&[5]), Frame::Head(head(5, chain(5)))]);
        let mut view = view.unwrap();
        assert_eq!((view.cursor, view.chain, view.gaps), (Seq(5), chain(5), 1));
        let other = Generation([8; 16]);
        view.reconnect();
        view.take(&Frame::Reset { generation: other, head: Seq(9) }, |_, _, _| {}).unwrap();
        assert_eq!((view.cursor, view.generation), (Seq(0), Some(other)));
    }

    #[test]
    fn holes_doubles_and_going_back_are_noticed() {
        for seqs in [&[2][..], &[1, 3], &[1, 1], &[1, 2, 1]] {
            assert!(matches!(taken(&[hello(), ops(seqs)]), Err(Wrong::Order { .. })), "{seqs:?}");
        }
        let gap = Frame::Gap { from: Seq(3), to: Seq(4), chain: chain(4) };
        assert!(matches!(taken(&[hello(), ops(&[1]), gap]), Err(Wrong::Order { .. })));
        assert!(matches!(taken(&[ops(&[1])]), Err(Wrong::Misplaced(_))));
    }

    #[test]
    fn heads_that_do_not_fit_are_noticed() {
        let wrong = |head| taken(&[hello(), ops(&[1, 2]), Frame::Ready(head)]).unwrap_err();
        assert!(matches!(wrong(head(2, chain(3))), Wrong::Chain { .. }));
        assert!(matches!(wrong(head(1, chain(1))), Wrong::Chain { .. }));
        let mut forged = head(2, chain(2));
        forged.signature[0] ^= 1;
        assert_eq!(wrong(forged), Wrong::Signature(Seq(2)));
        assert!(matches!(taken(&[hello(), Frame::Head(head(0, chain(0)))]), Err(Wrong::Misplaced(_))));
    }

    #[test]
    fn a_reset_to_the_log_the_reader_is_in_is_noticed() {
        let reset = |head| Frame::Reset { generation: GENERATION, head: Seq(head) };
        assert!(matches!(taken(&[hello(), ops(&[1, 2]), reset(2)]), Err(Wrong::Reset { .. })));
        assert!(taken(&[hello(), ops(&[1, 2]), reset(1)]).is_ok(), "a log that lost its end");
    }
}
