//! The Python client (examples/python) against a real server: an environment of its own under target/, its vectors, then
//! `delta-conformance-client`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo;
use crate::stamp::Stamp;
use crate::steps::{Outcome, not_here};

/// Where the environment lies, below the target folder.
const ENVIRONMENT: &str = "python";
const CLIENT: &str = "examples/python/tail.py";
const REQUIREMENTS: &str = "examples/python/requirements.txt";

/// Installs what the client needs and holds it to the protocol.
pub fn client() -> Outcome {
    let python = match environment() {
        Ok(python) => python,
        Err(why) => return missing(&why),
    };
    let vectors = ["-m", "unittest", "discover", "-s", "examples/python"];
    if let Err(why) = run(&python, &vectors) {
        return failed(&why);
    }
    let program = match cargo::programs("debug") {
        Ok(folder) => folder.join(format!("delta-conformance-client{}", std::env::consts::EXE_SUFFIX)),
        Err(why) => return failed(&why),
    };
    match run(&program, &["--", &python.to_string_lossy(), CLIENT]) {
        Ok(()) => Outcome::Passed,
        Err(why) => failed(&why),
    }
}

/// There is no environment: a machine that cannot install packages says so; CI must be one that can.
pub fn missing(why: &str) -> Outcome {
    if std::env::var_os("CI").is_some() { failed(why) } else { not_here(why) }
}

fn failed(why: &str) -> Outcome {
    println!("{why}");
    Outcome::Failed
}

/// The environment of the client, which other steps use too.
pub fn environment() -> Result<PathBuf, String> {
    environment_of(ENVIRONMENT, REQUIREMENTS)
}

/// The Python of an environment below the target folder, with the packages installed; made again when the requirements
/// change.
pub fn environment_of(folder: &str, requirements: &str) -> Result<PathBuf, String> {
    let target = cargo::programs("debug")?;
    let folder = target.parent().ok_or("no target folder")?.join(folder);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = Stamp::new(&folder, &cargo::root().join(requirements))?;
    if stamp.holds() && python.is_file() {
        return Ok(python);
    }
    let system = if cfg!(windows) { "python" } else { "python3" };
    run(Path::new(system), &["-m", "venv", &folder.to_string_lossy()])
        .map_err(|why| format!("no Python with the module venv: {why}"))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements];
    let install = || run(&python, &pip).map_err(|why| format!("pip cannot install {requirements}: {why}"));
    stamp.renew(install)?;
    Ok(python)
}

/// Runs a program from the root of the repository.
pub fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    println!("$ {} {}", program.display(), arguments.join(" "));
    let status = Command::new(program).args(arguments).current_dir(cargo::root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", program.display())),
        Err(error) => Err(format!("{} did not start: {error}", program.display())),
    }
}
