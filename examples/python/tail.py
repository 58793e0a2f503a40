#!/usr/bin/env python3
"""Follows a topic on a sync server and prints what comes, like `tail -f`.

A client of its own, written from docs/wire.md alone: subscribes in binary or JSON frames, catches up, checks the order, the
chain and the server's signed heads, and comes back where it was when the connection ends. With a ticket it opens the
topic's envelopes, verifies the operations in them and prints their content.

What it is not: it keeps nothing between runs, and shows operations in the server's order; putting authors' logs in order,
edits and forks (docs/wire.md, sections 11 and 12) is an app's work.

    pip install -r examples/python/requirements.txt
    python3 examples/python/tail.py http://127.0.0.1:8080#<server id> --ticket <ticket>
    python3 examples/python/tail.py http://127.0.0.1:8080 --topic <64 hex> --frames json --until-ready
"""

import argparse
import json
import random
import sys
import time
import urllib.request

import websockets
from websockets.sync.client import connect

import delta_wire as wire

# The largest message is an operation of 1 MiB, in a JSON frame about 1.4 MiB.
MAX_MESSAGE = 2 * 1024 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 60.0


class Done(Exception):
    """What was asked for has come."""


class Tail:
    def __init__(self, options):
        self.options = options
        self.base, _, pin = options.server.partition("#")
        self.base = self.base.rstrip("/")
        self.ticket = wire.Ticket(options.ticket) if options.ticket else None
        self.topic = self.ticket.topic if self.ticket else wire.lower_hex(options.topic, 32)
        self.server = self.find_server(wire.lower_hex(pin, 32) if pin else None)
        if not wire.CAN_VERIFY:
            self.say("note", text="nothing is verified: install blake3 and PyNaCl")
        self.view = None
        self.resets = 0
        self.left = options.count
        self.pause = 0.0

    def find_server(self, pin):
        """The key heads are verified with: the pinned one, and the server's record must be signed by it."""
        with urllib.request.urlopen(f"{self.base}/info", timeout=20) as answer:
            info = json.load(answer)
        node = wire.record_key(info["record"], time.time())
        wire.demand(pin in (None, node), "the server is another one than its URL says")
        if pin is None:
            self.say("note", text=f"no server id was given; trusting {node.hex()}, which the server names itself")
        return node

    def run(self):
        while True:
            try:
                self.follow()
            except Done:
                return
            except websockets.exceptions.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else None
                if code in (1002, 1008, 1009):
                    raise
                self.say("closed", code=code)
            except websockets.exceptions.InvalidStatus as refused:
                if refused.response.status_code not in (429, 503):
                    raise
                self.say("refused", status=refused.response.status_code)
            except OSError as error:
                self.say("closed", code=None, text=str(error))
            # Once at once, then with exponential backoff and full jitter (section 15).
            time.sleep(self.pause * random.random())
            self.pause = min(max(FIRST_PAUSE_S, self.pause * 2), LONGEST_PAUSE_S)

    def follow(self):
        binary = self.options.frames == "binary"
        url = "ws" + self.base.removeprefix("http") + f"/topic/{self.topic.hex()}{self.query()}"
        subprotocols = ["delta.sync.2"] if binary else None
        parse = wire.binary_frame if binary else wire.json_frame
        with connect(url, subprotocols=subprotocols, max_size=MAX_MESSAGE, compression=None) as socket:
            wire.demand(not binary or socket.subprotocol, "the server does not speak delta.sync.2")
            opening = Opening(self)
            for message in socket:
                wire.demand(isinstance(message, bytes) == binary, "a message of the other kind of frames")
                frame = parse(message)
                if opening:
                    opening = opening.take(frame)
                else:
                    self.live(frame)

    def query(self):
        if self.view is None:
            return "?since=0"
        query = f"?since={self.view.seq}&generation={self.view.generation.hex()}"
        return f"{query}&chain={self.view.chain[:8].hex()}" if self.view.chain else query

    def live(self, frame):
        if frame["type"] == "ops":
            for op in frame["ops"]:
                self.take(op)
        elif frame["type"] == "head":
            self.say("head", head=frame["head"], verified=self.view.check(self.server, frame))
        elif frame["type"] == "signal":
            self.say("signal", bytes=len(frame["bytes"]))
        elif frame["type"] == "gap":
            self.skip(frame)
        elif frame["type"] == "slow":
            time.sleep(frame["retry_after_ms"] / 1000)
        else:
            raise wire.Malformed(f"a {frame['type']} frame after ready")

    def take(self, op):
        """One operation: extends the chain, opens and prints it."""
        self.view.extend(op["seq"], op["op"])
        shown = {"seq": op["seq"], "received_ms": op["received_ms"], "size": len(op["op"])}
        if wire.CAN_VERIFY:
            shown["hash"] = wire.blake(op["op"]).hex()
        if self.ticket:
            try:
                shown |= wire.operation(*self.ticket.open(op["op"]), self.ticket.log)
            except wire.Malformed as refused:
                # What members send is theirs to break: it is refused, and the log goes on.
                shown["refused"] = str(refused)
        self.say("operation", **shown)
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Done

    def skip(self, gap):
        """These operations were evicted: the chain goes on from the one given."""
        first = self.view.seq + 1
        wire.demand(gap["from"] == first <= gap["to"], f"a gap from {gap['from']}, not {first}")
        self.view.skip(gap["to"], gap["chain"])
        self.say("gap", **{"from": gap["from"], "to": gap["to"]})

    def say(self, event, **fields):
        if self.options.json:
            print(json.dumps({"event": event} | readable(fields), ensure_ascii=False), flush=True)
        elif event == "operation" and "kind" in fields:
            place = f"{fields['seq']:>6}  {fields['author'].hex()[:8]} #{fields['seq_num']}"
            shown = json.dumps(readable(fields["payload"]), ensure_ascii=False)
            print(f"{place}  {fields['kind']}  {shown}", flush=True)
        elif event == "operation":
            about = fields.get("refused", "sealed" if not self.ticket else "")
            print(f"{fields['seq']:>6}  {fields.get('hash', '')[:16]}  {fields['size']} bytes  {about}", flush=True)
        else:
            about = " ".join(f"{name}={readable(value)}" for name, value in fields.items())
            print(f"-- {event} {about}", file=sys.stderr, flush=True)


