//! The `delta-sync` program.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// A sync server: keeps and fans out the operations of topics, without reading them.
///
/// It sees topic ids, times and sizes; it never learns who sent an operation.
#[derive(Parser)]
#[command(name = "delta-sync", version, after_help = EXAMPLE)]
struct Program {
    #[command(flatten)]
    cli: delta_sync::Cli,
}

const EXAMPLE: &str = "\
Example:
  delta-sync record --data sync --url https://sync.example --operator me > record.json
  delta-sync --data sync --listen 127.0.0.1:8080 --admin 127.0.0.1:9090

Environment: DELTA_DATA, DELTA_LISTEN, … for every option; RUST_LOG for what is logged (default: info).";

fn main() -> ExitCode {
    let program = Program::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match delta_sync::run(program.cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
