//! Who is a member, and who must and must not read what: a simple second opinion, which knows nothing of graphs, epochs
//! or keys.
//!
//! It knows what people did in each round and nothing of the order in which it was done. What only one undisturbed person
//! did about somebody in a round must come out; where several acts meet, it leaves open which of them stand, and takes
//! what the devices agree on for the next round, if it is one of the things it can be.

use std::collections::BTreeSet;

use delta_core::identity::OperationId;
use delta_core::ops::Level;

use super::kin::{Bond, Kin};
use crate::violation::{Violation, ensure};

/// How somebody stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stands {
    pub level: Option<Level>,
    pub muted: bool,
    pub banned: bool,
}

impl Stands {
    /// What somebody has of the keys: nothing, to read, to write.
    pub(crate) fn access(self) -> u8 {
        match self.level {
            None | Some(Level::Pull) => 0,
            Some(Level::Read) => 1,
            Some(Level::Write | Level::Manage) => 2,
        }
    }
}

/// Somebody comes with an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joining {
    pub who: usize,
    /// Who made the invitation, on what device.
    pub by: usize,
    pub on: usize,
    pub level: Level,
    /// It is good for a time only.
    pub expires: bool,
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Claims an invitation.
    Join(Joining),
    /// The same, on a device that has lost everything, of somebody who is there.
    Bring(Joining),
    Remove(usize),
    /// Promotes or demotes.
    Level(usize, Level),
    Ban(usize),
    Unban(usize),
    /// For good, or for a time.
    Mute(usize, bool),
    Unmute(usize),
    /// Makes somebody a manager, and is none any more.
    Transfer(usize),
    Leave,
}

#[derive(Debug)]
struct Act {
    by: usize,
    device: usize,
    deed: Deed,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Its device may have done it, and died before it said so.
    Unknown,
    Done,
    Refused,
}

/// Where somebody was during a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    In,
    Out,
    /// Came, went, or it cannot be said.
    Between,
}

#[derive(Debug)]
struct Word {
    round: usize,
    by: usize,
    device: usize,
    id: Option<OperationId>,
    refused: bool,
    /// Its author's right to say it was beyond doubt; or that it had none.
    counts: Option<bool>,
    /// It was delivered in its round: its author could send everything it had. What waits is sent where the room lives
    /// once that is so, and read there by others.
    sent: bool,
}

/// The reference.
#[derive(Debug)]
pub(crate) struct Reference {
    history: bool,
    /// Rounds that are over.
    round: usize,
    stands: Vec<Stands>,
    acts: Vec<Act>,
    /// Claims that nobody has answered: they may be, whenever somebody can.
    open: Vec<Joining>,
    /// Who claimed in the last round.
    came: BTreeSet<usize>,
    words: Vec<Word>,
    /// By round: where everybody was.
    presence: Vec<Vec<Presence>>,
    /// By round: whether somebody had something of the keys at its beginning, and less at its end.
    lost: Vec<bool>,
    /// The first round of this one: acts before are another's.
    first_act: usize,
}

/// What a device must and must not show.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub must: BTreeSet<OperationId>,
    pub must_not: BTreeSet<OperationId>,
}

impl Reference {
    /// People, of whom the first has a space to itself.
    pub(crate) fn new(people: usize, history: bool) -> Self {
        let mut stands = vec![Stands::default(); people];
        stands[0].level = Some(Level::Manage);
        let empty = (Vec::new(), Vec::new(), Vec::new());
        let (presence, lost) = (Vec::new(), Vec::new());
        Self {
            history,
            round: 0,
            stands,
            acts: empty.0,
            open: empty.1,
            came: BTreeSet::new(),
            words: empty.2,
            presence,
            lost,
            first_act: 0,
        }
    }

    pub(crate) fn said(&self) -> usize {
        self.words.iter().filter(|word| word.id.is_some()).count()
    }

    /// How everybody stood when the round began.
    pub(crate) fn stands(&self) -> &[Stands] {
        &self.stands
    }

