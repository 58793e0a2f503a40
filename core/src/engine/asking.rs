//! What this device asks of those who manage a space by inbox, because it cannot say it in the space's log: whom it
//! asks, and when it asks others.
//!
//! In one round it asks a few devices. What nobody answered goes to the next ones in the next round, after a pause that
//! grows: an invitation that was claimed, a leaving, keys that are lacking. Whether something was answered follows from
//! what is known of the space; kept is only how many rounds there were and when the last one was.
//!
//! What one person alone can answer (a request for a direct thread, its acceptance, a request to join) is said to the same
//! devices again in such rounds.

use super::direct::thread_id;
use super::keeping::stored;
use super::state::State;
use crate::entropy::Entropy;
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::limits::{MAX_ASK_ROUNDS, MAX_CLAIM_RECIPIENTS};
use crate::ops::{Body, Content, Level, VerifiedOperation, inbox_log};
use crate::space::claim_mac;
use crate::store::{ClaimRow, StoreError, ThreadState, Tx, UnansweredRow};
use crate::tree::{Arrange, Map, Set};

use super::upkeep::store_only;

/// For so long, milliseconds, what nobody answers is said again at most: as long as the rounds take twice.
const UNANSWERED_MS: u64 = 60 * 24 * 3_600_000;

/// Pause after the first round, milliseconds; each further one is twice as long: 1 hour.
pub const ASK_AGAIN_MS: u64 = 3_600_000;
/// Longest pause between two rounds, milliseconds: 7 days.
pub const ASK_AGAIN_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// The rounds in which a device asked in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rounds {
    /// So many are over, beside the first.
    further: u32,
    last: Millis,
}

impl Rounds {
    /// When the next one is. `None`: there were enough.
    fn next(self) -> Option<Millis> {
        let pause = ASK_AGAIN_MS.saturating_mul(1 << self.further.min(31)).min(ASK_AGAIN_MAX_MS);
        (self.further + 1 < MAX_ASK_ROUNDS).then(|| self.last.plus(pause))
    }

    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.further.to_be_bytes());
        bytes[4..].copy_from_slice(&self.last.0.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (further, last) = bytes.split_first_chunk::<4>()?;
        let last = u64::from_be_bytes(last.try_into().ok()?);
        Some(Self { further: u32::from_be_bytes(*further), last: Millis(last) })
    }
}

/// A look at what is asked for in a space.
#[derive(Debug)]
pub(super) struct Asking {
    space: LogId,
    rounds: Option<Rounds>,
    /// What was asked for goes to others now.
    pub(super) again: bool,
    /// Something is asked for and was not answered yet.
    pub(super) open: bool,
}

impl Asking {
    /// Where.
    pub(super) const fn space(&self) -> LogId {
        self.space
    }

    /// Which round this is, from 0 on.
    pub(super) fn round(&self) -> u32 {
        self.rounds.map_or(0, |rounds| rounds.further + u32::from(self.again))
    }

    /// Whether something was asked for in this way already.
    pub(super) const fn has_begun(&self) -> bool {
        self.rounds.is_some()
    }
}

fn setting(space: &LogId) -> String {
    format!("asked:{space}")
}

/// Of several devices, those that are asked in a round: of each identity one, then of each a second one, so that nobody
/// who has many takes the places of the others.
pub(super) fn in_turns(devices: Vec<(Author, Identity)>, round: u32) -> Vec<Author> {
    let mut of_identity = Map::<Identity, usize>::new();
    let mut turns: Vec<(usize, Identity, Author)> = Vec::with_capacity(devices.len());
    for (device, who) in devices {
        let count = of_identity.entry(who).or_default();
        turns.push((*count, who, device));
        *count += 1;
    }
    turns.arrange();
    let turns: Vec<Author> = turns.into_iter().map(|(.., device)| device).collect();
    let asked = turns.len().min(MAX_CLAIM_RECIPIENTS);
    let first = (round as usize).saturating_mul(asked) % turns.len().max(1);
    turns.iter().cycle().skip(first).take(asked).copied().collect()
}

