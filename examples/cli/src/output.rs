//! Where results and errors go, and with which exit code a command ends.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

/// Prints results: text or JSON on standard output, remarks on standard error.
pub struct Output {
    json: bool,
}

/// The arguments were understood one by one but do not go together: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Output {
    /// `json`: whether results are JSON.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// One JSON value, on one line.
    pub fn value(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// One line of text.
    pub fn line(&self, text: &str) -> anyhow::Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(())
    }

    /// A remark for a person; left out with --json.
    pub fn note(&self, text: &str) {
        if !self.json {
            remark(text);
        }
    }

    /// Reports how a command ended.
    pub fn end(&self, done: anyhow::Result<()>) -> ExitCode {
        let Err(error) = done else { return ExitCode::SUCCESS };
        // Whoever read our output has had enough (`delta … | head`): not an error.
        if error.chain().any(is_broken_pipe) {
            return ExitCode::SUCCESS;
        }
        let text = format!("{error:#}");
        if self.json {
            remark(&serde_json::json!({ "error": text }).to_string());
        } else {
            remark(&format!("error: {text}"));
        }
        if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    }
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A line on standard error; when that is gone too there is nobody to tell.
fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
