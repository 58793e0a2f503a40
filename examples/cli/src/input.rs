//! What comes in: secrets as arguments or files, bytes on standard input.

use std::fmt;
use std::io::{BufRead, Read};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use zeroize::{Zeroize, Zeroizing};

/// Most bytes read from standard input or a file: the largest packet in hex, and some room.
const MAX_INPUT: u64 = 4 * 1024 * 1024;

/// A secret of 32 bytes given as 64 hex digits, or as `@FILE` that holds the digits or the bytes.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl FromStr for Secret {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let bytes = match text.strip_prefix('@') {
            Some(path) => argument_file(path)?,
            None => Zeroizing::new(text.as_bytes().to_vec()),
        };
        let raw = unhex(&bytes).unwrap_or(bytes);
        // Not the value: it would end up in a terminal's history or a log.
        let bytes = <[u8; 32]>::try_from(raw.as_slice());
        bytes.map(|bytes| Self(Zeroizing::new(bytes))).map_err(|_| {
            anyhow::anyhow!("expected 64 hex digits, or @FILE that holds 64 hex digits or 32 bytes")
        })
    }
}

/// How bytes are written on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Hex when all of it is hex digits, bytes otherwise.
    Auto,
    /// Hex digits; blanks at the ends are ignored.
    Hex,
    /// Bytes as they are.
    Bytes,
}

/// Reads standard input to its end.
pub fn stdin(form: Form) -> anyhow::Result<Vec<u8>> {
    let bytes = read_all(std::io::stdin().lock()).context("standard input")?;
    match form {
        Form::Bytes => Ok(bytes.to_vec()),
        Form::Auto => Ok(unhex(&bytes).unwrap_or(bytes).to_vec()),
        Form::Hex => match unhex(&bytes) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => bail!("standard input is not an even number of hex digits"),
        },
    }
}

/// The lines of standard input, read by a thread of their own: a pipe may stay open for long.
pub fn stdin_lines() -> tokio::sync::mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Reads a file of moderate size.
pub fn read_file(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    read_all(file).with_context(|| path.display().to_string())
}

/// A file that an argument names. The whole error is one text: of an argument's only the first is shown.
pub fn argument_file(path: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    read_file(Path::new(path)).map_err(|error| anyhow::anyhow!("{error:#}"))
}

fn read_all(source: impl Read) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    source.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_INPUT, "more than {MAX_INPUT} bytes");
    Ok(bytes)
}

/// The bytes of hex digits, of either case, with blanks around them; `None` when it is anything else, or nothing.
fn unhex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.trim_ascii();
    if digits.is_empty() {
        return None;
    }
    hex::decode(digits).ok().map(Zeroizing::new)
}

/// 32 public bytes as 64 hex digits of either case.
pub fn public_bytes(text: &str) -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex::decode_to_slice(text, &mut bytes).is_err() {
        bytes.zeroize();
        bail!("expected 64 hex digits");
    }
    Ok(bytes)
}