impl State {
    /// Begins a look at what this device asks for in a space.
    pub(super) fn asks_in(&self, tx: &Tx<'_>, now: Millis, space: LogId) -> Result<Asking, StoreError> {
        let rounds = tx.setting(&setting(&space))?.and_then(|bytes| Rounds::from_bytes(&bytes));
        // A clock that was set back must not stop it for long.
        let rounds = rounds.map(|rounds| Rounds { last: rounds.last.min(now), ..rounds });
        let again = rounds.and_then(Rounds::next).is_some_and(|at| at <= now);
        Ok(Asking { space, rounds, again, open: false })
    }

    /// Ends the look; gives when others are to be asked.
    pub(super) fn asked(tx: &Tx<'_>, now: Millis, asking: &Asking) -> Result<Option<Millis>, StoreError> {
        let name = setting(&asking.space);
        if !asking.open {
            if asking.has_begun() {
                tx.set_setting(&name, &[])?;
            }
            return Ok(None);
        }
        let rounds = match asking.rounds {
            Some(rounds) if !asking.again => rounds,
            _ => Rounds { further: asking.round(), last: now },
        };
        tx.set_setting(&name, &rounds.to_bytes())?;
        Ok(rounds.next())
    }

    /// Something was asked for by inbox: when to ask others is looked at with the space.
    pub(super) fn begin_asking(&mut self, tx: &Tx<'_>, now: Millis, space: LogId) -> Result<(), StoreError> {
        let mut asking = self.asks_in(tx, now, space)?;
        if !asking.has_begun() {
            asking.open = true;
            Self::asked(tx, now, &asking)?;
        }
        self.keeping.hurry(space, now);
        Ok(())
    }

    /// Asks others to be let into a space, or out, when nobody has answered.
    pub(super) fn ask_others(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        asking: &mut Asking,
    ) -> Result<(), StoreError> {
        let (space, me) = (asking.space, self.author());
        if asking.again {
            // What they are answered with may be what was lost.
            for device in self.who_answers(tx, space, None, asking.round())? {
                tx.put_bundle_log(&inbox_log(&me, &device), Millis(0))?;
            }
        }
        let is_member = tx.look_at_space(space, |graph| graph.standing(me))?.level.is_some();
        for claim in tx.claims()?.into_iter().filter(|claim| claim.space == space && claim.sent > 0) {
            // With what was known at first: who was let in and removed since then does not come again by this.
            let Some(heads) = self.claimed_at(tx, &claim)?.filter(|_| !is_member) else { continue };
            if self.came_or_went_since(tx, space, &heads)? || self.is_left(&space) {
                tx.remove_claim(&claim)?;
                continue;
            }
            asking.open = true;
            if asking.again {
                self.send_claim(tx, now, entropy, &claim, (asking.round(), Some(heads)))?;
            }
        }
        for (id, _) in tx.leave_requests(&space)?.into_iter().filter(|(_, author)| *author == me) {
            let heads = heads_of(tx, &id)?;
            if !is_member || self.came_or_went_since(tx, space, &heads)? {
                tx.remove_request(&space, &id)?;
                continue;
            }
            asking.open = true;
            if asking.again {
                store_only(self.send_leave_requests(tx, now, entropy, space, (&heads, asking.round())))?;
            }
        }
        Ok(())
    }

    /// Whether the space moved on from where this device reads it: an invitation from before is of no use.
    fn is_left(&self, space: &LogId) -> bool {
        let newest = self.newest(space).and_then(|id| self.topics.get(&id));
        newest.is_none_or(|topic| topic.closed.is_some())
    }

    fn came_or_went_since(
        &self,
        tx: &Tx<'_>,
        space: LogId,
        heads: &[OperationId],
    ) -> Result<bool, StoreError> {
        let who = self.identity();
        tx.look_at_space(space, |graph| graph.came_or_went_since(who, heads))
    }

    /// What this device knew of the space when it claimed an invitation.
    fn claimed_at(&self, tx: &Tx<'_>, claim: &ClaimRow) -> Result<Option<Vec<OperationId>>, StoreError> {
        let is_own = |author: &Author| *author == self.author();
        let claims = tx.requests(&claim.space)?.into_iter();
        let mut own = claims.filter(|request| {
            is_own(&request.author) && request.claim.is_some_and(|(invite, _)| invite == claim.invite)
        });
        own.next().map(|request| heads_of(tx, &request.id)).transpose()
    }

