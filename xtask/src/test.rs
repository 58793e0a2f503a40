//! `cargo xtask test`: all that CI runs but Swift and the size of the library, in the order that finds the cheap mistakes first.
//! Swift, which needs root and a minute or two the first time, is a run of its own: `cargo xtask test --swift`, and so is the
//! size: `cargo xtask test --only size`. CI runs all of it: `--all`.

use crate::steps::{Action, ONE_STEP, Outcome, Step, not_here, run_all, run_cargo, run_here};
use crate::{
    Failure, bans, bindings, browser, cargo, dependencies, floors, links, notices, packaging, python,
    sample_app, size, vectors,
};

/// The simulation CI runs: a few worlds, always the same, well under a minute. `cargo xtask sim --seeds 200` looks
/// further.
const SIMULATION: &str = "--seed 1 --seeds 8 --steps 400";

/// The same for people who come to a space and go. `cargo xtask sim --town --seeds 200` looks further.
const TOWN: &str = "--town --seed 1 --seeds 8 --steps 40";

/// The step that runs in a root of its own.
const SWIFT: &str = "binding-swift";

/// The chaos run CI does: long enough for every fault a few times. `cargo xtask chaos --minutes 10` looks further.
const CHAOS: &str = "--seed 1 --seconds 25";

/// What the library weighs as it ships: five minutes of compiling that nothing else needs.
const SIZE: &str = "size";

/// Runs all steps but Swift's and the size, with `--all` those too; or with `--only STEP` one, or with `--swift` the one that
/// needs root.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut steps = steps();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => steps.retain(|step| ![SWIFT, SIZE].contains(&step.name)),
        ["--all"] => {}
        ["--list"] => {
            steps.iter().for_each(|step| println!("{}", step.name));
            return Ok(());
        }
        ["--swift"] => only(&mut steps, SWIFT)?,
        ["--only", name] => only(&mut steps, name)?,
        [ONE_STEP, name] => {
            steps.retain(|step| step.name == *name);
            return steps.first().map_or(Err(unknown(name)), run_here);
        }
        other => return Err(Failure::Usage(format!("cargo xtask test does not know `{}`", other.join(" ")))),
    }
    if run_all(&steps) { Ok(()) } else { Err(Failure::Exit(1)) }
}

/// Leaves this step, after the programs if it starts some: a program is only as fresh as its last build.
fn only(steps: &mut Vec<Step>, name: &str) -> Result<(), Failure> {
    steps.retain(|step| step.name == name);
    let step = steps.first().ok_or_else(|| unknown(name))?;
    if matches!(step.action, Action::Program(..) | Action::Work(_)) || matches!(name, "browser" | "tests") {
        steps.insert(0, programs());
    }
    Ok(())
}

fn unknown(name: &str) -> Failure {
    Failure::Usage(format!("no step is called `{name}`; see cargo xtask test --list"))
}

fn steps() -> Vec<Step> {
    vec![
        cargo_step("format", "fmt --all --check"),
        Step { name: "floors", action: Action::Check(floors::problems) },
        Step { name: "bans", action: Action::Check(bans::in_core) },
        Step { name: "sql", action: Action::Check(bans::sql_outside_the_store) },
        Step { name: "links", action: Action::Check(links::problems) },
        Step { name: "dependencies", action: Action::Check(dependencies::problems) },
        Step { name: "notices", action: Action::Check(notices::problems) },
        cargo_step("clippy", "clippy --workspace --all-targets --locked -- -D warnings"),
        programs(),
        tests(),
        dht(),
        cargo_step("doc-tests", "test --workspace --doc --locked"),
        // Not --locked: a dependency added to core would otherwise have to be locked three times.
        cargo_step("fuzz", "test --manifest-path fuzz/Cargo.toml --target-dir target"),
        simulation(),
        Step { name: "simulation-town", action: Action::Program("delta-sim", TOWN.to_owned()) },
        Step { name: "conformance", action: Action::Program("delta-conformance", String::new()) },
        Step { name: "chaos", action: Action::Program("delta-chaos", CHAOS.to_owned()) },
        Step { name: "vectors", action: Action::Work(vectors::reproduced) },
        Step { name: "python", action: Action::Work(python::client) },
        Step { name: "bindings", action: Action::Work(bindings::compare) },
        Step { name: "binding-python", action: Action::Work(bindings::python) },
        Step { name: "binding-kotlin", action: Action::Work(bindings::kotlin) },
        Step { name: "binding-typescript", action: Action::Work(bindings::typescript) },
        Step { name: SWIFT, action: Action::Work(bindings::swift) },
        Step { name: "packaging", action: Action::Check(packaging::problems) },
        Step { name: "sample-app", action: Action::Work(sample_app::screens) },
        Step { name: "browser", action: Action::Check(browser::problems) },
        cargo_step("storage-free-core", "build -p delta-core --no-default-features --locked"),
        cargo_step("storage-free-topic-log", "build -p delta-topic-log --locked"),
        wasm(),
        Step { name: SIZE, action: Action::Check(size::problems) },
    ]
}

fn cargo_step(name: &'static str, line: &str) -> Step {
    Step { name, action: Action::Cargo(line.to_owned()) }
}

/// The programs that tests of other crates and the simulation step start.
fn programs() -> Step {
    cargo_step("programs", "build --workspace --bins --locked")
}

fn tests() -> Step {
    if cargo::has("nextest") {
        return cargo_step("tests", "nextest run --workspace --no-fail-fast --locked");
    }
    println!("cargo-nextest is not installed: the tests run with cargo test, which is slower");
    cargo_step("tests", "test --workspace --lib --bins --tests --examples --no-fail-fast --locked")
}

/// The programs with the DHT, which no other build of them has: against a few nodes on this machine.
fn dht() -> Step {
    cargo_step("dht", "test -p delta-cli --features dht --test dht --locked")
}

fn simulation() -> Step {
    Step { name: "simulation", action: Action::Program("delta-sim", SIMULATION.to_owned()) }
}

fn wasm() -> Step {
    Step { name: "wasm32", action: Action::Work(check_wasm) }
}

fn check_wasm() -> Outcome {
    const TARGET: &str = "wasm32-unknown-unknown";
    if !cargo::has_target(TARGET) && !cargo::add_target(TARGET) {
        return not_here(&format!("the target {TARGET} is not installed (rustup target add {TARGET})"));
    }
    // The topic log brings the storage-free core with it.
    run_cargo(&format!("check -p delta-topic-log --locked --target {TARGET}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_name_of_its_own_and_can_be_run_alone() {
        let names: Vec<&str> = steps().iter().map(|step| step.name).collect();
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{name}");
            let mut alone = steps();
            assert!(only(&mut alone, name).is_ok());
            assert_eq!(alone.last().map(|step| step.name), Some(*name));
        }
        assert!(names.contains(&SWIFT) && only(&mut steps(), "no such step").is_err());
    }
}
