//! `cargo xtask size`: the library that ships in an app, built as it ships, and what of it belongs to whom.
//!
//! Built once with symbols, which `nm` reads; `strip` then gives the file that ships. (binutils; a minute or ten of
//! compiling.) The flags are those of packaging/rustflags.sh, whatever this machine is set up for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::{Failure, cargo};

/// What the stripped library stays under, bytes.
const LIMIT: u64 = 6_000_000;
const PAGE: &str = "docs/size.md";
/// What a library that ships is compiled and linked with.
const FLAGS: &str = "packaging/rustflags.sh";
/// Rows of the table; the rest is summed.
const ROWS: usize = 24;

/// Builds, measures, writes the page; an error when the library is too large.
pub fn run() -> Result<(), Failure> {
    write().map_err(Failure::Failed)
}

/// For CI: whether the library is too large.
pub fn problems() -> Vec<String> {
    let size = measure().and_then(|(size, _)| {
        println!("the library as it ships: {size} bytes; {LIMIT} are the limit");
        within(size)
    });
    size.err().into_iter().collect()
}

fn write() -> Result<(), String> {
    let (size, symbols) = measure()?;
    let page = page(size, &by_owner(&symbols));
    let path = cargo::root().join(PAGE);
    std::fs::write(&path, &page).map_err(|error| format!("{}: {error}", path.display()))?;
    print!("{page}");
    within(size)
}

fn within(size: u64) -> Result<(), String> {
    if size >= LIMIT {
        return Err(format!("the library as it ships has {size} bytes: {LIMIT} is the limit"));
    }
    Ok(())
}

/// The size of the stripped library, and the symbols of one that is not.
fn measure() -> Result<(u64, String), String> {
    let line = "build --profile mobile --locked -p delta-ffi --lib --config profile.mobile.strip=false";
    let flags = output(Command::new(cargo::root().join(FLAGS)).arg("linux"))?;
    output(cargo::command(&cargo::line(line)).env("CARGO_ENCODED_RUSTFLAGS", &flags))?;
    let folder = cargo::programs("mobile")?;
    let name = format!("{}delta_ffi{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let (built, stripped) = (folder.join(&name), folder.join(format!("stripped-{name}")));
    output(Command::new("strip").arg("--strip-all").arg("-o").arg(&stripped).arg(&built))?;
    let size = length(&stripped)?;
    let symbols =
        output(Command::new("nm").args(["--demangle", "--print-size", "--defined-only"]).arg(&built))?;
    Ok((size, symbols))
}

fn page(size: u64, owners: &BTreeMap<String, u64>) -> String {
    let mut rows: Vec<(&str, u64)> = owners.iter().map(|(owner, bytes)| (owner.as_str(), *bytes)).collect();
    rows.sort_by_key(|(owner, bytes)| (std::cmp::Reverse(*bytes), *owner));
    let named: u64 = rows.iter().map(|(_, bytes)| bytes).sum();
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let mut page = format!(
        "# Size of the library\n\nWritten by `cargo xtask size`: the profile `mobile` for {target}, stripped. {size} bytes; {LIMIT} are the\n\
         limit. Compiled and linked with the flags of {FLAGS}; what was left out for it, and what that saved: docs/adr/0016.\n\n\
         What its symbols add up to, by crate ({named} bytes; tables without a symbol, unwinding and relocations are the rest).\n\
         Generic code counts for the crate that defines it.\n\n| crate | bytes |\n|---|---:|\n"
    );
    let (shown, rest) = rows.split_at(rows.len().min(ROWS));
    let rest: u64 = rest.iter().map(|(_, bytes)| bytes).sum();
    for (owner, bytes) in shown.iter().copied().chain([("all others", rest)]) {
        let _ = writeln!(page, "| {owner} | {bytes} |");
    }
    page
}

/// Bytes by crate, of what `nm` prints: `address size type name`.
fn by_owner(symbols: &str) -> BTreeMap<String, u64> {
    let mut owners = BTreeMap::new();
    for line in symbols.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(_), Some(size), Some(kind), Some(name)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        // Zeros take no room in the file.
        let Ok(size) = u64::from_str_radix(size, 16) else { continue };
        if !matches!(kind, "b" | "B") {
            *owners.entry(owner(name)).or_default() += size;
        }
    }
    owners
}

/// The crate of a demangled name: its first path's first part.
fn owner(name: &str) -> String {
    let start = name.trim_start_matches(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let start = start.strip_prefix("dyn ").or_else(|| start.strip_prefix("mut ")).unwrap_or(start);
    let end = start.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(start.len());
    match (start.get(..end), start.get(end..)) {
        (Some(owner), Some(rest)) if rest.starts_with("::") => owner.to_owned(),
        (Some(owner), _) if owner.starts_with("uniffi_") || owner.starts_with("ffi_") => {
            "delta_ffi".to_owned()
        }
        _ => "SQLite and other C".to_owned(),
    }
}

fn length(path: &Path) -> Result<u64, String> {
    std::fs::metadata(path).map(|file| file.len()).map_err(|error| format!("{}: {error}", path.display()))
}

fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    println!("$ {shown}");
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{shown} did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{shown} ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_belong_to_the_crate_that_defines_them() {
        for (name, wanted) in [
            ("core::fmt::Formatter::pad", "core"),
            ("<alloc::vec::Vec<T> as core::fmt::Debug>::fmt", "alloc"),
            ("<&mut delta_core::store::Store as x::Y>::z", "delta_core"),
            ("<dyn tracing_core::Subscriber>::is", "tracing_core"),
            ("sqlite3_step", "SQLite and other C"),
            ("uniffi_delta_ffi_fn_func_decrypt_push", "delta_ffi"),
        ] {
            assert_eq!(owner(name), wanted, "{name}");
        }
    }

    #[test]
    fn sizes_add_up_and_zeros_do_not_count() {
        let symbols = "0000000000001000 0000000000000010 T core::a\n0000000000002000 0000000000000006 t core::b\n\
                       0000000000003000 0000000000001000 b core::zeros\n0000000000004000 T core::no_size\n";
        assert_eq!(by_owner(symbols), BTreeMap::from([("core".to_owned(), 22)]));
        let page = page(5, &by_owner(symbols));
        assert!(page.contains("| core | 22 |\n| all others | 0 |"), "{page}");
    }

    #[test]
    fn a_library_at_its_limit_is_too_large() {
        assert!(within(LIMIT - 1).is_ok());
        assert!(within(LIMIT).unwrap_err().contains("6000000 is the limit"));
    }
}
