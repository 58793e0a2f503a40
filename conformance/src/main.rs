//! `delta-conformance`: runs the suite against a server that is running, or against one it starts itself.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use futures_util::future::try_join_all;

use delta_conformance::spawn::{self, Spawned};
use delta_conformance::target::Target;
use delta_conformance::{Options, Report, Settings, checks, run};

/// Operations a topic keeps in the run that looks at eviction.
const KEPT: u64 = 20;

const AFTER_HELP: &str = "\
A base URL suffices; what the server was started with is read from /info, but for direct publishing. Every check uses
topics of its own with random keys: the suite may run against a server that is in use. A check that does
not apply to a server with the given settings is listed as such.

The last line is `N passed, N failed`. Exit codes: 0 all passed, 1 something failed, 2 the command line was not
understood.";

/// Black-box tests of the sync protocol, written from docs/wire.md.
#[derive(Parser)]
#[command(name = "delta-conformance", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    /// Base URL of the server under test.
    #[arg(long)]
    url: Option<String>,
    /// Without --url: start this program with several sets of flags, and test each [default: the delta-sync beside
    /// this program].
    #[arg(long, value_name = "PROGRAM", conflicts_with = "url")]
    spawn: Option<PathBuf>,
    /// Demand that the server takes JSON deliveries of version 2 relays [default: whether it does is found out].
    #[arg(long, requires = "url")]
    accept_v2: bool,
    /// The server takes operations on the socket.
    #[arg(long, requires = "url")]
    accept_direct_publish: bool,
    /// Only checks whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Checks that run at once.
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// One JSON value instead of text.
    #[arg(long)]
    json: bool,
    /// Print the checks and what they demand, and run nothing.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        for check in checks::all() {
            println!("{}\n    wire.md section {}: {}", check.name, check.section, check.demands);
        }
        return ExitCode::SUCCESS;
    }
    match reports(&cli).await {
        Ok(reports) => print(&cli, &reports),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn reports(cli: &Cli) -> anyhow::Result<Vec<Report>> {
    let Some(url) = cli.url.clone() else {
        let program = cli.spawn.clone().map_or_else(spawn::neighbour, Ok)?;
        return spawned(cli, &program).await;
    };
    let settings = Settings {
        accept_v2: cli.accept_v2 || takes_v2(&url).await?,
        accept_direct_publish: cli.accept_direct_publish,
        ..Settings::default()
    };
    Ok(vec![report(cli, url, settings).await?])
}

/// One run with default flags, one with everything switched on that a server may refuse, one with eviction, side by side.
async fn spawned(cli: &Cli, program: &Path) -> anyhow::Result<Vec<Report>> {
    let plain = Settings::default();
    let open = Settings { accept_v2: true, accept_direct_publish: true, read_proof: true, ..plain };
    let evicting = Settings { ops_per_topic: Some(KEPT), ..plain };
    let runs = [plain, open, evicting].map(|settings| one_spawned(cli, program, settings));
    try_join_all(runs).await
}

async fn one_spawned(cli: &Cli, program: &Path, settings: Settings) -> anyhow::Result<Report> {
    let mut server = Spawned::start(program, settings).await?;
    let report = report(cli, server.url.clone(), settings).await;
    server.check()?;
    if report.as_ref().map_or(true, |report| report.failed() > 0) {
        eprintln!("the server's last lines:\n{}", server.log());
    }
    server.stop().await?;
    report
}

async fn takes_v2(url: &str) -> anyhow::Result<bool> {
    let takes = Target::takes_v2(url).await.map_err(|failure| anyhow::anyhow!("{failure}"));
    takes.with_context(|| format!("{url} does not say who it is"))
}

async fn report(cli: &Cli, url: String, settings: Settings) -> anyhow::Result<Report> {
    let options = Options { url, settings, filter: cli.filter.clone(), jobs: cli.jobs };
    let report = run(&options).await.map_err(|failure| anyhow::anyhow!("{failure}"));
    let report = report.with_context(|| format!("{} does not say who it is", options.url))?;
    if !cli.json {
        print!("{report}");
    }
    Ok(report)
}

fn print(cli: &Cli, reports: &[Report]) -> ExitCode {
    let passed: usize = reports.iter().map(Report::passed).sum();
    let failed: usize = reports.iter().map(Report::failed).sum();
    if cli.json {
        let runs: Vec<_> = reports.iter().map(Report::json).collect();
        println!("{}", serde_json::json!({ "runs": runs, "passed": passed, "failed": failed }));
    } else {
        println!("\n{passed} passed, {failed} failed");
    }
    if failed > 0 || passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
