//! The schema of the database, and how an older one becomes it.

use super::{Sql, StoreError, damaged, error};

/// "DLsy": marks the file as a sync server's database.
pub(super) const APPLICATION_ID: i64 = 0x444c_7379;
/// Rises with every migration, and is the number of [`MIGRATIONS`].
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;
/// What makes each schema version from the one before. Never edited, only added to.
pub(super) const MIGRATIONS: [&str; 3] = [V1, V2, V3];
const V1: &str = "
    CREATE TABLE operations (
        topic    BLOB    NOT NULL,
        seq      INTEGER NOT NULL,
        received INTEGER NOT NULL,
        hash     BLOB    NOT NULL,
        chain    BLOB    NOT NULL,
        op       BLOB,
        PRIMARY KEY (topic, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX operations_hash ON operations (topic, hash);
    CREATE TABLE topics (
        topic  BLOB    NOT NULL PRIMARY KEY,
        signed INTEGER NOT NULL DEFAULT 0,
        tail   INTEGER NOT NULL DEFAULT 1
    ) STRICT, WITHOUT ROWID;
";
/// `closed`: 0 open, 1 deleted, 2 blocked.
const V2: &str = "
    ALTER TABLE topics ADD COLUMN closed   INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE topics ADD COLUMN counter  INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE topics ADD COLUMN read_key BLOB;
    ALTER TABLE topics ADD COLUMN metadata BLOB;
";
/// `total`: bytes of the topic's operations up to and with this one, so that what a topic keeps is a difference of
/// two rows. Operations that are evicted already count nothing: only differences above the tail matter.
const V3: &str = "
    ALTER TABLE operations ADD COLUMN total INTEGER NOT NULL DEFAULT 0;
    UPDATE operations SET total = counted.total FROM (
        SELECT topic, seq, sum(ifnull(length(op), 0)) OVER (PARTITION BY topic ORDER BY seq) AS total
        FROM operations
    ) AS counted WHERE operations.topic = counted.topic AND operations.seq = counted.seq;
    CREATE INDEX topics_public ON topics (topic) WHERE counter > 0;
";

impl Sql {
    pub(super) fn migrate(&self) -> Result<(), StoreError> {
        let wrap = |source| error(&self.path, source);
        let get = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(wrap);
        let version = get("PRAGMA user_version")?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer { path: self.path.clone(), found: version });
        }
        if version == 0 && get("SELECT count(*) FROM sqlite_schema")? != 0 {
            return Err(damaged(&self.path, "its tables are another program's"));
        }
        if version > 0 && get("PRAGMA application_id")? != APPLICATION_ID {
            return Err(damaged(&self.path, "its application id is another program's"));
        }
        let missing = MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0));
        let steps: String = missing.copied().collect();
        if steps.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {steps} \
             PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        );
        self.connection.execute_batch(&sql).map_err(wrap)
    }
}
