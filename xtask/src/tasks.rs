//! The other commands: demo, sim, conformance, chaos, soak, fmt.

use std::process::{Command, ExitStatus};

use crate::{Failure, cargo};

/// Builds the programs a demo starts, then runs `delta demo` with the given arguments.
pub fn demo(arguments: &[String]) -> Result<(), Failure> {
    run_cargo("build --release --locked -p delta-cli -p delta-relay -p delta-sync --bins", &[])?;
    let folder = cargo::programs("release").map_err(Failure::Failed)?;
    let program = folder.join(format!("delta{}", std::env::consts::EXE_SUFFIX));
    let status = Command::new(&program).arg("demo").args(arguments).status();
    ended(&program.display().to_string(), status)
}

/// Runs the simulation with the given arguments.
pub fn sim(arguments: &[String]) -> Result<(), Failure> {
    run_cargo("run --quiet --locked -p delta-sim --bin delta-sim --", arguments)
}

/// Builds the conformance suite and runs it with the given arguments; without a server to test it starts our own.
pub fn conformance(arguments: &[String]) -> Result<(), Failure> {
    let other = arguments.iter().any(|argument| argument == "--url" || argument.starts_with("--url="));
    let server = if other { "" } else { "-p delta-sync" };
    run_cargo(&format!("build --quiet --locked -p delta-conformance {server} --bins"), &[])?;
    run_program("delta-conformance", arguments)
}

/// Builds our sync server and runs it through faults, with the given arguments.
pub fn chaos(arguments: &[String]) -> Result<(), Failure> {
    run_cargo("build --quiet --locked -p delta-load -p delta-sync --bins", &[])?;
    run_program("delta-chaos", arguments)
}

/// Packets of a soak.
const SOAK: &str = "100000";

/// Sends many packets through three relays, in release.
pub fn soak(arguments: &[String]) -> Result<(), Failure> {
    let packets = match arguments {
        [] => SOAK,
        [count] if count.parse::<usize>().is_ok_and(|count| count > 0) => count,
        _ => return Err(Failure::Usage("soak takes a number of packets".to_owned())),
    };
    let words = cargo::line("test --release --quiet --locked -p delta-relay --test soak -- --nocapture");
    ended("cargo", cargo::command(&words).env("DELTA_SOAK_PACKETS", packets).status())
}

/// Formats every crate.
pub fn fmt(arguments: &[String]) -> Result<(), Failure> {
    run_cargo("fmt --all", arguments)
}

/// Runs one of this workspace's programs (debug profile).
fn run_program(name: &str, arguments: &[String]) -> Result<(), Failure> {
    let folder = cargo::programs("debug").map_err(Failure::Failed)?;
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let status = Command::new(&program).args(arguments).status();
    ended(&program.display().to_string(), status)
}

fn run_cargo(line: &str, more: &[String]) -> Result<(), Failure> {
    let mut words = cargo::line(line);
    words.extend_from_slice(more);
    ended("cargo", cargo::command(&words).status())
}

/// Hands on the exit code of a program that has already said what went wrong.
fn ended(program: &str, status: std::io::Result<ExitStatus>) -> Result<(), Failure> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Exit(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
        Err(error) => Err(Failure::Failed(format!("{program} did not start: {error}"))),
    }
}
