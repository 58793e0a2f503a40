#!/usr/bin/env python3
"""Writes core/tests/vectors/identity.json: BIP-39's published vectors of 24 words, and what Delta derives from them.

`seed_trezor` is the published seed (passphrase "TREZOR"); this script checks it against Python's own PBKDF2. The
identity (docs/wire.md, section 11) comes from the same words with an empty passphrase. Device certificates and
revocations are made with OpenSSL's Ed25519. Needs `pip install -r docs/vectors/requirements.txt`. Run from the
repository's root; the output is deterministic.
"""

import hashlib
import json
import pathlib
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire import write, z32

# https://github.com/trezor/python-mnemonic/blob/master/vectors.json, as BIP-39 refers to: entropy, words, seed.
PUBLISHED = json.loads(pathlib.Path("docs/vectors/bip39-24.json").read_text())


def seed(words, passphrase):
    return hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic" + passphrase.encode(), 2048)


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def main():
    mnemonics = []
    for entropy, words, published in PUBLISHED:
        assert seed(words, "TREZOR").hex() == published
        key = Ed25519PrivateKey.from_private_bytes(seed(words, "")[:32])
        mnemonics.append(
            {
                "entropy": entropy,
                "words": words,
                "seed_trezor": published,
                "identity_seed": key.private_bytes_raw().hex(),
                "identity": public(key).hex(),
                "address": "pk:" + z32(public(key)),
            }
        )
    identity = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
    device = public(Ed25519PrivateKey.from_private_bytes(bytes([2] * 32)))
    fields = public(identity) + device + struct.pack(">Q", 1_700_000_000_000)
    certificate = fields + identity.sign(b"delta:device:v1" + fields)
    certificates = [
        {
            "identity_seed": "01" * 32,
            "device_seed": "02" * 32,
            "created_ms": 1_700_000_000_000,
            "certificate": certificate.hex(),
        }
    ]
    revocation = fields + identity.sign(b"delta:device-revoke:v1" + fields)
    revocations = [
        {
            "identity_seed": "01" * 32,
            "device_seed": "02" * 32,
            "revoked_ms": 1_700_000_000_000,
            "revocation": revocation.hex(),
        }
    ]
    vectors = {"mnemonics": mnemonics, "certificates": certificates, "revocations": revocations}
    write("identity.json", vectors)


main()
