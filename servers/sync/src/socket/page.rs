//! A page of replay: operations from the disk, encoded on the reading thread.

use delta_core::sync::frame::OpsWriter;
use delta_core::topic::{Chain, Seq, TopicId};
use delta_topic_log::{GenerationSecret, LogReader, LogView, StoredOp, json};

use super::Mode;
use crate::store::{Sql, StoreError};
use crate::wire::{self, Wire};

/// Operations and bytes of one page.
pub(super) const PAGE_OPS: u32 = 1024;
const PAGE_BYTES: usize = 256 * 1024;

/// What one read found.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The first retained seq and the chain before it, when operations before it were evicted.
    pub(super) gap: Option<(Seq, Chain)>,
    /// The operations, as they are written.
    pub(super) wires: Vec<Wire>,
    most: u32,
    first: Seq,
    /// The last of them.
    pub(super) last: Seq,
    /// The chain value at `last`; `None` without operations.
    pub(super) chain: Option<Chain>,
    /// How many they are.
    pub(super) count: u32,
}

impl Page {
    /// The operations after a position, as many as a page holds and at most `most`.
    pub(super) fn read(
        sql: &Sql,
        secret: &GenerationSecret,
        topic: &TopicId,
        after: Seq,
        most: u32,
        mode: Mode,
    ) -> Result<Self, StoreError> {
        let mut page = Self { most: most.min(PAGE_OPS), ..Self::default() };
        match mode {
            Mode::Binary => page.read_binary(sql, topic, after)?,
            Mode::Json => page.read_json(sql, topic, after)?,
        }
        let before =
            if page.count > 0 { page.first.previous() } else { sql.state(topic)?.map_or(after, |s| s.head) };
        if before > after {
            let view = LogView::read(sql, secret, topic)?;
            let chain = view.chain_at(sql, topic, before)?;
            page.gap = chain.zip(before.next()).map(|(chain, first)| (first, chain));
        }
        Ok(page)
    }

    fn read_binary(&mut self, sql: &Sql, topic: &TopicId, after: Seq) -> Result<(), StoreError> {
        let mut writer = OpsWriter::new();
        let mut bytes = 0;
        sql.ascend(topic, after, Seq(u64::MAX), &mut |stored| {
            if !writer.fits(stored.op.len()) {
                self.wires.extend(writer.take().map(wire::binary));
            }
            // Never refused: the frame has room, and nothing empty or oversized is stored.
            let _ = writer.push(stored.seq, stored.received, stored.op);
            bytes += stored.op.len();
            self.count(&stored) && bytes < PAGE_BYTES
        })?;
        self.wires.extend(writer.take().map(wire::binary));
        Ok(())
    }

    fn read_json(&mut self, sql: &Sql, topic: &TopicId, after: Seq) -> Result<(), StoreError> {
        let mut texts = wire::Texts::default();
        sql.ascend(topic, after, Seq(u64::MAX), &mut |stored| {
            texts.push(&json::op(stored.seq, stored.op));
            self.count(&stored) && texts.size() < PAGE_BYTES
        })?;
        if self.count > 0 {
            self.wires.push(texts.finish());
        }
        Ok(())
    }

    fn count(&mut self, stored: &StoredOp<'_>) -> bool {
        if self.count == 0 {
            self.first = stored.seq;
        }
        self.count += 1;
        self.last = stored.seq;
        self.chain = Some(stored.chain);
        self.count < self.most
    }
}

#[cfg(test)]
mod tests {
    use delta_core::identity::Millis;
    use delta_topic_log::{TopicLogs, Write};

    use super::*;

    #[test]
    fn a_page_holds_no_more_than_it_is_asked_for_nor_than_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let (topic, secret) = (TopicId([7; 32]), GenerationSecret::from_bytes([1; 32]));
        let mut logs = TopicLogs::new(Sql::writer(&dir.path().join("db"), 0).unwrap(), secret.clone());
        let ops: Vec<_> = (0..=PAGE_OPS).map(u32::to_be_bytes).collect();
        let ops: Vec<_> = ops.iter().map(<[u8; 4]>::as_slice).collect();
        logs.append(Millis(1), &topic, &ops, Write::Signed, &mut Vec::new()).unwrap();
        logs.commit().unwrap();
        for mode in [Mode::Binary, Mode::Json] {
            for (most, count) in [(256, 256), (PAGE_OPS, PAGE_OPS), (u32::MAX, PAGE_OPS)] {
                let page = Page::read(logs.storage(), &secret, &topic, Seq(0), most, mode).unwrap();
                assert_eq!((page.count, page.last), (count, Seq(count.into())));
            }
        }
    }
}
