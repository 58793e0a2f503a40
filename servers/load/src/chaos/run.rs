//! One chaos run from start to end.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::faults::{self, End, Shortage};
use super::history::Era;
use super::world::{Dice, Life, Notes, World};
use super::{publishers, readers};
use crate::http;
use crate::server::Server;

/// SIGTERM must be over after this long.
const TERM: Duration = Duration::from_secs(10);
/// Publishers and readers must notice the end within this time.
const GATHER: Duration = Duration::from_secs(30);
/// After the faults the server must take deliveries again within this time.
const RECOVERY: Duration = Duration::from_secs(30);
/// A run as long as this must have seen every kind of fault.
const ALL_FAULTS_AFTER: Duration = Duration::from_secs(120);
const PUBLISHERS: usize = 4;
const FOLLOWERS_PER_TOPIC: usize = 2;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `delta-sync` to run.
    pub program: PathBuf,
    /// Decides what is done and in which order.
    pub seed: u64,
    /// How long faults go on.
    pub duration: Duration,
    /// A folder on a small file system that may be filled; without it only limits make disks full.
    pub disk: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What happened how often.
    pub counts: Vec<(&'static str, u64)>,
    /// Everything that is wrong; empty when all is well.
    pub wrong: Vec<String>,
    /// The server's data and log, kept when something is wrong.
    pub folder: Option<PathBuf>,
}

/// Runs the server through faults and compares what it said with what it holds.
///
/// # Errors
/// The run itself could not go on. What the server did wrong is in the report.
pub async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let folder = match &plan.disk {
        Some(disk) => tempfile::tempdir_in(disk),
        None => tempfile::tempdir(),
    };
    let folder = folder.context("a folder for the run")?;
    let world = World::new(plan.seed);
    let mut users = users(&world);
    let mut chaos = Chaos {
        plan,
        data: folder.path().join("data"),
        log: folder.path().join("log"),
        world: Arc::clone(&world),
        dice: world.dice("faults"),
        number: 0,
        era: 0,
    };
    let last = chaos.faults().await?;
    world.stopping.send_replace(true);
    let gathered = timeout(GATHER, async { while users.join_next().await.is_some() {} }).await;
    if gathered.is_err() {
        world.wrong("a publisher or reader hangs".to_owned());
    }
    drop(users);
    chaos.terminate(last).await?;
    chaos.look_at_everything().await?;
    Ok(report(plan, &world, folder))
}

fn users(world: &Arc<World>) -> JoinSet<()> {
    let mut users = JoinSet::new();
    for number in 0..PUBLISHERS {
        users.spawn(publishers::open(Arc::clone(world), number));
        users.spawn(publishers::signed(Arc::clone(world), number));
    }
    for (at, topic) in world.topics().into_iter().enumerate() {
        for number in 0..FOLLOWERS_PER_TOPIC {
            users.spawn(readers::follow(Arc::clone(world), topic, at * FOLLOWERS_PER_TOPIC + number));
        }
        users.spawn(readers::dawdle(Arc::clone(world), topic, at));
    }
    users.spawn(readers::browse(Arc::clone(world)));
    users
}

fn report(plan: &Plan, world: &World, folder: tempfile::TempDir) -> Report {
    let Notes { mut counts, mut wrong } = world.notes().clone();
    let history = world.history();
    counts.insert("operations somebody was told of", history.told() as u64);
    wrong.extend(
        history
            .compare()
            .into_iter()
            .map(|(topic, era, violation)| format!("topic {topic}, era {era}: {violation}")),
    );
    for needed in ["deliveries answered with a seq", "packets taken", "operations received"] {
        if counts.get(needed).is_none_or(|count| *count == 0) {
            wrong.push(format!("nothing was tested: no {needed}"));
        }
    }
    // Short runs may miss some.
    if plan.duration >= ALL_FAULTS_AFTER {
        for needed in ["kills", "terminations", "full disks", "wipes", "slow readers", "deliveries refused"] {
            if counts.get(needed).is_none_or(|count| *count == 0) {
                wrong.push(format!("nothing was tested: no {needed}"));
            }
        }
    }
    let folder = (!wrong.is_empty()).then(|| folder.keep());
    Report { counts: counts.into_iter().collect(), wrong, folder }
}

struct Chaos<'a> {
    plan: &'a Plan,
    data: PathBuf,
    log: PathBuf,
    world: Arc<World>,
    dice: Dice,
    number: u32,
    era: Era,
}