    /// Somebody is about to do something; gives its number.
    pub(crate) fn begin(&mut self, by: usize, device: usize, deed: Deed) -> usize {
        self.acts.push(Act { by, device, deed, answer: Answer::Unknown });
        self.first_act + self.acts.len() - 1
    }

    /// Rounds that are over.
    pub(crate) const fn round(&self) -> usize {
        self.round
    }

    /// What a device did in this round it may have lost before anybody heard of it.
    pub(crate) fn wiped(&mut self, device: usize) {
        let its = self.acts.iter_mut().filter(|act| act.device == device && act.answer == Answer::Done);
        its.for_each(|act| act.answer = Answer::Unknown);
    }

    pub(crate) fn do_deed(&mut self, number: usize) {
        self.answer(number, Answer::Done);
    }

    pub(crate) fn refuse_deed(&mut self, number: usize) {
        self.answer(number, Answer::Refused);
    }

    fn answer(&mut self, number: usize, answer: Answer) {
        let act = number.checked_sub(self.first_act).and_then(|place| self.acts.get_mut(place));
        if let Some(act) = act {
            act.answer = answer;
        }
    }

    /// Somebody is about to say something; gives its number.
    pub(crate) fn speak(&mut self, by: usize, device: usize) -> usize {
        let (round, id, refused, counts) = (self.round, None, false, None);
        self.words.push(Word { round, by, device, id, refused, counts, sent: false });
        self.words.len() - 1
    }

    pub(crate) fn hear(&mut self, number: usize, id: OperationId) {
        if let Some(word) = self.words.get_mut(number) {
            word.id = Some(id);
        }
    }

