//! The chat as a whole: the list of rooms, the one that is open, what is being written, and what keys do.

use std::collections::BTreeMap;

use delta_core::identity::LogId;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::composer::Composer;
use super::conversation::Conversation;
use super::rooms::Rooms;

/// Begins a line that gives this device's person a name, instead of sending it.
const NAME: &str = "/name ";
/// Begins a line that names a file to be sent.
const ATTACH: &str = "/attach ";
/// Begins a line that names a file of the others, and where it is to be saved.
const SAVE: &str = "/save ";

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// Only another look.
    Nothing,
    /// Publish this.
    Send(String),
    /// Be called this, in this room.
    Rename(String),
    /// Send this file.
    Attach(String),
    /// Save the file whose id begins like that, under this name.
    Save(String, String),
    /// Show this room.
    Open(LogId),
    /// Try again what failed.
    Retry,
    /// Draw all of it again.
    Redraw,
    /// Back to the shell for a while.
    Suspend,
    /// The end.
    Leave,
}

/// Where keys go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// To the list of rooms.
    List,
    /// To the room.
    Room,
}

/// The chat.
pub struct Chat {
    /// The conversations.
    pub rooms: Rooms,
    /// The one that is open.
    pub open: Option<Conversation>,
    /// What is being written in it.
    pub composer: Composer,
    /// Where keys go.
    pub focus: Focus,
    /// What was begun in others.
    drafts: BTreeMap<LogId, String>,
    notice: Option<String>,
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            rooms: Rooms::default(),
            open: None,
            composer: Composer::default(),
            focus: Focus::List,
            drafts: BTreeMap::new(),
            notice: None,
        }
    }
}

impl Chat {
    /// Shows a conversation; what was begun in the one before waits for it.
    pub fn enter(&mut self, conversation: Conversation) {
        let draft = self.composer.take();
        if let Some(before) = self.open.take().filter(|_| !draft.trim().is_empty()) {
            self.drafts.insert(before.log, draft);
        }
        let begun = self.drafts.remove(&conversation.log).unwrap_or_default();
        // It fitted when it was written.
        let _ = self.composer.insert(&begun);
        self.rooms.choose(&conversation.log);
        self.open = Some(conversation);
        self.focus = Focus::Room;
    }

    /// A remark, until the next key.
    pub fn tell(&mut self, notice: Option<String>) {
        self.notice = notice;
    }

    /// What is to be said below the messages, most pressing first.
    pub fn notice(&self) -> Option<String> {
        let open = self.open.as_ref();
        let failures = || {
            let (count, reason) = open?.failures()?;
            Some(format!("{count} not delivered: {reason} (Ctrl-R tries again)"))
        };
        let trouble = || open?.badge.trouble.clone();
        self.notice.clone().or_else(failures).or_else(trouble)
    }

    /// What was not sent comes back.
    pub fn refused(&mut self, text: &str, why: &str) {
        let newer = self.composer.take();
        let _ = self.composer.insert(text) && self.composer.insert(&newer);
        self.notice = Some(format!("not sent: {why}"));
    }

    /// What was written and not sent, with the room it was for.
    pub fn unsent(&self) -> Vec<(String, &str)> {
        let name = |log: &LogId| self.rooms.get(log).map(|room| room.name.clone()).unwrap_or_default();
        let here = self.open.iter().map(|open| (open.title.clone(), self.composer.text()));
        let there = self.drafts.iter().map(|(log, draft)| (name(log), draft.as_str()));
        here.chain(there).filter(|(_, text)| !text.trim().is_empty()).collect()
    }

