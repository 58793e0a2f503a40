//! The licences of everything that is compiled into the library that apps ship: `bindings/THIRD-PARTY-NOTICES.txt`.
//!
//! Written from cargo's own tree for phones and from the licence files of the packages themselves; the same bytes on every
//! machine. `cargo xtask notices` writes it, the step `notices` compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::{Failure, cargo};

const FILE: &str = "bindings/THIRD-PARTY-NOTICES.txt";
const TARGETS: [&str; 5] = [
    "aarch64-apple-darwin",
    "aarch64-apple-ios",
    "aarch64-linux-android",
    "armv7-linux-androideabi",
    "x86_64-linux-android",
];
/// How names of licence files begin, in lower case.
const NAMES: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];
/// The texts of licences that read the same whoever wrote the work (SPDX), for packages without one.
const STANDARD: [(&str, &str); 2] =
    [("Apache-2.0", "LICENSE-APACHE"), ("MPL-2.0", "xtask/licences/MPL-2.0.txt")];
const HEAD: &str = "Third-party notices\n\nlibdelta_ffi, the library inside the Android, iOS and React Native packages of \
Delta, contains the packages below.\nWhere a package brings no licence text, the standard text of its licence stands here; its source is at the address \
beside its name.\nWritten by `cargo xtask notices`.\n";

/// Writes the file anew.
pub fn write() -> Result<(), Failure> {
    let path = cargo::root().join(FILE);
    let text = notices().map_err(Failure::Failed)?;
    std::fs::write(&path, text).map_err(|error| Failure::Failed(format!("{FILE}: {error}")))?;
    println!("{}", path.display());
    Ok(())
}

/// Whether the file is what would be written now.
pub fn problems() -> Vec<String> {
    match notices() {
        Ok(text) if std::fs::read_to_string(cargo::root().join(FILE)).is_ok_and(|found| found == text) => {
            vec![]
        }
        Ok(_) => vec![format!("{FILE} is not what the dependencies say now; run cargo xtask notices")],
        Err(why) => vec![why],
    }
}

fn notices() -> Result<String, String> {
    let packages = packages()?;
    let mut text = HEAD.to_owned();
    // Who shares a text shares its place.
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let sources = sources()?;
    for package in &packages {
        let Package { name, version, licence, repository } = package;
        let _ = write!(text, "\n{name} {version}: {licence}\n    {repository}\n");
        let folder =
            sources.iter().map(|place| place.join(format!("{name}-{version}"))).find(|path| path.is_dir());
        let folder = folder.ok_or(format!("the sources of {name} {version} are not in cargo's registry"))?;
        let found = licence_texts(&folder, licence).map_err(|why| format!("{name} {version}: {why}"))?;
        for licence in found {
            texts.entry(licence).or_default().insert(name);
        }
    }
    for (licence, names) in by_first(&texts) {
        let names: Vec<&str> = names.iter().copied().collect();
        let _ = write!(text, "\n{}\n{}\n\n{licence}\n", "=".repeat(80), names.join(", "));
    }
    Ok(text)
}

/// In the order of the first who uses each text.
fn by_first<'a>(texts: &'a BTreeMap<String, BTreeSet<&'a str>>) -> Vec<(&'a String, &'a BTreeSet<&'a str>)> {
    let mut sorted: Vec<_> = texts.iter().collect();
    sorted.sort_by_key(|(text, names)| (names.first().copied(), text.len()));
    sorted
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
    repository: String,
}

fn packages() -> Result<BTreeSet<Package>, String> {
    let targets: String = TARGETS.iter().map(|target| format!(" --target {target}")).collect();
    let line =
        "tree -p delta-ffi --locked -e normal,no-proc-macro --prefix none --no-dedupe --format {p}|{l}|{r}";
    let tree = cargo::output(&cargo::line(&format!("{line}{targets}")))?;
    let packages: BTreeSet<Package> = tree.lines().filter_map(package).collect();
    match packages.is_empty() {
        true => Err("cargo tree names no package".to_owned()),
        false => Ok(packages),
    }
}

