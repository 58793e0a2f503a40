//! Steps: run one after another, timed, all of them even when one fails; then a table, and the names of what failed.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, IsTerminal, Write as _};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failures::Failures;
use crate::{Failure, cargo};

/// The argument with which this program runs one step itself.
pub const ONE_STEP: &str = "--step";
/// What it then ends with where the step cannot be done on this machine.
const NOT_CHECKED: u8 = 77;
/// How the line begins that says why.
const NOT_HERE: &str = "!! NOT CHECKED HERE: ";
/// How often, and with what pause, it is looked whether a step that ended has been heard to its end.
const REST_LOOKS: u32 = 100;
const REST_PAUSE: Duration = Duration::from_millis(20);

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
    /// It could not be done on this machine; it has printed why.
    NotChecked,
}

/// Runs every step, each in a process of its own whose output is shown and looked through; true when none failed.
pub fn run_all(steps: &[Step]) -> bool {
    let mut rows: Vec<Row> = Vec::new();
    for step in steps {
        println!("\n━━ {} ━━", step.name);
        let (end, took) = timed(|| elsewhere(step.name));
        let row = Row { name: step.name, end, took };
        println!("── {}: {} after {:.1} s", row.name, row.word(), took.as_secs_f64());
        rows.push(row);
        // A log that is cut here ends with them.
        let failed = failed(&rows);
        if !failed.is_empty() {
            println!("── failed so far: {failed}");
        }
    }
    print!("\n{}", summary(&rows));
    rows.iter().all(|row| !matches!(row.end, End::Failed(_)))
}

/// Runs a step in this process, for [`run_all`] in another.
pub fn run_here(step: &Step) -> Result<(), Failure> {
    match run(step) {
        Outcome::Passed => Ok(()),
        Outcome::Failed => Err(Failure::Exit(1)),
        Outcome::NotChecked => Err(Failure::Exit(NOT_CHECKED)),
    }
}

/// How a step in a process of its own ended.
enum End {
    Passed,
    /// With the names of what failed.
    Failed(Vec<String>),
    /// With the reason.
    NotChecked(String),
}

struct Row {
    name: &'static str,
    end: End,
    took: Duration,
}

impl Row {
    fn word(&self) -> &'static str {
        match self.end {
            End::Passed => "passed",
            End::Failed(_) => "FAILED",
            End::NotChecked(_) => "NOT CHECKED HERE",
        }
    }
}

fn elsewhere(name: &str) -> End {
    let failed = |why: String| {
        println!("{why}");
        End::Failed(vec![why])
    };
    let (status, heard) = match spoken(name) {
        Ok(done) => done,
        Err(error) => return failed(format!("the step did not start: {error}")),
    };
    match status.code() {
        Some(0) => End::Passed,
        Some(code) if code == i32::from(NOT_CHECKED) => End::NotChecked(heard.why),
        Some(_) => End::Failed(heard.failures.names()),
        None => failed(format!("the step was ended: {status}")),
    }
}

#[derive(Default)]
struct Heard {
    failures: Failures,
    why: String,
}

/// Starts this program for one step and shows what it and whatever it starts say.
fn spoken(name: &str) -> std::io::Result<(ExitStatus, Heard)> {
    let (lines, said) = std::io::pipe()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["test", ONE_STEP, name]).stdout(said.try_clone()?).stderr(said);
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn()?;
    // It holds this side of the pipe.
    drop(command);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let hearing = std::thread::spawn({
        let heard = Arc::clone(&heard);
        move || hear(BufReader::new(lines), &heard)
    });
    let status = child.wait()?;
    // What a step left running would keep the pipe open.
    for _ in 0..REST_LOOKS {
        if hearing.is_finished() {
            break;
        }
        std::thread::sleep(REST_PAUSE);
    }
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((status, heard))
}

fn hear(mut lines: impl BufRead, heard: &Mutex<Heard>) {
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
        let text = String::from_utf8_lossy(&line);
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = text.trim_end().strip_prefix(NOT_HERE) {
            why.clone_into(&mut heard.why);
        }
        heard.failures.hear(&text);
        line.clear();
    }
}

