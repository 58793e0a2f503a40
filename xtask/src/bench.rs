//! `cargo xtask bench`: the benchmarks, as one table with ratios.
//!
//! What a machine does in a second says little about a program; what the program takes beside the bare work it cannot
//! do without, measured in the same run, says much. So each row sets one benchmark against its peer. The fastest
//! sample counts: on a machine with other work it is the one that was disturbed least. Nothing fails here: whether
//! a figure is good enough is for whoever reads the table.
//!
//! `bindings` is on its own: it needs Python, the JVM and the library as it ships; with `--debug` the debug build, whose
//! figures say nothing: only that the benchmark works.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::floors::CRATES;
use crate::{Failure, bindings, cargo};

/// The benchmarks beside sphinx-packet: a workspace of their own, so that its dependencies stay out of ours.
const SPHINX: &str =
    "bench --quiet --manifest-path benches/sphinx/Cargo.toml --target-dir target/sphinx --bench sphinx";

/// A benchmark, its peer, and the ratio of their times to reach (empty: none was set).
struct Row {
    what: &'static str,
    ours: &'static str,
    peer: &'static str,
    target: &'static str,
}

const fn row(what: &'static str, ours: &'static str, peer: &'static str, target: &'static str) -> Row {
    Row { what, ours, peer, target }
}

const ROWS: [Row; 9] = [
    row(
        "build 4 layers, 4 KiB / bare primitives",
        "onion/build_4_layers",
        "onion/build_4_layers_bare",
        "<= 1.1",
    ),
    row("peel 4 KiB / bare primitives", "onion/peel", "onion/peel_bare", "<= 1.1"),
    row(
        "build 4 layers, 4 KiB / sphinx-packet 0.8",
        "sphinx/delta_build_4_layers",
        "sphinx/sphinx_build_4_layers",
        "<= 0.55",
    ),
    row("peel 4 KiB / sphinx-packet 0.8", "sphinx/delta_peel", "sphinx/sphinx_peel", "<= 0.55"),
    row("seal a message / bare AEAD", "ops/seal", "ops/seal_bare", "<= 1.25"),
    row("open a message / bare AEAD", "ops/open", "ops/open_bare", "<= 1.25"),
    row("create an operation / bare signature", "ops/create_operation", "ops/create_bare", ""),
    row("verify an operation / bare strict check", "ops/verify_operation", "ops/verify_bare", ""),
    row("verify a delivery / bare strict check", "ops/verify_delivery", "ops/verify_bare", ""),
];

/// Runs the benchmarks whose names hold the first argument (all when there is none), one after another: they would
/// disturb each other. What follows the name goes to the benchmark.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let (filter, more) =
        arguments.split_first().map_or(("", arguments), |(name, more)| (name.as_str(), more));
    if filter == "bindings" {
        let library = match more {
            [] => bindings::Library::AsItShips,
            [debug] if debug == "--debug" => bindings::Library::Debug,
            _ => return Err(Failure::Usage("bench bindings takes --debug or nothing".to_owned())),
        };
        let output = bindings::bench(library).map_err(Failure::Failed)?;
        print!("\n{}", table(&output));
        return Ok(());
    }
    let chosen: Vec<_> = programs().into_iter().filter(|(name, _)| name.contains(filter)).collect();
    if chosen.is_empty() {
        return Err(Failure::Usage(format!("no benchmark is called `{filter}`")));
    }
    let mut output = String::new();
    for (name, line) in chosen {
        println!("\n━━ {name} ━━");
        output.push_str(&shown(&line, more)?);
    }
    print!("\n{}", table(&output));
    Ok(())
}

/// Name and cargo command line of every file in a `benches` folder.
fn programs() -> Vec<(String, String)> {
    let mut found = vec![("sphinx".to_owned(), SPHINX.to_owned())];
    for (folder, package, _) in CRATES {
        let files = std::fs::read_dir(cargo::root().join(folder).join("benches"));
        let paths = files.into_iter().flatten().flatten().map(|entry| entry.path());
        let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        found.extend(sources.filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            // Measured as programs use it: with Curve25519 in assembly.
            let features = if package == "delta-core" { " --all-features" } else { "" };
            let line = format!("bench --quiet --locked -p {package}{features} --bench {name}");
            Some((name, line))
        }));
    }
    found.sort();
    found
}