/// Of a line of cargo's tree; nothing for this repository's own.
fn package(line: &str) -> Option<Package> {
    let mut parts = line.split('|');
    let (named, licence, repository) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    let (name, version) = named.split_once(" v")?;
    // What comes from a folder has that behind its version.
    let own = version.contains("(/") || name.starts_with("delta-");
    let [name, version, licence, repository] = [name, version, licence, repository].map(str::to_owned);
    (!own).then_some(Package { name, version, licence, repository })
}

/// The texts of a package's licence files, with lines ended alike. Where it may be used under MIT, that one: unless parts of it
/// are under another licence besides. Without a file, the text of the licence that its name stands for.
fn licence_texts(folder: &Path, licence: &str) -> Result<Vec<String>, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|start| name.starts_with(start)) {
            files.push((name, path));
        }
    }
    files.sort();
    if files.is_empty() {
        return standard_text(licence).map(|text| vec![text]);
    }
    // `MIT AND (MIT OR Apache-2.0)` is MIT whichever is chosen.
    let mit_alone = licence.split(" AND ").all(|part| part.contains("MIT"));
    if mit_alone && files.iter().any(|(name, _)| name.contains("mit")) {
        files.retain(|(name, _)| name.contains("mit") || name.starts_with("notice"));
    }
    files.into_iter().map(|(_, path)| Ok(lines_alike(&std::fs::read(&path).map_err(fail)?))).collect()
}

/// The text a licence is known by, for a package that brings none: of the licences that need no name of an author in it.
fn standard_text(licence: &str) -> Result<String, String> {
    let offered: Vec<&str> = licence.split(" OR ").collect();
    match STANDARD.iter().find(|(name, _)| offered.contains(name)) {
        Some((_, file)) => {
            let text = std::fs::read(cargo::root().join(file)).map_err(|error| format!("{file}: {error}"))?;
            Ok(lines_alike(&text))
        }
        None => Err(format!("no licence text in the package, and none here for `{licence}`")),
    }
}

fn lines_alike(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Where cargo keeps packages' sources: a folder per registry.
fn sources() -> Result<Vec<PathBuf>, String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let own = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let place = home.or_else(own).ok_or("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    let entries = std::fs::read_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_is_a_package_unless_it_is_our_own() {
        let read = |line| package(line).map(|package| (package.name, package.version, package.licence));
        let known = Some(("aes".to_owned(), "0.8.4".to_owned(), "MIT OR Apache-2.0".to_owned()));
        assert_eq!(read("aes v0.8.4|MIT OR Apache-2.0|https://example.org"), known);
        assert_eq!(read("delta-ffi v0.1.0 (/somewhere/bindings/ffi)|MIT|"), None);
        assert_eq!(read("other v1.0.0 (/somewhere)|MIT|"), None);
        assert_eq!(read(""), None);
    }

    /// A package with these files, each of which says its own name.
    fn package_with(name: &str, files: &[&str]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("delta-notices-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|file| std::fs::write(folder.join(file), format!("{file}\r\n")).unwrap());
        folder
    }

    #[test]
    fn of_licences_to_choose_from_one_is_shown_and_of_licences_joined_by_and_all() {
        let both = ["LICENSE-APACHE", "LICENSE-MIT", "NOTICE", "README"];
        let parts = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-UNICODE"];
        for (name, files, licence, wanted) in [
            ("or", &both[..], "MIT OR Apache-2.0", &["LICENSE-MIT", "NOTICE"][..]),
            ("old", &both[..2], "MIT/Apache-2.0", &["LICENSE-MIT"]),
            ("and", &parts[..], "(MIT OR Apache-2.0) AND Unicode-3.0", &parts[..]),
            ("same", &both[..2], "MIT AND (MIT OR Apache-2.0)", &["LICENSE-MIT"]),
        ] {
            let folder = package_with(name, files);
            assert_eq!(licence_texts(&folder, licence).unwrap(), wanted, "{licence}");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn a_package_without_a_text_gets_the_one_its_licence_is_known_by_or_is_refused() {
        let folder = package_with("none", &["README"]);
        let text = |licence| licence_texts(&folder, licence);
        assert!(text("MIT OR Apache-2.0").unwrap()[0].starts_with("Apache License\n"));
        assert!(text("MPL-2.0").unwrap()[0].starts_with("Mozilla Public License Version 2.0\n"));
        // Its text names who wrote the work.
        assert!(text("MIT").is_err() && text("Apache-2.0 AND ISC").is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
