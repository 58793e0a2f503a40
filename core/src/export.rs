//! The file a device is exported to: sealed with a passphrase, in chunks, so that any size takes little memory.
//!
//! ```text
//! header  "DLTX" | 02 | memory KiB u32 | passes u32 | lanes u32 | salt[16] | nonce prefix[15] | check[8] | tag[16]
//! chunk   XChaCha20-Poly1305(65,536 bytes; the last one 0 to 65,536)
//! ```
//!
//! The key is Argon2id (RFC 9106) of the passphrase and the salt. `check` is the first 8 bytes of BLAKE3 of the header
//! before it: damage there is told from a wrong passphrase. `tag` seals nothing, with the header before it as additional
//! data: only the right passphrase makes it. The nonce of a chunk is prefix | number u64 | 01 for the last, else 00; the
//! header's has number 2^64 − 1. So chunks cannot be moved, left out or cut off.
//!
//! What is inside is a list of sections, `type u8 | len u64 | bytes`: 01 the 32 bytes of a person's words (at most one),
//! 03 the 32 bytes of the key that the database's secret columns are sealed with (at most one; none: they are not sealed),
//! 02 the database (exactly one, last). The key was drawn for this export: that of the exporting device is not in it, and
//! no copy of a database whose secrets were sealed is ever in the clear on a disk.
//!
//! Version 01 is the same without the key: its database is in the clear. It is read, and not written any more.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::codec::Reader;
use crate::entropy::{Entropy, EntropyError};

/// Bytes of a chunk before it is sealed.
pub const CHUNK: usize = 64 * 1024;
/// Bytes that sealing adds to a chunk.
pub const CHUNK_OVERHEAD: usize = 16;
/// Length of the header.
pub const HEADER_LEN: usize = PLAIN_HEADER + 8 + 16;
/// Most memory a foreign file may ask for, KiB.
pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// Most passes a foreign file may ask for.
pub const MAX_PASSES: u32 = 16;
/// Most lanes a foreign file may ask for.
pub const MAX_LANES: u32 = 8;
/// Length of a section's head.
pub const SECTION_HEAD: usize = 9;

const MAGIC: &[u8; 4] = b"DLTX";
const VERSION: u8 = 2;
/// The first one.
const OLDEST: u8 = 1;
const PLAIN_HEADER: usize = 4 + 1 + 12 + 16 + PREFIX;
const PREFIX: usize = 15;

/// What guessing a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// RFC 9106's second recommendation, but for one lane: a phone derives it in about a second.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 }
    }
}

/// An export cannot be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExportError {
    /// Another kind of file.
    #[error("this is not an export of Delta")]
    NotAnExport,
    /// Written by a newer program.
    #[error("the export has version {found}, which this program does not know: a newer one may read it")]
    Version {
        /// Its version.
        found: u8,
    },
    /// It asks for more work than any export needs: whoever made it is at fault.
    #[error("the export asks for {memory_kib} KiB and {passes} passes to derive its key: refused")]
    Cost {
        /// Memory asked for, KiB.
        memory_kib: u32,
        /// Passes asked for.
        passes: u32,
    },
    /// The passphrase is another one. Nothing was read.
    #[error("the passphrase does not open this export")]
    Passphrase,
    /// The file was changed, damaged or cut off.
    #[error("the export is damaged or cut off: restore it from another copy")]
    Damaged,
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Seals or opens the chunks of one file, in order.
pub struct Chunks {
    cipher: XChaCha20Poly1305,
    prefix: [u8; PREFIX],
    next: u64,
    ended: bool,
}

impl Chunks {
    /// Begins a file: the header, and what seals its chunks. Takes as long as `cost` says.
    pub fn create(
        passphrase: &str,
        cost: Cost,
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, Self), ExportError> {
        let (mut salt, mut prefix) = ([0; 16], [0; PREFIX]);
        entropy.fill(&mut salt)?;
        entropy.fill(&mut prefix)?;
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(MAGIC);
        header.push(VERSION);
        for number in [cost.memory_kib, cost.passes, cost.lanes] {
            header.extend_from_slice(&number.to_be_bytes());
        }
        header.extend_from_slice(&salt);
        header.extend_from_slice(&prefix);
        let chunks = Self::new(passphrase, cost, &salt, prefix)?;
        let (check, tag) = (check_of(&header), chunks.header_tag(&header)?);
        header.extend_from_slice(&check);
        header.extend_from_slice(&tag);
        Ok((header, chunks))
    }

