//! People who share a space with one room: what they do, in rounds.
//!
//! A round is a few things that people do while the network is in trouble; at its end everything works again and comes to
//! rest, and then all devices must agree, and each must read what the [`reference`] says. So what was done in one round
//! may be concurrent, and what was done in different rounds is not. The first person made the space, and stays: somebody
//! must be there to move keys.

mod check;
mod kin;
mod marks;
mod pair;
mod reference;
mod steps;
mod wipe;

use std::collections::{BTreeMap, BTreeSet};

use delta_core::engine::{Command, CommandError, CommandId, Reply};
use delta_core::identity::{Author, LogId, Millis, OperationId};
use delta_core::ops::{RoomText, SpaceText};
use delta_core::projector::Position;
use delta_core::space::Invite;
use delta_core::topic::TopicId;

use crate::check::broken;
use crate::device::Device;
use crate::rng::Rng;
use crate::trace::short;
use crate::violation::{Violation, ensure};
use crate::world::{Event, World};

use kin::{Bond, Kin};
use marks::Mark;
use pair::{Meeting, Step};
use reference::{Deed, Reference};

/// Things done in one round, at most.
const MAX_ROUND: u64 = 16;

/// The space, and what is known of everybody in it.
#[derive(Debug)]
pub(crate) struct Town {
    /// Whether newcomers read what was said before them.
    history: bool,
    space: Option<LogId>,
    room: Option<LogId>,
    /// Every topic the server has something of.
    pub topics: BTreeSet<TopicId>,
    kin: Kin,
    meetings: Vec<Meeting>,
    /// Topics that are there for a pairing.
    pub passing: BTreeSet<TopicId>,
    /// Topics that are, or were, a device's inbox.
    pub inboxes: BTreeSet<TopicId>,
    /// How far people have read, as far as they said so in this round.
    marks: Vec<Mark>,
    reference: Reference,
    asked: BTreeMap<(usize, CommandId), Asked>,
    /// Topics that a device's app receives, in this life of the device.
    followed: BTreeSet<(usize, u64, TopicId)>,
    /// Where the space and its room lived after the last round.
    lived: Option<[TopicId; 2]>,
}

/// What a command was for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Space,
    Room,
    /// An invitation, for whom.
    Invite(reference::Joining),
    /// An act or a claim, by its number in the reference.
    Deed(usize),
    /// Something said, likewise.
    Say(usize),
    /// A step of the pairing of this new device.
    Pair(usize, Step),
    /// Against a device: its key, and which one it is if it has that key still.
    Revoke(Author, Option<usize>),
    /// An invitation for a device whose person is there already.
    Bring(usize, reference::Joining),
    /// How far its person has read.
    Read(Position, OperationId),
}

impl Town {
    pub(crate) fn new(devices: &mut [Device], now: Millis, rng: &mut Rng) -> Self {
        let history = rng.chance(500);
        let kin = Kin::new(devices, now, rng);
        Self {
            history,
            space: None,
            room: None,
            topics: BTreeSet::new(),
            kin,
            meetings: Vec::new(),
            passing: BTreeSet::new(),
            inboxes: BTreeSet::new(),
            marks: Vec::new(),
            reference: Reference::new(devices.len(), history),
            asked: BTreeMap::new(),
            followed: BTreeSet::new(),
            lived: None,
        }
    }

    fn logs(&self) -> impl Iterator<Item = LogId> + use<> {
        self.space.into_iter().chain(self.room)
    }
}

impl World {
    /// The whole life of a town; gives the number of messages said.
    pub(crate) fn live_in_town(&mut self) -> Result<u64, Violation> {
        let mut left = std::mem::take(&mut self.steps_left);
        self.settle()?;
        let history = self.town.as_ref().is_some_and(|town| town.history);
        let about = SpaceText { name: "Town".into(), history, ..SpaceText::default() };
        self.ask(0, Command::CreateSpace { about }, Asked::Space);
        self.settle()?;
        if let Some(space) = self.town.as_ref().and_then(|town| town.space) {
            // Who says two things within this time is asked to wait.
            let cooldown = self.rng.chance(250).then(|| self.rng.skewed(1, 30));
            let about = RoomText { name: "Square".into(), cooldown, ..RoomText::default() };
            self.ask(0, Command::CreateRoom { space, about }, Asked::Room);
        }
        self.settle()?;
        self.check_town()?;
        while left > 0 {
            self.faults.resume();
            self.steps_left = self.rng.between(1, MAX_ROUND).min(left);
            left -= self.steps_left;
            self.after(100, Event::Step);
            while self.steps_left > 0 {
                ensure!(self.turn(delta_core::identity::Millis(u64::MAX))?, "nothing happens any more");
                self.check_events()?;
            }
            self.settle()?;
            self.check_town()?;
        }
        // Now that nothing is in the way: everybody speaks, and everybody is heard.
        for device in 0..self.devices.len() {
            self.say_in_town(device);
        }
        self.settle()?;
        self.check_town()?;
        Ok(self.town.as_ref().map_or(0, |town| town.reference.said() as u64))
    }

    /// Gives a device a command, and remembers what for.
    fn ask(&mut self, device: usize, command: Command, asked: Asked) {
        let Some(id) = self.command(device, command) else { return };
        if let Some(town) = &mut self.town {
            town.asked.insert((device, id), asked);
        }
    }

