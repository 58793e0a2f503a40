//! Two people chat, each in a terminal of their own, over real relays and a real server. Nothing here waits for time:
//! only for what a screen shows.

use crate::pty::{COLUMNS, ROWS, Terminal};
use crate::support::{Device, Network, in_a_shell, json_lines, signal, ticket};

fn chat(device: &Device, arguments: &[&str]) -> Terminal {
    Terminal::start(&device.command(&[&["chat"], arguments].concat()))
}

/// Whether a line says so, whoever says it and when.
fn says(line: &str, text: &str) -> bool {
    line.ends_with(&format!(": {text}"))
}

#[track_caller]
fn until_said(terminal: &Terminal, text: &str) -> Vec<String> {
    terminal.until(text, |lines| lines.iter().any(|line| says(line, text)))
}

fn id(device: &Device, what: &str, arguments: &[&str]) -> String {
    json_lines(&mut device.command(arguments))[0][what].as_str().unwrap().to_owned()
}

#[test]
fn what_one_types_the_other_sees() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let (mut first, mut second) = (chat(&a, &[]), chat(&b, &[]));
    for terminal in [&first, &second] {
        terminal.until_shown("[live, hidden]");
    }
    first.press("/name Ada\r");
    first.until_shown("others see your name");
    first.press("hello, b\r");
    let lines = until_said(&second, "hello, b");
    assert!(lines.iter().any(|line| line.contains(" Ada#") && says(line, "hello, b")), "{lines:#?}");
    // Confirmed by the server, in words.
    first.until_shown("me (sent): hello, b");
    second.press("hi ä\x7fa\r");
    let lines = until_said(&first, "hi a");
    assert!(lines.iter().all(|line| !line.contains("me (sent): hi a")), "{lines:#?}");

    // A narrow screen breaks lines; nothing is lost.
    second.size(10, 40);
    first.press("the quick brown fox jumps over the lazy dog\r");
    let lines = second.until_shown("lazy dog");
    assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
    assert!(lines[0].contains("[live, hidden]"), "the room's line is still there: {lines:#?}");
    second.size(ROWS, COLUMNS);
    until_said(&second, "the quick brown fox jumps over the lazy dog");

    // What somebody else writes does not steer the terminal.
    let c = network.device("c", &ticket);
    json_lines(&mut c.command(&["send", "\x1b[2Jred\x1b[31m \x1b]52;c;aGk=\x07 \u{202e}txt"]));
    let lines = second.until_shown("[31m");
    assert!(lines.iter().any(|line| line.contains("lazy dog")), "the screen was not cleared: {lines:#?}");
    assert!(!lines.concat().contains('\u{202e}'), "{lines:#?}");
}

#[test]
fn a_file_is_sent_and_saved() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let (mut first, mut second) = (chat(&a, &[]), chat(&b, &[]));
    for terminal in [&first, &second] {
        terminal.until_shown("[live, hidden]");
    }
    let (from, to) = (network.folder().join("a file.bin"), network.folder().join("saved.bin"));
    // Two chunks.
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
    std::fs::write(&from, &bytes).unwrap();
    first.press("/attach no such file\r");
    first.until_shown("not sent: ");
    first.press(&format!("\x15/attach {}\r", from.display()));
    let lines = second.until_shown("[a file.bin, 300.0 kB: /save ");
    let (_, id) = lines.iter().find_map(|line| line.split_once("/save ")).unwrap();
    let id = id.split(' ').next().unwrap();
    second.press(&format!("/save {id} {}\r", from.display()));
    second.until_shown("is there already");
    second.press(&format!("/save {id} {}\r", to.display()));
    second.until_shown("saved as ");
    assert!(std::fs::read(&to).unwrap() == bytes);
    assert!(std::fs::read(&from).unwrap() == bytes);
}

#[test]
fn rooms_are_listed_with_what_is_new_in_them() {
    let network = Network::start();
    let (a, b) = (network.stranger("a"), network.stranger("b"));
    let space = id(&a, "space", &["space", "create", "--name", "Garden"]);
    let shed = id(&a, "room", &["room", "create", "--space", &space, "--name", "Shed"]);
    id(&a, "room", &["room", "create", "--space", &space, "--name", "Pond"]);
    let invitation = id(&a, "invitation", &["invite", "create", "--space", &space, "--once"]);
    json_lines(&mut b.command(&["invite", "accept", &invitation]));

    // The one who invited is there and lets the other in: rooms come into the list by themselves.
    let mut other = chat(&b, &[]);
    other.until_shown("Rooms");
    let mut mine = chat(&a, &["--room", &shed]);
    mine.until_shown(" Shed  [live, hidden]");
    other.until("both rooms, with their keys", |lines| {
        ["Shed", "Pond"].iter().all(|room| lines.iter().any(|line| line.ends_with(room)))
    });
    mine.press("in the shed\r");
    mine.until_shown("me (sent): in the shed");
    other.until_shown("Shed 1 new");
    // Rooms stand in an order of their own.
    let lines = other.until_shown("> ");
    let place = |name: &str| lines.iter().position(|line| line.contains(name)).unwrap();
    let shed_is_first = place("Shed") < place("Pond");
    other.press(if shed_is_first { "\x1b[A" } else { "\x1b[B" });
    other.until_shown("> Shed");
    other.press("\r");
    until_said(&other, "in the shed");
    other.press("\t");
    other.until("nothing is new", |lines| lines.iter().any(|line| line == "> Shed"));

    // What comes into another room than the open one is counted at the top.
    let to_the_pond = if shed_is_first { "\x0e" } else { "\x10" };
    mine.press(to_the_pond);
    mine.until_shown(" Pond  [live");
    mine.press("a duck\r");
    mine.until_shown("me (sent): a duck");
    other.press("\t");
    other.until_shown(" Shed  [live, hidden] +1");
    other.press("half a");
    other.until_shown("> half a");
    other.press(to_the_pond);
    let lines = until_said(&other, "a duck");
    let new = lines.iter().position(|line| line.contains("--- new ---"));
    assert!(new < lines.iter().position(|line| says(line, "a duck")) && new.is_some(), "{lines:#?}");
    other.press("\x03");
    let (_, text) = other.end();
    assert!(text.contains("not sent in Shed: half a"), "{text}");
    let rooms = json_lines(&mut b.command(&["room", "list", "--space", &space]));
    assert!(rooms.iter().all(|room| room["unread"] == 0), "{rooms:?}");
}

