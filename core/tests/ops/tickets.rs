//! Texts that are almost tickets, and envelopes a member seals against the rules.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use delta_core::entropy::{Entropy, EntropyError, SeededEntropy};
use delta_core::identity::LogId;
use delta_core::limits::MAX_OPERATION;
use delta_core::ops::{EnvelopeError, Ticket, TicketError, TopicKeys, padded_len};
use delta_core::topic::WriteKey;

const SECRET: [u8; 32] = [9; 32];

fn ticket() -> Ticket {
    Ticket::private(LogId([4; 32]), 3, WriteKey::from_seed([7; 32]), SECRET)
}

fn parse(
    version: u8,
    log: [u8; 32],
    epoch: u32,
    write: [u8; 32],
    secret: [u8; 32],
) -> Result<(), TicketError> {
    let bytes = [&[version][..], &log, &epoch.to_be_bytes(), &write, &secret].concat();
    Ticket::parse(&z32::encode(&bytes)).map(|_| ())
}

#[test]
fn only_the_one_text_of_a_ticket_is_accepted() {
    let text = ticket().to_string();
    assert_eq!(text.len(), 162);
    assert!(Ticket::parse(&text).is_ok());
    for len in (0..162).chain(163..170) {
        let other: String = text.chars().cycle().take(len).collect();
        assert_eq!(Ticket::parse(&other).unwrap_err(), TicketError::Length { found: len });
    }
    assert_eq!(Ticket::parse(&text.to_uppercase()).unwrap_err(), TicketError::Alphabet);
    for letter in ["l", "v", "0", "2", " ", "=", "\n"] {
        let other = format!("{letter}{}", &text[1..]);
        assert_eq!(Ticket::parse(&other).unwrap_err(), TicketError::Alphabet, "{letter:?}");
    }
    // 162 letters hold 810 bits, a ticket 808: three of four last letters are no ticket.
    let right = text.chars().last().unwrap();
    let accepted = "ybndrfg8ejkmcpqxot1uwisza345h769".chars().filter(|last| {
        let other = format!("{}{last}", &text[..161]);
        match Ticket::parse(&other) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error, TicketError::UnusedBits);
                false
            }
        }
    });
    let accepted: Vec<_> = accepted.collect();
    assert_eq!(accepted.len(), 8);
    assert!(accepted.contains(&right));
}

#[test]
fn versions_and_the_rules_of_public_tickets_hold() {
    let key = WriteKey::from_seed([7; 32]);
    let (seed, vk, topic) = ([7; 32], key.verifying_key().0, key.topic().0);
    for (version, write) in [(1, seed), (2, vk)] {
        assert_eq!(parse(version, [4; 32], u32::MAX - 1, write, SECRET), Ok(()));
        assert_eq!(parse(version, [4; 32], u32::MAX, write, SECRET), Err(TicketError::Epoch));
    }
    for (version, write) in [(3, seed), (4, vk)] {
        assert_eq!(parse(version, topic, 0, write, [0; 32]), Ok(()));
        let mut secret = [0; 32];
        secret[31] = 1;
        assert_eq!(parse(version, topic, 0, write, secret), Err(TicketError::Public));
        assert_eq!(parse(version, topic, 1, write, [0; 32]), Err(TicketError::Public));
        assert_eq!(parse(version, [4; 32], 0, write, [0; 32]), Err(TicketError::Public));
    }
    for found in [0, 5, 6, 255] {
        assert_eq!(parse(found, topic, 0, seed, [0; 32]), Err(TicketError::Version { found }));
    }
    // No point of the curve, and the identity.
    let (mut off, mut identity) = ([0; 32], [0; 32]);
    (off[0], identity[0]) = (2, 1);
    for write in [off, identity] {
        for version in [2, 4] {
            assert_eq!(parse(version, topic, 0, write, [0; 32]), Err(TicketError::WriteKey));
        }
    }
}