    /// Sends a claim to those who are asked in a round; gives to how many.
    pub(super) fn send_claim(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        claim: &ClaimRow,
        (round, knew): (u32, Option<Vec<OperationId>>),
    ) -> Result<u32, StoreError> {
        let (me, space) = (self.author(), claim.space);
        let heads = match knew {
            Some(heads) => heads,
            None => tx.look_at_space(space, |graph| graph.cite(me))?,
        };
        let mut sent = 0;
        for device in self.who_answers(tx, space, Some(claim.invite), round)? {
            store_only(self.tell_keys(tx, now, entropy, device))?;
            let mac = claim_mac(&claim.token, space, claim.invite, self.identity(), me);
            let content = Content::InviteClaim { invite: claim.invite, mac, space };
            let done = self.send_to_inbox_citing(tx, now, entropy, device, content, heads.clone());
            sent += u32::from(store_only(done)?.is_some());
        }
        Ok(sent)
    }

    /// The devices that are asked for something in a space in a round: those of whoever made an invitation, if it is
    /// about one; when that one manages no more or cannot be written to, and in further rounds, those of whoever manages.
    /// None as long as no manager is known who can be written to.
    pub(super) fn who_answers(
        &self,
        tx: &Tx<'_>,
        space: LogId,
        invite: Option<OperationId>,
        round: u32,
    ) -> Result<Vec<Author>, StoreError> {
        let known = tx.look_at_space(space, |graph| {
            let state = graph.current()?;
            let devices = graph.devices_in(&state);
            // Before the invitation has its place in the graph, what is known of who manages is older than it.
            let made_by = match invite {
                Some(invite) => devices.get(&graph.author(invite)?).copied(),
                None => None,
            };
            let manages = |who: &Identity| state.levels.get(who) == Some(&Level::Manage);
            Some((made_by, devices.into_iter().filter(|(_, who)| manages(who)).collect::<Vec<_>>()))
        })?;
        let Some((made_by, managers)) = known else { return Ok(Vec::new()) };
        let mut reachable = Vec::new();
        for (device, who) in managers {
            if device != self.author() && tx.peer_inbox(&device)?.is_some() {
                reachable.push((device, who));
            }
        }
        let mut found = reachable.clone();
        found.retain(|(_, who)| Some(*who) == made_by);
        if found.is_empty() || round > 0 {
            found = reachable;
        }
        Ok(in_turns(found, round))
    }
}

impl State {
    /// Something was said by inbox that this device alone can answer: until it does, it is said again.
    pub(super) fn await_answer(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: &OperationId,
        to: &Author,
    ) -> Result<(), StoreError> {
        tx.put_unanswered(&UnansweredRow { id: *id, to: *to, further: 0, last: now })?;
        self.upkeep.repeat_at = Some(now);
        Ok(())
    }

    /// Says again what nobody has answered, in rounds: the same operations, so that who has them hears nothing new.
    pub(super) fn repeat_unanswered(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        self.upkeep.repeat_at = None;
        let mut told = Set::new();
        for mut row in tx.unanswered()? {
            // A clock that was set back must not stop it for long.
            let is_ahead = row.last > now;
            row.last = row.last.min(now);
            let next = |row: &UnansweredRow| Rounds { further: row.further, last: row.last }.next();
            let operation = stored(tx, &row.id)?;
            let is_new = |it: &&VerifiedOperation| {
                it.body().sent_at.is_none_or(|sent| now.since(sent) <= UNANSWERED_MS)
            };
            let waiting = operation.as_ref().filter(is_new);
            let open = waiting.map_or(Ok(false), |it| self.is_unanswered(tx, it, &row.to))?;
            let (Some(operation), Some(at)) = (operation.filter(|_| open), next(&row)) else {
                tx.remove_unanswered(&row.id)?;
                continue;
            };
            if at <= now {
                let again = self.send_to_inbox_again(tx, now, entropy, row.to, &operation);
                if store_only(again)? == Some(true) {
                    row.further += 1;
                    if told.insert(row.to) {
                        // What it is answered with may be what was lost.
                        tx.put_bundle_log(&inbox_log(&self.author(), &row.to), Millis(0))?;
                        store_only(self.tell_keys(tx, now, entropy, row.to))?;
                    }
                }
                row.last = now;
                tx.put_unanswered(&row)?;
            } else if is_ahead {
                tx.put_unanswered(&row)?;
            }
            self.upkeep.repeat_at = self.upkeep.repeat_at.into_iter().chain(next(&row)).min();
        }
        Ok(())
    }

