//! The 24 words a person writes down (BIP-39, English), and the identity key they stand for.
//!
//! The key is the first 32 bytes of the BIP-39 seed (PBKDF2-HMAC-SHA512, 2048 rounds, empty passphrase). Words never
//! appear in an error or in `Debug`: a person who mistypes one is told its place.
//!
//! Of the library only the list is used: all else in it normalizes texts, with 90 kB of Unicode's tables in every app,
//! and English words are ASCII. A passphrase, which these keys have none of, would have to be normalized first.

use std::fmt;
use std::str::FromStr;

use bip39::Language;
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha256, Sha512};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::key::IdentityKey;
use crate::entropy::{Entropy, EntropyError};

/// Bits that a word stands for, and the words there are.
const BITS: u32 = 11;
const LIST: usize = 1 << BITS;
const LONGEST_WORD: usize = 8;
/// Rounds of PBKDF2, and the bytes they make.
const ROUNDS: u32 = 2048;
const SEED: usize = 64;

/// Twenty-four words. Whoever reads them is the person.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Mnemonic {
    entropy: [u8; 32],
}

/// A text is no mnemonic. Whoever typed it is at fault; nothing was made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MnemonicError {
    /// Not 24 words.
    #[error("a mnemonic has {} words, this text has {found}", Mnemonic::WORDS)]
    WordCount {
        /// How many it has.
        found: usize,
    },
    /// A word that is not in the English list.
    #[error("word {place} is not in the list of BIP-39 words")]
    UnknownWord {
        /// Which, from 1.
        place: usize,
    },
    /// All words are known, but they do not belong together: one is another than was written down, or their order is.
    #[error("the words do not fit together: check each, and their order")]
    Checksum,
}

impl Mnemonic {
    /// Words of a mnemonic.
    pub const WORDS: usize = 24;

    /// Fresh words.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut mnemonic = Self { entropy: [0; 32] };
        entropy.fill(&mut mnemonic.entropy)?;
        Ok(mnemonic)
    }

    /// From the 256 bits that the words spell.
    pub const fn from_entropy(entropy: [u8; 32]) -> Self {
        Self { entropy }
    }

    /// The 256 bits that the words spell: as secret as they are.
    pub const fn entropy(&self) -> &[u8; 32] {
        &self.entropy
    }

    /// The words, one space between two: show them only to be written down.
    pub fn words(&self) -> Zeroizing<String> {
        let mut words = Zeroizing::new(String::with_capacity(Self::WORDS * (LONGEST_WORD + 1)));
        let (mut bits, mut held) = (Zeroizing::new(0_u32), 0);
        for byte in self.entropy.iter().copied().chain([self.checksum()]) {
            *bits = *bits << 8 | u32::from(byte);
            held += 8;
            if held >= BITS {
                held -= BITS;
                let place = (*bits >> held) as usize & (LIST - 1);
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(list().get(place).copied().unwrap_or_default());
            }
        }
        words
    }

    /// The first bits of the hash, as many as fill the last word.
    fn checksum(&self) -> u8 {
        Sha256::digest(self.entropy)[0]
    }

    /// The identity key the words stand for. Takes milliseconds, by design.
    pub fn identity_key(&self) -> IdentityKey {
        let seed = self.seed("");
        let mut key = Zeroizing::new([0; 32]);
        for (to, from) in key.iter_mut().zip(seed.iter()) {
            *to = *from;
        }
        IdentityKey::from_seed(&key)
    }

    fn seed(&self, passphrase: &str) -> Zeroizing<Vec<u8>> {
        let salt = Zeroizing::new(format!("mnemonic{passphrase}"));
        let mut seed = Zeroizing::new(vec![0; SEED]);
        pbkdf2_hmac::<Sha512>(self.words().as_bytes(), salt.as_bytes(), ROUNDS, &mut seed);
        seed
    }
}

/// The words, in the order of their numbers, which is the alphabet's.
fn list() -> &'static [&'static str] {
    Language::English.wordlist().get_words_by_prefix("")
}

impl FromStr for Mnemonic {
    type Err = MnemonicError;

