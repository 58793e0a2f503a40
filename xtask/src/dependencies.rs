//! What the crates pull in: licences against deny.toml, and storage kept out of the servers' core.
//!
//! `cargo deny check` looks deeper (advisories, sources); this runs everywhere, with cargo alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::cargo;

/// Packages (with the features they are built with) and what must not be below them.
const WITHOUT: [(&str, &[&str]); 4] = [
    ("-p delta-core --no-default-features", &["p2panda-core", "rusqlite", "tokio", "getrandom"]),
    ("-p delta-topic-log", &["p2panda-core", "rusqlite", "tokio", "getrandom"]),
    ("-p delta-relay", &["p2panda-core"]),
    ("-p delta-sync", &["p2panda-core"]),
];

/// Licences not on the list, and crates where they must not be.
pub fn problems() -> Vec<String> {
    let mut problems = Vec::new();
    for (package, forbidden) in WITHOUT {
        match names_below(package) {
            Ok(names) => {
                problems.extend(forbidden.iter().filter(|name| names.contains(**name)).map(|name| {
                    format!("`cargo tree {package}` holds `{name}`: the servers' side builds without it")
                }))
            }
            Err(why) => problems.push(why),
        }
    }
    let deny = match std::fs::read_to_string(cargo::root().join("deny.toml")) {
        Ok(text) => text,
        Err(error) => return vec![format!("deny.toml: {error}")],
    };
    for found in [licences(&deny), duplicates(&deny)] {
        match found {
            Ok(found) => problems.extend(found),
            Err(why) => problems.push(why),
        }
    }
    problems
}

fn names_below(package: &str) -> Result<BTreeSet<String>, String> {
    let tree = cargo::output(&cargo::line(&format!(
        "tree {package} --locked -e normal --prefix none --format {{p}}"
    )))?;
    Ok(tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn licences(deny: &str) -> Result<Vec<String>, String> {
    let allowed = allowed(deny);
    let tree =
        cargo::output(&cargo::line("tree --workspace --locked -e all --prefix none --format {p}|{l}"))?;
    let mut seen = BTreeSet::new();
    for line in tree.lines() {
        let line = line.trim_end_matches(" (*)");
        let Some((package, licence)) = line.split_once('|') else { continue };
        if !satisfied(licence, &allowed) {
            seen.insert(format!("{package}: licence `{licence}` is not in deny.toml"));
        }
    }
    Ok(seen.into_iter().collect())
}

/// Crates in two versions that deny.toml gives no reason for.
fn duplicates(deny: &str) -> Result<Vec<String>, String> {
    let known = skipped(deny);
    let tree =
        cargo::output(&cargo::line("tree --workspace --locked -d --depth 0 --prefix none --format {p}"))?;
    // One version built twice, for a program that runs while building and for the library, is listed too.
    let versions: BTreeSet<(&str, &str)> = tree.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut found = BTreeMap::new();
    versions.iter().for_each(|(name, _)| *found.entry(*name).or_insert(0) += 1);
    let unknown =
        found.into_iter().filter(|(name, count)| *count > 1 && !known.contains(name)).map(|(name, _)| name);
    Ok(unknown
        .map(|name| format!("{name}: two versions in the tree, and no reason for it in deny.toml"))
        .collect())
}

/// The crates of the `skip` list under `[bans]`.
fn skipped(deny: &str) -> BTreeSet<&str> {
    let list = deny.split("\nskip = [").nth(1).and_then(|rest| rest.split("\n]").next()).unwrap_or("");
    list.lines().filter_map(|line| line.split("crate = \"").nth(1)?.split(['"', '@']).next()).collect()
}

/// The quoted names of the `allow` list under `[licenses]`.
fn allowed(deny: &str) -> BTreeSet<String> {
    let section = deny.split("\n[licenses]").nth(1).unwrap_or("");
    let list = section.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("");
    list.lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licences: OR needs one side, AND both.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words, allowed) == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `None`: not an expression.
fn either(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut result = both(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= both(words, allowed)?;
    }
    Some(result)
}

fn both(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut result = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words, allowed)?;
    }
    Some(result)
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let result = either(words, allowed)?;
        return words.next_if_eq(&")").map(|_| result);
    }
    let mut name = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next()?);
    }
    Some(allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_crates_are_named_with_or_without_a_version() {
        let deny = "[bans]\nskip = [\n  { crate = \"a\", reason = \"x\" },\n  { crate = \"b@1.2\", reason = \"y\" },\n]\n";
        assert_eq!(skipped(deny).into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn licence_expressions() {
        let allowed = allowed(
            "[graph]\n[licenses]\nallow = [\n  \"MIT\", # why\n  \"ISC\",\n  \"Apache-2.0 WITH LLVM-exception\",\n]\n",
        );
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "Apache-2.0/MIT",
            "MIT AND ISC",
            "(GPL-3.0 OR MIT) AND ISC",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "", "MIT AND GPL-3.0", "Apache-2.0", "MIT OR", "(MIT", "MIT ISC"] {
            assert!(!satisfied(bad, &allowed), "{bad}");
        }
    }
}
