//! The `delta-relay` program.

use std::process::ExitCode;

use clap::Parser;

/// An onion relay: takes packets, peels one layer of each and forwards the rest to the next node of its directory.
///
/// It learns from a packet where it came from, where it goes and its size class, and keeps none of it.
#[derive(Parser)]
#[command(name = "delta-relay", version, after_help = EXAMPLE)]
struct Program {
    #[command(flatten)]
    cli: delta_relay::Cli,
}

const EXAMPLE: &str = "\
Example:
  delta-relay keygen --data relay
  delta-relay record --data relay --url https://relay.example --operator me > record.json
  delta-relay --data relay --listen 127.0.0.1:8080 --admin 127.0.0.1:9090 \\
      --directory list.json --records records.json --trust <key of the list's signer>

Environment: DELTA_DATA, DELTA_LISTEN, … for every option; RUST_LOG for what is logged (default: info).";

fn main() -> ExitCode {
    let program = Program::parse();
    let is_options = |error: &delta_relay::RunError| matches!(error, delta_relay::RunError::Options(_));
    delta_server_shell::program::exit(delta_relay::run(program.cli), is_options)
}
