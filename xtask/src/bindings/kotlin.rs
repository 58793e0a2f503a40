//! Kotlin on the JVM: compiler from npm under `target/`, JNA from Debian, then the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{build, folder, library, read_dir, run};
use crate::cargo;

/// npm's package of the compiler: it brings kotlinc, coroutines and kotlin-test.
const COMPILER: &str = "kotlin-compiler@2.4.20";
/// Debian's packages, where JNA lies, and what is asked for to see whether they are there.
const PACKAGES: &str = "default-jre-headless libjna-java libjna-jni npm";
const JNA: &str = "/usr/share/java/jna.jar";
const TOOLS: [&str; 2] = ["java", "npm"];
/// The compiler needs more than the JVM's usual share of a small machine.
const HEAP: &str = "-Xmx1500m";
const SOURCES: [&str; 3] =
    ["bindings/kotlin/src/delta", "bindings/kotlin/src/delta/ffi", "bindings/kotlin/test"];
const MAIN: &str = "delta.test.MainKt";

/// Compiles the bindings with their tests and runs them against real servers.
pub fn test() -> Result<(), String> {
    build()?;
    system_packages()?;
    let place = folder()?.join("kotlin");
    let compiler = compiler(&place)?;
    let jar = |name: &str| compiler.join("lib").join(name);
    let libraries = [
        jar("kotlin-stdlib.jar"),
        jar("kotlin-test.jar"),
        jar("kotlinx-coroutines-core-jvm.jar"),
        PathBuf::from(JNA),
    ];
    let classes = place.join("classes");
    compile(&compiler, &libraries, &classes)?;

    let library = library()?;
    let natives = library.parent().unwrap_or(Path::new("."));
    let mut command = Command::new("java");
    command.arg(HEAP).arg(property("jna.library.path", natives));
    command.arg(property("delta.programs", &cargo::programs("debug")?));
    command.arg(property("delta.vectors", &cargo::root().join("core/tests/vectors")));
    command.arg("-classpath").arg(path_list(libraries.iter().chain([&classes])));
    run(command.arg(MAIN))
}

fn compile(compiler: &Path, libraries: &[PathBuf], classes: &Path) -> Result<(), String> {
    let mut command = Command::new("java");
    command.arg(HEAP).arg("-classpath").arg(compiler.join("lib/kotlin-compiler.jar"));
    command.arg("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler").args(["-no-stdlib", "-no-reflect", "-nowarn"]);
    command.args(["-jvm-target", "17"]);
    command.arg("-classpath").arg(path_list(libraries.iter())).arg("-d").arg(classes);
    for folder in SOURCES {
        let files = read_dir(&cargo::root().join(folder))?;
        command.args(files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "kt")));
    }
    run(&mut command)
}

/// The compiler's folder; fetched once.
fn compiler(place: &Path) -> Result<PathBuf, String> {
    let folder = place.join("node_modules/kotlin-compiler");
    let wanted = format!("\"version\": \"{}\"", COMPILER.rsplit('@').next().unwrap_or_default());
    let installed = std::fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    if !installed.contains(&wanted) {
        std::fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
        let mut command = Command::new("npm");
        command.args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]);
        run(command.arg(place).arg(COMPILER))?;
    }
    Ok(folder)
}

/// Installs what is missing where that may be done here; otherwise says the one command.
fn system_packages() -> Result<(), String> {
    let found = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let missing = || !Path::new(JNA).is_file() || !TOOLS.into_iter().all(found);
    if !missing() {
        return Ok(());
    }
    let install = format!("apt-get install --yes --no-install-recommends {PACKAGES}");
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if root && Path::new("/etc/debian_version").is_file() {
        run(Command::new("sh").args(["-c", &install]))?;
    }
    if missing() {
        Err(format!("Java, npm or JNA are missing. Install them: sudo {install}"))
    } else {
        Ok(())
    }
}

fn property(name: &str, value: &Path) -> String {
    format!("-D{name}={}", value.display())
}

fn path_list<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> std::ffi::OsString {
    std::env::join_paths(paths).unwrap_or_default()
}
