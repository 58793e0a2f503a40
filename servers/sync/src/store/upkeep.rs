//! SQL of the operator's commands: check, backup, and new chains under a new generation secret.

use std::path::Path;

use delta_core::identity::EnvelopeHash;
use delta_core::topic::{Chain, Seq, TopicId};
use delta_topic_log::{GenerationSecret, LogReader, LogState};
use rusqlite::params;

use super::{Sql, StoreError, integer, seq_of};

/// Rows read before their new chain values are written.
const PAGE: usize = 1000;

/// What a check of the whole database found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Topics looked at.
    pub topics: u64,
    /// Rows looked at, evicted operations included.
    pub rows: u64,
    /// One line for each thing that is wrong.
    pub problems: Vec<String>,
}

/// One row, as a check sees it.
struct Row {
    seq: Seq,
    received: i64,
    hash: [u8; 32],
    chain: [u8; 32],
    /// Hash and size of the operation itself; `None` when it was evicted.
    op: Option<(EnvelopeHash, usize)>,
    /// Bytes of operations up to and with this one.
    total: i64,
}

impl Sql {
    /// Checks SQLite's own structure, and of every topic that seqs have no hole, operations have their hashes, times
    /// do not go back, evicted are exactly those below the tail, and the chain is the one of the generation.
    ///
    /// # Errors
    /// The database cannot be read at all.
    pub fn check(&self, secret: &GenerationSecret) -> Result<Report, StoreError> {
        let mut report = Report { problems: self.integrity()?, ..Report::default() };
        let mut topic = None;
        while let Some(next) = self.topic_after(topic.as_ref())? {
            report.topics += 1;
            self.check_topic(secret, &next, &mut report)?;
            topic = Some(next);
        }
        Ok(report)
    }

    /// What SQLite finds wrong with the structure of the file.
    pub(super) fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let mut statement = self.statement("PRAGMA integrity_check")?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0));
        let lines: Vec<String> = lines.and_then(Iterator::collect).map_err(|source| self.error(source))?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    fn check_topic(
        &self,
        secret: &GenerationSecret,
        topic: &TopicId,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let LogState { head, tail, .. } = self.state(topic)?.unwrap_or(LogState::EMPTY);
        if tail.0 > head.0.saturating_add(1) {
            report.problems.push(format!("{topic}: its tail {tail} lies past its head {head}"));
        }
        let mut chain = Chain::start(topic, &secret.generation(topic));
        let (mut last, mut received, mut total) = (Seq(0), 0, 0);
        let mut check = |row: Row| {
            let mut problem = |what: &str| report.problems.push(format!("{topic} seq {}: {what}", row.seq));
            if Some(row.seq) != last.next() {
                problem("operations before it are missing");
            }
            if row.received < received {
                problem("it was received before its predecessor");
            }
            match row.op {
                Some(_) if row.seq < tail => problem("it is below the tail and was not evicted"),
                None if row.seq >= tail => problem("its operation is missing"),
                Some((hash, _)) if hash.0 != row.hash => problem("its operation is not the one of its hash"),
                Some((_, 0)) => problem("its operation is empty"),
                _ => {}
            }
            // What is evicted has left no length behind, and what was evicted before totals were kept counts nothing.
            let len = row.op.map_or(0, |(_, len)| len as i64);
            if row.op.is_some() && row.seq > tail && row.total != total + len {
                problem("the bytes counted up to it are not those of the operations");
            }
            if chain.next(row.seq, &EnvelopeHash(row.hash)).0 != row.chain {
                problem("the chain breaks here");
            }
            // From what is stored: one break is told once.
            (last, received, total, chain) = (row.seq, row.received, row.total, Chain(row.chain));
            report.rows += 1;
        };
        let mut statement = self.statement(
            "SELECT seq, received, hash, chain, op, total FROM operations WHERE topic = ?1 ORDER BY seq",
        )?;
        let mut read = || {
            let mut rows = statement.query([&topic.0])?;
            while let Some(row) = rows.next()? {
                let op = row.get_ref(4)?.as_blob_or_null()?;
                check(Row {
                    seq: seq_of(row, 0)?,
                    received: row.get(1)?,
                    hash: row.get(2)?,
                    chain: row.get(3)?,
                    op: op.map(|op| (EnvelopeHash::of(op), op.len())),
                    total: row.get(5)?,
                });
            }
            Ok(())
        };
        read().map_err(|source| self.error(source))
    }

    /// Writes a copy of the database, as of now, to a new file. A server may be running.
    ///
    /// # Errors
    /// The database cannot be read or the file not be written.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let mut statement = self.statement("VACUUM INTO ?1")?;
        let copied = statement.execute([path.to_string_lossy().as_ref()]).map(drop);
        copied.map_err(|source| match self.error(source) {
            // It is the new file there is no room for.
            StoreError::Full { .. } => StoreError::Full { path: path.to_owned() },
            other => other,
        })
    }

    /// Gives every row the chain value it has under another generation secret, in one transaction.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn rechain(&mut self, secret: &GenerationSecret) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE")?;
        let rechained = self.try_rechain(secret);
        match &rechained {
            Ok(()) => self.run("COMMIT"),
            Err(_) => {
                let _ = self.run("ROLLBACK");
                rechained
            }
        }
    }

    fn try_rechain(&self, secret: &GenerationSecret) -> Result<(), StoreError> {
        let mut topic = None;
        while let Some(next) = self.topic_after(topic.as_ref())? {
            let mut chain = Chain::start(&next, &secret.generation(&next));
            let mut seq = Seq(0);
            loop {
                let page = self.hashes_after(&next, seq)?;
                for (at, hash) in &page {
                    chain = chain.next(*at, hash);
                    let mut statement =
                        self.statement("UPDATE operations SET chain = ?3 WHERE topic = ?1 AND seq = ?2")?;
                    let values = params![&next.0, integer(*at), &chain.0];
                    statement.execute(values).map_err(|source| self.error(source))?;
                    seq = *at;
                }
                if page.len() < PAGE {
                    break;
                }
            }
            topic = Some(next);
        }
        Ok(())
    }

    fn hashes_after(&self, topic: &TopicId, seq: Seq) -> Result<Vec<(Seq, EnvelopeHash)>, StoreError> {
        let mut statement = self.statement(
            "SELECT seq, hash FROM operations WHERE topic = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?;
        let values = params![&topic.0, integer(seq), PAGE as i64];
        let rows = statement.query_map(values, |row| Ok((seq_of(row, 0)?, EnvelopeHash(row.get(1)?))));
        rows.and_then(Iterator::collect).map_err(|source| self.error(source))
    }
}

