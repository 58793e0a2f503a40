#!/usr/bin/env python3
"""Writes core/tests/vectors/two-party.json: key bundles, blocks, envelopes 04 and rotations.

Made without any code of this project. Follows docs/wire.md (sections 12 and 13), RFC 9180 and Signal's X3DH and XEdDSA.
What is refused is made as the good ones are but for what its name says. Needs `pip install blake3 PyNaCl`. Run from the
repository's root; the output is deterministic.
"""

import copy
import struct

from nacl.signing import SigningKey

from channel import DIRECT, HANDED, ROTATION, Session, agreed, clamped, context, elements, xeddsa
from wire import (
    LOW_ORDER, changed, derive, drawn, fill, operation, padded, ticket_bytes, topic_id, with_high_bit, write,
    x25519_public, xchacha, z32,
)  # fmt: skip

NOW = 1_800_000_000_000
EXPIRES = NOW + 60 * 24 * 3_600_000
LOG = drawn("direct log")

# --- devices and their bundles ---


class Device:
    def __init__(self, name, seed, inbox=None):
        self.name, self.key = name, SigningKey(fill(seed))
        self.author = bytes(self.key.verify_key)
        self.secret, self.prekey_secret = clamped(drawn(f"{name} X25519")), clamped(drawn(f"{name} prekey"))
        self.public, self.prekey = x25519_public(self.secret), x25519_public(self.prekey_secret)
        self.random = drawn(f"{name} Z 1") + drawn(f"{name} Z 2")
        self.signature = xeddsa(self.secret, self.prekey, self.random)
        self.inbox = inbox

    def bundle(self, **other):
        keys = {"identity": self.public, "prekey": self.prekey, "signature": self.signature, "expires": EXPIRES} | other
        payload = dict(enumerate(keys[name] for name in ("identity", "prekey", "signature", "expires")))
        payload |= {} if self.inbox is None else {4: self.inbox}
        header, body, _ = operation(self.key, LOG, 0, None, {0: "device.bundle", 1: payload})
        return {"header": header, "body": body}

    def told(self):
        return {
            "seed": bytes(self.key), "author": self.author, "x25519_secret": self.secret, "x25519": self.public,
            "prekey_secret": self.prekey_secret, "prekey": self.prekey, "signature_random": self.random,
            "signature": self.signature, "expires_ms": EXPIRES, "inbox_seed": self.inbox, "bundle": self.bundle(),
        }  # fmt: skip


A, B, C = Device("a", 0x0A), Device("b", 0x0B, drawn("inbox of b")), Device("c", 0x0C)
DEVICES = {device.name: device for device in (A, B, C)}


def bundles():
    """By device a: those that are refused, each signed as an operation."""
    return {
        "Expired": {"expired": A.bundle(expires=NOW), "of a clock at 0": A.bundle(expires=0)},
        "TooLong": {"90 days and a millisecond": A.bundle(expires=NOW + 90 * 24 * 3_600_000 + 1)},
        "Key": {
            **{f"prekey of low order {n}": A.bundle(prekey=u, signature=xeddsa(A.secret, u, A.random))
               for n, u in enumerate(LOW_ORDER)},
            **{f"X25519 key of low order {n}": A.bundle(identity=u) for n, u in enumerate(LOW_ORDER)},
            "X25519 key with its top bit set": A.bundle(identity=with_high_bit(A.public)),
            "prekey with its top bit set": A.bundle(
                prekey=with_high_bit(A.prekey), signature=xeddsa(A.secret, with_high_bit(A.prekey), A.random)),
            "X25519 key above the prime": A.bundle(identity=(2**255 - 19 + 9).to_bytes(32, "little")),
        },
        "Signature": {
            "changed signature": A.bundle(signature=changed(A.signature, 5)),
            "another's prekey": A.bundle(prekey=B.prekey),
            "signed by another": A.bundle(signature=xeddsa(B.secret, A.prekey, A.random)),
            "signed with Ed25519 by the device": A.bundle(signature=A.key.sign(A.prekey).signature),
            "X25519 key of the twist": A.bundle(identity=twist()),
        },
    }  # fmt: skip


