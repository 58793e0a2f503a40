//! A conversation that is shown: its messages, how far it is scrolled, what was read, how its topic stands. Plain
//! values; reading and sending is the caller's.

use std::collections::{BTreeMap, BTreeSet};

use delta_client::{ReadPath, TopicStatus};
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::projector::Position;
use delta_core::store::{Attachment, MessageRow, OutboxRowState, QueuedOperation};
use delta_core::topic::TopicId;

use super::rooms::short;
use crate::device::name;

/// How a conversation's topic stands.
#[derive(Default)]
pub struct Badge {
    /// What the connection does.
    pub connection: &'static str,
    /// Whether the server sees this device's address; `None` while nothing is read.
    pub hidden: Option<bool>,
    /// Messages the server does not have yet.
    pub waiting: usize,
    /// Why nothing is sent or read.
    pub trouble: Option<String>,
}

impl Badge {
    /// From a topic's status.
    pub fn of(status: &TopicStatus) -> Self {
        let troubles = [
            status.unreadable.as_ref().map(ToString::to_string),
            status.blocked.as_ref().map(ToString::to_string),
            status.awaiting_key.map(|_| "the keys changed, and this device has no new one (yet)".to_owned()),
        ];
        Self {
            connection: name(status.connection),
            hidden: status.read_path.map(|path| matches!(path, ReadPath::Tunnel { .. })),
            waiting: status.queued + status.sent,
            trouble: troubles.into_iter().flatten().next(),
        }
    }
}

/// Whether the server has a message of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Not yet.
    Pending,
    /// It has it.
    Sent,
    /// Nothing is tried until somebody asks for it.
    Failed,
}

/// Who writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// What they call themselves.
    pub name: Option<String>,
    /// It is another device of this device's person.
    pub mine: bool,
}

/// A conversation.
pub struct Conversation {
    /// Which.
    pub log: LogId,
    /// Where it is.
    pub topic: TopicId,
    /// What it is called.
    pub title: String,
    /// Who writes here.
    pub me: Author,
    /// How the topic stands.
    pub badge: Badge,
    /// Oldest first.
    pub rows: Vec<MessageRow>,
    /// The first message that had not been read when it was opened.
    pub first_new: Option<Position>,
    /// How many lines below the screen there are.
    back: usize,
    /// How many lines a page has. The view sets it.
    height: usize,
    /// Lines at the last look, and whether some were added below since.
    lines: usize,
    appended: bool,
    /// The page before the oldest message is to be read.
    older: bool,
    people: BTreeMap<Author, Person>,
    /// Messages of this device for which nothing is tried, and why.
    failed: BTreeMap<OperationId, String>,
    /// Nothing is older than the first of `rows`.
    whole: bool,
    /// The newest message that was on the screen.
    seen: Option<Position>,
    /// Up to where that was noted.
    noted: Option<Position>,
}

impl Conversation {
    /// An empty one.
    pub fn new(log: LogId, topic: TopicId, title: String, me: Author) -> Self {
        Self {
            log,
            topic,
            title,
            me,
            badge: Badge::default(),
            rows: Vec::new(),
            first_new: None,
            back: 0,
            height: 1,
            lines: 0,
            appended: false,
            older: false,
            people: BTreeMap::new(),
            failed: BTreeMap::new(),
            whole: false,
            seen: None,
            noted: None,
        }
    }

    /// The newest page (of `asked` rows) as it stands at first, and how many messages of others are new.
    pub fn begin(&mut self, rows: Vec<MessageRow>, unread: u64, asked: usize) {
        let unread = usize::try_from(unread).unwrap_or(usize::MAX);
        let mut new = rows.iter().rev().filter(|row| !self.is_mine(&row.author()) && row.text.is_some());
        self.first_new = match unread.checked_sub(1) {
            None => None,
            // More than are here: all of them.
            Some(before) => new.nth(before).or(rows.first()).map(|row| row.position),
        };
        self.replace(rows, asked);
    }

    /// How many of the newest rows to read again.
    pub fn wanted(&self, page: usize, kept: usize) -> usize {
        if self.back == 0 { (self.rows.len() + page).min(kept) } else { self.rows.len() + page }
    }

    /// The newest `asked` rows.
    pub fn replace(&mut self, mut rows: Vec<MessageRow>, asked: usize) {
        let oldest = self.oldest();
        if rows.len() < asked {
            self.whole = true;
        } else if let Some(oldest) = oldest {
            let extra = rows.iter().take_while(|row| row.position < oldest).count();
            self.whole &= extra == 0 && rows.first().is_some_and(|row| row.position == oldest);
            rows.drain(..extra);
        } else {
            self.whole = false;
        }
        self.rows = rows;
        self.appended = true;
    }

