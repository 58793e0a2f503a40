//! `delta-sim`: runs simulations and says how to repeat the one that failed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's report")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use delta_sim::{Config, Failure, Fault, Summary, run};

/// Devices, relays and a sync server on a virtual clock, with faults drawn from a seed. The same arguments give the
/// same run, always and everywhere.
#[derive(Debug, Parser)]
#[command(name = "delta-sim", version)]
struct Arguments {
    /// The seed (the first one, with --seeds).
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, one after the other from --seed on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Things done to each world: commands and large faults together.
    #[arg(long, default_value_t = 200)]
    steps: u64,
    /// Devices; drawn from the seed (2–5) when missing.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=32))]
    devices: Option<u8>,
    /// Topics; drawn from the seed (1–3) when missing.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=32))]
    topics: Option<u8>,
    /// Relays; drawn from the seed (3–6) when missing.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=32))]
    relays: Option<u8>,
    /// Kinds of trouble to allow, by comma, or `none`; all when missing. A run draws about half of them.
    #[arg(long, value_parser = parse_faults)]
    faults: Option<Faults>,
    /// People who come to a space by invitation, say something, are removed, come again, instead of topics that are
    /// there from the beginning.
    #[arg(long, conflicts_with = "topics")]
    town: bool,
    /// Print every event to stderr.
    #[arg(long)]
    trace: bool,
    /// Run each seed twice and compare.
    #[arg(long)]
    twice: bool,
    /// Worlds to run at the same time, each in a thread of its own; as many as there are cores when missing.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print a line for each run.
    #[arg(long)]
    verbose: bool,
}

#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

fn parse_faults(text: &str) -> Result<Faults, delta_sim::UnknownFault> {
    if text == "none" {
        return Ok(Faults(Vec::new()));
    }
    text.split(',').map(str::parse).collect::<Result<_, _>>().map(Faults)
}

impl Arguments {
    fn config(&self, seed: u64) -> Config {
        let mut config =
            if self.town { Config::town(seed, self.steps) } else { Config::new(seed, self.steps) };
        config.devices = self.devices.map(usize::from);
        config.topics = self.topics.map(usize::from);
        config.relays = self.relays.map(usize::from);
        if let Some(Faults(allowed)) = &self.faults {
            config.allowed.retain(|fault| allowed.contains(fault));
        }
        config
    }

    /// A kind of trouble that is asked for and cannot be: a run without it would look as if it did no harm.
    fn impossible(&self) -> Option<&'static str> {
        let kinds = Config::town(0, 0).allowed;
        let asked = self.faults.iter().flat_map(|Faults(asked)| asked).filter(|_| self.town);
        asked.filter(|fault| !kinds.contains(fault)).map(|fault| fault.label()).next()
    }

    fn one(&self, seed: u64) -> Result<Summary, Box<Failure>> {
        let config = self.config(seed);
        let first = run(&config, self.trace)?;
        if self.twice {
            let second = run(&config, false)?;
            if first != second {
                let what = format!("two runs differ: {} and {}", first.fingerprint, second.fingerprint);
                return Err(Box::new(Failure::of(&config, &second, what)));
            }
        }
        Ok(first)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(fault) = arguments.impossible() {
        let text = format!("--faults {fault}: in a town there is no such trouble");
        Arguments::command().error(ErrorKind::ArgumentConflict, text).exit();
    }
    let jobs = arguments.jobs.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let jobs = jobs.clamp(1, arguments.seeds.clamp(1, 256) as usize);
    let next = AtomicU64::new(0);
    let (mut runs, mut operations, mut failed) = (0, 0, Vec::new());
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| work(&arguments, &next))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a world does not panic")).collect()
    });
    for (seed, result) in results {
        runs += 1;
        match result {
            Ok(summary) => operations += summary.operations,
            Err(failure) => failed.push((seed, failure)),
        }
    }
    failed.sort_by_key(|(seed, _)| *seed);
    for (seed, failure) in &failed {
        eprintln!("seed {seed} fails:\n{failure}\n");
    }
    println!("{runs} runs, {operations} operations, {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Results = Vec<(u64, Result<Summary, Box<Failure>>)>;

fn work(arguments: &Arguments, next: &AtomicU64) -> Results {
    let mut results = Vec::new();
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        if place >= arguments.seeds {
            return results;
        }
        let seed = arguments.seed.wrapping_add(place);
        let result = arguments.one(seed);
        if arguments.verbose || arguments.seeds == 1 {
            match &result {
                Ok(Summary { operations, virtual_ms, events, faults, fingerprint }) => println!(
                    "seed {seed}: {operations} operations, {events} events in {} s of virtual time, {fingerprint}, faults: {faults}",
                    virtual_ms / 1000
                ),
                Err(failure) => println!("seed {seed}: {}", failure.violation),
            }
        }
        results.push((seed, result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_test_nothing_is_refused() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from([&["delta-sim"], arguments].concat());
        assert!(parse(&["--seeds", "0"]).is_err());
        assert!(parse(&["--town", "--topics", "2"]).is_err());
        let asks = |arguments: &[&str]| parse(arguments).unwrap().impossible();
        assert_eq!(asks(&["--town", "--faults", "loss,server-wipe"]), Some("server-wipe"));
        assert_eq!(asks(&["--town", "--faults", "loss"]), None);
        assert_eq!(asks(&["--faults", "loss,server-wipe"]), None);
    }
}
