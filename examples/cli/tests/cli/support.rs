//! Runs the program.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// How a run ended.
pub struct Done {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Done {
    pub fn out(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    pub fn err(&self) -> String {
        String::from_utf8(self.stderr.clone()).unwrap()
    }

    /// The JSON value on standard output of a run that must have succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err());
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// Failed with code 1, said why, printed no result and did not panic.
    pub fn assert_failed(&self, what: &str) {
        assert_eq!(self.code, 1, "{what}: {}", self.err());
        assert!(self.stdout.is_empty(), "{what}");
        assert!(self.err().starts_with("error: "), "{what}: {}", self.err());
    }
}

/// The program with arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delta"));
    command.args(arguments);
    command
}

/// Runs it with bytes on standard input.
pub fn delta(arguments: &[&str], stdin: &[u8]) -> Done {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = stdin.to_vec();
    // On a thread of its own: the child may answer before it has read everything, or never read.
    let writer = std::thread::spawn(move || {
        let _ = pipe.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Done {
        code: output.status.code().expect("the program ended by itself"),
        stdout: output.stdout,
        stderr: output.stderr,
    }
}

/// A vector file of the core's tests.
pub fn vectors(name: &str) -> Value {
    let path = format!("{}/../../core/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The text at a key.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is missing"))
}