    pub(crate) fn refuse_word(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number) {
            word.refused = true;
        }
    }

    /// What was done in this round and not refused.
    fn done(&self) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(|act| act.answer != Answer::Refused)
    }

    /// Whether an act changes whether somebody is a member, and at what level.
    fn is_about(act: &Act, who: usize) -> bool {
        match act.deed {
            Deed::Join(joining) | Deed::Bring(joining) => joining.who == who,
            Deed::Remove(whom) | Deed::Level(whom, _) | Deed::Ban(whom) => whom == who,
            Deed::Transfer(whom) => whom == who || act.by == who,
            Deed::Leave => act.by == who,
            Deed::Unban(_) | Deed::Mute(..) | Deed::Unmute(_) => false,
        }
    }

    /// Whether what somebody does in this round may count for nothing, because others do something about them.
    fn is_disturbed(&self, who: usize) -> bool {
        let brings = |act: &Act| matches!(act.deed, Deed::Bring(_));
        self.done().any(|act| Self::is_about(act, who) && !brings(act))
            || self.open.iter().any(|joining| joining.who == who)
    }

    fn is_silenced(&self, who: usize) -> bool {
        let silences =
            |act: &Act| matches!(act.deed, Deed::Mute(whom, _) | Deed::Unmute(whom) if whom == who);
        self.is_disturbed(who) || self.done().any(silences)
    }

    /// What an act makes of somebody, if it stands.
    fn result(act: &Act, who: usize) -> Option<Level> {
        match act.deed {
            Deed::Join(joining) | Deed::Bring(joining) => Some(joining.level),
            Deed::Level(_, level) => Some(level),
            Deed::Transfer(whom) if whom == who => Some(Level::Manage),
            Deed::Transfer(_) => Some(Level::Write),
            _ => None,
        }
    }

    /// The round is over, and the devices agree on this: whether it can be.
    pub(crate) fn end_round(&mut self, found: &[Stands], kin: &Kin) -> Result<(), Violation> {
        let mut presence = Vec::new();
        for (who, now) in found.iter().enumerate() {
            self.check_level(who, *now, kin)?;
            self.check_word(who, *now)?;
            let before = self.stands[who];
            let calm = !self.is_disturbed(who);
            presence.push(match (before.access() > 0, now.access() > 0) {
                (true, true) if calm => Presence::In,
                (false, false) if calm => Presence::Out,
                _ => Presence::Between,
            });
        }
        let lost = self.stands.iter().zip(found).any(|(before, now)| now.access() < before.access())
            || kin.moved(self.round, &self.stands, found);
        let rights: Vec<Option<bool>> = (0..found.len()).map(|who| self.may_speak(who)).collect();
        let round = self.round;
        for word in self.words.iter_mut().filter(|word| word.round == round) {
            let home = &kin.homes[word.device];
            word.counts = match home.speaks() {
                Some(true) => rights[word.by],
                other => other,
            };
            word.sent = found[word.by].access() == 2 && home.speaks() == Some(true);
        }
        let claims = self.done().filter_map(|act| match act.deed {
            Deed::Join(joining) | Deed::Bring(joining) => Some(joining),
            _ => None,
        });
        let claims: Vec<Joining> = claims.collect();
        self.came = claims.iter().map(|joining| joining.who).collect();
        self.open.extend(claims);
        // Whoever is in needs none of its claims; they are answered, or refused as long as that lasts.
        self.open.retain(|joining| found[joining.who].level.is_none());
        self.first_act += self.acts.len();
        self.acts.clear();
        self.presence.push(presence);
        self.lost.push(lost);
        self.stands = found.to_vec();
        self.round += 1;
        Ok(())
    }

    fn check_level(&self, who: usize, now: Stands, kin: &Kin) -> Result<(), Violation> {
        let before = self.stands[who].level;
        let about: Vec<&Act> = self.done().filter(|act| Self::is_about(act, who)).collect();
        let waiting =
            self.open.iter().filter(|joining| joining.who == who).map(|joining| Some(joining.level));
        let mut possible: Vec<Option<Level>> = vec![before];
        possible.extend(about.iter().map(|act| Self::result(act, who)));
        possible.extend(waiting.clone());
        ensure!(
            possible.contains(&now.level),
            "person {who} is at level {:?} after round {}, and can only be at one of {possible:?}",
            now.level,
            self.round
        );
        let [act] = about[..] else { return Ok(()) };
        // An invitation is answered by whoever made it, who must be able to.
        let doer = match act.deed {
            Deed::Join(joining) | Deed::Bring(joining) => joining.by,
            _ => act.by,
        };
        let able = self.stands[doer].level == Some(Level::Manage) || matches!(act.deed, Deed::Leave);
        let of_itself = doer == who;
        let free = match act.deed {
            Deed::Bring(_) => false,
            Deed::Join(_) => before.is_none() && !self.is_banned_about(who),
            Deed::Ban(_) => true,
            _ => before.is_some(),
        };
        // An invitation leads to where the space lived when it was made.
        let lost = match act.deed {
            Deed::Join(joining) => {
                let made = kin.homes[joining.on].speaks() == Some(true);
                !made || joining.expires || self.may_move() || kin.moves()
            }
            _ => false,
        };
        let sure = act.answer == Answer::Done
            && kin.homes[act.device].is_steady(matches!(act.deed, Deed::Join(_) | Deed::Bring(_)))
            && !lost
            && waiting.count() == 0
            && able
            && free
            && (of_itself || !self.is_disturbed(doer));
        let result = Self::result(act, who);
        ensure!(
            !sure || now.level == result,
            "person {who} is at level {:?} after round {}, although {act:?} was done and nothing else about it",
            now.level,
            self.round
        );
        Ok(())
    }

    /// Whether keys may move in this round.
    fn may_move(&self) -> bool {
        let moves = |deed: Deed| {
            !matches!(
                deed,
                Deed::Join(_) | Deed::Bring(_) | Deed::Unban(_) | Deed::Mute(..) | Deed::Unmute(_)
            )
        };
        self.done().any(|act| moves(act.deed))
    }

    fn is_banned_about(&self, who: usize) -> bool {
        let bans = |act: &Act| matches!(act.deed, Deed::Ban(whom) | Deed::Unban(whom) if whom == who);
        self.stands[who].banned || self.done().any(bans)
    }

    /// Mutes and bans.
    fn check_word(&self, who: usize, now: Stands) -> Result<(), Violation> {
        let before = self.stands[who];
        let did = |wanted: fn(&Deed) -> Option<usize>| self.done().any(|act| wanted(&act.deed) == Some(who));
        let muted =
            did(|deed| if let Deed::Mute(whom, _) | Deed::Unmute(whom) = deed { Some(*whom) } else { None });
        let banned =
            did(|deed| if let Deed::Ban(whom) | Deed::Unban(whom) = deed { Some(*whom) } else { None });
        let round = self.round;
        // A time that is over ends by itself: somebody who manages is always there.
        let for_good = |act: &Act| matches!(act.deed, Deed::Mute(whom, false) if whom == who);
        ensure!(
            before.muted || before.level.is_none() || !now.muted || self.done().any(for_good),
            "person {who} was muted for a time in round {round}, and still is"
        );
        // Of whoever is not there nobody says whether they are muted.
        let muted = muted || self.is_disturbed(who) || now.level.is_none();
        ensure!(muted || now.muted == before.muted, "nobody muted or unmuted person {who} in round {round}");
        ensure!(
            banned || now.banned == before.banned,
            "nobody banned or unbanned person {who} in round {round}"
        );
        Ok(())
    }

    /// Whether what somebody said in this round counts; `None`: that cannot be said.
    fn may_speak(&self, who: usize) -> Option<bool> {
        let stands = self.stands[who];
        (!self.is_silenced(who)).then_some(stands.access() == 2 && !stands.muted)
    }

    /// What somebody's device must show now, and what it must not.
    pub(crate) fn reading(&self, device: usize, kin: &Kin) -> Reading {
        let (home, mut reading) = (&kin.homes[device], Reading::default());
        for word in &self.words {
            let Some(id) = word.id else { continue };
            if word.counts == Some(false) {
                // A device need not hear that it is nobody's.
                if word.device != device || home.bond == Bond::Own {
                    reading.must_not.insert(id);
                }
                continue;
            }
            if word.device == device {
                continue;
            }
            match self.may_read(home.person, word.round) {
                Some(_) if word.sent && home.must_not_show(word.round) => drop(reading.must_not.insert(id)),
                Some(true) if word.counts == Some(true) && home.must_show(word.round, self.history) => {
                    reading.must.insert(id);
                }
                Some(false) if word.sent => drop(reading.must_not.insert(id)),
                _ => {}
            }
        }
        reading
    }

    /// Whether somebody has what was said in a round; `None`: perhaps.
    fn may_read(&self, who: usize, round: usize) -> Option<bool> {
        let was = |round: usize| self.presence.get(round).and_then(|people| people.get(who)).copied();
        match was(round)? {
            Presence::In => return Some(true),
            Presence::Between => return None,
            Presence::Out => {}
        }
        let later = round + 1..self.round;
        let came = later.clone().find(|round| was(*round) != Some(Presence::Out));
        let Some(came) = came else { return Some(false) };
        if self.history {
            // In what round it came it may have gone again.
            let stays = (came + 1..self.round).all(|round| was(round) == Some(Presence::In));
            return (stays && self.stands[who].access() > 0).then_some(true);
        }
        // Keys that moved between the word and the coming keep it from whoever comes.
        (round + 1..came).any(|round| self.lost[round]).then_some(false)
    }

    /// Whether somebody holds an invitation that was not answered: it opens the space, and no room.
    pub(crate) fn is_invited(&self, who: usize) -> bool {
        self.open.iter().any(|joining| joining.who == who)
    }

    /// Whether somebody came, or came again, in the round that has just ended.
    pub(crate) fn came(&self, who: usize) -> bool {
        self.came.contains(&who)
    }

    /// Whether keys must have moved in the round that has just ended.
    pub(crate) fn keys_moved(&self) -> bool {
        self.lost.last() == Some(&true)
    }
}
