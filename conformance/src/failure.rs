//! What a check that does not hold says: what was looked at, what the protocol demands, what came.

use std::fmt;

use serde_json::{Value, json};

/// Longest part of a value that is printed; whole operations are not readable anyway.
const SHOWN: usize = 240;

/// The outcome of a check, or of a step of one.
pub type Checked<T = ()> = Result<T, Failure>;

/// A demand that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was looked at.
    pub what: String,
    /// What the protocol demands.
    pub expected: String,
    /// What the server did.
    pub got: String,
}

impl Failure {
    /// A failure, values shortened for print.
    pub fn new(what: impl Into<String>, expected: impl AsRef<str>, got: impl AsRef<str>) -> Self {
        Self { what: what.into(), expected: shortened(expected.as_ref()), got: shortened(got.as_ref()) }
    }

    /// The same failure, with the place it happened in front.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "what": self.what, "expected": self.expected, "got": self.got })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  - expected: {}\n  + got:      {}", self.what, self.expected, self.got)
    }
}

/// Demands that two values are equal.
pub fn equal<T: PartialEq + fmt::Debug>(what: impl Into<String>, got: &T, expected: &T) -> Checked {
    if got == expected {
        return Ok(());
    }
    Err(Failure::new(what, format!("{expected:?}"), format!("{got:?}")))
}

/// Demands that two lists are equal; a failure names the first place where they are not.
pub fn equal_lists<T: PartialEq + fmt::Debug>(what: &str, got: &[T], expected: &[T]) -> Checked {
    if got == expected {
        return Ok(());
    }
    let place = got.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let shown = |list: &[T]| {
        let item = list.get(place).map_or("nothing".to_owned(), |item| format!("{item:?}"));
        format!("{} in all, at {place}: {item}", list.len())
    };
    Err(Failure::new(what, shown(expected), shown(got)))
}

/// Demands that something holds.
pub fn ensure(
    holds: bool,
    what: impl Into<String>,
    expected: impl AsRef<str>,
    got: impl AsRef<str>,
) -> Checked {
    if holds { Ok(()) } else { Err(Failure::new(what, expected, got)) }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_lists_names_its_place() {
        let failure = equal_lists("seqs", &[1, 2, 4], &[1, 2, 3, 4]).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "seqs\n  - expected: 4 in all, at 2: 3\n  + got:      3 in all, at 2: 4"
        );
        let failure = equal_lists("seqs", &[1, 2], &[1, 2, 3]).unwrap_err();
        assert_eq!(failure.got, "2 in all, at 2: nothing");
    }

    #[test]
    fn long_values_are_shortened() {
        let failure = Failure::new("x", "e".repeat(240), "ä".repeat(241));
        assert_eq!(failure.expected.len(), 240);
        assert!(failure.got.ends_with("ä… (241 characters)"), "{}", failure.got);
    }
}