    /// An app receives what is opened on its device: the space, its room, wherever they live.
    pub(crate) fn town_follows(&mut self, device: usize) -> Result<(), Violation> {
        let Some(town) = &self.town else { return Ok(()) };
        let (life, reader) = (self.devices[device].life, self.reader(device)?);
        let mut new = Vec::new();
        for log in town.logs() {
            let topics = reader.topics_of_log(log).map_err(|error| broken(device, &error))?;
            let topics = topics.into_iter().map(|(_, topic)| topic);
            new.extend(topics.filter(|topic| !town.followed.contains(&(device, life, *topic))));
        }
        for topic in new {
            if let Some(town) = &mut self.town {
                town.followed.insert((device, life, topic));
            }
            self.command(device, Command::Subscribe { topic });
        }
        self.pairings_go_on(device)
    }

    /// Takes an answer to what was asked for the town; gives back any other.
    pub(crate) fn town_hears(
        &mut self,
        device: usize,
        id: CommandId,
        result: Result<Reply, CommandError>,
    ) -> Result<Option<Result<Reply, CommandError>>, Violation> {
        let Some(asked) = self.town.as_mut().and_then(|town| town.asked.remove(&(device, id))) else {
            return Ok(Some(result));
        };
        self.devices[device].answered(id);
        let now = self.now();
        if let Asked::Pair(guest, step) = asked {
            self.pairing_hears(guest, step, &result);
        }
        let Some(town) = &mut self.town else { return Ok(None) };
        match (&result, asked) {
            (_, Asked::Pair(..)) => {}
            (Err(error), _) => {
                let words = self.devices[device].plain(error);
                self.trace.line(now, format_args!("device {device} refuses {asked:?}: {words}"));
                match asked {
                    Asked::Deed(deed) => town.reference.refuse_deed(deed),
                    Asked::Say(said) => town.reference.refuse_word(said),
                    Asked::Space | Asked::Room => {
                        return Err(Violation::new(format!("the space cannot be made: {error}")));
                    }
                    Asked::Revoke(_, Some(of)) => town.kin.homes[of].bond = Bond::Own,
                    _ => {}
                }
                return Ok(None);
            }
            (Ok(Reply::Space { space, .. }), Asked::Space) => town.space = Some(*space),
            (Ok(Reply::Space { space, .. }), Asked::Room) => town.room = Some(*space),
            (Ok(Reply::Invite(invite)), Asked::Invite(joining)) => {
                let invite = (**invite).clone();
                self.claim(joining, invite);
            }
            (Ok(Reply::Invite(invite)), Asked::Bring(lost, joining)) => {
                let invite = invite.clone();
                let number = town.reference.begin(joining.who, lost, Deed::Bring(joining));
                self.ask(lost, Command::AcceptInvite { invite }, Asked::Deed(number));
            }
            (Ok(_), Asked::Revoke(key, of)) => {
                let round = town.reference.round();
                if let Some(of) = of {
                    town.kin.homes[of].bond = Bond::Revoked(round);
                }
                town.kin.homes.iter_mut().for_each(|home| home.past.retain(|past| *past != key));
            }
            (Ok(_), Asked::Read(position, message)) => town.marks.push(Mark { device, position, message }),
            (Ok(Reply::Published(operation)), Asked::Say(said)) => {
                town.reference.hear(said, *operation);
                self.is_kept(device, *operation)?;
            }
            (Ok(Reply::Published(operation)), Asked::Deed(deed)) => {
                town.reference.do_deed(deed);
                self.is_kept(device, *operation)?;
            }
            (Ok(_), Asked::Deed(deed)) => town.reference.do_deed(deed),
            (Ok(other), _) => {
                return Err(Violation::new(format!("{asked:?} is answered with {other:?}")));
            }
        }
        self.trace.line(now, format_args!("device {device}: {asked:?} is done"));
        Ok(None)
    }

    fn is_kept(&self, device: usize, operation: OperationId) -> Result<(), Violation> {
        let found = self.reader(device)?.operation(&operation).map_err(|error| broken(device, &error))?;
        let operation = short(&operation);
        ensure!(found.is_some(), "device {device} reports {operation}, which its store lacks");
        Ok(())
    }

    /// Somebody takes an invitation.
    fn claim(&mut self, joining: reference::Joining, invite: Invite) {
        let Some(device) = self.device_of(joining.who) else { return };
        let Some(town) = &mut self.town else { return };
        let number = town.reference.begin(joining.who, device, Deed::Join(joining));
        self.ask(device, Command::AcceptInvite { invite: Box::new(invite) }, Asked::Deed(number));
    }

    /// One of somebody's devices; of the first person mostly the first.
    fn device_of(&mut self, person: usize) -> Option<usize> {
        let devices = self.town.as_ref().map(|town| town.kin.devices(person))?;
        if person == 0 && self.rng.chance(600) {
            return Some(0);
        }
        self.rng.pick(&devices).copied()
    }

    /// The commands of a device that died are never answered.
    pub(crate) fn town_died(&mut self, device: usize) {
        self.pairing_died(device);
        if let Some(town) = &mut self.town {
            town.asked.retain(|(by, _), _| *by != device);
        }
    }
}
