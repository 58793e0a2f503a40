#!/usr/bin/env python3
"""Writes core/tests/vectors/ops.json: operations, envelopes and tickets made without any code of this project.

Follows docs/wire.md (sections 11 to 14). Needs `pip install blake3 PyNaCl`. Run from the repository's
root; the output is deterministic.
"""

from nacl.signing import SigningKey

from wire import derive, fill, operation, padme, ticket_bytes, topic_sealed, write, z32


def main():
    device, write_key, secret, log = SigningKey(fill(0x11)), SigningKey(fill(0x22)), fill(0x33), fill(0x44)
    target, author, blob = fill(0x55), fill(0x66), fill(0x77)
    write_vk = bytes(write_key.verify_key)
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
        key_id, envelope = topic_sealed(secret, topic, header, body)
        plain = b"\x00" + len(header).to_bytes(2, "big") + header + body
        operations.append({
            "header": header.hex(), "body": body.hex(), "id": backlink.hex(),
            "sealed": envelope.hex(), "plain": plain.hex(),
        })

    vectors = {
        "device_seed": bytes(device).hex(), "author": bytes(device.verify_key).hex(),
        "log_id": log.hex(), "epoch": epoch, "write_seed": bytes(write_key).hex(), "write_vk": write_vk.hex(),
        "secret": secret.hex(), "topic_id": topic.hex(), "key_id": key_id.hex(),
        "tickets": {
            "private_write": z32(ticket_bytes(1, log, epoch, bytes(write_key), secret)),
            "private_read": z32(ticket_bytes(2, log, epoch, write_vk, secret)),
            "public_write": z32(ticket_bytes(3, topic, 0, bytes(write_key), bytes(32))),
            "public_read": z32(ticket_bytes(4, topic, 0, write_vk, bytes(32))),
        },
        "padded": {n: max(256, padme(n)) for n in
                   (1, 255, 256, 257, 272, 273, 300, 511, 512, 513, 1000, 4096, 65_535, 65_536, 65_537,
                    999_999, 1_000_006)},
        "operations": operations,
    }
    write("ops.json", vectors)


main()
