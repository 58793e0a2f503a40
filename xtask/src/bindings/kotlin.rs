//! Kotlin on the JVM: compiler from npm under `target/`, JNA from Debian, then the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::first_page::{FirstPage, shell};
use super::{build, folder, library, read_dir, run};
use crate::packages::Package;
use crate::{cargo, packages};

/// npm's package of the compiler: it brings kotlinc, coroutines and kotlin-test.
const COMPILER: &str = "kotlin-compiler@2.4.20";
/// Debian's packages, and what shows that they are there.
const PACKAGES: [Package; 3] = [
    Package::with("java", "default-jre-headless"),
    Package::with_file(JNA, "libjna-java"),
    Package::with("npm", "npm"),
];
const JNA: &str = "/usr/share/java/jna.jar";
/// The compiler needs more than the JVM's usual share of a small machine.
const HEAP: &str = "-Xmx1500m";
/// The tests' heap is small and resident from the start: what memory grows by is then not the JVM's.
const TEST_HEAP: [&str; 3] = ["-Xms160m", "-Xmx160m", "-XX:+AlwaysPreTouch"];
const SOURCES: [&str; 3] =
    ["bindings/kotlin/src/delta", "bindings/kotlin/src/delta/ffi", "bindings/kotlin/test"];
const PAGE: &str = "getting-started-kotlin.md";
const MAIN: &str = "delta.test.MainKt";
/// What the bindings are on Android, and stand-ins for what of Android they use.
const ANDROID: [&str; 3] =
    ["bindings/kotlin/src/delta", "bindings/kotlin/src/delta/ffi", "bindings/kotlin/src/delta/android"];
const STAND_INS: &str = "bindings/react-native/tests/jvm/Android.kt";
/// The oldest Kotlin that apps compile the sources with (React Native 0.80 to 0.83), or read the AAR with.
const OLDEST: &str = "2.1";
/// Names the file in META-INF by which Kotlin finds functions outside of classes: one of its own in every library.
const MODULE: &str = "delta";

/// Compiles the bindings with their tests and runs them against real servers.
pub fn test() -> Result<(), String> {
    build()?;
    run(&mut program(&library()?, &[])?)?;
    let target = cargo::programs("debug")?;
    let target = format!("{}/", target.parent().ok_or("no target folder")?.display());
    let page = FirstPage::new(PAGE, &folder()?.join("first-kotlin"))?;
    let here = format!("{}/", page.folder().display());
    let source = page.write("Hello.kt", &page.code("kotlin", 0)?.replace("/tmp/", &here))?;
    let commands = page.commands("kotlin", 0).replace("target/", &target);
    page.run(&mut shell(&commands.replace("Hello.kt", &source.display().to_string())))
}

/// Compiles the bindings as an Android app has them: all of the folder belongs into an AAR.
pub fn for_android() -> Result<PathBuf, String> {
    let kotlin = Kotlin::installed()?;
    let classes = folder()?.join("kotlin/android");
    let told = |error: std::io::Error| format!("{}: {error}", classes.display());
    if classes.exists() {
        std::fs::remove_dir_all(&classes).map_err(told)?;
    }
    let mut sources = vec![cargo::root().join(STAND_INS)];
    for folder in ANDROID {
        sources.extend(files(folder, "kt")?);
    }
    kotlin.compile(&sources, &classes)?;
    // The stand-ins' classes: a phone has its own.
    std::fs::remove_dir_all(classes.join("android")).map_err(told)?;
    Ok(classes)
}

/// Compiles the program of the first page against these classes, as an app would.
pub fn compile_first_page(classes: &Path) -> Result<(), String> {
    let page = std::fs::read_to_string(cargo::root().join("docs").join(PAGE));
    let page = page.map_err(|error| format!("{PAGE}: {error}"))?;
    let code = page.split("```kotlin\n").nth(1).and_then(|rest| rest.split("```").next());
    let place = folder()?.join("kotlin/against");
    let source = place.join("Hello.kt");
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    std::fs::write(&source, code.ok_or(format!("{PAGE} shows no Kotlin"))?)
        .map_err(|error| format!("{}: {error}", source.display()))?;
    let mut kotlin = Kotlin::installed()?;
    kotlin.libraries.push(classes.to_owned());
    kotlin.compile(&[source], &place.join("classes"))
}

/// The compiled tests, with this library.
pub(super) fn program(library: &Path, arguments: &[&str]) -> Result<Command, String> {
    let kotlin = Kotlin::installed()?;
    let classes = folder()?.join("kotlin/classes");
    let mut sources = Vec::new();
    for folder in SOURCES {
        sources.extend(files(folder, "kt")?);
    }
    kotlin.compile(&sources, &classes)?;
    let mut command = kotlin.jvm(&TEST_HEAP, library, &[&classes]);
    command.arg(property("delta.programs", &cargo::programs("debug")?));
    command.arg(property("delta.vectors", &cargo::root().join("core/tests/vectors")));
    command.arg(MAIN).args(arguments);
    Ok(command)
}

/// The files of a folder of the repository whose names end so.
pub(super) fn files(folder: &str, end: &str) -> Result<Vec<PathBuf>, String> {
    let mut files = read_dir(&cargo::root().join(folder))?;
    files.retain(|path| path.extension().is_some_and(|found| found == end));
    Ok(files)
}

/// A compiler with the libraries that what it makes needs.
pub(super) struct Kotlin {
    compiler: PathBuf,
    libraries: Vec<PathBuf>,
}

impl Kotlin {
    /// Fetched where it is not there yet.
    pub(super) fn installed() -> Result<Self, String> {
        packages::needed(&PACKAGES)?;
        let compiler = compiler(&folder()?.join("kotlin"))?;
        let jar = |name: &str| compiler.join("lib").join(name);
        let libraries = vec![
            jar("kotlin-stdlib.jar"),
            jar("kotlin-test.jar"),
            jar("kotlinx-coroutines-core-jvm.jar"),
            PathBuf::from(JNA),
        ];
        Ok(Self { compiler, libraries })
    }

    /// Sources may be of Java as well, to be looked at only.
    pub(super) fn compile(&self, sources: &[PathBuf], classes: &Path) -> Result<(), String> {
        let mut command = Command::new("java");
        command.arg(HEAP).arg("-classpath").arg(self.compiler.join("lib/kotlin-compiler.jar"));
        command.arg("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler").args([
            "-no-stdlib",
            "-no-reflect",
            "-nowarn",
        ]);
        command.args(["-jvm-target", "17", "-module-name", MODULE]);
        command.args(["-language-version", OLDEST, "-api-version", OLDEST]);
        command.arg("-classpath").arg(path_list(self.libraries.iter())).arg("-d").arg(classes);
        run(command.args(sources))
    }

    /// What starts a program of these classes with this library.
    pub(super) fn java(&self, library: &Path, classes: &[&PathBuf]) -> Command {
        self.jvm(&[HEAP], library, classes)
    }

    fn jvm(&self, heap: &[&str], library: &Path, classes: &[&PathBuf]) -> Command {
        let mut command = Command::new("java");
        command.args(heap).arg(property("jna.library.path", library.parent().unwrap_or(Path::new("."))));
        command.arg("-classpath").arg(self.classpath(classes));
        command
    }

    pub(super) fn classpath(&self, classes: &[&PathBuf]) -> std::ffi::OsString {
        path_list(self.libraries.iter().chain(classes.iter().copied()))
    }
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

fn property(name: &str, value: &Path) -> String {
    format!("-D{name}={}", value.display())
}

fn path_list<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> std::ffi::OsString {
    std::env::join_paths(paths).unwrap_or_default()
}
