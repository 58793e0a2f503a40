//! `delta-conformance-client`: starts a server and holds a client program to the protocol.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use delta_conformance::client::{self, Client, Outcome};
use delta_conformance::spawn::{self, Spawned};
use delta_conformance::{Failure, Settings};

/// Tests of a client: it follows topics of a server, and notices when that server lies.
#[derive(Parser)]
#[command(name = "delta-conformance-client", version, max_term_width = 110)]
struct Cli {
    /// The delta-sync to start [default: the one beside this program].
    #[arg(long, value_name = "PROGRAM")]
    spawn: Option<PathBuf>,
    /// The client's command line; what it is called with further is described in conformance/src/client.rs.
    #[arg(last = true, required = true)]
    client: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match outcomes(cli).await {
        Ok(outcomes) => print(&outcomes),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn outcomes(cli: Cli) -> anyhow::Result<Vec<Outcome>> {
    let program = cli.spawn.map_or_else(spawn::neighbour, Ok)?;
    let mut server = Spawned::start(&program, Settings::default()).await?;
    let client = Client { command: cli.client, show: |line| println!("    {line}") };
    let outcomes = client::run(&server.url, &client).await;
    server.check()?;
    server.stop().await?;
    let outcomes = outcomes.map_err(|failure: Failure| anyhow::anyhow!("{failure}"));
    outcomes.context("the server cannot be used")
}

fn print(outcomes: &[Outcome]) -> ExitCode {
    let mut failed = 0;
    for (what, outcome) in outcomes {
        match outcome {
            Ok(()) => println!("  ok    {what}"),
            Err(failure) => {
                failed += 1;
                println!("  FAIL  {what}");
                for line in failure.to_string().lines() {
                    println!("        {line}");
                }
            }
        }
    }
    println!("\n{} passed, {failed} failed", outcomes.len() - failed);
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
