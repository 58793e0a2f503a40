//! A relay as an actor: the relay's own logic, a script, and a disk that survives a kill.
//!
//! Not here: latency, loss, sockets. The simulation and the mocks of other crates bring those.

use bytes::Bytes;
use delta_core::entropy::Entropy;
use delta_core::identity::{Millis, NodeId};
use delta_relay_core::relay::Seen;
use delta_relay_core::{Forward, KeyRing, Limits, Outcome, Relay, check_length};

use crate::directory::NodeIdentity;
use crate::script::{Answer, PostAct, Script};

/// One relay.
#[derive(Debug)]
pub struct RelayActor {
    identity: NodeIdentity,
    known: Vec<NodeId>,
    limits: Limits,
    state: State,
    /// How it misbehaves.
    pub script: Script,
}

#[derive(Debug)]
enum State {
    Up(Box<Relay>),
    /// What its disk holds.
    Down(Seen),
}

impl RelayActor {
    /// A running relay that knows nobody yet.
    pub fn new(identity: NodeIdentity, limits: Limits) -> Self {
        let mut relay = Self {
            identity,
            known: Vec::new(),
            limits,
            state: State::Down(Seen::new()),
            script: Script::default(),
        };
        relay.start();
        relay
    }

    /// Its keys.
    pub const fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Changes its onion key; the old one is erased.
    pub fn change_key(&mut self, onion: [u8; 32]) {
        self.kill();
        self.identity = self.identity.with_onion_key(onion);
        self.start();
    }

    /// The nodes it forwards to.
    pub fn set_known(&mut self, nodes: &[NodeId]) {
        self.known = nodes.to_vec();
        if let State::Up(relay) = &mut self.state {
            relay.set_known(nodes.iter().copied());
        }
    }

    /// Whether it runs.
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Kills it: packets it holds are gone, keys and replay set stay.
    pub fn kill(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Down(Seen::new())) {
            State::Up(relay) => State::Down(relay.into_durable().1),
            down @ State::Down(_) => down,
        };
    }

    /// Starts it again from its disk.
    pub fn start(&mut self) {
        if let State::Down(seen) = &mut self.state {
            let seen = std::mem::take(seen);
            let keys = KeyRing::new(self.identity.onion_secret(), None, None);
            let keys = keys.expect("a single key has a distinct id");
            let mut relay = Relay::new(self.identity.id(), keys, seen, self.limits);
            relay.set_known(self.known.iter().copied());
            self.state = State::Up(Box::new(relay));
        }
    }

    /// `POST /hop`. A relay that is down cuts the connection.
    pub fn handle_post(&mut self, now: Millis, packet: &Bytes) -> Answer {
        let State::Up(relay) = &mut self.state else { return Answer::Cut };
        if let Err(refusal) = check_length(Some(packet.len() as u64)) {
            return Answer::Status(refusal.status());
        }
        let (times, answer) = match self.script.next_post() {
            None => (1, Answer::Status(202)),
            Some(PostAct::Swallow) => (0, Answer::Status(202)),
            Some(PostAct::Answer(answer)) => (1, answer),
            Some(PostAct::Refuse(answer)) => (0, answer),
            Some(PostAct::Twice) => (2, Answer::Status(202)),
        };
        for _ in 0..times {
            relay.handle_packet(now, packet.to_vec());
        }
        answer
    }

    /// The next packet to POST; its outcome comes back through [`Self::handle_outcome`].
    pub fn poll_transmit(&mut self, now: Millis) -> Option<Forward> {
        match &mut self.state {
            State::Up(relay) => relay.poll_transmit(now),
            State::Down(_) => None,
        }
    }

    /// How a POST ended. One that an earlier life began is ignored.
    pub fn handle_outcome(&mut self, now: Millis, forward: Forward, outcome: Outcome) {
        if let State::Up(relay) = &mut self.state {
            relay.handle_outcome(now, forward, outcome);
        }
    }

    /// When [`Self::handle_timeout`] has work.
    pub fn poll_timeout(&self) -> Option<Millis> {
        match &self.state {
            State::Up(relay) => relay.poll_timeout(),
            State::Down(_) => None,
        }
    }

    /// Moves on what is due.
    pub fn handle_timeout(&mut self, now: Millis, entropy: &mut dyn Entropy) {
        if let State::Up(relay) = &mut self.state {
            // A window that cannot be shuffled waits for the next time: that is the relay's affair.
            let _ = relay.handle_timeout(now, entropy);
        }
    }
}

/// What a POST's answer means to a relay that forwards.
pub const fn outcome(answer: Answer) -> Outcome {
    match answer {
        answer if answer.is_success() => Outcome::Delivered,
        Answer::Status(429 | 500..) | Answer::Late(429 | 500.., _) => Outcome::Unreachable,
        Answer::Hang | Answer::Cut | Answer::Bytes(_) => Outcome::Unreachable,
        Answer::Status(_) | Answer::Late(..) | Answer::Redirect => Outcome::Refused,
    }
}
