//! The test vectors (docs/vectors): what lies in core/tests/vectors is what the second implementation writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::Outcome;
use crate::{cargo, python};

/// The generators: programs, and what they share.
const GENERATORS: &str = "docs/vectors";
const REQUIREMENTS: &str = "docs/vectors/requirements.txt";
/// Their environment and the place they write to, below the target folder.
const ENVIRONMENT: &str = "vectors-python";
const SCRATCH: &str = "vectors";
const VECTORS: &str = "core/tests/vectors";
/// Their program reads from them what was drawn, and makes the rest anew.
const READ_TOO: [&str; 2] = ["onion-v2.json", "onion-v3.json"];

/// Runs every generator and compares what it writes, byte by byte, with what is checked in.
pub fn reproduced() -> Outcome {
    let python = match python::environment_of(ENVIRONMENT, REQUIREMENTS) {
        Ok(python) => python,
        Err(why) => return python::missing(&why),
    };
    let problems =
        match written(&python).and_then(|folder| differences(&folder, &cargo::root().join(VECTORS))) {
            Ok(problems) => problems,
            Err(why) => vec![why],
        };
    problems.iter().for_each(|problem| println!("problem: {problem}"));
    if problems.is_empty() { Outcome::Passed } else { Outcome::Failed }
}

/// The folder that holds what the generators wrote, each run in a copy of what it reads.
fn written(python: &Path) -> Result<PathBuf, String> {
    let target = cargo::programs("debug")?;
    let root = target.parent().ok_or("no target folder")?.join(SCRATCH);
    let told = |error: std::io::Error| format!("{}: {error}", root.display());
    if root.exists() {
        fs::remove_dir_all(&root).map_err(told)?;
    }
    let (generators, out) = (root.join(GENERATORS), root.join(VECTORS));
    fs::create_dir_all(&generators).and_then(|()| fs::create_dir_all(&out)).map_err(told)?;
    let names = files(&cargo::root().join(GENERATORS))?;
    for name in &names {
        fs::copy(cargo::root().join(GENERATORS).join(name), generators.join(name)).map_err(told)?;
    }
    for name in READ_TOO {
        fs::copy(cargo::root().join(VECTORS).join(name), out.join(name)).map_err(told)?;
    }
    for name in &names {
        let program = fs::read(generators.join(name)).map_err(told)?;
        if program.starts_with(b"#!") {
            let script = format!("{GENERATORS}/{name}");
            println!("$ {} {script}", python.display());
            let status =
                Command::new(python).args(["-B", &script]).current_dir(&root).status().map_err(told)?;
            if !status.success() {
                return Err(format!("{script} ended with {status}"));
            }
        }
    }
    Ok(out)
}

/// What is written and not checked in, or checked in and not written, or both and not the same.
fn differences(written: &Path, checked_in: &Path) -> Result<Vec<String>, String> {
    let of = |folder: &Path| -> Result<Vec<String>, String> {
        Ok(files(folder)?.into_iter().filter(|name| name.ends_with(".json")).collect())
    };
    let (new, old) = (of(written)?, of(checked_in)?);
    let mut problems = Vec::new();
    for name in &old {
        if !new.contains(name) {
            problems.push(format!("{VECTORS}/{name}: no program in {GENERATORS} writes it"));
        }
    }
    for name in &new {
        let bytes = |folder: &Path| fs::read(folder.join(name)).ok();
        if bytes(checked_in) != bytes(written) {
            problems.push(format!("{VECTORS}/{name} is not what its program in {GENERATORS} writes"));
        }
    }
    Ok(problems)
}

/// The names of the files in a folder, sorted.
fn files(folder: &Path) -> Result<Vec<String>, String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(told)? {
        let entry = entry.map_err(told)?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_missing_or_new_is_told() {
        let root = std::env::temp_dir().join(format!("delta-vectors-{}", std::process::id()));
        let (written, checked_in) = (root.join("written"), root.join("checked in"));
        for folder in [&written, &checked_in] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("same.json"), "1").unwrap();
            fs::write(folder.join("README.md"), folder.display().to_string()).unwrap();
        }
        assert_eq!(differences(&written, &checked_in), Ok(Vec::new()));
        fs::write(written.join("same.json"), "2").unwrap();
        fs::write(written.join("new.json"), "1").unwrap();
        fs::write(checked_in.join("old.json"), "1").unwrap();
        let told = differences(&written, &checked_in).unwrap().join("\n");
        for name in ["old.json: no program", "same.json is not", "new.json is not"] {
            assert!(told.contains(name), "{told}");
        }
        assert_eq!(told.lines().count(), 3, "{told}");
        fs::remove_dir_all(root).unwrap();
    }
}
