//! The platform's random source and clock, which are the client's, and its signals.

use std::time::Duration;

use delta_client::{SystemClock, WallClock};
use delta_core::identity::Millis;
use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

pub use delta_client::PlatformEntropy;

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

/// How long clearing up after a signal may take: then the program ends, whatever holds it up. Everything that was
/// published is durable before.
pub const FAREWELL: Duration = Duration::from_secs(10);

/// The signals that end a program and leave it time to clear up: SIGINT and SIGTERM. (Not SIGHUP: under `nohup` it must
/// stay ignored.)
pub const INTERRUPTS: [SignalKind; 2] = [SignalKind::interrupt(), SignalKind::terminate()];

/// Hears of the signal that ends the program.
#[derive(Clone)]
pub struct Ended(watch::Receiver<Option<i32>>);

impl Ended {
    /// Hears of these from now on. After the first the program has this long for its end; a second, but for SIGHUP, ends
    /// it at once. Both also where its main thread is held up, by a terminal that takes nothing for instance.
    pub fn by(signals: impl IntoIterator<Item = SignalKind>, within: Duration) -> std::io::Result<Self> {
        let signals = signals.into_iter().map(|kind| Ok((kind.as_raw_value(), signal(kind)?)));
        let mut signals: Vec<_> = signals.collect::<std::io::Result<_>>()?;
        let (sender, ended) = watch::channel(None);
        tokio::spawn(async move {
            let number = first(&mut signals).await;
            std::thread::spawn(move || {
                std::thread::sleep(within);
                std::process::exit(Interrupted(number).code().into());
            });
            sender.send_replace(Some(number));
            // Both the system and its shell say that a terminal is gone.
            signals.retain(|(number, _)| *number != SignalKind::hangup().as_raw_value());
            let number = first(&mut signals).await;
            std::process::exit(Interrupted(number).code().into());
        });
        Ok(Self(ended))
    }

    /// Waits for it. Cancel-safe; again is harmless.
    pub async fn wait(&mut self) -> Interrupted {
        let number = self.0.wait_for(Option::is_some).await.ok().and_then(|number| *number);
        match number {
            Some(number) => Interrupted(number),
            // Nobody hears signals any more: the runtime ends.
            None => std::future::pending().await,
        }
    }
}

async fn first(signals: &mut [(i32, Signal)]) -> i32 {
    let each = signals.iter_mut().map(|(number, signal)| {
        Box::pin(async move {
            signal.recv().await;
            *number
        })
    });
    select_all(each).await.0
}

/// What ends a chat: [`INTERRUPTS`], and SIGHUP, for it is nothing without its terminal.
#[cfg(feature = "chat")]
pub fn ended() -> std::io::Result<Ended> {
    Ended::by(INTERRUPTS.into_iter().chain([SignalKind::hangup()]), FAREWELL)
}

/// SIGCONT: a job goes on that was stopped.
#[cfg(feature = "chat")]
pub fn continued() -> std::io::Result<Signal> {
    signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))
}

/// Waits for one of [`INTERRUPTS`]; from then on the program has this long.
pub async fn interrupted(within: Duration) -> std::io::Result<Interrupted> {
    Ok(Ended::by(INTERRUPTS, within)?.wait().await)
}
