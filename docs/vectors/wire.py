"""What the generators of this folder share: the encodings of docs/wire.md, on libsodium and the reference BLAKE3.

Needs `pip install blake3 PyNaCl`. Shares no code with the Rust crates.
"""

import hashlib
import hmac
import json
import pathlib
import struct

from blake3 import blake3
from nacl import bindings
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as xchacha
from nacl.signing import SigningKey

ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"

# u-coordinates that every X25519 secret takes to zero (RFC 7748, section 7).
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
]


def cbor(value):
    """Deterministic CBOR (RFC 8949, 4.2.1) of what operations consist of."""

    def head(major, n):
        for size, info in ((1, 24), (2, 25), (4, 26), (8, 27)):
            if n < 24:
                return bytes([major << 5 | n])
            if n < 1 << 8 * size:
                return bytes([major << 5 | info]) + n.to_bytes(size, "big")

    if value is True:
        return b"\xf5"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
    return head(5, len(pairs)) + b"".join(key + item for key, item in pairs)


def derive(context, *parts):
    return blake3(b"".join(parts), derive_key_context=context).digest()


def hkdf(salt, ikm, info, length):
    """HKDF-SHA256 (RFC 5869)."""
    prk = hmac.digest(salt, ikm, "sha256")
    okm, last = b"", b""
    while len(okm) < length:
        last = hmac.digest(prk, last + info + bytes([len(okm) // 32 + 1]), "sha256")
        okm += last
    return okm[:length]


def z32(data):
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(ALPHABET[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))


def fill(byte):
    return bytes([byte]) * 32


def drawn(name):
    """32 bytes that stand for random ones."""
    return hashlib.sha256(name.encode()).digest()


def padme(length):
    e = length.bit_length() - 1
    s = e.bit_length()
    step = 1 << (e - s)
    return (length + step - 1) // step * step


def padded(header, body, *, lengths=None, length=None, filler=b"\x00"):
    """The padded plaintext of envelopes 01, 03 and 04; what is named is as nobody should have it."""
    content = struct.pack(">HI", *(lengths or (len(header), len(body)))) + header + body
    length = length or max(256, padme(len(content)))
    return content + filler * (length - len(content))


def operation(key, log, seq_num, backlink, body, certificate=None):
    """Header, body and id."""
    body = cbor(body)
    fields = [1, bytes(key.verify_key), len(body), blake3(body).digest(), seq_num]
    extension = {0: log} | ({} if certificate is None else {1: certificate})
    fields += ([] if backlink is None else [backlink]) + [extension]
    signature = key.sign(cbor(fields)).signature
    header = cbor(fields[:2] + [signature] + fields[2:])
    return header, body, blake3(header).digest()


def certificate(identity, device, created_ms):
    fields = bytes(identity.verify_key) + device + struct.pack(">Q", created_ms)
    return fields + identity.sign(b"delta:device:v1" + fields).signature


def topic_id(write_seed):
    return derive("delta topic id v1", bytes(SigningKey(write_seed).verify_key))


def topic_sealed(secret, topic, header, body):
    """Key id and envelope 03."""
    plain = padded(header, body)
    key = derive("delta topic seal v1", secret, topic)
    key_id = derive("delta topic key id v1", key)[:8]
    nonce = blake3(plain, key=derive("delta topic nonce v1", key)).digest()[:24]
    return key_id, b"\x03" + key_id + nonce + xchacha(plain, b"\x03" + key_id + topic, nonce, key)


def x25519_public(secret):
    return bindings.crypto_scalarmult_base(secret)


def x25519(secret, public):
    return bindings.crypto_scalarmult(secret, public)


def sealed_sender(sender, device, op, ephemeral, nonce, *, epk=None, shared=None):
    """Sealed sender v1 (section 5) to a device's Ed25519 key; with another ephemeral key and secret than it should have."""
    recipient = bindings.crypto_sign_ed25519_pk_to_curve25519(device)
    epk = epk or x25519_public(ephemeral)
    key = hkdf(epk, shared or x25519(ephemeral, recipient), b"delta:sealed-sender:v1", 32)
    return b"\x01" + epk + nonce + xchacha(sender + op, None, nonce, key)


def with_high_bit(key):
    return key[:31] + bytes([key[31] | 0x80])


def changed(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def ticket_bytes(version, log, epoch, write, secret):
    return bytes([version]) + log + struct.pack(">I", epoch) + write + secret


def hexed(value):
    """The same with every byte string as hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: hexed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hexed(item) for item in value]
    return value


def write(name, vectors):
    out = pathlib.Path("core/tests/vectors") / name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes((json.dumps(hexed(vectors), indent=1) + "\n").encode())
