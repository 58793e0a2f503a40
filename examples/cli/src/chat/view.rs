//! How the chat looks: the rooms, a line about the open one, its messages, a few lines of remarks, and what is being
//! written. No colours: what matters is said in words.

use delta_core::store::MessageRow;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::Paragraph;

use super::conversation::{Conversation, Delivery};
use super::files;
use super::state::{Chat, Focus};
use crate::text::{clock, columns, cut, date, plain, width as columns_of, wrap};

/// Columns from which on rooms and messages stand beside each other.
const WIDE: u16 = 72;
/// Columns of the list of rooms beside the messages.
const LIST: u16 = 22;
/// Columns a name may take.
const NAME: usize = 20;
/// Lines of a message that are shown.
const MAX_LINES: usize = 200;
/// Columns that further lines of a message are moved in where there is little room: none of them looks like the first
/// line of another message.
const INDENT: usize = 2;
/// Lines a remark may take.
const MAX_REMARKS: usize = 3;
const PROMPT: &str = "> ";
const NEW: &str = "--- new ---";
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, chat: &mut Chat) {
    let area = frame.area();
    if area.width < WIDE {
        match chat.focus {
            Focus::List => list_alone(frame, chat, area),
            Focus::Room => room(frame, chat, area),
        }
        return;
    }
    let beside = [Constraint::Length(LIST), Constraint::Length(1), Constraint::Min(0)];
    let [left, line, right] = Layout::horizontal(beside).areas(area);
    list(frame, chat, left);
    let bars = vec![Line::raw("│"); usize::from(line.height)];
    frame.render_widget(Paragraph::new(Text::from(bars)), line);
    room(frame, chat, right);
}

fn list_alone(frame: &mut Frame<'_>, chat: &Chat, area: Rect) {
    let remarks = remarks(&chat.notice().unwrap_or_else(|| hint(chat)), area);
    let below = Constraint::Length(u16::try_from(remarks.len()).unwrap_or(1));
    let [body, remark] = Layout::vertical([Constraint::Min(0), below]).areas(area);
    list(frame, chat, body);
    print(frame, remark, remarks);
}

/// The rooms under the names of their spaces. The chosen one is always in sight.
fn list(frame: &mut Frame<'_>, chat: &Chat, area: Rect) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let bar = if chat.focus == Focus::List { BAR } else { Style::new() };
    frame.render_widget(Paragraph::new(fill(" Rooms", width)).style(bar), head);
    let (mut lines, mut chosen, mut group) = (Vec::new(), 0, None);
    for (place, row) in chat.rooms.rows().iter().enumerate() {
        if group != Some(&row.group) && !row.group.is_empty() {
            lines.push(cut(&row.group, width));
        }
        group = Some(&row.group);
        if place == chat.rooms.place() {
            chosen = lines.len();
        }
        let mark = if place == chat.rooms.place() { ">" } else { " " };
        let remark = match (row.topic, row.archived, row.unread) {
            (None, ..) => " (no key)".to_owned(),
            (_, _, unread @ 1..) => format!(" {unread} new"),
            (_, true, _) => " (archived)".to_owned(),
            _ => String::new(),
        };
        let name = cut(&row.name, width.saturating_sub(columns_of(&remark) + 2));
        lines.push(cut(&format!("{mark} {name}{remark}"), width));
    }
    if lines.is_empty() {
        lines.push(cut("(none yet)", width));
    }
    let first = (chosen + 1).saturating_sub(height.saturating_sub(1));
    print(frame, body, lines.into_iter().skip(first));
}

/// The open room.
fn room(frame: &mut Frame<'_>, chat: &mut Chat, area: Rect) {
    let said = said(chat);
    let remarks = remarks(&said, area);
    let one = Constraint::Length(1);
    let below = Constraint::Length(u16::try_from(remarks.len()).unwrap_or(1));
    let [head, body, remark, composer] = Layout::vertical([one, Constraint::Min(0), below, one]).areas(area);
    print(frame, remark, remarks);
    let elsewhere = chat.rooms.unread_besides(chat.open.as_ref().map(|open| open.log));
    let Some(open) = &mut chat.open else {
        frame.render_widget(Paragraph::new(fill(" Delta", usize::from(head.width))).style(BAR), head);
        return;
    };
    let (width, height) = (usize::from(body.width), usize::from(body.height));
    let lines = lines(open, width);
    let back = open.lay_out(lines.len(), height);
    let end = lines.len() - back;
    let shown = lines.get(end.saturating_sub(height)..end).unwrap_or_default();
    // A few messages stand at the bottom, where the next one will be.
    let space = std::iter::repeat_n(String::new(), height - shown.len());
    print(frame, body, space.chain(shown.iter().cloned()));
    let header = header(open, elsewhere, usize::from(head.width));
    frame.render_widget(Paragraph::new(header).style(BAR), head);
    compose(frame, chat, composer);
}

