//! The relay's record in the Mainline DHT, where its operator wants it there (built with the feature `dht`).

use std::sync::Arc;
use std::time::Duration;

use delta_core::onion::directory::RecordObject;
use delta_directory_dht::{Dht, DhtError};
use delta_server_shell::config::ConfigFile;
use delta_server_shell::program::chain;
use delta_server_shell::{NodeFolder, OptionsError};

use crate::record::Records;

/// How often a record is put there again: the DHT forgets within hours.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// How often it is looked whether there is a new one, and how long to wait after a failure.
const LOOK: Duration = Duration::from_secs(60);

/// Whether the DHT is used, and through which nodes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DhtOptions {
    /// Use the Mainline DHT as well: a relay publishes its record there, `directory refresh` looks up nodes it cannot ask.
    #[arg(long, env = "DELTA_DHT", value_parser = clap::builder::FalseyValueParser::new())]
    pub dht: bool,
    /// Enter the DHT through these nodes instead of the public ones (tests and networks of one's own).
    #[arg(
        long,
        env = "DELTA_DHT_BOOTSTRAP",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        requires = "dht"
    )]
    pub dht_bootstrap: Vec<String>,
}

impl DhtOptions {
    /// Takes what was given nowhere else from the configuration file.
    pub fn fill(&mut self, file: &mut ConfigFile) -> Result<(), OptionsError> {
        file.switch(&mut self.dht, "dht")?;
        file.list(&mut self.dht_bootstrap, "dht-bootstrap")
    }

    /// Joins the DHT, if it is wanted. Needs a runtime.
    pub fn join(&self) -> Result<Option<Dht>, DhtError> {
        match (self.dht, self.dht_bootstrap.as_slice()) {
            (false, _) => Ok(None),
            (true, []) => Dht::public().map(Some),
            (true, bootstrap) => Dht::through(bootstrap).map(Some),
        }
    }
}

/// Keeps the relay's record of today in the DHT, for ever.
pub async fn publish(dht: Dht, folder: Arc<NodeFolder>, records: Arc<Records>) {
    let (mut published, mut age) = (None, Duration::ZERO);
    loop {
        let own = records.own().and_then(|json| RecordObject::parse(std::str::from_utf8(&json).ok()?).ok());
        let due = own.filter(|own| published != Some(own.seq) || age >= AGAIN);
        if let Some(own) = due {
            match put(&dht, &folder, &own).await {
                Ok(()) => (published, age) = (Some(own.seq), Duration::ZERO),
                Err(error) => tracing::warn!("the DHT: {}", chain(&error)),
            }
        }
        tokio::time::sleep(LOOK).await;
        age += LOOK;
    }
}

async fn put(dht: &Dht, folder: &NodeFolder, own: &RecordObject) -> Result<(), DhtError> {
    dht.publish(folder.identity(), &own.verify()?, own.seq).await
}
