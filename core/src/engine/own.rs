//! The topic that a person's devices share: which topics they have, how far they have read, which of them are gone.
//!
//! It is private to them: the first device makes it when it pairs the second, later ones get its ticket with their
//! welcome ([`crate::pairing`]). What other devices than the person's say in it counts for nothing.

use super::io::{Output, Reply};
use super::receive::News;
use super::refusal::CommandError;
use super::spaces::store_error;
use super::state::State;
use crate::entropy::Entropy;
use crate::identity::{Author, Certificate, Identity, LogId, Millis, OperationId, Revocation, ThreadId};
use crate::ops::{Action, Body, Content, OwnDevices, OwnThread, Ticket, TicketBytes, VerifiedOperation};
use crate::projector::{Aggregate, Change, Position};
use crate::store::{Store, StoreError, Tx};
use crate::topic::TopicId;

use super::event::Event;
use super::past::Handed;
use crate::tree::Set;

impl State {
    /// At start: which topic it is. It is always read.
    pub(super) fn load_own(&mut self, store: &Store, now: Millis) -> Result<(), StoreError> {
        self.own = None;
        let Some(ticket) = store.own_topic()? else { return Ok(()) };
        self.own = Some(ticket.log());
        self.keeping.hurry(ticket.log(), now);
        for topic in self.topics.values_mut().filter(|topic| topic.keys.log() == ticket.log()) {
            topic.subscribed = true;
        }
        Ok(())
    }

    /// Opens the topic of the person's devices: this one, or the one there is; made where there is none.
    pub(super) fn own_topic(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        ticket: Option<Ticket>,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        if let Some(known) = tx.own_topic()? {
            if ticket.as_ref().is_some_and(|ticket| ticket.log() != known.log()) {
                return Err(CommandError::OwnTopic);
            }
            // Paired again: it was left behind, or its database is one from before.
            if let Some(ticket) = ticket.filter(|ticket| ticket.epoch() > known.epoch()) {
                tx.set_own_topic(&ticket)?;
                self.meet_own(tx, now, staged)?;
                self.keeping.hurry(known.log(), now);
            }
            return self.newest_ticket(tx, known.log());
        }
        let ticket = match ticket {
            Some(ticket) => ticket,
            None => Ticket::generate_private(entropy)?,
        };
        self.open_topic(tx, now, ticket.clone(), staged)?;
        tx.set_own_topic(&ticket)?;
        self.own = Some(ticket.log());
        self.keeping.hurry(ticket.log(), now);
        if let Some(topic) = self.topics.get_mut(&ticket.topic()) {
            topic.subscribed = true;
        }
        self.slots.touch(ticket.topic());
        self.touched.insert(ticket.topic());
        self.count_own_devices(tx)?;
        Ok(Reply::Ticket(ticket))
    }

    /// Goes where the topic of the person's devices lives as far as this one was told when it was paired: once it has read
    /// that the topic is no more where it knows it.
    pub(super) fn meet_own(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(ticket) = tx.own_topic()? else { return Ok(()) };
        let newest = self.newest(&ticket.log()).and_then(|id| self.topics.get(&id));
        let is_behind = newest.is_some_and(|it| it.closed.is_some() && it.keys.epoch() < ticket.epoch());
        if is_behind { store_error(self.meet(tx, now, ticket, staged)) } else { Ok(()) }
    }

    fn newest_ticket(&self, tx: &Tx<'_>, log: LogId) -> Result<Reply, CommandError> {
        let row = tx.topic(self.topic_of(log)?)?.ok_or(CommandError::UnknownTopic)?;
        Ok(Reply::Ticket(row.ticket))
    }

    /// Which devices may move the topic to new keys: the person's.
    fn count_own_devices(&self, tx: &Tx<'_>) -> Result<(), StoreError> {
        let Some(log) = self.own else { return Ok(()) };
        let mut devices = tx.devices_of(&self.identity())?;
        devices.extend([self.author(), Author(self.identity().0)]);
        let revoked = tx.revoked_devices()?;
        devices.retain(|device| !revoked.contains(device));
        tx.set_rotators(&log, &devices)
    }

    /// Makes this device one of the person's who certified it.
    pub(super) fn certify(&mut self, tx: &Tx<'_>, certificate: Certificate) -> Result<Reply, CommandError> {
        if self.device.certificate().is_some_and(|known| known.identity != certificate.identity) {
            return Err(CommandError::Certified);
        }
        self.device = self.device.clone().certified(certificate).map_err(CommandError::Certificate)?;
        self.count_own_devices(tx)?;
        // So is who talks to this device alone.
        tx.outdate_bundle_logs()?;
        self.upkeep.bundles = true;
        // Every space is told, also what has come already.
        for row in tx.spaces()? {
            tx.note_space_news(row.space);
        }
        Ok(Reply::Done)
    }