#[test]
fn a_failing_random_source_makes_no_ticket() {
    struct Failing(usize);
    impl Entropy for Failing {
        fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
            out.fill(1);
            self.0 = self.0.checked_sub(1).ok_or(EntropyError)?;
            Ok(())
        }
    }
    for calls in 0..3 {
        assert_eq!(Ticket::generate_private(&mut Failing(calls)).unwrap_err(), EntropyError);
    }
    assert!(Ticket::generate_private(&mut Failing(3)).is_ok());
    assert_eq!(Ticket::generate_public(&mut Failing(0)).unwrap_err(), EntropyError);
    assert!(Ticket::generate_private(&mut SeededEntropy::new([1; 32])).is_ok());
}

/// Seals any plaintext with the topic's key, as a member who ignores the rules could.
fn seal_freely(keys: &TopicKeys, plaintext: &[u8], nonce: Option<[u8; 24]>) -> Vec<u8> {
    let topic = keys.topic().0;
    let key = blake3::derive_key("delta topic seal v1", &[SECRET, topic].concat());
    let nonce_key = blake3::derive_key("delta topic nonce v1", &key);
    let right: [u8; 24] = blake3::keyed_hash(&nonce_key, plaintext).as_bytes()[..24].try_into().unwrap();
    let nonce = nonce.unwrap_or(right);
    let head = [&[3][..], &keys.key_id().unwrap()].concat();
    let aad = [&head[..], &topic].concat();
    let sealed = XChaCha20Poly1305::new(&key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plaintext, aad: &aad })
        .unwrap();
    [&head[..], &nonce, &sealed].concat()
}

fn padded(header: usize, body: usize, len: usize) -> Vec<u8> {
    let mut plaintext = [&(header as u16).to_be_bytes()[..], &(body as u32).to_be_bytes()].concat();
    plaintext.resize(6 + header + body, 1);
    plaintext.resize(len, 0);
    plaintext
}

#[test]
fn a_member_cannot_seal_one_operation_in_two_ways() {
    let keys = ticket().keys();
    let right = padded(200, 50, 256);
    assert_eq!(seal_freely(&keys, &right, None), keys.seal(&[1; 200], &[1; 50]).unwrap());
    assert!(keys.open(&seal_freely(&keys, &right, None)).is_ok());

    // Another nonce than the content's.
    assert_eq!(keys.open(&seal_freely(&keys, &right, Some([0; 24]))), Err(EnvelopeError::Nonce));
    // More padding than needed, of a length that sealing otherwise gives.
    assert_eq!(keys.open(&seal_freely(&keys, &padded(200, 50, 272), None)), Err(EnvelopeError::Padding));
    assert_eq!(keys.open(&seal_freely(&keys, &padded(250, 50, 336), None)), Err(EnvelopeError::Padding));
    // Padding that is not zero, at every place it can be.
    let short = padded(100, 50, 256);
    for at in 156..256 {
        let mut marked = short.clone();
        marked[at] = 1;
        assert_eq!(keys.open(&seal_freely(&keys, &marked, None)), Err(EnvelopeError::Padding), "{at}");
    }
    // Lengths no padding gives, refused before any cryptography.
    for len in [0, 5, 255, 257, 271, 1_015_809, 1_048_576 - 49] {
        assert_eq!(keys.open(&seal_freely(&keys, &vec![0; len], None)), Err(EnvelopeError::Padding), "{len}");
    }
    // Announced lengths that the plaintext does not have, or that no operation has.
    for (header, body) in [(251, 0), (0, 251), (65_535, 0), (200, 51)] {
        let mut lying = padded(0, 0, 256);
        lying[..2].copy_from_slice(&(header as u16).to_be_bytes());
        lying[2..6].copy_from_slice(&(body as u32).to_be_bytes());
        assert!(matches!(keys.open(&seal_freely(&keys, &lying, None)), Err(EnvelopeError::Malformed(_))));
    }
    let mut huge = padded(0, 0, 256);
    huge[2..6].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(keys.open(&seal_freely(&keys, &huge, None)), Err(EnvelopeError::TooLong { .. })));
    // One byte of operation above the limit fits the same padded length: only the announced length tells.
    let over = padded(300, MAX_OPERATION - 299, padded_len(MAX_OPERATION + 6));
    assert_eq!(
        keys.open(&seal_freely(&keys, &over, None)),
        Err(EnvelopeError::TooLong { len: MAX_OPERATION + 1 })
    );
}
