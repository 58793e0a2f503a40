"""The scenario that every language runs, against real relays and a real sync server."""

import asyncio
import contextlib
import os
import socket
import tempfile
import unittest
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import delta
from network import Network, other_process

#: Reaching it is a failure, never a pass.
PATIENCE = 120

#: Who holds a lock on a file or has it open, asked from another process.
HOLDERS = """
import os, sys
path = os.path.realpath(sys.argv[1])
names = {path + suffix for suffix in ("", "-wal", "-shm", ".lock")}
inodes = {str(os.stat(name).st_ino) for name in names if os.path.exists(name)}
# A field of a line is device:device:inode (proc_locks(5)); lines of those who wait have one field more.
places = [part.split(":")[2] for line in open("/proc/locks") for part in line.split() if part.count(":") == 2]
locks = [place for place in places if place in inodes]
opened = []
for fd in os.listdir(f"/proc/{sys.argv[2]}/fd"):
    try:
        if os.readlink(f"/proc/{sys.argv[2]}/fd/{fd}") in names:
            opened.append(fd)
    except OSError:
        pass
wal = os.path.getsize(path + "-wal") if os.path.exists(path + "-wal") else 0
print(len(locks), len(opened), wal)
"""


def holders(database: Path) -> tuple[int, int, int]:
    """Locks on the database's files, files of it that this process has open, bytes of its write-ahead log."""
    locks, opened, wal = other_process(HOLDERS, str(database), str(os.getpid())).split()
    return int(locks), int(opened), int(wal)


