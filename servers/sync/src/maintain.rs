//! The operator's commands: look after a data folder, with or without a server running on it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use delta_core::identity::Millis;
use delta_core::topic::TopicId;
use delta_server_shell::{FileError, NodeFolder, PlatformEntropy};
use delta_topic_log::{
    AppendError, Closed, GenerationSecret, LogReader, LogState, LogStorage, TopicLogs, Write,
};
use thiserror::Error;

use crate::data::{DataError, DataFolder};
use crate::export::{self, ExportError, Exported, Header};
use crate::limits::Limits;
use crate::retention::Retention;
use crate::search;
use crate::store::{Index, Report, Sql, StoreError};

/// Operations of one commit of an import.
const IMPORT_COMMIT: u64 = 1000;

/// A command failed; the message says what is left as it was.
#[derive(Debug, Error)]
pub enum MaintainError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file of the data folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A topic cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// An export file is wrong.
    #[error("{}: {source}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ExportError,
    },
    /// There is no server's folder.
    #[error("{} is no data folder of a sync server", .0.display())]
    NoServer(PathBuf),
    /// A file that is to be written is there already, or cannot be made.
    #[error("cannot make {}: {source}", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server has never heard of the topic.
    #[error("the server has no topic {0}")]
    UnknownTopic(TopicId),
    /// The topic was deleted here; that is for good.
    #[error("the topic {0} was deleted on this server")]
    Deleted(TopicId),
    /// The topic is blocked here.
    #[error("the topic {0} is blocked on this server: unblock it first")]
    Blocked(TopicId),
    /// The check found something.
    #[error(
        "the check found {0} problems: restore a backup, or export what is whole and import it elsewhere"
    )]
    Problems(usize),
}

/// What to do to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TopicAction {
    /// Drop its operations, close its sockets and take nothing more, for good.
    Delete,
    /// Show and take nothing, until it is unblocked; its operations are kept.
    Block,
    /// Serve it again after a block.
    Unblock,
}

fn existing(data: &Path) -> Result<DataFolder, MaintainError> {
    if !NodeFolder::is_one(data) {
        return Err(MaintainError::NoServer(data.to_owned()));
    }
    Ok(DataFolder::open(data, &mut PlatformEntropy)?)
}

/// Checks a database, also of a running server.
///
/// # Errors
/// It cannot be checked at all.
pub fn check(data: &Path) -> Result<Report, MaintainError> {
    let folder = existing(data)?;
    let secret = folder.existing_generation()?;
    let sql = Sql::reader(&folder.database())?;
    let mut report = sql.snapshot(|sql| sql.check(&secret))?;
    report.problems.extend(check_index(&folder.index(), &sql, &secret)?);
    Ok(report)
}

/// The index of public channels is made from the logs: when it is wrong, nothing is lost.
fn check_index(path: &Path, sql: &Sql, secret: &GenerationSecret) -> Result<Vec<String>, MaintainError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let name = path.display();
    match Index::reader(path).and_then(|index| search::check(&index, sql, secret)) {
        Ok(problems) => Ok(problems.iter().map(|problem| format!("{name}: {problem}")).collect()),
        Err(StoreError::Damaged { why, .. }) => Ok(vec![format!(
            "{name}: it is damaged ({why}); stop the server, remove the file, start: it is made anew"
        )]),
        Err(other) => Err(other.into()),
    }
}

