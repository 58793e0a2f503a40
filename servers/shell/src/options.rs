//! The options every server has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use delta_core::identity::NodeId;
use delta_core::onion::directory::{NodeKind, RecordObject, TrustPolicy, check_url};

use crate::config::{ConfigFile, OptionsError};
use crate::directory::{DirectorySettings, Source};
use crate::file::FileError;
use crate::folder::NodeFolder;
use crate::keys::{self, KeyPolicy, MIN_ROTATE_HOURS, ROTATE_HOURS};
use crate::limit::{Network, Shares};
use crate::platform::{self, PlatformEntropy};
use crate::program::LogFormat;
use crate::record::{self, RecordTerms, SignError, VALID_DAYS};
use crate::serve::{Door, TurnedAway};
use crate::tls::{Tls, TlsError};

/// Seconds between two looks at a URL.
const POLL_SECONDS: u64 = 15 * 60;

/// Where to make a node's identity.
#[derive(Clone, Debug, clap::Args)]
pub struct KeygenOptions {
    /// Folder of the node's identity and keys; made (mode 0700). One that holds an identity is left alone.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
}

impl KeygenOptions {
    /// Makes the folder, the identity and the first onion key; gives what to tell the operator, line by line.
    pub fn make(&self) -> Result<[String; 2], FileError> {
        let folder = NodeFolder::make(&self.data, &mut PlatformEntropy)?;
        keys::published(&folder, &mut PlatformEntropy)?;
        let path = self.data.canonicalize().unwrap_or_else(|_| self.data.clone());
        Ok([format!("node {}", folder.node_id()), format!("data {}", path.display())])
    }
}

/// How to sign a record.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordOptions {
    /// Folder of the node's identity and keys; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Base URL others reach this node at, without a trailing slash. Kept in the data folder: needed once.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the node. Kept in the data folder.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// How long the record is valid.
    #[arg(long, value_name = "DAYS", default_value_t = VALID_DAYS, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub valid_days: u64,
    /// Permit http, any port and private addresses in the URL (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
    /// Name no onion keys: for a node that others are to use in version 2 networks only. Start it with the same.
    #[arg(long, env = "DELTA_V2_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
    pub v2_only: bool,
}

impl RecordOptions {
    /// Signs a record of the folder's node, that says whether it offers tunnels.
    pub fn sign(self, kind: NodeKind, tunnel: bool) -> Result<RecordObject, SignError> {
        let Self { data, url, operator, valid_days, allow_private, v2_only } = self;
        let terms = RecordTerms { kind, url, operator, tunnel, valid_days, allow_private, v2_only };
        // Before a folder is made for nothing.
        terms.check()?;
        let folder = NodeFolder::open(&data, &mut PlatformEntropy)?;
        let keys = keys::published(&folder, &mut PlatformEntropy)?;
        record::sign(&folder, keys, &terms, platform::now())
    }
}

/// Where a server lives and what it says of itself. Every option can also stand in the environment (`DELTA_LISTEN=…`)
/// or in the configuration file (`listen = …`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NodeOptions {
    /// Folder of the node's identity, onion keys and replay set; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to serve on, for instance 0.0.0.0:8443. Plain HTTP unless --tls-cert and --tls-key are given.
    #[arg(long, env = "DELTA_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address that serves /metrics and /health to the operator. Keep it private.
    #[arg(long, env = "DELTA_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Base URL others reach this node at; kept in the data folder. Without one there is no directory record.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the node; kept in the data folder.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// Where to report abuse, an address or a URL; shown to everyone.
    #[arg(long, env = "DELTA_CONTACT", value_name = "TEXT")]
    pub contact: Option<String>,
    /// Certificate chain (PEM) to serve TLS with; read again when it changes.
    #[arg(long, env = "DELTA_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, env = "DELTA_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Reverse proxies whose X-Forwarded-For is believed: addresses, or networks as address/bits.
    #[arg(long, env = "DELTA_TRUSTED_PROXY", value_name = "ADDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<Network>,
    /// Permit http, any port and private addresses (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
    /// Publish no onion keys, so that others use this node in version 2 networks only (needs --accept-v2). For nodes
    /// that were never anything else: who has seen an onion key refuses a record without.
    #[arg(long, env = "DELTA_V2_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
    pub v2_only: bool,
    /// How lines of the log are written, on standard error; RUST_LOG decides which.
    #[arg(long, env = "DELTA_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// File with further options, one `name = value` a line.
    #[arg(long, env = "DELTA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The same, complete.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Data folder.
    pub data: PathBuf,
    /// Address of the service.
    pub listen: SocketAddr,
    /// Address of metrics.
    pub admin: Option<SocketAddr>,
    /// Own base URL.
    pub url: Option<String>,
    /// Own operator name.
    pub operator: Option<String>,
    /// Where to report abuse.
    pub contact: Option<String>,
    /// Certificate chain and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Trusted reverse proxies.
    pub proxies: Vec<Network>,
    /// Whether http and private addresses are permitted.
    pub allow_private: bool,
    /// Whether no onion keys are published.
    pub v2_only: bool,
    /// How lines of the log are written.
    pub log_format: LogFormat,
}