    /// Reads a file's header. Takes as long as the header says, within limits.
    pub fn open(passphrase: &str, header: &[u8]) -> Result<Self, ExportError> {
        let mut reader = Reader::new(header);
        if reader.array("magic") != Ok(*MAGIC) {
            return Err(ExportError::NotAnExport);
        }
        let version = reader.u8("version").map_err(|_| ExportError::Damaged)?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(ExportError::Version { found: version });
        }
        let Some((plain, rest)) = header.split_at_checked(PLAIN_HEADER) else {
            return Err(ExportError::Damaged);
        };
        let Some((check, tag)) = rest.split_first_chunk::<8>() else { return Err(ExportError::Damaged) };
        if *check != check_of(plain) {
            return Err(ExportError::Damaged);
        }
        let mut number = |name| reader.u32(name).map_err(|_| ExportError::Damaged);
        let (memory_kib, passes, lanes) = (number("memory")?, number("passes")?, number("lanes")?);
        if memory_kib > MAX_MEMORY_KIB || passes > MAX_PASSES || lanes > MAX_LANES {
            return Err(ExportError::Cost { memory_kib, passes });
        }
        let salt = reader.array("salt").map_err(|_| ExportError::Damaged)?;
        let prefix = reader.array("prefix").map_err(|_| ExportError::Damaged)?;
        let chunks = Self::new(passphrase, Cost { memory_kib, passes, lanes }, &salt, prefix)?;
        let tag: [u8; 16] = tag.try_into().map_err(|_| ExportError::Damaged)?;
        chunks
            .cipher
            .decrypt_in_place_detached(&chunks.nonce(u64::MAX, false), plain, &mut [], (&tag).into())
            .map_err(|_| ExportError::Passphrase)?;
        Ok(chunks)
    }

    fn new(passphrase: &str, cost: Cost, salt: &[u8; 16], prefix: [u8; PREFIX]) -> Result<Self, ExportError> {
        let Cost { memory_kib, passes, lanes } = cost;
        let refused = |_| ExportError::Cost { memory_kib, passes };
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(refused)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
            .map_err(refused)?;
        let cipher = XChaCha20Poly1305::new((&*key).into());
        Ok(Self { cipher, prefix, next: 0, ended: false })
    }

    /// Seals the next chunk in place: [`CHUNK`] bytes, or fewer where it is the last.
    pub fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), ExportError> {
        let nonce = self.turn(chunk.len(), last)?;
        self.cipher.encrypt_in_place(&nonce, &[], chunk).map_err(|_| ExportError::Damaged)
    }

    /// Opens the next chunk in place. The last one is the one after which the file ends.
    pub fn unseal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), ExportError> {
        let len = chunk.len().checked_sub(CHUNK_OVERHEAD).ok_or(ExportError::Damaged)?;
        let nonce = self.turn(len, last)?;
        self.cipher.decrypt_in_place(&nonce, &[], chunk).map_err(|_| ExportError::Damaged)
    }

    fn turn(&mut self, len: usize, last: bool) -> Result<XNonce, ExportError> {
        let fits = if last { len <= CHUNK } else { len == CHUNK };
        if self.ended || !fits {
            return Err(ExportError::Damaged);
        }
        let nonce = self.nonce(self.next, last);
        (self.next, self.ended) = (self.next + 1, last);
        Ok(nonce)
    }

    fn header_tag(&self, header: &[u8]) -> Result<[u8; 16], ExportError> {
        let nonce = self.nonce(u64::MAX, false);
        let tag = self.cipher.encrypt_in_place_detached(&nonce, header, &mut []);
        tag.map(Into::into).map_err(|_| ExportError::Damaged)
    }

    fn nonce(&self, number: u64, last: bool) -> XNonce {
        let mut nonce = XNonce::default();
        let parts = self.prefix.into_iter().chain(number.to_be_bytes()).chain([u8::from(last)]);
        for (to, from) in nonce.iter_mut().zip(parts) {
            *to = from;
        }
        nonce
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("next", &self.next).finish_non_exhaustive()
    }
}

fn check_of(header: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(header).as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// A person's words: 32 bytes.
    Identity,
    /// What the database's secret columns are sealed with: 32 bytes.
    StoreKey,
    /// The database.
    Database,
}

impl Section {
    /// The head of a section of this length.
    pub fn head(self, len: u64) -> [u8; SECTION_HEAD] {
        let [a, b, c, d, e, f, g, h] = len.to_be_bytes();
        let code = match self {
            Self::Identity => 1,
            Self::Database => 2,
            Self::StoreKey => 3,
        };
        [code, a, b, c, d, e, f, g, h]
    }

