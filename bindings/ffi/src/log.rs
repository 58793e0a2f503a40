//! Logs go to one sink of the app, filtered before they cross.
//!
//! Tracing is one per process, so the sink is too: the one of the last [`Delta`](crate::Delta) opened with a sink. It is let
//! go with the last object that is open.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::error::{DeltaError, ListenerError};
use crate::runtime::Caller;

/// Log lines that wait for the sink; beyond it new ones are dropped.
const MAX_WAITING_LINES: usize = 1024;
/// Whose lines are passed on: not the libraries'.
const OURS: &str = "delta_";

/// How much is logged. `Error` means a bug in Delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum LogLevel {
    /// Bugs.
    Error,
    /// What an operator or developer should look at.
    Warn,
    /// Rare events.
    Info,
    /// For finding a fault.
    Debug,
    /// Everything.
    Trace,
}

/// Takes log lines. They never hold keys, texts or other content. Called from a thread of its own, until the last object of
/// the process is closed.
#[uniffi::export(foreign)]
pub trait LogSink: Send + Sync {
    /// How much it wants. Asked once.
    fn level(&self) -> Result<LogLevel, ListenerError>;
    /// One line.
    fn log(&self, level: LogLevel, target: String, message: String) -> Result<(), ListenerError>;
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// From now on lines go to this sink, while this or another object is open.
pub(crate) fn set(sink: Arc<dyn LogSink>, _open: &Logged) -> Result<(), DeltaError> {
    let level = sink.level().map_err(|error| DeltaError::argument("log_sink", error))?;
    let target =
        Target { sink, level: level.into(), caller: Caller::start("delta-log")?, waiting: Arc::default() };
    drop(replace(Some(target)));
    // An app in Rust with a subscriber of its own keeps it.
    INSTALLED.get_or_init(|| drop(tracing::subscriber::set_global_default(Lines)));
    tracing::callsite::rebuild_interest_cache();
    Ok(())
}

/// Gives what was there. The app's code may be called when a sink is let go, so that is not done under a lock.
#[must_use]
fn replace(target: Option<Target>) -> Option<Target> {
    std::mem::replace(&mut *TARGET.write().unwrap_or_else(PoisonError::into_inner), target)
}

/// One object that is open: with the last of them the sink is let go.
#[derive(Debug)]
pub(crate) struct Logged(AtomicBool);

impl Logged {
    pub(crate) fn new() -> Self {
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(AtomicBool::new(true))
    }

    /// It is closed. Again is harmless.
    pub(crate) fn end(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            *open -= 1;
            let ended = if *open == 0 { replace(None) } else { None };
            drop(open);
            drop(ended);
        }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.end();
    }
}

static OPEN: Mutex<usize> = Mutex::new(0);
static TARGET: RwLock<Option<Target>> = RwLock::new(None);
static INSTALLED: OnceLock<()> = OnceLock::new();

struct Target {
    sink: Arc<dyn LogSink>,
    level: Level,
    caller: Caller,
    waiting: Arc<AtomicUsize>,
}

/// Turns tracing's events into lines.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = TARGET.read().unwrap_or_else(PoisonError::into_inner);
        metadata.target().starts_with(OURS)
            && target.as_ref().is_some_and(|target| *metadata.level() <= target.level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let target = TARGET.read().unwrap_or_else(PoisonError::into_inner);
        target.as_ref().map(|target| LevelFilter::from_level(target.level))
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let (level, from) = ((*event.metadata().level()).into(), event.metadata().target().to_owned());
        let target = TARGET.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Target { sink, caller, waiting, .. }) = &*target else { return };
        if waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING_LINES {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (sink, waiting) = (Arc::clone(sink), Arc::clone(waiting));
        caller.call(move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
            // A sink that fails has nowhere to say so.
            drop(sink.log(level, from, line.text));
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message, then the fields as `name=value`.
#[derive(Default)]
struct Line {
    text: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match (field.name(), self.text.is_empty()) {
            ("message", true) => write!(self.text, "{value:?}"),
            ("message", false) => {
                self.text = format!("{value:?} {}", self.text);
                Ok(())
            }
            (name, true) => write!(self.text, "{name}={value:?}"),
            (name, false) => write!(self.text, " {name}={value:?}"),
        };
    }
}