    /// Whether what this device said to another one by inbox waits for that one.
    fn is_unanswered(&self, tx: &Tx<'_>, said: &VerifiedOperation, to: &Author) -> Result<bool, StoreError> {
        if tx.was_revoked(to, &tx.identity_of(to)?)? {
            return Ok(false);
        }
        match &said.body().content {
            Content::DirectRequest { share, .. } => {
                let row = tx.direct_thread(&thread_id(share, &said.author()))?;
                Ok(row.is_some_and(|row| row.state == ThreadState::Asked))
            }
            Content::DirectAccept { thread, .. } => {
                let row = tx.direct_thread(thread)?.filter(|row| row.state == ThreadState::Open);
                let Some(log) = row.and_then(|row| row.log) else { return Ok(false) };
                for head in tx.log_heads(&log)? {
                    if tx.identity_of(&head.author)? != self.identity() {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Content::JoinRequest { space, .. } => {
                let waits = tx.requests(space)?.iter().any(|request| request.id == said.id());
                let me = said.author();
                Ok(waits && tx.look_at_space(*space, |graph| graph.standing(me))?.level.is_none())
            }
            _ => Ok(false),
        }
    }
}

/// What an operation cites.
fn heads_of(tx: &Tx<'_>, id: &OperationId) -> Result<Vec<OperationId>, StoreError> {
    let body = tx.operation_bytes(id)?.and_then(|(_, body)| Body::decode(&body).ok());
    Ok(body.map(|body| body.auth_heads).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(of: &[(u8, u8)]) -> Vec<(Author, Identity)> {
        let device = |who: u8, nth: u8| {
            let mut key = [who; 32];
            key[1] = nth;
            (Author(key), Identity([who; 32]))
        };
        of.iter().flat_map(|(who, count)| (0..*count).map(|nth| device(*who, nth))).collect()
    }

    fn people(asked: &[Author]) -> Vec<u8> {
        asked.iter().map(|device| device.0[0]).collect()
    }

    #[test]
    fn who_has_many_devices_takes_nobodys_place() {
        assert_eq!(people(&in_turns(devices(&[(1, 9), (2, 1), (3, 2)]), 0)), [1, 2, 3, 1, 3, 1, 1, 1]);
        assert_eq!(people(&in_turns(devices(&[(1, 2), (2, 1)]), 0)), [1, 2, 1]);
        assert!(in_turns(Vec::new(), 3).is_empty());
    }

    #[test]
    fn further_rounds_go_to_the_others_until_everybody_was_asked() {
        let all = devices(&[(1, 9), (2, 5), (3, 5), (4, 1)]);
        let mut asked: Vec<Author> = (0..3).flat_map(|round| in_turns(all.clone(), round)).collect();
        assert_eq!(asked.len(), 3 * MAX_CLAIM_RECIPIENTS);
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), all.len());
        assert_eq!(in_turns(all.clone(), u32::MAX).len(), MAX_CLAIM_RECIPIENTS);
    }

    #[test]
    fn pauses_double_up_to_a_week_and_rounds_end() {
        let mut rounds = Rounds { further: 0, last: Millis(5) };
        assert_eq!(rounds.next(), Some(Millis(5 + ASK_AGAIN_MS)));
        rounds.further = 7;
        assert_eq!(rounds.next(), Some(Millis(5 + 128 * ASK_AGAIN_MS)));
        rounds.further = 8;
        assert_eq!(rounds.next(), Some(Millis(5 + ASK_AGAIN_MAX_MS)));
        rounds.further = MAX_ASK_ROUNDS - 2;
        assert!(rounds.next().is_some(), "the last one");
        rounds.further = MAX_ASK_ROUNDS - 1;
        assert_eq!(rounds.next(), None);
        assert_eq!(Rounds::from_bytes(&rounds.to_bytes()), Some(rounds));
        assert_eq!(Rounds::from_bytes(&[]), None);
    }
}
