//! Plain operations as a server reads them, beside what p2panda makes of them.

use delta_core::entropy::SeededEntropy;
use delta_core::identity::LogId;
use delta_core::ops::{
    Body, Content, DeviceKey, EnvelopeError, PublicError, Rejected, Ticket, create, read_public,
};
use delta_core::topic::TopicId;

use crate::message;

fn ticket(seed: u8) -> Ticket {
    Ticket::generate_public(&mut SeededEntropy::new([seed; 32])).unwrap()
}

/// What a device makes of the same envelope.
fn device(envelope: &[u8], topic: &TopicId) -> Result<Body, PublicError> {
    let (header, body) = parts(envelope);
    let verified = delta_core::ops::verify(header, body, &LogId(topic.0))?;
    Ok(verified.body().clone())
}

/// Header and body of a plain envelope.
fn parts(envelope: &[u8]) -> (&[u8], &[u8]) {
    let header_len = usize::from(u16::from_be_bytes([envelope[1], envelope[2]]));
    envelope[3..].split_at(header_len)
}

/// Whether p2panda's own decoder, which verifies the signature, takes the header and finds this body named in it.
fn p2panda_takes(header: &[u8], body: &[u8]) -> bool {
    let body = p2panda_core::Body::from_bytes(body);
    p2panda_core::AnyHeader::decode(header)
        .is_ok_and(|read| read.payload_hash == Some(body.hash()) && read.payload_size == body.size())
}

fn envelopes(ticket: &Ticket) -> Vec<Vec<u8>> {
    let (key, keys) = (DeviceKey::from_bytes(&[2; 32]), ticket.keys());
    let first = create(&key, ticket.log(), 0, None, &message("one")).unwrap();
    let delete = Body::new(Content::MessageDelete { target: first.id() });
    let second = create(&key, ticket.log(), 1, Some(first.id()), &delete).unwrap();
    [first, second].iter().map(|op| keys.seal(op.header(), op.body_bytes()).unwrap()).collect()
}

#[test]
fn a_server_reads_what_a_device_reads() {
    let ticket = ticket(1);
    let author = DeviceKey::from_bytes(&[2; 32]).author();
    for envelope in envelopes(&ticket) {
        let read = read_public(&envelope, &ticket.topic()).unwrap();
        assert_eq!(read.author, author);
        assert_eq!(Ok(read.body), device(&envelope, &ticket.topic()));
        let (header, body) = parts(&envelope);
        let p2panda = p2panda_core::AnyHeader::decode(header).unwrap();
        assert_eq!((read.id.0, author.0), (*p2panda.hash().as_bytes(), *p2panda.verifying_key.as_bytes()));
        assert!(p2panda_takes(header, body));
    }
}

/// Every bit of header and body, one at a time: refused here, by a device for the same reason, and by p2panda.
#[test]
fn case_42_a_changed_operation_has_no_author_here_as_on_a_device() {
    let ticket = ticket(1);
    for envelope in envelopes(&ticket) {
        let header_len = parts(&envelope).0.len();
        for at in 3..envelope.len() {
            for bit in 0..8 {
                let mut bad = envelope.clone();
                bad[at] ^= 1 << bit;
                let ours = read_public(&bad, &ticket.topic());
                assert!(ours.is_err(), "byte {at}, bit {bit}");
                assert_eq!(ours.map(|read| read.body), device(&bad, &ticket.topic()), "byte {at}, bit {bit}");
                let (header, body) = bad[3..].split_at(header_len);
                assert!(!p2panda_takes(header, body), "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn case_58_an_operation_of_another_topic_or_kind_of_envelope_is_none() {
    let (here, there) = (ticket(1), ticket(2));
    let envelope = envelopes(&here).remove(0);
    let refused = read_public(&envelope, &there.topic());
    assert!(matches!(refused, Err(PublicError::Rejected(Rejected::WrongLog { .. }))), "{refused:?}");
    let mut sealed = envelope.clone();
    sealed[0] = 3;
    let refused = read_public(&sealed, &here.topic());
    assert_eq!(refused, Err(EnvelopeError::WrongKind { found: 3 }.into()));
    for len in 0..envelope.len() {
        assert!(read_public(&envelope[..len], &here.topic()).is_err(), "cut to {len}");
    }
    assert!(read_public(&[&envelope[..], b"x"].concat(), &here.topic()).is_err());
}
