//! What is read of a device before anything that says whose it is: packets overtake each other. It is kept until the device
//! is introduced, by its key bundle or by its first operation somewhere.

use super::held::List;
use super::io::Output;
use super::past::Handed;
use super::receive::News;
use super::state::State;
use crate::identity::{Author, Identity, Millis};
use crate::limits::MAX_RETRIED_SESSIONS;
use crate::ops::{OwnPast, SessionId, VerifiedOperation};
use crate::store::{StoreError, StuckSession, Tx};
use crate::topic::TopicId;
use crate::tree::{Map, Set};

/// Whose words were opened.
pub(super) enum Speaker {
    /// Those of a device of one of the two people.
    OfThread,
    /// Nobody has said yet whose device it is.
    Unknown,
    Stranger,
}

impl State {
    /// Whose words these are in a thread with a device's person. The first operation of a device in a log says itself
    /// whose it is.
    pub(super) fn speaks(
        &self,
        tx: &Tx<'_>,
        peer: &Author,
        devices: &[Author],
        operation: &VerifiedOperation,
    ) -> Result<Speaker, StoreError> {
        let author = operation.author();
        if devices.contains(&author) {
            return Ok(Speaker::OfThread);
        }
        let people = [tx.identity_of(peer)?, self.identity()];
        if !is_unintroduced(tx, &author, &people)? {
            return Ok(Speaker::Stranger);
        }
        Ok(match operation.certificate() {
            Some(certificate) if people.contains(&certificate.identity) => Speaker::OfThread,
            None if operation.seq_num() > 0 => Speaker::Unknown,
            _ => Speaker::Stranger,
        })
    }

    /// Takes what another device of the person hands over of direct threads, as soon as it is known as one.
    pub(super) fn take_own_past(
        &mut self,
        tx: &Tx<'_>,
        operation: &VerifiedOperation,
        past: &OwnPast,
    ) -> Result<(), StoreError> {
        let author = operation.author();
        if self.is_sister(tx, &author)? {
            let at = (author, operation.log(), operation.seq_num());
            self.own_news.handed.push(Handed { id: operation.id(), past: past.clone(), at });
        } else if is_unintroduced(tx, &author, &[self.identity()])? {
            Self::list(tx, List::Unintroduced, &operation.id())?;
        }
        Ok(())
    }

    /// Devices were introduced in this batch: what they said before is taken now.
    pub(super) fn take_introduced(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let people = std::mem::take(&mut self.own_news.introduced);
        if people.is_empty() {
            return Ok(());
        }
        self.take_listed(tx, now, List::Unintroduced, staged)?;
        let own = people.contains(&self.identity());
        let mut waiting = Map::<TopicId, Set<SessionId>>::new();
        for StuckSession { topic, session } in tx.stuck_sessions(Millis(u64::MAX))? {
            let Some(thread) = tx.thread_of_topic(&topic)? else { continue };
            if own || people.contains(&tx.identity_of(&thread.peer)?) {
                waiting.entry(topic).or_default().insert(session);
            }
        }
        for (topic, sessions) in waiting {
            for session in sessions.into_iter().take(MAX_RETRIED_SESSIONS) {
                self.unblocked.entry((topic, session)).or_insert(0);
            }
            self.touched.insert(topic);
            let mut news = News::default();
            self.retry_direct(tx, now, &mut news)?;
            news.tell(tx, self.known_as(topic), staged)?;
        }
        Ok(())
    }
}

