//! What apps are given, as far as it can be made without an NDK or Xcode: scripts without complaints of shellcheck, an AAR
//! and an npm package with the right files in them, and a check of page alignment that finds both kinds of library.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bindings::kotlin;
use crate::packages::Package;
use crate::{Failure, cargo, packages};

const SCRIPTS: [&str; 7] = [
    "packaging/android/build-aar.sh",
    "packaging/android/build-libraries.sh",
    "packaging/android/check-alignment.sh",
    "packaging/apple/build.sh",
    "packaging/npm/pack.sh",
    "packaging/rustflags.sh",
    "xtask/src/bindings/swift_root.sh",
];
const PACKAGES: [Package; 3] = [
    Package::with("shellcheck", "shellcheck"),
    Package::with("gcc", "gcc"),
    Package::with("readelf", "binutils"),
];
const PRIVACY: &str = "bindings/swift/Sources/DeltaKit/PrivacyInfo.xcprivacy";
const REACT_NATIVE_PAGE: &str = "docs/getting-started-react-native.md";
/// Without libraries: those are most of what an app gets.
const MAX_NPM_BYTES: u64 = 512 * 1024;
const IN_NPM: [&str; 17] = [
    "android/bindings/delta/Ids.kt",
    "android/bindings/delta/android/AndroidKeystore.kt",
    "android/bindings/delta/ffi/delta_ffi.kt",
    "android/build.gradle",
    "android/consumer-rules.pro",
    "android/src/main/AndroidManifest.xml",
    "android/src/main/java/delta/reactnative/DeltaModule.kt",
    "delta-react-native.podspec",
    "ios/DeltaBridge.swift",
    "ios/DeltaModule.mm",
    "ios/bindings/DeltaFFI/DeltaFFI.swift",
    "ios/bindings/DeltaKit/PrivacyInfo.xcprivacy",
    "LICENSE-MIT",
    "THIRD-PARTY-NOTICES.txt",
    "package.json",
    "src/NativeDelta.ts",
    "src/index.ts",
];
const NOT_IN_NPM: [&str; 5] = ["tests/", "node_modules/", "tsconfig", "package-lock", "MemoryKeystore"];
const IN_AAR: [&str; 9] = [
    "AndroidManifest.xml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "R.txt",
    "THIRD-PARTY-NOTICES.txt",
    "classes.jar",
    "jni/x86_64/libdelta_ffi.so",
    "proguard.txt",
    "jni/",
];
const IN_CLASSES: [&str; 4] = [
    "META-INF/delta.kotlin_module",
    "delta/Device.class",
    "delta/android/AndroidKeystore.class",
    "delta/ffi/Delta.class",
];
/// What is not the bindings': tests, the React Native module, stand-ins for Android's classes.
const NOT_IN_CLASSES: [&str; 3] = ["test", "reactnative", "android/security"];
const BUILD_AAR: &str = "packaging/android/build-aar.sh";
const JNI_LIBS: &str = "target/android/jniLibs";
const AAR: &str = "target/android/delta.aar";

/// Writes the AAR of the Kotlin bindings, with the libraries that packaging/android/build-libraries.sh made.
pub fn write_aar() -> Result<(), Failure> {
    let built = kotlin::for_android().and_then(|classes| {
        if !cargo::root().join(JNI_LIBS).is_dir() {
            return Err(format!("{JNI_LIBS} is not there: packaging/android/build-libraries.sh makes it"));
        }
        said(Command::new(BUILD_AAR).arg(classes).args([JNI_LIBS, AAR]))
    });
    print!("{}", built.map_err(Failure::Failed)?);
    Ok(())
}

/// What is wrong with the packages.
pub fn problems() -> Vec<String> {
    [scripts(), privacy(), versions(), platforms(), aar(), npm()]
        .into_iter()
        .filter_map(Result::err)
        .collect()
}

fn scripts() -> Result<(), String> {
    packages::needed(&PACKAGES)?;
    said(Command::new("shellcheck").args(SCRIPTS).arg(".ci/run")).map(drop)
}

/// A property list that can be read, with what the stores ask for.
fn privacy() -> Result<(), String> {
    let program = "import plistlib, sys\n\
                   found = plistlib.load(open(sys.argv[1], 'rb'))\n\
                   wanted = {'NSPrivacyTracking', 'NSPrivacyTrackingDomains', 'NSPrivacyCollectedDataTypes',\n\
                   'NSPrivacyAccessedAPITypes'}\n\
                   sys.exit(0 if set(found) == wanted else f'{sys.argv[1]}: {sorted(found)}')";
    said(Command::new("python3").args(["-c", program, PRIVACY])).map(drop)
}

/// One version everywhere: the workspace's. (The pod's is the npm package's.)
fn versions() -> Result<(), String> {
    let version = env!("CARGO_PKG_VERSION");
    let wanted = [
        ("bindings/react-native/package.json", format!("\"version\": \"{version}\"")),
        ("bindings/react-native/package-lock.json", format!("\"version\": \"{version}\"")),
        (REACT_NATIVE_PAGE, format!("delta-react-native-{version}.tgz")),
        ("examples/react-native/README.md", format!("delta-react-native-{version}.tgz")),
    ];
    says(&wanted)
}

