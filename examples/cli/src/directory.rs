//! `delta directory`: the signed list of nodes, and the records that go with it.

mod refresh;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use delta_core::identity::NodeId;
use delta_core::onion::directory::{
    Directory, ListBody, ListEntry, Node, RecordObject, SignedList, Skipped, TrustPolicy, check_url,
};
use delta_core::topic::WriteKey;
use serde_json::{Value, json};

use crate::input::{self, Secret};
use crate::output::Output;
use crate::platform;

const SIGN_EXAMPLES: &str = "\
The records are what `delta relay record` and `delta sync record` print: one object per file, or an array. Kind,
identity, URL and operator of each node go into the list: look at the operators' names before you vouch for them.

Examples:
  delta directory sign --key @signer.key --out list.json --records-out records.json r1.json r2.json r3.json
  delta directory sign --key @second.key --add-to list.json --out list.json     a second signature";

const SHOW_EXAMPLES: &str = "\
Examples:
  delta directory show --directory list.json
  delta directory show --directory list.json --records records.json --trust KEY1,KEY2 --threshold 2";

const VERIFY_EXAMPLES: &str = "\
Example:
  delta directory verify --directory list.json --records records.json --trust KEY1,KEY2 --threshold 2";

/// What to do with the directory.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make and sign a list from node records, or add a signature to one.
    Sign(SignOptions),
    /// Show a list and its records; with --trust, check them as a client does.
    Show(ShowOptions),
    /// Check a list and its records as a client does: fails unless every node of the list can be used.
    Verify(VerifyOptions),
    /// Ask every node of a list for its record and write them to the records file.
    Refresh(refresh::RefreshOptions),
}

/// How to sign.
#[derive(Args)]
#[command(after_help = SIGN_EXAMPLES)]
pub struct SignOptions {
    /// Seed of a signing key (hex or @FILE); may be given several times.
    #[arg(long = "key", value_name = "SECRET", required = true)]
    keys: Vec<Secret>,
    /// Version of the list; must rise. The unix time in seconds when missing.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// How long the list holds.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
    valid_days: u64,
    /// Adds the signatures to this list instead of making a new one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["version", "records", "records_out"])]
    add_to: Option<PathBuf>,
    /// Writes the list here instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Writes all records as one array here.
    #[arg(long, value_name = "FILE")]
    records_out: Option<PathBuf>,
    /// Permit http, any address and any host (tests and local networks).
    #[arg(long)]
    allow_private: bool,
    /// Files with record objects.
    #[arg(value_name = "RECORDS", required_unless_present = "add_to")]
    records: Vec<PathBuf>,
}

/// What to show.
#[derive(Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub struct ShowOptions {
    /// The signed list.
    #[arg(long, value_name = "FILE")]
    directory: PathBuf,
    /// The records of its nodes.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Keys trusted to sign the list (64 hex digits each).
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    trust: Vec<NodeId>,
    /// How many of the trusted keys must have signed; all of them when missing.
    #[arg(long, value_name = "N", requires = "trust")]
    threshold: Option<usize>,
    /// Permit http and addresses that are not public.
    #[arg(long)]
    allow_private: bool,
}

/// What to check.
#[derive(Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct VerifyOptions {
    /// The signed list.
    #[arg(long, value_name = "FILE")]
    directory: PathBuf,
    /// The records of its nodes; without them only the list is checked.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Keys trusted to sign the list (64 hex digits each).
    #[arg(long, value_name = "KEY", value_delimiter = ',', required = true)]
    trust: Vec<NodeId>,
    /// How many of the trusted keys must have signed; all of them when missing.
    #[arg(long, value_name = "N")]
    threshold: Option<usize>,
    /// Permit http and addresses that are not public.
    #[arg(long)]
    allow_private: bool,
}

/// Does what was asked for.
pub fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Sign(options) => sign(&options, output),
        Command::Show(options) => show(&options, output),
        Command::Verify(options) => verify(&options, output),
        Command::Refresh(options) => refresh::run(&options, output),
    }
}

