//! Envelopes, headers, bodies and tickets.

use std::sync::LazyLock;

use cbor_core::Value;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use delta_core::identity::{LogId, Millis, OperationId};
use delta_core::limits::MAX_HEADER;
use delta_core::ops::{
    Body, Content, DeviceKey, Extensions, Rejected, Ticket, VerifiedOperation, create, padded_len, peek,
    verify,
};
use delta_core::topic::WriteKey;
use ed25519_dalek::{Signer, SigningKey};
use p2panda_core::{AnyHeader, Header};

use crate::edit::{edited, pick};

const LOG: LogId = LogId([4; 32]);
const SECRET: [u8; 32] = [7; 32];

static TICKET: LazyLock<Ticket> =
    LazyLock::new(|| Ticket::private(LOG, 3, WriteKey::from_seed([5; 32]), SECRET));

static OPERATIONS: LazyLock<Vec<VerifiedOperation>> = LazyLock::new(|| {
    let key = DeviceKey::from_bytes(&[1; 32]);
    let target = OperationId([6; 32]);
    let contents = [
        Content::MessageSend { text: "hello".into(), reply: Some(target), mentions: vec![key.author()], attachments: Vec::new() },
        Content::MessageEdit { target, text: "hello!".into() },
        Content::MessageDelete { target },
        Content::ReactionAdd { target, emoji: "👍".into() },
        Content::ProfileSet {
            name: "n".into(),
            bio: Some("b".into()),
            avatar: None,
            availability: None,
            public: true,
        },
    ];
    contents
        .into_iter()
        .zip(0..)
        .map(|(content, seq)| {
            let body = Body { content, sent_at: Some(Millis(9)), observed: None, auth_heads: vec![] };
            create(&key, LOG, seq, Some(target).filter(|_| seq > 0), &body).unwrap()
        })
        .collect()
});

/// An envelope: changed ones do not open; any padded plaintext under a valid seal opens to what sealing it again
/// makes the same envelope of, or is refused.
pub fn envelope(input: &[u8]) {
    static VALID: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        OPERATIONS.iter().map(|op| TICKET.keys().seal(op.header(), op.body_bytes()).unwrap()).collect()
    });
    let keys = TICKET.keys();
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => {
            let bytes = pick(rest, &VALID);
            assert_eq!(keys.open(&bytes).is_ok(), VALID.contains(&bytes.to_vec()));
        }
        1 => {
            let public = Ticket::generate_public(&mut crate::support::entropy(8)).unwrap().keys();
            let plain = public.seal(b"header", b"body").unwrap();
            let bytes = pick(rest, std::slice::from_ref(&plain));
            if let Ok(opened) = public.open(&bytes) {
                assert_eq!(public.seal(&opened.header, &opened.body).unwrap(), *bytes);
            }
            let _ = keys.open(&bytes);
        }
        _ => {
            let op = &OPERATIONS[0];
            let (header, body) = (op.header(), op.body_bytes());
            let mut padded =
                [&(header.len() as u16).to_be_bytes()[..], &(body.len() as u32).to_be_bytes(), header, body]
                    .concat();
            padded.resize(padded_len(padded.len()), 0);
            let padded = pick(rest, std::slice::from_ref(&padded));
            let sealed = seal_raw(&padded, kind % 4 == 3);
            if let Ok(opened) = keys.open(&sealed) {
                assert_eq!(keys.seal(&opened.header, &opened.body).unwrap(), sealed);
            }
        }
    }
}

/// Seals any padded plaintext, written here a second time from the format's text; on request under a nonce that
/// is not the plaintext's.
fn seal_raw(padded: &[u8], foreign_nonce: bool) -> Vec<u8> {
    let topic = TICKET.topic();
    let seal = blake3::derive_key("delta topic seal v1", &[&SECRET[..], &topic.0].concat());
    let nonce_key = blake3::derive_key("delta topic nonce v1", &seal);
    let key_id = &blake3::derive_key("delta topic key id v1", &seal)[..8];
    let mut nonce = *blake3::keyed_hash(&nonce_key, padded).as_bytes();
    nonce[0] ^= u8::from(foreign_nonce);
    let aad = [&[3][..], key_id, &topic.0].concat();
    let cipher = XChaCha20Poly1305::new(&seal.into());
    let sealed =
        cipher.encrypt(XNonce::from_slice(&nonce[..24]), Payload { msg: padded, aad: &aad }).unwrap();
    [&[3][..], key_id, &nonce[..24], &sealed].concat()
}

/// A header, read with and without its signature.
pub fn header(input: &[u8]) {
    let valid: Vec<Vec<u8>> = OPERATIONS.iter().map(|op| op.header().to_vec()).collect();
    let header = pick(input, &valid);
    readers_agree(&header);
    for op in OPERATIONS.iter() {
        let verified = verify(&header, op.body_bytes(), &LOG);
        assert_eq!(verified.is_ok(), op.header() == &*header);
    }
}

/// Whatever p2panda takes with a valid signature, `peek` either reads the same or refuses. (What verifies here p2panda must
/// take: `verified_by_p2panda`.)
fn readers_agree(header: &[u8]) {
    let (Ok(facts), Ok(decoded)) = (peek(header), Header::<Extensions>::decode(header)) else { return };
    assert_eq!(facts.author.0, *decoded.verifying_key.as_bytes());
    assert_eq!(facts.log, decoded.extensions.log);
    assert_eq!((facts.seq_num, facts.payload_size), (decoded.seq_num, decoded.payload_size));
    assert_eq!(facts.backlink.map(|id| id.0), decoded.backlink.map(|hash| *hash.as_bytes()));
    assert_eq!(Some(facts.payload_hash), decoded.payload_hash.map(|hash| *hash.as_bytes()));
}