/// The oldest systems that the packages name, wherever a page tells an app to name them.
fn platforms() -> Result<(), String> {
    let android = number("bindings/react-native/android/build.gradle", "minSdk ")?;
    let ios = number("bindings/react-native/delta-react-native.podspec", "ios: '")?;
    let wanted = [
        (REACT_NATIVE_PAGE, format!("minSdkVersion = {android}/")),
        (REACT_NATIVE_PAGE, format!("platform :ios, '{ios}'")),
        ("packaging/android/build-aar.sh", format!("android:minSdkVersion=\"{android}\"")),
        ("packaging/android/build-libraries.sh", format!("api={android}\n")),
        ("packaging/apple/build.sh", format!("IPHONEOS_DEPLOYMENT_TARGET={ios} ")),
    ];
    says(&wanted)
}

fn number(path: &str, before: &str) -> Result<String, String> {
    let text = text(path)?;
    let found = text.split(before).nth(1).ok_or(format!("{path} has no {before}"))?;
    Ok(found.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect())
}

fn says(wanted: &[(&str, String)]) -> Result<(), String> {
    for (path, wanted) in wanted {
        if !text(path)?.contains(wanted) {
            return Err(format!("{path} does not say {wanted}"));
        }
    }
    Ok(())
}

fn text(path: &str) -> Result<String, String> {
    std::fs::read_to_string(cargo::root().join(path)).map_err(|error| format!("{path}: {error}"))
}

/// Assembled with a stand-in for the library, which only an NDK makes.
fn aar() -> Result<(), String> {
    let place = place()?;
    let classes = kotlin::for_android()?;
    let libraries = place.join("jniLibs");
    let library = libraries.join("x86_64/libdelta_ffi.so");
    let aar = place.join("delta.aar");
    stand_in(&library, 4096)?;
    let build = || said(Command::new(BUILD_AAR).arg(&classes).arg(&libraries).arg(&aar));
    if build().is_ok() {
        return Err("a library that is aligned to 4096 bytes was packed".to_owned());
    }
    stand_in(&library, 16384)?;
    build()?;
    let listed = said(Command::new("jar").arg("--list").arg("--file").arg(&aar))?;
    expected("the AAR", &listed.lines().collect::<Vec<_>>(), &IN_AAR, &["kotlin/", "test"])?;
    said(
        Command::new("jar").current_dir(&place).arg("--extract").arg("--file").arg(&aar).arg("classes.jar"),
    )?;
    let classes = place.join("classes.jar");
    let listed = said(Command::new("jar").arg("--list").arg("--file").arg(&classes))?;
    expected("the AAR's classes", &listed.lines().collect::<Vec<_>>(), &IN_CLASSES, &NOT_IN_CLASSES)?;
    kotlin::compile_first_page(&classes)
}

fn stand_in(library: &Path, page: u32) -> Result<(), String> {
    let folder = library.parent().unwrap_or(library);
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = Command::new("gcc");
    command.args(["-shared", "-fuse-ld=bfd", "-x", "c", "/dev/null", "-o"]).arg(library);
    said(command.arg(format!("-Wl,-z,max-page-size={page}"))).map(drop)
}

fn npm() -> Result<(), String> {
    let place = place()?.join("npm");
    let mut command = Command::new("packaging/npm/pack.sh");
    let report = said(command.arg(&place).arg("--without-libraries"))?;
    let paths: Vec<&str> = values(&report, "\"path\": \"").collect();
    expected("the npm package", &paths, &IN_NPM, &NOT_IN_NPM)?;
    let size = report.split("\"size\": ").nth(1).and_then(|rest| rest.split(',').next());
    let size: u64 = size.and_then(|size| size.trim().parse().ok()).ok_or("npm pack tells no size")?;
    println!("the npm package without libraries: {} files, {size} bytes", paths.len());
    match size <= MAX_NPM_BYTES {
        true => Ok(()),
        false => {
            Err(format!("the npm package has {size} bytes without libraries, more than {MAX_NPM_BYTES}"))
        }
    }
}

fn values<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
}

fn expected(what: &str, found: &[&str], wanted: &[&str], unwanted: &[&str]) -> Result<(), String> {
    let missing: Vec<_> = wanted.iter().filter(|name| !found.contains(name)).collect();
    let extra: Vec<_> = found.iter().filter(|name| unwanted.iter().any(|part| name.contains(part))).collect();
    match missing.is_empty() && extra.is_empty() {
        true => Ok(()),
        false => Err(format!("{what} lacks {missing:?} and should not have {extra:?}")),
    }
}

fn place() -> Result<PathBuf, String> {
    let target = cargo::programs("debug")?;
    Ok(target.parent().ok_or("no target folder")?.join("packaging"))
}

/// What a command that must succeed prints, in the repository's root unless it says otherwise.
fn said(command: &mut Command) -> Result<String, String> {
    if command.get_current_dir().is_none() {
        command.current_dir(cargo::root());
    }
    let shown = format!("{command:?}");
    println!("$ {shown}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.success() {
        true => Ok(out.into_owned()),
        false => Err(format!("{shown} ended with {}\n{out}{err}", output.status)),
    }
}
