//! Configuring the engine's network, and keeping it fresh: what `init_sync` was told last is kept, so that the nodes'
//! records can be renewed without the app. When that is due the engine decides; here it is done.

use std::sync::Arc;

use delta_core::engine::{Command, Renewed, SeenDirectory};
use delta_core::onion::directory::{Node, Seen, Skipped};
use tokio::sync::Mutex;

use crate::config::RelayHops;
use crate::driver::Inbox;
use crate::error::ClientError;
use crate::net::Http;
use crate::network::{
    Collected, Known, Resolved, Terms, Way, directory, freshest, in_use, resolve, sources, wanted,
};
use crate::platform::Clock;
use crate::readers::Readers;

/// What `init_sync` was told, and what came of it.
#[derive(Debug)]
struct Configured {
    hops: RelayHops,
    sync_url: String,
    scope: String,
    seen: Seen,
    server: Node,
    /// What was collected before, as it is kept.
    collected: String,
}

/// What the database holds under a setting; nothing is empty.
async fn stored(readers: &Readers, name: String) -> Result<Vec<u8>, ClientError> {
    Ok(readers.run(move |reader| reader.setting(&name)).await?.unwrap_or_default())
}

/// Who configures the engine's network: one at a time, so that a renewal never undoes what the app asked for meanwhile.
#[derive(Debug)]
pub(crate) struct Renewer {
    terms: Terms,
    clock: Arc<Clock>,
    current: Mutex<Option<Configured>>,
}

impl Renewer {
    pub(crate) fn new(terms: Terms, clock: Arc<Clock>) -> Self {
        Self { terms, clock, current: Mutex::new(None) }
    }

    /// Configures what the app asks for, with what the database holds of it.
    pub(crate) async fn configure(
        &self,
        hops: &RelayHops,
        sync_url: &str,
        readers: &Readers,
        http: &Http,
        inbox: &Inbox,
    ) -> Result<(Vec<Skipped>, String), ClientError> {
        let mut current = self.current.lock().await;
        let scope = crate::network::scope(hops);
        let seen = stored(readers, SeenDirectory::setting(&scope)).await?;
        let seen = Seen::load(&seen).map_err(|_| ClientError::SeenDamaged)?;
        // Damaged ones are no loss: the app brings its own, and new ones come.
        let renewed = Renewed::load(&stored(readers, Renewed::setting(&scope)).await?);
        let now = self.clock.now();
        let loaded = directory(hops, renewed.as_ref(), &self.terms, now, &seen);
        let (loaded, renewed) = match (loaded, renewed) {
            (Ok(loaded), renewed) => (loaded, renewed),
            (Err(error), None) => return Err(error),
            (Err(_), Some(_)) => (directory(hops, None, &self.terms, now, &seen)?, None),
        };
        let as_of = freshest(hops, &self.terms).max(renewed.as_ref().map(|renewed| renewed.at));
        let collected = renewed.as_ref().map(|renewed| renewed.records.as_str());
        let known = Known { collected, before: None };
        let kept = SeenDirectory { scope: scope.clone(), seen, renewed: None };
        let Resolved { network, skipped } =
            resolve(loaded, sync_url, &self.terms, as_of, now, Way { http, inbox }, kept, known).await?;
        let (seen, server) = (network.seen.seen.clone(), network.server.clone());
        inbox.command(Command::Configure(network)).await?;
        let base = server.url.clone();
        let (hops, sync_url) = (hops.clone(), sync_url.to_owned());
        let collected = renewed.map(|renewed| renewed.records).unwrap_or_else(|| "[]".to_owned());
        *current = Some(Configured { hops, sync_url, scope, seen, server, collected });
        Ok((skipped, base))
    }

    /// Fetches the whole set of records from one source after the other until together they have a fresh one, and
    /// configures it. Whether that was done; if not, everything stays as it was.
    pub(crate) async fn renew(&self, mut from: Vec<String>, http: &Http, inbox: &Inbox) -> bool {
        if let Some(url) = &self.terms.records_url {
            from.insert(0, url.clone());
        }
        if from.is_empty()
            && let Some(configured) = &*self.current.lock().await
        {
            // All records have expired: their relays may still be where they were.
            from = sources(&configured.hops, &self.terms);
        }
        let mut fetched = Collected::default();
        for source in from {
            match http.records(&source).await {
                Ok(text) => match self.take(&text, &mut fetched, http, inbox).await {
                    Ok(true) => return true,
                    Ok(false) => tracing::info!(source, "too few records are new"),
                    Err(error) => tracing::warn!(source, %error, "records are not usable"),
                },
                Err(error) => tracing::info!(source, %error, "records cannot be fetched"),
            }
        }
        false
    }

    /// Whether these records were taken into use.
    async fn take(
        &self,
        text: &[u8],
        fetched: &mut Collected,
        http: &Http,
        inbox: &Inbox,
    ) -> Result<bool, ClientError> {
        let mut current = self.current.lock().await;
        let Some(configured) = current.as_mut() else { return Ok(false) };
        let now = self.clock.now();
        let wanted = wanted(&configured.hops, configured.server.id);
        fetched.add(&String::from_utf8_lossy(text), &wanted)?;
        // Whom no source speaks of keeps the record that was collected before.
        let mut joined = fetched.clone();
        joined.add(&configured.collected, &wanted)?;
        let renewed = Renewed { at: now, records: joined.text() };
        let loaded = directory(&configured.hops, Some(&renewed), &self.terms, now, &configured.seen)?;
        if !fetched.is_fresh(&loaded.0, self.terms.relays, now) {
            return Ok(false);
        }
        let kept =
            SeenDirectory { scope: configured.scope.clone(), seen: configured.seen.clone(), renewed: None };
        let known = Known { collected: Some(&renewed.records), before: Some(&configured.server) };
        let sync_url = &configured.sync_url;
        let way = Way { http, inbox };
        let resolved = resolve(loaded, sync_url, &self.terms, Some(now), now, way, kept, known).await?;
        let mut network = resolved.network;
        let records = in_use(&renewed.records, &network.directory, &network.server);
        configured.collected.clone_from(&records);
        network.seen.renewed = Some(Box::new(Renewed { at: now, records }));
        (configured.seen, configured.server) = (network.seen.seen.clone(), network.server.clone());
        inbox.command(Command::Configure(network)).await?;
        Ok(true)
    }
}
