#!/usr/bin/env python3
"""Writes core/tests/vectors/onion-v2.json and onion-v3.json anew, from what was drawn for them.

What was drawn (keys, ephemeral secrets, nonces, padding, what is said) is read from the files themselves, which other
programs made first; every packet, key and layer is computed here. Made without any code of this project: follows
docs/wire.md (sections 3 to 5). Needs `pip install -r docs/vectors/requirements.txt`. Run from the repository's root; the
output is deterministic.
"""

import hashlib
import hmac
import json
import pathlib
import struct

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from nacl import bindings
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as chacha
from nacl.signing import SigningKey

from wire import derive, hkdf, sealed_sender, x25519, x25519_public, xchacha

FOLDER = pathlib.Path("core/tests/vectors")
SIZES = [4_096, 16_384, 65_536, 262_144, 1_052_672]
SLOT = 96


def keystream(key, counter, length):
    nonce = struct.pack("<I", counter) + bytes(12)
    return Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor().update(bytes(length))


def xor(a, b):
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


def layer_keys(size_class, hop):
    """Section 3.2: the additional data, then aead, fill key and replay tag."""
    head = struct.pack(">BBH", 3, size_class, hop["kid"]) + hop["ephemeral_public"]
    prk = hmac.digest(b"delta:onion:v3", x25519(hop["ephemeral_secret"], hop["onion_public"]), "sha256")
    okm, last, info = b"", b"", b"keys" + head + hop["onion_public"]
    for count in (1, 2, 3):
        last = hmac.digest(prk, last + info + bytes([count]), "sha256")
        okm += last
    return head, okm[:32], okm[32:64], okm[64:80]


def packets(size_class, hops, kind, content, padding):
    """Section 3.3: the packet as each hop receives it."""
    body = SIZES[size_class] - 52
    keys = [layer_keys(size_class, hop) for hop in hops]
    tail = b""
    for _, aead, fill, _ in keys[:-1]:
        stream = keystream(aead, 1, body)
        tail = xor(tail, stream[body - len(tail) :]) + keystream(fill, 0, SLOT)
    head, aead, _, _ = keys[-1]
    last = xor(tail, keystream(aead, 1, body)[body - len(tail) :])
    slot = bytes([kind, 0, 0, 0]) + struct.pack(">I", len(content)) + bytes(88)
    plain = slot + content + padding + last
    assert len(plain) == body
    made = []
    for index in reversed(range(len(hops))):
        head, aead, _, _ = keys[index]
        sealed = chacha(plain, head, bytes(12), aead)
        cipher, tag = sealed[:-16], sealed[-16:]
        made.insert(0, head + tag + cipher)
        if index:
            previous, hop = hops[index - 1], hops[index]
            slot = b"\x01\x00" + struct.pack(">HH", previous["delay"], hop["kid"]) + bytes(10) + hop["node_id"]
            plain = slot + hop["ephemeral_public"] + tag + cipher[: body - SLOT]
    # What a hop sends on is what the next was to receive: cut, and filled.
    for index, (_, _, fill, _) in enumerate(keys[:-1]):
        opened = xor(made[index][52:], keystream(keys[index][1], 1, body))
        following = struct.pack(">BB", 3, size_class) + opened[4:6] + opened[48:96] + opened[96:] + keystream(fill, 0, SLOT)
        assert following == made[index + 1]
    return made, keys


def unhex(row, *names):
    return [bytes.fromhex(row[name]) for name in names]


def version_3(row):
    hops = []
    for hop in row["hops"]:
        node_id, secret, ephemeral = unhex(hop, "node_id", "onion_secret", "ephemeral_secret")
        hops.append({
            "node_id": node_id, "kid": hop["kid"], "delay": hop["delay"], "ephemeral_secret": ephemeral,
            "onion_public": x25519_public(secret), "ephemeral_public": x25519_public(ephemeral),
        })  # fmt: skip
    write_seed, payload, padding = unhex(row, "topic_write_secret", "payload", "padding")
    key, flags = SigningKey(write_seed), row["flags"]
    write_vk = bytes(key.verify_key)
    topic, hashed = derive("delta topic id v1", write_vk), blake3(payload).digest()
    signature = key.sign(b"delta:deliver:v1" + topic + bytes([0, flags]) + hashed).signature
    kind, content = 3, b""
    if row["terminal"] == "deliver":
        kind, content = 2, bytes([1, flags, 0, 0]) + topic + write_vk + signature + payload
    row |= {"topic_write_public": write_vk.hex(), "topic_id": topic.hex(), "payload_blake3": hashed.hex()}
    row |= {"content": content.hex(), "padding_sha256": hashlib.sha256(padding).hexdigest()}
    made, keys = packets(row["class_"], hops, kind, content, padding)
    for told, hop, packet, (_, aead, fill, replay_tag) in zip(row["hops"], hops, made, keys):
        told |= {"onion_public": hop["onion_public"].hex(), "ephemeral_public": hop["ephemeral_public"].hex()}
        told |= {"aead_key": aead.hex(), "fill_key": fill.hex(), "replay_tag": replay_tag.hex()}
        told["packet_sha256"] = hashlib.sha256(packet).hexdigest()
        if "packet" in told:
            told["packet"] = packet.hex()


def version_2(row):
    packet, layers = b"", []
    for index in reversed(range(len(row["hops"]))):
        hop = row["hops"][index]
        seed, ephemeral, nonce = unhex(hop, "ed25519_seed", "ephemeral_secret", "nonce")
        public = bytes(SigningKey(seed).verify_key)
        secret = bindings.crypto_sign_ed25519_sk_to_curve25519(seed + public)
        hop |= {"ed25519_public": public.hex(), "x25519_secret": secret.hex(), "x25519_public": x25519_public(secret).hex()}
        # Both ways to the hop's key: from its secret, and from its Edwards point.
        assert x25519_public(secret) == bindings.crypto_sign_ed25519_pk_to_curve25519(public)
        if packet:
            url = row["hops"][index + 1]["url"].encode()
            plain = b"\x01" + struct.pack(">H", len(url)) + url + packet
        else:
            plain = b"\x02" + bytes.fromhex(row["topic_id"]) + bytes.fromhex(row["op"])
        epk, shared = x25519_public(ephemeral), x25519(ephemeral, x25519_public(secret))
        key = hkdf(epk, shared, b"delta:onion:v1", 32)
        packet = b"\x02" + epk + nonce + xchacha(plain, None, nonce, key)
        layers.insert(0, {
            "hop": index, "shared_secret": shared.hex(), "aead_key": key.hex(), "plaintext": plain.hex(),
            "envelope": packet.hex(),
        })  # fmt: skip
    row |= {"packet": packet.hex(), "layers": layers}


def sealed(row):
    sender, seed, ephemeral, nonce, op = unhex(row, "sender_public", "recipient_seed", "ephemeral_secret", "nonce", "op")
    public = bytes(SigningKey(seed).verify_key)
    row |= {"recipient_public": public.hex(), "envelope": sealed_sender(sender, public, op, ephemeral, nonce).hex()}


def main():
    older = {"onion_v2": version_2, "sealed_sender_v1": sealed}
    for name, makers in (("onion-v2", older), ("onion-v3", {"onion_v3": version_3})):
        path = FOLDER / f"{name}.json"
        vectors = json.loads(path.read_text())
        for kind, maker in makers.items():
            for row in vectors[kind]:
                maker(row)
        path.write_bytes(json.dumps(vectors, indent=1).encode())


main()
