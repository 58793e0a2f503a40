//! Pairing: a further device of a person, certified by one that holds the identity. Pure: no store, no clock.
//!
//! The old device shows a text ([`Pairing`]), once. It names the old device and a secret; from the secret both derive a
//! topic of their own, in which three operations are said (docs/wire.md, section 12.3):
//!
//! 1. The new device asks (`pair.ask`). The operation is signed by its key: that is what is to be certified.
//! 2. The old device answers the first that asks (`pair.answer`), with a nonce. From then on both can show the same
//!    [`Code`]; whoever else has the text cannot have chosen a key that gives it.
//! 3. Once its person has compared the two codes it sends, sealed to the new device's key, what makes that a device of
//!    the person: the certificate and the tickets of their topics (`pair.welcome`, [`Welcome`]).
//!
//! The identity's seed does not travel.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::codec::{DecodeError, Reader};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Author, Certificate, CertificateError, LogId, OperationId};
use crate::onion::sealed::{self, OpenSealedError};
use crate::onion::{IdentityKey, IdentityKeyError};
use crate::ops::{DeviceKey, Hidden, Ticket, TicketError};
use crate::topic::WriteKey;

/// The only version there is.
const VERSION: u8 = 1;
/// How long an old device waits for a new one to ask, milliseconds.
pub const PAIRING_LIFETIME_MS: u64 = 10 * 60_000;
/// Most tickets in a welcome: as many as a device has topics.
pub const MAX_WELCOME_TICKETS: usize = crate::limits::MAX_TOPICS;

/// What a pairing's text (or QR code) holds: `version u8 = 1 | old device[32] | secret[32]` in z-base-32, 104 letters.
/// Whoever has it may ask to be paired.
#[derive(Clone)]
pub struct Pairing {
    /// The device that shows it.
    pub host: Author,
    secret: Hidden,
}

impl Pairing {
    /// A fresh one of this device.
    pub fn generate(host: Author, entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(&mut *secret)?;
        Ok(Self { host, secret: Hidden(*secret) })
    }

    /// Reads a pairing's text.
    pub fn parse(text: &str) -> Result<Self, PairingError> {
        let bytes = Zeroizing::new(z32::decode(text.as_bytes()).map_err(|_| PairingError::Alphabet)?);
        if Zeroizing::new(z32::encode(&bytes)).as_str() != text {
            return Err(PairingError::Alphabet);
        }
        let mut reader = Reader::new(&bytes);
        match reader.u8("version")? {
            VERSION => {}
            found => return Err(PairingError::Version { found }),
        }
        let (host, secret) = (Author(reader.array("device")?), Hidden(reader.array("secret")?));
        reader.finish()?;
        Ok(Self { host, secret })
    }

    /// The topic in which the two devices meet, and nobody after them.
    pub fn ticket(&self) -> Ticket {
        let derived = |context| Zeroizing::new(blake3::derive_key(context, &self.secret.0));
        let log = LogId(*derived("delta pairing log v1"));
        let write = WriteKey::from_seed(*derived("delta pairing write v1"));
        Ticket::private(log, 0, write, *derived("delta pairing secret v1"))
    }

    /// What both devices show, so that their person sees that they speak with each other: six digits.
    ///
    /// The first 8 bytes of derive("delta pairing code v1", secret | id of `pair.ask` | nonce of `pair.answer`), modulo
    /// a million.
    pub fn code(&self, ask: OperationId, nonce: &[u8; 32]) -> Code {
        let mut hasher = blake3::Hasher::new_derive_key("delta pairing code v1");
        hasher.update(&self.secret.0).update(&ask.0).update(nonce);
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % 1_000_000;
        Code(u32::try_from(number).unwrap_or_default())
    }
}

/// The pairing's text. It holds a secret: show it only to hand it over.
impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(&self.host.0);
        bytes.extend_from_slice(&self.secret.0);
        f.write_str(&Zeroizing::new(z32::encode(&bytes)))
    }
}

impl fmt::Debug for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairing").field("host", &self.host).finish_non_exhaustive()
    }
}

