//! `delta demo`: the main job for real, on this machine: two devices, three relays, one sync server, and an outage.

mod alone;
mod cluster;
mod conversation;
mod devices;
mod hostile;
mod members;
mod program;
mod report;
mod search;
mod tap;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use delta_client::Client;
use delta_core::ops::Ticket;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;

use crate::input::stdin_lines;
use crate::output::Output;
use crate::platform::{PlatformEntropy, instant, interrupted};
use cluster::Cluster;
use conversation::Conversation;
use devices::Device;
use members::Members;
use program::Watch;
use report::Report;
use search::Needles;

/// Fewer lines are no conversation.
const MIN_LINES: usize = 20;
/// How long closing a device may take.
const CLEAR: Duration = Duration::from_secs(5);
/// How long all of it may take to be ended and taken away after a signal.
const FAREWELL: Duration = Duration::from_secs(60);
/// The text that is published unless another is given.
const TEXT: &str = include_str!("../../data/genesis-exodus-kjv.txt");
/// How long the killed programs stay away.
const AWAY: Duration = Duration::from_millis(500);
/// How long the outboxes may take to empty after the last line has arrived.
const DRAIN: Duration = Duration::from_secs(60);

const HELP: &str = "\
Everything happens on loopback, with its data in a temporary folder, and is gone afterwards. Half-way the sync
server and one relay are killed (SIGKILL) and started again. Exit code 0 only when no line is lost or doubled, both
devices end alike, a third who joins by invitation reads what was said before and nothing once removed, neither the wire nor the server's disk shows an author, a kind of operation or a text, and both
devices read through tunnels: the server sees a relay's address. (Nothing here has a certificate, so that all of it
can be looked at; with TLS the relay of a tunnel sees no topic.)";

/// Show the main job: two devices talk through three relays and a sync server.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Options {
    /// The text to publish, line by line.
    #[arg(long, value_name = "FILE", conflicts_with = "serve")]
    input: Option<PathBuf>,
    /// Keep the data in this folder, which must not exist.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// A fourth relay, which drops and changes nearly every packet and sends the others on twice: nothing may be lost
    /// or doubled, and the report says what the devices did about it. It behaves once the lines are through.
    #[arg(long, conflicts_with = "serve")]
    hostile_relay: bool,
    /// Only start the server and the relays, say how to reach them, and run until standard input ends.
    #[arg(long)]
    serve: bool,
}

/// Runs the demo, prints its report, and fails when something is not as it must be.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let text = match &options.input {
        Some(path) => input(path)?,
        None => TEXT.to_owned(),
    };
    let lines = lines(&text)?;
    let temporary = tempfile::tempdir().context("a temporary folder")?;
    let folder = match &options.keep {
        Some(folder) => {
            std::fs::create_dir(folder).with_context(|| folder.display().to_string())?;
            folder.canonicalize()?
        }
        None => temporary.path().to_path_buf(),
    };
    let (watch, mut ended) = mpsc::unbounded_channel();
    let progress = progress(output, lines.len());
    let hostile = options.hostile_relay;
    let mut stage = Stage { folder, watch, progress, hostile, cluster: None, devices: None, third: None };
    let playing = async {
        if options.serve { serve(&mut stage, output).await } else { play(&mut stage, &lines, output).await }
    };
    let done = tokio::select! {
        biased;
        signal = interrupted(FAREWELL) => match signal {
            Ok(_) if options.serve => Ok(()),
            Ok(signal) => Err(signal.into()),
            Err(error) => Err(error.into()),
        },
        Some(ended) = ended.recv() => Err(anyhow!(ended.describe())),
        done = playing => done,
    };
    stage.clear().await;
    // What failed may have failed because a program ended.
    let done = match ended.try_recv() {
        Ok(ended) if done.is_err() => done.context(ended.describe()),
        _ => done,
    };
    if let Err(error) = temporary.close() {
        output.note(&format!("the temporary folder stays: {error}"));
    }
    done
}

/// Everything that must be ended and taken away, however the demo ends.
struct Stage {
    folder: PathBuf,
    watch: Watch,
    progress: ProgressBar,
    /// Whether there is a hostile relay.
    hostile: bool,
    cluster: Option<Cluster>,
    devices: Option<[Device; 2]>,
    third: Option<Client>,
}

impl Stage {
    /// Closes the devices, ends the programs, and waits until neither writes any more.
    async fn clear(&mut self) {
        self.progress.finish_and_clear();
        let clients = self.devices.take().into_iter().flatten().map(|device| device.client);
        for client in clients.chain(self.third.take()) {
            // Its data is about to be removed: how it ends matters to nobody.
            let _ = tokio::time::timeout(CLEAR, client.close()).await;
        }
        if let Some(mut cluster) = self.cluster.take() {
            let _ = cluster.stop().await;
        }
    }
}

/// The text of a file.
fn input(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    ensure!(!path.is_dir(), "--input {name} is a folder: name a text file in it");
    let bytes = std::fs::read(path).with_context(|| format!("--input {name}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("--input {name} is not UTF-8 (byte {at}): convert it, for instance with `iconv -t UTF-8`")
    })
}

