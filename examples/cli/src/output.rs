//! Where results and errors go, and with which exit code a command ends.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

/// Prints results: text or JSON on standard output, remarks on standard error.
#[derive(Clone, Copy)]
pub struct Output {
    json: bool,
}

/// Remarks that may come again and again: each is made when it differs from the one before.
#[derive(Debug, Default)]
pub struct Repeated(Option<String>);

impl Repeated {
    /// Makes a remark, unless it was just made.
    pub fn note(&mut self, output: &Output, text: String) {
        if self.0.as_ref() != Some(&text) {
            output.note(&text);
            self.0 = Some(text);
        }
    }
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

/// Whoever read standard output has had enough (`delta … | head`): nothing that failed. No other broken pipe is.
#[derive(Debug)]
pub struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for ReaderGone {}

/// A signal ended the command: exit code 128 and its number, as shells have it.
#[derive(Debug)]
pub struct Interrupted(pub i32);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ended by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

impl Interrupted {
    /// The exit code.
    pub fn code(&self) -> u8 {
        u8::try_from(self.0).unwrap_or(u8::MAX).saturating_add(128)
    }
}

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
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => ReaderGone.into(),
            _ => anyhow::Error::new(error).context("standard output"),
        })
    }

    /// Bytes as they are, written by a thread that may wait: the caller can wait for something else meanwhile. What
    /// it was writing when it is dropped may still come.
    pub async fn patiently(&self, bytes: Vec<u8>) -> anyhow::Result<()> {
        let output = *self;
        tokio::task::spawn_blocking(move || output.bytes(&bytes)).await?
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
        if error.is::<ReaderGone>() {
            return ExitCode::SUCCESS;
        }
        self.error(&with_causes(&error));
        if error.is::<Usage>() {
            return ExitCode::from(2);
        }
        error.downcast_ref().map_or(ExitCode::FAILURE, |signal: &Interrupted| signal.code().into())
    }

    /// An error, on standard error.
    pub fn error(&self, text: &str) {
        if self.json {
            remark(&serde_json::json!({ "error": text }).to_string());
        } else {
            remark(&format!("error: {text}"));
        }
    }
}

/// An error and what lies behind it, each said once: many errors repeat their cause.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.contains(&cause) {
        true => text,
        false if text.is_empty() => cause,
        false => format!("{text}: {cause}"),
    })
}

/// A line on standard error; when that is gone too there is nobody to tell.
fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::with_causes;

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let error = anyhow!("the port is wrong").context("the URL is not usable: the port is wrong");
        assert_eq!(with_causes(&error), "the URL is not usable: the port is wrong");
        let error = anyhow!("no such file").context("ada.db").context("this device does not open");
        assert_eq!(with_causes(&error), "this device does not open: ada.db: no such file");
    }
}