#[cfg(test)]
mod tests {
    use delta_core::identity::Millis;
    use delta_topic_log::{TopicLogs, Write};

    use super::*;

    const TOPIC: TopicId = TopicId([7; 32]);

    fn secret(byte: u8) -> GenerationSecret {
        GenerationSecret::from_bytes([byte; 32])
    }

    fn filled(path: &Path) -> Sql {
        let mut logs = TopicLogs::new(Sql::writer(path, 0).unwrap(), secret(1));
        for topic in [TOPIC, TopicId([8; 32])] {
            for n in 0..5u8 {
                let now = Millis(n.into());
                logs.append(now, &topic, &[&[n, topic.0[0]]], Write::Signed, &mut Vec::new()).unwrap();
            }
        }
        logs.evict(&TOPIC, Seq(2)).unwrap();
        logs.commit().unwrap();
        logs.into_storage()
    }

    #[test]
    fn a_check_finds_nothing_wrong_and_everything_that_is() {
        let dir = tempfile::tempdir().unwrap();
        let sql = filled(&dir.path().join("db"));
        let good = sql.check(&secret(1)).unwrap();
        assert_eq!(good, Report { topics: 2, rows: 10, problems: vec![] });
        for (damage, expected) in [
            ("UPDATE operations SET op = x'ff' WHERE seq = 4", "not the one of its hash"),
            ("UPDATE operations SET op = NULL WHERE seq = 4", "its operation is missing"),
            ("UPDATE operations SET op = x'00' WHERE seq = 1", "was not evicted"),
            ("UPDATE operations SET received = 0 WHERE seq = 4", "received before its predecessor"),
            ("UPDATE operations SET chain = zeroblob(32) WHERE seq = 5", "the chain breaks here"),
            ("DELETE FROM operations WHERE seq = 4", "operations before it are missing"),
            ("UPDATE operations SET total = total + 1 WHERE seq = 5", "the bytes counted up to it"),
            ("UPDATE topics SET tail = 9 WHERE signed >= 0", "its tail 9 lies past its head 5"),
        ] {
            sql.run("SAVEPOINT damage").unwrap();
            let changed = format!("{damage} AND topic = x'{}'", "07".repeat(32));
            assert_eq!(sql.connection.execute(&changed, []).unwrap(), 1);
            let problems = sql.check(&secret(1)).unwrap().problems;
            assert!(problems.iter().any(|line| line.contains(expected)), "{damage}: {problems:?}");
            sql.run("ROLLBACK TO damage").unwrap();
            sql.run("RELEASE damage").unwrap();
        }
        assert_eq!(sql.check(&secret(2)).unwrap().problems.len(), 2, "one for each topic");
    }

    #[test]
    fn new_chains_belong_to_the_new_secret_and_a_copy_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut sql = filled(&dir.path().join("db"));
        sql.rechain(&secret(2)).unwrap();
        assert!(sql.check(&secret(2)).unwrap().problems.is_empty());
        assert_eq!(sql.check(&secret(1)).unwrap().problems.len(), 2);
        let copy = dir.path().join("copy");
        sql.copy_to(&copy).unwrap();
        let report = Sql::writer(&copy, 0).unwrap().check(&secret(2)).unwrap();
        assert_eq!(report, Report { topics: 2, rows: 10, problems: vec![] });
    }
}
