//! Keys that were handed to this device or left behind: which of them it takes, and what it asks for.

use super::super::asking::Asking;
use super::super::event::Event;
use super::*;

impl State {
    /// Takes keys that were handed to this device or left behind, and asks for what does not open.
    pub(super) fn take_keys(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        (logs, asking): (&[LogId], &mut Asking),
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut next = None;
        for log in logs {
            self.yield_log(tx, now, log, staged)?;
            let mut news = News::default();
            let failed = self.take_handed(tx, now, look, log, &mut news)?;
            for epoch in self.by_log.epochs(log) {
                let Some(before) = Self::before(tx, look.space, log, epoch)? else { continue };
                if self.by_log.at(log, before).is_some() {
                    continue;
                }
                for ticket in tx.past_keys(log, before)? {
                    self.adopt(tx, now, &ticket, &mut news)?;
                }
            }
            if let Some(id) = self.newest(log) {
                news.tell(tx, id, staged)?;
            }
            if let Some((epoch, failed)) = failed.or_else(|| self.lacks(log))
                && look.devices.contains_key(&self.author())
                && let Some(id) = self.newest(&look.space)
            {
                let by_inbox = asking.has_begun() && !self.may_say(id);
                if tx.has_asked(log, epoch, &self.author(), failed)? && !(by_inbox && asking.again) {
                    asking.open |= by_inbox;
                    continue;
                }
                let ask = Content::EpochKeys(Box::new(EpochKeys::Ask { log: *log, epoch, failed }));
                let at = match self.publish(tx, now, id, ask.clone(), staged) {
                    Ok(_) => None,
                    // It has no key to ask with where the space lives.
                    Err(CommandError::ReadOnly | CommandError::TopicClosed) => {
                        let to = (look.space, asking.round());
                        let asked = self.ask_by_inbox(tx, now, entropy, to, &ask)?;
                        if asked {
                            tx.put_key_ask(log, epoch, &self.author(), failed)?;
                            asking.open = true;
                        }
                        (!asked).then_some(now.plus(AGAIN_MS))
                    }
                    Err(error) => again(error, now)?,
                };
                next = next.into_iter().chain(at).min();
            }
        }
        Ok(next)
    }

    /// Whether this device has what it takes to write in a topic.
    pub(super) fn may_say(&self, id: TopicId) -> bool {
        let topic = self.topics.get(&id);
        topic.is_some_and(|topic| topic.closed.is_none() && topic.keys.write_key().is_some())
    }

    /// The epoch of which this device has no key, where a topic closed and nothing later is open.
    pub(super) fn lacks(&self, log: &LogId) -> Option<(u32, Option<OperationId>)> {
        let newest = self.newest(log).and_then(|id| self.topics.get(&id))?;
        newest.closed.as_ref().map(|closed| (closed.at.epoch, None))
    }