fn run(step: &Step) -> Outcome {
    match &step.action {
        Action::Cargo(line) => run_cargo(line),
        Action::Program(program, arguments) => run_program(program, arguments),
        Action::Check(check) => report(&check()),
        Action::Work(work) => work(),
    }
}

/// Runs a cargo command line, without the word cargo.
pub fn run_cargo(line: &str) -> Outcome {
    let words = cargo::line(line);
    println!("$ cargo {}", words.join(" "));
    ended(cargo::command(&words).status())
}

/// Says that something is not checked, and why.
pub fn not_here(why: &str) -> Outcome {
    println!("{NOT_HERE}{why}");
    Outcome::NotChecked
}

fn run_program(program: &str, arguments: &str) -> Outcome {
    let path = match cargo::programs("debug") {
        Ok(folder) => folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX)),
        Err(why) => return report(&[why]),
    };
    println!("$ {} {arguments}", path.display());
    let words = arguments.split_whitespace();
    ended(Command::new(path).args(words).current_dir(cargo::root()).status())
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
        println!("problem: {problem}");
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

/// The table, then what failed, by name: a log's last lines.
fn summary(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("step".len());
    let mut text = format!("{:width$}  {:>8}  result\n", "step", "seconds");
    for row in rows {
        let _ = writeln!(text, "{:width$}  {:>8.1}  {}", row.name, row.took.as_secs_f64(), row.word());
    }
    let total: Duration = rows.iter().map(|row| row.took).sum();
    let _ = writeln!(text, "{:width$}  {:>8.1}", "total", total.as_secs_f64());
    for row in rows {
        if let End::NotChecked(why) = &row.end {
            let _ = writeln!(text, "not checked here: {}: {why}", row.name);
        }
    }
    for row in rows {
        if let End::Failed(names) = &row.end {
            let _ = writeln!(text, "\nFAILED: {} (alone: cargo xtask test --only {})", row.name, row.name);
            for name in names {
                let _ = writeln!(text, "    {name}");
            }
        }
    }
    let count = |wanted: fn(&End) -> bool| rows.iter().filter(|row| wanted(&row.end)).count();
    let passed = count(|end| matches!(end, End::Passed));
    let failed_steps = count(|end| matches!(end, End::Failed(_)));
    let which = if failed_steps == 0 { String::new() } else { format!(": {}", failed(rows)) };
    let _ = writeln!(text, "\n{passed} passed, {failed_steps} failed{which}");
    text
}

/// The steps that failed, each with the first of what failed in it.
fn failed(rows: &[Row]) -> String {
    let of = |row: &Row| match &row.end {
        End::Failed(names) => {
            let more = if names.len() > 1 { ", …" } else { "" };
            Some(format!("{} ({}{more})", row.name, names.first().map_or("", String::as_str)))
        }
        _ => None,
    };
    rows.iter().filter_map(of).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, end: End) -> Row {
        Row { name, end, took: Duration::from_millis(1500) }
    }

    #[test]
    fn the_last_lines_name_the_steps_and_tests_that_failed() {
        let names = vec!["delta-core engine::one".to_owned(), "delta-core engine::two".to_owned()];
        let rows = [
            row("format", End::Passed),
            row("tests", End::Failed(names)),
            row("wasm32", End::NotChecked("no target".to_owned())),
            row("notices", End::Failed(vec!["problem: stale".to_owned()])),
        ];
        let text = summary(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"not checked here: wasm32: no target"), "{text}");
        let from = lines.iter().position(|line| line.starts_with("FAILED: tests")).unwrap();
        assert_eq!(lines[from + 1..from + 3], ["    delta-core engine::one", "    delta-core engine::two"]);
        let last = "1 passed, 2 failed: tests (delta-core engine::one, …); notices (problem: stale)";
        assert_eq!(lines.last(), Some(&last), "{text}");
        assert!(summary(&rows[..1]).ends_with("\n1 passed, 0 failed\n"));
    }

    #[test]
    fn a_line_is_looked_through_however_its_bytes_are() {
        let heard = Mutex::new(Heard::default());
        hear(&b"test one ... FAILED\n\xff\xfe\n!! NOT CHECKED HERE: no npm\nno end"[..], &heard);
        let heard = heard.into_inner().unwrap();
        assert_eq!((heard.failures.names(), heard.why.as_str()), (vec!["one".to_owned()], "no npm"));
    }
}
