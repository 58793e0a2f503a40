//! What the calls of `Delta` are called in Swift's idiomatic layer, which alone has names of its own: read from its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context as _, ensure};
use camino::Utf8Path;

/// Where the layer lies, from the repository's root.
const SOURCES: &str = "bindings/swift/Sources/DeltaKit";
const HEAD: &str = "
## Names in Swift

`Device` of DeltaKit says what `Delta` does in Swift's way. Other calls are called as above.

| call | `Device` |
|---|---|
";

/// A part of the page: every call, with what its Swift functions are called.
pub fn part(root: &Utf8Path) -> anyhow::Result<String> {
    let folder = root.join(SOURCES);
    let mut calls: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in folder.read_dir_utf8().with_context(|| format!("{folder} cannot be read"))? {
        let path = entry?.path().to_owned();
        let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        for function in text.split("public func ").skip(1).chain(text.split("public static func ").skip(1)) {
            let Some((name, parameters, body)) = divided(function) else { continue };
            // Up to what is public next.
            let body = body.split("public ").next().unwrap_or_default();
            for call in ["inner.", "Delta."].iter().flat_map(|before| body.split(before).skip(1)) {
                if let Some((call, _)) = call.split_once('(')
                    && call.chars().all(char::is_alphanumeric)
                {
                    calls.entry(snake(call)).or_default().insert(format!("`{name}({})`", labels(parameters)));
                }
            }
        }
    }
    ensure!(!calls.is_empty(), "{folder} makes no calls");
    let mut text = HEAD.to_owned();
    for (call, names) in calls {
        let _ = writeln!(text, "| `{call}` | {} |", names.into_iter().collect::<Vec<_>>().join(", "));
    }
    Ok(text)
}

/// Name, parameters and the rest of a function.
fn divided(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('(')?;
    let mut open = 1;
    for (at, letter) in rest.char_indices() {
        open += depth(letter);
        if open == 0 {
            // A name may have types after it.
            return Some((name.split('<').next()?, &rest[..at], &rest[at + 1..]));
        }
    }
    None
}

/// `to:in:_:`, as Swift names a function by them.
fn labels(parameters: &str) -> String {
    let (mut open, mut parts) = (0, vec![String::new()]);
    for letter in parameters.chars() {
        open += depth(letter);
        match parts.last_mut() {
            Some(part) if open > 0 || letter != ',' => part.push(letter),
            _ => parts.push(String::new()),
        }
    }
    let label = |part: &String| part.split([' ', ':']).find(|word| !word.is_empty()).map(str::to_owned);
    parts.iter().filter_map(|part| label(&part.replace('\n', " "))).map(|label| label + ":").collect()
}

fn depth(letter: char) -> i32 {
    match letter {
        '(' | '[' => 1,
        ')' | ']' => -1,
        _ => 0,
    }
}

fn snake(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_named_by_their_labels() {
        let text = "send(\n  _ text: String, to topic: TopicId = f(1, 2), key: [(A, B)]? = nil\n) async { inner.x() }";
        let (name, parameters, rest) = divided(text).unwrap();
        assert_eq!((name, labels(parameters).as_str()), ("send", "_:to:key:"));
        assert!(rest.contains("inner.x"));
        assert_eq!((labels(""), snake("nextWakeupAt")), (String::new(), "next_wakeup_at".to_owned()));
    }
}
