//! docs/errors.md has every code that a call, an event or a status can carry, and no other.

use std::collections::BTreeSet;
use std::path::Path;

/// Where codes are given out, and what stands before one there.
const GIVEN: [(&str, &str); 8] = [
    ("client/src/error.rs", "=> \""),
    ("client/src/fault.rs", "=> \""),
    ("bindings/ffi/src/delta.rs", "argument(\""),
    ("bindings/ffi/src/ids.rs", "argument(\""),
    ("bindings/ffi/src/keystore.rs", "argument(\""),
    ("bindings/ffi/src/log.rs", "argument(\""),
    ("bindings/ffi/src/onion.rs", "argument(\""),
    ("bindings/ffi/src/subscription.rs", "argument(\""),
];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_code_is_in_the_documentation_and_no_other() {
    let mut given = BTreeSet::new();
    for (path, before) in GIVEN {
        let text = read(path);
        given.extend(text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    assert!(given.contains("closed") && given.contains("no_route") && given.contains("onion"), "{given:?}");
    let text = read("docs/errors.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> =
        rows.filter(|code| code.chars().all(|letter| !letter.is_uppercase())).map(str::to_owned).collect();
    let missing: Vec<_> = given.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&given).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing: {missing:?}, invented: {invented:?}");
}
