#!/usr/bin/env python3
"""Writes core/tests/vectors/spaces.json: names of spaces and rooms, invitations, claims and signals.

Made without any code of this project. Follows docs/wire.md (sections 4, 12.1 and 14). What is refused is made as the good
ones are but for what its name says. Needs `pip install blake3 PyNaCl`. Run from the repository's root; the output is
deterministic.
"""

import struct

from blake3 import blake3
from nacl.signing import SigningKey

from wire import derive, drawn, fill, ticket_bytes, topic_id, topic_sealed, write, z32

DEVICE = SigningKey(fill(0x61))
AUTHOR = bytes(DEVICE.verify_key)
SPACE = derive("delta space id v1", AUTHOR, drawn("space nonce"))
TICKET = ticket_bytes(1, SPACE, 3, drawn("space write"), drawn("space secret"))
INVITE, TOKEN = drawn("invite"), drawn("token")


def invitation(ticket=TICKET, version=b"\x01", rest=b""):
    return z32(version + ticket + INVITE + TOKEN + rest)


def claim_mac(token, *parts):
    return blake3(b"".join(parts), key=derive("delta invite claim v1", token)).digest()


def claims():
    identity, device = drawn("identity"), drawn("device")
    right = {"space": SPACE, "invite": INVITE, "identity": identity, "device": device}
    others = {name: drawn(f"another {name}") for name in right}
    rows = [right, right | {"identity": device}, *(right | {name: other} for name, other in others.items())]
    return [row | {"token": TOKEN, "mac": claim_mac(TOKEN, *row.values())} for row in rows]


def invitations():
    text = invitation()
    last = "ybndrfg8ejkmcpqxot1uwisza345h769"
    # 166 bytes leave two bits of the last letter unused.
    unused = text[:-1] + last[last.index(text[-1]) | 1]
    return {
        "text": text, "ticket": z32(TICKET), "invite": INVITE, "token": TOKEN,
        "refused": {
            "empty": "", "upper case": text.upper(), "a letter that is none": "0" + text[1:], "cut": text[:-2],
            "version 2": invitation(version=b"\x02"), "a byte more": invitation(rest=b"\x00"), "unused bits": unused,
            "a ticket of version 0": invitation(b"\x00" + TICKET[1:]),
            "a ticket of the last epoch": invitation(TICKET[:33] + b"\xff" * 4 + TICKET[37:]),
            "the ticket alone": z32(TICKET),
        },
    }  # fmt: skip


def signed(topic, sent_at, body, key=DEVICE):
    said = b"delta:signal:v1" + topic + struct.pack(">Q", sent_at) + blake3(body).digest()
    return b"\x01" + AUTHOR + struct.pack(">Q", sent_at) + key.sign(said).signature


def signals():
    secret, seed = drawn("signal secret"), drawn("signal write")
    topic, log = topic_id(seed), drawn("signal log")

    def private(header, body):
        return topic_sealed(secret, topic, header, body)[1]

    def plain(header, body):
        return b"\x00" + struct.pack(">H", len(header)) + header + body

    bodies = {0: b"\x00", 1_700_000_000_000: b"typing", 2**64 - 1: b"x" * 3840}
    rows = []
    for sent_at, body in bodies.items():
        header = signed(topic, sent_at, body)
        rows.append({
            "sent_at_ms": sent_at, "body": body, "header": header, "private": private(header, body),
            "public": plain(header, body),
        })  # fmt: skip
    assert len(rows[-1]["private"]) == 4017
    good = signed(topic, 5, b"here")
    refused = {
        "empty": (signed(topic, 5, b""), b""),
        "a byte too long": (signed(topic, 5, b"x" * 3841), b"x" * 3841),
        "another body": (good, b"gone"),
        "another time": (good[:33] + struct.pack(">Q", 6) + good[41:], b"here"),
        "another topic": (signed(topic_id(drawn("another")), 5, b"here"), b"here"),
        "another key": (signed(topic, 5, b"here", SigningKey(fill(0x62))), b"here"),
        "another form": (b"\x02" + good[1:], b"here"),
        "a header cut by a byte": (good[:-1], b"here"),
        "a header longer by a byte": (good + b"\x00", b"here"),
    }
    return {
        "seed": bytes(DEVICE), "author": AUTHOR, "topic_id": topic,
        "private_ticket": z32(ticket_bytes(1, log, 0, seed, secret)),
        "public_ticket": z32(ticket_bytes(3, topic, 0, seed, bytes(32))), "signals": rows,
        "refused": [{"name": name, "private": private(*it), "public": plain(*it)} for name, it in refused.items()],
    }  # fmt: skip


def main():
    nonces = drawn("space nonce"), bytes(32)
    spaces = [{"creator": AUTHOR, "nonce": it, "id": derive("delta space id v1", AUTHOR, it)} for it in nonces]
    rooms = [{"space": SPACE, "nonce": it, "id": derive("delta room id v1", SPACE, it)} for it in nonces]
    write("spaces.json", {
        "spaces": spaces, "rooms": rooms, "invitation": invitations(), "claims": claims(), "signals": signals(),
    })  # fmt: skip


main()
