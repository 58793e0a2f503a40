//! The React Native package: type-checked, its spec read by React Native's own code generator, its Android module compiled
//! against what that writes, its tests run over a mocked module and over the Android one on the JVM.
//!
//! Nothing of npm's lies in the tree: sources are copied beside the packages, below `target/react-native`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::first_page::{FirstPage, shell};
use super::kotlin::{Kotlin, files};
use super::{build, copy, library, read_dir, run, run_there};
use crate::packages::Package;
use crate::stamp::Stamp;
use crate::{cargo, packages};

const PACKAGE: &str = "bindings/react-native";
const LOCK: &str = "bindings/react-native/package-lock.json";
/// Debian's packages. Where its Node.js is older than 20.19, another one has to be installed by hand.
const PACKAGES: [Package; 3] = [
    Package::with("node", "nodejs"),
    Package::with("npm", "npm"),
    Package::with("javac", "default-jdk-headless"),
];
/// Oldest Node.js that the packages run on.
const NODE: (u32, u32) = (20, 19);
const SOURCES: [(&str, &str); 5] = [
    ("bindings/kotlin/src/delta", "kt"),
    ("bindings/kotlin/src/delta/android", "kt"),
    ("bindings/kotlin/src/delta/ffi", "kt"),
    ("bindings/react-native/android/src/main/java/delta/reactnative", "kt"),
    ("bindings/react-native/tests/jvm", "kt"),
];
/// What of React Native itself is compiled with the module, below its Android sources.
const REACT: [&str; 4] = [
    "react/bridge/Promise.kt",
    "react/module/model/ReactModuleInfo.kt",
    "react/module/model/ReactModuleInfoProvider.kt",
    "react/turbomodule/core/interfaces/TurboModule.kt",
];
const REACT_SOURCES: &str = "node_modules/react-native/ReactAndroid/src/main/java/com/facebook";
const SPEC: &str = "java/delta/reactnative/NativeDeltaSpec.java";
const CLASSES: &str = "classes";
const BRIDGE: &str = "delta.reactnative.test.BridgeKt";

/// Checks the package and runs its tests.
pub fn test() -> Result<(), String> {
    build()?;
    let place = installed()?;
    let package = mirrored(PACKAGE, &place)?;
    node(&place, &package, &["node_modules/typescript/bin/tsc", "-p", "."])?;
    let bridge = bridge(&place, &package)?;
    let mut command = Command::new("node");
    command.arg("tests/run.mjs").current_dir(&package).env("DELTA_ROOT", cargo::root());
    command.env("DELTA_PROGRAMS", cargo::programs("debug")?).env("DELTA_BRIDGE", &bridge);
    run_there(&mut command)?;
    first_page(&place, &package, &bridge)
}

/// Its app with its `network.json`, drawn over the Android module. It lies where Node.js finds the packages.
fn first_page(place: &Path, package: &Path, bridge: &str) -> Result<(), String> {
    let page = FirstPage::new("getting-started-react-native.md", &place.join("first"))?;
    let here = format!("{}/", page.folder().display());
    page.write("delta-network.json", page.facts())?;
    let app = page.write("App.tsx", &page.code("tsx", 0)?)?;
    run_there(shell(&page.commands("tsx", 0).replace("/tmp/", &here)).current_dir(page.folder()))?;
    let mut command = Command::new("node");
    command.arg("tests/run.mjs").arg("--first").arg(app).current_dir(package);
    page.run(command.env("DELTA_BRIDGE", bridge).env("DELTA_APP", page.folder().join("app")))
}

/// What measures the facade in Node.js, and the Android module on the JVM with this library.
pub fn bench(library: &Path) -> Result<[Command; 2], String> {
    let place = installed()?;
    let package = mirrored(PACKAGE, &place)?;
    let mut facade = Command::new("node");
    facade.args(["tests/run.mjs", "--bench"]).current_dir(&package);
    let (kotlin, classes) = compiled(&place, &package)?;
    let mut module = kotlin.java(library, &[&classes]);
    module.args([BRIDGE, "--bench"]);
    Ok([facade, module])
}

/// The folder with the packages of the lock file; they are fetched when that changed.
pub fn installed() -> Result<PathBuf, String> {
    packages::needed(&PACKAGES)?;
    new_enough()?;
    let target = cargo::programs("debug")?;
    let place = target.parent().ok_or("no target folder")?.join("react-native");
    let stamp = Stamp::new(&place, &cargo::root().join(LOCK))?;
    if stamp.holds() && place.join("node_modules").is_dir() {
        return Ok(place);
    }
    for name in ["package.json", "package-lock.json"] {
        copy(&cargo::root().join(PACKAGE).join(name), &place.join(name))?;
    }
    println!("fetching the packages of {LOCK} (once; half a minute, 240 MB)");
    let mut command = Command::new("npm");
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    stamp.renew(|| run_there(command.current_dir(&place)))?;
    Ok(place)
}

/// A copy of a folder of the repository from where Node.js finds the packages.
pub fn mirrored(folder: &str, place: &Path) -> Result<PathBuf, String> {
    let to = place.join(folder);
    if to.exists() {
        std::fs::remove_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    mirror(&cargo::root().join(folder), &to)?;
    Ok(to)
}

/// Runs one of the packages' programs in a folder.
pub fn node(place: &Path, folder: &Path, words: &[&str]) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    run_there(Command::new("node").arg(place.join(program)).args(arguments).current_dir(folder))
}

/// The Android module on the JVM: compiled against the spec that React Native's generator writes now.
fn compiled(place: &Path, package: &Path) -> Result<(Kotlin, PathBuf), String> {
    let (kotlin, spec, classes) = (Kotlin::installed()?, place.join("spec"), place.join(CLASSES));
    run_there(Command::new("node").arg("tests/spec.mjs").arg(&spec).current_dir(package))?;
    let mut sources = vec![spec.join(SPEC)];
    for (folder, end) in SOURCES {
        sources.extend(files(folder, end)?);
    }
    sources.extend(REACT.iter().map(|file| place.join(REACT_SOURCES).join(file)));
    kotlin.compile(&sources, &classes)?;
    let mut command = Command::new("javac");
    command.arg("-nowarn").arg("-d").arg(&classes);
    run(command.arg("-classpath").arg(kotlin.classpath(&[&classes])).arg(spec.join(SPEC)))?;
    Ok((kotlin, classes))
}

/// The command line that starts it behind a pipe, as JSON.
fn bridge(place: &Path, package: &Path) -> Result<String, String> {
    let (kotlin, classes) = compiled(place, package)?;
    let command = kotlin.java(&library()?, &[&classes]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    Ok(format!("[{},{}]", words.join(","), quoted(BRIDGE)))
}

/// As JSON has it. Paths with control characters are nobody's.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

fn new_enough() -> Result<(), String> {
    let output = Command::new("node").arg("--version").output().map_err(|error| format!("node: {error}"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|part| part.parse().ok());
    if (numbers.next(), numbers.next()) >= (Some(NODE.0), Some(NODE.1)) {
        return Ok(());
    }
    let (major, minor) = NODE;
    Err(format!(
        "Node.js {version} is too old: {major}.{minor} is needed. Install it: npm install --global n && n {major}"
    ))
}

fn mirror(from: &Path, to: &Path) -> Result<(), String> {
    for path in read_dir(from)? {
        let name = path.file_name().unwrap_or_default();
        match path.is_dir() {
            // Who works on the package may have these beside it.
            true if name == "node_modules" || name == "build" => {}
            true => mirror(&path, &to.join(name))?,
            false => copy(&path, &to.join(name))?,
        }
    }
    Ok(())
}
