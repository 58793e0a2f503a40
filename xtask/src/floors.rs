//! The floors: imports point down only (ARCHITECTURE.md).
//!
//!     6 bindings, examples, xtask · 5 client, servers, sim · 4 engine, the servers' logic · 3 store · 2 sync, space, projector
//!     1 ops, onion, topic · 0 cbor, codec, entropy, hpke, identity, limits, error, processor, tree
//!
//! Between crates the manifests are read, inside `core` every `crate::…` and `super::…` path.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cargo;
use crate::source::{self, Kind, Token};

/// Floors of core's modules. A new module gets its floor here.
const MODULES: [(&str, u8); 21] = [
    ("cbor", 0),
    ("codec", 0),
    ("crypto", 1),
    ("entropy", 0),
    ("error", 0),
    ("export", 1),
    ("identity", 0),
    ("limits", 0),
    ("onion", 1),
    ("ops", 1),
    ("pairing", 1),
    ("processor", 0),
    ("topic", 1),
    ("tree", 0),
    ("projector", 2),
    ("push", 2),
    ("space", 2),
    ("sync", 2),
    ("store", 3),
    ("engine", 4),
    // The simulation's and the tests' window into the whole; nothing imports it.
    ("testing", 4),
];

/// The crates: folder, package, floor.
pub const CRATES: [(&str, &str, u8); 19] = [
    ("hpke", "hpke-rs-rust-crypto", 0),
    ("bindings/uniffi", "delta-uniffi", 0),
    ("core", "delta-core", 4),
    ("servers/relay-core", "delta-relay-core", 4),
    ("servers/replay", "delta-replay", 4),
    ("servers/topic-log", "delta-topic-log", 4),
    ("client", "delta-client", 5),
    ("directory-dht", "delta-directory-dht", 5),
    ("noise", "delta-noise", 5),
    ("servers/shell", "delta-server-shell", 5),
    ("servers/load", "delta-load", 5),
    ("servers/relay", "delta-relay", 5),
    ("servers/sync", "delta-sync", 5),
    ("sim", "delta-sim", 5),
    ("conformance", "delta-conformance", 6),
    ("examples/cli", "delta-cli", 6),
    ("bindings/bindgen", "delta-bindgen", 6),
    ("bindings/ffi", "delta-ffi", 6),
    ("xtask", "xtask", 6),
];

/// Every import that points up.
pub fn problems() -> Vec<String> {
    let root = cargo::root();
    let mut problems = between_crates(&root);
    problems.extend(inside_core(&root.join("core/src")));
    problems
}

fn between_crates(root: &Path) -> Vec<String> {
    let mut problems = without_floor(&std::fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default());
    for (folder, name, floor) in CRATES {
        let Ok(manifest) = std::fs::read_to_string(root.join(folder).join("Cargo.toml")) else { continue };
        for dependency in dependencies(&manifest) {
            let Some((_, _, other)) = CRATES.into_iter().find(|(_, known, _)| *known == dependency) else {
                if dependency.starts_with("delta-") {
                    problems.push(format!(
                        "{folder}: `{dependency}` has no floor; give it one in xtask/src/floors.rs"
                    ));
                }
                continue;
            };
            if other > floor {
                problems.push(format!(
                    "{folder}: {name} (floor {floor}) depends on {dependency} (floor {other})"
                ));
            }
        }
    }
    problems
}

/// Members of the workspace that no floor is known of.
fn without_floor(workspace: &str) -> Vec<String> {
    let members = workspace.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("");
    let unknown = members
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|member| CRATES.into_iter().all(|(folder, ..)| folder != *member));
    unknown.map(|member| format!("{member}: has no floor; give it one in xtask/src/floors.rs")).collect()
}

/// Names in a manifest's dependency tables.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.trim_end_matches(']').ends_with("dependencies");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            found.extend(line.split(['=', '.', ' ']).next());
        }
    }
    found
}

fn inside_core(folder: &Path) -> Vec<String> {
    let floors = BTreeMap::from(MODULES);
    let (exports, files) = match (source::production_tokens(&folder.join("lib.rs")), source::files(folder)) {
        (Ok(tokens), Ok(files)) => (re_exports(&tokens), files),
        (Err(why), _) | (_, Err(why)) => return vec![why],
    };
    let mut problems = Vec::new();
    for path in files {
        let modules = module_path(path.strip_prefix(folder).unwrap_or(&path));
        let Some(own) = modules.first() else { continue };
        if source::is_test_file(&path) {
            continue;
        }
        let shown = path.strip_prefix(cargo::root()).unwrap_or(&path).display().to_string();
        let Some(floor) = floors.get(own.as_str()) else {
            problems
                .push(format!("{shown}: module `{own}` has no floor; give it one in xtask/src/floors.rs"));
            continue;
        };
        let tokens = match source::production_tokens(&path) {
            Ok(tokens) => tokens,
            Err(why) => {
                problems.push(why);
                continue;
            }
        };
        for (line, name) in from_the_root(&tokens, modules.len()) {
            let target = exports.get(&name).unwrap_or(&name);
            match floors.get(target.as_str()) {
                Some(other) if other > floor => problems.push(format!(
                    "{shown}:{line}: `{own}` (floor {floor}) imports `{target}` (floor {other}): imports point down only"
                )),
                _ => {}
            }
        }
    }
    problems
}

