"""The object a script holds: the generated `Delta` with asyncio's manners."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import AsyncIterator, Callable, Sequence

from . import delta_ffi as ffi
from .leaving import close_at_exit

#: How long one wait for events lasts before it begins anew. Nothing depends on it.
WAIT = timedelta(hours=1)
#: Most events or messages taken at once.
AT_ONCE = 64
#: The longest page there is.
MOST = 1000


async def open(path, keystore: ffi.Keystore, *, log: ffi.LogSink | None = None, **options) -> Device:
    """Opens (or makes) the database at `path`. `options` are the fields of `Config`."""
    config = ffi.Config(path=os.fspath(path), **options)
    return Device(await ffi.Delta.open(config, keystore, log))


async def import_from(
    export, passphrase: str, path, keystore: ffi.Keystore, *, log: ffi.LogSink | None = None, **options
) -> Device:
    """Reads an export into a new database at `path` and opens it. For everyone else this device is another one then."""
    config = ffi.Config(path=os.fspath(path), **options)
    return Device(await ffi.Delta.import_from(os.fspath(export), passphrase, config, keystore, log))


class Device:
    """One device. Use it as `async with`, or call `close`; one that is left open is closed when Python ends."""

    def __init__(self, inner: ffi.Delta):
        self._inner = inner
        close_at_exit(inner)

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

    async def set_read_key(self, topic: bytes, key: bytes | None = None) -> None:
        """Keeps the key (an Ed25519 seed) that a public topic's server asks readers for; without one it is forgotten."""
        await self._inner.set_read_key(topic, key)

    async def topics(self) -> list[bytes]:
        """The topics that are open."""
        return await self._inner.topics()

    async def publish(self, topic: bytes, content: ffi.Content, *, key: bytes | None = None) -> bytes:
        """Signs, stores and queues an operation. With a `key` it happens once, however often it is called."""
        return await self._inner.publish(topic, content, key)

    async def send(
        self,
        topic: bytes,
        text: str,
        *,
        reply: bytes | None = None,
        mentions: Sequence[bytes] = (),
        attachments: Sequence[bytes] = (),
        key: bytes | None = None,
    ) -> bytes:
        """Publishes a message."""
        content = ffi.Content.MESSAGE_SEND(
            text=text, reply=reply, mentions=list(mentions), attachments=list(attachments)
        )
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
        """The messages of a topic as others will see them: the newest 64 here first, then new ones as they take their place. It
        waits while the device is suspended, and ends with the device."""
        # Before the first page is read, so that nothing falls between the two.
        subscription = await self.subscribe(topic)
        page = ffi.MessagePage.NEWEST()
        try:
            while True:
                placed = await self._placed(topic, page)
                for message in placed:
                    page = ffi.MessagePage.AFTER(position=message.position)
                    yield message
                if not placed and any(event.is_CLOSED() for event in await subscription.next_events(AT_ONCE, WAIT)):
                    return
        finally:
            subscription.cancel()

    async def _placed(self, topic: bytes, page: ffi.MessagePage) -> list[ffi.Message]:
        try:
            return [message for message in await self.messages(topic, page) if message.acknowledged]
        except ffi.DeltaError.State as refused:
            # An event of either tells when to look again, or that there is nothing more.
            if refused.code not in ("suspended", "closed"):
                raise
            return []

    async def messages(
        self, topic: bytes, page: ffi.MessagePage | None = None, limit: int = AT_ONCE
    ) -> list[ffi.Message]:
        """A page of messages, oldest first; the newest ones unless `page` says otherwise."""
        return await self._inner.messages(topic, page or ffi.MessagePage.NEWEST(), limit)

    async def messages_by(
        self,
        topic: bytes,
        author: bytes,
        page: ffi.MessagePage | None = None,
        limit: int = AT_ONCE,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[ffi.Message]:
        """A page of one author's messages, oldest first; with `since` and `until` those received in that time."""
        page = page or ffi.MessagePage.NEWEST()
        return await self._inner.messages_by(topic, author, page, limit, since, until)

    async def messages_received(
        self,
        topic: bytes,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: ffi.ReceiptPlace | None = None,
        limit: int = AT_ONCE,
    ) -> ffi.ReceivedPage:
        """A page of the messages received from `since` on and before `until`, in that order; the next is after its `next`."""
        return await self._inner.messages_received(topic, limit, since, until, after)

    async def mentions(
        self, who: bytes, *, topic: bytes | None = None, before: int | None = None, limit: int = AT_ONCE
    ) -> list[ffi.Mention]:
        """Messages that mention somebody, those that came last first, in one topic or all; before an `arrival`."""
        return await self._inner.mentions(who, limit, topic, before)

    async def message(self, id: bytes) -> ffi.Message | None:
        """One message."""
        return await self._inner.message(id)

    async def reactions(self, message: bytes) -> list[ffi.Reaction]:
        """The reactions that stand on one message."""
        return await self._inner.reactions(message)

    async def message_history(self, id: bytes) -> list[ffi.Version]:
        """Every text a message had, as sent first."""
        return await self._inner.message_history(id)

    async def person(self, topic: bytes, device: bytes) -> bytes:
        """The person behind a device in a topic."""
        return await self._inner.person(topic, device)

    async def profile(self, topic: bytes, author: bytes) -> ffi.Profile | None:
        """An author's profile in one conversation."""
        return await self._inner.profile(topic, author)

    async def profiles(self, author: bytes) -> list[ffi.Profile]:
        """An author's profiles in all conversations."""
        return await self._inner.profiles(author)

    async def search(self, words: str, *, limit: int = AT_ONCE, **where) -> list[ffi.Found]:
        """Messages with all the words, those that came last first. `where` are the other fields of `SearchWords`."""
        return await self._inner.search(ffi.SearchWords(words=words, **where), limit)

    async def unread(self, topic: bytes) -> ffi.Unread:
        """What of a topic has not been read, counted from `set_read`."""
        return await self._inner.unread(topic)

    async def set_read(self, topic: bytes, upto: bytes) -> None:
        """Notes how far a topic was read: a message's `position`. It never goes back."""
        await self._inner.set_read(topic, upto)

    async def put_value(self, topic: bytes, collection: str, key: str, value: bytes) -> bytes:
        """Sets the value of a key over whatever this device knows of it: the last writer wins everywhere."""
        return await self._inner.put_value(topic, ffi.ValueKey(collection=collection, key=key), value)

    async def delete_value(self, topic: bytes, collection: str, key: str) -> bytes:
        """Deletes a key."""
        return await self._inner.delete_value(topic, ffi.ValueKey(collection=collection, key=key))

    async def value(self, topic: bytes, collection: str, key: str) -> ffi.Value | None:
        """The value of a key."""
        return await self._inner.value(topic, ffi.ValueKey(collection=collection, key=key))

    async def values(
        self, topic: bytes, collection: str, *, prefix: str = "", after: str | None = None, limit: int = AT_ONCE
    ) -> list[ffi.Value]:
        """Values of a collection by key: those that begin with `prefix`, after key `after`."""
        return await self._inner.values(topic, collection, limit, prefix, after)

    async def create_document(self, topic: bytes, path: str) -> bytes:
        """Makes a document under a path (names between slashes) and gives its id. Nothing is in it yet."""
        return await self._inner.create_document(topic, path)

    async def write_document(self, topic: bytes, document: bytes, data: bytes, *, snapshot: bool = False) -> bytes:
        """Writes a change to a document, as the app's library gives it; with `snapshot` all of it. At most 768 KiB."""
        return await self._inner.write_document(topic, document, data, snapshot)

    async def documents(
        self, topic: bytes, *, prefix: str = "", after: bytes | None = None, limit: int = AT_ONCE
    ) -> list[ffi.Document]:
        """Documents by their paths: those that begin with `prefix`; `after` is the last one of the page before."""
        return await self._inner.documents(topic, limit, prefix, after)

    async def document_parts(
        self, topic: bytes, document: bytes, *, after: int = 0, limit: int = AT_ONCE
    ) -> list[ffi.DocumentPart]:
        """What was written to a document, as this device read it: parts with a number above `after`. One may come again."""
        return await self._inner.document_parts(topic, document, limit, after)

    async def create_space(self, name: str, **about) -> ffi.Place:
        """Makes a space, with this device as its first manager. `about` are the other fields of `SpaceText`."""
        return await self._inner.create_space(ffi.SpaceText(name=name, **about))

    async def create_room(self, space: bytes, name: str, **about) -> ffi.Place:
        """Makes a room in a space and opens it. `about` are the other fields of `RoomText`."""
        return await self._inner.create_room(space, ffi.RoomText(name=name, **about))

    async def change_space(self, space: bytes, action: ffi.SpaceAction) -> bytes:
        """Changes a space, its rooms or its members."""
        return await self._inner.change_space(space, action)

    async def create_invitation(
        self, space: bytes, level: ffi.Level, *, expires: datetime | None = None, once: bool = False
    ) -> str:
        """Makes an invitation and gives its text: a secret, to be handed over as a link or QR code."""
        return await self._inner.create_invitation(space, level, expires, once)

    async def accept_invitation(self, invitation: str) -> ffi.Place:
        """Opens the space of an invitation and claims it. Whoever made it has to be online for the answer."""
        return await self._inner.accept_invitation(invitation)

    async def spaces(self) -> list[ffi.Space]:
        """The spaces this device knows."""
        return await self._inner.spaces()

    async def space(self, space: bytes) -> ffi.Space | None:
        """One space."""
        return await self._inner.space(space)

    async def rooms(self, space: bytes) -> list[ffi.Room]:
        """The rooms of a space, archived and deleted ones included."""
        return await self._inner.rooms(space)

    async def members(self, space: bytes, limit: int = MOST, after: bytes | None = None) -> list[ffi.Member]:
        """Members of a space, and whoever is banned from it, by their keys: those after `after`."""
        return await self._inner.members(space, limit, after)

    async def space_devices(self, space: bytes) -> list[ffi.SpaceDevice]:
        """The devices that a space was told of, revoked ones included."""
        return await self._inner.space_devices(space)

    async def invitations(self, space: bytes) -> list[ffi.Invitation]:
        """The invitations of a space that are not revoked."""
        return await self._inner.invitations(space)

    async def join_requests(self, space: bytes) -> list[ffi.JoinRequest]:
        """Who asks to be let in."""
        return await self._inner.join_requests(space)

    async def audit_log(
        self, space: bytes, limit: int = AT_ONCE, before: ffi.AuditPlace | None = None
    ) -> list[ffi.AuditLine]:
        """What happened in a space, newest first; lines below the `place` of one."""
        return await self._inner.audit_log(space, limit, before)

    async def open_inbox(self) -> bytes:
        """Opens this device's inbox; gives the topic with the news of direct threads."""
        return await self._inner.open_inbox()

    async def contact(self) -> str:
        """What others need to write to this device, as a text to be given to them. Good for about two months."""
        return await self._inner.contact()

    async def request_direct(self, contact: str, text: str | None = None) -> bytes:
        """Asks the device of a contact for a direct thread. It is open once that one accepts."""
        return await self._inner.request_direct(contact, text)

    async def request_direct_of(self, member: bytes, text: str | None = None) -> bytes:
        """The same of a device that shares a space with this one."""
        return await self._inner.request_direct_of(member, text)

    async def accept_direct(self, thread: bytes) -> bytes:
        """Accepts a direct thread that another device asked for; gives the topic it lives in."""
        return await self._inner.accept_direct(thread)

    async def close_direct(self, thread: bytes) -> None:
        """Takes no more part in a direct thread, or turns a request down."""
        await self._inner.close_direct(thread)

    async def send_direct(self, thread: bytes, content: ffi.Content) -> bytes:
        """Publishes in a direct thread. Its messages are read by its topic."""
        return await self._inner.send_direct(thread, content)

    async def direct_threads(self) -> list[ffi.DirectThread]:
        """All direct threads, oldest first, requests included."""
        return await self._inner.direct_threads()

    async def request_join(self, space: bytes, manager: str, text: str | None = None) -> bytes:
        """Asks a manager's device to be added to a space: `manager` is its `contact`."""
        return await self._inner.request_join(space, manager, text)

    async def outbox(self, topic: bytes, limit: int = AT_ONCE, after: int | None = None) -> list[ffi.OutboxRow]:
        """Operations of a topic that are not acknowledged yet, oldest first, after row `after`."""
        return await self._inner.outbox(topic, limit, after)

    async def retry(self, topic: bytes) -> int:
        """Puts parked operations back in the queue; says how many there were."""
        return await self._inner.retry(topic)

    async def cancel(self, topic: bytes, operation: bytes) -> ffi.Cancelled:
        """Takes back an operation of this device."""
        return await self._inner.cancel(topic, operation)

    async def identity(self) -> bytes:
        """Whose device this is."""
        return await self._inner.identity()

    async def own_devices(self) -> list[ffi.OwnDevice]:
        """The person's devices, as far as this one has heard of them."""
        return await self._inner.own_devices()

    async def revoke_device(self, device: bytes) -> None:
        """Revokes a device of this person, for good."""
        await self._inner.revoke_device(device)

    async def pair(self) -> ffi.PairingHost:
        """Begins to make a further device this person's: show its text, compare codes, accept."""
        return await self._inner.pair()

    async def join(self, text: str) -> ffi.PairingGuest:
        """Asks to become a device of the person whose device shows this text."""
        return await self._inner.join(text)

    async def attach(self, source, mime: str, name: str | None = None) -> bytes:
        """Makes a blob of bytes, or of the file at a path, at most 64 MiB, and begins to send it. Messages bring it along
        (`attachments`). When it returns the file is not needed any more."""
        if isinstance(source, (bytes, bytearray)):
            return await self._inner.attach(ffi.BlobSource.BYTES(bytes=bytes(source)), mime, name)
        path = os.fspath(source)
        return await self._inner.attach(ffi.BlobSource.FILE(path=path), mime, name or os.path.basename(path))

    async def blob_status(self, blob: bytes) -> ffi.BlobStatus:
        """How a blob stands."""
        return await self._inner.blob_status(blob)

    async def fetch_blob(self, blob: bytes) -> None:
        """Fetches a blob that a message names, unless it is here. Events say when to look how far it is."""
        await self._inner.fetch_blob(blob)

    async def drop_blob(self, blob: bytes) -> None:
        """Removes a blob from this device, also one that is being sent or fetched. Others keep what they have."""
        await self._inner.drop_blob(blob)

    async def write_blob(self, blob: bytes, path) -> None:
        """Writes a blob that is here into a file, chunk by chunk; one that is there is replaced."""
        await self._inner.write_blob(blob, os.fspath(path))

    async def blob_bytes(self, blob: bytes) -> bytes:
        """A blob that is here, whole: for small ones."""
        return await self._inner.blob_bytes(blob)

    async def storage_use(self) -> ffi.StorageUse:
        """What the database takes, conversation by conversation. For a settings page, not for every frame."""
        return await self._inner.storage_use()

    async def prune(self, topic: bytes, before: datetime) -> int:
        """Erases messages received before an instant from this device; says how many. Others keep them."""
        return await self._inner.prune(topic, before)

    async def wipe_topic(self, topic: bytes) -> None:
        """Removes a conversation from this device, a space with its rooms. Others keep what they have."""
        await self._inner.wipe_topic(topic)

    async def wipe(self) -> None:
        """Closes the device and removes everything: keys, words, database."""
        await self._inner.wipe()

    async def key_snapshot(self) -> bytes:
        """What a notification extension needs; see `decrypt_push`. Made again when the app goes to the background."""
        return await self._inner.key_snapshot()

    async def export(self, path, passphrase: str, *, words: str | None = None) -> None:
        """Writes the database, with a person's words if passed, into a new file that the passphrase opens."""
        await self._inner.export(os.fspath(path), passphrase, words)

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
