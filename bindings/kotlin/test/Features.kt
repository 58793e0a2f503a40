package delta.test

import delta.Author
import delta.Id
import delta.Identity
import delta.MemoryKeystore
import delta.OperationId
import delta.ThreadId
import delta.code
import delta.ffi.BlobState
import delta.ffi.Cancelled
import delta.ffi.ChangedKind
import delta.ffi.Connection
import delta.ffi.Content
import delta.ffi.DeltaException
import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.KeySnapshot
import delta.ffi.Level
import delta.ffi.MessagePage
import delta.ffi.OutboxState
import delta.ffi.PreviewSaid
import delta.ffi.RoomState
import delta.ffi.RoomText
import delta.ffi.SearchWords
import delta.ffi.SpaceAction
import delta.ffi.SpaceText
import delta.ffi.ThreadState
import delta.ffi.ValueKey
import delta.ffi.decryptPush
import delta.ffi.generateMnemonic
import delta.ffi.generateTicket
import delta.ffi.identityAddress
import delta.ffi.importMnemonic
import delta.ffi.mnemonicIdentity
import delta.ffi.parseAddress
import delta.ffi.readOnlyTicket
import delta.ffi.storedMnemonic
import delta.ffi.ticketFacts
import java.io.File
import java.net.URI
import java.time.Instant
import java.util.Base64
import java.util.concurrent.ConcurrentLinkedQueue
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertIs
import kotlin.test.assertNotEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue
import kotlinx.coroutines.Job
import kotlinx.coroutines.async
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.launch

private val State = DeltaException.State::class
private val Argument = DeltaException.Argument::class

/** Spaces, search, profiles, the outbox, storage, exports and previews, as an app uses them. */
fun features(network: Network): List<Test> = listOf(
    Test("features: search, history, profiles, read markers") { Folder().use { reading(it) } },
    Test("features: messages are paged by author and by mention") { Folder().use { paged(it) } },
    Test("features: a further device is paired and revoked") { Folder().use { paired(network, it) } },
    Test("features: values are put, paged and deleted") { Folder().use { values(it) } },
    Test("features: documents are made, paged and written to") { Folder().use { documents(it) } },
    Test("features: the outbox is listed, retried and taken back") { Folder().use { outbox(it) } },
    Test("features: a space is made, changed and audited") { Folder().use { space(it) } },
    Test("features: messages bring blobs along") { Folder().use { blobs(it) } },
    Test("features: what is wiped is gone") { Folder().use { wiped(it) } },
    Test("features: an export is imported with the words and another key") { Folder().use { exported(it) } },
    Test("features: whoever is invited is a member and can be written to") { Folder().use { invited(network, it) } },
    Test("features: whoever asks to join is seen and let in") { Folder().use { asking(network, it) } },
    Test("features: a signal reaches who listens now") { Folder().use { signalled(network, it) } },
    Test("features: a ticket says what it is for") { tickets() },
    Test("features: two people talk in a direct thread") { Folder().use { direct(network, it) } },
    Test("features: an extension previews what was pushed") { Folder().use { previewed(network, it) } },
)

private fun tickets() {
    for (public in listOf(false, true)) {
        val ticket = generateTicket(public)
        val (facts, reader) = ticketFacts(ticket) to ticketFacts(readOnlyTicket(ticket))
        assertEquals(Triple(public, true, false), Triple(facts.public, facts.canWrite, reader.canWrite))
        assertEquals(facts.topic to facts.log, reader.topic to reader.log)
    }
}

private suspend fun reading(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    val first = device.send(topic, "the quick brown fox")
    device.publish(topic, Content.MessageEdit(first, "the slow brown fox"))
    assertEquals(listOf("the quick brown fox", "the slow brown fox"), device.messageHistory(first).map { it.text })
    val found = device.search(SearchWords("BROWN slow", topic)).single()
    assertEquals(first, found.message.id)
    assertEquals(emptyList(), device.search(SearchWords("quick")))
    device.publish(topic, Content.ProfileSet("Ada", "writes"))
    assertEquals("Ada" to "writes", device.profile(topic, device.author)?.run { name to bio })
    assertEquals(1, device.profiles(device.author).size)
    assertEquals(0uL to 0uL, device.unread(topic).run { messages to mentions })
    device.setRead(topic, device.messages(topic).last().position)
}

