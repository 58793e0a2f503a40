//! How far people have read: what one of their devices says, the others know.

use delta_core::engine::Command;
use delta_core::identity::OperationId;
use delta_core::projector::Position;
use delta_core::store::{MessageRow, Page};

use super::{Asked, Town};
use crate::check::broken;
use crate::violation::{Violation, ensure};
use crate::world::World;

/// Messages looked at, newest first: more than are ever said in a town.
const PAGE: usize = 2_000;

/// Somebody has read up to here, as one of their devices said in this round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub device: usize,
    pub position: Position,
    pub message: OperationId,
}

impl World {
    /// Somebody looks at the room, up to one of the newest messages.
    pub(super) fn read_in_town(&mut self, device: usize) -> Result<(), Violation> {
        let Some(room) = self.town.as_ref().and_then(|town| town.room) else { return Ok(()) };
        if self.devices[device].engine.is_none() {
            return Ok(());
        }
        let rows = self.messages_of(device)?;
        let back = self.rng.index(3);
        // One that has no place yet moves.
        let placed = rows.iter().rev().filter(|row| row.position.place.is_placed());
        let Some((upto, message)) = placed.map(|row| (row.position, row.id)).nth(back) else { return Ok(()) };
        self.ask(device, Command::SetRead { log: room, upto }, Asked::Read(upto, message));
        Ok(())
    }

    fn messages_of(&self, device: usize) -> Result<Vec<MessageRow>, Violation> {
        let Some(room) = self.town.as_ref().and_then(|town| town.room) else { return Ok(Vec::new()) };
        let rows = self.reader(device)?.messages(&room, Page::Newest, PAGE);
        rows.map_err(|error| broken(device, &error))
    }

    /// What one device of a person has read, the others have, too, that were linked when the round began.
    pub(super) fn check_marks(&self, town: &Town, steady: &[bool]) -> Result<(), Violation> {
        let Some(room) = town.room else { return Ok(()) };
        for Mark { device: by, position, message } in &town.marks {
            if !steady[*by] {
                continue;
            }
            let person = town.kin.person(*by);
            for device in town.kin.devices(person).into_iter().filter(|device| steady[*device]) {
                let rows = self.messages_of(device)?;
                if !rows.iter().any(|row| row.id == *message) {
                    continue;
                }
                let reader = self.reader(device)?;
                let identity = town.kin.people[person].identity;
                let mut left = 0;
                for row in rows.iter().filter(|row| row.position > *position && row.text.is_some()) {
                    let of = reader.person(&room, &row.author()).map_err(|error| broken(device, &error))?;
                    left += u64::from(of != identity);
                }
                let unread = reader.unread(&room, &self.devices[device].author());
                let unread = unread.map_err(|error| broken(device, &error))?.messages;
                ensure!(
                    unread <= left,
                    "device {device} has {unread} unread, and device {by} read all but {left}"
                );
            }
        }
        Ok(())
    }
}