/// Deletes, blocks or unblocks a topic. A running server follows within a second.
///
/// # Errors
/// Nothing was changed.
pub fn topic(data: &Path, action: TopicAction, topic: &TopicId) -> Result<String, MaintainError> {
    let folder = existing(data)?;
    let secret = folder.existing_generation()?;
    let storage = Sql::writer(&folder.database(), 0)?;
    // One that nobody has written to yet can be blocked, too.
    let state = storage.state(topic)?.unwrap_or(LogState::EMPTY);
    let mut logs = TopicLogs::new(storage, secret);
    let (closed, done) = match (action, state.closed) {
        (_, Some(Closed::Deleted)) => return Err(MaintainError::Deleted(*topic)),
        (TopicAction::Delete, _) => (Some(Closed::Deleted), "deleted"),
        (TopicAction::Block, _) => (Some(Closed::Blocked), "blocked"),
        (TopicAction::Unblock, _) => (None, "unblocked"),
    };
    logs.set_closed(topic, closed)?;
    logs.commit()?;
    // A large log goes in rounds, between which a running server goes on.
    let mut retention = Retention::new(Limits::default());
    retention.closed([*topic]);
    while retention.is_busy() {
        retention.round(Millis(0), &mut logs)?;
    }
    Ok(format!("{done} {topic}"))
}

/// Copies a data folder, also of a running server, to a new folder. The onion keys are left out: a server started on
/// the copy makes new ones.
///
/// # Errors
/// The copy is not whole.
pub fn backup(data: &Path, to: &Path) -> Result<String, MaintainError> {
    copy(&existing(data)?, to)?;
    Ok(format!("copied to {}", to.display()))
}

/// Makes a data folder from a backup and gives it a new generation secret: its logs lack what came after the backup, so
/// clients must take them for other logs and deliver that again. The backup stays as it is.
///
/// # Errors
/// There is no new data folder.
pub fn restore(from: &Path, data: &Path) -> Result<String, MaintainError> {
    let make = |source| MaintainError::Make { path: data.to_owned(), source };
    if data.exists() {
        return Err(make(std::io::ErrorKind::AlreadyExists.into()));
    }
    // Under its name only when it is whole.
    let mut part = data.as_os_str().to_owned();
    part.push(".restoring");
    let part = PathBuf::from(part);
    if part.exists() {
        fs::remove_dir_all(&part).map_err(make)?;
    }
    copy(&existing(from)?, &part)?;
    let folder = DataFolder::open(&part, &mut PlatformEntropy)?;
    {
        let _lock = folder.lock()?;
        let change = folder.start_generation(&mut PlatformEntropy)?;
        let mut sql = Sql::writer(&folder.database(), 0)?;
        sql.rechain(change.secret())?;
        sql.empty_log()?;
        change.finish()?;
    }
    fs::rename(&part, data).map_err(make)?;
    if let Some(parent) = data.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(make)?;
    }
    Ok(format!("restored to {}", data.display()))
}

fn copy(folder: &DataFolder, to: &Path) -> Result<(), MaintainError> {
    folder.whole()?;
    let make = |source| MaintainError::Make { path: to.to_owned(), source };
    DirBuilder::new().mode(0o700).create(to).map_err(make)?;
    let copied = copy_into(folder, to);
    if copied.is_err() {
        // Half a backup is none; and the next try is to find its place free.
        let _ = fs::remove_dir_all(to);
    }
    copied
}

fn copy_into(folder: &DataFolder, to: &Path) -> Result<(), MaintainError> {
    let make = |source| MaintainError::Make { path: to.to_owned(), source };
    Sql::reader(&folder.database())?.copy_to(&DataFolder::database_in(to))?;
    // After the database: a secret is never older than what it belongs to, and it changes only while no server runs.
    folder.copy_secrets(to)?;
    File::open(DataFolder::database_in(to)).and_then(|file| file.sync_all()).map_err(make)?;
    File::open(to).and_then(|folder| folder.sync_all()).map_err(make)
}

