//! Operations, envelopes and tickets through the public interface.
#![cfg(feature = "device")]

mod adversarial;
mod blob_vectors;
mod bodies;
mod certificates;
mod documents;
mod inbox_vectors;
mod key_values;
mod membership;
mod pairing_vectors;
mod properties;
mod public;
mod server_vectors;
mod space_vectors;
mod thread_vectors;
mod tickets;
mod two_party_by_hand;
mod two_party_vectors;
mod vectors;

use delta_core::entropy::{Entropy, EntropyError, SeededEntropy};
use delta_core::identity::{LogId, Millis};
use delta_core::ops::{Body, Content, DeviceKey, KeyRing, Ticket, create, verify};
use serde_json::Value;

/// The bytes of a vector's field.
fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// A list of vectors, all of which are there.
fn rows(value: &Value, count: usize) -> &[Value] {
    let rows = value.as_array().unwrap();
    assert_eq!(rows.len(), count);
    rows
}

/// Draws what the vectors drew.
struct Given(std::collections::VecDeque<u8>);

impl Given {
    fn new<'a>(drawn: impl IntoIterator<Item = &'a Value>) -> Self {
        Self(drawn.into_iter().flat_map(bytes).collect())
    }

    fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }
}

impl Entropy for Given {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        for byte in out {
            *byte = self.0.pop_front().ok_or(EntropyError)?;
        }
        Ok(())
    }
}

fn message(text: &str) -> Body {
    Body::new(Content::MessageSend {
        text: text.to_owned(),
        reply: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    })
    .sent_at(Millis(7))
}

#[test]
fn an_operation_travels_from_one_device_to_another() {
    let ticket = Ticket::generate_private(&mut SeededEntropy::new([1; 32])).unwrap();
    let (alice, bob) = (ticket.keys(), Ticket::parse(&ticket.to_string()).unwrap().keys());
    let key = DeviceKey::from_bytes(&[2; 32]);
    let first = create(&key, alice.log(), 0, None, &message("one")).unwrap();
    let second = create(&key, alice.log(), 1, Some(first.id()), &message("two")).unwrap();
    let envelope = alice.seal(second.header(), second.body_bytes()).unwrap();

    let mut ring = KeyRing::default();
    ring.insert(bob);
    let received = ring.open(&alice.topic(), &envelope).unwrap().verify(&ticket.log()).unwrap();
    assert_eq!(received, second);
    assert_eq!(received.body(), &message("two"));
    assert_eq!(received.author(), key.author());
    assert_eq!((received.seq_num(), received.backlink()), (1, Some(first.id())));
    assert_eq!(received.follows(&first.head()), Ok(()));
    assert_eq!(verify(second.header(), second.body_bytes(), &ticket.log()), Ok(received));
    assert!(verify(second.header(), second.body_bytes(), &LogId([9; 32])).is_err());
}