    /// Revokes a device of the person: tells the other ones, and every space. Who manages a space moves its topics.
    pub(super) fn revoke_device(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        revocation: &Revocation,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        revocation.verify().map_err(CommandError::Certificate)?;
        if revocation.identity != self.identity() || revocation.device == self.author() {
            return Err(CommandError::NotOwnDevice);
        }
        self.note_revocation(tx, now, revocation)?;
        self.upkeep.bundles = true;
        self.hurry_own(now);
        if let Some(topic) = self.own.and_then(|log| self.topic_of(log).ok()) {
            let revoke = Action::DeviceRevoke { revocation: *revocation };
            self.publish(tx, now, topic, Content::Membership(Box::new(revoke)), staged)?;
        }
        for row in tx.spaces()? {
            self.tell_revocations(tx, now, row.space, staged)?;
        }
        Ok(Reply::Done)
    }

    /// Which devices of this person one of them says are revoked, where they are among themselves, and in which operations.
    pub(super) fn revocations_by(
        &self,
        tx: &Tx<'_>,
        log: &LogId,
        author: &Author,
    ) -> Result<Vec<(OperationId, Author)>, StoreError> {
        let mut found = Vec::new();
        for (id, said) in tx.said_among_own(author, log)? {
            let Ok(body) = Body::decode(&said) else { continue };
            let Content::Membership(action) = body.content else { continue };
            let Action::DeviceRevoke { revocation } = *action else { continue };
            if revocation.identity == self.identity() && revocation.verify().is_ok() {
                found.push((id, revocation.device));
            }
        }
        Ok(found)
    }

    /// The topic of the person's devices is looked at in this batch.
    fn hurry_own(&mut self, now: Millis) {
        if let Some(log) = self.own {
            self.keeping.hurry(log, now);
        }
    }

    fn note_revocation(&self, tx: &Tx<'_>, now: Millis, revocation: &Revocation) -> Result<(), StoreError> {
        tx.put_revocation(revocation)?;
        tx.end_sessions_with(&revocation.device, now)?;
        self.count_own_devices(tx)
    }

    /// Tells a space which of the person's devices were revoked: also one that the person joins later, which the
    /// device could join, too.
    pub(super) fn tell_revocations(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for revocation in tx.revocations()? {
            let (author, revoke) = (self.author(), Action::DeviceRevoke { revocation });
            if tx.look_at_space(space, |graph| graph.allows(author, &revoke).is_ok())? {
                self.act_or_tell(tx, now, space, revoke, staged)?;
            }
        }
        Ok(())
    }

    /// Opens a topic, and lets the person's other devices have it, too.
    pub(super) fn open_shared(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        ticket: Ticket,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let is_new = !self.topics.contains_key(&self.at_hand(ticket.topic()));
        let reply = self.open_topic(tx, now, ticket.clone(), staged)?;
        if is_new {
            self.share_topic(tx, now, &ticket, staged)?;
        }
        Ok(reply)
    }

    /// Lets the person's other devices have a conversation, too.
    pub(super) fn share_log(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        log: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), CommandError> {
        let row = tx.topic(self.topic_of(log)?)?.ok_or(CommandError::UnknownTopic)?;
        Ok(self.share_topic(tx, now, &row.ticket, staged)?)
    }

    /// Lets the person's other devices have a topic, too.
    pub(super) fn share_topic(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        ticket: &Ticket,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(own) = self.own.filter(|own| *own != ticket.log()) else { return Ok(()) };
        let Ok(topic) = self.topic_of(own) else { return Ok(()) };
        let Ok(bytes) = ticket.to_bytes().as_slice().try_into() else { return Ok(()) };
        let said = OwnDevices::Topic { ticket: TicketBytes(bytes) };
        store_error(self.publish(tx, now, topic, Content::OwnDevices(Box::new(said)), staged))
    }

    /// Notes how far the person has read a conversation, and tells their other devices.
    pub(super) fn set_read(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        log: LogId,
        upto: &Position,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        if !tx.set_read(&log, upto)? {
            return Ok(Reply::Done);
        }
        if let Some(topic) = self.own.and_then(|own| self.topic_of(own).ok())
            && let Some(message) = tx.operation_at(&log, upto)?
        {
            store_error(self.publish(tx, now, topic, Content::ReadSet { log, message }, staged))?;
        }
        Ok(Reply::Done)
    }