/// Whether a device may turn out to be one of these people: it is known to be nobody else's, and nobody's of them any more.
pub(super) fn is_unintroduced(tx: &Tx<'_>, device: &Author, people: &[Identity]) -> Result<bool, StoreError> {
    if tx.identity_of(device)?.0 != device.0 {
        return Ok(false);
    }
    for person in people {
        if tx.was_revoked(device, person)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::ingest::{self, Context};
    use super::super::state::Topic;
    use super::*;
    use crate::identity::{Certificate, IdentityKey, LogId, OperationId, ThreadId};
    use crate::ops::{
        Body, Content, DeviceKey, Hidden, OwnDevices, OwnThread, Stage, Ticket, create, inbox_log,
    };
    use crate::projector::Place;
    use crate::store::{Durability, InboxRow, Receipt, Store, ThreadRow, ThreadState};
    use crate::topic::{Generation, Seq, WriteKey};

    const NOW: Millis = Millis(1_000);

    fn load(store: &mut Store) -> State {
        State::load(store, DeviceKey::from_bytes(&[1; 32]), NOW).unwrap()
    }

    /// Another device of the person whose first one this is.
    fn other() -> DeviceKey {
        let other = DeviceKey::from_bytes(&[2; 32]);
        let certificate = Certificate::sign(&IdentityKey::from_seed(&[1; 32]), other.author(), NOW);
        other.certified(certificate).unwrap()
    }

    fn introduce(state: &mut State, tx: &Tx<'_>, first: &VerifiedOperation) {
        State::learn(tx, first, NOW, &mut state.own_news).unwrap();
        state.take_introduced(tx, NOW, &mut Vec::new()).unwrap();
    }

    fn says(state: &State, seq_num: u32, before: Option<OperationId>, said: OwnDevices) -> VerifiedOperation {
        let log = inbox_log(&other().author(), &state.author());
        create(&other(), log, seq_num, before, &Body::new(Content::OwnDevices(Box::new(said)))).unwrap()
    }

    #[test]
    fn what_a_device_hands_over_waits_until_it_is_known_as_one_of_the_person() {
        let mut store = Store::in_memory().unwrap();
        let mut state = load(&mut store);
        let thread = OwnThread {
            thread: ThreadId([4; 32]),
            stage: Stage::Asked(Hidden([5; 32])),
            peer: Author([6; 32]),
            made: NOW,
            text: None,
            bundles: Vec::new(),
        };
        let past = OwnPast { thread, generation: Generation([7; 16]), said: Vec::new() };
        let first = says(&state, 0, None, OwnDevices::Ask);
        let second = says(&state, 1, Some(first.id()), OwnDevices::Past(Box::new(past.clone())));
        let tx = store.begin(Durability::Normal).unwrap();
        let inbox = Ticket::inbox(WriteKey::from_seed([3; 32]));
        tx.put_topic(&inbox, NOW).unwrap();
        tx.put_inbox(&InboxRow { topic: inbox.topic(), made: NOW, until: NOW.plus(1) }).unwrap();
        let context = Context {
            topic: inbox.topic(),
            log: second.log(),
            epoch: 0,
            generation: Generation([8; 16]),
            resets: 0,
            seq: Seq(1),
            received: NOW,
            now: NOW,
        };
        ingest::ingest_again(&tx, &context, &second).unwrap();
        state.take_own_past(&tx, &second, &past).unwrap();
        assert_eq!(state.own_news.handed.len(), 0);
        introduce(&mut state, &tx, &first);
        let handed: Vec<_> = state.own_news.handed.iter().map(|it| it.at).collect();
        assert_eq!(handed, [(other().author(), second.log(), 1)]);
        // Once: nothing waits any more.
        state.own_news.introduced.insert(state.identity());
        state.take_introduced(&tx, NOW, &mut Vec::new()).unwrap();
        assert_eq!(state.own_news.handed.len(), 1);
    }

    #[test]
    fn so_many_sessions_of_a_thread_are_looked_at_again() {
        for surplus in [0, 1] {
            let mut store = Store::in_memory().unwrap();
            let mut state = load(&mut store);
            let tx = store.begin(Durability::Normal).unwrap();
            let (log, write) = (LogId([4; 32]), WriteKey::from_seed([3; 32]));
            let ticket = Ticket::direct(log, write);
            let topic = ticket.topic();
            tx.put_topic(&ticket, NOW).unwrap();
            state.insert_topic(topic, Topic::new(ticket.keys(), None, NOW));
            tx.put_thread(&ThreadRow {
                thread: ThreadId([5; 32]),
                peer: Author([6; 32]),
                state: ThreadState::Open,
                text: None,
                log: Some(log),
                topic: Some(topic),
                made: NOW,
                share: None,
            })
            .unwrap();
            for session in 0..(MAX_RETRIED_SESSIONS + surplus) as u64 {
                let place = Place { epoch: 0, resets: 0, seq: Seq(session + 1) };
                let receipt = Receipt { topic, generation: Generation([8; 16]), place, received: NOW };
                tx.await_key(&receipt, &session.to_be_bytes(), b"nothing opens this").unwrap();
            }
            let first = says(&state, 0, None, OwnDevices::Ask);
            introduce(&mut state, &tx, &first);
            // What was looked at is no envelope, and gone.
            assert_eq!(tx.pending_count(topic).unwrap().key, surplus as u64);
        }
    }
}