fn print(frame: &mut Frame<'_>, area: Rect, lines: impl IntoIterator<Item = String>) {
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(Text::from(lines)), area);
}

/// What the room is called, and how it stands: that first where there is little room.
fn header(open: &Conversation, elsewhere: u64, width: usize) -> String {
    let badge = &open.badge;
    let reading = match badge.hidden {
        Some(true) => ", hidden",
        Some(false) => ", NOT hidden",
        None => "",
    };
    let waiting = match badge.waiting {
        0 => String::new(),
        waiting => format!(", {waiting} pending"),
    };
    let mut state = format!("  [{}{reading}{waiting}]", badge.connection);
    if elsewhere > 0 {
        state.push_str(&format!(" +{elsewhere}"));
    }
    let state = cut(&state, width);
    let title = cut(&open.title, width.saturating_sub(columns_of(&state) + 1).min(NAME * 2));
    fill(&cut(&format!(" {title}{state}"), width), width)
}

/// So many columns, filled up with blanks.
fn fill(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let blanks = width - columns_of(&text);
    text + &" ".repeat(blanks)
}

/// What is to be said about the room.
fn said(chat: &Chat) -> String {
    if let Some(notice) = chat.notice() {
        return notice;
    }
    let Some(open) = &chat.open else { return hint(chat) };
    match (open.is_scrolled(), open.unseen()) {
        (true, 0) => "(End: to the newest)".to_owned(),
        (true, unseen) => format!("{unseen} new below (End: to the newest)"),
        (false, _) if chat.composer.text().is_empty() => hint(chat),
        (false, _) => String::new(),
    }
}

fn hint(chat: &Chat) -> String {
    let hint = match (chat.rooms.rows().is_empty(), chat.focus) {
        (true, _) => "no rooms yet: see `delta space create` and `delta invite accept`. Ctrl-C: leave",
        (_, Focus::List) => "Arrows, Enter: open. Ctrl-C: leave",
        (_, Focus::Room) => "Enter: send. PgUp: older. Tab: rooms",
    };
    hint.to_owned()
}

/// A remark in lines; one at least.
fn remarks(text: &str, area: Rect) -> Vec<String> {
    // The messages have more of the screen than what is said about them.
    let most = usize::from(area.height / 4).clamp(1, MAX_REMARKS);
    wrap(&plain(text), usize::from(area.width).max(1), most).0
}

fn compose(frame: &mut Frame<'_>, chat: &Chat, area: Rect) {
    let width = usize::from(area.width).saturating_sub(PROMPT.len() + 1);
    let before = plain(chat.composer.before());
    let text = plain(chat.composer.text());
    // As much is left out at the left as the cursor needs.
    let mut skipped = 0;
    let mut used = columns_of(&before);
    for letter in before.chars() {
        if used <= width {
            break;
        }
        skipped += letter.len_utf8();
        used -= columns(letter);
    }
    let shown = cut(text.get(skipped..).unwrap_or_default(), width + 1);
    frame.render_widget(Paragraph::new(format!("{PROMPT}{shown}")), area);
    if chat.focus == Focus::List {
        return;
    }
    let column = u16::try_from(PROMPT.len() + used).unwrap_or(u16::MAX);
    let x = area.x.saturating_add(column).min(area.right().saturating_sub(1));
    frame.set_cursor_position(Position::new(x, area.y));
}

/// All messages as lines.
fn lines(open: &Conversation, width: usize) -> Vec<String> {
    let (mut lines, mut day) = (Vec::new(), None);
    for row in &open.rows {
        let sent = date(sent_ms(row));
        if day.as_ref() != Some(&sent) {
            lines.push(cut(&format!("--- {sent} ---"), width));
            day = Some(sent);
        }
        if Some(row.position) == open.first_new {
            lines.push(cut(NEW, width));
        }
        message(open, row, width.max(1), &mut lines);
    }
    lines
}

fn sent_ms(row: &MessageRow) -> u64 {
    row.sent_at.or(row.received_at).map_or(0, |at| at.0)
}

