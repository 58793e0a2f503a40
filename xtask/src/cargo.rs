//! Running cargo: the right binary, the right folder, and the flag that an older compiler needs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// p2panda 0.7.x declares this version; it compiles unchanged below it with `--ignore-rust-version`.
const DECLARED_MINOR: u32 = 96;

/// Subcommands that check `rust-version` and take `--ignore-rust-version`.
const CHECKS_RUST_VERSION: [&str; 7] = ["bench", "build", "check", "clippy", "nextest", "run", "test"];

/// The repository's root: the parent of this crate's folder, as cargo tells it when it runs this program. (A program
/// in a copied `target` folder was built for another checkout.)
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = Path::new(&here);
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder of a profile's programs, beside the one this program was built into.
pub fn programs(profile: &str) -> Result<PathBuf, String> {
    let own =
        std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
    let target = own.parent().and_then(Path::parent).ok_or("this program is not in a target folder")?;
    Ok(target.join(profile))
}

/// A cargo command line, with `--ignore-rust-version` exactly when the compiler is older than 1.96.
///
/// `line` is what follows `cargo`, split at blanks; what stands after ` -- ` goes to the program cargo runs.
pub fn line(line: &str) -> Vec<String> {
    with_flag(line, rustc_minor().is_some_and(|minor| minor < DECLARED_MINOR))
}

fn with_flag(line: &str, old: bool) -> Vec<String> {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let checks = words.first().is_some_and(|first| CHECKS_RUST_VERSION.contains(&first.as_str()));
    if checks && old {
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.insert(end, "--ignore-rust-version".to_owned());
    }
    words
}

/// The command for [`line`]'s words, in the repository's root.
pub fn command(words: &[String]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(root());
    command
}

/// Whether `cargo <name>` is installed.
pub fn has(name: &str) -> bool {
    command(&[name.to_owned(), "--version".to_owned()]).output().is_ok_and(|output| output.status.success())
}

/// Standard output of a cargo command that must succeed.
pub fn output(words: &[String]) -> Result<String, String> {
    let output = command(words).output().map_err(|error| format!("cargo did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo {}:\n{}", words.join(" "), String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|_| "cargo's output is not UTF-8".to_owned())
}

/// Installs the standard library of `target` where rustup can; whether it is there then.
pub fn add_target(target: &str) -> bool {
    let added = Command::new("rustup").args(["target", "add", target]).current_dir(root()).status();
    added.is_ok_and(|status| status.success()) && has_target(target)
}

/// Whether the compiler has the standard library of `target`.
pub fn has_target(target: &str) -> bool {
    rustc(&["--print", "sysroot"]).is_some_and(|sysroot| {
        Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir()
    })
}

fn rustc(arguments: &[&str]) -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(arguments).current_dir(root()).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

fn rustc_minor() -> Option<u32> {
    minor_of(&rustc(&["--version"])?)
}

/// The minor version in `rustc 1.95.0 (…)`; a major above 1 counts as newer than any minor.
fn minor_of(version: &str) -> Option<u32> {
    let mut numbers = version.split_whitespace().nth(1)?.split('.');
    match numbers.next()?.parse::<u32>().ok()? {
        1 => numbers.next()?.parse().ok(),
        _ => Some(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_programs_arguments_and_only_where_cargo_takes_it() {
        assert_eq!(
            with_flag("run -p x -- --seed 1", true).join(" "),
            "run -p x --ignore-rust-version -- --seed 1"
        );
        assert_eq!(with_flag("build -p x", true).join(" "), "build -p x --ignore-rust-version");
        assert_eq!(with_flag("build -p x", false).join(" "), "build -p x");
        assert_eq!(with_flag("fmt --all", true).join(" "), "fmt --all");
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(minor_of("rustc 1.95.0 (abc 2026-03-21)"), Some(95));
        assert_eq!(minor_of("rustc 1.97.0-nightly (abc 2026-03-21)"), Some(97));
        assert_eq!(minor_of("rustc 2.0.0"), Some(u32::MAX));
        assert_eq!(minor_of(""), None);
    }
}
