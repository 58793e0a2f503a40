//! What must not appear where: effects in the pure crates, SQL outside the stores.

use std::path::Path;

use crate::cargo;
use crate::source::{self, Kind, Token};

/// Folders of pure code: bytes and time come in as arguments, effects go out as values (docs/adr/0001).
const PURE: [&str; 3] = ["core/src", "servers/relay-core/src", "servers/topic-log/src"];

/// Paths that pure code must not name, and what to do instead.
const BANNED: [(&[&str], &str); 11] = [
    (&["tokio"], "pure code does not wait; the drivers own the runtime"),
    (&["std", "net"], "sockets belong to client and the servers' shells (plain addresses are in core::net)"),
    (&["std", "env"], "configuration comes in as arguments"),
    (&["std", "process"], "processes belong to the programs"),
    (&["std", "thread"], "pure jobs are handed out; the driver picks the threads"),
    (&["SystemTime"], "time is an argument"),
    (&["Instant"], "time is an argument"),
    (&["thread_rng"], "randomness comes through Entropy"),
    (&["OsRng"], "randomness comes through Entropy"),
    (&["getrandom"], "randomness comes through Entropy"),
    (&["static", "mut"], "no global state"),
];

/// Where files may be touched inside core: the database and its lock.
const FILES: (&[&str], &str) = (&["std", "fs"], "only core's store touches files");

/// Crates that `core` must not depend on.
const BANNED_CRATES: [&str; 9] =
    ["axum", "getrandom", "hyper", "rand", "reqwest", "sqlx", "tokio", "tokio-tungstenite", "ureq"];

/// The places that may speak SQL: prefixes of paths below the root.
const SQL_HOUSES: [&str; 5] = [
    "core/src/store",
    "servers/sync/src/store",
    "servers/sync/src/storage",
    "servers/relay/src/store",
    "servers/relay/src/storage",
];

/// How statements start.
const SQL: [&str; 20] = [
    "ALTER TABLE",
    "ATTACH ",
    "BEGIN",
    "BEGIN DEFERRED",
    "BEGIN EXCLUSIVE",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "CREATE INDEX",
    "CREATE TABLE",
    "CREATE UNIQUE",
    "DELETE FROM",
    "DROP TABLE",
    "INSERT INTO",
    "INSERT OR",
    "PRAGMA ",
    "REPLACE INTO",
    "ROLLBACK",
    "SAVEPOINT ",
    "SELECT ",
    "UPDATE ",
];

/// Effects named in pure code.
pub fn in_core() -> Vec<String> {
    let root = cargo::root();
    let mut problems = Vec::new();
    for folder in PURE {
        for (shown, tokens) in sources(&root, folder, &mut problems) {
            let store = shown.starts_with("core/src/store");
            let files = (!store).then_some(FILES);
            for (path, why) in BANNED.into_iter().chain(files) {
                problems.extend(
                    lines_naming(&tokens, path)
                        .map(|line| format!("{shown}:{line}: {}: {why}", path.join("::"))),
                );
            }
        }
        let manifest = root.join(folder.trim_end_matches("/src")).join("Cargo.toml");
        problems.extend(banned_crates(&manifest, folder));
    }
    problems
}

fn banned_crates(manifest: &Path, folder: &str) -> Vec<String> {
    let text = match std::fs::read_to_string(manifest) {
        Ok(text) => text,
        Err(error) => return vec![format!("{}: {error}", manifest.display())],
    };
    let normal = text.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or("");
    normal
        .lines()
        .filter_map(|line| line.split(['=', '.', ' ']).next())
        .filter(|name| BANNED_CRATES.contains(name))
        .map(|name| format!("{folder}: must not depend on `{name}`"))
        .collect()
}

/// SQL and rusqlite outside the stores.
pub fn sql_outside_the_store() -> Vec<String> {
    let root = cargo::root();
    let mut problems = Vec::new();
    for folder in ["core/src", "client/src", "servers", "sim/src", "examples"] {
        for (shown, tokens) in sources(&root, folder, &mut problems) {
            if SQL_HOUSES.iter().any(|house| shown.starts_with(house)) {
                continue;
            }
            for token in &tokens {
                match &token.kind {
                    Kind::Word(word) if word == "rusqlite" => {
                        problems.push(format!("{shown}:{}: rusqlite outside a store", token.line));
                    }
                    Kind::Text(text) if is_sql(text) => {
                        problems.push(format!("{shown}:{}: SQL outside a store", token.line));
                    }
                    _ => {}
                }
            }
        }
    }
    problems
}

/// Production code below a folder: (path as shown, tokens). What cannot be read is a problem.
fn sources(root: &Path, folder: &str, problems: &mut Vec<String>) -> Vec<(String, Vec<Token>)> {
    let files = source::files(&root.join(folder)).unwrap_or_else(|why| {
        problems.push(why);
        Vec::new()
    });
    let mut sources = Vec::new();
    for path in files.iter().filter(|path| !path.strip_prefix(root).is_ok_and(source::is_test_file)) {
        let shown = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        match source::production_tokens(path) {
            Ok(tokens) => sources.push((shown, tokens)),
            Err(why) => problems.push(why),
        }
    }
    sources
}

/// Lines where the words stand in this order, `::` between them or nothing.
fn lines_naming<'a>(tokens: &'a [Token], path: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
    let starts = tokens.iter().enumerate().filter(move |(_, token)| token.word() == path.first().copied());
    starts.filter_map(move |(at, token)| {
        let mut words = tokens[at..]
            .iter()
            .filter(|token| token.kind != Kind::PathSeparator)
            .take(path.len())
            .map(Token::word);
        (path.iter().all(|wanted| words.next().flatten() == Some(wanted))).then_some(token.line)
    })
}

fn is_sql(text: &str) -> bool {
    let start = text.trim_start();
    SQL.iter().any(|word| {
        start.strip_prefix(word).is_some_and(|rest| word.len() > 6 || rest.is_empty() || word.ends_with(' '))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, path: &[&str]) -> Vec<usize> {
        lines_naming(&source::tokens(text), path).collect()
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        let folder = std::env::temp_dir().join(format!("delta-xtask-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("latin.rs"), b"// caf\xe9").unwrap();
        let mut problems = Vec::new();
        assert!(sources(&folder, "", &mut problems).is_empty());
        assert_eq!(problems.len(), 1, "{problems:?}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(sources(&folder, "", &mut problems).is_empty());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(banned_crates(&folder.join("Cargo.toml"), "x").len(), 1);
    }

    #[test]
    fn paths_are_found_as_code_only() {
        assert_eq!(lines("use std::net::TcpStream;\n// std::net\n\"std::net\"", &["std", "net"]), [1]);
        assert_eq!(lines("a\nstatic mut X: u8 = 0;", &["static", "mut"]), [2]);
        assert_eq!(lines("use std::fmt; net", &["std", "net"]), Vec::<usize>::new());
    }

    #[test]
    fn statements_are_told_from_prose() {
        for sql in [
            "SELECT 1",
            "  INSERT INTO t VALUES (1)",
            "BEGIN",
            "BEGIN IMMEDIATE",
            "ROLLBACK TO work",
            "SAVEPOINT work",
            "PRAGMA user_version",
            "CREATE TABLE t (a)",
        ] {
            assert!(is_sql(sql), "{sql}");
        }
        for prose in ["SELECTED", "Select a room", "BEGINNING", "UPDATED", "delete from the list"] {
            assert!(!is_sql(prose), "{prose}");
        }
    }
}
