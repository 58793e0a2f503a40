"""Everything an app can do wrong: typed errors, and nothing breaks. No network is needed."""

import asyncio
import json
import tempfile
import threading
import unittest
from datetime import timedelta
from pathlib import Path

import delta
from network import other_process

PATIENCE = 120

#: Opens a database in a process of its own, and says whose it is or why it cannot.
OPENS = """
import asyncio, sys, delta

async def main():
    try:
        async with await delta.open(sys.argv[1], delta.FileKeystore(sys.argv[2])) as device:
            return device.author.hex()
    except delta.DeltaError.Device as error:
        return error.code

print(asyncio.run(main()), end="")
"""
#: Leaves a device with listeners, a log sink and much to hear of: open, given up, or on its way.
LEAVES = """
import asyncio, sys, delta

class Sink(delta.LogSink):
    def level(self):
        return delta.LogLevel.TRACE

    def log(self, level, target, message):
        pass

async def main(how):
    global kept
    opening = delta.open(sys.argv[2], delta.FileKeystore(sys.argv[3]), log=Sink())
    if how == "opening":
        asyncio.create_task(opening)
        await asyncio.sleep(0)
        return
    device = await opening
    topic = await device.open_topic(delta.generate_ticket())
    subscriptions = [await device.subscribe(topic, lambda event: None) for _ in range(40)]
    asyncio.create_task(device.next_events())
    if how == "open":
        kept = device, subscriptions
    await asyncio.gather(*(device.send(topic, f"line {number}") for number in range(50)))

asyncio.run(main(sys.argv[1]))
print("done", end="")
"""
VECTORS = Path(__file__).parents[3] / "core/tests/vectors"


