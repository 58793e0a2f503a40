//! Debian packages that a step needs: installed where that may be done here, named in one command where it may not.

use std::path::Path;
use std::process::Command;

/// Installs `packages` if something is missing. What cannot be installed here is an error that says the one command.
pub fn needed(packages: &str, missing: impl Fn() -> bool) -> Result<(), String> {
    if !missing() {
        return Ok(());
    }
    let install = format!("apt-get install --yes --no-install-recommends {packages}");
    if is_root() && Path::new("/etc/debian_version").is_file() {
        println!("installing {packages}");
        // Lists of packages may be old or not there at all.
        let script = format!("{install} || {{ apt-get update && {install}; }}");
        let status =
            Command::new("sh").args(["-c", &script]).env("DEBIAN_FRONTEND", "noninteractive").status();
        status.map_err(|error| format!("sh did not start: {error}"))?;
    }
    match missing() {
        true => Err(format!("not all of {packages} is installed. Install it: sudo {install}")),
        false => Ok(()),
    }
}

/// Whether a program of this name can be started.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Whether this runs as root.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
