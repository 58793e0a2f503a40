//! The options of commands that act as a device, and how they open it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use delta_client::{Client, ClientError, Config, Event, Proxy, RelayHops, Subscription, Update};
use delta_core::NodeId;
use delta_core::engine::{Blocked, TopicStatus};
use delta_core::identity::LogId;
use delta_core::ops::Ticket;
use delta_core::sync::proof::ReadKey;
use delta_core::sync::session::Connection;
use delta_core::topic::TopicId;

use crate::input::{Secret, argument_file, read_file};
use crate::keys::FileKeyStore;
use crate::output::{Output, Usage};

/// After this long a person is told that a command still waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which device, which topic, which network.
#[derive(clap::Args)]
pub struct DeviceOptions {
    #[command(flatten)]
    base: Base,
    /// The topic's ticket (`delta keygen --topic`), or @FILE.
    #[arg(
        long,
        env = "DELTA_TICKET",
        value_name = "TICKET",
        hide_env_values = true,
        help_heading = "Device"
    )]
    ticket: Option<TicketArgument>,
    /// Instead: the id of a room, or space, that this device knows (`delta room list`).
    #[arg(long, value_name = "ID", help_heading = "Device")]
    room: Option<LogId>,
    /// The topic's read key, where its server asks readers for a proof: 64 hex digits, or @FILE. It is kept.
    #[arg(
        long,
        env = "DELTA_READ_KEY",
        value_name = "SECRET",
        hide_env_values = true,
        help_heading = "Device"
    )]
    read_key: Option<Secret>,
}

/// Which device, which network.
#[derive(clap::Args)]
pub struct Base {
    /// The device's database; made when it is missing.
    #[arg(long, env = "DELTA_DB", value_name = "FILE", help_heading = "Device")]
    db: PathBuf,
    /// The device's key (`delta keygen`): 64 hex digits, or @FILE.
    #[arg(
        long,
        env = "DELTA_KEY",
        value_name = "SECRET",
        hide_env_values = true,
        required_unless_present = "keys",
        help_heading = "Device"
    )]
    key: Option<Secret>,
    /// A folder that keeps the device's key instead, made when it is missing. A database that was restored from a
    /// backup or copied gets a new key. Not to be copied along with the database.
    #[arg(long, env = "DELTA_KEYS", value_name = "DIR", conflicts_with = "key", help_heading = "Device")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkOptions,
}

#[derive(clap::Args)]
struct NetworkOptions {
    /// The sync server, `<url>#<its key in hex>`.
    #[arg(long, env = "DELTA_SYNC", value_name = "URL#KEY", help_heading = "Network")]
    sync: Option<String>,
    /// The signed list of nodes.
    #[arg(
        long,
        env = "DELTA_DIRECTORY",
        value_name = "FILE",
        requires_all = ["records", "trust"],
        help_heading = "Network"
    )]
    directory: Option<PathBuf>,
    /// The nodes' records: a JSON array of record objects. Without --directory they are taken as they are.
    #[arg(long, env = "DELTA_RECORDS", value_name = "FILE", help_heading = "Network")]
    records: Option<PathBuf>,
    /// Keys trusted to sign the list.
    #[arg(
        long,
        env = "DELTA_TRUST",
        value_name = "KEY",
        value_delimiter = ',',
        requires = "directory",
        help_heading = "Network"
    )]
    trust: Vec<NodeId>,
    /// How many of them must have signed it; all when missing.
    #[arg(long, env = "DELTA_THRESHOLD", value_name = "N", requires = "directory", help_heading = "Network")]
    threshold: Option<NonZeroUsize>,
    /// A proxy that everything goes through: socks5://[user:password@]host:port or http://[user:password@]host:port. It
    /// looks names up. The system's settings and variables such as http_proxy are not read.
    #[arg(long, env = "DELTA_PROXY", value_name = "PROXY", hide_env_values = true, help_heading = "Network")]
    proxy: Option<Proxy>,
    /// Relays of a route.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5), help_heading = "Network")]
    relays: u8,
    /// Where the whole set of records is renewed from every day, before relays are asked for theirs.
    #[arg(long, env = "DELTA_RECORDS_URL", value_name = "URL", help_heading = "Network")]
    records_url: Option<String>,
    /// Mean seconds between two packets that carry nothing; none when missing. Each costs 4 KiB at every hop.
    #[arg(long, env = "DELTA_COVER", value_name = "SECONDS", help_heading = "Network")]
    cover: Option<u64>,
    /// Mean milliseconds that every relay is asked to hold a packet; none when missing. Messages take as much longer.
    #[arg(long, env = "DELTA_RELAY_DELAY", value_name = "MS", help_heading = "Network")]
    relay_delay: Option<u64>,
    /// Also send to a server that takes only packets of version 2, which hide less.
    #[arg(long, env = "DELTA_ACCEPT_V2", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Network")]
    accept_v2: bool,
    /// Read directly, also where relays offer tunnels: the sync server then sees this device's address.
    #[arg(long, env = "DELTA_DIRECT_READING", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Network")]
    direct_reading: bool,
    /// Development: also take http and addresses that are not public.
    #[arg(long, env = "DELTA_ALLOW_PLAINTEXT", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Network")]
    allow_plaintext: bool,
}