    /// A page (of `asked` rows) before the oldest.
    pub fn prepend(&mut self, rows: Vec<MessageRow>, asked: usize) {
        self.whole = rows.len() < asked;
        self.rows.splice(0..0, rows);
    }

    /// Where the oldest row is.
    pub fn oldest(&self) -> Option<Position> {
        self.rows.first().map(|row| row.position)
    }

    /// Whose names are looked for.
    pub fn authors(&self) -> BTreeSet<Author> {
        self.rows.iter().map(MessageRow::author).filter(|author| *author != self.me).collect()
    }

    /// Who they are.
    pub fn meet(&mut self, people: Vec<(Author, Person)>) {
        self.people.extend(people);
    }

    /// Whether this device's person wrote with it.
    pub fn is_mine(&self, author: &Author) -> bool {
        *author == self.me || self.people.get(author).is_some_and(|person| person.mine)
    }

    /// What an author is called here. Names are chosen freely: the beginning of the key stands beside them.
    pub fn name_of(&self, author: &Author) -> String {
        if self.is_mine(author) {
            return "me".to_owned();
        }
        let key = short(&author.to_string());
        let person = self.people.get(author).and_then(|person| person.name.as_deref());
        match person.map(str::trim).filter(|name| !name.is_empty()) {
            Some(name) => format!("{name}#{}", key.get(..4).unwrap_or_default()),
            None => key,
        }
    }

    /// What stands in the outbox.
    pub fn in_outbox(&mut self, outbox: Vec<QueuedOperation>) {
        let failed = outbox.into_iter().filter_map(|row| match row.state {
            OutboxRowState::Parked { reason } if row.own => Some((row.operation, reason)),
            _ => None,
        });
        self.failed = failed.collect();
    }

    /// Why messages failed, and how many.
    pub fn failures(&self) -> Option<(usize, &str)> {
        self.failed.values().next().map(|reason| (self.failed.len(), reason.as_str()))
    }

    /// Whether anything here waits for the server.
    pub fn waits(&self) -> bool {
        !self.failed.is_empty()
            || self.badge.waiting > 0
            || self.rows.iter().any(|row| !row.is_acknowledged())
    }

    /// Whether the server has it; `None`: another device sent it.
    pub fn delivery(&self, row: &MessageRow) -> Option<Delivery> {
        if row.author() != self.me {
            return None;
        }
        Some(match row.is_acknowledged() {
            true => Delivery::Sent,
            false if self.failed.contains_key(&row.id) => Delivery::Failed,
            false => Delivery::Pending,
        })
    }

    /// How many messages of others came since the newest was last on the screen.
    pub fn unseen(&self) -> usize {
        let since = self.rows.iter().rev().take_while(|row| Some(row.position) > self.seen);
        since.filter(|row| !self.is_mine(&row.author())).count()
    }

    /// How far was read, when that is news. What has no place yet may get any.
    pub fn newly_read(&mut self) -> Option<Position> {
        let seen = self.seen?;
        let placed = self.rows.iter().rev().find(|row| row.is_acknowledged() && row.position <= seen)?;
        let upto = Some(placed.position);
        if upto <= self.noted {
            return None;
        }
        self.noted = upto;
        upto
    }

    /// The files of the messages that are here.
    pub fn files(&self) -> impl Iterator<Item = &Attachment> {
        self.rows.iter().flat_map(|row| &row.attachments)
    }

    /// Looks further back, by lines.
    pub const fn up(&mut self, lines: usize) {
        self.back = self.back.saturating_add(lines);
    }

    /// Looks further on, by lines.
    pub const fn down(&mut self, lines: usize) {
        self.back = self.back.saturating_sub(lines);
    }

    /// Looks at the newest.
    pub const fn go_to_newest(&mut self) {
        self.back = 0;
    }

    /// Whether there is something below what is shown.
    pub const fn is_scrolled(&self) -> bool {
        self.back > 0
    }

    /// Lines of a page.
    pub const fn page(&self) -> usize {
        self.height
    }

    /// The view has so many lines on pages of `height`. What is looked at stays where it is when messages come below.
    /// Gives how many lines are left out at the end.
    pub fn lay_out(&mut self, lines: usize, height: usize) -> usize {
        if std::mem::take(&mut self.appended) && self.back > 0 {
            self.back = self.back.saturating_add(lines.saturating_sub(self.lines));
        }
        (self.lines, self.height) = (lines, height.max(1));
        let most = lines.saturating_sub(height);
        self.older = self.back > most && !self.whole;
        if !self.older {
            self.back = self.back.min(most);
        }
        if self.back == 0 {
            self.seen = self.seen.max(self.rows.last().map(|row| row.position));
        }
        self.back.min(most)
    }

