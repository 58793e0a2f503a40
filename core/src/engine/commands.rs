//! What the app asks for, each inside the batch's transaction.

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;

use super::event::Event;
use super::freshness::Renewed;
use super::ingest::{self, PublishError};
use super::io::{Command, CommandId, Network, Output, Reply, SeenDirectory, TopicStatus};
use super::receive::News;
use super::refusal::{CommandError, Unreadable};
use super::sending::Cover;
use super::spaces::{cited, cool_down};
use super::state::{State, Topic};
use crate::entropy::Entropy;
use crate::identity::{Author, EnvelopeHash, LogId, Millis, OperationId};
use crate::limits::{MAX_IDEMPOTENCY_KEY, MAX_OUTBOX_BYTES, MAX_OUTBOX_ROWS};
use crate::onion::route::Tunnels;
use crate::ops::{self, Body, Content, Ticket};
use crate::store::{NewOutboxRow, Origin, StoreError, Tx};
use crate::sync::outbox::OutboxRow;
use crate::topic::TopicId;

impl State {
    pub(super) fn command(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: CommandId,
        command: Command,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let result = match command {
            Command::OpenTopic { ticket } => self.open_shared(tx, now, ticket, staged),
            Command::Meet { ticket } => self.meet(tx, now, ticket, staged),
            Command::BeginPairing { ticket } => self.begin_pairing(tx, now, ticket, staged),
            Command::EndPairing { topic } => self.end_pairing(tx, now, topic, staged),
            Command::WhoAmI => Ok(Reply::Identity(self.identity())),
            Command::OwnTopic { ticket } => self.own_topic(tx, now, entropy, ticket, staged),
            Command::Certify { certificate } => self.certify(tx, certificate),
            Command::HandPast { to } => self.hand_past(tx, now, to),
            Command::Revoke { revocation } => self.revoke_device(tx, now, &revocation, staged),
            Command::Subscribe { topic } => self.subscribe(self.at_hand(topic), true),
            Command::Unsubscribe { topic } => self.unsubscribe(self.at_hand(topic)),
            Command::Publish { topic, content } => {
                self.publish(tx, now, self.current(topic), content, staged)
            }
            Command::PublishOnce { topic, content, key } => {
                self.publish_once(tx, now, self.current(topic), content, &key, staged)
            }
            Command::Signal { topic, bytes } => self.signal(now, entropy, self.current(topic), bytes, staged),
            Command::SetRotators { topic, devices } => self.set_rotators(tx, now, topic, &devices, staged),
            Command::OpenInbox { secrets } => self.open_inbox(tx, now, entropy, secrets.as_deref()),
            Command::RequestJoin { space, to, inbox, text } => {
                self.request_join(tx, now, entropy, space, to, inbox.as_ref(), text).map(Reply::Published)
            }
            Command::RequestDirect { to, inbox, text } => {
                self.request_direct(tx, now, entropy, (to, inbox.as_ref()), text)
            }
            Command::AcceptDirect { thread } => self.accept_direct(tx, now, entropy, thread),
            Command::CloseDirect { thread } => self.close_direct(tx, thread),
            Command::PublishDirect { thread, content, prepared } => {
                self.publish_direct(tx, now, thread, content, &prepared, staged)
            }
            Command::Unsent => Ok(Reply::Unsent(self.unsent())),
            Command::PublishBundle { topic, secrets } => {
                self.publish_bundle(tx, now, self.current(topic), &secrets, staged)
            }
            Command::Rotate { topic, prepared } => self.rotate(tx, now, topic, *prepared, staged),
            Command::Control { topic, action } => self.control(tx, now, entropy, topic, action, staged),
            Command::SetReadKey { topic, key } => self.set_read_key(tx, now, topic, key.as_ref()),
            Command::Prove { topic, purpose, nonce } => self.prove(tx, topic, purpose, &nonce),
            Command::Configure(network) => self.configure(tx, now, entropy, network, staged),
            Command::Status { topic } => self.status(self.current(topic), now),
            Command::CreateSpace { about } => self.create_space(tx, now, entropy, about, staged),
            Command::CreateRoom { space, about } => self.create_room(tx, now, entropy, space, about, staged),
            Command::CreateInvite { space, level, expires, once } => {
                self.create_invite(tx, now, entropy, (space, level, expires, once), staged)
            }
            Command::AcceptInvite { invite } => self.accept_invite(tx, now, &invite, staged),
            Command::Act { space, action } => self.act_or_ask(tx, now, entropy, space, *action, staged),
            Command::SetRead { log, upto } => self.set_read(tx, now, log, &upto, staged),
            Command::PutValue { topic, at, value } => {
                self.put_value(tx, now, self.current(topic), at, value, staged)
            }
            Command::MakeBlob { size, mime, name } => self.make_blob(tx, now, entropy, size, mime, name),
            Command::PutChunk { blob, number, bytes } => Self::put_chunk(tx, &blob, number, &bytes),
            Command::FinishBlob { blob } => self.finish_blob(tx, entropy, &blob),
            Command::FetchBlob { blob } => self.fetch_blob(tx, now, &blob),
            Command::DropBlob { blob } => self.drop_blob(tx, now, &blob, staged),
            Command::AvoidedRelays => Ok(Reply::AvoidedRelays(self.routes.avoided(now))),
            Command::Retry { topic } => self.retry(tx, now, self.current(topic), staged),
            Command::Cancel { topic, operation } => {
                self.cancel(tx, now, self.current(topic), &operation, staged)
            }
            Command::Prune { topic, before, at } => self.prune(tx, self.at_hand(topic), before, at, staged),
            Command::Wipe { topic } => self.wipe(tx, self.at_hand(topic)),
            Command::Tunnel { topic } => Ok(Reply::Tunnel(self.tunnel_for(self.current(topic), now))),
            Command::TunnelsTo { directory, server } => {
                Ok(Reply::Tunnels(self.tunnels_to(&directory, server, now)))
            }
        };
        let result = match result {
            // The database is at fault, not the command: nothing of the batch can be kept.
            Err(CommandError::Store(error)) => match Arc::try_unwrap(error) {
                Ok(error) => return Err(error),
                Err(shared) => Err(CommandError::Store(shared)),
            },
            other => other,
        };
        staged.push(Output::Reply { id, result });
        Ok(())
    }

