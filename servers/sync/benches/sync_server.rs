//! Speed and memory of the real server under load: `cargo xtask bench sync_server [-- PART]`.
//!
//! Generator and server share the machine's cores, so what is compared is the processor time the server's process used
//! (see `delta_load::bench`). Beside it stands the bare work no server can do without, measured in this run: opening
//! the packet, checking the write signature, answering a POST, inserting a row and its share of a commit.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod bare;

use std::path::Path;

use anyhow::Result;
use bare::Bare;
use delta_load::bench::{Figure, deliveries, fan_out, idle, latency, replay};

/// Operations of a shared packet: 64 KiB hold 139.
const SHARED: usize = 128;
const SINGLE_PACKETS: usize = 30_000;
const SHARED_PACKETS: usize = 1_600;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    // `cargo test --benches` only checks that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let part = arguments.find(|argument| !argument.starts_with("--")).unwrap_or_default();
    // Before a runtime is there: it has its own.
    let bare = bare::measure()?;
    bare.print();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let program = Path::new(env!("CARGO_BIN_EXE_delta-sync"));
    runtime.block_on(run(program, &part, &bare))
}

async fn run(program: &Path, part: &str, bare: &Bare) -> Result<()> {
    let wanted = |name: &str| part.is_empty() || name.contains(part);
    if wanted("deliveries") {
        measure_deliveries(program, bare).await?;
    }
    if wanted("fan-out") {
        measure_fan_out(program).await?;
    }
    if wanted("replay") {
        for (packets, rounds) in [(80, 30), (800, 5)] {
            let figure = replay(program, packets, SHARED, rounds).await?;
            row(&format!("replay of {} operations to one subscriber", packets * SHARED), &figure);
            let rate = figure.per_core();
            println!(
                "ratio {:.2} (target >= 1): replay of {} operations / 500k/s",
                rate / 5e5,
                packets * SHARED
            );
        }
    }
    if wanted("idle") {
        for sockets in [1_000, 10_000] {
            let bytes = idle(program, sockets).await? as f64;
            println!(
                "{sockets:>6} idle sockets        {:>8.1} MB, {:.0} bytes each",
                bytes / 1e6,
                bytes / sockets as f64
            );
            if sockets == 10_000 {
                println!("ratio {:.2} (target <= 1): memory of 10,000 idle sockets / 150 MB", bytes / 150e6);
            }
        }
    }
    Ok(())
}

async fn measure_deliveries(program: &Path, bare: &Bare) -> Result<()> {
    let mut half = 0.0;
    for topics in [1, 100, 1000] {
        let figure = deliveries(program, topics, SINGLE_PACKETS, 1).await?;
        row(&format!("single operations, {topics} topics"), &figure);
        half = figure.per_second() / 2.0;
        let core = figure.per_core();
        println!(
            "ratio {:.2} (target >= 1): single deliveries of one core, {topics} topics / 8k/s",
            core / 8e3
        );
        println!(
            "ratio {:.2} (target ): single deliveries of one core, {topics} topics / bare work",
            core / bare.single()
        );
    }
    for topics in [1, 100, 1000] {
        let figure = deliveries(program, topics, SHARED_PACKETS, SHARED).await?;
        row(&format!("{SHARED} operations a packet, {topics} topics"), &figure);
        let core = figure.per_core();
        println!(
            "ratio {:.2} (target >= 1): shared deliveries of one core, {topics} topics / 60k/s",
            core / 6e4
        );
        println!(
            "ratio {:.2} (target ): shared deliveries of one core, {topics} topics / bare work",
            core / bare.shared(SHARED)
        );
    }
    let late = latency(program, half, 15_000, 1).await?;
    println!(
        "half load ({half:.0}/s): p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        late.p50, late.p99, late.max
    );
    println!("ratio {:.2} (target <= 1): p99 at half load / 50 ms", late.p99 / 50.0);
    Ok(())
}

async fn measure_fan_out(program: &Path) -> Result<()> {
    for (subscribers, packets) in [(1, 1600), (10, 800), (100, 160), (1000, 24)] {
        let figure = fan_out(program, subscribers, packets, SHARED).await?;
        row(&format!("fan-out to {subscribers} subscribers"), &figure);
        if subscribers >= 100 {
            let rate = figure.per_core();
            println!("ratio {:.2} (target >= 1): fan-out to {subscribers} subscribers / 500k/s", rate / 5e5);
        }
    }
    let late = latency(program, 1_000.0, 5_000, 100).await?;
    println!(
        "1,000/s to 100 subscribers: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        late.p50, late.p99, late.max
    );
    row("1,000/s to 100 subscribers", &late.figure);
    println!("ratio {:.2} (target <= 1): p99 of 1,000/s to 100 subscribers / 20 ms", late.p99 / 20.0);
    Ok(())
}

fn row(what: &str, figure: &Figure) {
    println!(
        "{what:<44} {:>9.0} /s on the clock {:>9.0} /s of one core {:>7.2} us each {:>6} commits",
        figure.per_second(),
        figure.per_core(),
        figure.micros(),
        figure.commits
    );
}