/// What verifies here, p2panda's decoder verifies, too, and finds the same in it.
fn verified_by_p2panda(operation: &VerifiedOperation) {
    let decoded = AnyHeader::decode(operation.header()).expect("p2panda takes what we take");
    assert_eq!(*decoded.hash().as_bytes(), operation.id().0);
    assert_eq!(*decoded.verifying_key.as_bytes(), operation.author().0);
    assert_eq!(decoded.seq_num, operation.seq_num());
    assert_eq!(decoded.backlink.map(|hash| *hash.as_bytes()), operation.backlink().map(|id| id.0));
    let hash = *blake3::hash(operation.body_bytes()).as_bytes();
    assert_eq!(decoded.payload_hash.map(|hash| *hash.as_bytes()), Some(hash));
}

/// A header of any form under a valid signature: the signature is made here over whatever fields there are.
pub fn signed_header(input: &[u8]) {
    static UNSIGNED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let fields = |op: &VerifiedOperation| Value::decode(op.header()).unwrap().into_owned();
        let unsigned = OPERATIONS.iter().map(|op| without_signature(fields(op)).unwrap());
        unsigned.chain(extensions().map(|extension| extended(fields(&OPERATIONS[0]), extension))).collect()
    });
    let unsigned = pick(input, &UNSIGNED);
    let Some(header) = signed(&unsigned) else { return };
    readers_agree(&header);
    let op = UNSIGNED.iter().position(|valid| *valid == *unsigned).and_then(|place| OPERATIONS.get(place));
    if let Some(op) = op {
        assert!(verify(&header, op.body_bytes(), &LOG).is_ok(), "an untouched header is signed anew");
    }
    let Ok(facts) = peek(&header) else { return };
    for op in OPERATIONS.iter() {
        match verify(&header, op.body_bytes(), &facts.log) {
            Ok(verified) => {
                assert_eq!(verified.header(), header);
                verified_by_p2panda(&verified);
                assert!(VerifiedOperation::from_store(&header, op.body_bytes()).is_ok());
            }
            Err(Rejected::Signature) => panic!("the signature is valid"),
            Err(_) => {}
        }
    }
}

/// What an extension may hold beside the log id, tags included: edits alone rarely make these.
fn extensions() -> impl Iterator<Item = (Value<'static>, Value<'static>)> {
    let values = || {
        let nested = Value::from([Value::from(1), Value::from([Value::null(), Value::from(-1)])]);
        [Value::from(false), Value::simple_value(99), Value::from(1.5), Value::from("text"), nested]
    };
    let tagged = values().map(|value| Value::tag(100, value));
    let inner = tagged.clone().map(|value| Value::from([value]));
    let all = values().into_iter().chain(tagged).chain(inner);
    all.flat_map(|value| [(value.clone(), Value::from(0)), (Value::from(9), value)])
}

/// An unsigned header with one more entry in its extension.
fn extended(header: Value<'_>, (key, value): (Value<'static>, Value<'static>)) -> Vec<u8> {
    let mut fields = header.as_array().unwrap().to_vec();
    fields.remove(2);
    fields.last_mut().unwrap().insert(key, value);
    Value::from(fields).encode()
}

fn without_signature(header: Value<'_>) -> Option<Vec<u8>> {
    let mut fields = header.as_array().ok()?.to_vec();
    (fields.len() > 2).then(|| fields.remove(2))?;
    Some(Value::from(fields).encode())
}

/// The header with the key and the signature of a key of ours; `None` when the bytes are not an array of CBOR items.
fn signed(unsigned: &[u8]) -> Option<Vec<u8>> {
    let key = SigningKey::from_bytes(&[1; 32]);
    let value = Value::decode(unsigned).ok()?;
    let mut fields = value.as_array().ok()?.to_vec();
    *fields.get_mut(1)? = Value::from(key.verifying_key().to_bytes().to_vec());
    let signature = key.sign(&Value::from(fields.clone()).encode());
    fields.insert(2, Value::from(signature.to_bytes().to_vec()));
    Some(Value::from(fields).encode()).filter(|header| header.len() <= MAX_HEADER)
}

/// A body: what decodes is encoded to what decodes to the same.
pub fn body(input: &[u8]) {
    let valid: Vec<Vec<u8>> = OPERATIONS.iter().map(|op| op.body_bytes().to_vec()).collect();
    let bytes = pick(input, &valid);
    if let Ok(body) = Body::decode(&bytes)
        && let Ok(again) = body.encode()
    {
        assert_eq!(Body::decode(&again).as_ref(), Ok(&body));
    }
}

/// A ticket's text: what parses prints the same, in the one spelling there is.
pub fn ticket(input: &[u8]) {
    let public = Ticket::generate_public(&mut crate::support::entropy(8)).unwrap();
    let tickets = [TICKET.clone(), TICKET.read_only(), public.clone(), public.read_only()];
    let valid = tickets.map(|ticket| ticket.to_string().into_bytes());
    let bytes = pick(input, &valid);
    let text = String::from_utf8_lossy(&bytes);
    if let Ok(ticket) = Ticket::parse(&text) {
        assert_eq!(ticket.to_string(), text);
        let opened =
            ticket.keys().seal(b"header", b"body").and_then(|sealed| Ok(ticket.keys().open(&sealed)));
        assert!(opened.unwrap().is_ok());
    }
    let _ = edited(bytes.into_owned(), input);
}