private suspend fun paged(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    val somebody = Author(Id.bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    val ids = List(3) { device.send(topic, "word $it", mentions = listOf(somebody)) }
    val by = device.messagesBy(topic, device.author, limit = 2u)
    assertEquals(ids.drop(1), by.map { it.id })
    val earlier = device.messagesBy(topic, device.author, MessagePage.Before(by[0].position))
    assertEquals(ids.take(1), earlier.map { it.id })
    // No server has them: they were received at no time.
    assertEquals(emptyList(), device.messagesBy(topic, device.author, since = Instant.EPOCH))
    assertEquals(emptyList(), device.messagesReceived(topic).messages)
    val mentions = device.mentions(somebody, limit = 2u)
    assertEquals(ids.drop(1).reversed(), mentions.map { it.message.id })
    assertEquals(ids[0], device.mentions(somebody, topic, before = mentions.last().arrival).single().message.id)
    val found = device.search(SearchWords("word"), limit = 1u).single()
    assertEquals(2, device.search(SearchWords("word", before = found.arrival)).size)
    device.setReadKey(topic, ByteArray(32))
    device.setReadKey(topic)
    refused(Argument, "id") { device.setReadKey(topic, ByteArray(31)) }
    val made = device.createSpace(SpaceText("Paged"))
    repeat(3) { device.createRoom(made.log, RoomText("Room $it")) }
    val lines = device.auditLog(made.log)
    val one = device.auditLog(made.log, 1u)
    assertEquals(lines.drop(1), device.auditLog(made.log, before = one.single().place))
    val members = device.members(made.log, 1u)
    assertEquals(emptyList(), device.members(made.log, after = members.single().member))
}

private suspend fun paired(network: Network, folder: Folder) {
    val words = generateMnemonic()
    importMnemonic(folder.keystore, words)
    val (old, new) = folder.open("old") to folder.open("new", MemoryKeystore())
    for (device in listOf(old, new)) device.initSync(network.hops(), network.syncUrl)
    val topic = old.openTopic(generateTicket())
    val unwanted = old.pair()
    val turned = new.join(unwanted.text())
    val asks = unwanted.asked()
    asks.refuse()
    asks.refuse()
    refused(State, "pairing_expired") { asks.accept() }
    refused(State, "pairing_refused") { turned.joined() }
    val host = old.pair()
    val guest = new.join(host.text())
    val request = host.asked()
    assertEquals(new.author to guest.code(), request.device() to request.code())
    request.accept()
    refused(State, "pairing_expired") { request.refuse() }
    assertEquals(mnemonicIdentity(words), guest.joined())
    assertEquals(mnemonicIdentity(words), new.identity())
    assertTrue(topic in new.topics())
    old.revokeDevice(new.author)
    assertEquals(listOf(new.author), old.ownDevices().filter { it.revoked }.map { it.device })
    val other = old.pair()
    other.cancel()
    refused(State, "pairing_expired") { other.asked() }
    refused(Argument, "pairing") { new.join("no text") }
}

private suspend fun direct(network: Network, folder: Folder) {
    val (alice, bob) = folder.open("alice", MemoryKeystore()) to folder.open("bob", MemoryKeystore())
    for (device in listOf(alice, bob)) device.initSync(network.hops(), network.syncUrl)
    val thread = alice.requestDirect(bob.contact(), "may I?")
    assertEquals(listOf(ThreadState.ASKED to bob.author), alice.directThreads().map { it.state to it.peer })
    until { bob.directThreads().any { it.state == ThreadState.REQUESTED } }
    val request = bob.directThreads().single()
    assertEquals(Triple(thread, alice.author, "may I?"), request.run { Triple(this.thread, peer, text) })
    val there = bob.acceptDirect(thread)
    until { alice.directThreads().any { it.state == ThreadState.OPEN } }
    val here = checkNotNull(alice.directThreads().single().topic)
    coroutineScope {
        val heard = listOf(launch { alice.events(here).collect {} }, launch { bob.events(there).collect {} })
        bob.sendDirect(thread, Content.MessageSend("of course", null, emptyList()))
        alice.untilTexts(here, "of course")
        alice.sendDirect(thread, Content.MessageSend("thank you", null, emptyList()))
        bob.untilTexts(there, "of course", "thank you")
        heard.forEach { it.cancel() }
    }
    alice.closeDirect(thread)
    refused(State, "thread_state") { alice.sendDirect(thread, Content.MessageSend("too late", null, emptyList())) }
    refused(Argument, "contact") { alice.requestDirect("no contact") }
    refused(State, "unknown_thread") { alice.acceptDirect(ThreadId(ByteArray(32))) }
}

private suspend fun values(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    for (key in listOf("b", "a", "ab")) device.putValue(topic, ValueKey("settings", key), key.toByteArray())
    assertEquals(listOf("a", "ab", "b"), device.values(topic, "settings").map { String(it.value) })
    assertEquals(listOf("ab"), device.values(topic, "settings", prefix = "a", after = "a").map { it.at.key })
    device.deleteValue(topic, ValueKey("settings", "b"))
    assertNull(device.value(topic, ValueKey("settings", "b")))
    assertEquals(device.author, device.value(topic, ValueKey("settings", "a"))?.author)
}

private suspend fun documents(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    val news = ConcurrentLinkedQueue<Event>()
    val heard = device.subscribe(topic, object : EventListener {
        override fun onEvent(event: Event) {
            news += event
        }
    })
    val (second, first, other) = listOf("notes/b", "notes/a", "todo").map { device.createDocument(topic, it) }
    assertEquals(listOf("notes/a", "notes/b", "todo"), device.documents(topic).map { it.path })
    val page = device.documents(topic, prefix = "notes/", limit = 1u).single()
    assertEquals(listOf<Any>(first, "notes/a", device.author), listOf(page.id, page.path, page.author))
    assertEquals(listOf(second), device.documents(topic, prefix = "notes/", after = first).map { it.id })
    val change = device.writeDocument(topic, second, byteArrayOf(0, -1))
    val snapshot = device.writeDocument(topic, second, "all of it".toByteArray(), snapshot = true)
    val parts = device.documentParts(topic, second)
    assertEquals(listOf(change to false, snapshot to true), parts.map { it.id to it.snapshot })
    assertContentEquals(byteArrayOf(0, -1), parts[0].bytes)
    val rest = device.documentParts(topic, second, after = parts[0].number).single()
    assertEquals(listOf<Any>(snapshot, device.author, "all of it"), listOf(rest.id, rest.author, String(rest.bytes)))
    assertTrue(rest.number > parts[0].number)
    assertEquals(listOf(change), device.documentParts(topic, second, limit = 1u).map { it.id })
    assertEquals(emptyList(), device.documentParts(topic, other))
    refused(Argument, "content") { device.createDocument(topic, "a//b") }
    refused(Argument, "content") { device.writeDocument(topic, first, ByteArray(768 * 1024 + 1)) }
    device.writeDocument(topic, first, ByteArray(768 * 1024))
    until {
        val changes = news.filterIsInstance<Event.Changed>().flatMap { it.changes }
        val ids = changes.filter { it.kind == ChangedKind.DOCUMENT }.flatMap { it.ids }
        ids.map(::OperationId).toSet() == setOf(first, second, other)
    }
    heard.close()
}

private suspend fun outbox(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    val ids = listOf("one", "two", "three").map { device.send(topic, it) }
    val rows = device.outbox(topic)
    assertEquals(ids, rows.map { it.operation })
    assertTrue(rows.all { it.own && it.tries == 0u && it.state is OutboxState.Queued })
    assertEquals(ids[2], device.outbox(topic, after = rows[1].row).single().operation)
    assertEquals(0uL, device.retry(topic))
    assertIs<Cancelled.Removed>(device.cancel(topic, ids[2]))
    assertIs<Cancelled.Deleted>(device.cancel(topic, ids[0]))
    assertEquals(listOf(null, "two"), device.messages(topic).map { it.text })
}

private suspend fun space(folder: Folder) {
    val device = folder.open()
    val made = device.createSpace(SpaceText("Allotment", description = "All who dig"))
    val room = device.createRoom(made.log, RoomText("Seeds"))
    assertEquals("All who dig", device.space(made.log)?.about?.description)
    assertEquals(listOf("Allotment" to made.topic), device.spaces().map { it.about.name to it.topic })
    assertEquals(listOf(room.log to room.topic), device.rooms(made.log).map { it.room to it.topic })
    // Without words a device is a person of its own.
    val own = device.person(made.topic, device.author)
    assertEquals(Identity(device.author.bytes), own)
    val other = Identity(Id.bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    device.changeSpace(made.log, SpaceAction.Add(other, Level.READ))
    device.changeSpace(made.log, SpaceAction.Promote(other, Level.WRITE))
    val levels = device.members(made.log).associate { it.member to it.level }
    assertEquals(mapOf(own to Level.MANAGE, other to Level.WRITE), levels)
    device.changeSpace(made.log, SpaceAction.Ban(other, "weeds"))
    assertTrue(device.members(made.log).first { it.member == other }.run { banned && level == null })
    device.changeSpace(made.log, SpaceAction.ArchiveRoom(room.log))
    assertEquals(RoomState.ARCHIVED, device.rooms(made.log).single().state)
    val kinds = listOf("room.archive", "member.ban", "member.promote", "member.add", "room.create", "space.create")
    assertEquals(kinds, device.auditLog(made.log).map { it.kind })
    val text = device.createInvitation(made.log, Level.WRITE, Instant.now().plusSeconds(86_400), once = true)
    val invitation = device.invitations(made.log).single()
    assertTrue(invitation.once && !invitation.used && invitation.expires != null)
    device.changeSpace(made.log, SpaceAction.RevokeInvitation(invitation.id))
    assertEquals(emptyList(), device.invitations(made.log))
    assertEquals(emptyList(), device.joinRequests(made.log))
    refused(Argument, "invitation") { device.acceptInvitation(text.dropLast(1)) }
    refused(State, "not_allowed") { device.changeSpace(made.log, SpaceAction.Add(own, Level.READ)) }
}

private suspend fun blobs(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    // Two chunks.
    val bytes = ByteArray(256_001) { (it * 31).toByte() }
    val from = folder.folder.resolve("from.bin").apply { writeBytes(bytes) }
    val (file, small) = device.attach(from, "image/png") to device.attach(byteArrayOf(7), "text/plain")
    assertTrue(from.delete())
    val sent = device.send(topic, "look", attachments = listOf(file, small))
    device.publish(topic, Content.BlobShare(small))
    val about = device.message(sent)!!.attachments
    assertEquals(listOf(file to "from.bin", small to null), about.map { it.blob to it.name })
    assertEquals(listOf("image/png" to 256_001uL, "text/plain" to 1uL), about.map { it.mime to it.size })
    val status = device.blobStatus(file)
    assertEquals(listOf(BlobState.SENDING, 0u, 2u), listOf(status.state, status.have, status.of))
    device.fetchBlob(file)
    val to = folder.folder.resolve("to.bin")
    device.writeBlob(file, to)
    assertTrue(bytes.contentEquals(to.readBytes()))
    assertTrue(byteArrayOf(7).contentEquals(device.blobBytes(small)))
    device.dropBlob(file)
    assertEquals(BlobState.ABSENT, device.blobStatus(file).state)
    refused(State, "blob_not_here") { device.blobBytes(file) }
    device.publish(topic, Content.MessageDelete(sent))
    assertEquals(emptyList(), device.message(sent)!!.attachments)
    refused(State, "unknown_blob") { device.fetchBlob(file) }
    refused(Argument, "content") { device.attach(byteArrayOf(), "x".repeat(128)) }
    refused(DeltaException.Device::class, "io") { device.attach(from, "text/plain") }
    device.shutdown()
}

private suspend fun wiped(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    device.send(topic, "gone soon")
    assertEquals(listOf(topic to 1uL), device.storageUse().topics.map { it.topic to it.operations })
    assertEquals(0uL, device.prune(topic, Instant.now()))
    device.wipeTopic(topic)
    refused(State, "unknown_topic") { device.messages(topic) }
    device.wipe()
    assertEquals(emptyList(), folder.folder.list().orEmpty().toList())
    assertNull(folder.keystore.get("delta.device"))
    refused(State, "closed") { device.topics() }
}

private suspend fun exported(folder: Folder) {
    val words = generateMnemonic()
    importMnemonic(folder.keystore, words)
    val identity = mnemonicIdentity(words)
    assertEquals(identity, parseAddress(" ${identityAddress(identity)}\n"))
    refused(Argument, "address") { parseAddress("pk:x") }
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    device.send(topic, "never left")
    val (file, keystore) = File(folder.folder, "export") to MemoryKeystore()
    device.export(file, "a passphrase", words)
    val config = delta.ffi.Config(path = folder.database("copy").path)
    refused(Argument, "export_passphrase") { delta.Device.importFrom(file, "another", config, keystore) }
    val copy = delta.Device.importFrom(file, "a passphrase", config, keystore)
    copy.use {
        // What never left is the old device's to send: its key is not in the export.
        assertEquals(listOf(topic) to emptyList(), it.topics() to it.messages(topic))
        assertTrue(it.renewed)
        assertNotEquals(device.author, it.author)
    }
    assertEquals(words, storedMnemonic(keystore))
}

private suspend fun invited(network: Network, folder: Folder) = coroutineScope {
    val heard = mutableListOf<Job>()
    val (first, second) = room(network, folder) { device, topic -> heard += launch { device.events(topic).collect {} } }
    val (alice, space) = first
    val bob = second.device
    val levels = alice.members(space).associate { it.member to it.level }
    assertEquals(mapOf(alice.identity() to Level.MANAGE, bob.identity() to Level.WRITE), levels)
    // Who has no words is a person of its own, with no device to tell of.
    assertEquals(emptyList(), alice.spaceDevices(space).filter { it.revoked })
    // Where the other is written to is said by its keys, which may be on their way.
    until {
        val asked = runCatching { bob.requestDirectOf(alice.author, "a word") }
        asked.exceptionOrNull()?.let { assertEquals("not_reachable", (it as DeltaException).code) }
        asked.isSuccess
    }
    until { alice.directThreads().any { it.peer == bob.author && it.text == "a word" } }
    heard.forEach { it.cancel() }
}

private suspend fun asking(network: Network, folder: Folder) = coroutineScope {
    val (alice, bob) = folder.open("alice", MemoryKeystore()) to folder.open("bob", MemoryKeystore())
    for (device in listOf(alice, bob)) device.initSync(network.hops(), network.syncUrl)
    val made = alice.createSpace(SpaceText("Kitchen"))
    val hearing = launch { alice.events(made.topic).collect {} }
    assertTrue(alice.openInbox() != made.topic)
    val asked = bob.requestJoin(made.log, alice.contact(), "may I?")
    until { alice.joinRequests(made.log).isNotEmpty() }
    val request = alice.joinRequests(made.log).single()
    assertEquals(Triple(asked, bob.author, "may I?"), request.run { Triple(id, author, text) })
    alice.changeSpace(made.log, SpaceAction.Add(bob.identity(), Level.READ))
    assertEquals(Level.READ, alice.members(made.log).single { it.member == bob.identity() }.level)
    refused(Argument, "contact") { bob.requestJoin(made.log, "no contact") }
    hearing.cancel()
}

private suspend fun signalled(network: Network, folder: Folder) = coroutineScope {
    val ticket = generateTicket()
    val (alice, topic) = folder.joined(network, "alice", ticket)
    val (bob, _) = folder.joined(network, "bob", ticket)
    val heard = async { bob.events(topic).filterIsInstance<Event.Signal>().first() }
    until { bob.status(topic).connection == Connection.LIVE }
    alice.signal(topic, "typing".toByteArray())
    assertEquals(alice.author to "typing", heard.await().run { author to String(bytes) })
    assertEquals(emptyList(), bob.messages(topic))
    refused(Argument, "signal") { alice.signal(topic, ByteArray(0)) }
    Unit
}

private suspend fun previewed(network: Network, folder: Folder) = coroutineScope {
    val (ticket, keystore) = generateTicket() to MemoryKeystore()
    val (alice, topic) = folder.joined(network, "alice", ticket)
    val bob = folder.open("bob", keystore)
    bob.initSync(network.hops(), network.syncUrl)
    bob.openTopic(ticket)
    val hearing = launch { bob.events(topic).collect {} }
    alice.publish(topic, Content.ProfileSet("Alice"))
    val sent = alice.publish(topic, Content.MessageSend("pushed", null, listOf(bob.author)))
    bob.untilTexts(topic, "pushed")
    val sealed = bob.keySnapshot()
    hearing.cancel()
    bob.close()
    val page = URI("${network.syncUrl.substringBefore('#')}/topic/$topic/ops").toURL().readText()
    val envelopes = Regex("\"data\":\"([^\"]*)\"").findAll(page).map { Base64.getDecoder().decode(it.groupValues[1]) }

    // What a process of its own would do.
    KeySnapshot.open(sealed, keystore).use { snapshot ->
        assertTrue(snapshot.takenAt() > Instant.now().minusSeconds(3600))
        // Packets overtake each other: the log may have the two in either order.
        val (messages, others) = envelopes.map { decryptPush(it, snapshot) }.partition { it.said is PreviewSaid.Message }
        assertIs<PreviewSaid.Other>(others.single().said)
        val preview = messages.single()
        assertEquals(PreviewSaid.Message("pushed", true), preview.said)
        assertEquals(Triple(topic, sent, alice.author), Triple(preview.topic, preview.operation, preview.author))
        assertEquals("Alice", preview.name)
        assertTrue(preview.mayWrite)
        assertFalse(preview.own)
        refused(State, "push_needs_app") { decryptPush(ByteArray(300) { 1 }, snapshot) }
        refused(State, "push_no_key") { decryptPush(ByteArray(300) { 3 }, snapshot) }
    }
    refused(DeltaException.Keystore::class, "keystore_failed") { KeySnapshot.open(sealed, MemoryKeystore()) }
    Unit
}
