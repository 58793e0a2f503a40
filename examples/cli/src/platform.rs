//! The platform's random source and clock, which are the client's, and its signals.

use delta_client::{SystemClock, WallClock};
use delta_core::identity::Millis;

pub use delta_client::PlatformEntropy;
use tokio::signal::unix::{SignalKind, signal};

use crate::output::Interrupted;

/// The time, by the operating system's clock.
pub fn now() -> Millis {
    SystemClock.now()
}

/// The clock that no one can set: for measuring.
#[allow(clippy::disallowed_methods, reason = "a main program is the rim where time enters")]
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

/// As [`interrupted`], and for SIGHUP: for what is nothing without its terminal.
#[cfg(feature = "chat")]
pub async fn ended() -> std::io::Result<Interrupted> {
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = hung_up.recv() => Ok(Interrupted(SignalKind::hangup().as_raw_value())),
        interrupted = interrupted() => interrupted,
    }
}

/// SIGCONT: a job goes on that was stopped.
#[cfg(feature = "chat")]
pub fn continued() -> std::io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))
}

/// Waits for the signals that end a program and leave it time to clear up: SIGINT and SIGTERM. (Not SIGHUP: under
/// `nohup` it must stay ignored.)
pub async fn interrupted() -> std::io::Result<Interrupted> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let kind = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    };
    Ok(Interrupted(kind.as_raw_value()))
}
