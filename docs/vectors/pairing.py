#!/usr/bin/env python3
"""Writes core/tests/vectors/pairing.json: the pairing of a device and its welcome, made without any code of this project.

Follows docs/wire.md (sections 5, 11, 12.3, 13 and 14). What is refused is made as the good ones are but for what its name
says. Needs `pip install blake3 PyNaCl`. Run from the repository's root; the output is deterministic.
"""

import struct

from nacl.signing import SigningKey

from wire import (
    LOW_ORDER, certificate, changed, derive, drawn, fill, operation, sealed_sender, ticket_bytes, topic_id, topic_sealed, write,
    z32,
)  # fmt: skip

HOST, NEW, OTHER = (SigningKey(fill(byte)) for byte in (0x51, 0x52, 0x53))
IDENTITY = SigningKey(fill(0x54))
SECRET = drawn("pairing")
CREATED = 1_700_000_000_000


def public(key):
    return bytes(key.verify_key)


def text(secret, host=HOST, version=b"\x01"):
    return z32(version + public(host) + secret)


def pairing(secret):
    log, seed = derive("delta pairing log v1", secret), derive("delta pairing write v1", secret)
    sealing = derive("delta pairing secret v1", secret)
    return {
        "host": public(HOST), "secret": secret, "text": text(secret), "log_id": log, "topic_id": topic_id(seed),
        "ticket": z32(ticket_bytes(1, log, 0, seed, sealing)),
    }  # fmt: skip


def code(secret, ask, nonce):
    number = struct.unpack(">Q", derive("delta pairing code v1", secret, ask, nonce)[:8])[0] % 1_000_000
    return f"{number // 1000:03} {number % 1000:03}"


def codes():
    """Also some with zeros in front, of either half."""
    nonces = [drawn(f"nonce {number}") for number in range(20_000)]
    ask = drawn("an ask")
    shown = {nonce: code(SECRET, ask, nonce) for nonce in nonces}
    chosen = nonces[:3] + [next(nonce for nonce in nonces if shown[nonce].startswith(start)) for start in ("000", "00", "0")]
    chosen.append(next(nonce for nonce in nonces if shown[nonce][4:6] == "00"))
    return [{"ask": ask, "nonce": nonce, "code": shown[nonce]} for nonce in chosen]


def ticket(name, epoch=0):
    return ticket_bytes(1, drawn(f"{name} log"), epoch, drawn(f"{name} write"), drawn(f"{name} secret"))


def read_only(ticket):
    return b"\x02" + ticket[1:37] + public(SigningKey(ticket[37:69])) + ticket[69:]


def public_ticket(name):
    seed = drawn(name)
    return ticket_bytes(3, topic_id(seed), 0, seed, bytes(32))


OWN = ticket("own")
TICKETS = [ticket("room", 7), read_only(ticket("archive", 6)), public_ticket("channel")]
CERTIFICATE = certificate(IDENTITY, public(NEW), CREATED)


def welcome(certificate=CERTIFICATE, own=OWN, tickets=TICKETS, count=None):
    return certificate + own + struct.pack(">H", len(tickets) if count is None else count) + b"".join(tickets)


def sealed(plain, name, *, sender=HOST, to=NEW, **other):
    return sealed_sender(public(sender), public(to), plain, drawn(f"{name} ephemeral"), drawn(f"{name} nonce")[:24], **other)


def welcomes():
    rows = {"three topics": TICKETS, "none but its own": [], "sixty": [ticket(f"room {n}", n) for n in range(60)]}
    return [{
        "name": name, "certificate": CERTIFICATE, "own": z32(OWN), "tickets": [z32(it) for it in tickets],
        "ephemeral_secret": drawn(f"{name} ephemeral"), "nonce": drawn(f"{name} nonce")[:24],
        "plaintext": welcome(tickets=tickets), "sealed": sealed(welcome(tickets=tickets), name),
    } for name, tickets in rows.items()]  # fmt: skip