impl Chaos<'_> {
    /// Life after life until the time is over; gives the last server, running.
    async fn faults(&mut self) -> anyhow::Result<Server> {
        let over = Instant::now() + self.plan.duration;
        loop {
            let database = self.database();
            let limits = faults::limits(&mut self.dice, &database);
            let server = self.start(limits.as_deref()).await?;
            self.publish(&server);
            tokio::time::sleep(self.dice.pause(200, 2_000)).await;
            let mut server = self.shortage(server).await?;
            if let Some(status) = server.ended()? {
                self.world.wrong(format!("the server ended by itself with {status}"));
            }
            if Instant::now() >= over {
                return Ok(server);
            }
            self.end(server).await?;
        }
    }

    fn database(&self) -> PathBuf {
        self.data.join("topics.db")
    }

    async fn start(&self, limits: Option<&str>) -> anyhow::Result<Server> {
        let mut arguments = vec!["--accept-v2"];
        if self.plan.disk.is_some() {
            // Less than by default, so that the ballast finds the server writing; more than the write-ahead log holds,
            // which a checkpoint moves into the database even when it fails half-way.
            arguments.extend(["--limit", "disk_free_bytes=134217728"]);
        }
        arguments.extend(limits.into_iter().flat_map(|limits| ["--limit", limits]));
        Server::start(&self.plan.program, &self.data, &self.log, &arguments).await
    }

    /// Everybody may know this server.
    fn publish(&mut self, server: &Server) {
        self.number += 1;
        self.world.count("lives", 1);
        self.world.life.send_replace(Some(self.life(server)));
    }

    fn life(&self, server: &Server) -> Life {
        let Server { address, hop, key, .. } = server;
        Life { number: self.number, era: self.era, address: *address, hop: hop.clone(), key: *key }
    }

    /// The disk is short for a while, perhaps.
    async fn shortage(&mut self, mut server: Server) -> anyhow::Result<Server> {
        let (ballast, database) = (self.data.with_file_name("ballast"), self.database());
        match Shortage::roll(&mut self.dice, self.plan.disk.is_some()) {
            Shortage::None => return Ok(server),
            Shortage::Files => faults::freeze_files(&server, &database, &mut self.dice)?,
            Shortage::FileSystem => faults::fill(&ballast)?,
        }
        self.world.count("full disks", 1);
        tokio::time::sleep(self.dice.pause(100, 1_500)).await;
        // Sometimes the server does not live to see room again; but not by its own doing.
        if server.ended()?.is_none() && self.dice.percent(70) {
            server.limit_files(None)?;
            let _ = std::fs::remove_file(&ballast);
            tokio::time::sleep(self.dice.pause(100, 1_000)).await;
        }
        Ok(server)
    }

    async fn end(&mut self, server: Server) -> anyhow::Result<()> {
        let end = End::roll(&mut self.dice);
        if end == End::Terminate {
            self.terminate(server).await?;
        } else {
            self.world.count("kills", 1);
            server.kill()?;
            self.world.life.send_replace(None);
        }
        // Room again, or the next one could not start.
        let _ = std::fs::remove_file(self.data.with_file_name("ballast"));
        if end == End::Wipe {
            // Before everything is gone: was everything there?
            self.read_logs().await?;
            let database = self.database();
            faults::wipe(&database, &mut self.dice)?;
            self.era += 1;
            self.world.count("wipes", 1);
        }
        Ok(())
    }

    async fn terminate(&mut self, server: Server) -> anyhow::Result<()> {
        self.world.count("terminations", 1);
        let started = Instant::now();
        let status = server.terminate().await?;
        self.world.life.send_replace(None);
        if !status.success() || started.elapsed() > TERM {
            let took = started.elapsed();
            self.world.wrong(format!("SIGTERM: the server ended with {status} after {took:?}"));
        }
        Ok(())
    }

    /// Reads all logs through a server that nobody else knows.
    async fn read_logs(&self) -> anyhow::Result<()> {
        let server = self.start(None).await?;
        for topic in self.world.topics() {
            match readers::whole_log(&self.life(&server), topic).await {
                Ok(log) => self.world.history().log(topic, self.era, log),
                Err(error) => self.world.wrong(format!("the log of {topic} cannot be read: {error}")),
            }
        }
        server.kill()
    }

    /// Faults are over: the server works, its logs can be read, and its own check finds nothing.
    async fn look_at_everything(&self) -> anyhow::Result<()> {
        let _ = std::fs::remove_file(self.data.with_file_name("ballast"));
        let server = self.start(None).await?;
        if !timeout(RECOVERY, self.takes_deliveries(&server)).await.is_ok_and(|taken| taken) {
            self.world.wrong("after the faults the server takes no deliveries".to_owned());
        }
        server.kill()?;
        self.read_logs().await?;
        let check = Command::new(&self.plan.program).args(["check", "--data"]).arg(&self.data).output()?;
        let found = String::from_utf8_lossy(&check.stdout).into_owned();
        ensure!(!found.is_empty(), "delta-sync check says nothing");
        if !check.status.success() || !found.contains(" 0 problems") {
            self.world.wrong(format!("delta-sync check: {found}"));
        }
        Ok(())
    }

    async fn takes_deliveries(&self, server: &Server) -> bool {
        for topic in &self.world.open {
            let body = format!(r#"{{"topic_hex":"{topic}","op_base64":"dGhlIGVuZA=="}}"#);
            let request = http::post("/deliver", "application/json", body.as_bytes());
            while !http::once(server.address, &request).await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        true
    }
}
