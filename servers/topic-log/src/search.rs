//! Questions about the history of public channels: what may be asked, and what of an operation can be found.
//!
//! A shell keeps an index of its own beside the logs; this says what goes into it. Nothing of a topic that is not a
//! public channel is ever indexed.

use delta_core::identity::{Author, OperationId};
use delta_core::ops::{Content, read_public};
use delta_core::sync::frame::SequencedOp;
use delta_core::topic::{Generation, Seq, TopicId};
use thiserror::Error;

use crate::history::{HISTORY_MAX_BYTES, HistoryQuery};
use crate::storage::TopicFacts;

/// Most operations of one page.
pub const SEARCH_MAX_LIMIT: u16 = 100;
/// Operations of a page when the request names no limit.
pub const SEARCH_DEFAULT_LIMIT: u16 = 20;
/// Longest text to look for, bytes of UTF-8.
pub const SEARCH_MAX_TEXT: usize = 256;
/// Most words to look for, counted as what stands between blanks, and as runs of letters and digits: each costs a walk
/// through the index.
pub const SEARCH_MAX_WORDS: usize = 16;

/// A text to look for cannot be used. The client is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WordsError {
    /// Too long.
    #[error("a text to look for has at most {SEARCH_MAX_TEXT} bytes")]
    TooLong,
    /// Too many words.
    #[error("a text to look for has at most {SEARCH_MAX_WORDS} words")]
    TooMany,
}

/// Words that must all occur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// Splits a text at white space and control characters, and passes over what has no letters and digits; `None`
    /// when nothing is left.
    ///
    /// # Errors
    /// The text is above a limit.
    pub fn parse(text: &str) -> Result<Option<Self>, WordsError> {
        if text.len() > SEARCH_MAX_TEXT {
            return Err(WordsError::TooLong);
        }
        let between = |letter: char| letter.is_whitespace() || letter.is_control();
        let mut words: Vec<String> =
            text.split(between).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let runs = text.split(|letter: char| !letter.is_alphanumeric()).filter(|run| !run.is_empty());
        if words.len().max(runs.count()) > SEARCH_MAX_WORDS {
            return Err(WordsError::TooMany);
        }
        words.retain(|word| word.contains(char::is_alphanumeric));
        Ok((!words.is_empty()).then_some(Self(words)))
    }

    /// As an FTS5 expression. Every word is a quoted string, so nothing in it is an operator.
    pub fn fts5(&self) -> String {
        let quoted: Vec<String> = self.0.iter().map(|word| fts5_string(word)).collect();
        quoted.join(" ")
    }
}

fn fts5_string(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

/// A question about a public channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchQuery {
    /// Words that must occur in the text of an operation.
    pub words: Option<Words>,
    /// Who must have signed it.
    pub author: Option<Author>,
    /// Where to look. With `after` the page takes the oldest that are found, else the newest.
    pub range: HistoryQuery,
}

impl SearchQuery {
    /// Whether the page takes the oldest that are found.
    pub const fn is_ascending(&self) -> bool {
        self.range.after.is_some()
    }
}

impl Default for SearchQuery {
    fn default() -> Self {
        let range = HistoryQuery { limit: SEARCH_DEFAULT_LIMIT, ..HistoryQuery::default() };
        Self { words: None, author: None, range }
    }
}

/// What was found, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPage {
    /// Which copy of the log.
    pub generation: Generation,
    /// Operations up to here can be found already; 0 for a topic that is no public channel.
    pub indexed: Seq,
    /// The operations, each with its author.
    pub found: Vec<(Author, SequencedOp)>,
}

impl SearchPage {
    /// The answer for a topic that is no public channel, and for one without operations.
    pub const fn empty(generation: Generation) -> Self {
        Self { generation, indexed: Seq(0), found: Vec::new() }
    }

    /// `generation[16] | indexed u64 | count u16 | count × (seq u64 | received_ms u64 | author[32] | len u32 | op)`.
    pub fn encode(&self) -> Vec<u8> {
        let bytes: usize = self.found.iter().map(|(_, op)| 52 + op.op.len()).sum();
        let mut out = Vec::with_capacity(26 + bytes);
        out.extend_from_slice(&self.generation.0);
        out.extend_from_slice(&self.indexed.0.to_be_bytes());
        out.extend_from_slice(&(self.found.len() as u16).to_be_bytes());
        for (author, op) in &self.found {
            out.extend_from_slice(&op.seq.0.to_be_bytes());
            out.extend_from_slice(&op.received.0.to_be_bytes());
            out.extend_from_slice(&author.0);
            out.extend_from_slice(&(op.op.len() as u32).to_be_bytes());
            out.extend_from_slice(&op.op);
        }
        out
    }