/// `onion/v3.rs` → [onion, v3]; `lib.rs` → [].
fn module_path(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> = path
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// What `lib.rs` exports from its modules: name → module.
fn re_exports(tokens: &[Token]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let statements = tokens.split(|token| token.is(';'));
    for statement in statements {
        let Some(start) = statement.iter().position(|token| token.word() == Some("use")) else { continue };
        let mut words = statement[start + 1..].iter().filter_map(Token::word).filter(|word| *word != "crate");
        if let Some(module) = words.next() {
            found.extend(words.map(|word| (word.to_owned(), module.to_owned())));
        }
    }
    found
}

/// First names of all paths that start at the crate's root, in a file whose module lies `depth` below it.
fn from_the_root(tokens: &[Token], depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // One entry per open brace: whether it opened an inline module.
    let mut braces: Vec<bool> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let follows_path = at.checked_sub(1).is_some_and(|before| tokens[before].kind == Kind::PathSeparator);
        match &token.kind {
            Kind::Sign('{') => {
                braces.push(at >= 2 && tokens[at - 2].word() == Some("mod"));
            }
            Kind::Sign('}') => {
                braces.pop();
            }
            Kind::Word(word) if word == "crate" && !follows_path => found.extend(heads(&tokens[at + 1..])),
            Kind::Word(word) if word == "super" && !follows_path => {
                let up = supers(&tokens[at..]);
                if up == depth + braces.iter().filter(|inline| **inline).count() {
                    found.extend(heads(&tokens[at + 2 * up - 1..]));
                }
            }
            _ => {}
        }
    }
    found
}

/// How many `super` in a row start a path.
fn supers(tokens: &[Token]) -> usize {
    tokens
        .chunks(2)
        .take_while(|pair| pair.first().and_then(Token::word) == Some("super"))
        .take_while(|pair| pair.len() == 2 && pair[1].kind == Kind::PathSeparator)
        .count()
}

/// The names right after `::`, one or a braced list.
fn heads(tokens: &[Token]) -> Vec<(usize, String)> {
    let [separator, rest @ ..] = tokens else { return Vec::new() };
    if separator.kind != Kind::PathSeparator {
        return Vec::new();
    }
    match rest.first() {
        Some(Token { kind: Kind::Word(word), line }) => vec![(*line, word.clone())],
        Some(open) if open.is('{') => {
            let (mut depth, mut found, mut fresh) = (0, Vec::new(), true);
            for token in rest {
                match &token.kind {
                    Kind::Sign('{') => depth += 1,
                    Kind::Sign('}') => depth -= 1,
                    Kind::Sign(',') if depth == 1 => fresh = true,
                    Kind::Word(word) if depth == 1 && fresh => {
                        found.push((token.line, word.clone()));
                        fresh = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            found
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, depth: usize) -> Vec<String> {
        from_the_root(&source::tokens(text), depth).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn root_paths_are_found_in_every_form() {
        assert_eq!(
            names("use crate::engine::Engine; fn f() { crate::store::open() }", 1),
            ["engine", "store"]
        );
        assert_eq!(names("use crate::{codec::{A, b}, store, ops::C as D};", 1), ["codec", "store", "ops"]);
        assert_eq!(names("pub(crate) use x; pub(in crate::sync) fn f() {}", 1), ["sync"]);
    }

    #[test]
    fn super_counts_only_when_it_reaches_the_root() {
        assert_eq!(names("use super::engine;", 1), ["engine"]);
        assert_eq!(names("use super::engine;", 2), Vec::<String>::new());
        assert_eq!(names("use super::super::engine::X;", 2), ["engine"]);
        assert_eq!(
            names("mod inner { use super::x; use super::super::engine; } use super::store;", 1),
            ["engine", "store"]
        );
    }

    #[test]
    fn every_member_of_the_workspace_needs_a_floor() {
        let found = without_floor(
            "[workspace]\nmembers = [\n    \"core\",\n    \"attic\",\n]\nexclude = [\"fuzz\"]\n",
        );
        assert_eq!(found, ["attic: has no floor; give it one in xtask/src/floors.rs"]);
    }

    #[test]
    fn manifests_name_their_dependencies() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\ndelta-core.workspace = true\n# no\nserde = \"1\"\n\
                        [dev-dependencies]\ndelta-sim = { path = \"../sim\" }\n[lints]\nworkspace = true\n";
        assert_eq!(dependencies(manifest), ["delta-core", "serde", "delta-sim"]);
    }

    #[test]
    fn an_import_that_points_up_is_a_problem() {
        let folder = std::env::temp_dir().join(format!("delta-floors-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("onion")).unwrap();
        std::fs::write(folder.join("lib.rs"), "pub use engine::Engine; pub use codec::Reader;").unwrap();
        std::fs::write(folder.join("onion/v3.rs"), "use crate::{Reader, topic};\nuse crate::Engine;")
            .unwrap();
        std::fs::write(folder.join("codec.rs"), "#[cfg(test)] mod tests { use crate::engine; }").unwrap();
        std::fs::write(folder.join("stray.rs"), "").unwrap();
        let found = inside_core(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("v3.rs:2: `onion` (floor 1) imports `engine` (floor 4)"), "{found:?}");
        assert!(found[1].contains("`stray` has no floor"), "{found:?}");
    }
}
