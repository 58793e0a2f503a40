//! The built `delta` program from outside: arguments, standard input and output, exit codes.

mod directory;
mod errors;
mod export;
mod history;
mod identity;
mod keygen;
mod onion;
mod programs;
mod spaces;
mod support;

use crate::support::delta;

#[test]
fn every_subcommand_has_help_with_examples() {
    for command in [
        ["keygen", "--help"].as_slice(),
        &["onion", "wrap", "--help"],
        &["onion", "peel", "--help"],
        &["directory", "sign", "--help"],
        &["directory", "show", "--help"],
        &["history", "--help"],
        &["kv", "--help"],
        &["document", "--help"],
        &["chat", "--help"],
        &["send", "--help"],
        &["tail", "--help"],
        &["device", "--help"],
        &["dm", "--help"],
        &["space", "--help"],
        &["room", "--help"],
        &["member", "--help"],
        &["invite", "--help"],
        &["search", "--help"],
        &["status", "--help"],
        &["outbox", "--help"],
        &["identity", "--help"],
        &["export", "--help"],
    ] {
        let done = delta(command, b"");
        assert_eq!(done.code, 0, "{command:?}");
        assert!(done.out().contains("Examples:"), "{command:?}");
    }
}

#[test]
fn what_is_not_understood_ends_with_2_and_prints_no_result() {
    for command in [
        [].as_slice(),
        &["fly"],
        &["keygen", "--wings"],
        &["onion"],
        &["onion", "wrap"],
        &["onion", "peel"],
        &["onion", "peel", "--onion-secret", "12"],
        &["onion", "peel", "--onion-secret", "@/does/not/exist"],
    ] {
        let done = delta(command, b"");
        assert_eq!(done.code, 2, "{command:?}: {}", done.err());
        assert!(done.stdout.is_empty(), "{command:?}");
    }
}

/// A reader that stops early is no error and no panic.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_quiet() {
    use std::process::Stdio;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = support::command(&["keygen"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Who asks for JSON gets it, whatever goes wrong.
#[test]
fn with_json_a_command_line_that_is_not_understood_is_an_object() {
    for command in [
        ["--json", "fly"].as_slice(),
        &["--json"],
        &["keygen", "--json", "--wings"],
        &["onion", "peel", "--json", "--onion-secret", "12"],
        &["tail", "--json"],
    ] {
        let done = delta(command, b"");
        assert_eq!(done.code, 2, "{command:?}: {}", done.err());
        assert!(done.stdout.is_empty(), "{command:?}");
        let error: serde_json::Value = serde_json::from_str(&done.err()).unwrap();
        let text = error["error"].as_str().unwrap();
        assert!(!text.is_empty() && !text.starts_with("error:") && !text.contains("Usage:"), "{text}");
    }
    assert!(delta(&["send", "--", "--json"], b"").err().starts_with("error:"));
    assert_eq!(delta(&["--json", "--version"], b"").code, 0);
}