    /// Whether the page before the oldest message is to be read.
    pub const fn wants_older(&mut self) -> bool {
        std::mem::replace(&mut self.older, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::samples::{ME, THEM, conversation, row};

    #[test]
    fn the_first_unread_message_of_others_is_marked() {
        let mut chat = conversation();
        chat.begin(vec![row(THEM, 1, "a"), row(ME, 2, "b"), row(THEM, 3, "c")], 1, 50);
        assert_eq!(chat.first_new.unwrap().place.seq.0, 3);
        chat.begin(vec![row(THEM, 1, "a"), row(ME, 2, "b"), row(THEM, 3, "c")], 2, 50);
        assert_eq!(chat.first_new.unwrap().place.seq.0, 1);
        // More than the page has.
        chat.begin(vec![row(ME, 2, "b"), row(THEM, 3, "c")], 1000, 50);
        assert_eq!(chat.first_new.unwrap().place.seq.0, 2);
        chat.begin(vec![row(THEM, 1, "a")], 0, 50);
        assert_eq!(chat.first_new, None);
    }

    #[test]
    fn older_pages_are_asked_for_until_there_are_none() {
        let mut chat = conversation();
        chat.begin((11..=20).map(|n| row(THEM, n, "x")).collect(), 0, 10);
        assert_eq!((chat.lay_out(10, 5), chat.wants_older()), (0, false));
        chat.up(6);
        assert_eq!(chat.lay_out(10, 5), 5);
        assert!(chat.wants_older());
        chat.prepend((8..=10).map(|n| row(THEM, n, "x")).collect(), 10);
        assert_eq!(chat.lay_out(13, 5), 6, "one line further up than before");
        chat.up(100);
        assert_eq!((chat.lay_out(13, 5), chat.wants_older()), (8, false));
    }

    #[test]
    fn a_room_that_was_empty_has_older_pages_once_a_whole_page_came() {
        let mut chat = conversation();
        chat.begin(Vec::new(), 0, 3);
        assert_eq!(chat.wanted(3, 500), 3);
        chat.replace((8..=10).map(|n| row(THEM, n, "x")).collect(), 3);
        chat.up(1);
        chat.lay_out(3, 3);
        assert!(chat.wants_older());
        // More came than the page takes: what was the oldest is not in it any more.
        chat.go_to_newest();
        chat.prepend((1..=7).map(|n| row(THEM, n, "x")).collect(), 50);
        chat.replace((20..=30).map(|n| row(THEM, n, "x")).collect(), 11);
        chat.up(20);
        chat.lay_out(11, 3);
        assert!(chat.wants_older());
    }

    #[test]
    fn what_is_looked_at_stays_when_messages_come_below() {
        let mut chat = conversation();
        chat.begin((1..=10).map(|n| row(THEM, n, "x")).collect(), 0, 50);
        chat.lay_out(10, 5);
        chat.up(2);
        chat.lay_out(10, 5);
        let wanted = chat.wanted(50, 500);
        chat.replace((1..=11).map(|n| row(THEM, n, "x")).collect(), wanted);
        assert_eq!(chat.lay_out(11, 5), 3);
        assert_eq!(chat.unseen(), 1);
        chat.go_to_newest();
        chat.lay_out(11, 5);
        assert_eq!(chat.unseen(), 0);
    }

    #[test]
    fn only_what_has_a_place_is_noted_as_read() {
        let mut chat = conversation();
        chat.begin(vec![row(THEM, 1, "x"), row(ME, u64::MAX, "y")], 1, 50);
        assert_eq!(chat.newly_read(), None, "nothing was on the screen");
        chat.lay_out(2, 5);
        assert_eq!(chat.newly_read().unwrap().place.seq.0, 1);
        assert_eq!(chat.newly_read(), None);
    }

    #[test]
    fn a_borrowed_name_does_not_hide_whose_key_it_is() {
        let mut chat = conversation();
        chat.begin(vec![row(THEM, 1, "x")], 0, 50);
        assert_eq!(chat.name_of(&THEM), "02020202");
        chat.meet(vec![(THEM, Person { name: Some("me".to_owned()), mine: false })]);
        assert_eq!((chat.name_of(&THEM).as_str(), chat.name_of(&ME).as_str()), ("me#0202", "me"));
        chat.meet(vec![(THEM, Person { name: Some("Ada".to_owned()), mine: true })]);
        assert_eq!(chat.name_of(&THEM), "me");
    }
}
