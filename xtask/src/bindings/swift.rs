//! Swift on Linux: a Debian 13 root that is made once and kept outside the tree, then the tests inside it.
//!
//! What is mounted is mounted in a namespace of its own, which ends with this program even when that is killed: there is
//! nothing to clean up. A root is written under another name and renamed when it is whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::first_page::FirstPage;
use super::{build, folder, run};
use crate::packages::Package;
use crate::{cargo, packages};

const SCRIPT: &str = "xtask/src/bindings/swift_root.sh";
/// Debian's packages, and what of theirs is used here.
const PACKAGES: [Package; 5] = [
    Package::with("debootstrap", "debootstrap"),
    Package::with_file("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    Package::with("unshare", "util-linux"),
    Package::with("setpriv", "util-linux"),
    Package::with("mount", "mount"),
];
/// The root's name in the cache. Another set of packages is another name.
const ROOT: &str = "debian-13-swift-1";
const COST: &str = "once; two minutes on a fast line, 2.6 GB";
/// Mounts and processes of their own; all of them end when unshare does, and that when this program does.
const ALONE: [&str; 9] = [
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child",
    "sh",
];

/// Builds the Swift package and runs its tests against real servers.
pub fn test() -> Result<(), String> {
    ready()?;
    build()?;
    let programs = cargo::programs("debug")?;
    run(&mut lent("run", &programs)?)?;
    // Where the page's paths lie in the root.
    let (folder, inside) = (folder()?.join("swift/first"), "/scratch/first");
    let page = FirstPage::new("getting-started-swift.md", &folder)?;
    let outside = folder.display().to_string();
    page.write("Package.swift", &page.code("swift", 0)?.replace("…/bindings", "/delta/bindings"))?;
    page.write("Sources/Hello/Hello.swift", &page.code("swift", 1)?.replace(&outside, inside))?;
    let command =
        page.commands("swift", 1).replace("$PWD/target/debug", "/programs").replace(" hello ", " first ");
    // What was built of it before is kept.
    let command = command.replace("swift run", "swift run --scratch-path first-build --cache-path cache");
    page.run(lent("first", &programs)?.arg(command))
}

/// What runs the benchmark with the library of this folder.
pub fn bench(programs: &Path) -> Result<Command, String> {
    ready()?;
    lent("bench", programs)
}

/// Whether this machine can make a root and enter it.
fn ready() -> Result<(), String> {
    if !packages::is_root() {
        return Err("a root for Swift is made and entered by root alone. Run: \
                    sudo --preserve-env env PATH=\"$PATH\" cargo xtask test --swift"
            .to_owned());
    }
    packages::needed(&PACKAGES)?;
    may_mount()
}

/// A task of the script's in the root, with the repository, these programs and a folder to build in.
fn lent(task: &str, programs: &Path) -> Result<Command, String> {
    let root = root_in(&cache()?)?;
    let scratch = folder()?.join("swift");
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let mut command = script(task, &root);
    command.arg(cargo::root()).arg(programs).arg(scratch);
    Ok(command)
}

/// The root, made if it is not there.
fn root_in(cache: &Path) -> Result<PathBuf, String> {
    let told = |error: std::io::Error| format!("{}: {error}", cache.display());
    std::fs::create_dir_all(cache).map_err(told)?;
    // Two runs at once make one root.
    let lock = File::create(cache.join(format!("{ROOT}.lock"))).map_err(told)?;
    lock.lock().map_err(told)?;
    let (root, partial) = (cache.join(ROOT), cache.join(format!("{ROOT}.partial")));
    if root.is_dir() {
        match fault(&root)? {
            None => {
                println!("the root for Swift is in {}", root.display());
                return Ok(root);
            }
            // A cache that was cut, say.
            Some(fault) => println!("the root in {} is of no use: {fault}", root.display()),
        }
        remove(&root)?;
    }
    println!("making a root for Swift in {} ({COST})", root.display());
    // What an interrupted run left. Nothing is mounted in it: its mounts ended with that run.
    remove(&partial)?;
    run(&mut script("make", &partial))?;
    if let Some(fault) = fault(&partial)? {
        return Err(format!("the root for Swift was made, and {fault}"));
    }
    std::fs::rename(&partial, &root).map_err(told)?;
    Ok(root)
}

fn remove(folder: &Path) -> Result<(), String> {
    run(Command::new("rm").args(["--recursive", "--force", "--one-file-system"]).arg(folder))
}

/// What is wrong with a root; nothing, when it is whole.
fn fault(root: &Path) -> Result<Option<String>, String> {
    let mut command = Command::new("sh");
    command.arg(cargo::root().join(SCRIPT)).arg("check").arg(root);
    let checked = command.output().map_err(|error| format!("sh did not start: {error}"))?;
    let said = String::from_utf8_lossy(&checked.stdout).trim().to_owned();
    Ok((!checked.status.success()).then_some(said))
}

/// Whether this machine lets root make namespaces and mount in them: in many containers it does not.
fn may_mount() -> Result<(), String> {
    let mut command = Command::new("setpriv");
    command.args(ALONE).args(["-c", "mount -t tmpfs tmpfs /mnt"]);
    let tried = command.output().map_err(|error| format!("setpriv did not start: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    Err(format!(
        "root may not mount in a namespace of its own here, which the root for Swift needs: {why}. In a container, \
         start it with the capability SYS_ADMIN (docker run --cap-add SYS_ADMIN --security-opt apparmor=unconfined)"
    ))
}

fn script(task: &str, root: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(ALONE).arg(cargo::root().join(SCRIPT)).arg(task).arg(root);
    command
}

/// Outside the tree, so that every checkout and every run of CI shares it.
fn cache() -> Result<PathBuf, String> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let own = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    Ok(named.or_else(own).ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("delta"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packages that `check` asks for, and a file of one of them.
    fn root(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("delta-swift-root-{}-{name}", std::process::id()));
        let info = root.join("var/lib/dpkg/info");
        std::fs::create_dir_all(&info).unwrap();
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::write(root.join("usr/bin/swiftc"), "#!").unwrap();
        std::fs::write(root.join("var/lib/dpkg/status"), "Status: install ok installed\n").unwrap();
        for package in ["swiftlang", "libswiftlang", "libstdc++-14-dev:amd64", "dash", "coreutils"] {
            std::fs::write(info.join(format!("{package}.list")), "/usr/bin/swiftc\n/var/lib/apt/lists\n")
                .unwrap();
        }
        root
    }

    #[test]
    fn a_root_that_is_empty_or_was_cut_is_found_out() {
        let whole = root("whole");
        assert_eq!(fault(&whole).unwrap(), None);
        for (name, harm, wanted) in [
            ("cut", "usr/bin/swiftc", "/usr/bin/swiftc is missing in it"),
            ("early", "var/lib/dpkg/info/swiftlang.list", "swiftlang is not installed in it"),
        ] {
            let root = root(name);
            std::fs::remove_file(root.join(harm)).unwrap();
            assert_eq!(fault(&root).unwrap().as_deref(), Some(wanted));
            std::fs::remove_dir_all(root).unwrap();
        }
        std::fs::write(whole.join("var/lib/dpkg/status"), "Status: install ok half-configured\n").unwrap();
        assert_eq!(fault(&whole).unwrap().as_deref(), Some("a package in it is installed by half"));
        std::fs::remove_dir_all(&whole).unwrap();
        std::fs::create_dir(&whole).unwrap();
        assert_eq!(fault(&whole).unwrap().as_deref(), Some("swiftlang is not installed in it"));
        std::fs::remove_dir(whole).unwrap();
    }
}
