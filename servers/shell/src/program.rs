//! Start and stop of a server's program: logging, listening, signals, what it prints.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What the system can refuse at the start of any server.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something else the server needs to run.
    #[error("cannot {action}")]
    System {
        /// What.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StartError {
    /// For `map_err`: the system refused `action`.
    pub fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Time, level, part, message and `name=value` fields.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        clap::ValueEnum::from_str(text, false)
    }
}

/// Logs to standard error; `RUST_LOG` decides what, information and worse by default. A second call changes nothing.
pub fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that cannot be written (the log's disk is full) is lost. By default the library says so on standard error,
    // which fails for the same reason, and panics.
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    // Fails only where a log was chosen before.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// What a program ends with: its error goes to standard error. Wrong options are status 2, as from the command line's
/// parser.
#[allow(clippy::print_stderr, reason = "what a command prints when it fails")]
pub fn exit<E: Error>(result: Result<(), E>, is_options: impl FnOnce(&E) -> bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            if is_options(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// A line for whoever started the program. Unlike a log line it is there whatever is logged.
pub fn print(line: &str) -> Result<(), StartError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(StartError::system("write to standard output"))
}

/// Listens, and tells where: port 0 lets the system choose.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let error = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}

/// SIGTERM and SIGINT. From its making on they no longer end the process by themselves.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Begins to listen for the signals.
    pub fn new() -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::system("wait for signals"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// An error with its sources, on one line; a source whose text is already there is not repeated.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}
