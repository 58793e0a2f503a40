//! The bytes of docs/wire.md, section 7.4, against another side that was written by hand from the Noise specification
//! (revision 34) and shares no code with ours but the primitives.

use blake2::{Blake2s256, Digest};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use delta_core::NodeId;
use delta_core::entropy::SeededEntropy;
use delta_noise::{Initiator, MAX_RECORD, NoiseError, NoiseStream, RecordError, Responder};
use ed25519_dalek::{SigningKey, VerifyingKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use x25519_dalek::{PublicKey, StaticSecret};

const SEED: [u8; 32] = [7; 32];

fn identity() -> SigningKey {
    SigningKey::from_bytes(&SEED)
}

fn id() -> NodeId {
    NodeId(identity().verifying_key().to_bytes())
}

fn blake2s(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// RFC 2104 over BLAKE2s, whose block has 64 bytes.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(block, key)| *block ^= key);
        block
    };
    let inner = blake2s(&[&[&pad(0x36)[..]], parts].concat());
    blake2s(&[&pad(0x5c), &inner])
}

fn hkdf(ck: &[u8; 32], input: &[u8]) -> ([u8; 32], [u8; 32]) {
    let temp = hmac(ck, &[input]);
    let first = hmac(&temp, &[&[1]]);
    (first, hmac(&temp, &[&first, &[2]]))
}

/// A key and its counter.
struct Seal {
    key: [u8; 32],
    n: u64,
}

impl Seal {
    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.n.to_le_bytes());
        self.n += 1;
        nonce.into()
    }

    fn seal(&mut self, aad: &[u8], msg: &[u8]) -> Vec<u8> {
        let nonce = self.nonce();
        ChaCha20Poly1305::new(&self.key.into()).encrypt(&nonce, Payload { msg, aad }).unwrap()
    }

    fn open(&mut self, aad: &[u8], msg: &[u8]) -> Vec<u8> {
        let nonce = self.nonce();
        ChaCha20Poly1305::new(&self.key.into()).decrypt(&nonce, Payload { msg, aad }).unwrap()
    }

    /// `length | sealed`.
    fn record(&mut self, plain: &[u8]) -> Vec<u8> {
        let sealed = self.seal(&[], plain);
        [&(sealed.len() as u16).to_be_bytes()[..], &sealed].concat()
    }
}

/// The symmetric state of the specification.
struct Symmetric {
    ck: [u8; 32],
    h: [u8; 32],
    seal: Seal,
}

impl Symmetric {
    fn new() -> Self {
        let ck = blake2s(&[b"Noise_NK_25519_ChaChaPoly_BLAKE2s"]);
        let mut this = Self { ck, h: ck, seal: Seal { key: [0; 32], n: 0 } };
        this.mix_hash(&[&b"delta:noise:v1"[..], &id().0].concat());
        let server = VerifyingKey::from_bytes(&id().0).unwrap().to_montgomery().to_bytes();
        this.mix_hash(&server);
        this
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.h = blake2s(&[&self.h, data]);
    }

    fn mix_key(&mut self, secret: &StaticSecret, public: &[u8; 32]) {
        let shared = secret.diffie_hellman(&PublicKey::from(*public));
        let (ck, key) = hkdf(&self.ck, shared.as_bytes());
        (self.ck, self.seal) = (ck, Seal { key, n: 0 });
    }

    fn seal_nothing(&mut self) -> Vec<u8> {
        let tag = self.seal.seal(&self.h, &[]);
        self.mix_hash(&tag);
        tag
    }

    fn open_nothing(&mut self, tag: &[u8]) {
        assert_eq!(self.seal.open(&self.h, tag), b"");
        self.mix_hash(tag);
    }

    /// From the client, and to it.
    fn split(self) -> (Seal, Seal) {
        let (up, down) = hkdf(&self.ck, &[]);
        (Seal { key: up, n: 0 }, Seal { key: down, n: 0 })
    }
}

