//! One run from beginning to end.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use delta_core::identity::Millis;

use crate::config::Config;
use crate::violation::Violation;
use crate::world::World;

/// Longest virtual time from the last step until everything must have settled, milliseconds: the slowest retry
/// (30 minutes) several times over.
const SETTLE_MS: u64 = 6 * 3600 * 1000;
/// Events after which a run is given up: it does not come to rest.
const MAX_EVENTS: u64 = 20_000_000;

/// What a run that ended well did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Operations in all topics.
    pub operations: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Events.
    pub events: u64,
    /// What went wrong on purpose.
    pub faults: String,
    /// The run in 16 hex digits.
    pub fingerprint: String,
}

/// What a run that did not end well has to say.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What must not be.
    pub violation: Violation,
    /// What went wrong on purpose.
    pub faults: String,
    /// The command line that repeats it.
    pub repeat: String,
    /// The last lines of the trace.
    pub recent: Vec<String>,
    /// The run up to there in 16 hex digits.
    pub fingerprint: String,
}

impl Failure {
    /// A run that ended well by itself, and yet not as it must.
    pub fn of(config: &Config, summary: &Summary, what: String) -> Self {
        Self {
            violation: Violation::new(what),
            faults: summary.faults.clone(),
            repeat: config.command_line(),
            recent: Vec::new(),
            fingerprint: summary.fingerprint.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.recent {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n{}", self.violation)?;
        writeln!(f, "faults: {}", self.faults)?;
        write!(f, "repeat it with: {}", self.repeat)
    }
}

impl std::error::Error for Failure {}

/// Runs a configuration. Databases live in a temporary folder, in memory where the system has one.
pub fn run(config: &Config, print: bool) -> Result<Summary, Box<Failure>> {
    let folder = tempfile::Builder::new().prefix("delta-sim-").tempdir_in(memory_folder());
    let folder = folder.expect("a temporary folder can be made");
    let mut world = World::new(config.clone(), folder.path(), print);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    let result =
        lived.unwrap_or_else(|panic| Err(Violation::new(format!("a panic: {}", words(panic.as_ref())))));
    let faults = world.faults.to_string();
    let fingerprint = world.trace.fingerprint();
    match result {
        Ok(operations) => {
            let (virtual_ms, events) = (world.now().since(crate::world::START), world.events);
            Ok(Summary { operations, virtual_ms, events, faults, fingerprint })
        }
        Err(violation) => Err(Box::new(Failure {
            violation,
            faults,
            repeat: config.command_line(),
            recent: world.trace.recent().map(str::to_owned).collect(),
            fingerprint,
        })),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Files that are never written to a disk are fast, and nothing here needs a disk.
fn memory_folder() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

impl World {
    /// The whole life of the world; gives the number of operations in the end.
    fn live(&mut self) -> Result<u64, Violation> {
        if self.town.is_some() {
            return self.live_in_town();
        }
        while self.steps_left > 0 {
            if !self.turn(Millis(u64::MAX))? {
                return Err(Violation::new("nothing happens any more, although there are steps left"));
            }
            self.check_events()?;
        }
        self.settle()?;
        self.check_end()
    }

    /// Everything works again, and comes to rest.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.heal();
        let limit = self.now().plus(SETTLE_MS);
        while self.turn(limit)? {
            self.check_events()?;
        }
        Ok(())
    }

    pub(crate) fn check_events(&self) -> Result<(), Violation> {
        if self.events > MAX_EVENTS {
            return Err(Violation::new(format!("{MAX_EVENTS} events, and no rest")));
        }
        Ok(())
    }
}