    /// Opens a topic that another device of the person has, also one that its conversation has left.
    pub(super) fn meet(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        ticket: Ticket,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        self.yield_log(tx, now, &ticket.log(), staged)?;
        let newest = self.newest(&ticket.log());
        let epoch = newest.and_then(|id| self.topics.get(&id)).map(|topic| topic.keys.epoch());
        let Some(newest) = newest.filter(|_| epoch > Some(ticket.epoch())) else {
            return self.open_topic(tx, now, ticket, staged);
        };
        let mut news = News::default();
        self.adopt(tx, now, &ticket, &mut news)?;
        news.tell(tx, newest, staged)?;
        Ok(Reply::Topic(self.known_as(newest)))
    }

    pub(super) fn open_topic(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        ticket: Ticket,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let id = ticket.topic();
        self.yield_log(tx, now, &ticket.log(), staged)?;
        // Its conversation has long moved on.
        if self.at_hand(id) != id {
            return Ok(Reply::Topic(self.known_as(id)));
        }
        // The key that a conversation waits for.
        if !self.topics.contains_key(&id) && self.take_key(tx, now, &ticket, staged)? {
            return Ok(Reply::Topic(self.known_as(id)));
        }
        // Somebody named it as an inbox; what was to be sent there goes with it.
        if self.topics.get(&id).is_some_and(|topic| topic.keys.is_foreign_inbox()) {
            self.drop_topic(tx, now, id, staged)?;
        }
        let is_full = !self.topics.contains_key(&id) && self.is_full(tx, now)?;
        let known = self.topics.get(&id);
        if is_full {
            return Err(CommandError::TooManyTopics);
        }
        if known.is_some_and(|topic| !topic.keys.agrees_with(&ticket.keys())) {
            return Err(CommandError::TicketConflict);
        }
        // Places are counted by log and epoch: two topics in one place would mix them up.
        if known.is_none()
            && let Some(newest) = self.newest(&ticket.log())
        {
            if !self.is_behind(newest, ticket.epoch()) {
                return Err(CommandError::LogTaken);
            }
            // Where the conversation went on has no name of its own for the app.
            let mut news = News::default();
            self.adopt(tx, now, &ticket, &mut news)?;
            news.tell(tx, newest, staged)?;
            return Ok(Reply::Topic(self.known_as(id)));
        }
        // A read-only ticket does not take away the right to write.
        if known.is_none_or(|topic| topic.keys.write_key().is_none()) {
            tx.put_topic(&ticket, now)?;
            match self.topics.get_mut(&id) {
                Some(topic) => {
                    topic.keys = ticket.keys();
                    // What waited for the right to write.
                    self.take_key(tx, now, &ticket, staged)?;
                }
                None => {
                    self.insert_topic(id, Topic::new(ticket.keys(), None, now));
                }
            }
        }
        self.touched.insert(id);
        Ok(Reply::Topic(self.known_as(id)))
    }

