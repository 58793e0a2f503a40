//! However a chat ends, it ends, and what was said is on the disk: signals, a terminal that is closed, one that takes
//! nothing any more, a server that does not answer. Nothing here waits for time: only for the end of the program.

use std::net::TcpListener;
use std::process::Command;

use tempfile::TempDir;

use crate::pty::Terminal;
use crate::support::{Device, Network, child_with, in_a_shell, json_lines, signal, ticket, until_gone};

/// The signals that end a chat, and their numbers.
const SIGNALS: [(&str, i32); 3] = [("HUP", 1), ("INT", 2), ("TERM", 15)];

struct Chat {
    device: Device,
    terminal: Terminal,
    _folder: TempDir,
}

/// Something was said in it, which waits, and something was not.
fn chat(start: fn(&Command) -> Terminal) -> Chat {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::alone(folder.path(), &ticket());
    let mut terminal = start(&device.command(&["chat"]));
    terminal.until_shown("offline");
    terminal.press("for later\r");
    terminal.until_shown("me (pending): for later");
    terminal.press("a draft");
    terminal.until_shown("> a draft");
    Chat { device, terminal, _folder: folder }
}

#[track_caller]
fn nothing_is_lost(device: &Device, said: usize) {
    assert_eq!(json_lines(&mut device.command(&["outbox", "list"])).len(), said);
}

#[test]
fn a_signal_ends_it_and_what_was_said_is_kept() {
    for (name, number) in SIGNALS {
        let Chat { device, terminal, _folder } = chat(Terminal::start);
        signal(name, terminal.pid());
        let (status, text) = terminal.end();
        assert_eq!(status.code(), Some(128 + number), "{text}");
        assert!(text.contains("a draft") && text.contains("1 not confirmed yet"), "{text}");
        nothing_is_lost(&device, 1);
    }
}

#[test]
fn a_terminal_that_goes_away_ends_it() {
    let Chat { device, mut terminal, _folder } = chat(Terminal::start);
    terminal.hang_up();
    assert_eq!(terminal.exit().code(), Some(128 + 1));
    nothing_is_lost(&device, 1);
}

#[test]
fn a_terminal_that_goes_away_ends_it_also_where_nobody_says_so() {
    let Chat { device, mut terminal, _folder } = chat(Terminal::start_uncontrolled);
    terminal.hang_up();
    assert_eq!(terminal.exit().code(), Some(128 + 1));
    nothing_is_lost(&device, 1);
}

#[test]
fn a_signal_ends_it_also_when_the_terminal_takes_nothing() {
    for (name, number) in SIGNALS {
        let Chat { device, mut terminal, _folder } = chat(Terminal::start);
        terminal.stall();
        // More to be shown, and nobody takes it.
        terminal.press(", longer");
        signal(name, terminal.pid());
        assert_eq!(terminal.exit().code(), Some(128 + number));
        nothing_is_lost(&device, 1);
    }
}

#[test]
fn what_is_typed_is_sent_also_when_the_terminal_takes_nothing() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let (mut first, second) =
        (Terminal::start(&a.command(&["chat"])), Terminal::start(&b.command(&["chat"])));
    for terminal in [&first, &second] {
        terminal.until_shown("[live, hidden]");
    }
    first.stall();
    for text in ["blind\r", "and blinder\r"] {
        first.press(text);
    }
    second.until_shown(": and blinder");
    signal("TERM", first.pid());
    assert_eq!(first.exit().code(), Some(128 + 15));
}

/// What `kill %1` does.
#[test]
fn a_signal_ends_it_while_it_is_suspended() {
    ends_in_the_background(|terminal, _| {
        terminal.press("\x1a");
        terminal.until("the shell", |lines| lines.iter().filter(|line| line.contains("ready$")).count() == 2);
    });
}

/// Without having heard of it before.
#[test]
fn a_signal_ends_it_while_it_is_stopped() {
    ends_in_the_background(|terminal, chat| {
        signal("STOP", chat);
        terminal.until_shown("ready$");
    });
}

fn ends_in_the_background(stop: impl FnOnce(&mut Terminal, u32)) {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::alone(folder.path(), &ticket());
    let mut terminal = Terminal::start(&in_a_shell(&device.command(&["chat"])));
    terminal.until_shown("ready$");
    terminal.press("\"$PROGRAM\" chat\r");
    terminal.until_shown("offline");
    let chat = child_with(terminal.pid(), "chat").unwrap();
    terminal.press("for later\r");
    terminal.until_shown("me (pending): for later");
    stop(&mut terminal, chat);
    signal("TERM", chat);
    signal("CONT", chat);
    until_gone(chat);
    nothing_is_lost(&device, 1);
}

#[test]
fn a_signal_ends_it_while_it_connects() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (name, number) in SIGNALS {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::alone(folder.path(), &ticket());
        json_lines(&mut device.command(&["send", "--no-wait", "before"]));
        let records = folder.path().join("records.json");
        std::fs::write(&records, "[]").unwrap();
        let mut command = device.command(&["chat"]);
        let key = "ab".repeat(32);
        command.env("DELTA_SYNC", format!("http://{}#{key}", silent.local_addr().unwrap()));
        command.env("DELTA_RECORDS", records).env("DELTA_ALLOW_PLAINTEXT", "1");
        let terminal = Terminal::start(&command);
        let connection = silent.accept().unwrap();
        signal(name, terminal.pid());
        let (status, text) = terminal.end();
        assert_eq!(status.code(), Some(128 + number), "{text}");
        nothing_is_lost(&device, 1);
        drop(connection);
    }
}
