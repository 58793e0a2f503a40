//! What must hold in a town when everything has come to rest.

use std::collections::BTreeMap;

use delta_core::identity::{LogId, OperationId};
use delta_core::ops::Ticket;
use delta_core::store::OutboxCounts;
use delta_core::topic::TopicId;

use super::Town;
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
        town.reference.end_round(&found)?;
        let town = self.town.as_ref().ok_or_else(|| Violation::new("no town"))?;
        let lives = self.check_keys(town, &before, &found)?;
        for (device, stands) in found.iter().enumerate() {
            if stands.access() > 0 {
                let here = self.stands_on(device)?;
                ensure!(here == found, "device {device} sees {here:?}, the first one {found:?}");
                self.check_sent(town, device, *stands)?;
            }
            self.check_reading(town, device)?;
        }
        self.check_order_in_town(town, &found)?;
        if let Some(town) = &mut self.town {
            town.lived = Some(lives);
        }
        Ok(())
    }

    /// How everybody stands, as one device sees it.
    fn stands_on(&self, device: usize) -> Result<Vec<Stands>, Violation> {
        let Some(town) = &self.town else { return Ok(Vec::new()) };
        let Some(space) = town.space else { return Err(Violation::new("the space was never made")) };
        let rows = self.reader(device)?.members(&space).map_err(|error| broken(device, &error))?;
        let mut found = vec![Stands::default(); town.people.len()];
        for row in rows {
            let person = town.people.iter().position(|person| person.0 == row.member.0);
            let person =
                person.ok_or_else(|| Violation::new(format!("a stranger is a member: {}", row.member)))?;
            let standing = row.standing;
            found[person] = Stands { level: standing.level, muted: standing.muted, banned: standing.banned };
        }
        Ok(found)
    }

    fn newest(&self, device: usize, log: LogId) -> Result<Option<Ticket>, Violation> {
        let reader = self.reader(device)?;
        let topics = reader.topics_of_log(log).map_err(|error| broken(device, &error))?;
        let Some((_, topic)) = topics.last() else { return Ok(None) };
        let row = reader.topic(*topic).map_err(|error| broken(device, &error))?;
        Ok(row.map(|row| row.ticket))
    }

    /// Members hold the keys of where the space and its room live now, each as much of them as it may, and nobody else
    /// does. Gives where that is.
    fn check_keys(
        &self,
        town: &Town,
        before: &[Stands],
        found: &[Stands],
    ) -> Result<[TopicId; 2], Violation> {
        let mut lives = Vec::new();
        for log in town.logs() {
            let first = self.newest(0, log)?;
            let topic = first.ok_or_else(|| Violation::new("the first person lost its space"))?.topic();
            for (device, stands) in found.iter().enumerate() {
                let what = if Some(log) == town.space { "space" } else { "room" };
                if stands.access() == 0 {
                    let known = self.reader(device)?.topic(topic).map_err(|error| broken(device, &error))?;
                    let invited = what == "space" && town.reference.is_invited(device);
                    ensure!(
                        invited || known.is_none(),
                        "device {device} is out, and has the key of the {what}"
                    );
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
                let demoted = stands.access() == 1 && before[device].access() == 2;
                ensure!(
                    if stands.access() == 2 { has.can_write() } else { !(demoted && has.can_write()) },
                    "device {device} has the wrong right in the {what}: {stands:?}"
                );
            }
            lives.push(topic);
        }
        let lives: [TopicId; 2] =
            lives.try_into().map_err(|_| Violation::new("the space and its room were never made"))?;
        if let Some(lived) = town.lived.filter(|_| town.reference.keys_moved()) {
            let moved = lived.iter().zip(&lives).all(|(before, now)| before != now);
            ensure!(moved, "somebody lost a right in round, and the keys did not move");
        }
        Ok(lives)
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
        let Reading { must, must_not } = town.reference.reading(device);
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
    fn check_order_in_town(&self, town: &Town, found: &[Stands]) -> Result<(), Violation> {
        let Some(room) = town.room else { return Ok(()) };
        let mut first: Option<BTreeMap<OperationId, usize>> = None;
        let is_there = |device: &usize| found[*device].access() > 0;
        for device in (0..found.len()).filter(is_there) {
            let shown = rows::order(self.reader(device)?, &room).map_err(|error| broken(device, &error))?;
            let Some(first) = &first else {
                first = Some(shown.into_iter().zip(0..).collect());
                continue;
            };
            let places: Vec<usize> = shown.iter().filter_map(|id| first.get(id).copied()).collect();
            ensure!(places.is_sorted(), "device {device} shows messages in another order than the first one");
        }
        Ok(())
    }
}