    /// Takes any white space between words, and either case.
    fn from_str(text: &str) -> Result<Self, MnemonicError> {
        let found = text.split_whitespace().count();
        if found != Self::WORDS {
            return Err(MnemonicError::WordCount { found });
        }
        let lower = Zeroizing::new(text.to_lowercase());
        let mut mnemonic = Self { entropy: [0; 32] };
        let (mut bits, mut held) = (Zeroizing::new(0_u32), 0);
        let mut to = mnemonic.entropy.iter_mut();
        for (index, word) in lower.split_whitespace().enumerate() {
            let unknown = |_| MnemonicError::UnknownWord { place: index + 1 };
            let place = list().binary_search(&word).map_err(unknown)?;
            *bits = *bits << BITS | place as u32;
            held += BITS;
            while held >= 8
                && let Some(to) = to.next()
            {
                held -= 8;
                *to = (*bits >> held) as u8;
            }
        }
        // What is left is the checksum.
        if *bits as u8 == mnemonic.checksum() { Ok(mnemonic) } else { Err(MnemonicError::Checksum) }
    }
}

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mnemonic(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/identity.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// BIP-39's published vectors (passphrase "TREZOR"), those of 24 words; and the identity keys of the same words,
    /// made by docs/vectors/identity.py.
    #[test]
    fn words_seeds_and_keys_are_those_of_the_published_vectors() {
        let vectors = vectors();
        let vectors = vectors["mnemonics"].as_array().unwrap();
        assert_eq!(vectors.len(), 8);
        for vector in vectors {
            let text = |key: &str| vector[key].as_str().unwrap();
            let entropy = hex::decode(text("entropy")).unwrap().try_into().unwrap();
            let mnemonic = Mnemonic::from_entropy(entropy);
            assert_eq!(mnemonic.words().as_str(), text("words"));
            assert_eq!(text("words").parse::<Mnemonic>().unwrap().entropy(), mnemonic.entropy());
            assert_eq!(hex::encode(&*mnemonic.seed("TREZOR")), text("seed_trezor"));
            let key = mnemonic.identity_key();
            assert_eq!(hex::encode(key.seed()), text("identity_seed"));
            assert_eq!(key.identity().to_string(), text("identity"));
            assert_eq!(key.identity().address(), text("address"));
        }
    }

    #[test]
    fn what_is_mistyped_is_named_by_its_place() {
        let good = Mnemonic::from_entropy([0; 32]).words().to_string();
        assert_eq!(
            good.to_uppercase().replace(' ', " \n\t ").parse::<Mnemonic>().unwrap().entropy(),
            &[0; 32]
        );
        let replaced = |place: usize, by: &str| {
            let mut words: Vec<&str> = good.split(' ').collect();
            words[place - 1] = by;
            words.join(" ").parse::<Mnemonic>().unwrap_err()
        };
        assert_eq!(replaced(1, "abandn"), MnemonicError::UnknownWord { place: 1 });
        assert_eq!(replaced(24, "Ärger"), MnemonicError::UnknownWord { place: 24 });
        assert_eq!(replaced(7, "zoo"), MnemonicError::Checksum);
        let count = |text: &str| text.parse::<Mnemonic>().unwrap_err();
        assert_eq!(count(""), MnemonicError::WordCount { found: 0 });
        assert_eq!(count(&format!("{good} art")), MnemonicError::WordCount { found: 25 });
        // A valid mnemonic of another length.
        let twelve = "legal winner thank year wave sausage worth useful legal winner thank yellow";
        assert_eq!(count(twelve), MnemonicError::WordCount { found: 12 });
    }

    #[test]
    fn case_66_neither_words_nor_keys_are_in_debug_or_error_texts() {
        let mnemonic = Mnemonic::from_entropy([0x41; 32]);
        let key = mnemonic.identity_key();
        let words = mnemonic.words();
        let mut wrong: Vec<&str> = words.split(' ').collect();
        wrong[3] = "hunter2";
        let error = wrong.join(" ").parse::<Mnemonic>().unwrap_err();
        let shown = format!("{mnemonic:?} {key:?} {error:?} {error}");
        for secret in words.split(' ').chain(["hunter2", &hex::encode(key.seed()), "41414141"]) {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
