"""Delta's bytes, read by hand: tickets, frames, envelopes, operations, CBOR.

Written from docs/wire.md alone (the numbers below are its sections). Reads only; signs and seals nothing. Everything
that is not as described raises Malformed. No network here: tail.py has that.

Without the packages blake3 and PyNaCl frames are still read, but nothing is verified and no ticket opens (CAN_VERIFY).
"""

import base64
import json
import struct

try:
    import blake3
    import nacl.bindings
    import nacl.exceptions
    import nacl.signing

    CAN_VERIFY = True
except ImportError:
    CAN_VERIFY = False

MAX_ENVELOPE = 1024 * 1024
MAX_OPERATION = 1_000_000


class Malformed(Exception):
    """Bytes that are not what docs/wire.md describes."""


def demand(holds, what):
    if not holds:
        raise Malformed(what)


# --- section 1: hashes and signatures ---------------------------------------------------------------------------


def blake(data):
    return blake3.blake3(data).digest()


def derive(context, data):
    return blake3.blake3(data, derive_key_context=context).digest()


def keyed(key, data):
    return blake3.blake3(data, key=key).digest()


def signature_holds(key, message, signature):
    """Ed25519; libsodium refuses what is not canonical and keys of small order."""
    try:
        nacl.signing.VerifyKey(key).verify(message, signature)
        return True
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError, ValueError):
        return False


class Reader:
    """Reads bytes from the front; big-endian."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, count):
        demand(count <= len(self.data) - self.at, "bytes end early")
        self.at += count
        return self.data[self.at - count : self.at]

    def uint(self, size):
        return int.from_bytes(self.take(size), "big")

    def end(self):
        demand(self.at == len(self.data), "bytes left over")


def lower_hex(text, size):
    demand(isinstance(text, str) and len(text) == 2 * size and text == text.lower(), "hex")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Malformed("hex") from None


# --- section 2: the chain and its signed heads ------------------------------------------------------------------


class View:
    """What a client knows of a log: the last seq, and the chain there."""

    def __init__(self, topic, generation):
        self.topic, self.generation, self.seq = topic, generation, 0
        self.chain = derive("delta topic chain v1", topic + generation) if CAN_VERIFY else None

    def extend(self, seq, op):
        demand(seq == self.seq + 1, f"seq {seq} after {self.seq}")
        if CAN_VERIFY:
            self.chain = derive("delta topic chain v1", self.chain + struct.pack(">Q", seq) + blake(op))
        self.seq = seq

    def skip(self, to, chain):
        self.seq, self.chain = to, chain

    def check(self, server, head):
        """Demands that the server signed exactly what this client has seen; False where it cannot tell."""
        demand(head["head"] == self.seq, f"a head at {head['head']}, this client is at {self.seq}")
        if not CAN_VERIFY:
            return False
        demand(head["chain"] == self.chain, "the server's chain is not that of the operations it sent")
        message = b"delta:head:v1" + self.topic + self.generation + struct.pack(">Q", self.seq) + self.chain
        demand(signature_holds(server, message, head["sig"]), "the head is not signed by the server's key")
        return True


# --- section 6.1: a node's record ------------------------------------------------------------------------------


def record_key(obj, now_s):
    """The node id of a sync server's record object, whose signature, kind and expiry are checked."""
    record = obj["record"]
    fields = dict(field.split("=", 1) for field in record.split(";"))
    node = lower_hex(fields.get("a"), 32)
    demand(fields.get("v") == "delta1" and fields.get("t") == "sync", "not the record of a sync server")
    demand(int(fields.get("x", "0")) > now_s, "the server's record has expired")
    message = b"delta:record:v1" + struct.pack(">Q", obj["seq"]) + record.encode()
    holds = not CAN_VERIFY or signature_holds(node, message, lower_hex(obj["sig"], 64))
    demand(holds, "the record is not signed by its node")
    return node


# --- section 9.1: binary frames, and 9.2: JSON frames -------------------------------------------------------------


def signed_head(reader):
    return {"head": reader.uint(8), "chain": reader.take(32), "sig": reader.take(64)}


def binary_frame(message):
    reader = Reader(message)
    kind = reader.uint(1)
    if kind == 1:
        frame = {"type": "hello", "generation": reader.take(16), "head": reader.uint(8), "tail": reader.uint(8)}
        frame |= {"server_time_ms": reader.uint(8), "max_op": reader.uint(4)}
    elif kind == 2:
        count = reader.uint(2)
        demand(1 <= count <= 256, "an ops frame holds 1 to 256 operations")
        ops = []
        for _ in range(count):
            seq, received_ms, length = reader.uint(8), reader.uint(8), reader.uint(4)
            ops.append({"seq": seq, "received_ms": received_ms, "op": reader.take(length)})
        frame = {"type": "ops", "ops": ops}
    elif kind in (3, 8):
        frame = {"type": "ready" if kind == 3 else "head"} | signed_head(reader)
    elif kind == 4:
        frame = {"type": "gap", "from": reader.uint(8), "to": reader.uint(8), "chain": reader.take(32)}
    elif kind == 5:
        frame = {"type": "reset", "generation": reader.take(16), "head": reader.uint(8)}
    elif kind == 6:
        frame = {"type": "signal", "bytes": reader.take(reader.uint(4))}
    elif kind == 7:
        frame = {"type": "slow", "retry_after_ms": reader.uint(4)}
    else:
        raise Malformed(f"a frame of type {kind:02x}")
    reader.end()
    return frame