impl NodeOptions {
    /// Reads the configuration file and takes these options from it; the caller takes its own and then
    /// [`finish`](ConfigFile::finish)es the file.
    pub fn fill(&mut self) -> Result<ConfigFile, OptionsError> {
        let mut file = ConfigFile::read(self.config.as_deref())?;
        file.option(&mut self.data, "data")?;
        file.option(&mut self.listen, "listen")?;
        file.option(&mut self.admin, "admin")?;
        file.option(&mut self.url, "url")?;
        file.option(&mut self.operator, "operator")?;
        file.option(&mut self.contact, "contact")?;
        file.option(&mut self.tls_cert, "tls-cert")?;
        file.option(&mut self.tls_key, "tls-key")?;
        file.list(&mut self.trusted_proxy, "trusted-proxy")?;
        file.option(&mut self.log_format, "log-format")?;
        file.switch(&mut self.allow_private, "allow-private")?;
        file.switch(&mut self.v2_only, "v2-only")?;
        Ok(file)
    }

    /// What must be there is there. `accept_v2`: whether the node takes version 2.
    pub fn settle(self, accept_v2: bool) -> Result<NodeSettings, OptionsError> {
        if self.v2_only && !accept_v2 {
            return Err(OptionsError::Missing("accept-v2"));
        }
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(OptionsError::Missing("tls-key")),
            (None, Some(_)) => return Err(OptionsError::Missing("tls-cert")),
        };
        Ok(NodeSettings {
            data: self.data.ok_or(OptionsError::Missing("data"))?,
            listen: self.listen.ok_or(OptionsError::Missing("listen"))?,
            admin: self.admin,
            url: self.url,
            operator: self.operator,
            contact: self.contact,
            tls,
            proxies: self.trusted_proxy,
            allow_private: self.allow_private,
            v2_only: self.v2_only,
            log_format: self.log_format.unwrap_or_default(),
        })
    }
}

/// Which nodes there are, and for how long an onion key is used.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DirectoryOptions {
    /// Signed list of nodes, a file or a URL; read again when it changes.
    #[arg(long, env = "DELTA_DIRECTORY", value_name = "FILE|URL")]
    pub directory: Option<Source>,
    /// The nodes' records (keys and URLs), signed by each, a file or a URL; read again when they change.
    #[arg(long, env = "DELTA_RECORDS", value_name = "FILE|URL")]
    pub records: Option<Source>,
    /// Keys trusted to sign the list (64 hex digits each).
    #[arg(long, env = "DELTA_TRUST", value_name = "KEY", value_delimiter = ',')]
    pub trust: Vec<NodeId>,
    /// How many of the trusted keys must have signed [default: all of them].
    #[arg(long, env = "DELTA_THRESHOLD", value_name = "N")]
    pub threshold: Option<usize>,
    /// Seconds between two looks at a URL [default: 900].
    #[arg(long, env = "DELTA_POLL_SECONDS", value_name = "N")]
    pub poll_seconds: Option<u64>,
    /// Hours an onion key is used before the next one takes over, at least 24; 0 for ever [default: 24 with
    /// --records, 0 without]. It waits until the records that are read name the next key.
    #[arg(long, env = "DELTA_ROTATE_HOURS", value_name = "N")]
    pub rotate_hours: Option<u64>,
}

impl DirectoryOptions {
    /// Takes what was given nowhere else from the configuration file.
    pub fn fill(&mut self, file: &mut ConfigFile) -> Result<(), OptionsError> {
        file.option(&mut self.directory, "directory")?;
        file.option(&mut self.records, "records")?;
        file.list(&mut self.trust, "trust")?;
        file.option(&mut self.threshold, "threshold")?;
        file.option(&mut self.poll_seconds, "poll-seconds")?;
        file.option(&mut self.rotate_hours, "rotate-hours")
    }

    /// How onion keys are kept. Those that are `hidden` never change: nobody could learn of the next.
    pub fn keys(&self, hidden: bool) -> Result<KeyPolicy, OptionsError> {
        let default = if self.records.is_some() && !hidden { ROTATE_HOURS } else { 0 };
        match self.rotate_hours.unwrap_or(default) {
            hours if hours == 0 || hours >= MIN_ROTATE_HOURS => Ok(KeyPolicy::every_hours(hours)),
            _ => {
                let why = format!("must be 0 or at least {MIN_ROTATE_HOURS}");
                Err(OptionsError::Invalid { name: "rotate-hours", why })
            }
        }
    }

