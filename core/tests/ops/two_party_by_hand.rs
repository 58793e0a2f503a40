//! Opens blocks from docs/wire.md and RFC 9180 alone, with bare primitives: what the library seals is held against it, whose
//! randomness nobody can give.

use cbor_core::Value as Cbor;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

/// What opens blocks of a session.
pub struct Opener {
    /// The device's X25519 secret and its prekey's.
    pub device: [[u8; 32]; 2],
    /// What the other side handed over last.
    pub handed: Option<[u8; 32]>,
    /// Its own secrets, by number.
    pub own: Vec<(u64, [u8; 32])>,
}

/// What was in a block.
pub struct Inside {
    pub context: [u8; 16],
    pub payload: Vec<u8>,
    pub handed: [u8; 32],
    pub number: u64,
    pub public: [u8; 32],
}

fn shared(secret: &[u8; 32], public: &[u8]) -> [u8; 32] {
    let public: [u8; 32] = public.try_into().unwrap();
    StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(public)).to_bytes()
}

fn public_of(secret: &[u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

fn hkdf<const N: usize>(salt: &[u8], ikm: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, &mut out).unwrap();
    out
}

fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let cipher = ChaCha20Poly1305::new(Key::from_slice(key));
    cipher.decrypt(Nonce::from_slice(nonce), Payload { msg, aad }).unwrap()
}

impl Opener {
    /// Opens a block of 443 bytes and reads what is in it.
    pub fn open(&self, block: &[u8]) -> Inside {
        assert_eq!(block.len(), 443);
        let content = &block[12..];
        let (plaintext, end) = match content[0] {
            1 => (self.x3dh(content), 1 + 96 + 334),
            2 => (hpke(&self.handed.unwrap(), &content[1..33], &content[33..33 + 334]), 33 + 334),
            3 => {
                let number = u64::from_be_bytes(content[1..9].try_into().unwrap());
                let (_, secret) = self.own.iter().find(|(known, _)| *known == number).unwrap();
                (hpke(secret, &content[9..41], &content[41..41 + 334]), 41 + 334)
            }
            form => panic!("form {form}"),
        };
        assert!(content[end..].iter().all(|&byte| byte == 0));
        inside(&plaintext)
    }

    fn x3dh(&self, content: &[u8]) -> Vec<u8> {
        let [device, prekey] = &self.device;
        let (sender, ephemeral) = (&content[1..33], &content[65..97]);
        assert_eq!(content[33..65], public_of(prekey));
        let agreed = [shared(prekey, sender), shared(device, ephemeral), shared(prekey, ephemeral)];
        let ikm = [&[0xff; 32][..], &agreed.concat()].concat();
        let key: [u8; 32] = hkdf(&[0; 32], &ikm, b"p2panda");
        let nonce: [u8; 12] = hkdf(&[0; 32], &key, b"");
        open(&key, &nonce, &[sender, &public_of(device)].concat(), &content[97..97 + 334])
    }
}

/// RFC 9180: base mode, suite 0x0020, 0x0001, 0x0003, empty info and additional data.
fn hpke(secret: &[u8; 32], encapsulated: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    const KEM: &[u8] = b"KEM\x00\x20";
    const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x03";
    let extract = |suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]| -> [u8; 32] {
        Hkdf::<Sha256>::extract(Some(salt), &[b"HPKE-v1", suite, label, ikm].concat()).0.into()
    };
    let expand = |suite: &[u8], prk: &[u8; 32], label: &[u8], info: &[u8], out: &mut [u8]| {
        let length = (out.len() as u16).to_be_bytes();
        let info = [&length[..], b"HPKE-v1", suite, label, info].concat();
        Hkdf::<Sha256>::from_prk(prk).unwrap().expand(&info, out).unwrap();
    };
    let prk = extract(KEM, b"", b"eae_prk", &shared(secret, encapsulated));
    let (mut agreed, mut key, mut nonce) = ([0; 32], [0; 32], [0; 12]);
    expand(KEM, &prk, b"shared_secret", &[encapsulated, &public_of(secret)].concat(), &mut agreed);
    let (psk, info) = (extract(SUITE, b"", b"psk_id_hash", b""), extract(SUITE, b"", b"info_hash", b""));
    let schedule = [&[0][..], &psk, &info].concat();
    let prk = extract(SUITE, &agreed, b"secret", b"");
    expand(SUITE, &prk, b"key", &schedule, &mut key);
    expand(SUITE, &prk, b"base_nonce", &schedule, &mut nonce);
    open(&key, &nonce, b"", ciphertext)
}

fn inside(plaintext: &[u8]) -> Inside {
    assert_eq!(plaintext.len(), 318);
    let value = Cbor::decode(plaintext).unwrap();
    // One spelling, and the four keys alone.
    assert_eq!(value.encode(), plaintext);
    let map = value.as_map().unwrap();
    assert_eq!(map.len(), 4);
    let of = |key: &'static str| map.get(&Cbor::from(key)).unwrap();
    let key = |name: &'static str| -> [u8; 32] { of(name).as_bytes().unwrap().try_into().unwrap() };
    let number = of("sender_next_index").to_u64().unwrap();
    let listed = of("plaintext").as_array().unwrap();
    let listed: Vec<u8> = listed.iter().map(|it| it.to_u8().unwrap()).collect();
    let (halves, filling) = listed.split_at(164);
    let wide = 4 - (Cbor::from(number).encode().len() - 1);
    assert!(filling.len() == 4 && filling[..wide].iter().all(|&it| it == 24));
    assert!(filling[wide..].iter().all(|&it| it == 0) && halves.iter().all(|&it| it < 16));
    let packed: Vec<u8> = halves.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let (payload, zeros) = packed[17..].split_at(usize::from(packed[16]));
    assert!(zeros.iter().all(|&byte| byte == 0));
    Inside {
        context: packed[..16].try_into().unwrap(),
        payload: payload.to_vec(),
        handed: key("receiver_new_secret"),
        number,
        public: key("sender_new_verifying_key"),
    }
}

/// The padded plaintext of an envelope 04 whose block held this key.
pub fn open_envelope(envelope: &[u8], key: &[u8]) -> Vec<u8> {
    let (aad, msg) = envelope.split_at(444);
    assert_eq!(aad[0], 4);
    let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
    cipher.decrypt(&XNonce::default(), Payload { msg, aad }).unwrap()
}
