"""Reads the vectors that core/tests/vectors/ops.json shares with the other implementations, and refuses broken bytes.

    python3 -m unittest discover -s examples/python
"""

import json
import pathlib
import unittest

import delta_wire as wire

VECTORS = pathlib.Path(__file__).parents[2] / "core/tests/vectors/ops.json"


class Vectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.vectors = json.loads(VECTORS.read_text())

    def test_tickets_name_their_topic(self):
        self.assertEqual(len(self.vectors["tickets"]), 4)
        for name, text in self.vectors["tickets"].items():
            ticket = wire.Ticket(text)
            self.assertEqual(ticket.topic.hex(), self.vectors["topic_id"], name)
            self.assertEqual(ticket.private, name.startswith("private"), name)

    def test_lengths_are_padded(self):
        for length, expected in self.vectors["padded"].items():
            self.assertEqual(wire.padded(int(length)), expected, length)

    def test_sealed_operations_open(self):
        ticket = wire.Ticket(self.vectors["tickets"]["private_read"])
        self.assertEqual(ticket.key_id.hex(), self.vectors["key_id"])
        for vector in self.vectors["operations"]:
            header, body = ticket.open(bytes.fromhex(vector["sealed"]))
            self.assertEqual((header.hex(), body.hex()), (vector["header"], vector["body"]))
            self.assertEqual(wire.operation(header, body, ticket.log)["id"].hex(), vector["id"])

    def test_every_flipped_byte_is_refused(self):
        ticket = wire.Ticket(self.vectors["tickets"]["private_read"])
        sealed = bytes.fromhex(self.vectors["operations"][0]["sealed"])
        for at in range(len(sealed)):
            broken = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            with self.assertRaises(wire.Malformed, msg=f"byte {at}"):
                ticket.open(broken)

    def test_every_flipped_byte_of_a_plain_operation_is_refused(self):
        vector = self.vectors["operations"][0]
        header, body = bytes.fromhex(vector["header"]), bytes.fromhex(vector["body"])
        log = bytes.fromhex(self.vectors["log_id"])
        self.assertEqual(wire.operation(header, body, log)["kind"], "message.send")
        whole = header + body
        for at in range(len(whole)):
            broken = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            with self.assertRaises(wire.Malformed, msg=f"byte {at}"):
                wire.operation(broken[: len(header)], broken[len(header) :], log)


class Encodings(unittest.TestCase):
    def test_cbor_is_deterministic(self):
        self.assertEqual(wire.cbor(bytes.fromhex("a3000101a0613002")), {0: 1, 1: {}, "0": 2})
        refused = ["", "1800", "190017", "1b0000000000000001", "5f4101ff", "9f01ff", "a200010001", "a2010100 02"]
        refused += ["0001", "61ff", "a10001 00", "1c", "f820", "81" * 40 + "00", "9b00ffffffffffffff", "5bffffffffffffffff"]
        for text in refused:
            with self.assertRaises(wire.Malformed, msg=text):
                wire.cbor(bytes.fromhex(text.replace(" ", "")))

    def test_tickets_have_one_spelling(self):
        for text in ["", "y" * 161, "y" * 162, "y" * 163, "Y" * 162, "l" * 162, "v" * 162]:
            with self.assertRaises(wire.Malformed, msg=text):
                wire.Ticket(text)

    def test_frames_are_whole(self):
        head = bytes(7) + b"\x09" + bytes(32) + bytes(64)
        self.assertEqual(wire.binary_frame(b"\x03" + head)["head"], 9)
        op = bytes(7) + b"\x01" + bytes(8) + b"\x00\x00\x00\x01x"
        self.assertEqual(wire.binary_frame(b"\x02\x00\x01" + op)["ops"][0]["op"], b"x")
        for broken in [b"", b"\x00", b"\x09", b"\x03" + head[:-1], b"\x03" + head + b"0", b"\x02\x00\x00"]:
            with self.assertRaises(wire.Malformed, msg=broken.hex()):
                wire.binary_frame(broken)
        for broken in ["", "[]", "{}", '{"type":"op","seq":1}', '{"type":"op","seq":1,"data":"YQ"}']:
            with self.assertRaises(wire.Malformed, msg=broken):
                wire.json_frame(broken)


if __name__ == "__main__":
    unittest.main()