/// A ticket, or the file that holds it.
#[derive(Clone, Debug)]
pub struct TicketArgument(Ticket);

impl TicketArgument {
    /// The ticket.
    pub const fn ticket(&self) -> &Ticket {
        &self.0
    }
}

impl FromStr for TicketArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some(path) = text.strip_prefix('@') else { return Ok(Self(Ticket::parse(text.trim())?)) };
        let bytes = argument_file(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| anyhow!("the file is not text"))?;
        Ok(Self(Ticket::parse(text.trim())?))
    }
}

impl DeviceOptions {
    /// The conversation that is asked for, if one is.
    pub fn asked(&self) -> Option<LogId> {
        self.room.or(self.ticket.as_ref().map(|ticket| ticket.0.log()))
    }

    /// The conversation. Whatever opens the device has seen to it that one is asked for.
    pub fn log(&self) -> LogId {
        self.asked().unwrap_or(LogId([0; 32]))
    }

    fn need_room(&self) -> anyhow::Result<()> {
        if self.asked().is_some() {
            return Ok(());
        }
        let text = "which conversation? --room ID (`delta room list`) or --ticket TICKET (`delta keygen --topic`) says so";
        Err(Usage(text.to_owned()).into())
    }

    /// Whether a network is given.
    pub fn has_network(&self) -> bool {
        self.base.has_network()
    }

    /// Opens the device and its topic, and connects it if a network is given.
    pub async fn open(&self, output: &Output) -> anyhow::Result<(Client, TopicId)> {
        self.need_room()?;
        // Before anything is made on this disk.
        let hops = self.base.network.hops()?;
        let client = self.base.start(output).await?;
        let topic = self.enter(&client).await?;
        connect(&client, hops, output).await?;
        Ok((client, topic))
    }

    /// Opens the device, the topic if one is asked for, and connects it if a network is given.
    #[cfg(feature = "chat")]
    pub async fn open_any(&self, output: &Output) -> anyhow::Result<Client> {
        let hops = self.base.network.hops()?;
        let client = self.base.start(output).await?;
        if self.asked().is_some() {
            self.enter(&client).await?;
        }
        connect(&client, hops, output).await?;
        Ok(client)
    }

    async fn enter(&self, client: &Client) -> anyhow::Result<TopicId> {
        let topic = match (&self.room, &self.ticket) {
            (None, Some(ticket)) => client.open_topic(&ticket.0).await?,
            _ => self.known(client).await?,
        };
        if let Some(key) = &self.read_key {
            client.set_read_key(topic, Some(ReadKey::from_seed(*key.bytes()))).await?;
        }
        Ok(topic)
    }

    async fn known(&self, client: &Client) -> anyhow::Result<TopicId> {
        crate::space::topic_of(client, self.log(), "room").await
    }

    /// Like [`Self::open`] for commands that are nothing without a network.
    pub async fn connect(&self, output: &Output) -> anyhow::Result<(Client, TopicId)> {
        if !self.has_network() {
            return Err(Usage("--sync URL#KEY and --records FILE are needed".to_owned()).into());
        }
        self.open(output).await
    }