fn sign(options: &SignOptions, output: &Output) -> anyhow::Result<()> {
    let mut list = match &options.add_to {
        Some(path) => SignedList::parse(&read_text(path)?).with_context(|| path.display().to_string())?,
        None => new_list(options)?,
    };
    for key in &options.keys {
        list.add_signature(&WriteKey::from_seed(*key.bytes()).signing_key());
    }
    match &options.out {
        Some(path) => write_text(path, &list.to_json()),
        None => output.line(&list.to_json()),
    }
}

/// An unsigned list of the nodes whose records were given.
fn new_list(options: &SignOptions) -> anyhow::Result<SignedList> {
    let records = read_records(&options.records)?;
    let mut nodes: Vec<ListEntry> = Vec::new();
    for record in &records {
        let entry = list_entry(record, options.allow_private)?;
        ensure!(nodes.iter().all(|other| other.id != entry.id), "two records are of node {}", entry.id);
        nodes.push(entry);
    }
    let now = platform::now().0 / 1000;
    let body = ListBody {
        version: options.version.unwrap_or(now),
        expires: now + options.valid_days * 24 * 60 * 60,
        nodes,
    };
    if let Some(path) = &options.records_out {
        let all: Vec<Value> = records.iter().map(RecordObject::to_value).collect();
        write_text(path, &Value::from(all).to_string())?;
    }
    Ok(SignedList { signed: body.to_json().into_bytes(), signatures: Vec::new() })
}

fn list_entry(object: &RecordObject, allow_private: bool) -> anyhow::Result<ListEntry> {
    let record = object.verify()?;
    let of = || format!("the record of node {}", record.id);
    if let Some(url) = &record.url {
        check_url(url, allow_private).with_context(of)?;
    }
    ensure!(record.expires > platform::now().0 / 1000, "{} has expired", of());
    Ok(ListEntry {
        kind: record.kind,
        id: record.id,
        operator: record.operator,
        url: record.url,
        max_class: record.max_class,
    })
}

fn read_records(paths: &[PathBuf]) -> anyhow::Result<Vec<RecordObject>> {
    let mut records = Vec::new();
    for path in paths {
        let name = || path.display().to_string();
        let values = match serde_json::from_str(&read_text(path)?).with_context(name)? {
            Value::Array(values) => values,
            one => vec![one],
        };
        for value in values {
            records.push(RecordObject::from_value(value).with_context(name)?);
        }
    }
    Ok(records)
}

fn show(options: &ShowOptions, output: &Output) -> anyhow::Result<()> {
    let list_text = read_text(&options.directory)?;
    let list = SignedList::parse(&list_text).with_context(|| options.directory.display().to_string())?;
    let claimed: Vec<NodeId> = list.signatures.iter().map(|(key, _)| *key).collect();
    let signers = list.signers(&claimed);
    let body =
        ListBody::from_json(std::str::from_utf8(&list.signed).context("the signed bytes are not text")?)?;
    let records = options.records.as_deref().map_or_else(|| Ok("[]".to_owned()), read_text)?;
    // Without --trust it is shown what the signers vouch for, whoever they are.
    let verified = !options.trust.is_empty();
    let keys = if verified { options.trust.clone() } else { signers.clone() };
    if keys.is_empty() {
        bail!("no signature on the list is valid");
    }
    let threshold = options.threshold.unwrap_or(if verified { keys.len() } else { 1 });
    let trust = TrustPolicy { keys, threshold, allow_private: options.allow_private };
    let (directory, skipped) = Directory::load(&list_text, &records, &trust, platform::now())?;
    let shown = Shown { verified, signers, body, directory, skipped };
    if output.is_json() { output.value(&shown.json()) } else { shown.print(output) }
}