/// Writes what the server keeps of a topic to a new file. The server may be running.
///
/// # Errors
/// The file is not whole and was removed.
pub fn export(data: &Path, topic: &TopicId, to: &Path) -> Result<String, MaintainError> {
    let folder = existing(data)?;
    folder.whole()?;
    let sql = Sql::reader(&folder.database())?;
    let make = |source| MaintainError::Make { path: to.to_owned(), source };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(make)?;
    let write = || -> Result<u64, MaintainError> {
        let mut out = BufWriter::new(&file);
        let count = sql.snapshot(|sql| {
            match sql.state(topic)?.map(|state| state.closed) {
                None => return Ok(Err(MaintainError::UnknownTopic(*topic))),
                Some(Some(Closed::Deleted)) => return Ok(Err(MaintainError::Deleted(*topic))),
                Some(_) => {}
            }
            Ok(export::write(sql, topic, &mut out).map_err(MaintainError::from))
        })??;
        out.flush().and_then(|()| file.sync_all()).map_err(make)?;
        Ok(count)
    };
    match write() {
        Ok(count) => Ok(format!("exported {count} operations to {}", to.display())),
        Err(error) => {
            let _ = fs::remove_file(to);
            Err(error)
        }
    }
}

/// Takes exported topics into a server that is not running, and gives the server a new generation secret: every log
/// here counts as another one from now on, so clients compare instead of trusting a cursor of before.
///
/// # Errors
/// The folder refuses to be served until an import has run to its end.
pub fn import(data: &Path, files: &[PathBuf]) -> Result<Vec<String>, MaintainError> {
    // Nothing is touched before every file is known to be whole, and to be of a topic that may come back.
    let headers = files.iter().map(|path| {
        open(path).and_then(|mut file| export::read(&mut file, |_, _| Ok::<_, MaintainError>(()))).map_err(
            |error| match error {
                MaintainError::Export(source) => MaintainError::Import { path: path.clone(), source },
                other => other,
            },
        )
    });
    let headers = headers.collect::<Result<Vec<Header>, MaintainError>>()?;
    let folder = DataFolder::open(data, &mut PlatformEntropy)?;
    let _lock = folder.lock()?;
    if folder.database().exists() {
        let sql = Sql::reader(&folder.database())?;
        for Header { topic, .. } in &headers {
            match sql.state(topic)?.and_then(|state| state.closed) {
                Some(Closed::Deleted) => return Err(MaintainError::Deleted(*topic)),
                Some(Closed::Blocked) => return Err(MaintainError::Blocked(*topic)),
                None => {}
            }
        }
    }
    let change = folder.start_generation(&mut PlatformEntropy)?;
    let mut storage = Sql::writer(&folder.database(), 0)?;
    storage.rechain(change.secret())?;
    let mut logs = TopicLogs::new(storage, change.secret().clone());
    let mut lines = Vec::new();
    for path in files {
        let header = take(&mut logs, path)?;
        lines.push(format!("imported {} operations of {}", header.count, header.topic));
    }
    logs.storage().empty_log()?;
    change.finish()?;
    Ok(lines)
}

fn open(path: &Path) -> Result<BufReader<File>, MaintainError> {
    Ok(BufReader::new(File::open(path).map_err(ExportError::from)?))
}

fn take(logs: &mut TopicLogs<Sql>, path: &Path) -> Result<Header, MaintainError> {
    let mut since = 0;
    let mut placed = Vec::new();
    let header = export::read(&mut open(path)?, |header, exported| {
        let Exported { received, op, .. } = exported;
        let write = if header.signed { Write::Signed } else { Write::Unsigned };
        placed.clear();
        logs.append(received, &header.topic, &[&op], write, &mut placed).map_err(|error| match error {
            AppendError::Storage(error) => error.into(),
            AppendError::Closed => MaintainError::Deleted(header.topic),
            _ => MaintainError::Export(ExportError::Damaged("an operation the log does not take")),
        })?;
        since += 1;
        if since % IMPORT_COMMIT == 0 {
            logs.commit()?;
        }
        Ok::<_, MaintainError>(())
    })?;
    logs.commit()?;
    let storage = logs.storage_mut();
    if storage.facts(&header.topic)?.counter < header.facts.counter {
        storage.set_facts(&header.topic, &header.facts)?;
    }
    Ok(header)
}
