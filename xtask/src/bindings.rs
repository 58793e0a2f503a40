//! The bindings: written from the built library, compared with what is checked in, and tested in their languages.

mod first_page;
pub mod kotlin;
mod swift;
pub mod typescript;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::Outcome;
use crate::{Failure, cargo};
use first_page::{FirstPage, shell};

/// What the generator writes, and where it lies in the repository.
const FILES: [(&str, &str); 6] = [
    ("kotlin/delta/ffi/delta_ffi.kt", "bindings/kotlin/src/delta/ffi/delta_ffi.kt"),
    ("swift/DeltaFFI.swift", "bindings/swift/Sources/DeltaFFI/DeltaFFI.swift"),
    ("swift/CDelta.h", "bindings/swift/Sources/CDelta/CDelta.h"),
    ("swift/CDelta.modulemap", "bindings/swift/Sources/CDelta/module.modulemap"),
    ("python/delta_ffi.py", "bindings/python/delta/delta_ffi.py"),
    ("api.md", "docs/api.md"),
];
const CONFIG: &str = "uniffi.toml";
const PYTHON: &str = "bindings/python";

/// Writes the bindings anew.
pub fn write() -> Result<(), Failure> {
    let generated = generate().map_err(Failure::Failed)?;
    for (from, to) in FILES {
        let to = cargo::root().join(to);
        copy(&generated.join(from), &to).map_err(Failure::Failed)?;
        println!("{}", to.display());
    }
    Ok(())
}

/// Whether what is checked in is what would be written now.
pub fn compare() -> Outcome {
    outcome(generate().and_then(|generated| {
        let differs = |from: &str, to: &str| {
            std::fs::read(generated.join(from)).ok() != std::fs::read(cargo::root().join(to)).ok()
        };
        let stale: Vec<&str> =
            FILES.iter().filter(|(from, to)| differs(from, to)).map(|(_, to)| *to).collect();
        match stale.as_slice() {
            [] => Ok(()),
            _ => {
                Err(format!("not what bindings/ffi says now: {}\nrun cargo xtask bindings", stale.join(", ")))
            }
        }
    }))
}

/// The Python tests, with the library beside the module.
pub fn python() -> Outcome {
    outcome(test_python())
}

fn test_python() -> Result<(), String> {
    build()?;
    let place = place_python(&library()?)?;
    let tests = format!("{PYTHON}/tests");
    let mut command = python_command(&place);
    command.args(["-W", "error::ResourceWarning", "-m", "unittest", "discover", "-v", "-s", &tests]);
    run(command.env("DELTA_PROGRAMS", cargo::programs("debug")?))?;
    python_page(&place)
}

fn python_page(place: &Path) -> Result<(), String> {
    let page = FirstPage::new("getting-started-python.md", &folder()?.join("first-python"))?;
    let here = format!("{}/", page.folder().display());
    page.write("delta-network.json", page.facts())?;
    let script = page.write("hello.py", &page.code("python", 0)?.replace("/tmp/", &here))?;
    let commands = page.commands("python", 0).replace("bindings/python", &place.display().to_string());
    let commands = commands.replace("hello.py", &script.display().to_string());
    page.run(shell(&commands).env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The module with this library beside it.
fn place_python(library: &Path) -> Result<PathBuf, String> {
    let place = folder()?.join("python");
    for entry in read_dir(&cargo::root().join(PYTHON).join("delta"))? {
        if entry.extension().is_some_and(|extension| extension == "py") {
            copy(&entry, &place.join("delta").join(entry.file_name().unwrap_or_default()))?;
        }
    }
    copy(library, &place.join("delta").join(library_name()))?;
    Ok(place)
}

fn python_command(place: &Path) -> Command {
    let mut command = Command::new(if cfg!(windows) { "python" } else { "python3" });
    command.env("PYTHONPATH", place).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Which build of the library is measured.
#[derive(Clone, Copy)]
pub enum Library {
    /// The profile `mobile`: half an hour of compiling.
    AsItShips,
    /// To see that the benchmarks work.
    Debug,
}

/// What the languages cost; gives what the benchmarks print. Each asserts that everything it asked for came.
pub fn bench(library: Library) -> Result<String, String> {
    let profile = match library {
        Library::AsItShips => "mobile",
        Library::Debug => "dev",
    };
    let line = format!("build --quiet --locked --profile {profile} -p delta-ffi");
    run(&mut cargo::command(&cargo::line(&line)))?;
    let folder = match library {
        Library::AsItShips => "mobile",
        Library::Debug => "debug",
    };
    let library = cargo::programs(folder)?.join(library_name());
    let place = place_python(&library)?;
    // Beside the module: a script finds first what lies beside it, and in the tree there is no library.
    let script = place.join("bench.py");
    copy(&cargo::root().join(PYTHON).join("bench.py"), &script)?;
    let python = output(python_command(&place).arg(script))?;
    let kotlin = output(&mut kotlin::program(&library, &["--bench"])?)?;
    let mut react_native = String::new();
    for mut command in typescript::bench(&library)? {
        react_native.push_str(&output(&mut command)?);
    }
    let swift = match swift::bench(&cargo::programs(folder)?) {
        Ok(mut command) => output(&mut command)?,
        // Asked for by no test: a machine without a root for it has the others' figures.
        Err(why) => {
            println!("Swift is not measured here: {why}");
            String::new()
        }
    };
    Ok(python + &kotlin + &react_native + &swift)
}

fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    println!("$ {shown}");
    if command.get_current_dir().is_none() {
        command.current_dir(cargo::root());
    }
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{shown} did not start: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{printed}");
    if output.status.success() { Ok(printed) } else { Err(format!("{shown} ended with {}", output.status)) }
}

/// The Kotlin tests on the JVM.
pub fn kotlin() -> Outcome {
    outcome(kotlin::test())
}

/// The React Native package: its types, its tests over a mocked module, and over the Android one on the JVM.
pub fn typescript() -> Outcome {
    outcome(typescript::test())
}

/// The Swift tests in a Debian 13 root.
pub fn swift() -> Outcome {
    outcome(swift::test())
}

/// The library and the generator's program, then the generator.
fn generate() -> Result<PathBuf, String> {
    build()?;
    let place = folder()?.join("generated");
    let program = cargo::programs("debug")?.join(format!("delta-bindgen{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(program);
    run(command.arg(library()?).arg(CONFIG).arg(&place))?;
    Ok(place)
}

/// Not stripped: the generator reads the library's metadata.
fn build() -> Result<(), String> {
    let words = cargo::line("build --quiet --locked -p delta-ffi -p delta-bindgen");
    run(&mut cargo::command(&words))
}

fn folder() -> Result<PathBuf, String> {
    let programs = cargo::programs("debug")?;
    Ok(programs.parent().ok_or("no target folder")?.join("bindings"))
}

fn library() -> Result<PathBuf, String> {
    Ok(cargo::programs("debug")?.join(library_name()))
}

fn library_name() -> String {
    format!("{}delta_ffi{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

fn read_dir(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied =
        to.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::copy(from, to).map(drop));
    copied.map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

/// Runs a command in the repository's root.
fn run(command: &mut Command) -> Result<(), String> {
    run_there(command.current_dir(cargo::root()))
}

/// Runs a command in its own folder.
fn run_there(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    println!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} ended with {status}")),
        Err(error) => Err(format!("{shown} did not start: {error}")),
    }
}

fn outcome(result: Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(why) => {
            println!("{why}");
            Outcome::Failed
        }
    }
}