/// The lines that say something, each numbered when it occurs more than once: every message must be its own.
fn lines(text: &str) -> anyhow::Result<Vec<String>> {
    let mut seen = std::collections::HashMap::<&str, usize>::new();
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let times = seen.entry(line).or_default();
        *times += 1;
        lines.push(if *times == 1 { line.to_owned() } else { format!("{line} [{times}]") });
    }
    let found = lines.len();
    ensure!(
        found >= MIN_LINES,
        "the text has {found} lines that are not empty, the demo needs {MIN_LINES}: give a longer one with --input, \
         or none for the text that comes with the demo"
    );
    Ok(lines)
}

async fn play(stage: &mut Stage, lines: &[String], output: &Output) -> anyhow::Result<()> {
    let report = show(stage, lines, output).await?;
    if output.is_json() {
        output.value(&report.json())?;
    } else {
        output.line(&report.table())?;
    }
    let wrong = report.wrong();
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

async fn show(stage: &mut Stage, lines: &[String], output: &Output) -> anyhow::Result<Report> {
    let Stage { folder, watch, progress, hostile, cluster, devices, third } = stage;
    let begun = instant();
    let ticket = Ticket::generate_private(&mut PlatformEntropy)?;
    let paths = [folder.join("device-a.db"), folder.join("device-b.db")];
    let opened = [Device::open(&paths[0], &ticket).await?, Device::open(&paths[1], &ticket).await?];
    let [a, b] = devices.insert(opened);
    let c = third.insert(Device::client(&folder.join("device-c.db")).await?);
    let authors = [&a.client, &b.client, c].map(|client| client.author().0);
    let mut texts = [lines, &members::NAMES.map(str::to_owned)].concat();
    texts.extend(alone::texts());
    let needles = Arc::new(Needles::new(&authors, &ticket.topic().0, &texts)?);
    let cluster = cluster.insert(Cluster::prepare(folder, &needles, watch.clone(), *hostile).await?);
    cluster.start(folder).await?;
    let (hops, sync_url) = (cluster.hops(), cluster.sync_url()?);
    a.connect(&hops, &sync_url, output).await?;
    b.connect(&hops, &sync_url, output).await?;

    let mut conversation = Conversation::new(a, b, progress);
    let (quiet, rest) = lines.split_at(Conversation::quiet_lines(lines.len()));
    let (before, rest) = rest.split_at(rest.len() * 2 / 5);
    let (broken, after) = rest.split_at(rest.len() / 3);
    // A hostile relay is found out by many lines at once sooner than by one after the other.
    for part in if *hostile { [before, quiet] } else { [quiet, before] } {
        if std::ptr::eq(part, quiet) {
            progress.set_message("one line at a time");
            conversation.quiet(part).await?;
        } else {
            progress.set_message("many lines at once");
            conversation.busy(part).await?;
        }
    }
    progress.set_message("server and a relay are killed and started again");
    let kill_at = progress.position() + broken.len() as u64 / 4;
    conversation.broken(broken, outage(cluster, folder, progress, kill_at)).await?;
    progress.set_message("many lines at once");
    conversation.busy(after).await?;
    progress.set_message("comparing");
    let measured = conversation.end(DRAIN).await?;
    let mut report = Report::gather(lines, a, b, measured, cluster, begun).await?;
    for node in cluster.nodes() {
        node.tap.hostile().inspect(|hostile| hostile.rest());
    }
    progress.set_message("somebody joins, reads, and is removed");
    c.init_sync(&hops, &sync_url).await?;
    report.members = Members::play(cluster, a, b, c, lines).await?;
    report.look_again(cluster);
    progress.finish_and_clear();
    c.close().await?;
    a.client.close().await?;
    b.client.close().await?;
    report.with_disks(cluster, &needles, &paths)
}

/// Kills when enough lines have arrived, waits, revives.
async fn outage(
    cluster: &mut Cluster,
    folder: &Path,
    progress: &ProgressBar,
    kill_at: u64,
) -> anyhow::Result<()> {
    while progress.position() < kill_at {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.kill().await?;
    tokio::time::sleep(AWAY).await;
    cluster.revive(folder).await
}

fn progress(output: &Output, lines: usize) -> ProgressBar {
    let target = if output.is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(lines as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} lines  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// A network to try `delta send` and `delta tail` with.
async fn serve(stage: &mut Stage, output: &Output) -> anyhow::Result<()> {
    let Stage { folder, watch, cluster, .. } = stage;
    let needles = Arc::new(Needles::new(&[], &[0; 32], &[])?);
    let cluster = cluster.insert(Cluster::prepare(folder, &needles, watch.clone(), false).await?);
    cluster.start(folder).await?;
    let (sync, list, records) = (cluster.sync_url()?, folder.join("list.json"), folder.join("records.json"));
    if output.is_json() {
        let pids = cluster.nodes().iter().map(|node| (node.name.clone(), node.pid()));
        output.value(&json!({
            "sync": sync, "directory": list, "records": records, "trust": cluster.trust().to_string(),
            "pids": pids.collect::<BTreeMap<_, _>>(),
        }))?;
    } else {
        output.line(&format!("export DELTA_SYNC='{sync}'"))?;
        output.line(&format!(
            "export DELTA_DIRECTORY='{}' DELTA_RECORDS='{}'",
            list.display(),
            records.display()
        ))?;
        output.line(&format!("export DELTA_TRUST={} DELTA_ALLOW_PLAINTEXT=1", cluster.trust()))?;
        output.note(
            "A server and three relays run until this program's input ends (Ctrl-D) or it is interrupted.",
        );
    }
    let mut input = stdin_lines();
    while let Some(Ok(_)) = input.recv().await {}
    Ok(())
}