#[test]
fn scrolling_back_reads_pages_and_new_messages_below_are_counted() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let numbers: Vec<String> = (0..160).map(|n| format!("number {n}")).collect();
    let all: Vec<&str> = ["send"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    json_lines(&mut a.command(&all));
    let mut terminal = chat(&b, &[]);
    until_said(&terminal, "number 159");
    // Three pages and more: as long as there is something above.
    for _ in 0..20 {
        terminal.press("\x1b[5~");
    }
    until_said(&terminal, "number 0");
    json_lines(&mut a.command(&["send", "and one more"]));
    let lines = terminal.until_shown("1 new below");
    assert!(lines.iter().any(|line| says(line, "number 0")), "what is looked at stays: {lines:#?}");
    terminal.press("\x1b[F");
    until_said(&terminal, "and one more");
}

#[test]
fn leaving_loses_nothing() {
    let mut network = Network::start();
    let ticket = ticket();
    let a = network.device("a", &ticket);
    let mut terminal = chat(&a, &[]);
    terminal.until_shown("[live");
    terminal.press("said\r");
    terminal.until_shown("me (sent): said");
    network.kill();
    terminal.press("said to nobody\r");
    terminal.until_shown("me (pending): said to nobody");
    terminal.press("half a thou");
    terminal.until_shown("> half a thou");
    terminal.press("\x03");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains(": half a thou"), "{text}");
    assert!(text.contains("1 not confirmed yet"), "{text}");
    let queued = json_lines(a.command(&["outbox", "list"]).env_remove("DELTA_SYNC"));
    assert_eq!(queued.len(), 1, "{queued:?}");
}

#[test]
fn a_signal_gives_the_screen_back() {
    let network = Network::start();
    let a = network.device("a", &ticket());
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let mut terminal = chat(&a, &[]);
        terminal.until_shown("[live");
        terminal.press("a draft");
        terminal.until_shown("> a draft");
        signal(name, terminal.pid());
        let (status, text) = terminal.end();
        assert_eq!(status.code(), Some(128 + number), "{text}");
        assert!(text.contains(": a draft"), "{text}");
    }
}

#[test]
fn a_shell_has_the_terminal_while_the_chat_is_suspended() {
    let network = Network::start();
    let a = network.device("a", &ticket());
    let mut terminal = Terminal::start(&in_a_shell(&a.command(&["chat"])));
    terminal.until_shown("ready$");
    terminal.press("\"$PROGRAM\" chat\r");
    terminal.until_shown("[live");
    assert!(terminal.is_full_screen() && !terminal.is_cooked());
    terminal.press("a draft");
    terminal.until_shown("> a draft");
    terminal.press("\x1a");
    terminal.until("the shell", |lines| lines.iter().filter(|line| line.contains("ready$")).count() == 2);
    assert!(!terminal.is_full_screen());
    terminal.press("echo it is $((1 + 1))\r");
    terminal.until_shown("it is 2");
    terminal.press("fg\r");
    terminal.until_shown("> a draft");
    assert!(terminal.is_full_screen());
    terminal.press(" goes on\r");
    terminal.until_shown("me (sent): a draft goes on");
    terminal.press("\x03");
    // What is typed before it has ended is still typed for it.
    terminal.until("the shell", |lines| {
        lines.iter().rev().find(|line| !line.is_empty()).is_some_and(|line| line == "ready$")
    });
    terminal.press("exit\r");
    let (_, text) = terminal.end();
    assert!(text.contains("ready$"), "{text}");
}

#[test]
fn without_a_network_it_reads_and_writes_for_later() {
    let network = Network::start();
    let ticket = ticket();
    let a = network.device("a", &ticket);
    json_lines(&mut a.command(&["send", "before"]));
    let mut command = a.command(&["chat"]);
    command
        .env_remove("DELTA_SYNC")
        .env_remove("DELTA_DIRECTORY")
        .env_remove("DELTA_RECORDS")
        .env_remove("DELTA_TRUST");
    let mut terminal = Terminal::start(&command);
    terminal.until_shown("me (sent): before");
    terminal.press("later\r");
    terminal.until_shown("me (pending): later");
    terminal.press("\x04");
    let (status, text) = terminal.end();
    assert_eq!((status.code(), text.contains("1 not confirmed yet")), (Some(0), true), "{text}");
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let network = Network::start();
    let output = network.device("a", &ticket()).command(&["chat"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("delta tail"));
}
