//! What people do in a town: mostly they talk.

use delta_core::engine::Command;
use delta_core::ops::{Action, Content, Level};

use super::Asked;
use super::reference::{Deed, Joining};
use crate::steps::text;
use crate::violation::Violation;
use crate::world::{Event, World};

/// Levels that invitations give.
const INVITED: [Level; 4] = [Level::Read, Level::Write, Level::Write, Level::Manage];

impl World {
    /// One thing happens; the next one follows after a while.
    pub(crate) fn town_step(&mut self) -> Result<(), Violation> {
        match self.rng.below(100) {
            0..=44 => {
                let person = self.rng.index(self.devices.len());
                self.say_in_town(person);
            }
            45..=59 => self.invite(),
            60..=84 => self.act_in_town(),
            85..=87 => {
                let device = self.rng.index(self.devices.len());
                self.network_changed(device);
            }
            _ => self.large_fault()?,
        }
        let gap = match self.rng.below(10) {
            0..=3 => self.rng.below(50),
            4..=7 => self.rng.skewed(50, 5_000),
            _ => self.rng.skewed(1_000, 90_000),
        };
        self.after(gap, Event::Step);
        Ok(())
    }

    /// Somebody says something in the room, if it is open there.
    pub(crate) fn say_in_town(&mut self, person: usize) {
        let Some(room) = self.town.as_ref().and_then(|town| town.room) else { return };
        let topics = self.reader(person).ok().and_then(|reader| reader.topics_of_log(room).ok());
        let Some((_, topic)) = topics.and_then(|topics| topics.first().copied()) else { return };
        let content = Content::MessageSend { text: text(&mut self.rng), reply: None, mentions: Vec::new() };
        let Some(town) = &mut self.town else { return };
        let said = town.reference.speak(person);
        self.ask(person, Command::Publish { topic, content }, Asked::Say(said));
    }

    /// Somebody who stands so, other than the first person.
    fn somebody(&mut self, wanted: impl Fn(&super::reference::Stands) -> bool) -> Option<usize> {
        let stands = self.town.as_ref()?.reference.stands();
        let fitting: Vec<usize> = (1..stands.len()).filter(|who| wanted(&stands[*who])).collect();
        self.rng.pick(&fitting).copied()
    }

    /// A manager, mostly the first person, who is always one.
    fn manager(&mut self) -> usize {
        let other = self.somebody(|stands| stands.level == Some(Level::Manage));
        other.filter(|_| self.rng.chance(500)).unwrap_or(0)
    }

    fn invite(&mut self) {
        let Some(space) = self.town.as_ref().and_then(|town| town.space) else { return };
        let Some(town) = &self.town else { return };
        let wanted = |who: &usize| town.reference.stands()[*who].level.is_none();
        let strangers: Vec<usize> = (1..town.people.len()).filter(wanted).collect();
        let Some(who) = self.rng.pick(&strangers).copied() else { return };
        let by = self.manager();
        let level = *self.rng.pick(&INVITED).unwrap_or(&Level::Write);
        let command = Command::CreateInvite { space, level, expires: None, once: self.rng.chance(700) };
        self.ask(by, command, Asked::Invite(Joining { who, by, level }));
    }

    /// A manager does something about somebody, or somebody leaves.
    fn act_in_town(&mut self) {
        let Some(space) = self.town.as_ref().and_then(|town| town.space) else { return };
        let by = self.manager();
        let draw = self.rng.below(100);
        let banned = draw >= 92;
        let whom = self.somebody(|stands| if banned { stands.banned } else { stands.level.is_some() });
        let Some(whom) = whom.filter(|whom| *whom != by) else { return };
        let Some(town) = &self.town else { return };
        let (member, stands) = (town.people[whom].into(), town.reference.stands()[whom]);
        let level = *self.rng.pick(&[Level::Read, Level::Write, Level::Manage]).unwrap_or(&Level::Write);
        let (by, deed, action) = match draw {
            0..=29 => (by, Deed::Remove(whom), Action::Remove { member }),
            30..=59 if Some(level) > stands.level => {
                (by, Deed::Level(whom, level), Action::Promote { member, level })
            }
            30..=59 => (by, Deed::Level(whom, level), Action::Demote { member, level }),
            60..=71 => (whom, Deed::Leave, Action::Leave),
            72..=77 if by != 0 => (by, Deed::Transfer(whom), Action::Transfer { member }),
            72..=79 => (by, Deed::Ban(whom), Action::Ban { member, reason: None }),
            80..=85 => (by, Deed::Mute(whom), Action::Mute { member, until: None }),
            86..=91 => (by, Deed::Unmute(whom), Action::Unmute { member }),
            _ => (by, Deed::Unban(whom), Action::Unban { member }),
        };
        let Some(town) = &mut self.town else { return };
        let number = town.reference.begin(by, deed);
        self.ask(by, Command::Act { space, action: Box::new(action) }, Asked::Deed(number));
    }
}