/// A client by hand; the streams of both, its seals, and ours.
async fn client_by_hand() -> (DuplexStream, Seal, Seal, NoiseStream<DuplexStream>) {
    let (mut wire, server) = duplex(1 << 20);
    let ours = tokio::spawn(async move {
        Responder::new(&identity()).begin(&mut SeededEntropy::new([1; 32])).unwrap().accept(server).await
    });
    let e = StaticSecret::from([9; 32]);
    let public = PublicKey::from(&e).to_bytes();
    let mut state = Symmetric::new();
    state.mix_hash(&public);
    state.mix_key(&e, &VerifyingKey::from_bytes(&id().0).unwrap().to_montgomery().to_bytes());
    let tag = state.seal_nothing();
    wire.write_all(&[&[0x00, 0x01][..], &public, &tag].concat()).await.unwrap();
    let mut answer = [0; 48];
    wire.read_exact(&mut answer).await.unwrap();
    let theirs: [u8; 32] = answer[..32].try_into().unwrap();
    state.mix_hash(&theirs);
    state.mix_key(&e, &theirs);
    state.open_nothing(&answer[32..]);
    let (up, down) = state.split();
    (wire, up, down, ours.await.unwrap().unwrap())
}

async fn read_record(wire: &mut DuplexStream, seal: &mut Seal) -> Vec<u8> {
    let len = wire.read_u16().await.unwrap();
    let mut sealed = vec![0; len.into()];
    wire.read_exact(&mut sealed).await.unwrap();
    seal.open(&[], &sealed)
}

#[tokio::test]
async fn a_client_written_by_hand_speaks_with_our_server() {
    let (mut wire, mut up, mut down, mut server) = client_by_hand().await;
    wire.write_all(&up.record(b"GET /")).await.unwrap();
    wire.write_all(&up.record(b"info")).await.unwrap();
    let mut said = [0; 9];
    server.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"GET /info");
    // More than a record holds is several.
    let long: Vec<u8> = (0..MAX_RECORD + 100).map(|at| at as u8).collect();
    server.write_all(&long).await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_record(&mut wire, &mut down).await, long[..MAX_RECORD]);
    assert_eq!(read_record(&mut wire, &mut down).await, long[MAX_RECORD..]);
    // The end is said.
    assert_eq!(read_record(&mut wire, &mut down).await, b"");
    wire.write_all(&up.record(b"")).await.unwrap();
    assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_server_written_by_hand_speaks_with_our_client() {
    let (client, mut wire) = duplex(1 << 20);
    let ours = tokio::spawn(async move {
        Initiator::new(&id(), &mut SeededEntropy::new([2; 32])).unwrap().connect(client).await
    });
    let mut said = [0; 50];
    wire.read_exact(&mut said).await.unwrap();
    assert_eq!(said[..2], [0x00, 0x01]);
    let theirs: [u8; 32] = said[2..34].try_into().unwrap();
    let mut state = Symmetric::new();
    state.mix_hash(&theirs);
    // RFC 8032, section 5.1.5: the scalar that the identity signs with.
    state.mix_key(&StaticSecret::from(identity().to_scalar_bytes()), &theirs);
    state.open_nothing(&said[34..]);
    let e = StaticSecret::from([8; 32]);
    let public = PublicKey::from(&e).to_bytes();
    state.mix_hash(&public);
    state.mix_key(&e, &theirs);
    let tag = state.seal_nothing();
    wire.write_all(&[&public[..], &tag].concat()).await.unwrap();
    let (mut up, mut down) = state.split();
    let mut client = ours.await.unwrap().unwrap();
    client.write_all(b"GET /info").await.unwrap();
    assert_eq!(read_record(&mut wire, &mut up).await, b"GET /info");
    // The longest record, and in pieces.
    let long = vec![3; MAX_RECORD];
    for piece in down.record(&long).chunks(1_000) {
        wire.write_all(piece).await.unwrap();
    }
    let mut read = vec![0; MAX_RECORD];
    client.read_exact(&mut read).await.unwrap();
    assert_eq!(read, long);
}

fn error_of(error: &std::io::Error) -> Option<RecordError> {
    error.get_ref()?.downcast_ref().copied()
}

async fn read_fails(stream: &mut (impl AsyncRead + Unpin)) -> Option<RecordError> {
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).await.unwrap_err();
    assert_eq!(read, b"", "nothing of it is given out");
    error_of(&error)
}

#[tokio::test]
async fn case_01_a_record_with_any_bit_flipped_is_an_error_and_gives_nothing_then_or_later() {
    for bit in [16, 17, 30, 8 * 12, 8 * 40 - 1] {
        let (mut wire, mut up, _, mut server) = client_by_hand().await;
        let mut record = up.record(&[5; 22]);
        record[bit / 8] ^= 1 << (bit % 8);
        wire.write_all(&record).await.unwrap();
        wire.write_all(&up.record(b"and a good one")).await.unwrap();
        assert_eq!(read_fails(&mut server).await, Some(RecordError::Changed), "bit {bit}");
        assert_eq!(read_fails(&mut server).await, Some(RecordError::Changed), "bit {bit}");
    }
}

