//! What is sent and not stored: signals, control messages, proofs. And what a server says of the right to read.

use bytes::Bytes;

use super::event::Event;
use super::io::{Output, Reply};
use super::jobs::PostContent;
use super::receive::News;
use super::refusal::{CommandError, Unreadable};
use super::state::State;
use crate::entropy::Entropy;
use crate::identity::{Author, LogId, Millis};
use crate::limits::{MAX_HEARD, MAX_SIGNAL_BODY};
use crate::onion::control::{Action, Control, MAX_COUNTER};
use crate::ops::{Signal, SignalError};
use crate::space::Judgement;
use crate::store::{StoreError, Tx};
use crate::sync::proof::{Purpose, ReadKey};
use crate::sync::session::ConnId;
use crate::topic::TopicId;

/// Time between two signals of a device in one topic, milliseconds.
pub const SIGNAL_EVERY_MS: u64 = 5_000;
/// Pause before a topic is asked for again that the server does not let this device read, milliseconds.
pub const UNREADABLE_RETRY_MS: u64 = 60_000;
/// Under which name signals are counted of those whose messages would not count.
const NOT_HEARD: &str = "signal-not-allowed";

/// A topic's signals.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// When the last one was sent.
    sent: Option<Millis>,
    /// The latest one that came too early.
    waiting: Option<Bytes>,
    /// The clock of each sender's last signal, who was heard last at the end: an older one is a replay.
    heard: Vec<(Author, Millis)>,
}

impl Signals {
    /// When the one that waits may go.
    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        self.waiting.as_ref().and(self.sent).map(|sent| sent.plus(SIGNAL_EVERY_MS))
    }

    fn may_send(&self, now: Millis) -> bool {
        self.sent.is_none_or(|sent| sent.plus(SIGNAL_EVERY_MS) <= now || sent > now)
    }

    /// Whether a signal is new. Remembers it; who was heard the longest ago gives way.
    fn is_new(&mut self, signal: &Signal) -> bool {
        let known = self.heard.iter().position(|(author, _)| *author == signal.author);
        if known.and_then(|at| self.heard.get(at)).is_some_and(|(_, last)| *last >= signal.sent_at) {
            return false;
        }
        if known.is_some() || self.heard.len() >= MAX_HEARD {
            self.heard.remove(known.unwrap_or(0));
        }
        self.heard.push((signal.author, signal.sent_at));
        true
    }
}

impl State {
    pub(super) fn signal(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        bytes: Bytes,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        if topic.keys.write_key().is_none() {
            return Err(CommandError::ReadOnly);
        }
        if !(1..=MAX_SIGNAL_BODY).contains(&bytes.len()) {
            return Err(SignalError::Length(bytes.len()).into());
        }
        if topic.signals.may_send(now) {
            self.send_signal(now, entropy, id, &bytes, staged)?;
        } else {
            topic.signals.waiting = Some(bytes);
            self.touched.insert(id);
        }
        Ok(Reply::Done)
    }

    /// Sends the signal whose time has come. What cannot be sent then is of the past.
    pub(super) fn settle_signal(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        if topic.signals.may_send(now)
            && let Some(bytes) = topic.signals.waiting.take()
            && self.send_signal(now, entropy, id, &bytes, staged).is_err()
        {
            staged.push(Output::Event(Event::SignalSent { topic: id, taken: false }));
        }
    }