impl FromStr for Pairing {
    type Err = PairingError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// What both devices of a pairing show. Prints as two groups of three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u32);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// What makes a device one of a person's.
///
/// `certificate[136] | own topic's ticket[101] | count u16 | tickets[101 each]`, sealed to the new device's key as an
/// envelope 01 is (docs/wire.md, section 5).
#[derive(Clone, Debug)]
pub struct Welcome {
    /// The identity's word for the new device.
    pub certificate: Certificate,
    /// The topic that the person's devices share.
    pub own: Ticket,
    /// The person's other topics; of each conversation the newest first. At most [`MAX_WELCOME_TICKETS`].
    pub tickets: Vec<Ticket>,
}

impl Welcome {
    /// Seals it for the device it certifies.
    pub fn seal(&self, host: &Author, entropy: &mut dyn Entropy) -> Result<Vec<u8>, WelcomeError> {
        let count = u16::try_from(self.tickets.len()).ok();
        let count = count.filter(|_| self.tickets.len() <= MAX_WELCOME_TICKETS);
        let count = count.ok_or(WelcomeError::TooMany { count: self.tickets.len() })?;
        let mut plaintext = Zeroizing::new(Vec::new());
        plaintext.extend_from_slice(&self.certificate.to_bytes());
        plaintext.extend_from_slice(&self.own.to_bytes());
        plaintext.extend_from_slice(&count.to_be_bytes());
        for ticket in &self.tickets {
            plaintext.extend_from_slice(&ticket.to_bytes());
        }
        let key = IdentityKey::from_ed25519(&self.certificate.device.0).map_err(WelcomeError::Recipient)?;
        sealed::seal(host, &key, &plaintext, entropy).map_err(WelcomeError::Seal)
    }

