//! What must hold in a town when everything has come to rest.

use std::collections::BTreeMap;

use delta_core::identity::{LogId, OperationId};
use delta_core::ops::Ticket;
use delta_core::store::OutboxCounts;
use delta_core::topic::TopicId;

use super::Town;
use super::kin::Bond;
use super::reference::{Reading, Stands};
use crate::check::broken;
use crate::rows;
use crate::trace::short;
use crate::violation::{Violation, ensure};
use crate::world::World;

impl World {
    /// Ends a round.
    pub(super) fn check_town(&mut self) -> Result<(), Violation> {
        let now = self.now();
        for device in 0..self.devices.len() {
            ensure!(self.devices[device].is_idle(), "device {device} still has work to do");
        }
        let found = self.stands_on(0)?;
        self.trace.line(now, format_args!("the round is over: {found:?}"));
        let Some(town) = &mut self.town else { return Ok(()) };
        let before = town.reference.stands().to_vec();
        let round = town.reference.round();
        town.meetings.clear();
        town.reference.end_round(&found, &town.kin)?;
        let town = self.town.as_ref().ok_or_else(|| Violation::new("no town"))?;
        let steady: Vec<bool> =
            town.kin.homes.iter().map(|home| home.linked && home.is_steady(false)).collect();
        let lives = self.lives(town)?;
        let whole = self.whole(town, &lives, &found)?;
        self.check_keys(town, &lives, (&before, &found), &whole)?;
        let left = self.left_behind(town)?;
        if let Some(town) = &mut self.town {
            for device in left {
                let home = &mut town.kin.homes[device];
                (home.linked, home.left) = (false, true);
            }
            town.kin.end_round(round, &whole, &found);
        }
        let town = self.town.as_ref().ok_or_else(|| Violation::new("no town"))?;
        for device in 0..self.devices.len() {
            if whole[device] {
                let here = self.stands_on(device)?;
                ensure!(here == found, "device {device} sees {here:?}, the first one {found:?}");
                self.check_sent(town, device, found[town.kin.person(device)])?;
            }
            self.check_reading(town, device)?;
        }
        self.check_order_in_town(town, &whole)?;
        self.check_marks(town, &steady)?;
        self.check_own(town)?;
        self.check_revoked(town, &lives)?;
        if let Some(town) = &mut self.town {
            town.marks.clear();
            town.lived = Some(lives);
        }
        Ok(())
    }

    /// How everybody stands, as one device sees it.
    fn stands_on(&self, device: usize) -> Result<Vec<Stands>, Violation> {
        let Some(town) = &self.town else { return Ok(Vec::new()) };
        let Some(space) = town.space else { return Err(Violation::new("the space was never made")) };
        let rows = self.reader(device)?.members(&space).map_err(|error| broken(device, &error))?;
        let people = &town.kin.people;
        let mut found = vec![Stands::default(); people.len()];
        for row in rows {
            let person = people.iter().position(|person| person.identity == row.member);
            let person =
                person.ok_or_else(|| Violation::new(format!("a stranger is a member: {}", row.member)))?;
            let standing = row.standing;
            found[person] = Stands { level: standing.level, muted: standing.muted, banned: standing.banned };
        }
        Ok(found)
    }

    pub(super) fn newest(&self, device: usize, log: LogId) -> Result<Option<Ticket>, Violation> {
        let reader = self.reader(device)?;
        let topics = reader.topics_of_log(log).map_err(|error| broken(device, &error))?;
        let Some((_, topic)) = topics.last() else { return Ok(None) };
        let row = reader.topic(*topic).map_err(|error| broken(device, &error))?;
        Ok(row.map(|row| row.ticket))
    }

    /// Where the space and its room live now.
    fn lives(&self, town: &Town) -> Result<[TopicId; 2], Violation> {
        let mut lives = Vec::new();
        for log in town.logs() {
            let first = self.newest(0, log)?;
            lives.push(first.ok_or_else(|| Violation::new("the first person lost its space"))?.topic());
        }
        lives.try_into().map_err(|_| Violation::new("the space and its room were never made"))
    }