    /// Where the directory comes from; `None` when there is to be none.
    pub fn settle(self, allow_private: bool) -> Result<Option<DirectorySettings>, OptionsError> {
        let Some(list) = self.directory else {
            let alone = self.records.is_some() || !self.trust.is_empty();
            return if alone { Err(OptionsError::Missing("directory")) } else { Ok(None) };
        };
        if self.trust.is_empty() {
            return Err(OptionsError::Missing("trust"));
        }
        let threshold = self.threshold.unwrap_or(self.trust.len());
        if threshold == 0 || threshold > self.trust.len() {
            let why = format!("must be 1 to {}, the number of trusted keys", self.trust.len());
            return Err(OptionsError::Invalid { name: "threshold", why });
        }
        for (name, source) in [("directory", Some(&list)), ("records", self.records.as_ref())] {
            if let Some(Source::Url(url)) = source {
                check_url(url, allow_private)
                    .map_err(|error| OptionsError::Invalid { name, why: error.to_string() })?;
            }
        }
        let trust = TrustPolicy { keys: self.trust, threshold, allow_private };
        let poll = Duration::from_secs(self.poll_seconds.unwrap_or(POLL_SECONDS).max(1));
        Ok(Some(DirectorySettings { list, records: self.records, trust, poll }))
    }
}

impl NodeSettings {
    /// Reads the certificate, if there is one, and follows it.
    fn tls(&self) -> Result<Option<Arc<Tls>>, TlsError> {
        let Some((cert, key)) = &self.tls else { return Ok(None) };
        let tls = Arc::new(Tls::open(cert, key)?);
        tokio::spawn(Arc::clone(&tls).watch());
        Ok(Some(tls))
    }

    /// The public address's door, with so many connections at once and these shares of every address.
    pub fn door(
        &self,
        connections: u64,
        each: Shares,
        turned_away: impl Fn(TurnedAway) + Send + Sync + 'static,
    ) -> Result<Door, TlsError> {
        Ok(Door {
            connections,
            each: Arc::new(each),
            proxies: self.proxies.clone(),
            tls: self.tls()?,
            turned_away: Box::new(turned_away),
            ..Door::admin()
        })
    }

    /// What stands before the address in the line that says where the server listens.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What goes into the record of a running node.
    pub fn record_terms(&self, kind: NodeKind, tunnel: bool) -> RecordTerms {
        RecordTerms {
            kind,
            url: self.url.clone(),
            operator: self.operator.clone(),
            tunnel,
            valid_days: VALID_DAYS,
            allow_private: self.allow_private,
            v2_only: self.v2_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> DirectoryOptions {
        let (list, key) = ("list.json".parse().ok(), NodeId([1; 32]));
        DirectoryOptions { directory: list, trust: vec![key, NodeId([2; 32])], ..DirectoryOptions::default() }
    }

    #[test]
    fn a_node_without_onion_keys_has_to_take_version_2() {
        let node = |v2_only| NodeOptions {
            data: Some("data".into()),
            listen: "127.0.0.1:0".parse().ok(),
            v2_only,
            ..NodeOptions::default()
        };
        assert!(matches!(node(true).settle(false), Err(OptionsError::Missing("accept-v2"))));
        assert!(node(true).settle(true).unwrap().v2_only);
        assert!(!node(false).settle(true).unwrap().v2_only);
    }

    #[test]
    fn a_directory_needs_its_signers_and_permitted_urls() {
        assert!(DirectoryOptions::default().settle(false).unwrap().is_none());
        let settings = options().settle(false).unwrap().unwrap();
        assert_eq!((settings.trust.threshold, settings.poll), (2, Duration::from_secs(900)));
        let url = |url: &str| DirectoryOptions { records: url.parse().ok(), ..options() };
        assert!(url("https://relays.example/records.json").settle(false).is_ok());
        assert!(url("http://127.0.0.1:8080/records").settle(true).is_ok());
        for bad in
            ["http://relays.example/records.json", "https://10.0.0.1/r", "https://user@relays.example/r"]
        {
            assert!(
                matches!(url(bad).settle(false), Err(OptionsError::Invalid { name: "records", .. })),
                "{bad}"
            );
        }
        let no_list = DirectoryOptions { directory: None, ..options() };
        assert!(matches!(no_list.settle(false), Err(OptionsError::Missing("directory"))));
        let no_trust = DirectoryOptions { trust: Vec::new(), ..options() };
        assert!(matches!(no_trust.settle(false), Err(OptionsError::Missing("trust"))));
    }

    #[test]
    fn keys_rotate_where_there_are_records_to_read_or_the_operator_says_so() {
        let kept = |records: Option<&str>, rotate_hours, hidden| {
            let records = records.and_then(|records| records.parse().ok());
            DirectoryOptions { records, rotate_hours, ..options() }
                .keys(hidden)
                .map(|policy| policy.rotate_ms)
        };
        let policy = |records, rotate_hours| kept(records, rotate_hours, false);
        let day = 24 * 60 * 60 * 1000;
        assert_eq!(kept(Some("records.json"), None, true).unwrap(), None, "nobody is told of a next key");
        assert_eq!(policy(None, None).unwrap(), None);
        assert_eq!(policy(Some("records.json"), None).unwrap(), Some(day));
        assert_eq!(policy(Some("records.json"), Some(0)).unwrap(), None);
        assert_eq!(policy(None, Some(48)).unwrap(), Some(2 * day));
        assert!(policy(None, Some(23)).is_err() && policy(None, Some(24)).is_ok());
    }
}