fn verify(options: &VerifyOptions, output: &Output) -> anyhow::Result<()> {
    let list = read_text(&options.directory)?;
    let records = options.records.as_deref().map(read_text).transpose()?;
    let trust = trust(&options.trust, options.threshold, options.allow_private);
    let (directory, skipped) =
        Directory::load(&list, records.as_deref().unwrap_or("[]"), &trust, platform::now())?;
    // Without records no node can be used; that says nothing about the list.
    let skipped: Vec<String> = match records {
        Some(_) => skipped.iter().map(Skipped::to_string).collect(),
        None => Vec::new(),
    };
    ensure!(skipped.is_empty(), "{} entries cannot be used: {}", skipped.len(), skipped.join("; "));
    let (version, expires, usable) = (directory.version(), directory.expires(), directory.nodes().len());
    if output.is_json() {
        output.value(&json!({ "version": version, "expires": expires, "usable": usable }))
    } else {
        output.line(&format!("version {version}, expires {expires} (unix seconds), {usable} usable nodes"))
    }
}

/// By default all trusted keys must have signed.
fn trust(keys: &[NodeId], threshold: Option<usize>, allow_private: bool) -> TrustPolicy {
    TrustPolicy { keys: keys.to_vec(), threshold: threshold.unwrap_or(keys.len()), allow_private }
}

/// A list, and what of it can be used.
struct Shown {
    verified: bool,
    signers: Vec<NodeId>,
    body: ListBody,
    directory: Directory,
    skipped: Vec<Skipped>,
}

impl Shown {
    fn json(&self) -> Value {
        let texts = |ids: &[NodeId]| ids.iter().map(NodeId::to_string).collect::<Vec<_>>();
        let nodes: Vec<Value> = self
            .body
            .nodes
            .iter()
            .map(|entry| {
                let node = self.directory.node(&entry.id);
                json!({
                    "id": entry.id.to_string(),
                    "kind": entry.kind.as_str(),
                    "operator": entry.operator,
                    "url": node.map(|node| node.url.clone()).or_else(|| entry.url.clone()),
                    "usable": node.is_some(),
                    "kids": node.map(kids),
                    "record_expires": node.map(|node| node.expires),
                    "max_class": node.map(|node| node.max_class).or(entry.max_class),
                })
            })
            .collect();
        json!({
            "version": self.body.version,
            "expires": self.body.expires,
            "signers": texts(&self.signers),
            "verified": self.verified,
            "nodes": nodes,
            "skipped": self.skipped.iter().map(Skipped::to_string).collect::<Vec<_>>(),
        })
    }

    fn print(&self, output: &Output) -> anyhow::Result<()> {
        output
            .line(&format!("version {}, expires {} (unix seconds)", self.body.version, self.body.expires))?;
        for signer in &self.signers {
            output.line(&format!("signed by {signer}"))?;
        }
        for entry in &self.body.nodes {
            let node = self.directory.node(&entry.id);
            let url = node.map(|node| node.url.as_str()).or(entry.url.as_deref()).unwrap_or("no URL");
            output.line(&format!(
                "{:5}  {:12}  {}  {}  {url}",
                entry.kind.as_str(),
                entry.operator.as_deref().unwrap_or("-"),
                entry.id,
                if node.is_some() { "usable" } else { "NOT usable" },
            ))?;
        }
        for skipped in &self.skipped {
            output.note(&skipped.to_string());
        }
        if !self.verified {
            output.note("The signers were not checked against keys of yours: use --trust.");
        }
        Ok(())
    }
}

fn kids(node: &Node) -> Vec<u16> {
    node.keys.iter().map(|key| key.kid).collect()
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = input::read_file(path)?;
    String::from_utf8(bytes.to_vec()).with_context(|| format!("{} is not text", path.display()))
}

/// Through a temporary file, so that whoever watches the file never reads half of it.
fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())?;
        readable_by_all(file.as_file())?;
        // On the disk before it has the name: a crash leaves the old file or the new one.
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(folder)?;
        Ok(())
    };
    write().with_context(|| path.display().to_string())
}

/// So that the new name is on the disk, too.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Lists and records are public; temporary files are not.
fn readable_by_all(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}
