"""Two-party sessions (docs/wire.md, section 12), for two_party.py: XEdDSA, X3DH, HPKE, and whom a block is sealed to.

Needs `pip install blake3 PyNaCl`. Shares no code with the Rust crates.
"""

import hashlib
import hmac
import struct

from nacl import bindings
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as chacha
from nacl.exceptions import RuntimeError as Zero

from wire import LOW_ORDER, cbor, derive, drawn, hkdf, x25519, x25519_public

ORDER = 2**252 + 27742317777372353535851937790883648493
ROTATION, DIRECT, HANDED = 1, 2, 3


def agreed(secret, public):
    """X25519, zero included: what somebody computes who does not look."""
    try:
        return x25519(secret, public)
    except Zero:
        return bytes(32)


# --- XEdDSA (Signal, revision 1) ---


def little(data):
    return int.from_bytes(data, "little")


def base(scalar):
    return bindings.crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(32, "little"))


def hashed(*parts):
    return little(hashlib.sha512(b"".join(parts)).digest()) % ORDER


def clamped(secret):
    return bytes([secret[0] & 248]) + secret[1:31] + bytes([secret[31] & 127 | 64])


def xeddsa(secret, message, random):
    k = little(clamped(secret)) % ORDER
    point = base(k)
    a = ORDER - k if point[31] & 0x80 else k
    public = point[:31] + bytes([point[31] & 0x7F])
    r = hashed(b"\xfe" + b"\xff" * 31, a.to_bytes(32, "little"), message, random)
    s = (r + hashed(base(r), public, message) * a) % ORDER
    signature = base(r) + s.to_bytes(32, "little")
    # To verify it is to verify Ed25519, by the Edwards point with sign 0.
    bindings.crypto_sign_open(signature + message, public)
    return signature


# --- the two ways a block's plaintext is sealed ---


def x3dh(to, plain, *, secret, public, ephemeral, ephemeral_public, prekey=None):
    """form 01 and its fields, then the ciphertext."""
    shared = agreed(secret, to.prekey), agreed(ephemeral, to.public), agreed(ephemeral, to.prekey)
    if ephemeral_public in LOW_ORDER:
        shared = shared[0], bytes(32), bytes(32)
    if public in LOW_ORDER:
        shared = bytes(32), *shared[1:]
    key = hkdf(bytes(32), b"\xff" * 32 + b"".join(shared), b"p2panda", 32)
    nonce = hkdf(bytes(32), key, b"", 12)
    sealed = chacha(plain, public + to.public, nonce, key)
    return b"\x01" + public + (prekey or to.prekey) + ephemeral_public + sealed


KEM, SUITE = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"


def extract(suite, salt, label, ikm):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def expand(suite, prk, label, info, length):
    info = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, info + b"\x01", "sha256")[:length]


def hpke(to, plain, ephemeral, encapsulated, shared=None):
    """RFC 9180, base mode, empty info and additional data: the ciphertext."""
    context = encapsulated + to
    prk = extract(KEM, b"", b"eae_prk", shared or x25519(ephemeral, to))
    secret = expand(KEM, prk, b"shared_secret", context, 32)
    schedule = b"\x00" + extract(SUITE, b"", b"psk_id_hash", b"") + extract(SUITE, b"", b"info_hash", b"")
    prk = extract(SUITE, secret, b"secret", b"")
    key, nonce = expand(SUITE, prk, b"key", schedule, 32), expand(SUITE, prk, b"base_nonce", schedule, 12)
    return chacha(plain, b"", nonce, key)


# RFC 9180, A.2.1 (DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305) has an info; what it shares with ours is
# the KEM, whose shared secret it prints.
def _known():
    ephemeral = bytes.fromhex("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600")
    to = bytes.fromhex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
    encapsulated = x25519_public(ephemeral)
    assert encapsulated.hex() == "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
    prk = extract(KEM, b"", b"eae_prk", x25519(ephemeral, to))
    secret = expand(KEM, prk, b"shared_secret", encapsulated + to, 32)
    assert secret.hex() == "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7"


