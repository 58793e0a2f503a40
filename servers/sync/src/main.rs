//! The `delta-sync` program.

use std::process::ExitCode;

use clap::Parser;

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
    let is_options = |error: &delta_sync::RunError| matches!(error, delta_sync::RunError::Options(_));
    delta_server_shell::program::exit(delta_sync::run(program.cli), is_options)
}