    /// What stands in the topic of the person's devices, and revocations of these wherever they stand: what the identity has
    /// signed holds, whoever passes it on. One that a space hears of first is not to be told anything meanwhile. (Of those
    /// from before this device was certified, the others have taken care.)
    pub(super) fn hear_own(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        operation: &VerifiedOperation,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let author = operation.author();
        if let Content::Membership(action) = &operation.body().content
            && let Action::DeviceRevoke { revocation } = &**action
            && revocation.identity == self.identity()
            && author != self.author()
            && self.device.certificate().is_none_or(|own| own.created <= revocation.revoked)
            && !tx.is_revoked(&revocation.device)?
            && revocation.verify().is_ok()
        {
            self.note_revocation(tx, now, revocation)?;
            self.own_news.revoked = true;
        }
        if self.own != Some(operation.log()) || author == self.author() {
            return Ok(());
        }
        if tx.identity_of(&author)? != self.identity() || tx.is_revoked(&author)? {
            return Ok(());
        }
        if operation.certificate().is_some() {
            self.count_own_devices(tx)?;
            self.own_news.heard = true;
        }
        match &operation.body().content {
            Content::ReadSet { log, message }
                if tx.read_elsewhere((&author, operation.seq_num()), log, message)? =>
            {
                news.events.extend(self.read_news(*log));
            }
            Content::OwnDevices(said) => match &**said {
                OwnDevices::Topic { ticket } => self.own_news.hear_topic(operation.id(), ticket),
                OwnDevices::Thread(thread) => self.own_news.hear_thread(operation.id(), Some(id), thread),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// Messages have come: perhaps another device has read them.
    pub(super) fn catch_up_reading(
        &self,
        tx: &Tx<'_>,
        topic: TopicId,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let Some(log) = self.topics.get(&topic).map(|topic| topic.keys.log()) else { return Ok(()) };
        if self.own.is_some() && tx.catch_up_reading(&log)? {
            news.events.extend(self.read_news(log));
        }
        Ok(())
    }

    /// Tells the app that there is less to read.
    fn read_news(&self, log: LogId) -> Option<Event> {
        let topic = self.known_as(self.topic_of(log).ok()?);
        let changes = vec![Change { log, aggregate: Aggregate::Room, ids: vec![log.0], keys: Vec::new() }];
        Some(Event::Changed { topic, changes })
    }

    /// Does what the person's other devices have said in this batch.
    pub(super) fn tend_own(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.take_held(tx, now, staged)?;
        loop {
            self.take_introduced(tx, now, staged)?;
            self.tend_own_news(tx, now, staged)?;
            // What was said of threads introduces devices, too.
            if self.own_news.introduced.is_empty() {
                return Ok(());
            }
        }
    }

    fn tend_own_news(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let OwnNews { tickets, welcomes, said, mut threads, handed, revoked, heard, introduced: _ } =
            std::mem::take(&mut self.own_news);
        if heard {
            // Spaces that have not heard of it do nothing for it.
            self.keeping.hurry_all(now);
        }
        for (id, ticket) in tickets {
            match self.meet(tx, now, ticket, staged) {
                Err(CommandError::TooManyTopics) => self.hold(tx, &id)?,
                // One that is open, or that cannot be opened, is as well known as it can be.
                met => store_error(met)?,
            }
        }
        for welcome in welcomes {
            self.join(tx, now, welcome, staged)?;
        }
        for (id, topic, said) in said {
            if self.lacks_room(tx, now, &said)? {
                self.hold(tx, &id)?;
            }
            self.meet_thread(tx, now, topic, &said, staged)?;
        }
        for handed in handed {
            self.take_handed_past(tx, now, &handed, staged)?;
        }
        threads.extend(std::mem::take(&mut self.own_news.threads));
        for thread in threads {
            self.say_thread(tx, now, thread, staged)?;
        }
        if revoked {
            self.upkeep.bundles = true;
            self.hurry_own(now);
            for row in tx.spaces()? {
                self.tell_revocations(tx, now, row.space, staged)?;
            }
        }
        Ok(())
    }
}

/// What the person's other devices, and who lets this one in, have said in the batch at hand.
#[derive(Debug, Default)]
pub(super) struct OwnNews {
    /// Topics that they have, and in which operation each was named.
    tickets: Vec<(OperationId, Ticket)>,
    /// What opens spaces that this device asked to join: in which operation it came, and what this device asked.
    pub(super) welcomes: Vec<(OperationId, OperationId, Ticket)>,
    /// What they say of direct threads, in which operation, and in which topic where that is known.
    said: Vec<(OperationId, Option<TopicId>, OwnThread)>,
    /// Direct threads of which they are to be told.
    pub(super) threads: Set<ThreadId>,
    /// What they hand over of direct threads.
    pub(super) handed: Vec<Handed>,
    revoked: bool,
    /// A device says whose it is.
    heard: bool,
    /// People of whom a device is known that was not.
    pub(super) introduced: Set<Identity>,
}

impl OwnNews {
    /// Another device has a topic.
    pub(super) fn hear_topic(&mut self, id: OperationId, ticket: &TicketBytes) {
        self.tickets.extend(Ticket::from_bytes(&ticket.0).ok().map(|ticket| (id, ticket)));
    }

    /// Another device says how far a thread is.
    pub(super) fn hear_thread(&mut self, id: OperationId, topic: Option<TopicId>, thread: &OwnThread) {
        self.said.push((id, topic, thread.clone()));
    }
}
