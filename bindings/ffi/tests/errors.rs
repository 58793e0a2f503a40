//! docs/errors.md has every code that a call, an event or a status can carry, and no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the codes of errors and troubles are named: `=> "…"` there.
const NAMED: [&str; 2] = ["client/src/error.rs", "client/src/fault.rs"];
/// Below which every `argument("…")` names one.
const FFI: &str = "bindings/ffi/src";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every source file below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![std::fs::read_to_string(path).unwrap()],
        })
        .collect()
}

#[test]
fn every_code_is_in_the_documentation_and_no_other() {
    let mut given = BTreeSet::new();
    let mut take = |text: &str, before: &str| {
        given.extend(text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    };
    NAMED.iter().for_each(|path| take(&read(path), "=> \""));
    sources(&root().join(FFI)).iter().for_each(|text| take(text, "argument(\""));
    assert!(given.contains("closed") && given.contains("no_route") && given.contains("onion"), "{given:?}");
    let documented = documented();
    let missing: Vec<_> = given.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&given).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing: {missing:?}, invented: {invented:?}");
}

#[test]
fn what_calls_say_they_are_refused_with_are_codes() {
    let page = read("docs/api.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let documented = documented();
    let mut named = BTreeSet::new();
    for rest in
        ["Refused with", "refused with", "Fails with"].iter().flat_map(|said| page.split(said).skip(1))
    {
        // A sentence, with what its codes are for between them.
        let sentence = rest.split(". ").next().unwrap_or_default();
        let code = sentence.split('`').nth(1);
        named.insert(code.unwrap_or_else(|| panic!("no code: {sentence}")).to_owned());
    }
    assert!(named.contains("database_locked") && named.contains("not_cancellable"), "{named:?}");
    let unknown: Vec<_> = named.difference(&documented).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The codes of docs/errors.md.
fn documented() -> BTreeSet<String> {
    let text = read("docs/errors.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.filter(|code| code.chars().all(|letter| !letter.is_uppercase())).map(str::to_owned).collect()
}
