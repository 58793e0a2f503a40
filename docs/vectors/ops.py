#!/usr/bin/env python3
"""Writes core/tests/vectors/ops.json: operations, envelopes and tickets made without any code of this project.

Follows docs/wire.md (sections 11 to 14) with libsodium, the reference BLAKE3 and the CBOR writer below.
Needs `pip install blake3 PyNaCl`. Run from the repository's root; the output is deterministic.
"""

import json
import pathlib
import struct

from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as xchacha
from nacl.signing import SigningKey

OUT = pathlib.Path("core/tests/vectors/ops.json")
ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"


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


def z32(data):
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(ALPHABET[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))


def padme(length):
    e = length.bit_length() - 1
    s = e.bit_length()
    step = 1 << (e - s)
    return (length + step - 1) // step * step


def operation(key, log, seq_num, backlink, body):
    body = cbor(body)
    fields = [1, bytes(key.verify_key), len(body), blake3(body).digest(), seq_num]
    fields += ([] if backlink is None else [backlink]) + [{0: log}]
    signature = key.sign(cbor(fields)).signature
    header = cbor(fields[:2] + [signature] + fields[2:])
    return header, body, blake3(header).digest()


def sealed(secret, topic, header, body):
    length = 6 + len(header) + len(body)
    plain = struct.pack(">HI", len(header), len(body)) + header + body
    plain += bytes(max(256, padme(length)) - length)
    key = derive("delta topic seal v1", secret, topic)
    key_id = derive("delta topic key id v1", key)[:8]
    nonce = blake3(plain, key=derive("delta topic nonce v1", key)).digest()[:24]
    aad = b"\x03" + key_id + topic
    return key_id, b"\x03" + key_id + nonce + xchacha(plain, aad, nonce, key)


def fill(byte):
    return bytes([byte]) * 32


def main():
    device, write, secret, log = SigningKey(fill(0x11)), SigningKey(fill(0x22)), fill(0x33), fill(0x44)
    target, author, blob = fill(0x55), fill(0x66), fill(0x77)
    write_vk = bytes(write.verify_key)
    topic = derive("delta topic id v1", write_vk)
    epoch = 7

    # The same values, in the same order, as in core/tests/ops/vectors.rs.
    bodies = [
        {0: "message.send", 1: {0: "hello"}, 2: 1_700_000_000_123},
        {0: "message.send", 1: {0: "grüße 👋", 1: target, 2: [author, target]}, 2: 0,
         3: [bytes([9]) * 16, 2**63 - 1, blob], 4: [target, blob]},
        {0: "message.edit", 1: {0: target, 1: "x" * 300}},
        {0: "message.delete", 1: {0: target}},
        {0: "reaction.add", 1: {0: target, 1: "👍"}},
        {0: "reaction.remove", 1: {0: target, 1: "👍"}},
        {0: "profile.set", 1: {0: "Ada"}},
        {0: "profile.set", 1: {0: "", 1: "bio", 2: blob, 3: "away", 4: True}, 2: 2**64 - 1},
    ]
    operations, backlink = [], None
    for seq_num, body in enumerate(bodies):
        header, body, backlink = operation(device, log, seq_num, backlink, body)
        key_id, envelope = sealed(secret, topic, header, body)
        plain = b"\x00" + struct.pack(">H", len(header)) + header + body
        operations.append({
            "header": header.hex(), "body": body.hex(), "id": backlink.hex(),
            "sealed": envelope.hex(), "plain": plain.hex(),
        })

    def ticket(version, log, epoch, write, secret):
        return z32(bytes([version]) + log + struct.pack(">I", epoch) + write + secret)

    vectors = {
        "device_seed": bytes(device).hex(), "author": bytes(device.verify_key).hex(),
        "log_id": log.hex(), "epoch": epoch, "write_seed": bytes(write).hex(), "write_vk": write_vk.hex(),
        "secret": secret.hex(), "topic_id": topic.hex(), "key_id": key_id.hex(),
        "tickets": {
            "private_write": ticket(1, log, epoch, bytes(write), secret),
            "private_read": ticket(2, log, epoch, write_vk, secret),
            "public_write": ticket(3, topic, 0, bytes(write), bytes(32)),
            "public_read": ticket(4, topic, 0, write_vk, bytes(32)),
        },
        "padded": {n: max(256, padme(n)) for n in
                   (1, 255, 256, 257, 272, 273, 300, 511, 512, 513, 1000, 4096, 65_535, 65_536, 65_537,
                    999_999, 1_000_006)},
        "operations": operations,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(vectors, indent=1) + "\n")


main()
