#!/usr/bin/env python3
"""Writes core/tests/vectors/inbox.json: names of inboxes and direct threads made without any code of this project.

Follows docs/wire.md (sections 13 to 15). Needs `pip install blake3 PyNaCl`. Run from the repository's root; the output is
deterministic.
"""

import hmac

from nacl.signing import SigningKey

from wire import derive, drawn, topic_id, write, z32


def public(seed):
    return bytes(SigningKey(seed).verify_key)


def thread(asked, accepted, requester, accepter):
    secret = derive("delta direct thread v1", asked, accepted, requester, accepter)
    return {
        "share_of_request": asked,
        "share_of_acceptance": accepted,
        "requester": requester,
        "accepter": accepter,
        "thread_id": derive("delta direct thread id v1", asked, requester),
        "log_id": derive("delta direct log v1", secret),
        "topic_id": topic_id(derive("delta direct write v1", secret)),
    }


def contact(device, seed, version=b"\x01", rest=b""):
    return z32(version + device + seed + rest)


def main():
    devices = [public(drawn(f"device {number}")) for number in range(3)]
    shares = [hmac.digest(b"share", bytes([number]), "sha256") for number in range(4)]
    first, seed = devices[0], drawn("inbox")
    text = contact(first, seed)
    write("inbox.json", {
        "inbox_logs": [
            {"sender": a, "recipient": b, "log_id": derive("delta inbox log v1", a, b)}
            for a in devices for b in devices if a != b
        ],
        "contacts": [{"device": first, "seed": seed, "topic_id": topic_id(seed), "text": text}],
        "threads": [
            thread(shares[0], shares[1], devices[0], devices[1]),
            thread(shares[2], shares[3], devices[2], devices[0]),
        ],
        "refused_contacts": {
            "empty": "", "upper case": text.upper(), "a letter that is none": text[:50] + "v" + text[51:], "cut": text[:-2],
            "version 0": contact(first, seed, b"\x00"), "version 2": contact(first, seed, b"\x02"),
            "a byte more": contact(first, seed, rest=b"\x00"), "a space behind": text + " ",
        },
    })  # fmt: skip


main()
