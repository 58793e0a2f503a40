//! The commands README names: `cargo xtask test`, `cargo xtask demo` and a few for daily work.
//!
//! Depends on the standard library alone, so that it builds in a second and on any compiler the workspace allows.
//! What it is not: a build system. Every step is a plain cargo command (printed before it runs) or a check of the
//! sources that lives here because no tool knows this project's floors.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

mod bans;
mod bench;
mod bindings;
mod browser;
mod cargo;
mod dependencies;
mod failures;
mod floors;
mod links;
mod notices;
mod packages;
mod packaging;
mod python;
mod sample_app;
mod size;
mod source;
mod stamp;
mod steps;
mod tasks;
mod test;
mod vectors;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask: the commands of this repository

Usage: cargo xtask <COMMAND> [ARGUMENTS]

Commands:
  test   [--only STEP] [--list]        all that CI runs but Swift and the library's size; ends with a table, the names
                                       of what failed, and `N passed, N failed`
         [--swift]                     the Swift bindings, in a Debian 13 root that it makes once (as root)
         [--all]                       all of it: what CI runs
  demo   [ARGUMENTS]                   builds the programs (release) and runs `delta demo ARGUMENTS`
  sim    [--seed S] [--steps N]        one simulation; prints the seed when it fails
         [--seeds N]                   many seeds, one after another
  conformance [ARGUMENTS]              black-box tests of the sync protocol (see --help)
         [--url URL]                   against a server that runs; without it against our own
  chaos  [--minutes N] [--seed S]      a sync server under kills, full disks and wipes, held to what it said (see --help)
  bench  [NAME [ARGUMENTS]]            the benchmarks, or those whose name holds NAME; ends with a table of ratios
         bindings [--debug]            what Kotlin and Python cost, with the library as it ships
  soak   [PACKETS]                     100,000 packets through three relays: all arrive, memory stays flat
  notices                              writes the licences of what apps ship anew
  aar                                  compiles the Kotlin bindings for Android into target/android/delta.aar, with the
                                       libraries of packaging/android/build-libraries.sh
  bindings                             writes Kotlin, Swift, Python and docs/api.md from bindings/ffi anew
  size                                 builds the library as it ships in an app; its size by crate into docs/size.md
  fmt                                  formats every crate
  help                                 this text

Examples:
  cargo xtask test
  cargo xtask test --only floors
  cargo xtask demo --json
  cargo xtask sim --seed 7 --steps 5000
  cargo xtask sim --seeds 200
  cargo xtask sim --town --seeds 200
  cargo xtask conformance --url http://127.0.0.1:8080 --accept-v2
  cargo xtask conformance --filter case_52
  cargo xtask chaos --minutes 10 --seed 3

Exit codes: 0 all well, 1 something failed, 2 the command line was not understood.
On a compiler older than 1.96 every cargo command gets --ignore-rust-version (see CONTRIBUTING.md).
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments.as_slice()),
    };
    if matches!(command, "help" | "--help" | "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if !matches!(command, "demo" | "conformance" | "chaos")
        && rest.iter().any(|argument| argument == "--help" || argument == "-h")
    {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let done = match command {
        "test" => test::run(rest),
        "demo" => tasks::demo(rest),
        "sim" => tasks::sim(rest),
        "conformance" => tasks::conformance(rest),
        "chaos" => tasks::chaos(rest),
        "bench" => bench::run(rest),
        "soak" => tasks::soak(rest),
        "aar" => packaging::write_aar(),
        "bindings" => bindings::write(),
        "notices" => notices::write(),
        "size" => size::run(),
        "fmt" => tasks::fmt(rest),
        other => Err(Failure::Usage(format!("unknown command `{other}`"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(what)) => {
            eprintln!("error: {what}\n\n{HELP}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(what)) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
        Err(Failure::Exit(code)) => ExitCode::from(code),
    }
}

/// Why a command did not end well.
pub enum Failure {
    /// The command line was not understood.
    Usage(String),
    /// Something was run or checked and failed.
    Failed(String),
    /// A program that ran in our place ended with this code and has said why.
    Exit(u8),
}
