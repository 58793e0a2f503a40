//! `delta identity`: who a person is, as 24 words and as an address.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use delta_client::{KeyStore, store_identity, stored_identity};
use delta_core::identity::Mnemonic;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::keys::FileKeyStore;
use crate::output::Output;
use crate::platform::PlatformEntropy;

const EXAMPLES: &str = "\
Examples:
  delta identity new --keys ~/.delta/keys      makes 24 words, prints them once, keeps them
  delta identity import --keys ~/.delta/keys   reads 24 words from standard input
  delta identity show --keys ~/.delta/keys     prints the public address
A device that first starts with these --keys afterwards is certified by this identity; one that has started already stays
what it is (`delta device pair` makes it another device of yours).";

/// Make, read or show an identity.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Make a new identity: 24 words to write down.
    New {
        #[command(flatten)]
        keys: Keys,
    },
    /// Print the public address.
    Show {
        #[command(flatten)]
        keys: Keys,
        /// Also print the 24 words: whoever sees them is you.
        #[arg(long)]
        words: bool,
    },
    /// Take 24 words from standard input.
    Import {
        #[command(flatten)]
        keys: Keys,
    },
}

#[derive(clap::Args)]
pub struct Keys {
    /// The folder of the keystore; made when it is missing.
    #[arg(long = "keys", env = "DELTA_KEYS", value_name = "DIR")]
    folder: PathBuf,
}

/// Most bytes of 24 words with generous blanks.
const MAX_WORDS: u64 = 4096;

/// Does it.
pub fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::New { keys } => {
            let keys = FileKeyStore::new(keys.folder);
            refuse_another(&keys)?;
            let words = Mnemonic::generate(&mut PlatformEntropy)?;
            store_identity(&keys, &words)?;
            show(&words, true, output)
        }
        Command::Import { keys } => {
            let keys = FileKeyStore::new(keys.folder);
            refuse_another(&keys)?;
            let mut text = Zeroizing::new(String::new());
            std::io::stdin().lock().take(MAX_WORDS).read_to_string(&mut text).context("standard input")?;
            let words: Mnemonic = text.parse()?;
            store_identity(&keys, &words)?;
            show(&words, false, output)
        }
        Command::Show { keys, words: shown } => {
            let Some(words) = stored_identity(&FileKeyStore::new(&keys.folder))? else {
                bail!("there is no identity in {}: `delta identity new` makes one", keys.folder.display());
            };
            show(&words, shown, output)
        }
    }
}

fn refuse_another(keys: &dyn KeyStore) -> anyhow::Result<()> {
    let present = stored_identity(keys)?;
    ensure!(present.is_none(), "the keystore holds an identity already: `delta identity show` prints it");
    Ok(())
}

/// The secret alone, if asked for, goes to standard output before what is public.
fn show(mnemonic: &Mnemonic, words: bool, output: &Output) -> anyhow::Result<()> {
    let identity = mnemonic.identity_key().identity();
    let text = mnemonic.words();
    if output.is_json() {
        let mut value = Map::new();
        value.insert("address".to_owned(), identity.address().into());
        value.insert("identity".to_owned(), identity.to_string().into());
        if words {
            value.insert("words".to_owned(), Value::from(text.as_str()));
        }
        return output.value(&value);
    }
    if words {
        output.line(&text)?;
        output.note("write these words down: they are the identity, and the only way to get it back");
    }
    output.line(&identity.address())
}