fn message(open: &Conversation, row: &MessageRow, width: usize, lines: &mut Vec<String>) {
    let mut who = cut(&open.name_of(&row.author()), NAME);
    who.push_str(match open.delivery(row) {
        None => "",
        Some(Delivery::Pending) => " (pending)",
        Some(Delivery::Sent) => " (sent)",
        Some(Delivery::Failed) => " (FAILED)",
    });
    let text = row.text.as_deref().unwrap_or("(deleted)");
    let edited = if row.edit.is_some() { " (edited)" } else { "" };
    let text = format!("{text}{edited}");
    let files = row.attachments.iter().map(files::line);
    // A file may come without a word.
    let said = text.split('\n').filter(|_| !text.is_empty() || row.attachments.is_empty());
    let lead = format!("{} {who}: ", clock(sent_ms(row)));
    // On a narrow screen the text has the next lines for itself.
    let beside = columns_of(&lead) * 2 <= width;
    let indent = if beside { columns_of(&lead) } else { INDENT.min(width - 1) };
    if !beside {
        lines.push(cut(&lead, width));
    }
    let mut lead = Some(lead).filter(|_| beside);
    let mut left = MAX_LINES;
    for part in files.chain(said.map(plain)) {
        let (wrapped, more) = wrap(&part, width - indent, left);
        left = left.saturating_sub(wrapped.len());
        for line in wrapped {
            let start = lead.take().unwrap_or_else(|| " ".repeat(indent));
            lines.push(format!("{start}{line}"));
        }
        if more || left == 0 {
            lines.push(cut(&format!("{}(it is longer: see `delta tail`)", " ".repeat(indent)), width));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use delta_core::ops::BlobId;
    use delta_core::store::Attachment;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::chat::conversation::{Badge, Person};
    use crate::chat::rooms::Room;
    use crate::chat::samples::{LOG, ME, THEM, conversation, row};

    fn chat(rows: Vec<MessageRow>) -> Chat {
        let mut chat = Chat::default();
        let room = |log, name: &str, unread| Room {
            log,
            topic: Some(delta_core::topic::TopicId([4; 32])),
            name: name.to_owned(),
            group: "Garden".to_owned(),
            archived: false,
            unread,
        };
        let other = delta_core::identity::LogId([9; 32]);
        chat.rooms.replace(vec![room(LOG, "Shed", 0), room(other, "Pond", 3)]);
        let mut open = conversation();
        open.begin(rows, 0, 50);
        open.meet(vec![(THEM, Person { name: Some("Ada".to_owned()), mine: false })]);
        open.badge = Badge { connection: "live", hidden: Some(true), waiting: 0, trouble: None };
        chat.enter(open);
        chat
    }

    /// What stands on a screen of that size.
    fn shown(chat: &mut Chat, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, chat)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn a_small_screen_shows_the_room() {
        let mut chat = chat(vec![row(THEM, 1, "good morning, is the kettle on already?"), row(ME, 2, "yes")]);
        let lines = [
            " Shed  [live, hidden] +3",
            "",
            "",
            "",
            "--- 1970-01-01 ---",
            "00:01 Ada#0202: good morning, is the",
            "                kettle on already?",
            "00:02 me (sent): yes",
            "Enter: send. PgUp: older. Tab: rooms",
            ">",
        ];
        assert_eq!(shown(&mut chat, 40, 10), lines);
    }

    #[test]
    fn a_small_screen_shows_the_rooms() {
        let mut chat = chat(Vec::new());
        chat.input(Event::Key(KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE)));
        let lines = shown(&mut chat, 40, 10);
        assert_eq!(lines[..4], [" Rooms", "Garden", "> Shed", "  Pond 3 new"]);
        assert!(lines[9].contains("Enter"), "{lines:#?}");
    }

    #[test]
    fn a_wide_screen_shows_both() {
        let mut chat = chat(vec![row(THEM, 1, "hello")]);
        let lines = shown(&mut chat, 80, 8);
        assert!(
            lines[0].starts_with(" Rooms") && lines[0].contains("│ Shed  [live, hidden] +3"),
            "{lines:#?}"
        );
        assert!(lines[3].starts_with("  Pond 3 new"), "{lines:#?}");
        assert!(lines[5].ends_with("│00:01 Ada#0202: hello"), "{lines:#?}");
    }

    #[test]
    fn how_a_message_was_delivered_is_said() {
        let mut chat = chat(vec![row(ME, 1, "a"), row(ME, u64::MAX, "b")]);
        let lines = shown(&mut chat, 40, 10);
        assert!(lines.contains(&"00:01 me (sent): a".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"00:00 me (pending): b".to_owned()), "{lines:#?}");
        let open = chat.open.as_mut().unwrap();
        open.in_outbox(vec![parked(open.rows[1].id)]);
        let lines = shown(&mut chat, 40, 10);
        assert!(lines.contains(&"00:00 me (FAILED): b".to_owned()), "{lines:#?}");
        assert!(lines.concat().contains("1 not delivered: gone"), "{lines:#?}");
    }

    #[test]
    fn files_stand_before_what_is_said_of_them() {
        let file = |id, name: &str| Attachment {
            id: BlobId([id; 32]),
            size: 2_048,
            mime: "image/jpeg".to_owned(),
            name: Some(name.to_owned()),
        };
        let (mut with, mut alone) = (row(THEM, 1, "look"), row(THEM, 2, ""));
        with.attachments = vec![file(0x1a, "one.jpg"), file(0x2b, "two.jpg")];
        alone.attachments = vec![file(0x3c, "a\n00:00 me (sent): b")];
        let lines = shown(&mut chat(vec![with, alone]), 70, 8);
        let expected = [
            "00:01 Ada#0202: [one.jpg, 2.0 kB: /save 1a1a1a1a FILE]",
            "                [two.jpg, 2.0 kB: /save 2b2b2b2b FILE]",
            "                look",
            "00:02 Ada#0202: [a↵00:00 me (sent): b, 2.0 kB: /save 3c3c3c3c FILE]",
        ];
        assert_eq!(lines[2..6], expected, "{lines:#?}");
    }

    fn parked(operation: delta_core::identity::OperationId) -> delta_core::store::QueuedOperation {
        delta_core::store::QueuedOperation {
            id: 1,
            operation,
            hash: delta_core::identity::EnvelopeHash([0; 32]),
            len: 1,
            own: true,
            state: delta_core::store::OutboxRowState::Parked { reason: "gone".to_owned() },
            tries: 1,
            not_before: delta_core::identity::Millis(0),
        }
    }

    #[test]
    fn that_reading_is_not_hidden_is_said_also_where_there_is_little_room() {
        let mut chat = chat(Vec::new());
        let open = chat.open.as_mut().unwrap();
        open.title = "A title that is much longer than the screen is wide".to_owned();
        open.badge = Badge {
            connection: "connecting",
            hidden: Some(false),
            waiting: 12,
            trouble: Some("relays are missing and so nothing can be sent".to_owned()),
        };
        let lines = shown(&mut chat, 60, 10);
        assert!(lines[0].ends_with("[connecting, NOT hidden, 12 pending] +3"), "{lines:#?}");
        let lines = shown(&mut chat, 30, 10);
        assert!(lines[0].contains("[connecting, NOT hidden"), "{lines:#?}");
        assert!(
            lines[7..9].join(" ").contains("relays are missing and so nothing can be sent"),
            "{lines:#?}"
        );
    }

    #[test]
    fn every_size_of_screen_can_be_drawn() {
        let text = "你好, a long enough text\nof two lines e\u{301} and a_very_long_word_that_does_not_fit";
        for (width, height) in [(0, 0), (1, 1), (2, 3), (3, 2), (5, 40), (10, 4), (71, 5), (72, 5), (200, 3)]
        {
            let mut chat = chat(vec![row(THEM, 1, text), row(ME, u64::MAX, text)]);
            chat.input(Event::Paste("你好 and so on, a text that is longer than the line".to_owned()));
            shown(&mut chat, width, height);
            chat.input(Event::Key(KeyEvent::new(KeyCode::Home, KeyModifiers::NONE)));
            chat.input(Event::Key(KeyEvent::new(KeyCode::PageUp, KeyModifiers::NONE)));
            shown(&mut chat, width, height);
            chat.input(Event::Key(KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE)));
            shown(&mut chat, width, height);
        }
    }

    #[test]
    fn no_line_of_a_message_looks_like_the_first_of_another() {
        let text = "hi\n00:05 me (sent): I agree\n--- 2026-01-01 ---";
        for width in [20, 40, 80] {
            let mut chat = chat(vec![row(THEM, 1, text)]);
            let lines = shown(&mut chat, width, 12);
            let column = if width < WIDE { 0 } else { usize::from(LIST) + 1 };
            let forged = |line: &String| {
                let line: String = line.chars().skip(column).collect();
                line.starts_with("00:05") || line.starts_with("--- 2026")
            };
            assert!(!lines.iter().any(forged), "{lines:#?}");
        }
    }

    #[test]
    fn hostile_text_stays_in_its_lines() {
        let text = format!(
            "\u{1b}[2J\u{202e}{}\u{200b}{}",
            "a\u{300}".repeat(3) + &"\u{300}".repeat(5000),
            "x".repeat(60_000)
        );
        let mut chat = chat(vec![row(ME, 1, "before"), row(THEM, 2, &text), row(ME, 3, "after")]);
        let open = chat.open.as_mut().unwrap();
        open.meet(vec![(THEM, Person { name: Some("\u{1b}[31m\u{202e}Ada\n".repeat(9)), mine: false })]);
        open.title = "\u{1b}]0;title\u{7}\u{202e}".to_owned();
        let lines = shown(&mut chat, 40, 10);
        assert_eq!(lines[7], "00:03 me (sent): after", "{lines:#?}");
        assert!(lines[6].contains("it is longer"), "{lines:#?}");
        let text = lines.concat();
        assert!(!text.contains(|letter: char| letter.is_control() || letter == '\u{202e}'), "{lines:#?}");
        // One message cannot push all others out of reach.
        assert!(chat.open.as_ref().unwrap().rows.len() == 3);
        assert!(super::lines(chat.open.as_ref().unwrap(), 40).len() <= MAX_LINES + 10);
    }
}