def json_frame(message):
    try:
        return json_fields(json.loads(message))
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise Malformed(f"a JSON frame: {wrong}") from None


def json_fields(value):
    kind = value.get("type")
    if kind == "op":
        op = base64.b64decode(value["data"], validate=True)
        return {"type": "ops", "ops": [{"seq": value["seq"], "received_ms": None, "op": op}]}
    if kind == "ready":
        frame = {"type": kind, "head": value["head"], "generation": lower_hex(value["generation"], 16)}
        return frame | {"chain": lower_hex(value["chain"], 32), "sig": lower_hex(value["sig"], 64)}
    if kind == "gap":
        return {"type": kind, "from": value["from"], "to": value["to"], "chain": lower_hex(value["chain"], 32)}
    if kind == "reset":
        return {"type": kind, "generation": lower_hex(value["generation"], 16), "head": value["head"]}
    raise Malformed(f"a JSON frame of type {kind!r}")


# --- section 14: tickets ----------------------------------------------------------------------------------------

ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"


def z_base_32(text):
    """Most significant bit first, five bits a letter; the bits left at the end are zero."""
    bits = 0
    for letter in text:
        demand(letter in ALPHABET, "not z-base-32")
        bits = bits << 5 | ALPHABET.index(letter)
    count, left = divmod(5 * len(text), 8)
    demand(bits & ((1 << left) - 1) == 0, "unused bits of z-base-32 are not zero")
    return (bits >> left).to_bytes(count, "big")


class Ticket:
    """What opens a topic: its id, its log and, when it is private, the key of its envelopes."""

    def __init__(self, text):
        demand(CAN_VERIFY, "a ticket needs the packages blake3 and PyNaCl")
        demand(len(text) == 162, "a ticket has 162 letters")
        reader = Reader(z_base_32(text))
        version, self.log, self.epoch = reader.uint(1), reader.take(32), reader.uint(4)
        write, secret = reader.take(32), reader.take(32)
        reader.end()
        demand(version in (1, 2, 3, 4), f"a ticket of version {version}")
        if version in (1, 3):
            write = bytes(nacl.signing.SigningKey(write).verify_key)
        self.topic = derive("delta topic id v1", write)
        self.private = version in (1, 2)
        if self.private:
            self.key = derive("delta topic seal v1", secret + self.topic)
            self.key_id = derive("delta topic key id v1", self.key)[:8]
        else:
            demand(secret == bytes(32) and self.epoch == 0, "a public ticket has no secret and no epoch")
            demand(self.log == self.topic, "a public ticket's log id is its topic id")

    def open(self, envelope):
        """Header and body of an envelope of this topic (section 13)."""
        demand(len(envelope) <= MAX_ENVELOPE, "an envelope above 1 MiB")
        reader = Reader(envelope)
        kind = reader.uint(1)
        demand(kind == (3 if self.private else 0), f"an envelope of type {kind:02x}")
        return self.unseal(reader) if self.private else plain(reader)

    def unseal(self, reader):
        key_id, nonce = reader.take(8), reader.take(24)
        demand(key_id == self.key_id, "sealed under another key")
        sealed = reader.take(len(reader.data) - reader.at)
        demand(len(sealed) - 16 == padded(len(sealed) - 16), "a length that padding does not give")
        aad = b"\x03" + key_id + self.topic
        try:
            text = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, aad, nonce, self.key)
        except nacl.exceptions.CryptoError:
            raise Malformed("the seal does not open") from None
        again = keyed(derive("delta topic nonce v1", self.key), text)[:24]
        demand(nonce == again, "the nonce is not that of the content")
        inner = Reader(text)
        header_len, body_len = inner.uint(2), inner.uint(4)
        header, body = inner.take(header_len), inner.take(body_len)
        demand(len(text) == padded(6 + header_len + body_len), "padding of another length")
        demand(not any(text[inner.at :]), "padding that is not zero")
        return header, body


def plain(reader):
    header = reader.take(reader.uint(2))
    return header, reader.take(len(reader.data) - reader.at)


def padded(length):
    """max(256, PADMÉ(length))."""
    if length <= 256:
        return 256
    e = length.bit_length() - 1
    unit = 1 << (e - e.bit_length())
    return (length + unit - 1) // unit * unit


