#!/usr/bin/env python3
"""Writes core/tests/vectors/server.json: what sync servers and the directory sign and check.

Chains, signed heads, deliver content, proofs, frames, records and a list, made without any code of this project. Follows
docs/wire.md (sections 2, 4, 6, 8 and 9). Needs `pip install blake3 PyNaCl`. Run from the repository's root; the output is
deterministic.
"""

import base64
import json
import struct

from blake3 import blake3
from nacl.signing import SigningKey

from wire import cbor, changed, derive, drawn, fill, topic_id, write, x25519_public

SERVER, WRITE, READ = (SigningKey(fill(byte)) for byte in (0x71, 0x72, 0x73))
TOPIC, GENERATION = topic_id(bytes(WRITE)), drawn("generation")[:16]
OPS = [b"one", b"two", bytes(1000), b"\xff"]


def public(key):
    return bytes(key.verify_key)


def u64(number):
    return struct.pack(">Q", number)


def chains():
    """The chain value at 0, 1, 2 …"""
    values = [derive("delta topic chain v1", TOPIC, GENERATION)]
    for seq, op in enumerate(OPS, 1):
        values.append(derive("delta topic chain v1", values[-1], u64(seq), blake3(op).digest()))
    return values


def signed_head(head, chain):
    return u64(head) + chain + SERVER.sign(b"delta:head:v1" + TOPIC + GENERATION + u64(head) + chain).signature


def frames():
    """One binary frame of each kind (section 9.1)."""
    chain = chains()
    placed = [(seq, 1_700_000_000_000 + seq, op) for seq, op in enumerate(OPS, 1)]
    ops = b"".join(u64(seq) + u64(at) + struct.pack(">I", len(op)) + op for seq, at, op in placed)
    return {
        "hello": b"\x01" + GENERATION + u64(4) + u64(1) + u64(1_700_000_000_123) + struct.pack(">I", 1 << 20),
        "ops": b"\x02" + struct.pack(">H", len(placed)) + ops,
        "ready": b"\x03" + signed_head(4, chain[4]),
        "gap": b"\x04" + u64(1) + u64(3) + chain[3],
        "reset": b"\x05" + GENERATION + u64(4),
        "signal": b"\x06" + struct.pack(">I", 6) + b"signal",
        "slow": b"\x07" + struct.pack(">I", 1500),
        "head": b"\x08" + signed_head(0, chain[0]),
    }


def deliver(flags, payload, *, key=WRITE, topic=TOPIC, signed_flags=None, zero=b"\x00\x00", form=b"\x01"):
    said = b"delta:deliver:v1" + topic + bytes([0, flags if signed_flags is None else signed_flags])
    signature = key.sign(said + blake3(payload).digest()).signature
    return form + bytes([flags]) + zero + topic + public(key) + signature + payload


def listed(*ops):
    return b"".join(struct.pack(">I", len(op)) + op for op in ops)


def deliveries():
    controls = [
        {0: 1, 1: "metadata", 2: {0: "Ada's channel", 1: "what it is about"}},
        {0: 2**63 - 1, 1: "metadata", 2: {0: "é" * 64}},
        {0: 2, 1: "read_key", 2: public(READ)},
        {0: 3, 1: "delete"},
        {0: 4, 1: "delete", 7: "unknown keys are ignored"},
    ]
    null = b"\xa3\x00\x05\x01" + cbor("read_key") + b"\x02\xf6"
    good = {
        "one operation": deliver(0, b"one"),
        "a list": deliver(1, listed(*OPS)),
        "256 operations": deliver(1, listed(*[b"x"] * 256)),
        "a signal": deliver(2, b"signal"),
        "the longest signal": deliver(2, bytes(4096)),
        **{f"control {number}": deliver(3, cbor(control)) for number, control in enumerate(controls)},
        "no read key": deliver(3, null),
    }
    one = good["one operation"]
    refused = {
        "another's key": deliver(0, b"one", key=READ),
        "another's topic": deliver(0, b"one", topic=topic_id(drawn("another"))),
        "flags that were not signed": deliver(0, b"one", signed_flags=2),
        "a payload that was not signed": one[:-1] + b"x",
        "changed signature": changed(one, 70),
        "unknown flags": deliver(4, b"one"),
        "another form": deliver(0, b"one", form=b"\x02"),
        "not zero": deliver(0, b"one", zero=b"\x00\x01"),
        "an empty operation": deliver(0, b""),
        "an empty list": deliver(1, b""),
        "a list with an empty operation": deliver(1, listed(b"one", b"")),
        "a list cut by a byte": deliver(1, listed(b"one", b"two")[:-1]),
        "a list and a byte": deliver(1, listed(b"one") + b"\x00"),
        "257 operations": deliver(1, listed(*[b"x"] * 257)),
        "an empty signal": deliver(2, b""),
        "a signal too long": deliver(2, bytes(4097)),
        "control with counter 0": deliver(3, cbor({0: 0, 1: "delete"})),
        "control with a counter too high": deliver(3, cbor({0: 2**63, 1: "delete"})),
        "an unknown action": deliver(3, cbor({0: 1, 1: "rename"})),
        "a name of nothing": deliver(3, cbor({0: 1, 1: "metadata", 2: {0: ""}})),
        "a name of 65 characters": deliver(3, cbor({0: 1, 1: "metadata", 2: {0: "x" * 65}})),
        "a name with a line's end": deliver(3, cbor({0: 1, 1: "metadata", 2: {0: "a\nb"}})),
        "a description too long": deliver(3, cbor({0: 1, 1: "metadata", 2: {0: "a", 1: "x" * 2049}})),
        "no read key said": deliver(3, cbor({0: 1, 1: "read_key"})),
        "a read key of 31 bytes": deliver(3, cbor({0: 1, 1: "read_key", 2: bytes(31)})),
        "control that is not deterministic": deliver(3, b"\xa2\x00\x18\x01\x01" + cbor("delete")),
        "control and a byte": deliver(3, cbor({0: 1, 1: "delete"}) + b"\x00"),
    }
    return {
        "good": [{"name": name, "flags": it[1], "payload": it[132:], "content": it} for name, it in good.items()],
        "refused": [{"name": name, "content": it} for name, it in refused.items()],
    }