    /// Opens a device that exists; its topic only when there is a network to connect it to.
    pub async fn look(&self, output: &Output) -> anyhow::Result<(Client, TopicId)> {
        self.need_room()?;
        self.base.need_database()?;
        if self.has_network() {
            return self.open(output).await;
        }
        let client = self.base.client().await?;
        let topic = match (&self.room, &self.ticket) {
            (None, Some(ticket)) => ticket.0.topic(),
            _ => self.known(&client).await?,
        };
        Ok((client, topic))
    }
}

/// Says also what to do, where there is more to be said than what is wrong.
fn advised(error: ClientError) -> anyhow::Error {
    let advice = match error.code() {
        "database_locked" => {
            "one command at a time works with a device: end the other one first, such as `delta chat` or `delta tail`"
        }
        "database_corrupt" => "begin with another --db, made from a backup (`delta import`) if there is one",
        "database_not_one" | "database_foreign" => "does --db name the right file?",
        "database_other_device" => "do --db and --key (or --keys) belong together?",
        _ => return error.into(),
    };
    anyhow!("{error}; {advice}")
}

async fn connect(client: &Client, hops: Option<(RelayHops, &str)>, output: &Output) -> anyhow::Result<()> {
    if let Some((hops, sync)) = hops {
        let skipped = client.init_sync(&hops, sync).await.map_err(|error| match error.code() {
            "directory" | "pool" => anyhow::Error::new(error).context("--directory and --records"),
            "server_unreachable" => anyhow!("{error}; does --sync name the right one, and does it run?"),
            _ => error.into(),
        })?;
        for skipped in skipped {
            output.note(&format!("{skipped}"));
        }
    }
    Ok(())
}

impl Base {
    /// Whether a network is given.
    pub fn has_network(&self) -> bool {
        self.network.sync.is_some()
    }

    /// Opens the device, and connects it if a network is given.
    pub async fn open(&self, output: &Output) -> anyhow::Result<Client> {
        // Before anything is made on this disk.
        let hops = self.network.hops()?;
        let client = self.start(output).await?;
        connect(&client, hops, output).await?;
        Ok(client)
    }

    /// Opens a device that exists.
    pub async fn look(&self, output: &Output) -> anyhow::Result<Client> {
        self.need_database()?;
        self.open(output).await
    }

    fn need_database(&self) -> anyhow::Result<()> {
        ensure!(self.db.exists(), "there is no database at {}", self.db.display());
        Ok(())
    }

    /// For commands that are nothing without a keystore.
    pub fn need_keys(&self) -> anyhow::Result<()> {
        if self.keys.is_some() {
            return Ok(());
        }
        let text =
            "--keys DIR is needed instead of --key: a folder that keeps what makes the device a person's";
        Err(Usage(text.to_owned()).into())
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let db = self.db.display();
        ensure!(!self.db.is_dir(), "--db {db} is a folder: name a file in it");
        let folder = self.db.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            ensure!(folder.is_dir(), "--db {db}: there is no folder {}: make it first", folder.display());
        }
        Client::open(self.config()?).await.map_err(advised)
    }

    async fn start(&self, output: &Output) -> anyhow::Result<Client> {
        let client = self.client().await?;
        if client.renewed() {
            output.note("the database was restored or copied: this device has a new key from now on");
        }
        Ok(client)
    }

    fn config(&self) -> anyhow::Result<Config> {
        let mut config = match (&self.key, &self.keys) {
            (Some(key), _) => Config::new(&self.db, *key.bytes()),
            (None, Some(folder)) => Config::with_keystore(&self.db, Arc::new(FileKeyStore::new(folder))),
            (None, None) => return Err(Usage("--key SECRET or --keys DIR is needed".to_owned()).into()),
        };
        config.allow_plaintext = self.network.allow_plaintext;
        config.proxy.clone_from(&self.network.proxy);
        config.relays = usize::from(self.network.relays);
        config.cover = self.network.cover.map(Duration::from_secs);
        config.relay_delay = self.network.relay_delay.map(Duration::from_millis);
        config.accept_v2 = self.network.accept_v2;
        config.records_url.clone_from(&self.network.records_url);
        config.hidden_reading = !self.network.direct_reading;
        Ok(config)
    }
}

