"""Documents, as an app uses them whose library merges what is written."""

import delta
from test_misuse import Offline

#: Most bytes of one part.
MOST = 768 * 1024


class Documents(Offline):
    async def test_documents_are_made_paged_and_written_to(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        second, first, other = [await device.create_document(topic, path) for path in ("notes/b", "notes/a", "todo")]
        self.assertEqual([each.path for each in await device.documents(topic)], ["notes/a", "notes/b", "todo"])
        [page] = await device.documents(topic, prefix="notes/", limit=1)
        self.assertEqual((page.id, page.path, page.author), (first, "notes/a", device.author))
        rest = await device.documents(topic, prefix="notes/", after=first)
        self.assertEqual([each.id for each in rest], [second])
        change = await device.write_document(topic, second, b"\x00\xff")
        snapshot = await device.write_document(topic, second, b"all of it", snapshot=True)
        parts = await device.document_parts(topic, second)
        self.assertEqual(
            [(part.id, part.author, part.snapshot, part.bytes) for part in parts],
            [(change, device.author, False, b"\x00\xff"), (snapshot, device.author, True, b"all of it")],
        )
        self.assertLess(parts[0].number, parts[1].number)
        self.assertEqual(await device.document_parts(topic, second, after=parts[0].number), parts[1:])
        self.assertEqual(await device.document_parts(topic, second, limit=1), parts[:1])
        self.assertEqual(await device.document_parts(topic, other), [])

    async def test_a_bad_path_and_a_part_that_is_too_large_are_refused(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        for path in ("", "a//b", "/a", "a/", "a" * 513):
            await self.refused(device.create_document(topic, path), delta.DeltaError.Argument, "content")
        document = await device.create_document(topic, "a" * 512)
        await self.refused(
            device.write_document(topic, document, bytes(MOST + 1)), delta.DeltaError.Argument, "content"
        )
        await device.write_document(topic, document, bytes(MOST))
        [part] = await device.document_parts(topic, document)
        self.assertEqual(len(part.bytes), MOST)

    async def test_a_change_names_the_document(self):
        device = await self.open()
        topic = await device.open_topic(delta.generate_ticket())
        subscription = await device.subscribe(topic)
        self.addCleanup(subscription.cancel)

        def names(document):
            change = (delta.ChangedKind.DOCUMENT, [document])
            return lambda event: event.is_CHANGED() and change in [(each.kind, each.ids) for each in event.changes]

        document = await device.create_document(topic, "notes")
        await self.until_heard(subscription.next_events, names(document))
        await device.write_document(topic, document, b"a change")
        await self.until_heard(subscription.next_events, names(document))