def refused_welcomes():
    def made(plain=None, **other):
        return sealed(plain or welcome(), "refused", **other)

    good, one = made(), TICKETS[0]
    other_device = certificate(IDENTITY, public(OTHER), CREATED)
    weak = b"\x02" + one[1:37] + b"\x01" + bytes(31) + one[69:]
    cases = {
        "open": {
            "for another device": made(to=OTHER),
            "by another device than the one of the text": made(sender=OTHER),
            "by the new device itself": made(sender=NEW),
            "changed": changed(good, 200),
            "changed sender": changed(good, 57),
            "cut by a byte": good[:-1],
            "of another kind": b"\x02" + good[1:],
            **{f"ephemeral key of low order {n}": made(epk=u, shared=bytes(32)) for n, u in enumerate(LOW_ORDER)},
        },
        "certificate": {
            "another device's certificate": made(welcome(other_device)),
            "another device's, with this one's name in it": made(welcome(other_device[:32] + public(NEW) + other_device[64:])),
            "another identity's name in it": made(welcome(public(OTHER) + CERTIFICATE[32:])),
            "another time in it": made(welcome(changed(CERTIFICATE, 71))),
            "changed signature": made(welcome(changed(CERTIFICATE, 100))),
            "a revocation": made(welcome(revocation())),
        },
        "ticket": {
            "a ticket of an unknown version": made(welcome(tickets=[b"\x07" + one[1:]])),
            "a ticket of the last epoch": made(welcome(tickets=[one[:33] + b"\xff" * 4 + one[37:]])),
            "a read-only ticket whose key is of small order": made(welcome(tickets=[weak])),
            "a public ticket with a secret": made(welcome(tickets=[b"\x03" + one[1:]])),
            "an own topic that is none": made(welcome(own=b"\x00" + OWN[1:])),
        },
        "form": {
            "fewer tickets than said": made(welcome(count=4)),
            "more tickets than said": made(welcome(count=2)),
            "a byte too many": made(welcome() + b"\x00"),
            "a byte too few": made(welcome()[:-1]),
            "a certificate and nothing": made(CERTIFICATE),
        },
        "count": {"more tickets than a device has topics": made(welcome(count=4097))},
    }
    return [{"why": why, "name": name, "sealed": it} for why, of in cases.items() for name, it in of.items()]


def revocation():
    fields = CERTIFICATE[:72]
    return fields + IDENTITY.sign(b"delta:device-revoke:v1" + fields).signature


def exchange():
    """The three operations of a pairing, as they stand in its topic."""
    topic = pairing(SECRET)
    sealing = derive("delta pairing secret v1", SECRET)
    rows, ids = {}, {}

    def says(name, key, seq_num, backlink, payload):
        header, body, ids[name] = operation(key, topic["log_id"], seq_num, backlink, {0: f"pair.{name}", 1: payload})
        _, envelope = topic_sealed(sealing, topic["topic_id"], header, body)
        rows[name] = {"header": header, "body": body, "id": ids[name], "envelope": envelope}

    nonce = drawn("the nonce")
    says("ask", NEW, 0, None, {})
    says("answer", HOST, 0, None, {0: ids["ask"], 1: nonce})
    says("welcome", HOST, 1, ids["answer"], {0: ids["answer"], 1: sealed(welcome(), "three topics")})
    return rows | {"nonce": nonce, "code": code(SECRET, ids["ask"], nonce)}


def refused_texts():
    good = text(SECRET)
    # 65 bytes are 104 letters: none has unused bits.
    assert len(good) == 104
    return {
        "empty": "", "upper case": good.upper(), "a letter that is none": good[:50] + "v" + good[51:],
        "a space in front": " " + good, "cut": good[:-1], "cut by a byte": good[:-2], "a byte more": z32(b"\x01" + bytes(65)),
        "version 0": text(SECRET, version=b"\x00"), "version 2": text(SECRET, version=b"\x02"), "a letter more": good + "y",
    }  # fmt: skip


def main():
    write("pairing.json", {
        "host_seed": bytes(HOST), "device_seed": bytes(NEW), "identity_seed": bytes(IDENTITY), "created_ms": CREATED,
        "pairings": [pairing(SECRET), pairing(bytes(32)), pairing(b"\xff" * 32)], "codes": codes(), "exchange": exchange(),
        "welcomes": welcomes(), "refused_texts": refused_texts(), "refused_welcomes": refused_welcomes(),
    })  # fmt: skip


main()
