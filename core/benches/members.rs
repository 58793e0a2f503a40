//! Adding somebody to a space of 10, 50, 100 and 250 members, as an app does it: the command, the signed operation, its
//! rows and its place in the outbox, committed to a file; and what all of it takes on disk.
//!
//! `cargo bench -p delta-core --bench members`. Before a figure is printed the space has as many members as it says.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads the clock and prints")]

use std::path::Path;
use std::time::{Duration, Instant};

use delta_core::engine::{Command, CommandId, Engine, Input, Output, Reply};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Identity, LogId, Millis};
use delta_core::ops::{Action, DeviceKey, Level, SpaceText};
use delta_core::store::{Store, StoreOptions};

const SIZES: [usize; 4] = [10, 50, 100, 250];
/// The 250th member is added in at most so long.
const TIME_TARGET: Duration = Duration::from_millis(20);
/// All of a space of 250 members takes at most so many bytes on disk.
const BYTES_TARGET: u64 = 1_000_000;
/// The last so many adds of each size are timed; the fastest counts, the one disturbed least.
const TIMED: usize = 5;
const NOW: Millis = Millis(1_700_000_000_000);

struct App {
    engine: Engine,
    entropy: SeededEntropy,
    next: u64,
}

impl App {
    fn open(path: &Path) -> Self {
        let store = Store::open(path, StoreOptions::default()).unwrap();
        let engine = Engine::open(store, DeviceKey::from_bytes(&[1; 32]), NOW).unwrap();
        Self { engine, entropy: SeededEntropy::new([1; 32]), next: 0 }
    }

    fn command(&mut self, command: Command) -> Reply {
        self.next += 1;
        let input = Input::Command { id: CommandId(self.next), command };
        self.engine.handle(NOW, &mut self.entropy, vec![input]).unwrap();
        let mut answer = None;
        while let Some(output) = self.engine.poll_output() {
            if let Output::Reply { result, .. } = output {
                answer = Some(result.unwrap());
            }
        }
        answer.expect("every command is answered")
    }

    fn add(&mut self, space: LogId, number: usize) -> Duration {
        let member = Identity(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let action = Action::Add { member, level: Level::Write, invite: None, claim: None };
        let started = Instant::now();
        self.command(Command::Act { space, action: Box::new(action) });
        started.elapsed()
    }
}

/// The file and its write-ahead log.
fn bytes(path: &Path) -> u64 {
    let beside = path.with_extension("db-wal");
    [path, &beside].iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum()
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    println!("{:>8} {:>14} {:>14}", "members", "adding one", "bytes on disk");
    for size in SIZES {
        let path = folder.path().join(format!("{size}.db"));
        let mut app = App::open(&path);
        let about = SpaceText { name: "bench".into(), ..SpaceText::default() };
        let Reply::Space { space, .. } = app.command(Command::CreateSpace { about }) else {
            panic!("a space")
        };
        app.engine.close().unwrap();
        let empty = bytes(&path);
        let mut app = App::open(&path);
        let times: Vec<_> = (1..size).map(|number| app.add(space, number)).collect();
        let members = app.engine.reader().unwrap().members(&space).unwrap();
        assert_eq!(members.iter().filter(|row| row.standing.level.is_some()).count(), size);
        app.engine.close().unwrap();
        let taken = bytes(&path).saturating_sub(empty);
        let fastest = times.iter().rev().take(TIMED).min().copied().unwrap_or_default();
        println!("{size:>8} {fastest:>14.1?} {taken:>14}");
        if size == 250 {
            let ratio = fastest.as_secs_f64() / TIME_TARGET.as_secs_f64();
            println!("ratio {ratio:.2} (target <= 1): adding the 250th member / 20 ms");
            println!(
                "ratio {:.2} (target <= 1): 250 members on disk / 1 MB",
                taken as f64 / BYTES_TARGET as f64
            );
        }
    }
}