#[tokio::test]
async fn records_that_are_repeated_left_out_or_swapped_are_an_error() {
    for order in [[0, 0], [1, 0], [1, 2]] {
        let (mut wire, mut up, _, mut server) = client_by_hand().await;
        let records = [b"one", b"two", b"six"].map(|text| up.record(text));
        for at in order {
            wire.write_all(&records[at]).await.unwrap();
        }
        drop(wire);
        let mut read = Vec::new();
        let error = server.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error_of(&error), Some(RecordError::Changed));
        assert_eq!(read, if order[0] == 0 { &b"one"[..] } else { b"" });
    }
}

#[tokio::test]
async fn a_stream_that_ends_unsaid_and_lengths_no_record_has_are_errors() {
    for len in [0, 15, MAX_RECORD as u16 + 17, u16::MAX] {
        let (mut wire, _, _, mut server) = client_by_hand().await;
        wire.write_all(&len.to_be_bytes()).await.unwrap();
        assert_eq!(read_fails(&mut server).await, Some(RecordError::Length(len.into())));
    }
    for kept in [0, 1, 2, 19] {
        let (mut wire, mut up, _, mut server) = client_by_hand().await;
        wire.write_all(&up.record(b"cut")[..kept]).await.unwrap();
        drop(wire);
        assert_eq!(read_fails(&mut server).await, Some(RecordError::CutOff), "{kept}");
    }
}

/// Our client expects `expected`, and `server` is what it reaches.
async fn meets(expected: NodeId, server: &Responder) -> (Result<(), NoiseError>, Result<(), NoiseError>) {
    let (near, far) = duplex(1 << 10);
    let client = Initiator::new(&expected, &mut SeededEntropy::new([2; 32])).unwrap().connect(near);
    let server = server.begin(&mut SeededEntropy::new([1; 32])).unwrap().accept(far);
    let (client, server) = tokio::join!(client, server);
    (client.map(drop), server.map(drop))
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_and_does_not_answer() {
    let other = NodeId(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
    let responder = Responder::new(&identity());
    let (client, server) = meets(id(), &responder).await;
    assert!(client.is_ok() && server.is_ok());
    let (client, server) = meets(other, &responder).await;
    assert!(matches!(server, Err(NoiseError::Refused)), "{server:?}");
    assert!(matches!(client, Err(NoiseError::Io(_))), "{client:?}");
    // The same X25519 key under the other sign of the Edwards point is another server, too.
    let mut mirrored = id();
    mirrored.0[31] ^= 0x80;
    let (client, server) = meets(mirrored, &responder).await;
    assert!(client.is_err() && matches!(server, Err(NoiseError::Refused)), "{server:?}");
}

#[tokio::test]
async fn whoever_answers_in_the_clear_or_with_garbage_is_refused() {
    for (answer, spoken) in [
        (&b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"[..], false),
        (&[0; 48], true),
        (&[0xff; 48], true),
    ] {
        let (near, mut far) = duplex(1 << 10);
        far.write_all(answer).await.unwrap();
        let client = Initiator::new(&id(), &mut SeededEntropy::new([2; 32])).unwrap().connect(near).await;
        match client.unwrap_err() {
            NoiseError::Refused => assert!(spoken),
            NoiseError::NotSpoken => assert!(!spoken),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn case_05_a_client_with_a_low_order_key_and_one_of_another_version_get_no_answer() {
    for opening in [[0x00, 0x00], [0x00, 0x02], [0x16, 0x01], [0x00, 0x01]] {
        let (mut near, far) = duplex(1 << 10);
        near.write_all(&[&opening[..], &[0; 48]].concat()).await.unwrap();
        let server = Responder::new(&identity()).begin(&mut SeededEntropy::new([1; 32])).unwrap();
        let error = server.accept(far).await.unwrap_err();
        match opening {
            [0x00, 0x01] => assert!(matches!(error, NoiseError::Refused), "{error:?}"),
            _ => assert!(matches!(error, NoiseError::NotSpoken), "{error:?}"),
        }
        assert_eq!(near.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
}

#[test]
fn case_25_a_server_named_by_a_key_of_small_order_is_refused() {
    let mut one = [0; 32];
    one[0] = 1;
    let error = Initiator::new(&NodeId(one), &mut SeededEntropy::new([2; 32])).unwrap_err();
    assert!(matches!(error, NoiseError::Key(_)), "{error:?}");
}