    pub(super) fn subscribe(&mut self, id: TopicId, subscribed: bool) -> Result<Reply, CommandError> {
        let known_as = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?.known_as;
        // Closed topics too: what a server loses of them is delivered again.
        for (id, topic) in self.topics.iter_mut().filter(|(_, topic)| topic.known_as == known_as) {
            // Read whether anybody listens or not.
            if topic.keys.is_inbox() && !subscribed {
                continue;
            }
            self.before.subscribed.push((*id, topic.subscribed));
            if subscribed {
                self.slots.touch(*id);
            }
            topic.subscribed = subscribed;
            self.touched.insert(*id);
        }
        Ok(Reply::Done)
    }

    fn unsubscribe(&mut self, id: TopicId) -> Result<Reply, CommandError> {
        let log = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?.keys.log();
        self.may_leave(&log)?;
        self.subscribe(id, false)
    }

    pub(super) fn publish(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        content: Content,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let (outbox_rows, outbox_bytes) = (self.outbox_rows, self.outbox_bytes);
        let log = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?.keys.log();
        self.in_pairing(&log, &content, now)?;
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        if topic.keys.write_key().is_none() {
            return Err(CommandError::ReadOnly);
        }
        // A signed operation would hold a place in this device's log for ever.
        if topic.unreadable == Some(Unreadable::Gone) {
            return Err(CommandError::TopicGone);
        }
        if topic.closed.is_some() {
            // Who may write no more is told that, and not that a key is missing.
            cited(tx, self.device.author(), &topic.keys.log(), &content)?;
            return Err(CommandError::TopicClosed);
        }
        if !has_room(outbox_rows, outbox_bytes, 0) {
            return Err(CommandError::OutboxFull);
        }
        let (keys, device) = (&topic.keys, &self.device);
        let (log, observed) = (keys.log(), topic.observed.unsaid());
        let introduced = topic.introduced || keys.epoch() == 0;
        let (operation, envelope, row, changes) = tx.savepoint(|tx| {
            let (seq_num, backlink) = next_in_log(tx, &device.author(), &log)?;
            let auth_heads = cited(tx, device.author(), &log, &content)?;
            cool_down(tx, device.author(), &log, &content, now)?;
            let body = Body { content, sent_at: Some(now), observed, auth_heads };
            // Who joined after a rotation reads nothing from before it: in every topic it is said anew whose device this is.
            let create = if introduced { ops::create } else { ops::create_introducing };
            let operation = create(device, log, seq_num, backlink, &body)?;
            let envelope = keys.seal(operation.header(), operation.body_bytes())?;
            if !has_room(outbox_rows, outbox_bytes, envelope.len()) {
                return Err(CommandError::OutboxFull);
            }
            let hash = EnvelopeHash::of(&envelope);
            let changes = ingest::publish_local(tx, id, &operation, now)?;
            let row = tx.outbox_push(&NewOutboxRow {
                topic: id,
                operation: operation.id(),
                hash,
                envelope: &envelope,
                origin: Origin::Own,
                not_before: now,
            })?;
            Ok::<_, CommandError>((operation.id(), (hash, envelope.len()), row, changes))
        })?;
        topic.introduced = true;
        if observed.is_some() {
            topic.observed.said();
        }
        let (hash, len) = envelope;
        self.slots.touch(id);
        self.add_outbox_row(id, row, hash, len, now);
        if !changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes }));
        }
        Ok(Reply::Published(operation))
    }

    /// The key and the operation are one fact: they commit together.
    fn publish_once(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        content: Content,
        key: &[u8],
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY {
            return Err(CommandError::IdempotencyKey { len: key.len() });
        }
        if let Some(operation) = tx.idempotent(key)? {
            return Ok(Reply::Published(operation));
        }
        let reply = self.publish(tx, now, id, content, staged)?;
        if let Reply::Published(operation) = &reply {
            tx.remember_idempotent(key, operation, now)?;
        }
        Ok(reply)
    }

    /// Whether the outbox takes an envelope of this length: what the store would refuse as a limit is asked before,
    /// because there it would cost the whole batch.
    pub(super) fn outbox_has_room(&self, len: usize) -> bool {
        has_room(self.outbox_rows, self.outbox_bytes, len)
    }

    pub(super) fn add_outbox_row(
        &mut self,
        id: TopicId,
        row: i64,
        hash: EnvelopeHash,
        len: usize,
        now: Millis,
    ) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        topic.outbox.insert(OutboxRow { id: row, hash, len, tries: 0, not_before: now });
        self.outbox_rows += 1;
        self.outbox_bytes += u64::from(len);
        self.touched.insert(id);
    }

    fn configure(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        mut network: Network,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        if !(1..=5).contains(&network.relays) {
            return Err(CommandError::PathLength);
        }
        network.sending.check()?;
        let key = server_key(&network)?;
        if let Some(renewed) = &network.seen.renewed {
            tx.set_setting(&Renewed::setting(&network.seen.scope), &renewed.to_bytes())?;
        }
        tx.set_setting(&SeenDirectory::setting(&network.seen.scope), &network.seen.seen.to_bytes())?;
        // Stored: it is not carried along from packet to packet.
        network.seen = SeenDirectory::default();
        if self.before.network.is_none() {
            self.before.network = Some(self.network.clone());
        }
        let same = self.network.as_ref().is_some_and(|old| {
            old.server.id == network.server.id && old.hide_reading == network.hide_reading
        });
        // What is read directly because no relay offered tunnels goes through one as soon as one does.
        let hides = network.hide_reading && Tunnels::are_offered(&network.directory, &network.server);
        let mut closed = Vec::new();
        for (id, topic) in &mut self.topics {
            let is_direct = topic.tunnel.is_none();
            if let Some(session) = topic.session.as_mut()
                && (!same || (hides && is_direct && session.conn().is_some()))
            {
                session.stop();
                closed.push(*id);
            }
            // What is blocked is looked at again, and the app told if it no longer is.
            topic.blocked_until = None;
            self.touched.insert(*id);
        }
        // The old sessions' closes are handed out before the new ones are made.
        for id in closed {
            self.publish_session(id, staged);
            if let Some(topic) = self.topics.get_mut(&id) {
                topic.session = None;
            }
        }
        self.freshness.configured(network.sending.records_as_of, now, entropy);
        // The first cover packet's time is drawn anew.
        self.cover = Cover::default();
        self.network = Some(network);
        self.server_key = Some(key);
        Ok(Reply::Done)
    }

    fn status(&self, id: TopicId, now: Millis) -> Result<Reply, CommandError> {
        let topic = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?;
        let (queued, sent) = topic.outbox.counts();
        Ok(Reply::Status(TopicStatus {
            connection: topic.shown,
            cursor: topic.cursor,
            queued,
            sent,
            blocked: topic.blocked.clone(),
            unreadable: topic.unreadable,
            clock_skew: self.clock_skew,
            read_path: self.read_path(id, now),
            awaiting_key: topic.closed.as_ref().map(|closed| closed.at.epoch),
            round_trip_ms: topic.outbox.round_trip_ms(),
        }))
    }
}