    /// Which devices must have what their person has: those that the space was told of. A device that shares with another
    /// one which is there, or knows where the space lives, must be among them.
    fn whole(&self, town: &Town, lives: &[TopicId; 2], found: &[Stands]) -> Result<Vec<bool>, Violation> {
        let (Some(space), kin) = (town.space, &town.kin) else { return Ok(Vec::new()) };
        let told = self.reader(0)?.space_devices(&space).map_err(|error| broken(0, &error))?;
        let mut whole = Vec::new();
        for (device, home) in kin.homes.iter().enumerate() {
            let (author, identity) = (self.devices[device].author(), kin.people[home.person].identity);
            let its = told.iter().find(|told| told.device == author && told.identity == identity);
            let is_there = found[home.person].access() > 0 && home.bond == Bond::Own;
            let is_told = author.0 == identity.0 || its.is_some_and(|told| !told.revoked);
            ensure!(
                !is_there || its.is_none_or(|told| !told.revoked),
                "device {device} is its person's, and revoked in the space"
            );
            whole.push(is_there && is_told);
        }
        for (device, home) in kin.homes.iter().enumerate() {
            let access = found[home.person].access();
            if access == 0 || home.bond != Bond::Own || whole[device] {
                continue;
            }
            let sisters = kin.devices(home.person);
            // Of a person who lost what their devices shared, others may share something else by now.
            let shared = |it: &usize| kin.homes[*it].linked && kin.own.get(it) == kin.own.get(&device);
            let shares = home.linked && sisters.iter().any(|it| whole[*it] && shared(it));
            let known = self.reader(device)?.topic(lives[0]).map_err(|error| broken(device, &error))?;
            // Who may only read has a manager say it.
            let tells = known.is_some_and(|row| access == 1 || row.ticket.can_write());
            ensure!(
                !shares && !tells,
                "device {device} did not tell the space whose it is (shares {shares}, tells {tells})"
            );
        }
        Ok(whole)
    }

    /// Members hold the keys of where the space and its room live now, each as much of them as it may, and nobody else
    /// does.
    fn check_keys(
        &self,
        town: &Town,
        lives: &[TopicId; 2],
        (before, found): (&[Stands], &[Stands]),
        whole: &[bool],
    ) -> Result<(), Violation> {
        for ((log, topic), what) in town.logs().zip(*lives).zip(["space", "room"]) {
            for (device, home) in town.kin.homes.iter().enumerate() {
                let (stands, before) = (found[home.person], before[home.person]);
                if stands.access() == 0 {
                    let known = self.reader(device)?.topic(topic).map_err(|error| broken(device, &error))?;
                    let invited = what == "space" && town.reference.is_invited(home.person);
                    ensure!(
                        invited || known.is_none(),
                        "device {device} is out, and has the key of the {what}"
                    );
                }
                if !whole[device] {
                    continue;
                }
                let has = self.newest(device, log)?;
                let Some(has) = has else {
                    let sees = self.stands_on(device)?;
                    return Err(Violation::new(format!(
                        "device {device} does not know the {what}, and sees {sees:?}"
                    )));
                };
                let (epoch, place) = (has.epoch(), short(&has.topic()));
                ensure!(
                    has.topic() == topic,
                    "device {device} is in {place} (epoch {epoch}) of the {what}, the first one in {}",
                    short(&topic)
                );
                // Whoever is invited to read has the invitation's key, which may write; until keys move.
                let came = town.reference.came(home.person);
                let demoted = stands.access() == 1 && before.access() == 2 && !came;
                ensure!(
                    if stands.access() == 2 { has.can_write() } else { !(demoted && has.can_write()) },
                    "device {device} has the wrong right in the {what}: {stands:?}"
                );
            }
        }
        if let Some(lived) = town.lived.filter(|_| town.reference.keys_moved()) {
            let moved = lived.iter().zip(lives).all(|(before, now)| before != now);
            ensure!(moved, "somebody lost a right in round, and the keys did not move");
        }
        Ok(())
    }

    /// Devices that were left behind when what their person's devices share moved while they were paired.
    fn left_behind(&self, town: &Town) -> Result<Vec<usize>, Violation> {
        let mut left = Vec::new();
        for (device, log) in town.kin.own.iter().filter(|(device, _)| town.kin.may_be_left(**device)) {
            let own = self.newest(*device, *log)?.map(|own| own.epoch());
            for (other, _) in town.kin.own.iter().filter(|(_, of)| *of == log) {
                if own < self.newest(*other, *log)?.map(|own| own.epoch()) && !left.contains(device) {
                    left.push(*device);
                }
            }
        }
        Ok(left)
    }

