//! Steps: run one after another, timed, all of them even when one fails; then a table.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::cargo;

/// One thing that `cargo xtask test` does.
pub struct Step {
    /// Short name, used by `--only`.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
}

/// How a step is done.
pub enum Action {
    /// A cargo command line, without the word cargo.
    Cargo(String),
    /// One of this workspace's own programs (debug profile) with arguments; an earlier step builds it.
    Program(&'static str, String),
    /// A check inside this program: the problems found.
    Check(fn() -> Vec<String>),
    /// A piece of work inside this program that says itself how it ended.
    Work(fn() -> Outcome),
}

/// How a step ended.
pub enum Outcome {
    /// Well.
    Passed,
    /// Not well; it has printed why.
    Failed,
    /// It could not be done on this machine, and why.
    NotChecked(String),
}

/// Runs every step; true when none failed.
pub fn run_all(steps: &[Step]) -> bool {
    let mut rows = Vec::new();
    for step in steps {
        println!("\n━━ {} ━━", step.name);
        let (outcome, took) = timed(|| run(step));
        rows.push((step.name, outcome, took));
    }
    summary(&rows)
}

fn run(step: &Step) -> Outcome {
    let outcome = match &step.action {
        Action::Cargo(line) => run_cargo(line),
        Action::Program(program, arguments) => run_program(program, arguments),
        Action::Check(check) => report(&check()),
        Action::Work(work) => work(),
    };
    if matches!(outcome, Outcome::Failed) {
        println!("!! {} failed. Repeat it alone with: cargo xtask test --only {}", step.name, step.name);
    }
    outcome
}

/// Runs a cargo command line, without the word cargo.
pub fn run_cargo(line: &str) -> Outcome {
    let words = cargo::line(line);
    println!("$ cargo {}", words.join(" "));
    ended(cargo::command(&words).status())
}

/// Says that something is not checked, and why.
pub fn not_here(why: String) -> Outcome {
    println!("!! NOT CHECKED HERE: {why}");
    Outcome::NotChecked(why)
}

fn run_program(program: &str, arguments: &str) -> Outcome {
    let path = match cargo::programs("debug") {
        Ok(folder) => folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX)),
        Err(why) => return report(&[why]),
    };
    println!("$ {} {arguments}", path.display());
    let words = arguments.split_whitespace();
    ended(std::process::Command::new(path).args(words).current_dir(cargo::root()).status())
}

fn ended(status: std::io::Result<ExitStatus>) -> Outcome {
    match status {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => {
            println!("ended with {status}");
            Outcome::Failed
        }
        Err(error) => {
            println!("did not start: {error}");
            Outcome::Failed
        }
    }
}

fn report(problems: &[String]) -> Outcome {
    for problem in problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("nothing found");
        Outcome::Passed
    } else {
        Outcome::Failed
    }
}

#[allow(clippy::disallowed_methods, reason = "the seconds in the summary; nothing is decided by them")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn summary(rows: &[(&str, Outcome, Duration)]) -> bool {
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max("step".len());
    println!("\n{:width$}  {:>8}  result", "step", "seconds");
    for (name, outcome, took) in rows {
        let word = match outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::NotChecked(_) => "NOT CHECKED HERE",
        };
        println!("{name:width$}  {:>8.1}  {word}", took.as_secs_f64());
    }
    let total: Duration = rows.iter().map(|(_, _, took)| *took).sum();
    println!("{:width$}  {:>8.1}", "total", total.as_secs_f64());
    for (name, outcome, _) in rows {
        if let Outcome::NotChecked(why) = outcome {
            println!("not checked here: {name}: {why}");
        }
    }
    let count = |wanted: fn(&Outcome) -> bool| rows.iter().filter(|(_, outcome, _)| wanted(outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed));
    println!("{} passed, {failed} failed", count(|outcome| matches!(outcome, Outcome::Passed)));
    failed == 0
}