    /// Takes a key, a paste or a change of size.
    pub fn input(&mut self, event: Event) -> Wish {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            Event::Paste(text) => self.write(&text.replace("\r\n", "\n").replace('\r', "\n")),
            // Every turn draws anew.
            _ => Wish::Nothing,
        }
    }

    fn key(&mut self, key: KeyEvent) -> Wish {
        self.notice = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Char(letter) if control => return self.command(letter),
            KeyCode::Char('\r' | '\n') | KeyCode::Enter if alt => return self.write("\n"),
            KeyCode::Char(_) if alt => {}
            KeyCode::Char(letter) => return self.write(letter.encode_utf8(&mut [0; 4])),
            KeyCode::Tab | KeyCode::BackTab => self.turn(),
            _ => {
                return if self.focus == Focus::List {
                    self.in_list(key.code)
                } else {
                    self.in_room(key.code)
                };
            }
        }
        Wish::Nothing
    }

    /// Keys with Ctrl.
    fn command(&mut self, letter: char) -> Wish {
        match letter {
            'c' | 'd' => return Wish::Leave,
            'l' => return Wish::Redraw,
            'z' => return Wish::Suspend,
            'r' => return Wish::Retry,
            'n' => return self.beside(Rooms::down),
            'p' => return self.beside(Rooms::up),
            'u' => drop(self.composer.take()),
            'w' => self.composer.backspace_word(),
            'a' => self.composer.home(),
            'e' => self.composer.end(),
            // What terminals without a key of its own send for backspace.
            'h' => self.composer.backspace(),
            _ => {}
        }
        Wish::Nothing
    }

    fn in_list(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Up => self.rooms.up(),
            KeyCode::Down => self.rooms.down(),
            KeyCode::Enter => return self.open_chosen(),
            KeyCode::Esc => self.turn(),
            _ => {}
        }
        Wish::Nothing
    }

    fn in_room(&mut self, key: KeyCode) -> Wish {
        let Some(open) = &mut self.open else { return Wish::Nothing };
        let page = open.page();
        match key {
            KeyCode::Enter => return self.submit(),
            KeyCode::Esc => self.focus = Focus::List,
            KeyCode::Backspace => self.composer.backspace(),
            KeyCode::Delete => self.composer.delete(),
            KeyCode::Left => self.composer.left(),
            KeyCode::Right => self.composer.right(),
            KeyCode::Home => self.composer.home(),
            KeyCode::End => {
                self.composer.end();
                open.go_to_newest();
            }
            KeyCode::Up => open.up(1),
            KeyCode::PageUp => open.up(page),
            KeyCode::Down => open.down(1),
            KeyCode::PageDown => open.down(page),
            _ => {}
        }
        Wish::Nothing
    }

    fn submit(&mut self) -> Wish {
        if self.composer.text().trim().is_empty() {
            return Wish::Nothing;
        }
        if let Some(open) = &mut self.open {
            open.go_to_newest();
        }
        let text = self.composer.take();
        ordered(&text).unwrap_or(Wish::Send(text))
    }

    /// To the list, or back to the room.
    fn turn(&mut self) {
        self.focus = match self.focus {
            Focus::Room => Focus::List,
            Focus::List if self.open.is_some() => Focus::Room,
            Focus::List => Focus::List,
        };
    }

    /// The room above or below the one that is open.
    fn beside(&mut self, step: impl FnOnce(&mut Rooms)) -> Wish {
        if let Some(open) = &self.open {
            self.rooms.choose(&open.log);
        }
        step(&mut self.rooms);
        self.open_chosen()
    }

    fn open_chosen(&mut self) -> Wish {
        let Some(room) = self.rooms.chosen() else { return Wish::Nothing };
        if self.open.as_ref().is_some_and(|open| open.log == room.log) {
            self.focus = Focus::Room;
            return Wish::Nothing;
        }
        if room.topic.is_none() {
            self.notice = Some("this device has no key of that room (yet)".to_owned());
            return Wish::Nothing;
        }
        Wish::Open(room.log)
    }

    /// Writing is always meant for the room.
    fn write(&mut self, text: &str) -> Wish {
        if self.open.is_none() {
            self.notice = Some("choose a room first: arrow keys and Enter".to_owned());
            return Wish::Nothing;
        }
        self.focus = Focus::Room;
        if !self.composer.insert(text) {
            self.notice = Some("a message cannot be longer".to_owned());
        }
        Wish::Nothing
    }
}

/// What a line asks for that is not to be sent.
fn ordered(text: &str) -> Option<Wish> {
    let said = |order| text.strip_prefix(order).map(str::trim).filter(|said| !said.is_empty());
    let name = || said(NAME).map(|name| Wish::Rename(name.to_owned()));
    let attach = || said(ATTACH).map(|file| Wish::Attach(file.to_owned()));
    let save = || {
        let (id, file) = said(SAVE)?.split_once(' ')?;
        Some(Wish::Save(id.to_owned(), file.trim().to_owned()))
    };
    name().or_else(attach).or_else(save)
}

#[cfg(test)]
mod tests {
    use delta_core::topic::TopicId;

    use super::*;
    use crate::chat::rooms::Room;
    use crate::chat::samples::{LOG, ME, conversation};

    const OTHER: LogId = LogId([9; 32]);

    fn chat() -> Chat {
        let room = |log, name: &str, topic| Room {
            log,
            topic,
            name: name.to_owned(),
            group: "Garden".to_owned(),
            archived: false,
            unread: 0,
        };
        let mut chat = Chat::default();
        chat.rooms.replace(vec![
            room(LOG, "Shed", Some(TopicId([4; 32]))),
            room(OTHER, "Pond", Some(TopicId([5; 32]))),
            room(LogId([8; 32]), "Gate", None),
        ]);
        chat
    }

    fn press(chat: &mut Chat, code: KeyCode, modifiers: KeyModifiers) -> Wish {
        chat.input(Event::Key(KeyEvent::new(code, modifiers)))
    }

    fn key(chat: &mut Chat, code: KeyCode) -> Wish {
        press(chat, code, KeyModifiers::NONE)
    }

    fn control(chat: &mut Chat, letter: char) -> Wish {
        press(chat, KeyCode::Char(letter), KeyModifiers::CONTROL)
    }

    fn write(chat: &mut Chat, text: &str) {
        for letter in text.chars() {
            assert_eq!(key(chat, KeyCode::Char(letter)), Wish::Nothing);
        }
    }