    /// Opens what `host` sealed for this device. Its certificate is this device's, and holds.
    pub fn open(device: &DeviceKey, host: &Author, sealed: Vec<u8>) -> Result<Self, WelcomeError> {
        let unsealed = sealed::open(&device.inbox_secret(), sealed, |_| Some(*host))?;
        let plaintext = Zeroizing::new(unsealed.op);
        let mut reader = Reader::new(&plaintext);
        let certificate = Certificate::from_bytes(reader.bytes(Certificate::LEN, "certificate")?)?;
        certificate.verify(&device.author())?;
        let own = Ticket::from_bytes(reader.bytes(Ticket::LEN, "ticket")?)?;
        let count = usize::from(reader.u16("count")?);
        if count > MAX_WELCOME_TICKETS {
            return Err(WelcomeError::TooMany { count });
        }
        let mut tickets = Vec::new();
        for _ in 0..count {
            tickets.push(Ticket::from_bytes(reader.bytes(Ticket::LEN, "ticket")?)?);
        }
        reader.finish()?;
        Ok(Self { certificate, own, tickets })
    }
}

/// A text is no pairing. Whoever gave it is at fault; nothing was opened. (No variant repeats the text.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PairingError {
    /// Not lower-case z-base-32.
    #[error("a pairing text consists of lower-case z-base-32 letters only")]
    Alphabet,
    /// A version this program does not know.
    #[error("the pairing text's version {found} is not known; a newer program may read it")]
    Version {
        /// The version.
        found: u8,
    },
    /// It is cut short or too long.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// A welcome cannot be made, or is none. Who made it is at fault; nothing was taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WelcomeError {
    /// More tickets than a device has topics.
    #[error("the welcome holds {count} tickets, at most {MAX_WELCOME_TICKETS} are allowed")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The new device's key cannot be sealed to.
    #[error("the new device's key is not usable: {0}")]
    Recipient(IdentityKeyError),
    /// It does not fit.
    #[error("the welcome cannot be sealed: {0}")]
    Seal(sealed::SealError),
    /// Not for this device, not from the device of the text, or broken.
    #[error(transparent)]
    Open(#[from] OpenSealedError),
    /// The certificate is another device's, or does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A ticket in it is none.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// It is cut short or too long.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::identity::{self, Millis};

    fn keys() -> (DeviceKey, DeviceKey, identity::IdentityKey) {
        let (host, new) = (DeviceKey::from_bytes(&[1; 32]), DeviceKey::from_bytes(&[2; 32]));
        (host, new, identity::IdentityKey::from_seed(&[3; 32]))
    }

    fn welcome(device: Author) -> Welcome {
        let (_, _, identity) = keys();
        let mut entropy = SeededEntropy::new([4; 32]);
        let own = Ticket::generate_private(&mut entropy).unwrap();
        let tickets = (0..3).map(|_| Ticket::generate_private(&mut entropy).unwrap()).collect();
        Welcome { certificate: Certificate::sign(&identity, device, Millis(5)), own, tickets }
    }

    #[test]
    fn a_text_is_read_in_its_one_spelling_and_says_nothing_by_itself() {
        let pairing = Pairing::generate(Author([7; 32]), &mut SeededEntropy::new([1; 32])).unwrap();
        let text = pairing.to_string();
        assert_eq!(text.len(), 104);
        let read = Pairing::parse(&text).unwrap();
        assert_eq!((read.host, read.ticket().topic()), (pairing.host, pairing.ticket().topic()));
        assert_eq!(read.ticket().to_bytes(), pairing.ticket().to_bytes());
        for bad in [text.to_uppercase(), text.replace(&text[..1], "v"), "0".into()] {
            assert!(matches!(Pairing::parse(&bad), Err(PairingError::Alphabet)), "{bad}");
        }
        assert!(matches!(Pairing::parse(&text[..96]), Err(PairingError::Malformed(_))));
        let newer = z32::encode(&[2; 65]);
        assert!(matches!(Pairing::parse(&newer), Err(PairingError::Version { found: 2 })));
        let longer = z32::encode(&[&[1; 65][..], &[0; 5]].concat());
        assert!(matches!(Pairing::parse(&longer), Err(PairingError::Malformed(_))));
        let shown = format!("{pairing:?}");
        assert!(!shown.contains(&hex::encode(pairing.secret.0)) && !shown.contains(&text), "{shown}");
    }

    #[test]
    fn a_code_is_of_this_text_this_device_and_this_answer() {
        let mut entropy = SeededEntropy::new([1; 32]);
        let one = Pairing::generate(Author([7; 32]), &mut entropy).unwrap();
        let other = Pairing::generate(Author([7; 32]), &mut entropy).unwrap();
        let (ask, nonce) = (OperationId([1; 32]), [2; 32]);
        let code = one.code(ask, &nonce);
        assert_eq!(code, Pairing::parse(&one.to_string()).unwrap().code(ask, &nonce));
        let others =
            [other.code(ask, &nonce), one.code(OperationId([2; 32]), &nonce), one.code(ask, &[3; 32])];
        assert!(others.iter().all(|other| *other != code), "{others:?}");
        assert_eq!(Code(1_002).to_string(), "001 002");
    }

    #[test]
    fn a_welcome_is_for_the_device_it_certifies_and_from_the_device_of_the_text() {
        let (host, new, _) = keys();
        let made = welcome(new.author());
        let seal =
            |welcome: &Welcome| welcome.seal(&host.author(), &mut SeededEntropy::new([6; 32])).unwrap();
        let sealed = seal(&made);
        let opened = Welcome::open(&new, &host.author(), sealed.clone()).unwrap();
        assert_eq!(opened.certificate, made.certificate);
        assert_eq!(opened.own.to_bytes(), made.own.to_bytes());
        let bytes = |tickets: &[Ticket]| tickets.iter().map(|it| it.to_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(bytes(&opened.tickets), bytes(&made.tickets));
        let refused = |device: &DeviceKey, host: &Author, sealed: Vec<u8>| {
            Welcome::open(device, host, sealed).expect_err("refused")
        };
        assert!(matches!(refused(&host, &host.author(), sealed.clone()), WelcomeError::Open(_)));
        let another = Author([9; 32]);
        assert!(matches!(
            refused(&new, &another, sealed.clone()),
            WelcomeError::Open(OpenSealedError::Sender)
        ));
        for place in [0, 40, 100, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(matches!(refused(&new, &host.author(), changed), WelcomeError::Open(_)), "byte {place}");
        }
        // Sealed for this device, and certifying another one.
        let mut wrong = welcome(host.author());
        let mut bytes = wrong.certificate.to_bytes();
        bytes[32..64].copy_from_slice(&new.author().0);
        wrong.certificate = Certificate::from_bytes(&bytes).unwrap();
        assert!(matches!(refused(&new, &host.author(), seal(&wrong)), WelcomeError::Certificate(_)));
    }

    #[test]
    fn a_welcome_holds_as_many_tickets_as_a_device_has_topics() {
        let (host, new, _) = keys();
        let mut full = welcome(new.author());
        full.tickets = vec![full.own.clone(); MAX_WELCOME_TICKETS];
        let mut entropy = SeededEntropy::new([6; 32]);
        let sealed = full.seal(&host.author(), &mut entropy).unwrap();
        assert_eq!(Welcome::open(&new, &host.author(), sealed).unwrap().tickets.len(), MAX_WELCOME_TICKETS);
        full.tickets.push(full.own.clone());
        let refused = full.seal(&host.author(), &mut entropy).unwrap_err();
        assert_eq!(refused, WelcomeError::TooMany { count: MAX_WELCOME_TICKETS + 1 });
    }
}
