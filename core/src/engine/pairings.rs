//! Pairings of this device (docs/wire.md, section 12.3): each has its time, by the clock that every input brings, and
//! leaves nothing behind.

use super::io::{Output, Reply};
use super::refusal::CommandError;
use super::state::State;
use crate::identity::{LogId, Millis};
use crate::ops::{Content, OwnDevices, Ticket};
use crate::pairing::PAIRING_LIFETIME_MS;
use crate::store::{OpenPairing, Store, StoreError, Tx};
use crate::topic::TopicId;

/// The pairings that are not over.
#[derive(Debug, Default)]
pub(super) struct Pairings(Vec<OpenPairing>);

impl Pairings {
    /// At start. A clock that was set back makes none of them longer.
    pub(super) fn load(store: &Store, now: Millis) -> Result<Self, StoreError> {
        let latest = now.plus(PAIRING_LIFETIME_MS);
        let shortened = |it: OpenPairing| OpenPairing { until: it.until.min(latest), ..it };
        Ok(Self(store.pairings()?.into_iter().map(shortened).collect()))
    }

    /// When the next one is over.
    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        self.0.iter().map(|it| it.until).min()
    }

    fn open(&self, log: &LogId, now: Millis) -> bool {
        self.0.iter().any(|it| it.log == *log && now < it.until)
    }
}

impl State {
    /// Opens the topic in which this device and another one meet, for as long as a pairing takes.
    pub(super) fn begin_pairing(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        ticket: Ticket,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let log = ticket.log();
        let reply = self.open_topic(tx, now, ticket, staged)?;
        // Begun again it is over when it would have been.
        if self.pairings.0.iter().all(|it| it.log != log) {
            self.pairings.0.push(OpenPairing { log, until: now.plus(PAIRING_LIFETIME_MS) });
            tx.set_pairings(&self.pairings.0)?;
        }
        Ok(reply)
    }

    /// A pairing is over, whatever came of it. One that is gone already is fine.
    pub(super) fn end_pairing(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        topic: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        if let Some(topic) = self.topics.get(&topic) {
            let log = topic.keys.log();
            self.wipe_pairings(tx, now, |it| it.log == log, staged)?;
        }
        Ok(Reply::Done)
    }

    /// What belongs into a pairing is said in one, and in its time.
    pub(super) fn in_pairing(&self, log: &LogId, content: &Content, now: Millis) -> Result<(), CommandError> {
        let Content::OwnDevices(said) = content else { return Ok(()) };
        match **said {
            OwnDevices::Topic { .. } | OwnDevices::Thread(_) | OwnDevices::Past(_) => Ok(()),
            _ if self.pairings.open(log, now) => Ok(()),
            _ => Err(CommandError::PairingOver),
        }
    }

    /// Removes the pairings whose time is over.
    pub(super) fn tend_pairings(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.wipe_pairings(tx, now, |it| it.until <= now, staged)
    }

    fn wipe_pairings(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        over: impl Fn(&OpenPairing) -> bool,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let (over, open): (Vec<_>, Vec<_>) = self.pairings.0.iter().copied().partition(over);
        if over.is_empty() {
            return Ok(());
        }
        for pairing in over {
            for id in tx.wipe_wholly(&self.author(), pairing.log)? {
                self.leave_topic(tx, now, id, staged)?;
            }
        }
        tx.set_pairings(&open)?;
        self.pairings.0 = open;
        Ok(())
    }

    /// A topic is gone from the store. What other topics have on their way is not disturbed by it.
    pub(super) fn leave_topic(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.schedule(id, None);
        let conns: Vec<_> = self.conns.iter().filter(|(_, of)| **of == id).map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.conns.remove(&conn);
            staged.push(Output::Disconnect { conn });
        }
        if let Some(fetching) = self.fetching.take_if(|fetching| fetching.topic == id) {
            staged.push(Output::Disconnect { conn: fetching.conn });
            self.wake_refetches();
        }
        let changed = self.slots.leave(id, now);
        self.make_room(id, changed, staged);
        if let Some(topic) = self.topics.remove(&id) {
            self.forget_name(id, &topic);
        }
        self.handover_queue.retain(|waiting| *waiting != id);
        self.keeping.forget_turns(id);
        self.touched.remove(&id);
        let (rows, bytes) = tx.outbox_size()?;
        (self.outbox_rows, self.outbox_bytes) = (usize::try_from(rows).unwrap_or(usize::MAX), bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::io::{Command, CommandId, Input};
    use super::super::{Engine, Output};
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::identity::{Author, Certificate, IdentityKey};
    use crate::ops::DeviceKey;
    use crate::pairing::Pairing;
    use crate::store::StoreOptions;

    struct Device {
        engine: Engine,
        entropy: SeededEntropy,
        dir: tempfile::TempDir,
    }

    fn engine(dir: &tempfile::TempDir, now: u64) -> Engine {
        let store = Store::open(dir.path().join("device.db"), StoreOptions::default()).unwrap();
        Engine::open(store, DeviceKey::from_bytes(&[1; 32]), Millis(now)).unwrap()
    }

    impl Device {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { engine: engine(&dir, 0), entropy: SeededEntropy::new([2; 32]), dir }
        }

        fn restart(self, now: u64) -> Self {
            let Self { engine: old, entropy, dir } = self;
            old.close().unwrap();
            Self { engine: engine(&dir, now), entropy, dir }
        }

        fn run(&mut self, now: u64, command: Command) -> Result<Reply, CommandError> {
            let input = Input::Command { id: CommandId(0), command };
            self.engine.handle(Millis(now), &mut self.entropy, vec![input]).unwrap();
            let mut reply = None;
            while let Some(output) = self.engine.poll_output() {
                if let Output::Reply { result, .. } = output {
                    reply = Some(result);
                }
            }
            reply.unwrap()
        }

        fn ask(&mut self, now: u64, topic: TopicId) -> Result<Reply, CommandError> {
            self.run(now, Command::Publish { topic, content: ask() })
        }

        /// Topics, operations and pairings on the disk.
        fn left(&self) -> (usize, u64, usize) {
            let reader = self.engine.reader().unwrap();
            let topics = reader.topics().unwrap().len();
            (topics, reader.count_operations().unwrap(), reader.pairings().unwrap().len())
        }
    }

