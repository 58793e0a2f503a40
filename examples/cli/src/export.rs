//! `delta export` and `delta import`: a device's database, and a person's words, in one sealed file.

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use delta_client::{KeyStore, export_database, store_identity, stored_identity};
use serde_json::json;
use zeroize::Zeroizing;

use crate::keys::FileKeyStore;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta export --db me.db --keys ~/.delta/keys me.delta < passphrase
  delta import --db new.db --keys ~/.delta/keys me.delta < passphrase
The passphrase is the first line of standard input. Device keys are not exported: an imported database gets a new one
(`--keys DIR`), which groups have to admit.";

/// Write a device's database into one file.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportOptions {
    /// The device's database. No other command may have it open.
    #[arg(long, env = "DELTA_DB", value_name = "FILE")]
    db: PathBuf,
    /// The device's keystore: needed where it was made with one. Its words are exported along.
    #[arg(long, env = "DELTA_KEYS", value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The file to write; never over one that exists.
    file: PathBuf,
}

/// Read an export into a new database.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportOptions {
    /// The database to make; never over one that exists.
    #[arg(long, env = "DELTA_DB", value_name = "FILE")]
    db: PathBuf,
    /// The keystore that takes the words, unless it has some.
    #[arg(long, env = "DELTA_KEYS", value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The export.
    file: PathBuf,
}

/// Exports.
pub fn export(options: &ExportOptions, output: &Output) -> anyhow::Result<()> {
    ensure!(options.db.exists(), "there is no database at {}", options.db.display());
    let passphrase = passphrase()?;
    let keys = options.keys.as_ref().map(FileKeyStore::new);
    let words = keys.as_ref().map_or(Ok(None), |keys| stored_identity(keys))?;
    let keystore = keys.as_ref().map(|keys| keys as &dyn KeyStore);
    export_database(&options.db, &options.file, &passphrase, keystore, words.as_ref())?;
    if output.is_json() {
        return output
            .value(&json!({ "file": options.file.display().to_string(), "words": words.is_some() }));
    }
    let what = if words.is_some() { "the database and your words" } else { "the database, no words" };
    output.note(&format!("{}: {what}", options.file.display()));
    Ok(())
}

/// Imports.
pub fn import(options: &ImportOptions, output: &Output) -> anyhow::Result<()> {
    let passphrase = passphrase()?;
    let keys = options.keys.as_ref().map(FileKeyStore::new);
    let keystore = keys.as_ref().map(|keys| keys as &dyn KeyStore);
    let words = delta_client::import(&options.file, &passphrase, &options.db, keystore)?;
    let mut kept = false;
    if let (Some(words), Some(keys)) = (&words, &keys)
        && stored_identity(keys)?.is_none()
    {
        store_identity(keys, words)?;
        kept = true;
    }
    if output.is_json() {
        return output.value(&json!({ "db": options.db.display().to_string(), "words_kept": kept }));
    }
    output.note(&format!("{}: open it with --keys, for a device key of its own", options.db.display()));
    Ok(())
}

/// The first line of standard input.
fn passphrase() -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut line).context("standard input")?;
    let passphrase = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    ensure!(!passphrase.is_empty(), "a passphrase is needed: the first line of standard input");
    Ok(passphrase)
}
