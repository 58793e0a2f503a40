//! What people do in a town: mostly they talk.

use delta_core::engine::Command;
use delta_core::ops::{Action, Content, Level};

use super::Asked;
use super::kin::Bond;
use super::reference::{Deed, Joining};
use crate::steps::text;
use crate::violation::Violation;
use crate::world::{Event, World};

/// Levels that invitations give.
const INVITED: [Level; 4] = [Level::Read, Level::Write, Level::Write, Level::Manage];

impl World {
    /// One thing happens; the next one follows after a while.
    pub(crate) fn town_step(&mut self) -> Result<(), Violation> {
        let device = self.rng.index(self.devices.len());
        match self.rng.below(115) {
            0..=44 => self.say_in_town(device),
            45..=59 => self.invite(),
            60..=84 => self.act_in_town(),
            85..=87 => self.network_changed(device),
            88..=99 => self.large_fault()?,
            100..=103 => {
                let person = self.town.as_ref().map_or(0, |town| town.kin.person(device));
                self.pair(person)?;
            }
            104..=107 => self.revoke_in_town(),
            108..=110 => self.copy_in_town()?,
            111..=112 => self.lose_in_town()?,
            _ => self.read_in_town(device)?,
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
    pub(crate) fn say_in_town(&mut self, device: usize) {
        let Some(room) = self.town.as_ref().and_then(|town| town.room) else { return };
        let topics = self.reader(device).ok().and_then(|reader| reader.topics_of_log(room).ok());
        let Some((_, topic)) = topics.and_then(|topics| topics.first().copied()) else { return };
        let content = Content::MessageSend {
            text: text(&mut self.rng),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        };
        let Some(town) = &mut self.town else { return };
        let said = town.reference.speak(town.kin.person(device), device);
        self.ask(device, Command::Publish { topic, content }, Asked::Say(said));
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
        let strangers: Vec<usize> = (1..town.kin.people.len()).filter(wanted).collect();
        let lost = self.lost_in_town();
        let by = self.manager();
        let Some(on) = self.device_of(by) else { return };
        let level = *self.rng.pick(&INVITED).unwrap_or(&Level::Write);
        let once = self.rng.chance(700);
        // Whoever has lost everything asks somebody who is there for a way back.
        if let Some(lost) = self.rng.pick(&lost).copied()
            && self.rng.chance(700)
        {
            let who = self.town.as_ref().map_or(0, |town| town.kin.person(lost));
            let command = Command::CreateInvite { space, level, expires: None, once };
            let joining = Joining { who, by, on, level, expires: false };
            return self.ask(on, command, Asked::Bring(lost, joining));
        }
        let Some(who) = self.rng.pick(&strangers).copied() else { return };
        let expires = self.rng.chance(150).then(|| self.rng.skewed(1_000, 600_000));
        let expires = expires.map(|ms| self.now().plus(ms));
        let joining = Joining { who, by, on, level, expires: expires.is_some() };
        self.ask(on, Command::CreateInvite { space, level, expires, once }, Asked::Invite(joining));
    }

    /// Devices of people who are there that did not read what they should after the last round.
    fn lost_in_town(&self) -> Vec<usize> {
        let Some(town) = &self.town else { return Vec::new() };
        let stands = town.reference.stands();
        let homes = town.kin.homes.iter().enumerate();
        let lost = homes.filter(|(_, home)| {
            home.bond == Bond::Own && home.since.is_none() && stands[home.person].access() > 0
        });
        lost.map(|(device, _)| device).collect()
    }

    /// One of the devices that may lose their database is copied.
    fn copy_in_town(&mut self) -> Result<(), Violation> {
        let losable = self.losable();
        self.rng.pick(&losable).copied().map_or(Ok(()), |device| self.copy_device(device))
    }

    /// One of them loses it, better one that was copied.
    fn lose_in_town(&mut self) -> Result<(), Violation> {
        let mut losable = self.losable();
        let copied = |device: &usize| self.devices[*device].keystore.backup.is_some();
        if losable.iter().any(copied) {
            losable.retain(copied);
        }
        self.rng.pick(&losable).copied().map_or(Ok(()), |device| self.lose_database(device))
    }

    /// Somebody revokes one of their devices, or a key that one of them lost.
    fn revoke_in_town(&mut self) {
        let now = self.now();
        let Some(town) = &self.town else { return };
        let kin = &town.kin;
        let own = |device: usize| self.devices[device].author();
        let may = |by: &usize| {
            let (home, who) = (&kin.homes[*by], &kin.people[kin.person(*by)]);
            let others = kin.devices(home.person).len() > 1
                || kin.homes.iter().any(|it| it.person == home.person && !it.past.is_empty());
            let holds = who.words || own(*by).0 == who.identity.0;
            home.bond == Bond::Own && home.since.is_some() && holds && others
        };
        let able: Vec<usize> = (0..kin.homes.len()).filter(may).collect();
        let Some(by) = self.rng.pick(&able).copied() else { return };
        let Some(town) = &self.town else { return };
        let (kin, own) = (&town.kin, |device: usize| self.devices[device].author());
        let person = kin.person(by);
        let who = &kin.people[person];
        let mut targets: Vec<_> = kin.devices(person).into_iter().map(|it| (own(it), Some(it))).collect();
        targets
            .retain(|(key, of)| !matches!(of, Some(of) if *of == by || *of == 0) && key.0 != who.identity.0);
        let homes = kin.homes.iter().filter(|home| home.person == person);
        targets.extend(homes.flat_map(|home| &home.past).map(|past| (*past, None)));
        let Some((key, of)) = self.rng.pick(&targets).copied() else { return };
        let Some(town) = &mut self.town else { return };
        let revocation = Box::new(town.kin.revoke(person, key, now));
        if let Some(of) = of {
            town.kin.homes[of].bond = Bond::Loose;
        }
        self.ask(by, Command::Revoke { revocation }, Asked::Revoke(key, of));
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
        let (member, stands) = (town.kin.people[whom].identity, town.reference.stands()[whom]);
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
            80..=85 => {
                let until = self.rng.chance(400).then(|| self.rng.skewed(1_000, 600_000));
                let until = until.map(|ms| self.now().plus(ms));
                (by, Deed::Mute(whom, until.is_some()), Action::Mute { member, until })
            }
            86..=91 => (by, Deed::Unmute(whom), Action::Unmute { member }),
            _ => (by, Deed::Unban(whom), Action::Unban { member }),
        };
        let (Some(device), Some(town)) = (self.device_of(by), &mut self.town) else { return };
        let number = town.reference.begin(by, device, deed);
        let now = self.now();
        self.trace.line(now, format_args!("device {device} begins {number}: {deed:?}"));
        self.ask(device, Command::Act { space, action: Box::new(action) }, Asked::Deed(number));
    }
}
