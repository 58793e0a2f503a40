//! The sync server's logic without IO: topic logs, subscriptions, history pages, JSON frames.
//!
//! The native server and any other shell host this one logic over their own [`LogStorage`]; tests and the
//! simulation use [`MemoryStorage`]. No clock, no sockets, no threads: time and bytes are arguments. A shell
//! stages appends with [`TopicLogs::append`], makes them durable with [`TopicLogs::commit`], and only then lets
//! anyone hear of them.

mod control;
mod generation;
mod history;
pub mod json;
mod logs;
mod memory;
mod search;
mod storage;
mod subscription;

pub use control::{ControlRefused, Controlled, DELETED_AT_ONCE};
pub use generation::GenerationSecret;
pub use history::{
    HISTORY_DEFAULT_LIMIT, HISTORY_MAX_BYTES, HISTORY_MAX_LIMIT, HistoryPage, HistoryQuery, MAX_HAS, has,
    history, seq_range,
};
pub use logs::{AppendError, Delivered, DeliveryRefused, Placed, TopicLogs, Write};
pub use memory::MemoryStorage;
pub use search::{
    Entry, SEARCH_DEFAULT_LIMIT, SEARCH_MAX_LIMIT, SEARCH_MAX_TEXT, SEARCH_MAX_WORDS, Said, SearchPage,
    SearchQuery, Words, WordsError,
};
pub use storage::{
    Closed, Inserted, LogReader, LogState, LogStorage, LogView, NewRow, Order, StoredOp, TopicFacts,
};
pub use subscription::{Cursor, HEAD_AFTER_OPS, HEAD_AFTER_SILENCE_MS, Next, Subscription};
