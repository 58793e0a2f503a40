//! Looks for what nobody on the way may see: author keys, operation kinds, message texts.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use aho_corasick::AhoCorasick;
use anyhow::Context;
use delta_core::ops::Action;

/// Only this much of a needle is looked for: longer ones would make every scan remember more.
const NEEDLE: usize = 24;
/// A text shorter than this could turn up by chance.
const SHORTEST: usize = 10;
/// Operation kinds as they stand in a body, beside those of membership.
const KINDS: [&str; 16] = [
    "message.send",
    "message.edit",
    "message.delete",
    "reaction.add",
    "reaction.remove",
    "profile.set",
    "room.rotate",
    "device.bundle",
    "direct.request",
    "direct.accept",
    "direct.renew",
    "pair.answer",
    "pair.welcome",
    "invite.claim",
    "member.request",
    "leave.request",
];

/// What a needle is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Author,
    Operation,
    Text,
    Topic,
}

/// Everything that is looked for.
#[derive(Debug)]
pub struct Needles {
    automaton: AhoCorasick,
    kinds: Vec<Kind>,
}

/// How often each kind was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Author keys, as bytes or hex.
    pub authors: u64,
    /// Names of operation kinds.
    pub kinds: u64,
    /// Message texts.
    pub texts: u64,
    /// Topic ids, as bytes or hex: what the server must know.
    pub topics: u64,
}

impl Found {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.authors += other.authors;
        self.kinds += other.kinds;
        self.texts += other.texts;
        self.topics += other.topics;
    }

    /// Whether nothing was found that gives away who said what.
    pub const fn is_clean(&self) -> bool {
        self.authors == 0 && self.kinds == 0 && self.texts == 0
    }
}

impl Needles {
    /// Authors, a topic and the texts that are going to be published.
    pub fn new(authors: &[[u8; 32]], topic: &[u8; 32], texts: &[String]) -> anyhow::Result<Self> {
        let mut needles: Vec<(Vec<u8>, Kind)> = Vec::new();
        for (bytes, kind) in authors.iter().map(|author| (author, Kind::Author)).chain([(topic, Kind::Topic)])
        {
            needles.push((bytes.to_vec(), kind));
            needles.push((hex::encode(bytes).into_bytes(), kind));
        }
        needles.extend(
            KINDS.iter().chain(Action::KINDS).map(|name| (name.as_bytes().to_vec(), Kind::Operation)),
        );
        needles.extend(texts.iter().map(|text| (text.as_bytes().to_vec(), Kind::Text)));
        needles.retain(|(needle, _)| needle.len() >= SHORTEST);
        let patterns = needles.iter().map(|(needle, _)| needle.get(..NEEDLE).unwrap_or(needle));
        let automaton = AhoCorasick::new(patterns).context("the texts cannot be searched for")?;
        Ok(Self { automaton, kinds: needles.into_iter().map(|(_, kind)| kind).collect() })
    }

    /// Searches one file, or every file of a folder.
    pub fn search(&self, path: &Path) -> anyhow::Result<Found> {
        let mut found = Found::default();
        if path.is_dir() {
            for entry in path.read_dir().with_context(|| path.display().to_string())? {
                found.add(&self.search(&entry?.path())?);
            }
            return Ok(found);
        }
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let (mut scanner, mut buffer) = (Scanner::default(), vec![0; 1024 * 1024]);
        loop {
            let len = file.read(&mut buffer)?;
            let bytes = buffer.get(..len).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(found);
            }
            found.add(&scanner.scan(self, bytes));
        }
    }
}

/// Searches a stream that comes in pieces.
#[derive(Debug, Default)]
pub struct Scanner {
    tail: Vec<u8>,
}

impl Scanner {
    /// What `bytes` brings to light, also across the border to the piece before.
    pub fn scan(&mut self, needles: &Needles, bytes: &[u8]) -> Found {
        let before = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let mut found = Found::default();
        for hit in needles.automaton.find_overlapping_iter(&self.tail) {
            // What lies in the old tail alone was counted with it.
            if hit.end() > before {
                match needles.kinds.get(hit.pattern().as_usize()) {
                    Some(Kind::Author) => found.authors += 1,
                    Some(Kind::Operation) => found.kinds += 1,
                    Some(Kind::Text) => found.texts += 1,
                    Some(Kind::Topic) => found.topics += 1,
                    None => {}
                }
            }
        }
        let keep = self.tail.len().saturating_sub(NEEDLE - 1);
        self.tail.drain(..keep);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_needle_is_found_once_however_the_stream_is_cut() {
        let texts = ["In the beginning God created the heaven".to_owned(), "short".to_owned()];
        let needles = Needles::new(&[[7; 32]], &[9; 32], &texts).unwrap();
        let mut stream = b"...message.send".to_vec();
        stream.extend_from_slice(&[1, 2, 3]);
        stream.extend_from_slice(&[texts[0].as_bytes(), b"short", &[0; 5]].concat());
        stream.extend_from_slice(hex::encode([9; 32]).as_bytes());
        stream.extend_from_slice(&[0; 5]);
        stream.extend_from_slice(&[7; NEEDLE]);
        for cut in 1..stream.len() {
            let (mut scanner, mut found) = (Scanner::default(), Found::default());
            for piece in stream.chunks(cut) {
                found.add(&scanner.scan(&needles, piece));
            }
            let Found { authors, kinds, texts, topics } = found;
            assert_eq!((authors, kinds, texts), (1, 1, 1), "in pieces of {cut}");
            // 64 hex digits of one byte hold the 24 looked for at every second place.
            assert_eq!(topics, 21, "in pieces of {cut}");
        }
        assert!(!needles.kinds.is_empty());
    }
}
