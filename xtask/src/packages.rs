//! Debian packages that a step needs: installed where that may be done here, named in one command where it may not. Only
//! those of which something is missing: a program may be here from elsewhere (Node.js with its npm, a JDK), and then
//! Debian's own may even conflict with it.

use std::path::Path;
use std::process::Command;

/// A package, and what shows that nothing of it is missing.
#[derive(Clone, Copy)]
pub struct Package {
    name: &'static str,
    there: There,
}

#[derive(Clone, Copy)]
enum There {
    Program(&'static str),
    File(&'static str),
}

impl Package {
    /// One that brings a program.
    pub const fn with(program: &'static str, name: &'static str) -> Self {
        Self { name, there: There::Program(program) }
    }

    /// One that brings a file.
    pub const fn with_file(path: &'static str, name: &'static str) -> Self {
        Self { name, there: There::File(path) }
    }

    fn is_missing(&self) -> bool {
        match self.there {
            There::Program(program) => !has(program),
            There::File(path) => !Path::new(path).is_file(),
        }
    }
}

fn missing(packages: &[Package]) -> Option<String> {
    let names: Vec<_> = packages.iter().filter(|it| it.is_missing()).map(|it| it.name).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// Installs those of `packages` of which something is missing. What cannot be installed here is an error that says the one
/// command.
pub fn needed(packages: &[Package]) -> Result<(), String> {
    let Some(names) = missing(packages) else { return Ok(()) };
    if is_root() && Path::new("/etc/debian_version").is_file() {
        println!("installing {names}");
        let install = install(&names);
        // Lists of packages may be old or not there at all.
        let script = format!("{install} || {{ apt-get update && {install}; }}");
        let status =
            Command::new("sh").args(["-c", &script]).env("DEBIAN_FRONTEND", "noninteractive").status();
        status.map_err(|error| format!("sh did not start: {error}"))?;
    }
    match missing(packages) {
        Some(names) => {
            Err(format!("not all is here that a step needs. Install it: sudo {}", install(&names)))
        }
        None => Ok(()),
    }
}

fn install(names: &str) -> String {
    format!("apt-get install --yes --no-install-recommends {names}")
}

/// Whether a program of this name can be started.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Whether this runs as root.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_already_is_not_installed() {
        let here = [Package::with("sh", "dash"), Package::with_file("Cargo.toml", "any")];
        assert_eq!(missing(&here), None);
        let some = [here[0], Package::with("no-such-program", "one"), Package::with_file("/no/such", "two")];
        assert_eq!(missing(&some).unwrap(), "one two");
    }
}