# --- section 11: operations ---------------------------------------------------------------------------------------


def operation(header, body, log):
    """A signed operation: author, place in the author's log, and its body."""
    demand(len(header) + len(body) <= MAX_OPERATION, "an operation above 1,000,000 bytes")
    items, spans = cbor_array(header)
    demand(len(items) in (7, 8), "a header has 7 items, or 8 with a backlink")
    version, author, signature, size, body_hash, seq_num = items[:6]
    backlink, extension = (items[6] if len(items) == 8 else None), items[-1]
    demand(version == 1, "an operation of another version")
    demand(is_bytes(author, 32) and is_bytes(signature, 64) and is_bytes(body_hash, 32), "a header's keys")
    demand(is_uint(seq_num) and seq_num < 2**32 - 1 and is_uint(size), "a header's numbers")
    demand((backlink is None) == (seq_num == 0), "a backlink exactly when seq_num is above 0")
    demand(backlink is None or is_bytes(backlink, 32), "a backlink")
    demand(isinstance(extension, dict) and extension.get(0) == log, "the log id")
    demand(size == len(body) > 0, "the size of the body")
    demand(body_hash == blake(body), "the hash of the body")
    # The same array without the signature: one item less, the others' bytes as they stand.
    unsigned = bytes([0x80 | len(items) - 1]) + b"".join(span for at, span in enumerate(spans) if at != 2)
    demand(signature_holds(author, unsigned, signature), "the author's signature")
    return {"id": blake(header), "author": author, "seq_num": seq_num, "backlink": backlink} | content(body)


def content(body):
    """Kind and payload of a body (section 12)."""
    value = cbor(body)
    demand(isinstance(value, dict) and isinstance(value.get(0), str), "a body's kind")
    payload = value.get(1)
    demand(isinstance(payload, dict) and all(isinstance(key, int) for key in payload), "a body's payload")
    sent_at_ms = value.get(2)
    demand(2 not in value or is_uint(sent_at_ms), "a body's sent_at_ms")
    return {"kind": value[0], "payload": payload, "sent_at_ms": sent_at_ms}


def is_uint(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_bytes(value, length):
    return isinstance(value, bytes) and len(value) == length


# --- deterministic CBOR (RFC 8949, 4.2.1) ------------------------------------------------------------------------

MAX_DEPTH = 32


def cbor(data):
    reader = Reader(data)
    value = item(reader, 0)
    reader.end()
    return value


def cbor_array(data):
    """The items of an array and the bytes each came in."""
    reader = Reader(data)
    major, count = head(reader)
    demand(major == 4 and count <= 512, "not an array")
    items, spans = [], []
    for _ in range(count):
        start = reader.at
        items.append(item(reader, 1))
        spans.append(reader.data[start : reader.at])
    reader.end()
    return items, spans


def head(reader):
    """Major type and argument, which must be in its shortest form."""
    first = reader.uint(1)
    major, low = first >> 5, first & 31
    if low < 24:
        return major, low
    demand(low < 28, "indefinite lengths and reserved values are refused")
    size = 1 << (low - 24)
    value = reader.uint(size)
    if major == 7:
        return major, (size, value)
    demand(value >= (24 if size == 1 else 1 << (4 * size)), "a number not in its shortest form")
    return major, value


def item(reader, depth):
    demand(depth < MAX_DEPTH, "nested too deep")
    major, value = head(reader)
    if major == 0:
        return value
    if major == 1:
        return -1 - value
    if major == 2:
        return reader.take(value)
    if major == 3:
        try:
            return reader.take(value).decode()
        except UnicodeDecodeError:
            raise Malformed("text that is not UTF-8") from None
    if major == 4:
        demand(value <= len(reader.data), "an array longer than its bytes")
        return [item(reader, depth + 1) for _ in range(value)]
    if major == 5:
        return mapping(reader, value, depth)
    if major == 6:
        return ("tag", value, item(reader, depth + 1))
    return simple(value)


def mapping(reader, count, depth):
    """Keys are sorted by their encoded bytes, each once."""
    demand(count <= len(reader.data), "a map longer than its bytes")
    result, last = {}, b""
    for _ in range(count):
        start = reader.at
        key = item(reader, depth + 1)
        encoded = reader.data[start : reader.at]
        demand(encoded > last, "map keys are sorted, each once")
        last = encoded
        value = item(reader, depth + 1)
        result[key if isinstance(key, (int, str, bytes)) else encoded] = value
    return result


def simple(value):
    known = {20: False, 21: True, 22: None}
    if not isinstance(value, tuple):
        demand(value in known, f"simple value {value}")
        return known[value]
    size, bits = value
    demand(size in (2, 4, 8), "a simple value")
    return struct.unpack({2: ">e", 4: ">f", 8: ">d"}[size], bits.to_bytes(size, "big"))[0]