def proofs():
    nonce = drawn("nonce")
    said = public(SERVER) + TOPIC + nonce
    return {
        "nonce": nonce, "read": READ.sign(b"delta:read:v1" + said).signature,
        "count": WRITE.sign(b"delta:count:v1" + said).signature,
    }  # fmt: skip


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def record_object(text, seq, key=SERVER):
    signature = key.sign(b"delta:record:v1" + u64(seq) + text.encode()).signature
    return {"record": text, "seq": seq, "sig": signature.hex()}


def records():
    current, following = (x25519_public(drawn(f"onion {number}")) for number in (1, 2))
    a = f"a={public(SERVER).hex()}"
    k = f"k=7.{base64url(current)}"
    full = f"v=delta1;t=relay;n=https://relay.example.org;{a};{k},65535.{base64url(following)};x=1800000000;c=4;o=R%3Bn %25;f=tunnel"
    good = {
        "all fields": record_object(full, 1_700_000_000),
        "no field too many": record_object(f"v=delta1;t=sync;{a};x=0", 0),
        "one key": record_object(f"v=delta1;t=sync;n=https://sync.example.org;{a};{k};x=1800000000;c=0", 2**64 - 1),
    }
    other_order = f"x=1800000000;later=1;f=later,tunnel;{a};c=9;t=relay;v=delta1"
    low = base64url(bytes(32))
    refused = {
        "changed": good["all fields"] | {"record": full.replace("relay.example", "other.example")},
        "another number": good["all fields"] | {"seq": 1_700_000_001},
        "signed by another": record_object(full, 5, WRITE),
        "another version": record_object(f"v=delta2;t=sync;{a};x=0", 0),
        "no kind": record_object(f"v=delta1;{a};x=0", 0),
        "another kind": record_object(f"v=delta1;t=both;{a};x=0", 0),
        "no end": record_object(f"v=delta1;t=sync;{a}", 0),
        "an end with a zero in front": record_object(f"v=delta1;t=sync;{a};x=01", 0),
        "an end with a sign": record_object(f"v=delta1;t=sync;{a};x=+1", 0),
        "a field twice": record_object(f"v=delta1;t=sync;{a};x=0;x=1", 0),
        "a field without =": record_object(f"v=delta1;t=sync;{a};x=0;later", 0),
        "upper case id": record_object(f"v=delta1;t=sync;a={public(SERVER).hex().upper()};x=0", 0),
        "an escape that is none": record_object(f"v=delta1;t=sync;{a};x=0;o=%41", 0),
        "an empty operator": record_object(f"v=delta1;t=sync;{a};x=0;o=", 0),
        "features in upper case": record_object(f"v=delta1;t=relay;{a};x=0;f=Tunnel", 0),
        "a key of low order": record_object(f"v=delta1;t=relay;{a};k=1.{low};x=0", 0),
        "a padded key": record_object(f"v=delta1;t=relay;{a};{k}=;x=0", 0),
        "two keys under one id": record_object(f"v=delta1;t=relay;{a};{k},7.{base64url(following)};x=0", 0),
        "one key under two ids": record_object(f"v=delta1;t=relay;{a};{k},8.{base64url(current)};x=0", 0),
        "an id too high": record_object(f"v=delta1;t=relay;{a};k=65536.{base64url(current)};x=0", 0),
        "too long": record_object(f"v=delta1;t=sync;{a};x=0;later={'x' * 1024}", 0),
    }
    return {
        "id": public(SERVER), "keys": [{"kid": 7, "public": current}, {"kid": 65535, "public": following}], "operator": "R;n %",
        "written": good, "read_too": {"another order, unknown fields": record_object(other_order, 3)}, "refused": refused,
    }  # fmt: skip


def directory_list():
    body = {
        "version": 7, "expires": 1_800_000_000, "later": 1,
        "nodes": [{"t": "relay", "o": "operator", "n": "https://relay.example.org", "a": public(SERVER).hex(), "c": 4}],
    }  # fmt: skip
    signed = json.dumps(body).encode()
    keys = [SigningKey(fill(byte)) for byte in (0x74, 0x75)]
    signatures = [{"key": public(key).hex(), "sig": key.sign(b"delta:directory:v1" + signed).signature.hex()} for key in keys]
    unsigned = {"key": public(WRITE).hex(), "sig": signatures[0]["sig"]}
    whole = {"signed": base64.b64encode(signed).decode(), "signatures": [*signatures, unsigned]}
    return {"list": json.dumps(whole), "signers": [public(key) for key in keys], "did_not_sign": public(WRITE)}


def main():
    write("server.json", {
        "server_seed": bytes(SERVER), "server_id": public(SERVER), "write_seed": bytes(WRITE), "write_vk": public(WRITE),
        "read_seed": bytes(READ), "topic_id": TOPIC, "generation": GENERATION, "ops": OPS, "chain": chains(),
        "signed_head": signed_head(4, chains()[4]), "frames": frames(), "deliver": deliveries(), "proofs": proofs(),
        "records": records(), "directory": directory_list(),
    })  # fmt: skip


main()