    /// Takes what was handed to this device, newest first. What did not open, if nothing newer did.
    fn take_handed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        look: &Look,
        log: &LogId,
        news: &mut News,
    ) -> Result<Option<(u32, Option<OperationId>)>, StoreError> {
        let device = self.author();
        let words = tx.handed_to(log, &device)?;
        if words.is_empty() {
            return Ok(None);
        }
        let left = self.leave_astray(tx, look, log, &words)?;
        let secrets = tx.device_secrets()?;
        let mut failed = None;
        for handed in &words {
            // What it opened has long been read.
            if self.by_log.log_of_retired(&handed.topic).is_some() {
                continue;
            }
            let known = self.topics.get(&handed.topic);
            let has = known.is_some_and(|it| handed.access == Access::Read || it.keys.write_key().is_some());
            let opened = has || {
                let Some(secrets) = &secrets else { continue };
                let ticket = match self.is_credible(tx, look, log, handed)? {
                    true => open_handed(tx, now, log, handed, (&device, secrets))?,
                    false => None,
                };
                match ticket {
                    Some(ticket) => self.adopt(tx, now, &ticket, news)?,
                    None => false,
                }
            };
            let newest = self.newest(log).and_then(|id| self.topics.get(&id));
            let behind = newest.is_none_or(|it| it.keys.epoch() < handed.epoch);
            if !opened && behind && failed.is_none() {
                failed = Some((handed.epoch, Some(handed.operation)));
            }
        }
        let Some(to) = self.newest(log) else { return Ok(failed) };
        for from in left {
            self.move_rows(tx, now, from, to)?;
            self.touched.extend([from, to]);
            news.events.push(Event::Moved { topic: from, successor: to });
        }
        Ok(failed)
    }

    /// Whether this device takes a topic that somebody says an epoch lives in: it takes the word of who manages the
    /// space now. (What it knows itself of where the log went goes before: [`State::adopt`].)
    fn is_credible(
        &self,
        tx: &Tx<'_>,
        look: &Look,
        log: &LogId,
        handed: &Handed,
    ) -> Result<bool, StoreError> {
        Ok(self.leads_to(log, &handed.topic)
            || is_vouched_for(tx, look, handed)?
            || tx.past_keys(log, handed.epoch)?.iter().any(|past| past.topic() == handed.topic))
    }

    /// Leaves the newest topic of a log when this device is in it only because somebody said so who manages the space
    /// no more, and knows of another one where the log may live. Gives what was left.
    fn leave_astray(
        &mut self,
        tx: &Tx<'_>,
        look: &Look,
        log: &LogId,
        words: &[Handed],
    ) -> Result<Vec<TopicId>, StoreError> {
        let mut left = Vec::new();
        while let Some(newest) = self.newest(log)
            && self.is_astray(tx, look, log, &newest, words)?
            && self.knows_better(tx, look, log, words)?
        {
            self.go_astray(tx, log, newest)?;
            left.push(newest);
        }
        Ok(left)
    }

    /// Whether nothing but the word of who manages the space no more leads to a topic that is open here.
    fn is_astray(
        &self,
        tx: &Tx<'_>,
        look: &Look,
        log: &LogId,
        id: &TopicId,
        words: &[Handed],
    ) -> Result<bool, StoreError> {
        let is_open = self.topics.get(id).is_some_and(|topic| topic.closed.is_none());
        if !is_open || self.leads_to(log, id) {
            return Ok(false);
        }
        let mut said = false;
        for handed in words.iter().filter(|handed| handed.topic == *id) {
            said = true;
            if is_vouched_for(tx, look, handed)? {
                return Ok(false);
            }
        }
        Ok(said)
    }

    /// Whether a log may live elsewhere: in another topic, of an earlier epoch, that is read up to now, did not close and is not
    /// astray, or where somebody says so who is to
    /// be believed.
    fn knows_better(
        &self,
        tx: &Tx<'_>,
        look: &Look,
        log: &LogId,
        words: &[Handed],
    ) -> Result<bool, StoreError> {
        for id in self.by_log.topics(log) {
            // All others are of earlier epochs: what is not read up to now, or where a rotation waits to be judged, may have
            // ended long ago.
            let lives_there = self
                .topics
                .get(&id)
                .is_some_and(|topic| topic.closed.is_none() && topic.is_live() && !topic.contested);
            if lives_there && !self.is_astray(tx, look, log, &id, words)? {
                return Ok(true);
            }
        }
        let is_new = |id: &TopicId| !self.topics.contains_key(id) && self.by_log.log_of_retired(id).is_none();
        for handed in words.iter().filter(|handed| is_new(&handed.topic)) {
            if self.is_credible(tx, look, log, handed)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a rotation that counted leads to a topic, as this device has read.
    fn leads_to(&self, log: &LogId, id: &TopicId) -> bool {
        self.by_log.topics(log).iter().any(|from| {
            let closed = self.topics.get(from).and_then(|topic| topic.closed.as_ref());
            closed.is_some_and(|closed| closed.at.successor == *id)
        })
    }

    /// What reads the epoch before, left in a log of which nothing is known yet, or in a space's by somebody of whom
    /// nothing is known up to there (who was away, and comes again): the first one is taken, because without what it
    /// opens nobody's right to leave it can be judged.
    pub(in super::super) fn take_past(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        operation: &VerifiedOperation,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let Content::EpochKeys(keys) = &operation.body().content else { return Ok(()) };
        let EpochKeys::Past { epoch, write, secret } = &**keys else { return Ok(()) };
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        let log = topic.keys.log();
        let unknown = match tx.belongs(&log)? {
            None => true,
            Some(belongs) if belongs.room || self.by_log.at(&log, *epoch).is_some() => false,
            Some(_) => {
                let (author, heads) = (operation.author(), &operation.body().auth_heads);
                let judged = tx.look_at_space(log, |graph| graph.judge(author, heads, None))?;
                matches!(judged, Judgement::Waits(_))
            }
        };
        if epoch.checked_add(1) == Some(topic.keys.epoch())
            && unknown
            && let Ok(ticket) = Ticket::past(log, *epoch, *write, secret.0)
        {
            self.adopt(tx, now, &ticket, news)?;
        }
        Ok(())
    }
}

/// `None`: it does not open, or was opened when the rotation came, if it can be.
fn open_handed(
    tx: &Tx<'_>,
    now: Millis,
    log: &LogId,
    handed: &Handed,
    (device, secrets): (&Author, &DeviceSecrets),
) -> Result<Option<Ticket>, StoreError> {
    let Some(operation) = stored(tx, &handed.operation)? else { return Ok(None) };
    let Content::EpochKeys(keys) = &operation.body().content else { return Ok(None) };
    let EpochKeys::Hand(keys) = &**keys else { return Ok(None) };
    let (epoch, sender, recipient) = (handed.epoch, operation.author(), *device);
    let is_it = |key: &&HandedKey| (key.log, key.epoch, key.device) == (*log, epoch, *device);
    let Some(key) = keys.iter().find(is_it) else { return Ok(None) };
    let context = Context { purpose: Purpose::Handed, log: *log, epoch, sender, recipient };
    Ok(open_key(&TwoParty, secrets, &context, &key.topic, &key.block, now).ok())
}

/// Whether who handed a key on manages the space now.
fn is_vouched_for(tx: &Tx<'_>, look: &Look, handed: &Handed) -> Result<bool, StoreError> {
    let Some((author, ..)) = tx.located(&handed.operation)? else { return Ok(false) };
    let standing = tx.look_at_space(look.space, |graph| graph.standing(author))?;
    Ok(standing.may_manage() && standing.may_write())
}
