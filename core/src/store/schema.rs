//! Bringing a database to the newest schema: numbered files in `migrations/`, each in a transaction of its own.

use super::db::Db;
use super::error::StoreError;

/// Marks a file as a Delta device database: "DLTA".
pub(super) const APPLICATION_ID: u32 = 0x444c_5441;

/// The files of `migrations/`, oldest first; the n-th makes `user_version` n. Never edit one that was released.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/0001_device.sql"),
    include_str!("../../../migrations/0002_accountability.sql"),
    include_str!("../../../migrations/0003_rotation.sql"),
    include_str!("../../../migrations/0004_spaces.sql"),
    include_str!("../../../migrations/0005_search.sql"),
    include_str!("../../../migrations/0006_session_peers.sql"),
    include_str!("../../../migrations/0007_key_values.sql"),
    include_str!("../../../migrations/0008_devices.sql"),
    include_str!("../../../migrations/0009_reading.sql"),
    include_str!("../../../migrations/0010_epoch_keys.sql"),
    include_str!("../../../migrations/0011_inbox.sql"),
    include_str!("../../../migrations/0012_requests.sql"),
    include_str!("../../../migrations/0013_retired.sql"),
    include_str!("../../../migrations/0014_threads.sql"),
    include_str!("../../../migrations/0015_astray.sql"),
    include_str!("../../../migrations/0016_waiting.sql"),
    include_str!("../../../migrations/0017_blobs.sql"),
    include_str!("../../../migrations/0018_documents.sql"),
    include_str!("../../../migrations/0019_search_origin.sql"),
];

/// The newest schema version.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Whose database this is and which schema it has, before anything is changed. 0: a new, empty file.
pub(super) fn identify(db: &Db) -> Result<u32, StoreError> {
    let path = || db.file().path();
    let application_id: u32 = db.pragma("PRAGMA application_id")?;
    let found: u32 = db.pragma("PRAGMA user_version")?;
    let tables: u32 = db.pragma("SELECT count(*) FROM sqlite_schema")?;
    if application_id == 0 && found == 0 && tables == 0 {
        return Ok(0);
    }
    if application_id != APPLICATION_ID {
        return Err(StoreError::ForeignDatabase { path: path(), application_id });
    }
    match found {
        0 => Err(StoreError::Corrupt { path: path(), detail: "the schema version is missing".into() }),
        1..=SCHEMA_VERSION => Ok(found),
        _ => Err(StoreError::NewerSchema { path: path(), found, known: SCHEMA_VERSION }),
    }
}

/// Runs the migrations after `version`.
pub(super) fn migrate(db: &Db, version: u32) -> Result<(), StoreError> {
    for (version, sql) in (1u32..).zip(MIGRATIONS).skip(version as usize) {
        let done = db.batch(&format!(
            "BEGIN IMMEDIATE;\n{sql}\nPRAGMA application_id = {APPLICATION_ID};\n\
             PRAGMA user_version = {version};\nCOMMIT;"
        ));
        if let Err(error) = done {
            // Fails only when SQLite has rolled back by itself.
            let _ = db.batch("ROLLBACK");
            return Err(error);
        }
    }
    Ok(())
}
