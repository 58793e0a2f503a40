//! Who asks to join a space and is let in is handed what opens it, by whoever it asked.

use super::super::upkeep::store_only;
use super::*;
use crate::limits::{MAX_ASK_ROUNDS, MAX_TOPICS};
use crate::ops::{Body, TicketBytes, VerifiedOperation, inbox_log};

impl State {
    /// Hands what opens the space's log to who asked this device to be added, and was: by whomever.
    pub(super) fn welcome(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
    ) -> Result<(), StoreError> {
        let me = self.author();
        let requests = tx.requests(&look.space)?;
        if !requests.iter().any(|request| request.claim.is_none() && request.author != me) {
            return Ok(());
        }
        // Not what is about to be left.
        let Some(id) = self.newest(&look.space) else { return Ok(()) };
        let stays = self.topics.get(&id).is_some_and(super::super::state::Topic::may_move);
        let Some(row) = tx.topic(id)?.filter(|_| stays) else { return Ok(()) };
        if self.is_outlived(tx, look, id)?.is_some() {
            return Ok(());
        }
        for request in requests {
            if request.claim.is_some() || request.author == me {
                continue;
            }
            let identity = tx.identity_of(&request.author)?;
            let access = tx.look_at_space(look.space, |graph| graph.access_of(request.author, identity))?;
            let ticket = match access {
                Some(Access::Write) => row.ticket.clone(),
                Some(Access::Read) => row.ticket.read_only(),
                None => continue,
            };
            let Ok(bytes) = ticket.to_bytes().as_slice().try_into() else { continue };
            let welcome = EpochKeys::Welcome { request: request.id, ticket: TicketBytes(bytes) };
            let content = Content::EpochKeys(Box::new(welcome));
            if store_only(self.send_to_inbox(tx, now, entropy, request.author, content))?.is_some() {
                tx.remove_request(&look.space, &request.id)?;
            }
        }
        Ok(())
    }

    /// Whether who asked to join is let in, and is handed once more what opens the space: who asks again has not got it.
    pub(in super::super) fn welcomes_again(
        &self,
        tx: &Tx<'_>,
        asked: &VerifiedOperation,
        space: &LogId,
    ) -> Result<bool, StoreError> {
        let (me, author) = (self.author(), asked.author());
        if author == me || tx.belongs(space)?.is_none() {
            return Ok(false);
        }
        let identity = tx.identity_of(&author)?;
        if tx.look_at_space(*space, |graph| graph.access_of(author, identity))?.is_none() {
            return Ok(false);
        }
        let mut welcomes = 0;
        for said in tx.log_entries(&me, &inbox_log(&me, &author), 0, u32::MAX, MAX_TOPICS)? {
            let Some(Ok(body)) = said.body.as_deref().map(Body::decode) else { continue };
            let Content::EpochKeys(keys) = body.content else { continue };
            let answers = matches!(&*keys, EpochKeys::Welcome { request, .. } if *request == asked.id());
            welcomes += u32::from(answers);
        }
        Ok(welcomes < MAX_ASK_ROUNDS)
    }

    /// Takes what opens a space from the device that this one asked to join it, once.
    pub(in super::super) fn take_welcome(
        &mut self,
        tx: &Tx<'_>,
        (id, from): (OperationId, Author),
        request: &OperationId,
        ticket: &TicketBytes,
    ) -> Result<(), StoreError> {
        let me = self.author();
        let Some(asked) = stored(tx, request)? else { return Ok(()) };
        let Content::JoinRequest { space, .. } = asked.body().content else { return Ok(()) };
        let is_answer = asked.author() == me && asked.log() == inbox_log(&me, &from);
        let waits = tx.requests(&space)?.iter().any(|row| row.id == *request);
        if let Ok(ticket) = Ticket::from_bytes(&ticket.0)
            && is_answer
            && waits
            && ticket.log() == space
            && !ticket.is_public()
        {
            self.own_news.welcomes.push((id, *request, ticket));
        }
        Ok(())
    }

    /// Opens a space that this device asked to join, and reads it: who it is a member by then.
    pub(in super::super) fn join(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        (welcome, request, ticket): (OperationId, OperationId, Ticket),
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let space = ticket.log();
        match self.meet(tx, now, ticket, staged) {
            Ok(_) => {}
            Err(CommandError::TooManyTopics) => return self.hold(tx, &welcome),
            Err(error) => return store_error(Err::<Reply, _>(error)),
        }
        tx.remove_request(&space, &request)?;
        if let Some(topic) = self.newest(&space) {
            store_only(self.subscribe(topic, true))?;
            store_only(self.share_log(tx, now, space, staged))?;
        }
        self.keeping.hurry(space, now);
        Ok(())
    }
}
