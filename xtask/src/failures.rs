//! What of a step's output names what failed: tests of every runner, errors of every compiler.
//!
//! A log is long, and may be cut. So the names stand together at its end, and after each step those so far.

/// Most names that are kept of one step; the rest is counted.
const MAX_NAMES: usize = 20;
/// Most characters of one.
const MAX_LETTERS: usize = 160;

/// What one step's lines say.
#[derive(Debug, Default)]
pub struct Failures {
    tests: Vec<String>,
    errors: Vec<String>,
    /// Of either, what did not fit.
    more: usize,
    last: String,
}

impl Failures {
    /// Looks at one line.
    pub fn hear(&mut self, line: &str) {
        let line = plain(line);
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if let Some(name) = failed_test(line) {
            keep(&mut self.tests, &name, &mut self.more);
        } else if is_error(line) {
            keep(&mut self.errors, line, &mut self.more);
        }
        line.clone_into(&mut self.last);
    }

    /// The tests; where none is named, the errors; where there are none, the last line.
    pub fn names(&self) -> Vec<String> {
        let found = if self.tests.is_empty() { &self.errors } else { &self.tests };
        let mut names = found.clone();
        if names.is_empty() {
            names.push(cut(&self.last));
        } else if self.more > 0 {
            names.push(format!("and {} more", self.more));
        }
        names
    }
}

fn keep(names: &mut Vec<String>, name: &str, more: &mut usize) {
    let name = cut(name);
    // Runners name a test when it fails and again at their end.
    if names.contains(&name) {
        return;
    }
    match names.len() < MAX_NAMES {
        true => names.push(name),
        false => *more += 1,
    }
}

fn cut(line: &str) -> String {
    line.chars().take(MAX_LETTERS).collect()
}

/// The test that a line says has failed.
fn failed_test(line: &str) -> Option<String> {
    // nextest: `FAIL [   0.005s] ( 1/20) delta-core::engine name`.
    let words = ["FAIL [", "TIMEOUT [", "SIGABRT [", "SIGSEGV [", "SIGKILL [", "SIGTERM [", "LEAK-FAIL ["];
    if let Some(rest) = words.iter().find_map(|word| line.strip_prefix(word)) {
        let rest = rest.split_once(']')?.1.trim_start();
        let name =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, name)| name);
        return Some(name.trim().to_owned());
    }
    // cargo test, and the tests in Kotlin and Swift: `name ... FAILED`, with or without a reason.
    if let Some((name, _)) = line.split_once(" ... FAILED") {
        return Some(name.strip_prefix("test ").unwrap_or(name).to_owned());
    }
    // Python's unittest, the conformance suites, Node.js in both of its forms.
    let heads = ["FAIL: ", "ERROR: ", "FAIL  ", "FAILED  "];
    if let Some(name) = heads.iter().find_map(|head| line.strip_prefix(head)) {
        return Some(name.trim().to_owned());
    }
    if let Some(name) = line.strip_prefix("✖ ") {
        return (!name.starts_with("failing tests")).then(|| without_time(name).to_owned());
    }
    let (number, name) = line.strip_prefix("not ok ")?.split_once(" - ")?;
    number.parse::<u32>().is_ok().then(|| name.to_owned())
}

/// `name (12.3ms)` without the time.
fn without_time(name: &str) -> &str {
    match name.rsplit_once(" (") {
        Some((name, time)) if time.ends_with("ms)") => name,
        _ => name,
    }
}

fn is_error(line: &str) -> bool {
    let heads = ["error: ", "error[", "Error: ", "problem: ", "Diff in "];
    heads.iter().any(|head| line.starts_with(head))
        || [": error: ", ": error TS"].iter().any(|part| line.contains(part))
}

/// A line without what colours it (ECMA-48: `ESC [ … letter`).
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lines: &str) -> Vec<String> {
        let mut failures = Failures::default();
        lines.lines().for_each(|line| failures.hear(line));
        failures.names()
    }

    #[test]
    fn every_runner_s_failed_tests_are_named_once() {
        for (lines, wanted) in [
            (
                "\u{1b}[31;1m        FAIL\u{1b}[0m [   0.005s] ( 1/20) delta-core::engine looks::case_38\n   PASS [ 0.1s] x y\n\
                 error: test run failed\n        FAIL [   0.005s] ( 1/20) delta-core::engine looks::case_38",
                "delta-core::engine looks::case_38",
            ),
            ("     TIMEOUT [  60.1s] delta-client mock::hangs", "delta-client mock::hangs"),
            ("test store::tests::one ... FAILED\ntest two ... ok", "store::tests::one"),
            (
                "case_67 a listener that throws stops nothing ... FAILED",
                "case_67 a listener that throws stops nothing",
            ),
            ("leaks: open and close ... FAILED: it hangs", "leaks: open and close"),
            ("ERROR: test_one (test_misuse.Misuse.test_one)", "test_one (test_misuse.Misuse.test_one)"),
            ("  FAIL  it survives a cut", "it survives a cut"),
            (
                "✖ two devices talk (120.4ms)\nℹ fail 1\n✖ failing tests:\n✖ two devices talk (120.4ms)",
                "two devices talk",
            ),
            ("    not ok 3 - two devices talk\n  ok 4 - x", "two devices talk"),
        ] {
            assert_eq!(names(lines), [wanted], "{lines}");
        }
    }

    #[test]
    fn without_a_test_the_errors_are_named_and_without_those_the_last_line() {
        let compiled = "warning: x\nerror[E0308]: mismatched types\nerror: could not compile `x`";
        assert_eq!(names(compiled), ["error[E0308]: mismatched types", "error: could not compile `x`"]);
        assert_eq!(names("a.kt:1:2: error: no such name"), ["a.kt:1:2: error: no such name"]);
        assert_eq!(names("problem: a file is too long\nit is"), ["problem: a file is too long"]);
        assert_eq!(names("one\nnpm cannot be reached\n\n"), ["npm cannot be reached"]);
    }

    #[test]
    fn of_many_the_first_are_named_and_the_rest_is_counted() {
        let lines: String = (0..MAX_NAMES + 3).map(|number| format!("test t{number} ... FAILED\n")).collect();
        let names = names(&lines);
        assert_eq!((names.len(), names[MAX_NAMES].as_str()), (MAX_NAMES + 1, "and 3 more"));
        assert_eq!(cut(&"ü".repeat(MAX_LETTERS + 1)).chars().count(), MAX_LETTERS);
    }
}