_known()


# --- sessions ---


def context(purpose, log, epoch, sender, recipient):
    parts = bytes([purpose]), log, struct.pack(">I", epoch), sender, recipient
    return derive("delta two-party context v1", *parts)[:16]


def elements(context, payload, number, *, length=None, rest=b"\x00", wide=24):
    """What the plaintext's list holds."""
    packed = context + bytes([len(payload) if length is None else length]) + payload
    packed += rest * (82 - len(packed))
    zeros = len(cbor(number)) - 1
    return [half for byte in packed for half in (byte >> 4, byte & 15)] + [wide] * (4 - zeros) + [0] * zeros


class Session:
    """One side of a session."""

    def __init__(self, name, peer):
        self.name, self.peer, self.id = name, peer, bytes(8)
        self.sealed = self.opened = self.unanswered = 0
        # Secrets of its own whose public halves the other side has; the last that was used; the one it was handed.
        self.own, self.used, self.handed = {}, 0, None
        # Whom the next block is sealed to: a key, and its number where it is the other's own.
        self.to, self.number = None, None

    def told(self):
        return {
            "session": self.id, "peer": self.peer.author, "sealed": self.sealed, "opened": self.opened,
            "unanswered": self.unanswered, "own": [[number, secret] for number, secret in self.own.items()],
            "used": self.used, "handed": self.handed, "to": self.to, "number": self.number,
        }  # fmt: skip

    def seal(self, me, context, payload, **other):
        """A block, and what it was made with. `other` is as nobody should have it."""
        number = self.sealed + 1
        drawn_here = f"{self.name} {number}"
        mine, theirs = drawn(f"{drawn_here} own"), drawn(f"{drawn_here} handed")
        ephemeral = drawn(f"{drawn_here} ephemeral")
        plaintext = cbor({
            "plaintext": other.get("elements") or elements(context, payload, number, **other.get("packing", {})),
            "receiver_new_secret": theirs, "sender_next_index": number,
            "sender_new_verifying_key": other.get("own_public") or x25519_public(mine),
        })  # fmt: skip
        assert len(plaintext) == 318
        public = other.get("encapsulated") or x25519_public(ephemeral)
        if self.to is None:
            identity = other.get("identity") or me.public
            keys = {"secret": me.secret, "public": identity, "ephemeral": ephemeral, "ephemeral_public": public}
            content = x3dh(self.peer, plaintext, prekey=other.get("prekey"), **keys)
        else:
            sealed = hpke(other.get("sealed_to", self.to), plaintext, ephemeral, public, other.get("shared"))
            number_used = other.get("number", self.number)
            form = b"\x02" if self.number is None else b"\x03" + struct.pack(">Q", number_used)
            content = form + public + sealed
        content = other.get("form", content[:1]) + content[1:]
        content += other.get("tail", b"\x00") * (431 - len(content))
        if self.to is None:
            self.id = derive("delta two-party session v1", content)[:8]
        block = self.id + struct.pack(">I", other.get("index", self.sealed)) + content
        assert len(block) == 443
        self.own[number] = mine
        self.to, self.number = x25519_public(theirs), None
        self.sealed, self.unanswered = number, self.unanswered + 1
        return block, {"own_secret": mine, "handed_secret": theirs, "ephemeral_secret": ephemeral, "plaintext": plaintext}

    def hears(self, block, sealing):
        """Opens a block of the other side, of which everything is known."""
        self.id = block[:8]
        if block[12] == 3:
            self.used = struct.unpack(">Q", block[13:21])[0]
            self.own = {number: secret for number, secret in self.own.items() if number > self.used}
        self.handed = sealing["handed_secret"]
        self.to = x25519_public(sealing["own_secret"])
        self.number = struct.unpack(">I", block[8:12])[0] + 1
        self.opened, self.unanswered = self.opened + 1, 0