    fn send_signal(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        bytes: &[u8],
        staged: &mut Vec<Output>,
    ) -> Result<(), CommandError> {
        let Some(topic) = self.topics.get(&id) else { return Err(CommandError::UnknownTopic) };
        let sealed = Signal::seal(&self.device, &topic.keys, now, bytes)?;
        let content = PostContent::Signal(sealed.into());
        let job = self.packet(now, entropy, id, content, &[]).map_err(CommandError::NotSent)?.job;
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.signals.sent = Some(now);
            topic.signals.waiting = None;
        }
        staged.push(Output::Post(job));
        Ok(())
    }

    /// Somebody's signal.
    pub(super) fn hear(
        &mut self,
        tx: &Tx<'_>,
        id: TopicId,
        signal: Result<Signal, SignalError>,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let own = self.author();
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        match signal {
            Ok(signal) if signal.author == own => Ok(()),
            Ok(signal) => {
                if !may_speak(tx, topic.keys.log(), signal.author)? {
                    return tx.count_dropped(id, NOT_HEARD);
                }
                if topic.signals.is_new(&signal) {
                    news.events.push(Event::Signal { topic: id, signal });
                }
                Ok(())
            }
            Err(_) => {
                topic.rejected = topic.rejected.saturating_add(1);
                tx.count_dropped(id, "signal")
            }
        }
    }

    /// Hands a control message out. Its counter is above all that this device made, and not below the clock, so that
    /// several devices with the topic's write key need not know of each other.
    pub(super) fn control(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        action: Action,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let topic = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?;
        if !topic.keys.is_public() {
            return Err(CommandError::NotPublic);
        }
        if topic.keys.write_key().is_none() {
            return Err(CommandError::ReadOnly);
        }
        let counter = tx.next_control(id, now.0.min(MAX_COUNTER))?;
        let control = Control { counter, action };
        control.encode()?;
        let content = PostContent::Control(control);
        let job = self.packet(now, entropy, id, content, &[]).map_err(CommandError::NotSent)?.job;
        staged.push(Output::Post(job));
        Ok(Reply::Control(counter))
    }

    pub(super) fn set_read_key(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        key: Option<&ReadKey>,
    ) -> Result<Reply, CommandError> {
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        tx.set_read_key(id, key.map(ReadKey::seed))?;
        if topic.unreadable.is_some()
            && let Some(session) = topic.session.as_mut()
        {
            session.network_changed(now);
        }
        self.touched.insert(id);
        Ok(Reply::Done)
    }

    /// Proves a key of a topic to the configured server.
    pub(super) fn prove(
        &self,
        tx: &Tx<'_>,
        id: TopicId,
        purpose: Purpose,
        nonce: &[u8; 32],
    ) -> Result<Reply, CommandError> {
        let topic = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?;
        let network = self.network.as_ref().ok_or(CommandError::NoNetwork)?;
        let key = match purpose {
            Purpose::Read => tx.read_key(id)?.map(|seed| ReadKey::from_seed(*seed).signing_key()),
            Purpose::Count => topic.keys.write_key().map(crate::topic::WriteKey::signing_key),
        };
        let key = key.ok_or(CommandError::NoKey)?;
        let proof = purpose.prove(&key, &network.server.id, &id, nonce);
        Ok(Reply::Proof { key: key.verifying_key().to_bytes(), proof })
    }

    /// The server refused a WebSocket and said why.
    pub(super) fn refused(
        &mut self,
        now: Millis,
        conn: ConnId,
        unreadable: Unreadable,
        entropy: &mut dyn Entropy,
        staged: &mut Vec<Output>,
    ) {
        let Some((id, session)) = self.session_of(conn) else { return };
        session.handle_disconnected(now, conn, UNREADABLE_RETRY_MS, entropy);
        self.show_readable(id, Some(unreadable), staged);
    }

    pub(super) fn show_readable(
        &mut self,
        id: TopicId,
        unreadable: Option<Unreadable>,
        staged: &mut Vec<Output>,
    ) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        if topic.unreadable != unreadable {
            topic.unreadable = unreadable;
            staged.push(Output::Event(Event::Readable { topic: id, unreadable }));
        }
    }
}

/// Whether a message of this device would count now: in a space not everybody who has the keys is heard.
fn may_speak(tx: &Tx<'_>, log: LogId, author: Author) -> Result<bool, StoreError> {
    let Some(belongs) = tx.belongs(&log)? else { return Ok(true) };
    let room = belongs.room.then_some(log);
    tx.look_at_space(belongs.space, |graph| {
        matches!(graph.judge(author, &graph.cite(author), room), Judgement::Counts { .. })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_signal_of_so_many_senders_is_remembered() {
        let signal = |sender: usize, at| {
            let mut author = Author([0; 32]);
            author.0[..8].copy_from_slice(&(sender as u64).to_be_bytes());
            Signal { author, sent_at: Millis(at), bytes: Bytes::new() }
        };
        let mut signals = Signals::default();
        for sender in 0..MAX_HEARD {
            assert!(signals.is_new(&signal(sender, 5)));
        }
        for sender in 0..MAX_HEARD {
            assert!(!signals.is_new(&signal(sender, 5)), "a replay, at the limit");
        }
        // Whoever is heard again is not the one heard the longest ago any more, whatever their keys.
        assert!(signals.is_new(&signal(0, 6)));
        assert!(signals.is_new(&signal(MAX_HEARD, 5)), "one past it is heard, too");
        assert_eq!(signals.heard.len(), MAX_HEARD);
        for (sender, at) in [(0, 6), (2, 5), (MAX_HEARD, 5)] {
            assert!(!signals.is_new(&signal(sender, at)), "a replay of {sender}");
        }
        assert!(signals.is_new(&signal(1, 5)), "its last one was the oldest");
    }
}