pub(super) fn server_key(network: &Network) -> Result<VerifyingKey, CommandError> {
    VerifyingKey::from_bytes(&network.server.id.0).map_err(|_| CommandError::ServerKey)
}

/// Which operation of a log comes next: its number, and what stands before it.
pub(super) fn next_in_log(
    tx: &Tx<'_>,
    author: &Author,
    log: &LogId,
) -> Result<(u32, Option<OperationId>), CommandError> {
    Ok(match tx.log_head(author, log)? {
        None => (0, None),
        Some(head) => (head.seq_num.checked_add(1).ok_or(PublishError::LogFull)?, Some(head.id)),
    })
}

pub(super) fn has_room(rows: usize, bytes: u64, len: usize) -> bool {
    rows < MAX_OUTBOX_ROWS && bytes.saturating_add(len as u64) <= MAX_OUTBOX_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::io::Input;
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::ops::DeviceKey;
    use crate::store::Store;

    fn say(text: &str, topic: TopicId) -> Command {
        let content = Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        };
        Command::Publish { topic, content }
    }

    #[test]
    fn a_full_outbox_refuses_one_command_and_not_its_whole_batch() {
        let mut store = Store::in_memory().unwrap();
        let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), Millis(0)).unwrap();
        let mut entropy = SeededEntropy::new([2; 32]);
        let ticket = Ticket::generate_private(&mut entropy).unwrap();
        let topic = ticket.topic();
        let mut run = |state: &mut State, commands: Vec<Command>| -> Vec<Result<Reply, CommandError>> {
            let mut tx = store.begin(crate::store::Durability::Full).unwrap();
            let mut staged = Vec::new();
            for command in commands {
                let input = Input::Command { id: CommandId(0), command };
                state.apply(&mut tx, Millis(0), &mut entropy, input, &mut staged).unwrap();
            }
            tx.commit().unwrap();
            let reply = |output| match output {
                Output::Reply { result, .. } => Some(result),
                _ => None,
            };
            staged.into_iter().filter_map(reply).collect()
        };
        run(&mut state, vec![Command::OpenTopic { ticket }]);
        run(&mut state, vec![say("short", topic)]);
        let short = state.outbox_bytes;
        // Room for exactly one more of the same length.
        state.outbox_bytes = MAX_OUTBOX_BYTES - short;
        let replies =
            run(&mut state, vec![say(&"long".repeat(1000), topic), say("again", topic), say("third", topic)]);
        assert!(matches!(replies[0], Err(CommandError::OutboxFull)), "{replies:?}");
        assert!(matches!(replies[1], Ok(Reply::Published(_))), "at the limit: {replies:?}");
        assert!(matches!(replies[2], Err(CommandError::OutboxFull)), "past it: {replies:?}");
        state.outbox_bytes = 0;
        state.outbox_rows = MAX_OUTBOX_ROWS - 1;
        let replies = run(&mut state, vec![say("last", topic), say("one more", topic)]);
        assert!(matches!(replies[..], [Ok(_), Err(CommandError::OutboxFull)]), "{replies:?}");
    }
    #[test]
    fn a_publish_with_a_key_happens_once_also_after_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.db");
        let ticket = Ticket::generate_private(&mut SeededEntropy::new([2; 32])).unwrap();
        let (topic, mut first) = (ticket.topic(), None);
        let once = |text: &str, key: Vec<u8>| {
            let content = Content::MessageSend {
                text: text.into(),
                reply: None,
                mentions: Vec::new(),
                attachments: Vec::new(),
            };
            Command::PublishOnce { topic, content, key: key.into() }
        };
        for _ in 0..2 {
            let store = Store::open(&path, crate::store::StoreOptions::default()).unwrap();
            let device = DeviceKey::from_bytes(&[1; 32]);
            let mut engine = super::super::Engine::open(store, device, Millis(0)).unwrap();
            let mut entropy = SeededEntropy::new([3; 32]);
            let longest = vec![7; MAX_IDEMPOTENCY_KEY];
            let commands = [
                Command::OpenTopic { ticket: ticket.clone() },
                once("hello", longest.clone()),
                once("something else", longest.clone()),
                once("too short", Vec::new()),
                once("too long", vec![7; MAX_IDEMPOTENCY_KEY + 1]),
            ];
            let inputs = commands.into_iter().zip(0..);
            let inputs = inputs.map(|(command, id)| Input::Command { id: CommandId(id), command }).collect();
            engine.handle(Millis(0), &mut entropy, inputs).unwrap();
            let mut replies = Vec::new();
            while let Some(output) = engine.poll_output() {
                if let Output::Reply { result, .. } = output {
                    replies.push(result);
                }
            }
            let [_, Ok(Reply::Published(hello)), Ok(Reply::Published(again)), short, long] = &replies[..]
            else {
                panic!("{replies:?}")
            };
            assert_eq!(hello, again);
            assert_eq!(*first.get_or_insert(*hello), *hello, "also in the next life");
            for refused in [short, long] {
                assert!(matches!(refused, Err(CommandError::IdempotencyKey { .. })), "{refused:?}");
            }
            assert_eq!(engine.reader().unwrap().count_operations().unwrap(), 1);
            engine.close().unwrap();
        }
    }
}