    /// The inverse of [`Section::head`]; `None` for what no section is.
    pub fn parse(head: &[u8; SECTION_HEAD]) -> Option<(Self, u64)> {
        let [code, len @ ..] = *head;
        let len = u64::from_be_bytes(len);
        match code {
            1 if len == 32 => Some((Self::Identity, len)),
            2 => Some((Self::Database, len)),
            3 if len == 32 => Some((Self::StoreKey, len)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    /// As little as Argon2 allows: what costs is tested elsewhere.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn sealed(passphrase: &str, content: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (header, mut chunks) =
            Chunks::create(passphrase, CHEAP, &mut SeededEntropy::new([1; 32])).unwrap();
        let mut parts: Vec<Vec<u8>> = content.chunks(CHUNK).map(<[u8]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let end = parts.len() - 1;
        for (index, part) in parts.iter_mut().enumerate() {
            chunks.seal(part, index == end).unwrap();
        }
        (header, parts)
    }

    fn opened(passphrase: &str, header: &[u8], parts: &[Vec<u8>]) -> Result<Vec<u8>, ExportError> {
        let mut chunks = Chunks::open(passphrase, header)?;
        let mut content = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let mut part = part.clone();
            chunks.unseal(&mut part, index + 1 == parts.len())?;
            content.extend(part);
        }
        Ok(content)
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_passphrase_only() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let content: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let (header, parts) = sealed("correct horse", &content);
            assert_eq!(header.len(), HEADER_LEN);
            assert_eq!(opened("correct horse", &header, &parts), Ok(content), "{len} bytes");
            assert_eq!(opened("correct horsf", &header, &parts), Err(ExportError::Passphrase));
            assert_eq!(opened("", &header, &parts), Err(ExportError::Passphrase));
        }
    }

    /// Argon2id and the seals are OpenSSL's; see `docs/vectors/export.py`.
    #[test]
    fn an_export_made_elsewhere_opens() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/export.json");
        let vector: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let bytes = |key: &str| hex::decode(vector[key].as_str().unwrap()).unwrap();
        let (header, chunk) = (bytes("header"), bytes("chunk"));
        let passphrase = vector["passphrase"].as_str().unwrap();
        assert_eq!(opened(passphrase, &header, &[chunk]), Ok(bytes("content")));
    }

    #[test]
    fn damage_is_told_from_a_wrong_passphrase() {
        let (header, parts) = sealed("p", &vec![7; 2 * CHUNK + 5]);
        for place in 0..header.len() {
            let mut changed = header.clone();
            changed[place] ^= 1;
            let expected = match place {
                0..4 => ExportError::NotAnExport,
                4 => ExportError::Version { found: 3 },
                // The seal of the header itself: nothing tells a change there from another passphrase.
                _ if place >= HEADER_LEN - 16 => ExportError::Passphrase,
                _ => ExportError::Damaged,
            };
            assert_eq!(opened("p", &changed, &parts), Err(expected), "byte {place}");
        }
        for len in 0..header.len() {
            assert!(Chunks::open("p", &header[..len]).is_err(), "{len} bytes");
        }
        let damaged = |parts: &[Vec<u8>]| assert_eq!(opened("p", &header, parts), Err(ExportError::Damaged));
        for (index, place) in [(0, 0), (0, CHUNK + 15), (1, 500), (2, 4)] {
            let mut changed = parts.clone();
            changed[index][place] ^= 1;
            damaged(&changed);
        }
        // Cut off, even between two chunks; swapped, doubled, more than there was.
        damaged(&parts[..2]);
        damaged(&[parts[1].clone(), parts[0].clone(), parts[2].clone()]);
        damaged(&[parts[0].clone(), parts[0].clone(), parts[1].clone(), parts[2].clone()]);
        damaged(&[&parts[..], &[parts[2].clone()]].concat());
        let mut short = parts.clone();
        short[2].truncate(3);
        damaged(&short);
    }

    #[test]
    fn a_foreign_file_cannot_ask_for_any_amount_of_work() {
        let ask = |memory_kib: u32, passes: u32, lanes: u32| {
            let (header, _) = Chunks::create("p", CHEAP, &mut SeededEntropy::new([1; 32])).unwrap();
            let mut plain = header[..PLAIN_HEADER].to_vec();
            for (at, number) in [(5, memory_kib), (9, passes), (13, lanes)] {
                plain[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            let forged = [&plain[..], &check_of(&plain), &[0; 16]].concat();
            Chunks::open("p", &forged).unwrap_err()
        };
        for (memory_kib, passes, lanes) in [
            (MAX_MEMORY_KIB + 1, 1, 1),
            (u32::MAX, u32::MAX, u32::MAX),
            (8, MAX_PASSES + 1, 1),
            (64, 1, MAX_LANES + 1),
            // And what Argon2 itself has no meaning for.
            (7, 1, 1),
            (8, 0, 1),
            (8, 1, 0),
        ] {
            assert_eq!(ask(memory_kib, passes, lanes), ExportError::Cost { memory_kib, passes });
        }
        assert_eq!(ask(64, MAX_PASSES, MAX_LANES), ExportError::Passphrase, "at the limit it is tried");
    }

    #[test]
    fn section_heads_read_back() {
        for (section, len) in [(Section::Identity, 32), (Section::Database, 0), (Section::Database, u64::MAX)]
        {
            assert_eq!(Section::parse(&section.head(len)), Some((section, len)));
        }
        assert_eq!(Section::parse(&Section::Identity.head(31)), None);
        assert_eq!(Section::parse(&[3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