/// Waits until everything the server has is here, and says why it takes so long when that is known.
pub async fn until_live(
    client: &Client,
    topic: TopicId,
    updates: &mut Subscription,
    output: &Output,
) -> anyhow::Result<()> {
    let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE));
    let mut said = false;
    while client.status(topic).await?.connection != Connection::Live {
        let update = tokio::select! {
            update = updates.next() => update,
            () = &mut patience, if !said => {
                said = true;
                let doing = name(client.status(topic).await?.connection);
                output.note(&format!("not caught up with the server yet ({doing}); still trying"));
                continue;
            }
        };
        match update.context("the client was closed")? {
            Update::Event(Event::Connection { connection: Connection::Live, .. }) => return Ok(()),
            Update::Event(Event::ServerFault { fault, .. }) => output.note(&fault.to_string()),
            Update::Event(Event::Readable { unreadable: Some(unreadable), .. }) => {
                return Err(unreadable.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// How long a conversation that moved on is looked at before nobody is expected to hand this device its new keys.
const CLOSED: Duration = Duration::from_secs(5);

/// For how long what waits has been found to wait for keys of the topic in which the conversation goes on.
#[derive(Default)]
pub struct Closed(Duration);

impl Closed {
    /// Looks once more, this long after the last time.
    ///
    /// # Errors
    /// When that has been so for long enough: a person is not to wait for what does not come.
    pub fn look(&mut self, status: &TopicStatus, since: Duration) -> anyhow::Result<()> {
        self.0 = if status.blocked == Some(Blocked::Closed) { self.0 + since } else { Duration::ZERO };
        if self.0 <= CLOSED {
            return Ok(());
        }
        Err(anyhow::Error::new(Blocked::Closed).context(
            "not delivered: the conversation moved on since this device was given its keys; ask a manager for a new \
             invitation",
        ))
    }
}

/// What a connection does, in a word.
pub const fn name(connection: Connection) -> &'static str {
    match connection {
        Connection::Offline => "offline",
        Connection::Parked => "parked",
        Connection::Connecting => "connecting",
        Connection::Replaying => "replaying",
        Connection::Live => "live",
    }
}

impl NetworkOptions {
    /// The relays and the server, when there is one.
    fn hops(&self) -> anyhow::Result<Option<(RelayHops, &str)>> {
        let Some(sync) = &self.sync else { return Ok(None) };
        let Some(records) = &self.records else {
            return Err(Usage(
                "--sync needs --records FILE, and --directory FILE for a signed list".to_owned(),
            )
            .into());
        };
        let records = text(records)?;
        let Some(list) = &self.directory else {
            let objects: Vec<serde_json::Value> =
                serde_json::from_str(&records).context("the records file")?;
            let objects = objects.iter().map(ToString::to_string).collect();
            return Ok(Some((RelayHops::Pool(objects), sync)));
        };
        let keys = self.trust.len();
        let threshold = self.threshold.map_or(keys, NonZeroUsize::get);
        if threshold > keys {
            return Err(
                Usage(format!("--threshold {threshold} cannot be met with {keys} --trust keys")).into()
            );
        }
        let hops =
            RelayHops::Directory { list: text(list)?, records, trusted_keys: self.trust.clone(), threshold };
        Ok(Some((hops, sync)))
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    let bytes = read_file(path)?;
    let text = std::str::from_utf8(&bytes).with_context(|| path.display().to_string())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_keys_of_where_the_conversation_went_is_given_up_soon() {
        let status = |blocked| TopicStatus {
            connection: Connection::Live,
            cursor: None,
            queued: 1,
            sent: 0,
            blocked,
            unreadable: None,
            clock_skew: None,
            read_path: None,
            awaiting_key: None,
            round_trip_ms: None,
        };
        let (waits, goes_on) = (status(Some(Blocked::Closed)), status(None));
        let mut closed = Closed::default();
        let mut look = |status| closed.look(status, Duration::from_secs(1));
        for _ in 0..2 {
            (0..5).for_each(|_| look(&waits).unwrap());
            look(&goes_on).unwrap();
        }
        (0..5).for_each(|_| look(&waits).unwrap());
        let given_up = look(&waits).unwrap_err();
        assert_eq!(given_up.downcast_ref::<Blocked>(), Some(&Blocked::Closed));
    }
}