    fn ask() -> Content {
        Content::OwnDevices(Box::new(OwnDevices::Ask))
    }

    fn pairing(seed: u8) -> Ticket {
        Pairing::generate(Author([7; 32]), &mut SeededEntropy::new([seed; 32])).unwrap().ticket()
    }

    #[test]
    fn a_pairing_takes_ten_minutes_by_the_engines_clock_and_leaves_nothing() {
        let (one, other) = (pairing(1), pairing(2));
        let end = 1_000 + PAIRING_LIFETIME_MS;
        let mut device = Device::new();
        device.run(1_000, Command::BeginPairing { ticket: one.clone() }).unwrap();
        device.ask(end - 1, one.topic()).unwrap();
        assert_eq!((device.left(), device.engine.next_wakeup()), ((1, 1, 1), Some(Millis(end))));
        // Begun once more it takes no longer, and a restart changes nothing.
        device.run(end - 1, Command::BeginPairing { ticket: one.clone() }).unwrap();
        let mut device = device.restart(end - 1);
        assert_eq!(device.engine.next_wakeup(), Some(Millis(end)));
        let late = device.ask(end, one.topic()).unwrap_err();
        assert!(matches!(late, CommandError::PairingOver), "{late}");
        assert_eq!(device.left(), (0, 0, 0));
        // What is said in pairings is said nowhere else.
        let ticket = Ticket::generate_private(&mut device.entropy).unwrap();
        device.run(end, Command::OpenTopic { ticket: ticket.clone() }).unwrap();
        assert!(matches!(device.ask(end, ticket.topic()), Err(CommandError::PairingOver)));
        // Ended before, and with a clock that was set back.
        device.run(end, Command::BeginPairing { ticket: one.clone() }).unwrap();
        device.run(end, Command::BeginPairing { ticket: other.clone() }).unwrap();
        device.ask(end, one.topic()).unwrap();
        device.run(end, Command::EndPairing { topic: one.topic() }).unwrap();
        assert_eq!(device.left(), (2, 0, 1));
        device.run(end, Command::EndPairing { topic: one.topic() }).unwrap();
        let device = device.restart(5);
        assert_eq!(device.engine.next_wakeup(), Some(Millis(5 + PAIRING_LIFETIME_MS)));
    }

    #[test]
    fn the_topic_of_the_persons_devices_is_neither_wiped_nor_left() {
        let mut device = Device::new();
        let Ok(Reply::Ticket(own)) = device.run(0, Command::OwnTopic { ticket: None }) else { panic!() };
        for command in [Command::Wipe { topic: own.topic() }, Command::Unsubscribe { topic: own.topic() }] {
            let refused = device.run(0, command).unwrap_err();
            assert!(matches!(refused, CommandError::OwnTopicStays), "{refused}");
        }
        assert_eq!(device.left(), (1, 0, 0));
    }

    #[test]
    fn who_is_certified_last_may_move_the_topic_of_the_persons_devices() {
        let mut device = Device::new();
        let own = Ticket::generate_private(&mut device.entropy).unwrap();
        device.run(0, Command::OwnTopic { ticket: Some(own.clone()) }).unwrap();
        let identity = IdentityKey::from_seed(&[3; 32]);
        let author = device.engine.author();
        let certificate = Certificate::sign(&identity, author, Millis(1));
        device.run(0, Command::Certify { certificate }).unwrap();
        let reader = device.engine.reader().unwrap();
        for device in [author, Author(identity.identity().0)] {
            assert!(reader.is_rotator(&own.log(), &device).unwrap());
        }
    }
}
