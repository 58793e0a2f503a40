//! Spaces as a device takes part in them: what its operations cite, which rooms it opens, whom it lets in.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::event::Event;
use super::io::{Output, Reply};
use super::keeping::is_about_keys;
use super::receive::News;
use super::refusal::CommandError;
use super::state::State;
use crate::entropy::Entropy;
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::ops::{
    Action, Body, Content, CreateError, Hidden, InviteTerms, Level, RoomKeys, RoomText, SpaceText, Ticket,
    room_id, space_id,
};
use crate::projector::Change;
use crate::space::{Invite, Judgement, Membership, claim_mac, verify_claim};
use crate::store::{StoreError, Tx, is_for_managers};
use crate::topic::{TopicId, WriteKey};

/// Most rounds in which what a device does about a space changes that space again.
const ROUNDS: usize = 4;

/// What an operation cites, when a space has a say where it is published.
///
/// # Errors
/// It would not count: it is not even signed.
pub(super) fn cited(
    tx: &Tx<'_>,
    author: Author,
    log: &LogId,
    content: &Content,
) -> Result<Vec<OperationId>, CommandError> {
    // They are said in inboxes, to one device alone.
    if content.is_of_inboxes() {
        return Err(CommandError::InboxOnly);
    }
    let Some(belongs) = tx.belongs(log)? else {
        return match content {
            Content::Membership(action)
                if !matches!(**action, Action::SpaceCreate { .. } | Action::DeviceRevoke { .. }) =>
            {
                Err(CommandError::NotASpace)
            }
            _ => Ok(Vec::new()),
        };
    };
    if belongs.room && matches!(content, Content::Membership(_)) {
        return Err(CommandError::NotASpace);
    }
    tx.look_at_space(belongs.space, |graph| {
        let ends_it = matches!(content, Content::Membership(action) if graph.ends_suspension(action));
        if !ends_it && graph.is_suspended() {
            return Err(CommandError::UpdateRequired);
        }
        let heads = graph.cite(author);
        if let Content::Membership(action) = content {
            if matches!(**action, Action::Leave) && is_last_manager(graph, author) {
                return Err(CommandError::LastManager);
            }
            graph.allows(author, action).map_err(CommandError::Refused)?;
            return Ok(heads);
        }
        // With these others hand it keys, whatever it may write itself.
        if is_about_keys(content) && !is_for_managers(content) {
            return Ok(heads);
        }
        // A room that takes no messages moves all the same, and only managers move it.
        let managing = is_for_managers(content);
        match graph.judge(author, &heads, (belongs.room && !managing).then_some(*log)) {
            Judgement::Counts { manager, .. } if manager || !managing => Ok(heads),
            _ => Err(CommandError::MayNotWrite),
        }
    })?
}

/// Keeps the pause that a room wants between two messages of a member. Managers are asked for none.
///
/// # Errors
/// [`CommandError::Cooldown`]: it is not over.
pub(super) fn cool_down(
    tx: &Tx<'_>,
    author: Author,
    log: &LogId,
    content: &Content,
    now: Millis,
) -> Result<(), CommandError> {
    let (Content::MessageSend { .. }, Some(belongs)) = (content, tx.belongs(log)?.filter(|it| it.room))
    else {
        return Ok(());
    };
    let pause = tx.look_at_space(belongs.space, |graph| {
        let pause = graph.cooldown(*log).filter(|_| !graph.standing(author).may_manage())?;
        Some(pause.saturating_mul(1000))
    })?;
    let Some(pause) = pause.filter(|pause| *pause > 0) else { return Ok(()) };
    let name = format!("said:{log}");
    let last = tx.setting(&name)?.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map(u64::from_be_bytes);
    // A clock that was set back makes the pause no longer than it is.
    let left_ms = last.map_or(0, |last| last.saturating_add(pause).saturating_sub(now.0).min(pause));
    if left_ms > 0 {
        return Err(CommandError::Cooldown { left_ms });
    }
    Ok(tx.set_setting(&name, &now.0.to_be_bytes())?)
}

/// Whether nobody could manage the space any more, and somebody would be left in it.
fn is_last_manager(graph: &Membership, author: Author) -> bool {
    let Some(state) = graph.current() else { return false };
    let Some(own) = graph.identity_in(&state, author) else { return false };
    let managers = state.levels.iter().filter(|(_, level)| **level == Level::Manage);
    state.levels.len() > 1 && managers.map(|(who, _)| *who).eq([own])
}

pub(super) fn random(entropy: &mut dyn Entropy) -> Result<Zeroizing<[u8; 32]>, CommandError> {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(&mut *bytes)?;
    Ok(bytes)
}

