//! A fingerprint of a run: two runs of one seed must agree in it, event by event.

use std::fmt;

use delta_core::identity::Millis;

/// Everything that happened, hashed; the last lines of it in words.
pub struct Trace {
    hasher: blake3::Hasher,
    lines: u64,
    recent: std::collections::VecDeque<String>,
    keep: usize,
    print: bool,
}

impl Trace {
    /// An empty trace that keeps the last `keep` lines, and prints each to stderr when asked to.
    pub fn new(keep: usize, print: bool) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            lines: 0,
            recent: std::collections::VecDeque::new(),
            keep,
            print,
        }
    }

    /// Adds a line.
    #[allow(clippy::print_stderr, reason = "the trace was asked for on the command line")]
    pub fn line(&mut self, now: Millis, what: fmt::Arguments<'_>) {
        let line = format!("{:>9}  {what}", now.since(crate::world::START));
        self.hasher.update(line.as_bytes()).update(b"\n");
        self.lines += 1;
        if self.print {
            eprintln!("{line}");
        }
        if self.recent.len() >= self.keep {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// Adds bytes to the fingerprint alone.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
    }

    /// The fingerprint so far: 16 hex digits.
    pub fn fingerprint(&self) -> String {
        self.hasher.finalize().to_hex().chars().take(16).collect()
    }

    /// The last lines.
    pub fn recent(&self) -> impl Iterator<Item = &str> {
        self.recent.iter().map(String::as_str)
    }
}

/// The beginning of an id, enough to tell it from the others of a run.
pub(crate) fn short(id: &impl AsRef<[u8]>) -> String {
    id.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} lines, {})", self.lines, self.fingerprint())
    }
}