/// Runs one benchmark program, showing what it prints while it prints it.
fn shown(line: &str, more: &[String]) -> Result<String, Failure> {
    let mut words = cargo::line(&format!("{line} --"));
    words.extend_from_slice(more);
    let failed = |what: String| Failure::Failed(format!("cargo {}: {what}", words.join(" ")));
    let mut child =
        cargo::command(&words).stdout(Stdio::piped()).spawn().map_err(|error| failed(error.to_string()))?;
    let mut output = String::new();
    for printed in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let printed = printed.map_err(|error| failed(error.to_string()))?;
        println!("{printed}");
        output.push_str(&printed);
        output.push('\n');
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(output) } else { Err(failed(status.to_string())) }
}

/// The fastest time of every benchmark in divan's output, nanoseconds, by `program/name`.
fn fastest(text: &str) -> BTreeMap<String, f64> {
    let mut program = "";
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((_, leaf)) = line.split_once("─ ") else {
            program = line.split_whitespace().next().filter(|_| line.contains("fastest")).unwrap_or(program);
            continue;
        };
        let mut words = leaf.split_whitespace();
        if let (Some(name), Some(number), Some(unit)) = (words.next(), words.next(), words.next())
            && let Some(time) = nanoseconds(number, unit)
        {
            found.insert(format!("{program}/{name}"), time);
        }
    }
    found
}

fn nanoseconds(number: &str, unit: &str) -> Option<f64> {
    let factor = match unit {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// What a program that measures by itself prints: `ratio 0.70 (target >= 0.6): what / its peer`.
fn own_ratio(line: &str) -> Option<(&str, f64, &str)> {
    let (ratio, rest) = line.strip_prefix("ratio ")?.split_once(" (target ")?;
    let (target, what) = rest.split_once("): ")?;
    Some((what, ratio.parse().ok()?, target))
}

fn is_reached(ratio: f64, target: &str) -> Option<bool> {
    let (sign, limit) = target.split_once(' ')?;
    let limit: f64 = limit.parse().ok()?;
    match sign {
        "<=" => Some(ratio <= limit),
        ">=" => Some(ratio >= limit),
        _ => None,
    }
}

fn table(output: &str) -> String {
    let times = fastest(output);
    let mut rows: Vec<(&str, f64, &str)> = Vec::new();
    for row in &ROWS {
        if let (Some(ours), Some(peer)) = (times.get(row.ours), times.get(row.peer)) {
            rows.push((row.what, ours / peer, row.target));
        }
    }
    rows.extend(output.lines().filter_map(own_ratio));
    let width = rows.iter().map(|(what, ..)| what.chars().count()).max().unwrap_or(0);
    let mut out = format!("{:width$}  ratio  target\n", "what / its peer");
    for (what, ratio, target) in rows {
        let reached = match is_reached(ratio, target) {
            Some(true) => "  reached",
            Some(false) => "  NOT REACHED",
            None => "",
        };
        out.push_str(&format!("{what:width$}  {ratio:>5.2}  {target}{reached}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
Timer precision: 20 ns
onion                   fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ build_4_layers       220.5 µs      │ 1.003 ms      │ 225 µs        │ 231.4 µs      │ 100     │ 100
├─ build_4_layers_bare  210 µs        │ 399.1 µs      │ 211.9 µs      │ 219 µs        │ 100     │ 100
╰─ peel                 999.9 ns      │ 60.1 µs       │ 46.2 µs       │ 46.9 µs       │ 100     │ 100

";

    #[test]
    fn the_fastest_times_are_read_from_divans_tree() {
        let times = fastest(OUTPUT);
        assert_eq!(times.len(), 3);
        assert_eq!(times["onion/build_4_layers"], 220_500.0);
        assert_eq!(times["onion/peel"], 999.9);
    }

    #[test]
    fn the_table_holds_what_was_measured_and_its_ratio() {
        let table = table(&format!("{OUTPUT}ratio 0.70 (target >= 0.8): a / b\n"));
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("   1.05  <= 1.1  reached"), "{table}");
        assert!(table.contains("   0.70  >= 0.8  NOT REACHED"), "{table}");
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.what != row.what), "{}", row.what);
        }
    }
}
