//! Signals: short messages that nobody stores (presence, typing), signed by a device and sealed like operations.
//!
//! A signal travels in the topic's envelope around `01 | author[32] | sent_at_ms u64 | sig[64]` as header and the
//! app's bytes as body, so a server sees padded sizes only. No operation's header begins like that, and the
//! signature has a context of its own: neither passes for the other.

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use thiserror::Error;

use super::create::DeviceKey;
use super::envelope::{EnvelopeError, SealError};
use super::keys::TopicKeys;
use crate::codec::{DecodeError, Reader};
use crate::identity::{Author, Millis};
use crate::limits::MAX_SIGNAL_BODY;
use crate::topic::TopicId;

const FORM: u8 = 1;
const CONTEXT: &[u8] = b"delta:signal:v1";

/// A signal whose signature was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Signal {
    /// Who sent it.
    pub author: Author,
    /// The sender's clock; rises from one signal of a sender to the next.
    pub sent_at: Millis,
    /// What the app said, 1 to [`MAX_SIGNAL_BODY`] bytes.
    pub bytes: Bytes,
}

/// Names the sender and shows nothing of the content.
impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signal({} bytes by {})", self.bytes.len(), self.author)
    }
}

/// A signal that cannot be made, or an envelope that holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignalError {
    /// No bytes, or too many. Whoever made it is at fault.
    #[error("a signal has 1 to {MAX_SIGNAL_BODY} bytes, not {0}")]
    Length(usize),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The envelope does not open.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// What is inside is no signal.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The signature does not verify.
    #[error("the signal's signature does not verify")]
    Signature,
}

impl Signal {
    /// Signs and seals a signal; the result is the payload of deliver content with flags 02.
    pub fn seal(
        key: &DeviceKey,
        keys: &TopicKeys,
        sent_at: Millis,
        bytes: &[u8],
    ) -> Result<Vec<u8>, SignalError> {
        check_length(bytes)?;
        let signature = key.sign(&message(&keys.topic(), sent_at, bytes));
        let header = [&[FORM], &key.author().0[..], &sent_at.0.to_be_bytes(), &signature].concat();
        Ok(keys.seal(&header, bytes)?)
    }

    /// Opens and checks the payload of a signal frame.
    pub fn open(keys: &TopicKeys, envelope: &[u8]) -> Result<Self, SignalError> {
        let opened = keys.open(envelope)?;
        check_length(&opened.body)?;
        let mut reader = Reader::new(&opened.header);
        if reader.u8("form")? != FORM {
            return Err(DecodeError::Invalid("form").into());
        }
        let author = Author(reader.array("author")?);
        let sent_at = Millis(reader.u64("sent_at_ms")?);
        let signature = Signature::from_bytes(&reader.array("sig")?);
        reader.finish()?;
        VerifyingKey::from_bytes(&author.0)
            .and_then(|key| key.verify_strict(&message(&keys.topic(), sent_at, &opened.body), &signature))
            .map_err(|_| SignalError::Signature)?;
        Ok(Self { author, sent_at, bytes: opened.body })
    }
}

const fn check_length(bytes: &[u8]) -> Result<(), SignalError> {
    match bytes.len() {
        1..=MAX_SIGNAL_BODY => Ok(()),
        len => Err(SignalError::Length(len)),
    }
}

fn message(topic: &TopicId, sent_at: Millis, bytes: &[u8]) -> Vec<u8> {
    [CONTEXT, &topic.0, &sent_at.0.to_be_bytes(), blake3::hash(bytes).as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::limits::MAX_SIGNAL;
    use crate::ops::{Body, Content, Ticket, create};

    fn keys(seed: u8, public: bool) -> TopicKeys {
        let entropy = &mut SeededEntropy::new([seed; 32]);
        let ticket =
            if public { Ticket::generate_public(entropy) } else { Ticket::generate_private(entropy) };
        ticket.unwrap().keys()
    }

    #[test]
    fn a_signal_is_laid_out_as_documented_and_reads_back() {
        let (key, keys) = (DeviceKey::from_bytes(&[1; 32]), keys(1, true));
        let sealed = Signal::seal(&key, &keys, Millis(0x0102), b"typing").unwrap();
        let signer = SigningKey::from_bytes(&[1; 32]);
        let time = [0, 0, 0, 0, 0, 0, 1, 2];
        let hash = *blake3::hash(b"typing").as_bytes();
        let signed = [&b"delta:signal:v1"[..], &keys.topic().0, &time, &hash].concat();
        let header = [&[1][..], &signer.verifying_key().to_bytes(), &time, &signer.sign(&signed).to_bytes()];
        assert_eq!(sealed, [&[0, 0, 105][..], &header.concat(), b"typing"].concat());
        let opened = Signal::open(&keys, &sealed).unwrap();
        assert_eq!(
            (opened.author, opened.sent_at, &opened.bytes[..]),
            (key.author(), Millis(0x0102), &b"typing"[..])
        );
        assert!(!format!("{opened:?}").contains("typing"));
    }

    #[test]
    fn the_longest_signal_fits_a_signal_frame_and_one_more_byte_is_refused() {
        let key = DeviceKey::from_bytes(&[1; 32]);
        for keys in [keys(1, true), keys(1, false)] {
            let longest = vec![7; MAX_SIGNAL_BODY];
            let sealed = Signal::seal(&key, &keys, Millis(1), &longest).unwrap();
            assert!(sealed.len() <= MAX_SIGNAL, "{}", sealed.len());
            assert_eq!(Signal::open(&keys, &sealed).unwrap().bytes, longest);
            for len in [0, MAX_SIGNAL_BODY + 1] {
                let refused = Signal::seal(&key, &keys, Millis(1), &vec![7; len]);
                assert_eq!(refused, Err(SignalError::Length(len)));
            }
        }
    }

    #[test]
    fn signals_of_private_topics_are_sealed_to_a_few_sizes() {
        let (key, keys) = (DeviceKey::from_bytes(&[1; 32]), keys(1, false));
        let lens: Vec<usize> =
            [1, 20, 140].map(|len| Signal::seal(&key, &keys, Millis(1), &vec![7; len]).unwrap().len()).into();
        assert_eq!(lens, [305; 3]);
    }

    #[test]
    fn case_47_a_signal_of_another_topic_or_a_forged_one_does_not_open() {
        let key = DeviceKey::from_bytes(&[1; 32]);
        for public in [true, false] {
            let (ours, other) = (keys(1, public), keys(2, public));
            let sealed = Signal::seal(&key, &ours, Millis(1), b"here").unwrap();
            assert!(Signal::open(&other, &sealed).is_err());
            for byte in 0..sealed.len() {
                let mut forged = sealed.clone();
                forged[byte] ^= 1;
                assert!(Signal::open(&ours, &forged).is_err(), "byte {byte}");
            }
        }
    }

    #[test]
    fn an_operation_is_no_signal_and_a_signal_no_operation() {
        let (key, keys) = (DeviceKey::from_bytes(&[1; 32]), keys(1, false));
        let content = Content::MessageSend {
            text: "x".into(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        };
        let op = create(&key, keys.log(), 0, None, &Body::new(content)).unwrap();
        let envelope = keys.seal(op.header(), op.body_bytes()).unwrap();
        assert!(matches!(Signal::open(&keys, &envelope), Err(SignalError::Malformed(_))));
        let sealed = Signal::seal(&key, &keys, Millis(1), b"here").unwrap();
        assert!(keys.open(&sealed).unwrap().verify(&keys.log()).is_err());
    }
}
