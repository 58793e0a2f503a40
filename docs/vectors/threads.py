#!/usr/bin/env python3
"""Writes core/tests/vectors/threads.json: direct threads on several devices of a person, made without any code of this project.

Follows docs/wire.md (sections 12, 12.3 and 15). Needs `pip install blake3 PyNaCl`. Run from the repository's root; the
output is deterministic.
"""

from nacl.signing import SigningKey

from wire import cbor, derive, drawn, operation, certificate, topic_id, write

IDENTITY = SigningKey(drawn("identity"))
ASKING, ASKED = SigningKey(drawn("asking device")), SigningKey(drawn("asked device"))
SHARE, LOG, SEED = drawn("share"), drawn("log"), drawn("write seed")
PEER, THREAD, GENERATION = bytes(ASKING.verify_key), drawn("thread"), drawn("generation")[:16]
MADE = 1_700_000_000_000


def public(key):
    return bytes(key.verify_key)


def accepted(name):
    """A thread that a person with several devices accepts."""
    asked, own = drawn(f"asked {name}"), drawn(f"own topic {name}")
    requester, identity = public(ASKING), public(IDENTITY)
    thread = derive("delta direct thread id v1", asked, requester)
    share = derive("delta direct share v1", own, thread)
    secret = derive("delta direct thread v1", asked, share, requester, identity)
    return {
        "share_of_request": asked, "own_log": own, "requester": requester, "identity": identity, "thread_id": thread,
        "share": share, "log_id": derive("delta direct log v1", secret),
        "topic_id": topic_id(derive("delta direct write v1", secret)),
    }  # fmt: skip


def signed(key, kind, payload, seq_num=0, backlink=None, of=None):
    header, body, _ = operation(key, LOG, seq_num, backlink, {0: kind, 1: payload}, of)
    return [header, body]


def bundle():
    """Signed by a device that says whose it is."""
    keys = {0: drawn("x25519"), 1: drawn("prekey"), 2: drawn("sig") * 2, 3: MADE + 1, 4: drawn("inbox")}
    return signed(ASKED, "device.bundle", keys, of=certificate(IDENTITY, public(ASKED), MADE))


def thread(state, **more):
    base = {0: THREAD, 1: state, 2: PEER, 3: MADE}
    return base | {int(key[1:]): value for key, value in more.items()}


STATES = {
    "asked": thread(0, _5=SHARE),
    "requested with a text": thread(1, _4="It is me", _5=SHARE),
    "open": thread(2, _6=LOG, _7=SEED),
    "open with a bundle": thread(2, _6=LOG, _7=SEED, _8=[bundle()]),
    "closed": thread(3, _6=LOG, _7=SEED),
    "closed before it was open": thread(3),
}


def past(said, about=STATES["open"]):
    return {0: about, 1: GENERATION, 2: said}


def without(payload, key):
    return {k: v for k, v in payload.items() if k != key}


def main():
    one = signed(ASKING, "message.send", {0: "one"})
    two = signed(ASKING, "message.send", {0: "two"}, 1, drawn("before"))
    said = [[7, *one], [9, *two]]
    bodies = [(name, "own.thread", payload) for name, payload in STATES.items()]
    bodies += [
        ("nothing said", "own.past", past([])),
        ("two messages", "own.past", past(said)),
        ("an acceptance of one device", "direct.accept", {0: THREAD, 1: SHARE}),
        ("an acceptance of a person", "direct.accept", {0: THREAD, 1: SHARE, 2: public(IDENTITY), 3: [bundle()]}),
    ]
    opened = STATES["open"]
    malformed = [
        ("a state there is not", "own.thread", opened | {1: 4}),
        ("asked without a share", "own.thread", without(STATES["asked"], 5)),
        ("open without a seed", "own.thread", without(opened, 7)),
        ("closed with a log and no seed", "own.thread", without(STATES["closed"], 7)),
        ("a thread id too short", "own.thread", opened | {0: THREAD[:31]}),
        ("no device", "own.thread", without(opened, 2)),
        ("a text too long", "own.thread", opened | {4: "x" * 2049}),
        ("a bundle of one part", "own.thread", opened | {8: [[b"header"]]}),
        ("a bundle of three parts", "own.thread", opened | {8: [[b"header", b"body", b"more"]]}),
        ("17 bundles", "own.thread", opened | {8: [[b"h", b"b"]] * 17}),
        ("a seq of 0", "own.past", past([[0, *one]])),
        ("a seq past the end", "own.past", past([[2**63, *one]])),
        ("no generation", "own.past", without(past(said), 1)),
        ("a thread that is none", "own.past", past(said, {0: THREAD})),
        ("257 operations", "own.past", past([[1, b"h", b"b"]] * 257)),
        ("17 bundles of an acceptance", "direct.accept", {0: THREAD, 1: SHARE, 3: [[b"h", b"b"]] * 17}),
        ("an identity too short", "direct.accept", {0: THREAD, 1: SHARE, 2: SHARE[:8]}),
    ]

    def rows(of):
        return [{"name": name, "body": cbor({0: kind, 1: payload})} for name, kind, payload in of]

    write("threads.json", {
        "accepted": [accepted(name) for name in ("one", "other")],
        "thread": THREAD, "peer": PEER, "share": SHARE, "log": LOG, "write": SEED, "generation": GENERATION, "made_ms": MADE,
        "identity": public(IDENTITY), "device": public(ASKED),
        "bundle": dict(zip(("header", "body"), bundle())),
        "said": [dict(zip(("header", "body"), it)) for it in (one, two)],
        "bodies": rows(bodies),
        "malformed": rows(malformed),
    })  # fmt: skip


main()
