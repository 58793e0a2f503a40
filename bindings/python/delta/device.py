"""The object a script holds: the generated `Delta` with asyncio's manners."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import AsyncIterator, Callable

from . import delta_ffi as ffi

#: How long one wait for events lasts before it begins anew. Nothing depends on it.
WAIT = timedelta(seconds=30)
#: Most events or messages taken at once.
AT_ONCE = 64


async def open(path, keystore: ffi.Keystore, *, log: ffi.LogSink | None = None, **options) -> Device:
    """Opens (or makes) the database at `path`. `options` are the fields of `Config`."""
    config = ffi.Config(path=os.fspath(path), **options)
    return Device(await ffi.Delta.open(config, keystore, log))


class Device:
    """One device. Use it as `async with`, or call `close`."""

    def __init__(self, inner: ffi.Delta):
        self._inner = inner

    async def __aenter__(self) -> Device:
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()

    @property
    def author(self) -> bytes:
        """This device's key, as others know it."""
        return self._inner.author()

    @property
    def renewed(self) -> bool:
        """Whether the database was restored or copied, so that this device has a new key since this open."""
        return self._inner.renewed()

    async def init_sync(self, hops: ffi.RelayHops, sync_url: str) -> list[str]:
        """Sends through these relays to this server from now on. Says which nodes were left out."""
        return await self._inner.init_sync(hops, sync_url)

    async def open_topic(self, ticket: str) -> bytes:
        """Opens a topic from its ticket; again is harmless."""
        return await self._inner.open_topic(ticket)

    async def topics(self) -> list[bytes]:
        """The topics that are open."""
        return await self._inner.topics()

    async def publish(self, topic: bytes, content: ffi.Content, *, key: bytes | None = None) -> bytes:
        """Signs, stores and queues an operation. With a `key` it happens once, however often it is called."""
        return await self._inner.publish(topic, content, key)

    async def send(self, topic: bytes, text: str, *, reply: bytes | None = None, key: bytes | None = None) -> bytes:
        """Publishes a message."""
        content = ffi.Content.MESSAGE_SEND(text=text, reply=reply, mentions=[])
        return await self.publish(topic, content, key=key)

    async def subscribe(self, topic: bytes, listener: Callable[[ffi.Event], None] | None = None) -> ffi.Subscription:
        """Receives a topic until the subscription is cancelled. `listener` is called on a thread of Delta's."""
        return await self._inner.subscribe(topic, None if listener is None else _Listener(listener))

    async def next_events(self, most: int = AT_ONCE, deadline: timedelta = WAIT) -> list[ffi.Event]:
        """The next events of all subscriptions without a listener; empty when nothing happened until `deadline`."""
        return await self._inner.next_events(most, deadline)

    async def events(self, topic: bytes) -> AsyncIterator[ffi.Event]:
        """The topic's events, until the loop over them is left or the device is closed."""
        subscription = await self.subscribe(topic)
        try:
            while True:
                for event in await subscription.next_events(AT_ONCE, WAIT):
                    yield event
                    if event.is_CLOSED():
                        return
        finally:
            subscription.cancel()

    async def follow(self, topic: bytes) -> AsyncIterator[ffi.Message]:
        """The messages of a topic as others will see them: those here first, then new ones as they take their place."""
        events = self.events(topic)
        after = None
        try:
            while True:
                page = ffi.MessagePage.NEWEST() if after is None else ffi.MessagePage.AFTER(position=after)
                placed = [message for message in await self.messages(topic, page) if message.acknowledged]
                for message in placed:
                    after = message.position
                    yield message
                if not placed and (await anext(events)).is_CLOSED():
                    return
        finally:
            await events.aclose()

    async def messages(
        self, topic: bytes, page: ffi.MessagePage | None = None, limit: int = AT_ONCE
    ) -> list[ffi.Message]:
        """A page of messages, oldest first; the newest ones unless `page` says otherwise."""
        return await self._inner.messages(topic, page or ffi.MessagePage.NEWEST(), limit)

    async def message(self, id: bytes) -> ffi.Message | None:
        """One message."""
        return await self._inner.message(id)

    async def reactions(self, message: bytes) -> list[ffi.Reaction]:
        """The reactions that stand on one message."""
        return await self._inner.reactions(message)

    async def signal(self, topic: bytes, data: bytes) -> None:
        """Tells whoever listens now (presence, typing). Nobody stores it."""
        await self._inner.signal(topic, data)

    async def status(self, topic: bytes) -> ffi.TopicStatus:
        """Where a topic stands."""
        return await self._inner.status(topic)

    async def statistics(self) -> ffi.Statistics:
        """What the device holds."""
        return await self._inner.statistics()

    def network_changed(self) -> None:
        """Tell it when the network changed."""
        self._inner.network_changed()

    async def suspend(self) -> None:
        """Lets go of every file, lock and socket until `resume`."""
        await self._inner.suspend()

    async def resume(self) -> None:
        """Goes on after `suspend`."""
        await self._inner.resume()

    async def run_once(self, deadline: timedelta) -> ffi.RunSummary:
        """A background fetch; back within `deadline` whatever the network does."""
        return await self._inner.run_once(deadline)

    async def next_wakeup_at(self) -> datetime | None:
        """When something queued is due to be sent (again)."""
        return await self._inner.next_wakeup_at()

    async def close(self) -> None:
        """Finishes what was accepted and closes everything. Again is harmless."""
        await self._inner.close()


class _Listener(ffi.EventListener):
    def __init__(self, call: Callable[[ffi.Event], None]):
        self._call = call

    def on_event(self, event: ffi.Event) -> None:
        self._call(event)


class MemoryKeystore(ffi.Keystore):
    """Keeps secrets as long as it lives: for tests."""

    def __init__(self):
        self._secrets: dict[str, bytes] = {}

    def get(self, item: str) -> bytes | None:
        return self._secrets.get(item)

    def put(self, item: str, value: bytes) -> None:
        self._secrets[item] = value

    def delete(self, item: str) -> None:
        self._secrets.pop(item, None)


class FileKeystore(ffi.Keystore):
    """Keeps secrets in files that only this user can read: `<path>.<item>`. For scripts; a phone has something better."""

    def __init__(self, path):
        self._path = Path(path)
        self._lock = threading.Lock()

    def get(self, item: str) -> bytes | None:
        try:
            return self._file(item).read_bytes()
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise ffi.KeystoreError.Denied(reason=str(error)) from error

    def put(self, item: str, value: bytes) -> None:
        with self._lock:
            temporary = self._file(item + ".new")
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(file, value)
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(temporary, self._file(item))

    def delete(self, item: str) -> None:
        self._file(item).unlink(missing_ok=True)

    def _file(self, item: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{item}")