def wake_ups() -> dict[str, int]:
    """How often each of Delta's threads has gone to sleep so far (proc_pid_status(5)): as often as it was woken."""
    counts = {}
    for task in Path("/proc/self/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("delta-"):
            lines = (task / "status").read_text().splitlines()
            switches = next(line for line in lines if line.startswith("voluntary_ctxt_switches"))
            counts[f"{name} {task.name}"] = int(switches.split()[1])
    return counts


@dataclass
class Roommate:
    """A device in a room of a space."""

    device: delta.Device
    space: bytes
    topic: bytes
    #: Subscriptions.
    kept: list


class Networked(unittest.IsolatedAsyncioTestCase):
    """A network, and devices on it."""

    @classmethod
    def setUpClass(cls):
        cls.network = Network()
        cls.addClassCleanup(cls.network.close)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.ticket = delta.generate_ticket()

    async def device(self, name: str, keystore: delta.Keystore | None = None) -> delta.Device:
        device = await delta.open(
            self.folder / f"{name}.db", keystore or delta.MemoryKeystore(), allow_plaintext=True, merge_changes_ms=0
        )
        self.addAsyncCleanup(device.close)
        return device

    async def joined(self, name: str) -> tuple[delta.Device, bytes]:
        device = await self.device(name)
        self.assertEqual(await device.init_sync(self.network.hops(), self.network.sync_url), [])
        return device, await device.open_topic(self.ticket)

    async def in_a_room(self, name: str, keystore: delta.Keystore | None = None) -> tuple[Roommate, Roommate]:
        """Two devices in a room of a space: the first made it, the second came by its invitation."""
        alice, bob = await self.device(f"alice{name}", keystore), await self.device(f"bob{name}")
        for device in (alice, bob):
            self.assertEqual(await device.init_sync(self.network.hops(), self.network.sync_url), [])
        made = await alice.create_space("Kitchen")
        room = await alice.create_room(made.log, "Dinner")
        # Kept: a subscription ends with whoever holds it.
        kept = [await alice.subscribe(topic) for topic in (made.topic, room.topic)]
        joined = await bob.accept_invitation(await alice.create_invitation(made.log, delta.Level.WRITE))
        self.assertEqual(joined.log, made.log)
        kept.append(await bob.subscribe(joined.topic))

        async def there():
            return any(each.topic is not None for each in await bob.rooms(made.log))

        await self.until(there)
        [seen] = await bob.rooms(made.log)
        self.assertEqual((seen.room, seen.about.name), (room.log, "Dinner"))
        kept.append(await bob.subscribe(seen.topic))
        return Roommate(alice, made.log, room.topic, kept), Roommate(bob, made.log, seen.topic, kept)

    async def until(self, condition) -> None:
        async def poll():
            while not await condition():
                await asyncio.sleep(0.02)

        await asyncio.wait_for(poll(), PATIENCE)

    async def until_texts(self, device: delta.Device, topic: bytes, *texts: str) -> None:
        async def there():
            shown = [message.text for message in await device.messages(topic) if message.acknowledged]
            return sorted(shown) == sorted(texts)

        await self.until(there)


class Proxy:
    """A SOCKS5 proxy (RFC 1928, 1929) for ada, whose password is p@ss. Only IPv4: the servers of these tests have no names."""

    def __init__(self):
        self.ports, self.tasks = [], set()

    async def serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            if await reader.readexactly(3) != b"\5\1\2":
                return
            writer.write(b"\5\2")
            if await reader.readexactly(10) != b"\1\3ada\4p@ss":
                return
            writer.write(b"\1\0")
            head, address, port = [await reader.readexactly(length) for length in (4, 4, 2)]
            if head != b"\5\1\0\1":
                return
            self.ports.append(int.from_bytes(port, "big"))
            inside, outside = await asyncio.open_connection(socket.inet_ntoa(address), self.ports[-1])
            writer.write(b"\5\0\0\1" + bytes(6))
            await asyncio.gather(self.pass_on(reader, outside), self.pass_on(inside, writer))

    async def pass_on(self, reader, writer):
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


class Scenario(Networked):
    async def test_everything_goes_through_a_proxy_and_nothing_without_its_password(self):
        proxy = Proxy()
        server = await asyncio.start_server(proxy.serve, "127.0.0.1")
        self.addCleanup(server.close)
        port = server.sockets[0].getsockname()[1]
        # Kept: a subscription ends with whoever holds it.
        topics, devices, kept = [], [], []
        for name in ("alice", "bob"):
            device = await delta.open(
                self.folder / f"{name}.db",
                delta.MemoryKeystore(),
                allow_plaintext=True,
                proxy=f"socks5://ada:p%40ss@127.0.0.1:{port}",
            )
            await device.init_sync(self.network.hops(), self.network.sync_url)
            topics.append(await device.open_topic(self.ticket))
            kept.append(await device.subscribe(topics[-1]))
            devices.append(device)
        await devices[0].send(topics[0], "from behind it")
        await self.until_texts(devices[1], topics[1], "from behind it")
        self.assertGreaterEqual(len(set(proxy.ports)), 2)
        for device in devices:
            await device.close()
        await asyncio.wait_for(asyncio.gather(*proxy.tasks), PATIENCE)
        # Were there another way, it would be taken.
        wrong = f"socks5://ada:wrong@127.0.0.1:{port}"
        keystore = delta.MemoryKeystore()
        async with await delta.open(self.folder / "c.db", keystore, allow_plaintext=True, proxy=wrong) as device:
            topic = await device.open_topic(self.ticket)
            await device.init_sync(self.network.hops(), self.network.sync_url)
            await device.send(topic, "nobody hears it")
            await device.run_once(timedelta(seconds=2))
            self.assertEqual([message.acknowledged for message in await device.messages(topic)], [False])
        for text in ("127.0.0.1:1", "ftp://127.0.0.1:1", "socks5://127.0.0.1", "socks5://ada@127.0.0.1:1"):
            with self.assertRaises(delta.DeltaError.Argument) as refused:
                await delta.open(self.folder / "d.db", delta.MemoryKeystore(), proxy=text)
            self.assertEqual(refused.exception.code, "proxy")

    async def test_two_devices_meet_in_a_space_talk_go_offline_come_back_suspend_resume_and_close(self):
        first, second = await self.in_a_room("")
        (alice, topic), (bob, there) = (first.device, first.topic), (second.device, second.topic)
        sent = await alice.send(topic, "hello")
        await self.until_texts(bob, there, "hello")
        [message] = await bob.messages(there)
        self.assertEqual((message.id, message.author), (sent, alice.author))
        answer = await bob.send(there, "hello yourself")

        # Heard by herself, too: nothing of hers is on its way.
        await self.until_texts(alice, topic, "hello", "hello yourself")
        self.assertEqual((await alice.message(answer)).author, bob.author)
        # Offline: what is said meanwhile waits, and arrives once.
        self.network.halt()
        try:
            alice.network_changed()
            away = await alice.send(topic, "while away")
            status = await alice.status(topic)
            self.assertGreaterEqual(status.outbox.queued + status.outbox.sent, 1)
            self.assertIn(away, [row.operation for row in await alice.outbox(topic)])
        finally:
            self.network.go_on()
        alice.network_changed()
        await self.until_texts(bob, there, "hello", "hello yourself", "while away")

        # Suspended: nothing is held; the other process looks.
        await alice.suspend()
        self.assertEqual(holders(self.folder / "alice.db"), (0, 0, 0))
        with self.assertRaises(delta.DeltaError.State) as refused:
            await alice.send(topic, "too late")
        self.assertEqual(refused.exception.code, "suspended")
        await bob.send(there, "good night")
        await alice.suspend()
        await alice.resume()
        self.assertGreater(holders(self.folder / "alice.db")[0], 0)
        await self.until_texts(alice, topic, "hello", "hello yourself", "while away", "good night")
        await alice.close()
        await alice.close()
        self.assertEqual(holders(self.folder / "alice.db"), (0, 0, 0))

    async def test_follow_waits_while_the_device_is_suspended_and_ends_with_it(self):
        alice, topic = await self.joined("alice")
        bob, _ = await self.joined("bob")
        texts = []

        async def read():
            async for message in alice.follow(topic):
                texts.append(message.text)

        reading = asyncio.create_task(read())
        wanted = ["before", "meanwhile", "in between", "after"]
        for number, text in enumerate(wanted):
            if number in (1, 2):
                await alice.suspend()
            await bob.send(topic, text)
            if number == 2:
                # What a run receives is there for the loop after the device wakes.
                await alice.run_once(timedelta(seconds=PATIENCE))
            if number in (1, 2):
                await alice.resume()

            async def heard():
                return len(texts) > number

            await self.until(heard)
        await alice.close()
        await asyncio.wait_for(reading, PATIENCE)
        self.assertEqual(texts, wanted)

    async def test_follow_misses_nothing_that_comes_while_its_first_page_is_read(self):
        alice, topic = await self.joined("alice")
        kept = await alice.subscribe(topic)
        read, late = alice.messages, []

        async def slowly(*arguments):
            page = await read(*arguments)
            if not late:
                late.append(await alice.send(topic, "late"))
                alice.messages = read
                await self.until_texts(alice, topic, "late")
            return page

        alice.messages = slowly
        message = await asyncio.wait_for(anext(alice.follow(topic)), PATIENCE)
        self.assertEqual(message.text, "late")
        kept.cancel()

    @unittest.skipUnless(os.path.exists("/proc/self/task"), "threads are read from /proc")
    async def test_a_suspended_device_wakes_for_nothing(self):
        alice, topic = await self.joined("alice")
        bob, _ = await self.joined("bob")
        kept = await alice.subscribe(topic)
        await alice.send(topic, "hello")
        await self.until_texts(alice, topic, "hello")
        await bob.close()
        await alice.suspend()
        # Threads that just answered go to sleep; then nothing may stir them for as long as one looks.
        last = None
        while (now := wake_ups()) != last:
            last = now
            await asyncio.sleep(0.5)
        self.assertTrue(now, "Delta's threads have names")
        alice.network_changed()
        await asyncio.sleep(0.5)
        before = wake_ups()
        await asyncio.sleep(5)
        self.assertEqual(wake_ups(), before)
        await alice.resume()
        await self.until_texts(alice, topic, "hello")
        kept.cancel()

    async def test_follow_gives_each_message_once_in_order(self):
        alice, topic = await self.joined("alice")
        bob, _ = await self.joined("bob")
        texts = [f"line {number}" for number in range(20)]

        async def read():
            seen = []
            async for message in bob.follow(topic):
                seen.append(message.text)
                if len(seen) == len(texts):
                    return seen

        reading = asyncio.create_task(read())
        for text in texts:
            await alice.send(topic, text)
        self.assertEqual(await asyncio.wait_for(reading, PATIENCE), texts)

    async def test_run_once_while_suspended_fetches_and_goes_back_to_sleep(self):
        alice, topic = await self.joined("alice")
        bob, _ = await self.joined("bob")
        await bob.send(topic, "queued on bob")
        await bob.suspend()
        self.assertIsNotNone(await bob.next_wakeup_at())
        await alice.send(topic, "for bob")
        kept = await alice.subscribe(topic)

        async def delivered():
            return (await alice.status(topic)).outbox.queued + (await alice.status(topic)).outbox.sent == 0

        await self.until(delivered)
        summary = await bob.run_once(timedelta(seconds=PATIENCE))
        self.assertTrue(summary.complete, summary)
        self.assertEqual(summary.received, 2)
        self.assertEqual(holders(self.folder / "bob.db"), (0, 0, 0))
        self.assertIsNone(await bob.next_wakeup_at())
        await self.until_texts(alice, topic, "queued on bob", "for bob")
        kept.cancel()

    async def test_run_once_ends_within_its_deadline_while_nobody_answers(self):
        alice, topic = await self.joined("alice")
        await alice.suspend()
        loop = asyncio.get_running_loop()
        self.network.halt()
        try:
            before = loop.time()
            summary = await alice.run_once(timedelta(seconds=3))
            took = loop.time() - before
        finally:
            self.network.go_on()
        self.assertFalse(summary.complete)
        self.assertEqual((summary.topics, summary.caught_up), (1, 0))
        # The promise is what is checked here, not a speed.
        self.assertLess(took, 3.0)
        self.assertEqual(holders(self.folder / "alice.db"), (0, 0, 0))

    async def test_a_key_makes_a_publish_happen_once(self):
        alice, topic = await self.joined("alice")
        first = await alice.send(topic, "once", key=b"key")
        self.assertEqual(await alice.send(topic, "once", key=b"key"), first)
        self.assertEqual((await alice.statistics()).operations, 1)
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            await alice.send(topic, "x", key=b"")
        self.assertEqual(refused.exception.code, "idempotency_key")

    async def test_case_66_logs_and_errors_show_no_key_and_no_text(self):
        lines = []

        class Sink(delta.LogSink):
            def level(self):
                return delta.LogLevel.TRACE

            def log(self, level, target, message):
                lines.append(message)

        keystore = delta.MemoryKeystore()
        device = await delta.open(self.folder / "loud.db", keystore, log=Sink(), allow_plaintext=True)
        self.addAsyncCleanup(device.close)
        await device.init_sync(self.network.hops(), self.network.sync_url)
        topic = await device.open_topic(self.ticket)
        # What a listener throws is the app's own text; that it failed is logged.
        kept = await device.subscribe(topic, lambda event: event.no_such_field)
        await device.send(topic, "a very private text")
        self.network.halt()
        device.network_changed()
        self.network.go_on()
        device.network_changed()
        await self.until_texts(device, topic, "a very private text")
        with self.assertRaises(delta.DeltaError) as refused:
            await device.open_topic(self.ticket[:-1] + "!")
        kept.cancel()
        await device.close()
        said = "\n".join(lines + [str(refused.exception), repr(refused.exception)])
        self.assertTrue(lines)
        # The item is a version, an instance, a count, then the seed.
        secret = keystore.get("delta.device")[25:57]
        self.assertEqual(len(secret), 32)
        for hidden in (secret.hex(), self.ticket, self.ticket[:30], "a very private text", repr(list(secret))):
            self.assertNotIn(hidden, said)


if __name__ == "__main__":
    unittest.main()
