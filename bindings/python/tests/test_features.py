"""Spaces, search, profiles, the outbox, storage, exports and previews, as an app uses them."""

import asyncio
import base64
import json
import unittest
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import delta
from test_misuse import VECTORS, Offline
from test_scenario import PATIENCE, Networked

SpaceAction = delta.SpaceAction


class Features(Offline):
    async def test_search_history_profiles_and_read_markers(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        first = await device.send(topic, "the quick brown fox")
        await device.publish(topic, delta.Content.MESSAGE_EDIT(target=first, text="the slow brown fox"))
        await device.send(topic, "another line")
        history = await device.message_history(first)
        self.assertEqual([version.text for version in history], ["the quick brown fox", "the slow brown fox"])
        [found] = await device.search("BROWN slow", topic=topic)
        self.assertEqual(found.message.id, first)
        self.assertIn("slow brown", found.excerpt)
        self.assertEqual(await device.search("quick"), [])
        self.assertEqual(await device.search("fox", author=bytes(32)), [])
        await device.publish(topic, delta.Content.PROFILE_SET(name="Ada", bio="writes", avatar=bytes(32)))
        profile = await device.profile(topic, device.author)
        self.assertEqual((profile.name, profile.bio, profile.avatar), ("Ada", "writes", bytes(32)))
        self.assertEqual([each.log for each in await device.profiles(device.author)], [profile.log])
        unread = await device.unread(topic)
        self.assertEqual((unread.messages, unread.mentions), (0, 0))
        await device.set_read(topic, (await device.messages(topic))[-1].position)

    async def test_messages_are_paged_by_author_and_by_mention(self):
        device = await self.open()
        topic, other = [await device.open_topic(delta.generate_ticket()) for _ in range(2)]
        somebody = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        ids = [await device.send(topic, f"word {number}", mentions=[somebody]) for number in range(3)]
        elsewhere = await device.send(other, "word 3", mentions=[somebody])
        plain = await device.send(topic, "nobody")
        by = await device.messages_by(topic, device.author, limit=2)
        self.assertEqual([message.id for message in by], [ids[2], plain])
        before = await device.messages_by(topic, device.author, delta.MessagePage.BEFORE(position=by[0].position))
        self.assertEqual([message.id for message in before], ids[:2])
        self.assertEqual(await device.messages_by(topic, somebody), [])
        # No server has them: they were received at no time.
        epoch = datetime.fromtimestamp(0, timezone.utc)
        self.assertEqual(await device.messages_by(topic, device.author, since=epoch), [])
        mentions = await device.mentions(somebody, limit=3)
        self.assertEqual([found.message.id for found in mentions], [elsewhere, ids[2], ids[1]])
        rest = await device.mentions(somebody, before=mentions[-1].arrival)
        self.assertEqual([found.message.id for found in rest], ids[:1])
        here = await device.mentions(somebody, topic=topic)
        self.assertEqual([found.message.id for found in here], ids[::-1])
        found = await device.search("word", limit=3)
        rest = await device.search("word", before=found[-1].arrival)
        self.assertEqual([each.message.id for each in found + rest], [elsewhere, *ids[::-1]])

    async def test_a_ticket_says_what_it_is_for(self):
        device = await self.open()
        for public in (False, True):
            ticket = delta.generate_ticket(public)
            topic = await device.open_topic(ticket)
            facts = delta.ticket_facts(ticket)
            self.assertEqual((facts.topic, facts.public, facts.can_write), (topic, public, True))
            reader = delta.ticket_facts(delta.read_only_ticket(ticket))
            self.assertEqual((reader.topic, reader.log, reader.can_write), (topic, facts.log, False))
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            delta.ticket_facts("no ticket")
        self.assertEqual(refused.exception.code, "ticket")

    async def test_how_a_device_is_opened_prints_without_the_proxys_password(self):
        config = delta.Config(path="a.db", proxy="socks5://ada:p%40ss@127.0.0.1:1")
        self.assertEqual(str(config), "Config(path: a.db, relays: 3, proxy: set)")
        self.assertNotIn("p%40ss", repr(config))

    async def test_a_read_key_is_a_seed(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket(True))
        await device.set_read_key(topic, bytes(32))
        await device.set_read_key(topic)
        await self.refused(device.set_read_key(topic, bytes(31)), delta.DeltaError.Argument, "id")

    async def test_values_are_put_paged_and_deleted(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        for key in ("b", "a", "ab"):
            await device.put_value(topic, "settings", key, key.encode())
        await device.put_value(topic, "settings", "b", b"again")
        values = await device.values(topic, "settings")
        self.assertEqual([(each.at.key, each.value) for each in values], [("a", b"a"), ("ab", b"ab"), ("b", b"again")])
        self.assertEqual([each.at.key for each in await device.values(topic, "settings", prefix="a", after="a")], ["ab"])
        await device.delete_value(topic, "settings", "b")
        self.assertIsNone(await device.value(topic, "settings", "b"))
        value = await device.value(topic, "settings", "a")
        self.assertEqual((value.value, value.author), (b"a", device.author))
        await self.refused(device.put_value(topic, "", "a", b""), delta.DeltaError.Argument, "content")
        await self.refused(device.put_value(topic, "x", "a", bytes(64 * 1024 + 1)), delta.DeltaError.Argument, "content")

    async def test_messages_bring_blobs_along(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        # Two chunks.
        data = bytes(number * 31 % 256 for number in range(256_001))
        source, copy = self.folder / "from.bin", self.folder / "to.bin"
        source.write_bytes(data)
        file, small = await device.attach(source, "image/png"), await device.attach(b"7", "text/plain")
        source.unlink()
        sent = await device.send(topic, "look", attachments=[file, small])
        await device.publish(topic, delta.Content.BLOB_SHARE(blob=small))
        about = (await device.message(sent)).attachments
        said = [(each.blob, each.size, each.mime, each.name) for each in about]
        self.assertEqual(said, [(file, 256_001, "image/png", "from.bin"), (small, 1, "text/plain", None)])
        status = await device.blob_status(file)
        self.assertEqual((status.state, status.have, status.of), (delta.BlobState.SENDING, 0, 2))
        await device.fetch_blob(file)
        copy.write_bytes(b"old")
        await device.write_blob(file, copy)
        self.assertEqual(copy.read_bytes(), data)
        self.assertEqual(await device.blob_bytes(small), b"7")
        await device.drop_blob(file)
        self.assertEqual((await device.blob_status(file)).state, delta.BlobState.ABSENT)
        await self.refused(device.blob_bytes(file), delta.DeltaError.State, "blob_not_here")
        await device.publish(topic, delta.Content.MESSAGE_DELETE(target=sent))
        self.assertEqual((await device.message(sent)).attachments, [])
        await self.refused(device.fetch_blob(file), delta.DeltaError.State, "unknown_blob")
        await self.refused(device.attach(b"", "x" * 128), delta.DeltaError.Argument, "content")
        await self.refused(device.attach(source, "text/plain"), delta.DeltaError.Device, "io")

    async def test_the_outbox_is_listed_retried_and_taken_back(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        ids = [await device.send(topic, text) for text in ("one", "two", "three")]
        rows = await device.outbox(topic)
        self.assertEqual([row.operation for row in rows], ids)
        self.assertTrue(all(row.own and row.tries == 0 and row.state.is_QUEUED() for row in rows), rows)
        [last] = await device.outbox(topic, after=rows[1].row)
        self.assertEqual(last.operation, ids[2])
        self.assertEqual(await device.retry(topic), 0)
        self.assertTrue((await device.cancel(topic, ids[2])).is_REMOVED())
        taken_back = await device.cancel(topic, ids[0])
        self.assertTrue(taken_back.is_DELETED())
        self.assertEqual([message.text for message in await device.messages(topic)], [None, "two"])
        await self.refused(device.cancel(topic, bytes(32)), delta.DeltaError.State, "unknown_operation")

    async def test_a_space_is_made_changed_and_audited(self):
        device = await self.open()
        made = await device.create_space("Allotment", description="All who dig", history=True)
        room = await device.create_room(made.log, "Seeds")
        [space] = await device.spaces()
        self.assertEqual((space.space, space.topic, space.about.name), (made.log, made.topic, "Allotment"))
        self.assertEqual((await device.space(made.log)).about.description, "All who dig")
        [listed] = await device.rooms(made.log)
        self.assertEqual((listed.room, listed.topic, listed.state), (room.log, room.topic, delta.RoomState.OPEN))
        other = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        await device.change_space(made.log, SpaceAction.ADD(member=other, level=delta.Level.READ))
        await device.change_space(made.log, SpaceAction.PROMOTE(member=other, level=delta.Level.WRITE))
        levels = {member.member: member.level for member in await device.members(made.log)}
        self.assertEqual(levels, {device.author: delta.Level.MANAGE, other: delta.Level.WRITE})
        members = await device.members(made.log)
        paged = await device.members(made.log, 1) + await device.members(made.log, 1, after=members[0].member)
        self.assertEqual(paged, members)
        # Without words a device is a person of its own.
        self.assertEqual(await device.identity(), device.author)
        self.assertEqual(await device.person(made.topic, device.author), device.author)
        await device.change_space(made.log, SpaceAction.BAN(member=other, reason="weeds"))
        [banned] = [member for member in await device.members(made.log) if member.member == other]
        self.assertEqual((banned.level, banned.banned), (None, True))
        await device.change_space(made.log, SpaceAction.ARCHIVE_ROOM(room=room.log))
        self.assertEqual((await device.rooms(made.log))[0].state, delta.RoomState.ARCHIVED)
        audit = await device.audit_log(made.log)
        kinds = ["room.archive", "member.ban", "member.promote", "member.add", "room.create", "space.create"]
        self.assertEqual([line.kind for line in audit], kinds)
        self.assertEqual(audit[1].subject, other)
        older = await device.audit_log(made.log, 2, before=audit[3].place)
        self.assertEqual([line.kind for line in older], kinds[4:])
        expires = datetime.now(timezone.utc) + timedelta(days=1)
        text = await device.create_invitation(made.log, delta.Level.WRITE, expires=expires, once=True)
        [invitation] = await device.invitations(made.log)
        self.assertEqual((invitation.level, invitation.once, invitation.used), (delta.Level.WRITE, True, False))
        self.assertLess(abs(invitation.expires - expires), timedelta(milliseconds=2))
        await device.change_space(made.log, SpaceAction.REVOKE_INVITATION(invitation=invitation.id))
        self.assertEqual(await device.invitations(made.log), [])
        self.assertEqual(await device.join_requests(made.log), [])
        Argument, State = delta.DeltaError.Argument, delta.DeltaError.State
        await self.refused(device.accept_invitation(text[:-1]), Argument, "invitation")
        leave = device.change_space(room.log, SpaceAction.LEAVE())
        await self.refused(leave, State, "not_a_space")
        again = device.change_space(made.log, SpaceAction.ADD(member=device.author, level=delta.Level.READ))
        await self.refused(again, State, "not_allowed")

    async def test_what_is_wiped_is_gone(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        await device.send(topic, "gone soon")
        used = await device.storage_use()
        self.assertEqual([(each.topic, each.operations) for each in used.topics], [(topic, 1)])
        self.assertGreater(used.file_bytes, used.free_bytes)
        self.assertEqual(await device.prune(topic, datetime.now(timezone.utc)), 0, "no server has it")
        await device.wipe_topic(topic)
        await self.refused(device.messages(topic), delta.DeltaError.State, "unknown_topic")
        made = await device.create_space("Space")
        room = await device.create_room(made.log, "Room")
        await self.refused(device.wipe_topic(room.topic), delta.DeltaError.State, "room_of_space")
        await device.wipe_topic(made.topic)
        self.assertEqual((await device.spaces(), await device.topics()), ([], []))
        await device.wipe()
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertIsNone(self.keystore.get("delta.device"))
        await self.refused(device.topics(), delta.DeltaError.State, "closed")

    async def test_an_export_is_imported_with_the_words_and_another_key(self):
        words = delta.generate_mnemonic()
        delta.import_mnemonic(self.keystore, words)
        self.assertEqual(delta.stored_mnemonic(self.keystore), words)
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        await device.send(topic, "never left")
        file, keystore = self.folder / "export", delta.MemoryKeystore()
        await device.export(file, "a passphrase", words=words)
        wrong = delta.import_from(file, "another", self.folder / "copy.db", keystore)
        await self.refused(wrong, delta.DeltaError.Argument, "export_passphrase")
        copy = await delta.import_from(file, "a passphrase", self.folder / "copy.db", keystore)
        self.addAsyncCleanup(copy.close)
        self.assertEqual(await copy.topics(), [topic])
        # What never left is the old device's to send: its key is not in the export.
        self.assertEqual(await copy.messages(topic), [])
        self.assertTrue(copy.renewed)
        self.assertNotEqual(copy.author, device.author)
        self.assertEqual(delta.stored_mnemonic(keystore), words)
        await self.refused(device.export(file, "x"), delta.DeltaError.Device, "io")

    async def test_addresses_and_identities_agree_with_the_vectors(self):
        vectors = json.loads((VECTORS / "identity.json").read_text())
        looked_at = 0
        for vector in vectors["mnemonics"]:
            if len(vector["words"].split()) != 24:
                continue
            identity = delta.mnemonic_identity(vector["words"])
            self.assertEqual(identity.hex(), vector["identity"])
            self.assertEqual(delta.identity_address(identity), vector["address"])
            self.assertEqual(delta.parse_address(f" {vector['address']}\n"), identity)
            looked_at += 1
        self.assertGreater(looked_at, 0)
        for wrong in ("", "pk:", vectors["mnemonics"][0].get("address", "pk:x")[:-1]):
            with self.assertRaises(delta.DeltaError.Argument) as refused:
                delta.parse_address(wrong)
            self.assertEqual(refused.exception.code, "address")


class Together(Networked):
    async def test_whoever_is_invited_is_a_member_and_can_be_written_to(self):
        words, keystore = delta.generate_mnemonic(), delta.MemoryKeystore()
        delta.import_mnemonic(keystore, words)
        first, second = await self.in_a_room("", keystore)
        alice, bob = first.device, second.device
        person = delta.mnemonic_identity(words)
        levels = {member.member: member.level for member in await alice.members(first.space)}
        self.assertEqual(levels, {person: delta.Level.MANAGE, bob.author: delta.Level.WRITE})

        async def known():
            return {each.device: (each.person, each.revoked) for each in await bob.space_devices(first.space)}

        self.assertEqual((await known())[alice.author], (person, False))
        self.assertEqual(await bob.person(second.topic, alice.author), person)

        async def asked():
            return [(each.peer, each.text) for each in await alice.direct_threads()]

        await self.until(lambda: self.asks(bob, alice.author))
        await self.until(asked)
        self.assertEqual(await asked(), [(bob.author, "a word")])
        for subscription in first.kept:
            subscription.cancel()

    async def asks(self, device, member) -> bool:
        """Where the other is written to is said by its keys, which may be on their way."""
        try:
            await device.request_direct_of(member, "a word")
        except delta.DeltaError.State as refused:
            self.assertEqual(refused.code, "not_reachable")
            return False
        return True

    async def test_whoever_asks_to_join_is_seen_by_the_manager_and_let_in(self):
        alice, bob = await self.device("alice"), await self.device("bob")
        for device in (alice, bob):
            await device.init_sync(self.network.hops(), self.network.sync_url)
        made = await alice.create_space("Kitchen")
        kept = await alice.subscribe(made.topic)
        asked = await bob.request_join(made.log, await alice.contact(), "may I?")

        async def heard():
            return await alice.join_requests(made.log)

        await self.until(heard)
        [request] = await heard()
        self.assertEqual(
            (request.id, request.author, request.invitation, request.text), (asked, bob.author, None, "may I?")
        )
        await alice.change_space(made.log, SpaceAction.ADD(member=bob.author, level=delta.Level.READ))
        levels = {member.member: member.level for member in await alice.members(made.log)}
        self.assertEqual(levels[bob.author], delta.Level.READ)
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            await bob.request_join(made.log, "no contact")
        self.assertEqual(refused.exception.code, "contact")
        kept.cancel()

    async def test_a_signal_reaches_who_listens_now_and_is_kept_by_nobody(self):
        (alice, topic), (bob, _) = await self.joined("alice"), await self.joined("bob")
        heard = []
        kept = [await bob.subscribe(topic, heard.append), await alice.subscribe(topic)]

        async def listening():
            return (await bob.status(topic)).connection == delta.Connection.LIVE

        await self.until(listening)
        await alice.signal(topic, b"typing")

        async def signals():
            return [(event.author, event.bytes) for event in heard if event.is_SIGNAL()]

        await self.until(signals)
        self.assertEqual(await signals(), [(alice.author, b"typing")])
        self.assertEqual(await bob.messages(topic), [])
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            await alice.signal(topic, b"")
        self.assertEqual(refused.exception.code, "signal")
        for subscription in kept:
            subscription.cancel()

    async def test_the_audit_log_is_paged_also_between_lines_of_one_rank(self):
        alice, bob = await self.device("alice"), await self.device("bob")
        for device in (alice, bob):
            await device.init_sync(self.network.hops(), self.network.sync_url)
        made = await alice.create_space("Kitchen")
        kept = [await alice.subscribe(made.topic)]
        joined = await bob.accept_invitation(await alice.create_invitation(made.log, delta.Level.MANAGE))
        kept.append(await bob.subscribe(joined.topic))

        async def manages():
            return any(member.member == bob.author for member in await bob.members(made.log))

        await self.until(manages)
        # Neither knows of the other's change.
        self.network.halt()
        try:
            for device, name in ((alice, "Scullery"), (bob, "Pantry")):
                await device.change_space(made.log, SpaceAction.UPDATE(about=delta.SpaceText(name=name)))
        finally:
            self.network.go_on()
        for device in (alice, bob):
            device.network_changed()

        async def both():
            return [line.kind for line in await alice.audit_log(made.log)].count("space.update") == 2

        await self.until(both)
        lines, paged = None, []
        # Again, should a device have done something by itself meanwhile.
        while lines != (now := await alice.audit_log(made.log)):
            lines, paged, before = now, [], None
            while page := await alice.audit_log(made.log, 1, before):
                paged, before = paged + page, page[-1].place
        self.assertLess(len({line.place.rank for line in lines}), len(lines))
        self.assertEqual(paged, lines)
        for subscription in kept:
            subscription.cancel()

    async def test_a_further_device_is_paired_and_revoked(self):
        words, keystore = delta.generate_mnemonic(), delta.MemoryKeystore()
        delta.import_mnemonic(keystore, words)
        old, new = await self.device("old", keystore), await self.device("new")
        for device in (old, new):
            await device.init_sync(self.network.hops(), self.network.sync_url)
        topic = await old.open_topic(self.ticket)
        person = delta.mnemonic_identity(words)
        self.assertEqual((await old.identity(), await new.identity()), (person, new.author))
        host = await old.pair()
        # A wait that is given up loses nothing.
        waiting = asyncio.create_task(host.asked())
        await asyncio.sleep(0)
        waiting.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await waiting
        guest = await new.join(f" {host.text()}\n")
        request, code = await asyncio.wait_for(host.asked(), PATIENCE), await asyncio.wait_for(guest.code(), PATIENCE)
        self.assertEqual((request.device(), request.code()), (new.author, code))
        self.assertEqual((await host.asked()).code(), code)
        await request.accept()
        await request.accept()
        await self.refused(request.refuse(), "pairing_expired")
        self.assertEqual(await asyncio.wait_for(guest.joined(), PATIENCE), person)
        self.assertEqual((await guest.joined(), await new.identity()), (person, person))
        self.assertIn(topic, await new.topics())
        self.assertEqual([each.device for each in await old.own_devices() if each.this], [old.author])
        await old.revoke_device(new.author)
        self.assertEqual([each.device for each in await old.own_devices() if each.revoked], [new.author])
        with self.assertRaises(delta.DeltaError.State) as refused:
            await new.join(host.text())
        self.assertEqual(refused.exception.code, "certified")
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            await new.join("no text")
        self.assertEqual(refused.exception.code, "pairing")
        cancelled = await old.pair()
        waiting = asyncio.create_task(cancelled.asked())
        await asyncio.sleep(0)
        cancelled.cancel()
        for wait in (waiting, cancelled.asked()):
            with self.assertRaises(delta.DeltaError.State) as refused:
                await asyncio.wait_for(wait, PATIENCE)
            self.assertEqual(refused.exception.code, "pairing_expired")

    async def test_a_device_that_is_refused_hears_of_it_and_can_ask_again(self):
        keystore = delta.MemoryKeystore()
        delta.import_mnemonic(keystore, delta.generate_mnemonic())
        old, new = await self.device("old", keystore), await self.device("new")
        for device in (old, new):
            await device.init_sync(self.network.hops(), self.network.sync_url)
        for _ in range(2):
            host = await old.pair()
            guest = await new.join(host.text())
            request = await asyncio.wait_for(host.asked(), PATIENCE)
            await asyncio.wait_for(request.refuse(), PATIENCE)
            await request.refuse()
            await self.refused(request.accept(), "pairing_expired")
            await self.refused(guest.joined(), "pairing_refused")
            self.assertEqual(await new.identity(), new.author)
            self.assertEqual([each.device for each in await old.own_devices()], [old.author])

    async def refused(self, call, code: str) -> None:
        with self.assertRaises(delta.DeltaError.State) as refused:
            await asyncio.wait_for(call, PATIENCE)
        self.assertEqual(refused.exception.code, code)

    async def test_messages_are_paged_by_when_a_server_received_them(self):
        alice, topic = await self.joined("alice")
        kept = await alice.subscribe(topic)
        for number in range(3):
            await alice.send(topic, f"line {number}")
        await self.until_texts(alice, topic, "line 0", "line 1", "line 2")
        received, after = [], None
        while True:
            page = await alice.messages_received(topic, after=after, limit=2)
            received += page.messages
            if (after := page.next) is None:
                break
        self.assertEqual(len({message.id for message in received}), 3)
        times = [message.received_at for message in received]
        self.assertEqual(times, sorted(times))
        last = times[-1] + timedelta(milliseconds=1)
        self.assertEqual((await alice.messages_received(topic, since=last)).messages, [])
        self.assertEqual(len((await alice.messages_received(topic, until=last)).messages), 3)
        kept.cancel()

    async def test_two_people_talk_in_a_direct_thread(self):
        alice, bob = await self.device("alice"), await self.device("bob")
        for device in (alice, bob):
            await device.init_sync(self.network.hops(), self.network.sync_url)
        kept = [await bob.subscribe(await bob.open_inbox()), await alice.subscribe(await alice.open_inbox())]
        thread = await alice.request_direct(await bob.contact(), "may I?")

        async def state(device, wanted):
            return any(each.state == wanted for each in await device.direct_threads())

        await self.until(lambda: state(bob, delta.ThreadState.REQUESTED))
        [request] = await bob.direct_threads()
        self.assertEqual((request.thread, request.peer, request.text), (thread, alice.author, "may I?"))
        topic = await bob.accept_direct(thread)
        kept.append(await bob.subscribe(topic))
        await self.until(lambda: state(alice, delta.ThreadState.OPEN))
        [opened] = await alice.direct_threads()
        self.assertEqual((opened.thread, opened.peer), (thread, bob.author))
        kept.append(await alice.subscribe(opened.topic))
        await bob.send_direct(thread, delta.Content.MESSAGE_SEND(text="of course"))
        await self.until_texts(alice, opened.topic, "of course")
        await alice.send_direct(thread, delta.Content.MESSAGE_SEND(text="thank you"))
        await self.until_texts(bob, topic, "of course", "thank you")
        await alice.close_direct(thread)
        self.assertTrue(await state(alice, delta.ThreadState.CLOSED))
        with self.assertRaises(delta.DeltaError.State) as refused:
            await alice.send_direct(thread, delta.Content.MESSAGE_SEND(text="too late"))
        self.assertEqual(refused.exception.code, "thread_state")
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            await alice.request_direct("no contact")
        self.assertEqual(refused.exception.code, "contact")
        for subscription in kept:
            subscription.cancel()

    async def test_an_extension_previews_what_was_pushed_without_a_database(self):
        keystore = delta.MemoryKeystore()
        alice, topic = await self.joined("alice")
        bob = await self.device("bob", keystore)
        await bob.init_sync(self.network.hops(), self.network.sync_url)
        await bob.open_topic(self.ticket)
        kept = await bob.subscribe(topic)
        await alice.publish(topic, delta.Content.PROFILE_SET(name="Alice"))
        sent = await alice.publish(topic, delta.Content.MESSAGE_SEND(text="pushed", mentions=[bob.author]))
        await self.until_texts(bob, topic, "pushed")
        sealed = await bob.key_snapshot()
        kept.cancel()
        await bob.close()
        base = self.network.sync_url.split("#")[0]
        url = f"{base}/topic/{topic.hex()}/ops"
        page = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(url).read()))
        envelopes = [base64.b64decode(op["data"]) for op in page["ops"]]
        self.assertEqual(len(envelopes), 2)

        # What a process of its own would do.
        snapshot = delta.KeySnapshot.open(sealed, keystore)
        # Packets overtake each other: the log may have the two in either order.
        previews = [delta.decrypt_push(envelope, snapshot) for envelope in envelopes]
        [preview] = [each for each in previews if each.said.is_MESSAGE()]
        self.assertEqual(sum(each.said.is_OTHER() for each in previews), 1)
        self.assertEqual((preview.topic, preview.operation, preview.author), (topic, sent, alice.author))
        self.assertEqual((preview.name, preview.said.text, preview.said.mentions), ("Alice", "pushed", True))
        self.assertEqual((preview.own, preview.may_write), (False, True))
        self.assertLess(abs(snapshot.taken_at() - datetime.now(timezone.utc)), timedelta(hours=1))
        for wrong, code in ((b"\x01" * 300, "push_needs_app"), (b"\x03" * 300, "push_no_key")):
            with self.assertRaises(delta.DeltaError.State) as refused:
                delta.decrypt_push(wrong, snapshot)
            self.assertEqual(refused.exception.code, code)
        with self.assertRaises(delta.DeltaError.Argument) as refused:
            delta.decrypt_push(envelopes[0][:-1], snapshot)
        self.assertEqual(refused.exception.code, "push_damaged")
        with self.assertRaises(delta.DeltaError.Keystore):
            delta.KeySnapshot.open(sealed, delta.MemoryKeystore())


if __name__ == "__main__":
    unittest.main()
