//! What a run found, for people and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::checks::Check;
use crate::failure::Failure;

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed(Failure),
    /// It does not apply to a server with these settings, and why.
    NotApplicable(&'static str),
}

/// One line of a report.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The check.
    pub check: &'a Check,
    /// How it ended.
    pub outcome: &'a Outcome,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Report {
    /// The server, and what it was started with.
    pub server: String,
    /// Every check, in the suite's order.
    pub rows: Vec<(Check, Outcome)>,
}

impl Report {
    /// How many checks passed.
    pub fn passed(&self) -> usize {
        self.rows.iter().filter(|(_, outcome)| *outcome == Outcome::Passed).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.rows.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).count()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let checks: Vec<Value> = self.rows.iter().map(|(check, outcome)| row_json(check, outcome)).collect();
        json!({ "server": self.server, "checks": checks, "passed": self.passed(), "failed": self.failed() })
    }
}

fn row_json(check: &Check, outcome: &Outcome) -> Value {
    let mut row = json!({ "name": check.name, "section": check.section, "demands": check.demands });
    match outcome {
        Outcome::Passed => row["outcome"] = json!("passed"),
        Outcome::Failed(failure) => {
            row["outcome"] = json!("failed");
            row["failure"] = failure.json();
        }
        Outcome::NotApplicable(why) => {
            row["outcome"] = json!("not applicable");
            row["why"] = json!(why);
        }
    }
    row
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.server)?;
        for (check, outcome) in &self.rows {
            writeln!(f, "{}", Row { check, outcome })?;
        }
        Ok(())
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { name, section, demands, .. } = self.check;
        match self.outcome {
            Outcome::Passed => write!(f, "  ok    {name}"),
            Outcome::NotApplicable(why) => write!(f, "  -     {name} (not applicable: {why})"),
            Outcome::Failed(failure) => {
                write!(f, "  FAIL  {name}\n        wire.md section {section}: {demands}")?;
                failure.to_string().lines().try_for_each(|line| write!(f, "\n        {line}"))
            }
        }
    }
}
