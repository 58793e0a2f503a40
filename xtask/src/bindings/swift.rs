//! Swift on Linux: a Debian 13 root that is made once and kept outside the tree, then the tests inside it.
//!
//! What is mounted is mounted in a namespace of its own, which ends with this program even when that is killed: there is
//! nothing to clean up. A root is written under another name and renamed when it is whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{build, folder, run};
use crate::{cargo, packages};

const SCRIPT: &str = "xtask/src/bindings/swift_root.sh";
/// Debian's packages, and the programs of theirs that are started here.
const PACKAGES: &str = "debootstrap debian-archive-keyring util-linux mount";
const TOOLS: [&str; 4] = ["debootstrap", "unshare", "setpriv", "mount"];
/// The root's name in the cache. Another set of packages is another name.
const ROOT: &str = "debian-13-swift-1";
const COST: &str = "once; two minutes on a fast line, 2.7 GB";
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
    if !packages::is_root() {
        return Err("a root for Swift is made and entered by root alone. Run: \
                    sudo --preserve-env env PATH=\"$PATH\" cargo xtask test --swift"
            .to_owned());
    }
    packages::needed(PACKAGES, || !TOOLS.into_iter().all(packages::has))?;
    build()?;
    let cache = cache()?;
    let root = root_in(&cache)?;
    let scratch = folder()?.join("swift");
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let mut command = script("run", &root);
    run(command.arg(cargo::root()).arg(cargo::programs("debug")?).arg(scratch))
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
        println!("the root for Swift is in {}", root.display());
        return Ok(root);
    }
    println!("making a root for Swift in {} ({COST})", root.display());
    // What an interrupted run left. Nothing is mounted in it: its mounts ended with that run.
    run(Command::new("rm").args(["--recursive", "--force", "--one-file-system"]).arg(&partial))?;
    run(&mut script("make", &partial))?;
    std::fs::rename(&partial, &root).map_err(told)?;
    Ok(root)
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