class Opening:
    """From the first frame to `ready`: hello, then reset and gap where they apply, then operations (section 9.1)."""

    def __init__(self, tail):
        self.tail, self.hello, self.begun = tail, None, False
        # JSON frames name the generation in `ready` only: what comes before waits, unless it is known.
        self.waiting = []

    def take(self, frame):
        tail, kind = self.tail, frame["type"]
        if tail.options.frames == "binary" and self.hello is None:
            wire.demand(kind == "hello", "the first frame is not hello")
            self.hello = frame
            if tail.view is None:
                tail.view = wire.View(tail.topic, frame["generation"])
        elif kind == "reset":
            wire.demand(not self.begun, "reset comes before gap and operations")
            tail.view = wire.View(tail.topic, frame["generation"])
            tail.resets += 1
            tail.say("reset", generation=frame["generation"], head=frame["head"])
        elif kind == "ready":
            return self.end(frame)
        elif kind in ("gap", "ops"):
            self.begun = True
            self.waiting.append(frame)
            if tail.view is not None:
                self.release()
        else:
            raise wire.Malformed(f"a {kind} frame before ready")
        return self

    def end(self, ready):
        tail = self.tail
        if tail.view is None:
            tail.view = wire.View(tail.topic, ready["generation"])
        self.release()
        generation = ready.get("generation", tail.view.generation)
        wire.demand(generation == tail.view.generation, "ready names another generation")
        verified = tail.view.check(tail.server, ready)
        tail.pause = 0.0
        tail.say("ready", head=ready["head"], generation=generation, chain=ready["chain"], verified=verified)
        if tail.options.until_ready:
            raise Done
        return None

    def release(self):
        for frame in self.waiting:
            if frame["type"] == "gap":
                self.tail.skip(frame)
            else:
                for op in frame["ops"]:
                    self.tail.take(op)
        self.waiting = []


def readable(value):
    """For JSON: bytes in lower-case hex, keys as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(readable(key)): readable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable(inner) for inner in value]
    return value


def options():
    parser = argparse.ArgumentParser(description="Follows a topic on a Delta sync server.")
    parser.add_argument("server", help="its URL, with #<server id in hex> to pin its key")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ticket", help="opens the topic and its envelopes")
    which.add_argument("--topic", help="64 hex digits; envelopes stay closed")
    parser.add_argument("--frames", choices=["binary", "json"], default="binary")
    parser.add_argument("--until-ready", action="store_true", help="catch up, then stop")
    parser.add_argument("--count", type=int, help="stop after so many operations")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser.parse_args()


def main():
    try:
        Tail(options()).run()
    except KeyboardInterrupt:
        pass
    except wire.Malformed as wrong:
        sys.exit(f"error: {wrong}")
    except (OSError, websockets.exceptions.WebSocketException) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