impl State {
    /// The topic a conversation lives in now.
    pub(super) fn topic_of(&self, log: LogId) -> Result<TopicId, CommandError> {
        self.newest(&log).ok_or(CommandError::UnknownTopic)
    }

    pub(super) fn create_space(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        about: SpaceText,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let nonce = *random(entropy)?;
        let (write, secret) = (random(entropy)?, random(entropy)?);
        let space = space_id(self.author(), &nonce);
        let ticket = Ticket::private(space, 0, WriteKey::from_seed(*write), *secret);
        let certificate = self.device.certificate().copied().map(Box::new);
        let create = Content::Membership(Box::new(Action::SpaceCreate { nonce, about, certificate }));
        // Before a topic is opened for it: texts may be too long.
        Body::new(create.clone()).encode().map_err(CreateError::from)?;
        self.open_topic(tx, now, ticket, staged)?;
        let topic = self.topic_of(space)?;
        self.publish(tx, now, topic, create, staged)?;
        self.share_log(tx, now, space, staged)?;
        Ok(Reply::Space { space, topic })
    }

    pub(super) fn create_room(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        about: RoomText,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let nonce = *random(entropy)?;
        let keys = RoomKeys { write: Hidden(*random(entropy)?), secret: Hidden(*random(entropy)?) };
        self.act(tx, now, space, Action::RoomCreate { nonce, about, keys }, staged)?;
        let room = room_id(space, &nonce);
        self.tend_spaces(tx, now, staged)?;
        Ok(Reply::Space { space: room, topic: self.topic_of(room)? })
    }

    pub(super) fn create_invite(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        (space, level, expires, once): (LogId, Level, Option<Millis>, bool),
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let token = Hidden(*random(entropy)?);
        let terms = InviteTerms { token: token.clone(), level, expires, once };
        let ticket = tx.topic(self.topic_of(space)?)?.ok_or(CommandError::UnknownTopic)?.ticket;
        match self.act(tx, now, space, Action::InviteCreate(terms), staged)? {
            Reply::Published(id) => Ok(Reply::Invite(Box::new(Invite { ticket, id, token }))),
            other => Ok(other),
        }
    }

    /// Opens the space of an invitation; the claim goes to a manager's inbox as soon as one is known.
    pub(super) fn accept_invite(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        invite: &Invite,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let space = invite.ticket.log();
        self.open_topic(tx, now, invite.ticket.clone(), staged)?;
        let topic = self.topic_of(space)?;
        tx.put_claim(&space, &invite.id, &invite.token, now)?;
        self.upkeep.claims = true;
        self.keeping.hurry(space, now);
        self.share_log(tx, now, space, staged)?;
        Ok(Reply::Space { space, topic })
    }

    /// Does something in a space.
    pub(super) fn act(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        action: Action,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let topic = self.topic_of(space)?;
        self.publish(tx, now, topic, Content::Membership(Box::new(action)), staged)
    }