def twist():
    """A u-coordinate of no point of the curve: 486662's equation has no y."""
    p = 2**255 - 19
    u = next(u for u in range(2, 100) if pow(u**3 + 486662 * u**2 + u, (p - 1) // 2, p) == p - 1)
    return u.to_bytes(32, "little")


# --- envelope 04 ---


def enveloped(block, key, plain):
    head = b"\x04" + block
    return head + xchacha(plain, head, bytes(24), key)


def said(device, seq_num, backlink, text, log=LOG, key=None):
    body = {0: "message.send", 1: {0: text}, 2: NOW + seq_num}
    return operation(key or device.key, log, seq_num, backlink, body)


class Talk:
    """Two devices that talk: a> and b> seal, a< and b< open what waits for them."""

    def __init__(self):
        self.sides = {"a": Session("a", B), "b": Session("b", A)}
        self.waiting = {"a": [], "b": []}
        self.heads = {"a": (0, None), "b": (0, None)}
        self.rows = []

    def seals(self, me):
        device, peer = DEVICES[me], "b" if me == "a" else "a"
        side, (seq_num, backlink) = self.sides[me], self.heads[me]
        before, key = side.told(), drawn(f"{me} key {side.sealed}")
        header, body, this = said(device, seq_num, backlink, f"{me} says {seq_num}")
        about = context(DIRECT, LOG, 0, device.author, DEVICES[peer].author)
        block, sealing = side.seal(device, about, key)
        row = {"from": me, "to": peer, "form": block[12], "index": seq_num, "sender": before, "key": key, **sealing,
               "header": header, "body": body, "envelope": enveloped(block, key, padded(header, body))}  # fmt: skip
        self.heads[me] = seq_num + 1, this
        self.waiting[peer].append((block, sealing, row))

    def opens(self, me):
        block, sealing, row = self.waiting[me].pop(0)
        side = self.sides[me]
        row["receiver"] = side.told() if side.opened or side.sealed else None
        side.hears(block, sealing)
        row["after"] = side.told()
        self.rows.append(row)

    def act(self, script):
        for me, what in script.split():
            (self.seals if what == ">" else self.opens)(me)
        return self


def conversation():
    """Every form, both ways, crossing each other; then one whose number takes two bytes."""
    talk = Talk().act("a> b< a> a> b< b> b< a< a> b> b> a< b< a< b> a<")
    rows = list(talk.rows)
    while talk.sides["a"].sealed < 24:
        talk.act("a> b<")
    return rows + talk.rows[-2:]


def refused():
    """To device b: before it holds a session, and when it holds one in which both have talked."""
    standing = Talk().act("a> b< b> a< a> b<")
    last = standing.rows[-1]
    earlier = standing.rows[0]

    def made(at=None, *, to=B, me=A, sealer=None, log=LOG, purpose=DIRECT, epoch=0, about=None, plain=None, key=None,
             session=None, **other):  # fmt: skip
        """The next envelope of device a to b; `at` a standing conversation, or the first of a session."""
        side = Session("a", to) if at is None else copy.deepcopy(at.sides["a"])
        header, body, _ = said(sealer or me, side.sealed, None if side.sealed == 0 else drawn("backlink"), "hello", log)
        key = drawn("refused key") if key is None else key
        about = about or context(purpose, log, epoch, me.author, B.author)
        block, _ = side.seal(me, about, key, **other)
        block = session + block[8:] if session else block
        return enveloped(block, key[:32].ljust(32, b"\x00"), plain or padded(header, body))

    header, body, _ = said(A, 0, None, "hello")
    first, next_one = made(), made(standing)
    side = standing.sides["a"]
    to, ephemeral = side.to, drawn(f"a {side.sealed + 1} ephemeral")
    high = {"encapsulated": with_high_bit(x25519_public(ephemeral)), "shared": agreed(ephemeral, to)}
    answered = Talk().act("a> b< b> a< a> b< b> a<")
    used = x25519_public(drawn("b 1 own"))
    long_plain = padded(header, body, length=len(padded(header, body)) + 16)
    def numbers(**change):
        """The list of a first block's plaintext, with single numbers changed."""
        listed = elements(context(DIRECT, LOG, 0, A.author, B.author), drawn("refused key"), 1)
        for place, value in change.items():
            listed[int(place[1:])] = value
        return listed

    without = {
        "form": {
            "of another kind": b"\x03" + first[1:],
            "a block and nothing": first[:444],
            "shorter than a tag": first[:459],
        },
        "unknown_session": {
            "not the first of its session": next_one,
            "the session's name is another": made(session=drawn("name")[:8]),
            "index 1": made(index=1),
            "form 02 for a first one": made(form=b"\x02"),
            "form 00": made(form=b"\x00"),
            "form 04": made(form=b"\x04"),
        },
        "unknown_prekey": {"for another device": made(to=C), "to a prekey that b never had": made(prekey=C.prekey)},
        "forged": {
            "changed X25519 key": changed_first(first, 14),
            "changed ephemeral key": changed_first(first, 78),
            "changed ciphertext of the block": changed_first(first, 150),
            "changed tag of the block": changed_first(first, 442),
            "changed ciphertext": changed(first, 500),
            "changed tag": changed(first, len(first) - 1),
            "cut by a byte": first[:-1],
            **{f"X25519 key of low order {n}": made(identity=u) for n, u in enumerate(LOW_ORDER)},
            **{f"ephemeral key of low order {n}": made(encapsulated=u) for n, u in enumerate(LOW_ORDER)},
            **{f"both of low order {n}": made(identity=u, encapsulated=u) for n, u in enumerate(LOW_ORDER)},
            "X25519 key with its top bit set": made(identity=with_high_bit(A.public)),
            "ephemeral key with its top bit set": made(
                encapsulated=with_high_bit(x25519_public(drawn("a 1 ephemeral")))),
            **{f"hands over a key of low order {n}": made(own_public=u) for n, u in enumerate(LOW_ORDER)},
            "hands over a key with its top bit set": made(own_public=with_high_bit(x25519_public(drawn("a 1 own")))),
            "for a rotation": made(purpose=ROTATION),
            "for a key that is handed": made(purpose=HANDED),
            "for epoch 1": made(epoch=1),
            "for another recipient": made(about=context(DIRECT, LOG, 0, A.author, C.author)),
            "for another log": made(about=context(DIRECT, drawn("other log"), 0, A.author, B.author)),
            "another's operation": made(sealer=C),
            "a key of 31 bytes": made(key=drawn("refused key")[:31]),
            "a key of 33 bytes": made(key=drawn("refused key") + b"\x00"),
            "a payload said to be longer than its room": made(packing={"length": 66}),
            "not zero behind the payload": made(packing={"rest": b"\x01"}),
            "an element of 16": made(elements=numbers(_0=16)),
            "a filling of 25": made(packing={"wide": 25}),
        },
        "padding": {
            "padding that is not zero": made(plain=padded(header, body, filler=b"\x01")),
            "padding of the next length": made(plain=long_plain),
            "no padding": made(plain=padded(header, body, length=6 + len(header) + len(body))),
        },
        "operation": {
            "of another log": made(log=drawn("other log")),
            "changed signature": made(plain=padded(header[:40] + changed(header[40:], 0), body)),
        },
    }  # fmt: skip
    within = {
        "duplicate": {"opened before": last["envelope"], "the first again": earlier["envelope"]},
        "early": {"the one after next": ahead(standing)},
        "other_peer": {
            "another's operation": made(standing, sealer=C),
            "another's operation, and said to be": made(standing, sealer=C, about=context(DIRECT, LOG, 0, C.author, B.author)),
        },
        "forged": {
            "changed ciphertext": changed(next_one, 460),
            "not zero behind the ciphertext": made(standing, tail=b"\x01"),
            "for another recipient": made(standing, about=context(DIRECT, LOG, 0, A.author, C.author)),
            **{f"encapsulated key of low order {n}": made(standing, encapsulated=u, shared=bytes(32))
               for n, u in enumerate(LOW_ORDER)},
            "encapsulated key with its top bit set": made(standing, **high),
            "hands over a key of low order": made(standing, own_public=bytes(32)),
            "form 03 with that number": made(standing, form=b"\x03"),
        },
    }  # fmt: skip
    numbered = {
        "forged": {
            "a number whose key is gone": made(answered, number=1, sealed_to=used),
            "a number that was never given": made(answered, number=3),
            "a number that is none": made(answered, number=2**64 - 1),
            **{f"encapsulated key of low order {n}": made(answered, encapsulated=u, shared=bytes(32))
               for n, u in enumerate(LOW_ORDER)},
        },
    }  # fmt: skip
    rounds = [(None, first, without), (standing, next_one, within), (answered, made(answered), numbered)]
    return [
        {
            "session": talk and talk.sides["b"].told(), "good": good,
            "cases": [{"why": why, "name": name, "envelope": it} for why, of in cases.items() for name, it in of.items()],
        }
        for talk, good, cases in rounds
    ]  # fmt: skip


def changed_first(envelope, place):
    """A byte of the block changed, and the session named as its content now wants it."""
    block = changed(envelope[1:444], place - 1)
    block = derive("delta two-party session v1", block[12:])[:8] + block[8:]
    return envelope[:1] + block + envelope[444:]


def ahead(talk):
    talk = copy.deepcopy(talk).act("a> a>")
    return talk.waiting["b"][-1][2]["envelope"]


# --- rotations, and keys that are handed ---


def commitment(secret, topic, log, epoch, rotator):
    return derive("delta epoch commitment v1", secret, topic, log, struct.pack(">I", epoch), rotator)


def handed_to(device, purpose, log, epoch, handover, name, sender=A, **other):
    about = context(purpose, log, epoch, sender.author, device.author)
    return Session(name, device).seal(sender, about, handover, **other)[0]


def moves():
    log, epoch, seed, secret = drawn("room"), 8, drawn("next write"), drawn("next secret")
    topic, write_vk = topic_id(seed), bytes(SigningKey(seed).verify_key)
    writer, reader = b"\x01" + seed + secret, b"\x02" + write_vk + secret
    promised = commitment(secret, topic, log, epoch, A.author)

    def rotation(*, name="rotation", to=topic, epoch=epoch, commitment=promised, for_b=writer, log_of_b=log, sealer=A,
                 context_epoch=8, key=A.key):  # fmt: skip
        parts = [
            [B.author, handed_to(B, ROTATION, log_of_b, context_epoch, for_b, f"{name} b", sealer)],
            [C.author, handed_to(C, ROTATION, log, context_epoch, reader, f"{name} c")],
        ]
        payload = {0: epoch, 1: to, 2: sorted(parts), 3: [[A.author, 3, drawn("end of a")]], 4: commitment}
        header, body, _ = operation(key, log, 4, drawn("backlink"), {0: "room.rotate", 1: payload, 4: [drawn("head")]})
        return {"header": header, "body": body}

    another = drawn("another write")
    swapped = commitment(drawn("another secret"), topic, log, epoch, A.author)
    copied = commitment(secret, topic, log, epoch, C.author)
    refused = {
        "a commitment to another secret": rotation(commitment=swapped),
        "a secret other than the one committed to": rotation(for_b=b"\x01" + seed + drawn("another secret")),
        "a write key of another topic": rotation(for_b=b"\x01" + another + secret),
        "a topic other than the key's": rotation(to=topic_id(another)),
        "a part for another epoch": rotation(context_epoch=9),
        "a part for another log": rotation(log_of_b=drawn("another log")),
        "a part that another device sealed for itself to send": rotation(key=C.key, commitment=copied),
        "a public ticket": rotation(for_b=b"\x03" + seed + secret),
        "a part cut by a byte": rotation(for_b=writer[:-1]),
    }
    handed = handed_to(B, HANDED, log, epoch, writer, "handed")
    keys = [[log, epoch, topic, B.author, 1, handed]]
    header, body, _ = operation(A.key, drawn("space"), 5, drawn("backlink"), {0: "key.hand", 1: {0: keys}})
    return {
        "log_id": log, "epoch": epoch, "topic_id": topic, "commitment": promised,
        "writer_ticket": z32(ticket_bytes(1, log, epoch, seed, secret)),
        "reader_ticket": z32(ticket_bytes(2, log, epoch, write_vk, secret)),
        "rotation": rotation(), "refused": [{"name": name, **row} for name, row in refused.items()],
        "key_hand": {"log_id": drawn("space"), "header": header, "body": body},
    }  # fmt: skip


def main():
    write("two-party.json", {
        "now_ms": NOW, "log_id": LOG, "devices": {device.name: device.told() for device in DEVICES.values()},
        "refused_bundles": [{"why": why, "name": name, **bundle} for why, of in bundles().items() for name, bundle in of.items()],
        "conversation": conversation(), "refused": refused(), "moves": moves(),
    })  # fmt: skip


main()