    /// Adds an operation; `false` when the page is full without it.
    pub fn push(&mut self, author: Author, op: SequencedOp) -> bool {
        let bytes: usize = self.found.iter().map(|(_, op)| op.op.len()).sum();
        if !self.found.is_empty() && bytes + op.op.len() > HISTORY_MAX_BYTES {
            return false;
        }
        self.found.push((author, op));
        true
    }
}

impl TopicFacts {
    /// Whether the topic is a public channel: it has taken a control message, which private topics never do.
    pub const fn is_public(&self) -> bool {
        self.counter > 0
    }
}

/// What the index keeps of an operation.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: OperationId,
    /// Who signed it.
    pub author: Author,
    /// What is found of it.
    pub said: Said,
}

/// What is found of an operation.
#[derive(Clone, PartialEq, Eq)]
pub enum Said {
    /// The words of a message or a profile.
    Text(String),
    /// Another text of a message.
    Edit(OperationId, String),
    /// The words of a message, and of its edits, are to be found no more: its author deleted it.
    Delete(OperationId),
    /// Nothing: found by author and place only.
    Nothing,
}

impl Entry {
    /// Reads and verifies an envelope; `None` when it holds no valid operation of the topic. Costs one Ed25519
    /// verification.
    pub fn of(topic: &TopicId, envelope: &[u8]) -> Option<Self> {
        let operation = read_public(envelope, topic).ok()?;
        let said = match operation.body.content {
            Content::MessageSend { text, .. } => Said::Text(text),
            Content::MessageEdit { target, text } => Said::Edit(target, text),
            Content::MessageDelete { target } => Said::Delete(target),
            Content::ProfileSet { name, bio, .. } => {
                Said::Text(bio.map_or_else(|| name.clone(), |bio| format!("{name}\n{bio}")))
            }
            _ => Said::Nothing,
        };
        Some(Self { id: operation.id, author: operation.author, said })
    }
}

#[cfg(test)]
mod tests {
    use delta_core::identity::Millis;

    use super::*;

    fn words(text: &str) -> Option<Words> {
        Words::parse(text).unwrap()
    }

    #[test]
    fn words_are_quoted_whatever_they_hold() {
        assert_eq!(words("two words").unwrap().fts5(), r#""two" "words""#);
        assert_eq!(words(" a\t\u{a0}b\0c\n").unwrap().fts5(), r#""a" "b" "c""#);
        assert_eq!(
            words(r#"say "hi" OR NOT (x* ^y) NEAR:z"#).unwrap().fts5(),
            r#""say" """hi""" "OR" "NOT" "(x*" "^y)" "NEAR:z""#
        );
        assert_eq!(words("- a !? b-c").unwrap().fts5(), r#""a" "b-c""#);
        for nothing in ["", " ", "\0\n", "!?", "- \" ()", "😀"] {
            assert_eq!(words(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn texts_to_look_for_are_bounded() {
        assert!(Words::parse(&"x".repeat(SEARCH_MAX_TEXT)).is_ok());
        assert_eq!(Words::parse(&"x".repeat(SEARCH_MAX_TEXT + 1)), Err(WordsError::TooLong));
        assert!(Words::parse(&"x ".repeat(SEARCH_MAX_WORDS)).is_ok());
        assert_eq!(Words::parse(&"x ".repeat(SEARCH_MAX_WORDS + 1)), Err(WordsError::TooMany));
        assert!(
            Words::parse(&"x-".repeat(SEARCH_MAX_WORDS)).is_ok(),
            "one word for us, a phrase for the index"
        );
        assert_eq!(Words::parse(&"x-".repeat(SEARCH_MAX_WORDS + 1)), Err(WordsError::TooMany));
        assert_eq!(Words::parse(&"- ".repeat(SEARCH_MAX_WORDS + 1)), Err(WordsError::TooMany));
    }

    #[test]
    fn a_page_ends_at_four_mebibytes_and_holds_at_least_one() {
        let op = |len| SequencedOp { seq: Seq(1), received: Millis(0), op: vec![0; len].into() };
        let mut page = SearchPage::empty(Generation([0; 16]));
        assert!(page.push(Author([0; 32]), op(HISTORY_MAX_BYTES + 1)));
        assert!(!page.push(Author([0; 32]), op(1)));
        let mut page = SearchPage::empty(Generation([0; 16]));
        assert!(page.push(Author([0; 32]), op(HISTORY_MAX_BYTES - 1)));
        assert!(page.push(Author([0; 32]), op(1)));
        assert!(!page.push(Author([0; 32]), op(1)));
    }
}
