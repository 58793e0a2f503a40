#!/usr/bin/env python3
"""Writes core/tests/vectors/inbox.json: names of inboxes and direct threads made without any code of this project.

Follows docs/wire.md (sections 13 to 15) with libsodium and the reference BLAKE3.
Needs `pip install blake3 PyNaCl`. Run from the repository's root; the output is deterministic.
"""

import hashlib
import hmac
import json
import pathlib

from blake3 import blake3
from nacl.signing import SigningKey

OUT = pathlib.Path("core/tests/vectors/inbox.json")


def derive(context, material):
    return blake3(material, derive_key_context=context).digest()


def public(seed):
    return bytes(SigningKey(seed).verify_key)


def topic(seed):
    return derive("delta topic id v1", public(seed))


def z32(data):
    alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769"
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(alphabet[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def thread(asked, accepted, requester, accepter):
    secret = derive("delta direct thread v1", asked + accepted + requester + accepter)
    write = derive("delta direct write v1", secret)
    return {
        "share_of_request": asked.hex(),
        "share_of_acceptance": accepted.hex(),
        "requester": requester.hex(),
        "accepter": accepter.hex(),
        "thread_id": derive("delta direct thread id v1", asked + requester).hex(),
        "log_id": derive("delta direct log v1", secret).hex(),
        "topic_id": topic(write).hex(),
    }


def main():
    seeds = [hashlib.sha256(f"device {number}".encode()).digest() for number in range(3)]
    devices = [public(seed) for seed in seeds]
    shares = [hmac.new(b"share", bytes([number]), hashlib.sha256).digest() for number in range(4)]
    inbox_seed = hashlib.sha256(b"inbox").digest()
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    OUT.write_text(
        json.dumps(
            {
                "inbox_logs": [
                    {
                        "sender": devices[a].hex(),
                        "recipient": devices[b].hex(),
                        "log_id": derive("delta inbox log v1", devices[a] + devices[b]).hex(),
                    }
                    for a, b in pairs
                ],
                "contacts": [
                    {
                        "device": devices[0].hex(),
                        "seed": inbox_seed.hex(),
                        "topic_id": topic(inbox_seed).hex(),
                        "text": z32(b"\x01" + devices[0] + inbox_seed),
                    }
                ],
                "threads": [
                    thread(shares[0], shares[1], devices[0], devices[1]),
                    thread(shares[2], shares[3], devices[2], devices[0]),
                ],
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
