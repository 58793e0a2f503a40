#!/usr/bin/env python3
"""Writes core/tests/vectors/export.json: an export file (core/src/export.rs) made without any code of this project.

Argon2id and ChaCha20-Poly1305 are OpenSSL's, HChaCha20 (draft-irtf-cfrg-xchacha) is written out below. Needs
`pip install cryptography blake3`. Run from the repository's root; the output is deterministic.
"""

import json
import pathlib
import struct

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

OUT = pathlib.Path("core/tests/vectors/export.json")


def hchacha20(key, nonce):
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a, b, c, d):
        for to, by, into, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[to] = (state[to] + state[by]) & 0xFFFFFFFF
            mixed = state[into] ^ state[to]
            state[into] = (mixed << turn | mixed >> (32 - turn)) & 0xFFFFFFFF

    for _ in range(10):
        for column in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(*column)
        for diagonal in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*diagonal)
    return struct.pack("<8I", *state[:4], *state[12:])


# draft-irtf-cfrg-xchacha-03, section 2.2.1.
assert (
    hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927")).hex()
    == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
)


def xchacha(key, nonce, plain, aad):
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], plain, aad)


def main():
    passphrase, salt, prefix = "pässword 1", bytes(range(16)), bytes(range(100, 115))
    memory, passes, lanes = 64, 2, 4
    key = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(passphrase.encode())
    plain = b"DLTX\x01" + struct.pack(">III", memory, passes, lanes) + salt + prefix
    tag = xchacha(key, prefix + b"\xff" * 8 + b"\x00", b"", plain)
    header = plain + blake3(plain).digest()[:8] + tag
    content = bytes([1]) + struct.pack(">Q", 32) + bytes([7]) * 32 + bytes([2]) + struct.pack(">Q", 5) + b"hello"
    chunk = xchacha(key, prefix + bytes(8) + b"\x01", content, b"")
    vector = {
        "passphrase": passphrase,
        "header": header.hex(),
        "content": content.hex(),
        "chunk": chunk.hex(),
    }
    OUT.write_bytes((json.dumps(vector, indent=1) + "\n").encode())


main()
