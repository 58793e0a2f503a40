//! The other commands: demo, sim, bench, fmt.

use std::process::{Command, ExitStatus};

use crate::floors::CRATES;
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

/// Runs the benchmarks whose names hold the first argument (all when there is none), one after another: they would
/// disturb each other. What follows the name goes to the benchmark.
pub fn bench(arguments: &[String]) -> Result<(), Failure> {
    let (filter, more) =
        arguments.split_first().map_or(("", arguments), |(name, more)| (name.as_str(), more));
    let chosen: Vec<_> = benchmarks().into_iter().filter(|(_, name)| name.contains(filter)).collect();
    if chosen.is_empty() {
        return Err(Failure::Usage(format!("no benchmark is called `{filter}`")));
    }
    for (package, name) in chosen {
        println!("\n━━ {name} ({package}) ━━");
        run_cargo(&format!("bench --quiet --locked -p {package} --bench {name} --"), more)?;
    }
    Ok(())
}

/// Package and name of every file in a `benches` folder.
fn benchmarks() -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (folder, package, _) in CRATES {
        let files = std::fs::read_dir(cargo::root().join(folder).join("benches"));
        let paths = files.into_iter().flatten().flatten().map(|entry| entry.path());
        let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        found.extend(sources.filter_map(|path| Some((package, path.file_stem()?.to_str()?.to_owned()))));
    }
    found.sort();
    found
}

/// Formats every crate.
pub fn fmt(arguments: &[String]) -> Result<(), Failure> {
    run_cargo("fmt --all", arguments)
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
