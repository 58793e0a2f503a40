//! The `delta` command: one file per subcommand; this one only dispatches.

mod directory;
mod input;
mod keygen;
mod onion;
mod output;
mod platform;
mod programs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Output;

const AFTER_HELP: &str = "\
Results go to standard output, everything else to standard error. With --json a result is one JSON value, bytes
in lower-case hex, and an error is {\"error\": …} on standard error.

Exit codes: 0 done, 1 failed, 2 the command line was not understood.";

/// Delta: signed operations through onion relays to a sync server that cannot tell who sent them.
#[derive(Parser)]
#[command(name = "delta", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one value of it in the life of the program")]
enum Command {
    /// Make a device key, a private topic or a node's keys.
    Keygen(keygen::Options),
    /// Build and open onion packets by hand.
    #[command(subcommand)]
    Onion(onion::Command),
    /// Sign and show directories of nodes.
    #[command(subcommand)]
    Directory(directory::Command),
    /// Run a relay, as `delta-relay` does; `delta relay record` signs its directory record.
    Relay(delta_relay::Cli),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let done = match cli.command {
        Command::Keygen(options) => keygen::run(&options, &output),
        Command::Onion(command) => onion::run(command, &output),
        Command::Directory(command) => directory::run(command, &output),
        Command::Relay(cli) => programs::relay(cli),
    };
    output.end(done)
}