class Offline(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.keystore = delta.MemoryKeystore()

    async def open(self, name: str = "device", keystore: delta.Keystore | None = None) -> delta.Device:
        device = await delta.open(self.folder / f"{name}.db", keystore or self.keystore)
        self.addAsyncCleanup(device.close)
        return device

    async def refused(self, call, kind, code: str) -> delta.DeltaError:
        with self.assertRaises(kind) as refused:
            await call
        self.assertEqual(refused.exception.code, code)
        self.assertTrue(refused.exception.reason)
        return refused.exception

    async def until_heard(self, next_events, wanted) -> None:
        """Takes events up to such a one. Other news (that nothing can be sent, say) comes when it comes."""
        while True:
            events = await next_events(10, timedelta(seconds=PATIENCE))
            self.assertTrue(events, "nothing of it was heard")
            if any(wanted(event) for event in events):
                return


class Misuse(Offline):
    async def test_case_67_use_after_close_is_a_typed_error(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        subscription = await device.subscribe(topic)
        await device.close()
        for call in (
            device.send(topic, "late"),
            device.status(topic),
            device.messages(topic),
            device.subscribe(topic),
            device.suspend(),
            device.resume(),
            device.next_wakeup_at(),
            device.open_topic(delta.generate_ticket()),
        ):
            await self.refused(call, delta.DeltaError.State, "closed")
        await self.until_heard(subscription.next_events, lambda event: event.is_CLOSED())
        device.network_changed()
        subscription.cancel()
        await device.close()

    async def test_case_67_a_listener_that_throws_stops_nothing(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        heard = threading.Semaphore(0)
        calm = []

        def throws(event):
            heard.release()
            raise RuntimeError("a bug of the app")

        failing = await device.subscribe(topic, throws)
        calmly = await device.subscribe(topic, calm.append)
        for number in range(3):
            await device.send(topic, f"line {number}")
            await asyncio.to_thread(heard.acquire)
        while not any(event.is_CHANGED() for event in calm):
            await asyncio.sleep(0.02)
        for subscription in (failing, calmly):
            self.assertEqual(subscription.topic(), topic)
        await device.close()

    async def test_case_67_cancelled_and_concurrent_calls_leave_a_whole_log(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        for _ in range(50):
            task = asyncio.create_task(device.send(topic, "cancelled"))
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
        kept = await asyncio.gather(*(device.send(topic, f"kept {number}") for number in range(100)))
        self.assertEqual(len(set(kept)), 100)
        shown = {message.id for message in await device.messages(topic, limit=1000)}
        self.assertLessEqual(set(kept), shown)

    async def test_case_67_a_cancelled_wait_loses_no_event(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        subscription = await device.subscribe(topic)
        for call in (subscription.next_events, device.next_events):
            waiting = asyncio.create_task(call(10, timedelta(seconds=PATIENCE)))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await waiting
        await device.send(topic, "hello")
        await self.until_heard(device.next_events, lambda event: event.is_CHANGED())
        again = await subscription.next_events(10, timedelta(0))
        self.assertFalse(any(event.is_CHANGED() for event in again), again)
        pushed = await device.subscribe(topic, lambda event: None)
        await self.refused(pushed.next_events(1, timedelta(0)), delta.DeltaError.Argument, "listened")

    async def test_case_68_a_keystore_that_denies_is_told_and_what_is_queued_stays(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        await device.send(topic, "queued")
        await device.close()

        class Locked(delta.Keystore):
            def get(self, item):
                raise delta.KeystoreError.Denied(reason="the phone is locked")

            def put(self, item, value):
                raise delta.KeystoreError.Denied(reason="the phone is locked")

            def delete(self, item):
                raise delta.KeystoreError.Denied(reason="the phone is locked")

        class Broken(Locked):
            def get(self, item):
                raise OSError("no such service")

        class Exits(delta.MemoryKeystore):
            def put(self, item, value):
                # No `Exception`: what was not kept must not pass for kept.
                raise SystemExit

        error = await self.refused(self.open(keystore=Locked()), delta.DeltaError.Keystore, "keystore_denied")
        self.assertIn("unlock the device", error.reason)
        await self.refused(self.open(keystore=Broken()), delta.DeltaError.Keystore, "keystore_failed")
        await self.refused(self.open("other", keystore=Exits()), delta.DeltaError.Keystore, "keystore_failed")
        device = await self.open()
        self.assertFalse(device.renewed)
        self.assertEqual((await device.status(topic)).outbox.queued, 1)

    async def test_case_69_a_second_open_is_refused_and_a_hot_reload_is_not(self):
        device = await self.open()
        error = await self.refused(self.open(), delta.DeltaError.Device, "database_locked")
        self.assertIn("device.db", error.reason)
        author = device.author
        for _ in range(5):
            await device.close()
            device = await self.open()
            self.assertEqual(device.author, author)

    async def test_case_69_a_second_process_is_refused_until_the_first_lets_go(self):
        keystore, path = delta.FileKeystore(self.folder / "keys"), str(self.folder / "device.db")
        device = await self.open(keystore=keystore)

        async def elsewhere() -> str:
            return await asyncio.to_thread(other_process, OPENS, path, str(self.folder / "keys"))

        self.assertEqual(await elsewhere(), "database_locked")
        await device.suspend()
        self.assertEqual(await elsewhere(), device.author.hex())
        await device.resume()
        self.assertEqual(await elsewhere(), "database_locked")
        await device.close()
        self.assertEqual(await elsewhere(), device.author.hex())

    async def test_a_process_that_ends_right_after_its_last_call_ends_well(self):
        # Before Python 3.14 a thread that is still on its way out of Python then takes the process with it.
        paths = [(str(self.folder / f"{number}.db"), str(self.folder / f"keys {number}")) for number in range(12)]
        ended = await asyncio.gather(*(asyncio.to_thread(other_process, OPENS, *path) for path in paths))
        self.assertEqual({len(author) for author in ended}, {64})

    async def test_a_process_that_leaves_a_device_with_listeners_open_ends_well(self):
        def leave(number: int) -> str:
            how = ("open", "given up", "opening")[number % 3]
            return other_process(LEAVES, how, str(self.folder / f"{number}.db"), str(self.folder / f"keys {number}"))

        ended = await asyncio.gather(*(asyncio.to_thread(leave, number) for number in range(18)))
        self.assertEqual(set(ended), {"done"})
        # What was accepted is there.
        device = await self.open("0", delta.FileKeystore(self.folder / "keys 0"))
        self.assertEqual((await device.statistics()).queued, 50)

    async def test_two_instances_keep_out_of_each_others_way(self):
        one, two = await self.open("one"), await self.open("two", delta.MemoryKeystore())
        ticket = delta.generate_ticket()
        topic = await one.open_topic(ticket)
        self.assertNotEqual(one.author, two.author)
        await one.send(topic, "only here")
        await self.refused(two.messages(topic), delta.DeltaError.State, "unknown_topic")
        await one.close()
        self.assertEqual(await two.open_topic(ticket), topic)
        self.assertEqual(await two.messages(topic), [])

    async def test_suspend_and_resume_keep_subscriptions_and_the_outbox(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        kept, dropped = await device.subscribe(topic), await device.subscribe(topic)
        await device.suspend()
        for call in (device.send(topic, "x"), device.status(topic), device.messages(topic), device.subscribe(topic)):
            await self.refused(call, delta.DeltaError.State, "suspended")
        dropped.cancel()
        # Whoever has the file may use it meanwhile; then it is locked, and a resume says so and can be repeated.
        other = await self.open()
        await self.refused(device.resume(), delta.DeltaError.Device, "database_locked")
        await self.refused(device.status(topic), delta.DeltaError.State, "suspended")
        await other.send(topic, "by the other")
        await other.close()
        await device.resume()
        await device.resume()
        await device.send(topic, "by this one")
        await self.until_heard(kept.next_events, lambda event: event.is_CHANGED())
        self.assertEqual([message.text for message in await device.messages(topic)], ["by the other", "by this one"])
        await device.suspend()
        await device.close()
        await self.refused(device.resume(), delta.DeltaError.State, "closed")

    async def test_what_cannot_be_used_is_refused_before_anything_is_written(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        Argument, State = delta.DeltaError.Argument, delta.DeltaError.State
        await self.refused(device.open_topic("no ticket"), Argument, "ticket")
        await self.refused(device.send(b"short", "x"), Argument, "id")
        await self.refused(device.send(bytes(32), "x"), State, "unknown_topic")
        await self.refused(device.send(topic, "x" * (64 * 1024 + 1)), Argument, "content")
        await self.refused(device.run_once(timedelta(seconds=1)), State, "no_network")
        pool = delta.RelayHops.POOL(records=["{}"])
        await self.refused(device.init_sync(pool, "https://sync.example#" + "ab" * 32), Argument, "pool")
        reader = await device.open_topic(delta.read_only_ticket(delta.generate_ticket()))
        await self.refused(device.send(reader, "x"), State, "read_only")
        self.assertEqual((await device.statistics()).operations, 0)

    async def test_words_certify_the_devices_made_after_them(self):
        words = delta.generate_mnemonic()
        self.assertEqual(len(words.split()), 24)
        delta.import_mnemonic(self.keystore, words)
        device = await self.open()
        await device.close()
        # The item of a certified device is longer by its certificate.
        self.assertGreater(len(self.keystore.get("delta.device")), 57)
        for wrong in ("abandon", " ".join(words.split()[:-1]), words.replace(words.split()[0], "delta0")):
            with self.assertRaises(delta.DeltaError.Argument) as refused:
                delta.import_mnemonic(self.keystore, wrong)
            self.assertEqual(refused.exception.code, "mnemonic")

    async def test_messages_are_edited_taken_back_reacted_to_and_paged(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        ids = [await device.send(topic, f"line {number}") for number in range(10)]
        await device.publish(topic, delta.Content.MESSAGE_EDIT(target=ids[0], text="corrected"))
        await device.publish(topic, delta.Content.MESSAGE_DELETE(target=ids[1]))
        await device.publish(topic, delta.Content.REACTION_ADD(target=ids[0], emoji="👍"))
        newest = await device.messages(topic, limit=4)
        self.assertEqual([message.id for message in newest], ids[6:])
        before = await device.messages(topic, delta.MessagePage.BEFORE(position=newest[0].position), 100)
        self.assertEqual([message.id for message in before], ids[:6])
        after = await device.messages(topic, delta.MessagePage.AFTER(position=before[-1].position), 2)
        self.assertEqual([message.id for message in after], ids[6:8])
        self.assertEqual((before[0].text, before[1].text, before[1].deleted), ("corrected", None, True))
        [reaction] = await device.reactions(ids[0])
        self.assertEqual((reaction.emoji, reaction.author), ("👍", device.author))


class Onion(unittest.TestCase):
    def test_v2_vectors_peel_to_what_they_say(self):
        vectors = json.loads((VECTORS / "onion-v2.json").read_text())["onion_v2"]
        self.assertEqual(len(vectors), 6)
        for vector in vectors:
            packet = bytes.fromhex(vector["packet"])
            for number, hop in enumerate(vector["hops"]):
                secret = delta.OnionSecret.V2(seed=bytes.fromhex(hop["ed25519_seed"]))
                layer = delta.peel_onion_layer(packet, secret)
                if number + 1 < len(vector["hops"]):
                    self.assertEqual(layer.url, vector["hops"][number + 1]["url"])
                    packet = layer.packet
            self.assertEqual(layer.topic, bytes.fromhex(vector["topic_id"]))
            self.assertEqual(layer.payload, bytes.fromhex(vector["op"]))

    def test_v3_vectors_peel_to_what_they_say(self):
        vectors = json.loads((VECTORS / "onion-v3.json").read_text())["onion_v3"]
        self.assertEqual(len(vectors), 8)
        for vector in vectors:
            packet = bytes.fromhex(vector["hops"][0]["packet"])
            for number, hop in enumerate(vector["hops"]):
                secret = delta.OnionSecret.V3(kid=hop["kid"], secret=bytes.fromhex(hop["onion_secret"]))
                layer = delta.peel_onion_layer(packet, secret)
                if number + 1 < len(vector["hops"]):
                    self.assertEqual(layer.node, bytes.fromhex(vector["hops"][number + 1]["node_id"]))
                    packet = layer.packet
            if vector["terminal"] == "drop":
                self.assertTrue(layer.is_DROP())
                continue
            self.assertEqual(layer.topic, bytes.fromhex(vector["topic_id"]))
            self.assertEqual((layer.flags, layer.payload), (vector["flags"], bytes.fromhex(vector["payload"])))

    def test_packets_built_here_peel_layer_by_layer(self):
        vector = next(
            vector
            for vector in json.loads((VECTORS / "onion-v3.json").read_text())["onion_v3"]
            if len(vector["hops"]) > 2 and vector["terminal"] == "deliver"
        )
        hops = [
            delta.OnionHop.V3(
                node=bytes.fromhex(hop["node_id"]),
                kid=hop["kid"],
                onion_key=bytes.fromhex(hop["onion_public"]),
                delay_ms=hop["delay"] * 10,
            )
            for hop in vector["hops"]
        ]
        target = delta.OnionTarget.WRITE_KEY(seed=bytes.fromhex(vector["topic_write_secret"]))
        packet = delta.build_onion_packet(hops, target, b"an operation")
        self.assertEqual(len(packet), 4096)
        for hop in vector["hops"]:
            secret = delta.OnionSecret.V3(kid=None, secret=bytes.fromhex(hop["onion_secret"]))
            layer = delta.peel_onion_layer(packet, secret)
            packet = getattr(layer, "packet", None)
        self.assertEqual((layer.topic, layer.payload), (bytes.fromhex(vector["topic_id"]), b"an operation"))
        for wrong in (b"", bytes(4096), b"\x03" * 100):
            with self.assertRaises(delta.DeltaError.Argument):
                delta.peel_onion_layer(wrong, secret)
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            delta.build_onion_packet(hops, delta.OnionTarget.TOPIC(topic=bytes(32)), b"x")
        self.assertEqual(refused.exception.code, "onion")


if __name__ == "__main__":
    unittest.main()
