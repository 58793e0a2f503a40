//! The conversations of this device, as a list: which there are, what is unread, which one is chosen.

use std::collections::BTreeSet;

use delta_core::identity::{Author, LogId};
use delta_core::store::{Page, Reader, RoomState, StoreError};
use delta_core::topic::TopicId;

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Which.
    pub log: LogId,
    /// Where it is; `None`: this device has no key of it (yet).
    pub topic: Option<TopicId>,
    /// What it is called.
    pub name: String,
    /// What it is in: the name of a space.
    pub group: String,
    /// To be read only.
    pub archived: bool,
    /// Messages that this person has not read.
    pub unread: u64,
}

/// All of them, and one that is chosen.
#[derive(Debug, Default)]
pub struct Rooms {
    rows: Vec<Room>,
    chosen: usize,
}

impl Rooms {
    /// In the order in which they are shown.
    pub fn rows(&self) -> &[Room] {
        &self.rows
    }

    /// The chosen one.
    pub fn chosen(&self) -> Option<&Room> {
        self.rows.get(self.chosen)
    }

    /// Where the chosen one stands.
    pub const fn place(&self) -> usize {
        self.chosen
    }

    /// One of them.
    pub fn get(&self, log: &LogId) -> Option<&Room> {
        self.rows.iter().find(|room| room.log == *log)
    }

    /// As they are now; the chosen one stays chosen.
    pub fn replace(&mut self, rows: Vec<Room>) {
        let before = self.chosen().map(|room| room.log);
        self.rows = rows;
        self.chosen = self.chosen.min(self.rows.len().saturating_sub(1));
        if let Some(log) = before {
            self.choose(&log);
        }
    }

    /// Chooses one, if it is there.
    pub fn choose(&mut self, log: &LogId) {
        self.chosen = self.rows.iter().position(|room| room.log == *log).unwrap_or(self.chosen);
    }

    /// Chooses the one above.
    pub const fn up(&mut self) {
        self.chosen = self.chosen.saturating_sub(1);
    }

    /// Chooses the one below.
    pub fn down(&mut self) {
        self.chosen = (self.chosen + 1).min(self.rows.len().saturating_sub(1));
    }

    /// Chooses the first that has something new; the first of all where none has.
    pub fn choose_new(&mut self) {
        self.chosen = self.rows.iter().position(|room| room.unread > 0).unwrap_or(0);
    }

    /// How many messages are unread in all but one.
    pub fn unread_besides(&self, log: Option<LogId>) -> u64 {
        self.rows.iter().filter(|room| Some(room.log) != log).map(|room| room.unread).sum()
    }
}

/// What a device follows.
#[derive(Debug, Default)]
pub struct Listing {
    /// The conversations people talk in.
    pub rooms: Vec<Room>,
    /// The topics of spaces: rooms and members come there.
    pub spaces: Vec<TopicId>,
}

/// Reads the list. What was `asked` for is in it even when nobody has said anything there.
pub fn list(reader: &Reader, me: &Author, asked: Option<LogId>) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    let mut known = BTreeSet::new();
    let first = |log| reader.known_as(log);
    let unread = |log| Ok::<_, StoreError>(reader.unread(&log, me)?.messages);
    for space in reader.spaces()? {
        let log = space.space;
        let topic = first(log)?;
        // In a space itself little is said, but it can be asked for.
        if asked != Some(log) {
            known.insert(log);
        }
        for room in reader.rooms(&log)? {
            known.insert(room.room);
            if space.deleted || room.state == RoomState::Deleted {
                continue;
            }
            listing.rooms.push(Room {
                log: room.room,
                topic: first(room.room)?,
                name: room.text.name,
                group: space.text.name.clone(),
                archived: room.state == RoomState::Archived,
                unread: unread(room.room)?,
            });
        }
        listing.spaces.extend(topic.filter(|_| !space.deleted));
    }
    for row in reader.topics()? {
        let log = row.ticket.log();
        // What a person's devices tell each other holds no messages.
        if known.insert(log) && (asked == Some(log) || !reader.messages(&log, Page::Newest, 1)?.is_empty()) {
            let name = reader.space(&log)?.map(|space| space.text.name);
            listing.rooms.push(Room {
                log,
                topic: first(log)?,
                name: name.unwrap_or_else(|| short(&log.to_string())),
                group: String::new(),
                archived: false,
                unread: unread(log)?,
            });
        }
    }
    Ok(listing)
}

/// The beginning of an id.
pub fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: u8, unread: u64) -> Room {
        let (name, group) = (format!("room {number}"), "space".to_owned());
        Room { log: LogId([number; 32]), topic: None, name, group, archived: false, unread }
    }

    #[test]
    fn the_choice_stays_within_the_list_and_with_the_room() {
        let mut rooms = Rooms::default();
        rooms.down();
        rooms.up();
        rooms.choose_new();
        assert_eq!(rooms.chosen(), None);
        rooms.replace(vec![room(1, 0), room(2, 0)]);
        rooms.down();
        rooms.down();
        assert_eq!(rooms.chosen().unwrap().log, LogId([2; 32]));
        rooms.replace(vec![room(1, 0), room(3, 0), room(2, 0)]);
        assert_eq!(rooms.chosen().unwrap().log, LogId([2; 32]));
        rooms.replace(vec![room(1, 0)]);
        assert_eq!(rooms.chosen().unwrap().log, LogId([1; 32]));
    }

    #[test]
    fn what_is_unread_elsewhere_is_counted_and_chosen() {
        let mut rooms = Rooms::default();
        rooms.replace(vec![room(1, 0), room(2, 3), room(3, 4)]);
        rooms.choose_new();
        assert_eq!(rooms.chosen().unwrap().log, LogId([2; 32]));
        assert_eq!(rooms.unread_besides(None), 7);
        assert_eq!(rooms.unread_besides(Some(LogId([2; 32]))), 4);
    }
}
