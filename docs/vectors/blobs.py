#!/usr/bin/env python3
"""Writes core/tests/vectors/blobs.json: sealed chunks, manifests and what must be refused, made without any code of this project.

Follows docs/wire.md (sections 12.4 and 14). Needs `pip install blake3 PyNaCl`. Run from the repository's root; the
output is deterministic.
"""

import struct

from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as xchacha
from nacl.signing import SigningKey

from wire import cbor, drawn, ticket_bytes, write

CHUNK = 256_000


def content(size):
    """Byte i is 31 i + i >> 8, modulo 256."""
    return bytes((31 * i + (i >> 8)) % 256 for i in range(size))


def sealed(key, data):
    chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
    places = [struct.pack(">II", index, len(chunks)) for index in range(len(chunks))]
    return [
        xchacha(chunk, b"delta blob chunk v1" + place, place + bytes(16), key)
        for chunk, place in zip(chunks, places)
    ]


def read_only(name):
    write_vk = bytes(SigningKey(drawn(f"{name} write")).verify_key)
    return ticket_bytes(2, drawn(f"{name} log"), 0, write_vk, drawn(f"{name} secret"))


def manifest(name, size, mime, file=None):
    key = drawn(f"{name} key")
    chunks = sealed(key, content(size))
    fields = {0: blake3(b"".join(chunks)).digest(), 1: key, 2: size, 3: mime}
    fields |= {} if file is None else {4: file}
    fields |= {5: read_only(name), 6: b"".join(blake3(chunk).digest() for chunk in chunks)}
    return fields, chunks


def without(fields, key):
    return {k: v for k, v in fields.items() if k != key}


def main():
    made = [
        ("empty", *manifest("empty", 0, "")),
        ("five bytes", *manifest("five bytes", 5, "text/plain", "five.txt")),
        ("one chunk", *manifest("one chunk", CHUNK, "image/png", "größe.png")),
        ("two chunks", *manifest("two chunks", CHUNK + 5, "x" * 127, "y" * 255)),
    ]
    good = made[1][1]
    hashes = good[6]
    malformed = [
        ("a hash too many", good | {6: hashes * 2}),
        ("no hash", good | {6: b""}),
        ("half a hash", good | {6: hashes[:16]}),
        ("a chunk too few", good | {2: CHUNK + 1}),
        ("larger than 64 MiB", good | {2: 64 * 2**20 + 1, 6: hashes * 263}),
        ("a MIME type of 128 bytes", good | {3: "x" * 128}),
        ("a file name of 256 bytes", good | {4: "y" * 256}),
        ("a ticket that writes", good | {5: b"\x01" + good[5][1:]}),
        ("a public topic", good | {5: b"\x04" + good[5][1:]}),
        ("a ticket too short", good | {5: good[5][:-1]}),
        ("a key too short", good | {1: good[1][:-1]}),
    ] + [(f"no key {key}", without(good, key)) for key in (0, 1, 2, 3, 5, 6)]

    def message(manifests):
        return cbor({0: "message.send", 1: {0: "look", 3: manifests}})

    write("blobs.json", {
        "blobs": [
            {"name": name, "size": fields[2], "mime": fields[3], "file": fields.get(4), "key": fields[1], "id": fields[0],
             "ticket": fields[5], "chunks": fields[6],
             "last_chunk": chunks[-1][-21:], "share": cbor({0: "blob.share", 1: {0: fields}})}
            for name, fields, chunks in made
        ],
        "message": message([fields for _, fields, _ in made]),
        "chunk": cbor({0: "blob.chunk", 1: {0: 0, 1: made[1][2][0]}}),
        "malformed": [{"name": name, "body": message([fields])} for name, fields in malformed]
        + [{"name": "17 attachments", "body": message([good] * 17)}],
    })  # fmt: skip


main()
