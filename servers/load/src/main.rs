//! `delta-chaos`: runs a sync server through kills, full disks and wipes, and holds it to what it said.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use delta_load::chaos::{self, Plan, Report};
use delta_load::server;

/// Random kill -9, SIGTERM, full disks, slow readers and wipes under concurrent publishers and subscribers. Everything
/// the server answered or pushed is compared with what it holds afterwards. Exits with 1 when something is wrong.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long, minutes.
    #[arg(long, default_value_t = 1, conflicts_with = "seconds")]
    minutes: u64,
    /// How long, seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Decides which faults come in which order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server to run; without it the `delta-sync` beside this program.
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    /// A folder on a small file system of its own (a tmpfs), which is filled up now and then.
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(report) if report.wrong.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Report> {
    let program = arguments.server.map_or_else(server::neighbour, Ok)?;
    let seconds = arguments.seconds.unwrap_or(arguments.minutes.saturating_mul(60));
    let (seed, disk) = (arguments.seed, arguments.disk);
    println!("chaos: seed {seed}, {seconds} s, {}", program.display());
    let plan = Plan { program, seed, duration: Duration::from_secs(seconds), disk };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(chaos::run(&plan))?;
    for (what, count) in &report.counts {
        println!("{count:>10} {what}");
    }
    report.wrong.iter().for_each(|wrong| println!("WRONG: {wrong}"));
    if let Some(folder) = &report.folder {
        println!("seed {seed}: the server's data and log are in {}", folder.display());
    }
    println!("{} problems", report.wrong.len());
    Ok(report)
}