    /// Does what is due in spaces that changed: opens their rooms, lets in who claims an invitation of this device.
    pub(super) fn tend_spaces(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let changes = tx.settle_spaces()?;
            self.tell_changes(tx, changes, staged)?;
            let spaces = tx.take_space_news();
            if spaces.is_empty() {
                break;
            }
            self.upkeep.claims = true;
            // Before anything is said there: nobody else knows what stands behind a close, and what cites that waits for it
            // for ever.
            for space in &spaces {
                self.waiting.remove(space);
                self.judge_closes(tx, now, [*space], staged)?;
            }
            let changes = tx.settle_spaces()?;
            self.tell_changes(tx, changes, staged)?;
            for space in spaces {
                self.introduce(tx, now, space, staged)?;
                self.tell_revocations(tx, now, space, staged)?;
                self.open_rooms(tx, now, space, staged)?;
                self.answer_claims(tx, now, space, staged)?;
                self.answer_leaves(tx, now, space, staged)?;
                self.take_keys_by_inbox(tx, now, space)?;
                let rooms = tx.logs_of_space(&space)?.into_iter().filter(|log| *log != space);
                self.judge_closes(tx, now, rooms, staged)?;
                self.keeping.hurry(space, now);
            }
        }
        Ok(())
    }

    /// What changed by operations in a space's log, told in the topic of the space.
    fn tell_changes(
        &self,
        tx: &Tx<'_>,
        changes: Vec<Change>,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for change in Change::merge(changes) {
            let space = tx.belongs(&change.log)?.map_or(change.log, |belongs| belongs.space);
            let topics = [self.topic_of(change.log).ok(), self.topic_of(space).ok()];
            if let Some(topic) = topics.into_iter().flatten().next() {
                staged.push(Output::Event(Event::Changed { topic, changes: vec![change] }));
            }
        }
        Ok(())
    }

    /// Tells a space whose device this is, once the person is a member: what it does there counts from then on.
    fn introduce(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(certificate) = self.device.certificate().copied() else { return Ok(()) };
        let (author, add) = (self.author(), Action::DeviceAdd { certificate });
        // The space judges what is known to it: that the person is a member, and the device a new one.
        if tx.look_at_space(space, |graph| graph.allows(author, &add).is_err())? {
            return Ok(());
        }
        self.act_or_tell(tx, now, space, add, staged)
    }

    /// Rotations that cite what has just come.
    pub(super) fn judge_closes(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        logs: impl IntoIterator<Item = LogId>,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for log in logs {
            for id in self.by_log.topics(&log) {
                if self.topics.get(&id).is_some_and(|topic| topic.contested && topic.closed.is_none()) {
                    let mut news = News::default();
                    self.judge_rotations(tx, now, id, &mut news)?;
                    news.tell(tx, id, staged)?;
                }
            }
        }
        Ok(())
    }

    /// Rooms of which this device may read. One that cannot be opened (there are as many topics as there may be) is
    /// tried again when the space changes.
    pub(super) fn open_rooms(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let author = self.author();
        if tx.look_at_space(space, |graph| graph.standing(author))?.level < Some(Level::Read) {
            return Ok(());
        }
        for ticket in tx.room_tickets(space)? {
            self.yield_log(tx, now, &ticket.log(), staged)?;
            if self.topic_of(ticket.log()).is_ok() {
                continue;
            }
            store_error(self.open_topic(tx, now, ticket, staged))?;
        }
        self.follow_renewals(tx, now, space, staged)
    }

    /// Whether the space has moved since an invitation was made, or somebody was let in, or out, after what they knew of
    /// it when they claimed: it lets nobody in (again).
    fn is_over(
        tx: &Tx<'_>,
        space: LogId,
        epoch: u32,
        (invite, claim): (&OperationId, &OperationId),
        who: Identity,
    ) -> Result<bool, StoreError> {
        // The ticket beside it opens the epoch it was made in.
        if tx.place_of(invite)?.is_some_and(|made| made.place.is_placed() && made.place.epoch < epoch) {
            return Ok(true);
        }
        let Some((_, body)) = tx.operation_bytes(claim)? else { return Ok(true) };
        let knew = Body::decode(&body).map(|body| body.auth_heads).unwrap_or_default();
        tx.look_at_space(space, |graph| graph.came_or_went_since(who, &knew))
    }

    /// Lets in whoever claims an invitation in this device's inbox: a claim goes to the devices that are to answer it, and
    /// not to all managers' at once.
    fn answer_claims(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let author = self.author();
        // Who claimed where the space lives no more, or is about to leave, does not read where it goes on: whoever was let
        // in there would be a member who is shut out. It needs another invitation.
        let Some(topic) = self.newest(&space).and_then(|id| self.topics.get(&id)) else { return Ok(()) };
        if topic.rotates || topic.closed.is_some() {
            return Ok(());
        }
        let epoch = topic.keys.epoch();
        for request in tx.requests(&space)? {
            // Its own are for others to answer.
            let Some((invite, mac)) = request.claim.filter(|_| request.author != author) else { continue };
            let member = tx.identity_of(&request.author)?;
            let over = Self::is_over(tx, space, epoch, (&invite, &request.id), member)?;
            let add = tx.look_at_space(space, |graph| {
                let Some(Action::InviteCreate(terms)) = graph.action(invite) else { return None };
                let expired = terms.expires.is_some_and(|at| at <= now);
                let expected = claim_mac(&terms.token, space, invite, member, request.author);
                if expired || !verify_claim(&mac, &expected) || graph.is_answered(request.id) {
                    return None;
                }
                let level = terms.level;
                let add = Action::Add { member, level, invite: Some(invite), claim: Some(request.id) };
                graph.allows(author, &add).is_ok().then_some(add)
            })?;
            let Some(add) = add.filter(|_| !over) else { continue };
            // What cannot be published now is tried again when the space changes.
            store_error(self.act(tx, now, space, add, staged))?;
        }
        Ok(())
    }
}

/// What the batch must fail with. Other errors are nobody's: nothing was asked for.
pub(super) fn store_error<T>(result: Result<T, CommandError>) -> Result<(), StoreError> {
    match result {
        // It was just made, so nobody else holds it.
        Err(CommandError::Store(error)) => Arc::try_unwrap(error).map_or(Ok(()), Err),
        Ok(_) | Err(_) => Ok(()),
    }
}
