#!/usr/bin/env python3
"""Writes core/tests/vectors/inbox-envelopes.json: envelopes 01 (sealed sender) made without any code of this project.

Follows docs/wire.md (sections 5, 11 and 13). What is refused is made as the good ones are but for what its name says.
Needs `pip install blake3 PyNaCl`. Run from the repository's root; the output is deterministic.
"""

from nacl import bindings
from nacl.signing import SigningKey

from wire import (
    LOW_ORDER, certificate, changed, derive, drawn, fill, hkdf, operation, padded, sealed_sender, with_high_bit, write,
    x25519, x25519_public, xchacha,
)  # fmt: skip

SENDER, RECIPIENT, OTHER = (SigningKey(fill(byte)) for byte in (0x11, 0x22, 0x33))
IDENTITY = SigningKey(fill(0x44))
P = 2**255 - 19


def public(key):
    return bytes(key.verify_key)


def inbox_log(sender, recipient):
    return derive("delta inbox log v1", public(sender), public(recipient))


LOG = inbox_log(SENDER, RECIPIENT)
FIRST = {0: "direct.request", 1: {0: drawn("share"), 1: "Hello, it is Ada."}, 2: 1_700_000_000_123}


def good():
    shown = certificate(IDENTITY, public(SENDER), 1_600_000_000_000)
    claim = {0: drawn("invitation"), 1: drawn("mac"), 2: drawn("space")}
    bodies = [
        ("a request", FIRST, None),
        ("a claim, which shows the certificate and cites heads", {0: "invite.claim", 1: claim, 4: [drawn("head")]}, shown),
        ("a plaintext of exactly 512 bytes", {0: "direct.request", 1: {0: drawn("share"), 1: "x" * 239}}, None),
        ("one byte more", {0: "direct.request", 1: {0: drawn("share"), 1: "x" * 240}}, None),
        ("the longest text", {0: "direct.request", 1: {0: drawn("share"), 1: "é" * 1024}}, None),
    ]
    rows, backlink = [], None
    for seq_num, (name, body, shown) in enumerate(bodies):
        header, body, this = operation(SENDER, LOG, seq_num, backlink, body, shown)
        plain = padded(header, body)
        ephemeral, nonce = drawn(f"ephemeral {seq_num}"), drawn(f"nonce {seq_num}")[:24]
        envelope = sealed_sender(public(SENDER), public(RECIPIENT), plain, ephemeral, nonce)
        assert len(envelope) == len(plain) + 105
        rows.append({
            "name": name, "header": header, "body": body, "id": this, "ephemeral_secret": ephemeral, "nonce": nonce,
            "plaintext_len": len(plain), "envelope": envelope,
        })  # fmt: skip
        backlink = this
    return rows


def refused():
    ephemeral, nonce = drawn("ephemeral"), drawn("nonce")[:24]
    header, body, _ = operation(SENDER, LOG, 0, None, FIRST)
    plain = padded(header, body)

    def seal(plain=plain, sender=SENDER, to=RECIPIENT, **other):
        return sealed_sender(public(sender), public(to), plain, ephemeral, nonce, **other)

    def other_operation(key, log):
        return padded(*operation(key, log, 0, None, FIRST)[:2])

    envelope = seal()
    forged = header.replace(header[40:72], changed(header[40:72], 0))
    assert forged != header
    # The base point under another name: what it shares with a key is that key's public half.
    recipient_x = bindings.crypto_sign_ed25519_pk_to_curve25519(public(RECIPIENT))
    epk = x25519_public(ephemeral)
    cases = {
        "form": {
            "empty": b"",
            "plain": b"\x00" + envelope[1:],
            "of another kind": b"\x03" + envelope[1:],
            "shorter than an envelope of nothing": envelope[:72],
        },
        "key": {
            **{f"ephemeral key of low order {n}": seal(epk=u, shared=bytes(32)) for n, u in enumerate(LOW_ORDER)},
            "ephemeral key above the prime": seal(epk=(P + 9).to_bytes(32, "little"), shared=recipient_x),
            "ephemeral key with its top bit set": seal(epk=with_high_bit(epk), shared=x25519(ephemeral, recipient_x)),
        },
        "seal": {
            "changed ephemeral key": changed(envelope, 1),
            "changed nonce": changed(envelope, 33),
            "changed sender": changed(envelope, 57),
            "changed ciphertext": changed(envelope, 200),
            "changed tag": changed(envelope, len(envelope) - 1),
            "cut by a byte": envelope[:-1],
            "longer by a byte": envelope + b"\x00",
            "for another device": seal(to=OTHER),
            "under a packet's info": seal_as_packet(envelope, ephemeral, nonce, plain),
        },
        "content": {
            "a sender that did not sign": seal(sender=OTHER),
            "another's operation under one's own name": seal(other_operation(OTHER, LOG)),
            "an operation for another's inbox": seal(other_operation(SENDER, inbox_log(SENDER, OTHER))),
            "the log turned round": seal(other_operation(SENDER, inbox_log(RECIPIENT, SENDER))),
            "changed signature": seal(padded(forged, body)),
            "changed body": seal(padded(header, changed(body, len(body) - 1))),
            "padding that is not zero": seal(padded(header, body, filler=b"\x01")),
            "padding of the next length": seal(padded(header, body, length=len(plain) + 16)),
            "no padding": seal(padded(header, body, length=6 + len(header) + len(body))),
            "body_len past the end": seal(padded(header, body, lengths=(len(header), len(plain)))),
            "body_len past everything": seal(padded(header, body, lengths=(len(header), 2**32 - 1))),
            "header_len past the end": seal(padded(header, body, lengths=(2**16 - 1, len(body)))),
            "a body shorter than the payload size": seal(padded(header, body[:-1])),
            "the body's last byte said to be padding": seal(padded(header, body, lengths=(len(header), len(body) - 1))),
            "nothing inside": seal(b""),
        },
    }
    return [
        {"stage": stage, "name": name, "envelope": envelope}
        for stage, of_stage in cases.items()
        for name, envelope in of_stage.items()
    ]


def seal_as_packet(envelope, ephemeral, nonce, plain):
    """The same under the info string of version 2 packets."""
    recipient = bindings.crypto_sign_ed25519_pk_to_curve25519(public(RECIPIENT))
    key = hkdf(envelope[1:33], x25519(ephemeral, recipient), b"delta:onion:v1", 32)
    return envelope[:57] + xchacha(public(SENDER) + plain, None, nonce, key)


def main():
    # Keys that nobody can be sent to (section 5): small order, two spellings of it, a part of small order.
    order_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    order_2 = (P - 1).to_bytes(32, "little")
    unusable = {
        "the neutral element": b"\x01" + bytes(31),
        "its other sign": b"\x01" + bytes(30) + b"\x80",
        "of order 2": order_2,
        "of order 4": bytes(32),
        "of order 8": order_8,
        "the neutral element above the prime": (P + 1).to_bytes(32, "little"),
        "no point": b"\x02" + bytes(31),
        "a device's key with a part of order 8": bindings.crypto_core_ed25519_add(public(RECIPIENT), order_8),
    }
    write("inbox-envelopes.json", {
        "sender_seed": bytes(SENDER), "sender": public(SENDER), "recipient_seed": bytes(RECIPIENT),
        "recipient": public(RECIPIENT), "log_id": LOG, "envelopes": good(), "refused": refused(),
        "unusable_recipients": [{"name": name, "key": key} for name, key in unusable.items()],
    })  # fmt: skip


main()