    #[test]
    fn a_room_is_chosen_and_written_in() {
        let mut chat = chat();
        write(&mut chat, "x");
        assert!(chat.notice().unwrap().contains("choose a room"));
        assert_eq!(key(&mut chat, KeyCode::Down), Wish::Nothing);
        assert_eq!(chat.notice(), None, "a remark stays until the next key");
        assert_eq!(key(&mut chat, KeyCode::Up), Wish::Nothing);
        assert_eq!(key(&mut chat, KeyCode::Enter), Wish::Open(LOG));
        chat.enter(conversation());
        write(&mut chat, "hello");
        press(&mut chat, KeyCode::Enter, KeyModifiers::ALT);
        write(&mut chat, "you");
        assert_eq!(key(&mut chat, KeyCode::Enter), Wish::Send("hello\nyou".to_owned()));
        assert_eq!(key(&mut chat, KeyCode::Enter), Wish::Nothing, "nothing is left");
    }

    #[test]
    fn what_was_begun_waits_for_its_room() {
        let mut chat = chat();
        chat.enter(conversation());
        write(&mut chat, "half a");
        assert_eq!(control(&mut chat, 'n'), Wish::Open(OTHER));
        chat.enter(Conversation::new(OTHER, TopicId([5; 32]), "Pond".to_owned(), ME));
        assert_eq!(chat.composer.text(), "");
        write(&mut chat, "ducks");
        let unsent: Vec<_> = chat.unsent().into_iter().map(|(room, text)| (room, text.to_owned())).collect();
        assert_eq!(
            unsent,
            [("Pond".to_owned(), "ducks".to_owned()), ("Shed".to_owned(), "half a".to_owned())]
        );
        assert_eq!(control(&mut chat, 'p'), Wish::Open(LOG));
        chat.enter(conversation());
        assert_eq!(chat.composer.text(), "half a");
    }

    #[test]
    fn a_room_without_a_key_is_not_opened() {
        let mut chat = chat();
        key(&mut chat, KeyCode::Down);
        key(&mut chat, KeyCode::Down);
        assert_eq!(key(&mut chat, KeyCode::Enter), Wish::Nothing);
        assert!(chat.notice().unwrap().contains("no key"));
    }

    #[test]
    fn what_is_refused_comes_back_before_what_was_written_since() {
        let mut chat = chat();
        chat.enter(conversation());
        write(&mut chat, " and more");
        chat.refused("first", "no");
        assert_eq!(
            (chat.composer.text(), chat.notice().as_deref()),
            ("first and more", Some("not sent: no"))
        );
    }

    #[test]
    fn keys_with_control() {
        let mut chat = chat();
        chat.enter(conversation());
        for (letter, wish) in [
            ('c', Wish::Leave),
            ('d', Wish::Leave),
            ('z', Wish::Suspend),
            ('l', Wish::Redraw),
            ('r', Wish::Retry),
            ('x', Wish::Nothing),
        ] {
            assert_eq!(control(&mut chat, letter), wish, "{letter}");
        }
        write(&mut chat, "one two");
        control(&mut chat, 'w');
        assert_eq!(chat.composer.text(), "one ");
        control(&mut chat, 'u');
        assert_eq!(chat.composer.text(), "");
    }

    #[test]
    fn a_paste_is_written_and_not_sent() {
        let mut chat = chat();
        chat.enter(conversation());
        assert_eq!(chat.input(Event::Paste("a\r\nb\rc".to_owned())), Wish::Nothing);
        assert_eq!(chat.composer.text(), "a\nb\nc");
    }

    #[test]
    fn a_name_is_taken_by_a_command() {
        let mut chat = chat();
        chat.enter(conversation());
        write(&mut chat, "/name Ada L ");
        assert_eq!(key(&mut chat, KeyCode::Enter), Wish::Rename("Ada L".to_owned()));
        write(&mut chat, "/names");
        assert_eq!(key(&mut chat, KeyCode::Enter), Wish::Send("/names".to_owned()));
    }

    #[test]
    fn files_are_sent_and_saved_by_commands() {
        let mut chat = chat();
        chat.enter(conversation());
        for (line, wish) in [
            ("/attach a photo.jpg", Wish::Attach("a photo.jpg".to_owned())),
            ("/save 1a2b  a photo.jpg ", Wish::Save("1a2b".to_owned(), "a photo.jpg".to_owned())),
            // Without what it needs it is no command.
            ("/attach ", Wish::Send("/attach ".to_owned())),
            ("/save 1a2b", Wish::Send("/save 1a2b".to_owned())),
        ] {
            write(&mut chat, line);
            assert_eq!(key(&mut chat, KeyCode::Enter), wish);
        }
    }

    #[test]
    fn tab_turns_between_list_and_room() {
        let mut chat = chat();
        key(&mut chat, KeyCode::Tab);
        assert_eq!(chat.focus, Focus::List, "no room is open");
        chat.enter(conversation());
        key(&mut chat, KeyCode::Tab);
        assert_eq!(chat.focus, Focus::List);
        key(&mut chat, KeyCode::Esc);
        assert_eq!(chat.focus, Focus::Room);
        key(&mut chat, KeyCode::Esc);
        write(&mut chat, "x");
        assert_eq!((chat.focus, chat.composer.text()), (Focus::Room, "x"));
    }
}