    /// The devices of a person share one topic, and none that was revoked has it.
    fn check_own(&self, town: &Town) -> Result<(), Violation> {
        let mut lives = BTreeMap::new();
        for (device, log) in &town.kin.own {
            let home = &town.kin.homes[*device];
            let Some(own) = self.newest(*device, *log)?.map(|own| own.topic()) else { continue };
            if home.linked && home.bond == Bond::Own {
                let (first, lives_at) = *lives.entry(*log).or_insert((*device, own));
                ensure!(lives_at == own, "device {first} and device {device} share nothing any more");
            }
        }
        for (device, log) in &town.kin.own {
            if let (Bond::Revoked(_), Some((_, own))) = (town.kin.homes[*device].bond, lives.get(log)) {
                let known = self.reader(*device)?.topic(*own).map_err(|error| broken(*device, &error))?;
                ensure!(known.is_none(), "device {device} was revoked, and has its person's topic");
            }
        }
        Ok(())
    }

    /// A device that was revoked reads nothing of where the space and its room live now, with any key it has.
    fn check_revoked(&self, town: &Town, lives: &[TopicId; 2]) -> Result<(), Violation> {
        for (device, home) in town.kin.homes.iter().enumerate() {
            if home.out.is_none() || !matches!(home.bond, Bond::Revoked(_)) {
                continue;
            }
            let keys = self.reader(device)?.topics().map_err(|error| broken(device, &error))?;
            for topic in lives {
                for (_, envelope) in self.server.envelopes(topic) {
                    let opens = keys.iter().any(|row| row.ticket.keys().open(&envelope).is_ok());
                    ensure!(!opens, "device {device} was revoked, and opens what stands in {}", short(topic));
                }
            }
        }
        Ok(())
    }

    /// Whoever may write has sent everything it had to say.
    fn check_sent(&self, town: &Town, device: usize, stands: Stands) -> Result<(), Violation> {
        if stands.access() < 2 {
            return Ok(());
        }
        for log in town.logs() {
            let Some(ticket) = self.newest(device, log)? else { continue };
            let standing =
                self.reader(device)?.standing(ticket.topic()).map_err(|error| broken(device, &error))?;
            ensure!(
                standing.outbox == OutboxCounts::default(),
                "device {device} still has {:?} in its outbox",
                standing.outbox
            );
        }
        Ok(())
    }

    /// Each device shows what it must, and not what it must not.
    fn check_reading(&self, town: &Town, device: usize) -> Result<(), Violation> {
        let Some(room) = town.room else { return Ok(()) };
        let shown = rows::order(self.reader(device)?, &room).map_err(|error| broken(device, &error))?;
        let Reading { must, must_not } = town.reference.reading(device, &town.kin);
        if let Some(lacking) = must.iter().find(|id| !shown.contains(id)) {
            return Err(Violation::new(format!(
                "device {device} does not show {}, {}",
                short(lacking),
                self.whereabouts(lacking)?
            )));
        }
        if let Some(too_much) = must_not.iter().find(|id| shown.contains(id)) {
            let id = short(too_much);
            return Err(Violation::new(format!("device {device} shows {id}, which it must not")));
        }
        Ok(())
    }

    /// Who has an operation, in words.
    fn whereabouts(&self, id: &OperationId) -> Result<String, Violation> {
        let mut has = Vec::new();
        for device in 0..self.devices.len() {
            let found = self.reader(device)?.operation(id).map_err(|error| broken(device, &error))?;
            has.extend(found.map(|_| device.to_string()));
        }
        Ok(format!("which devices {} have", has.join(", ")))
    }

    /// What any two members show, both show in one order.
    fn check_order_in_town(&self, town: &Town, whole: &[bool]) -> Result<(), Violation> {
        let Some(room) = town.room else { return Ok(()) };
        let mut first: Option<BTreeMap<OperationId, usize>> = None;
        for device in (0..whole.len()).filter(|device| whole[*device]) {
            let shown = rows::order(self.reader(device)?, &room).map_err(|error| broken(device, &error))?;
            let Some(first) = &first else {
                first = Some(shown.into_iter().zip(0..).collect());
                continue;
            };
            let places: Vec<_> =
                shown.iter().filter_map(|id| first.get(id).map(|place| (*place, *id))).collect();
            if let Some([(_, one), (_, other)]) = places.array_windows().find(|[one, other]| one > other) {
                let at = |on: usize, id| {
                    let row = self.reader(on)?.message(id).map_err(|error| broken(on, &error))?;
                    Ok::<_, Violation>(row.map(|row| (row.position.place, row.position.seq_num)))
                };
                return Err(Violation::new(format!(
                    "device {device} shows {} at {:?} before {} at {:?}, the first one has them at {:?} and {:?}",
                    short(one),
                    at(device, one)?,
                    short(other),
                    at(device, other)?,
                    at(0, one)?,
                    at(0, other)?
                )));
            }
        }
        Ok(())
    }
}
