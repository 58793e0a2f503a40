package delta.test

import delta.Id
import delta.MemoryKeystore
import delta.OperationId
import delta.TopicId
import delta.ffi.Content
import delta.ffi.DeltaException
import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.Keystore
import delta.ffi.KeystoreException
import delta.ffi.MessagePage
import delta.ffi.generateTicket
import delta.ffi.readOnlyTicket
import java.util.concurrent.Semaphore
import java.util.concurrent.atomic.AtomicInteger
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNotEquals
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.launch
import kotlinx.coroutines.runInterruptible
import kotlinx.coroutines.withContext

private val State = DeltaException.State::class
private val Argument = DeltaException.Argument::class

/** Everything an app can do wrong: typed errors, and nothing breaks. No network is needed. */
fun misuse(): List<Test> = listOf(
    Test("case_67 use after close is a typed error") {
        Folder().use { folder ->
            val device = folder.open()
            val topic = device.openTopic(generateTicket())
            device.close()
            val calls = listOf<suspend () -> Any?>(
                { device.send(topic, "late") }, { device.status(topic) }, { device.messages(topic) },
                { device.events(topic).first() }, { device.suspend() }, { device.resume() },
                { device.nextWakeupAt() }, { device.openTopic(generateTicket()) },
            )
            for (call in calls) refused(State, "closed", call)
            device.networkChanged()
            device.close()
        }
    },
    Test("case_67 a listener that throws stops nothing") { Folder().use { throwing(it) } },
    Test("case_67 cancelled and concurrent calls leave a whole log") { Folder().use { cancelled(it) } },
    Test("case_68 a keystore that denies is told and what is queued stays") { Folder().use { denied(it) } },
    Test("case_69 a second open is refused and a hot reload is not") {
        Folder().use { folder ->
            var device = folder.open()
            val error = refused(DeltaException.Device::class, "database_locked") { folder.open() }
            assertTrue("device.db" in error.message.orEmpty())
            val author = device.author
            repeat(5) {
                device.close()
                device = folder.open()
                assertEquals(author, device.author)
            }
        }
    },
    Test("case_69 a second process is refused") {
        Folder().use { folder ->
            folder.open()
            val java = ProcessHandle.current().info().command().get()
            val library = "-Djna.library.path=${System.getProperty("jna.library.path")}"
            val classes = System.getProperty("java.class.path")
            val command = listOf(java, library, "-classpath", classes, MAIN, OPEN, folder.database("device").path)
            val other = ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start()
            val said = withContext(Dispatchers.IO) { other.inputStream.bufferedReader().readText() }
            assertTrue("code=database_locked" in said, said)
        }
    },
    Test("two instances keep out of each other's way") {
        Folder().use { folder ->
            val (one, two) = folder.open("one") to folder.open("two", MemoryKeystore())
            val ticket = generateTicket()
            val topic = one.openTopic(ticket)
            assertNotEquals(one.author, two.author)
            one.send(topic, "only here")
            refused(State, "unknown_topic") { two.messages(topic) }
            one.close()
            assertEquals(topic, two.openTopic(ticket))
            assertEquals(emptyList(), two.messages(topic))
        }
    },
    Test("what cannot be used is refused before anything is written") {
        Folder().use { folder ->
            val device = folder.open()
            val topic = device.openTopic(generateTicket())
            refused(Argument, "ticket") { device.openTopic("no ticket") }
            refused(Argument, "id") { device.send(TopicId(ByteArray(3)), "x") }
            refused(State, "unknown_topic") { device.send(TopicId(ByteArray(32)), "x") }
            refused(Argument, "content") { device.send(topic, "x".repeat(64 * 1024 + 1)) }
            refused(Argument, "idempotency_key") { device.send(topic, "x", key = ByteArray(0)) }
            refused(State, "no_network") { device.runOnce(1.seconds) }
            val proxied = delta.ffi.Config(path = folder.database("proxied").path, proxy = "ftp://127.0.0.1:1")
            refused(Argument, "proxy") { delta.Device.open(proxied, MemoryKeystore()) }
            val secretive = proxied.copy(path = "a.db", proxy = "socks5://ada:p%40ss@127.0.0.1:1")
            assertEquals("Config(path: a.db, relays: 3, proxy: set)", "$secretive")
            val reader = device.openTopic(readOnlyTicket(generateTicket()))
            refused(State, "read_only") { device.send(reader, "x") }
            assertEquals(0uL, device.statistics().operations)
        }
    },
    Test("messages are edited, taken back, reacted to and paged") { Folder().use { paged(it) } },
    Test("ids are written as hex, and read from hex alone") {
        val id = TopicId(ByteArray(256) { it.toByte() })
        assertEquals(id.bytes.joinToString("") { "%02x".format(it) }, "$id")
        assertEquals(id, TopicId(Id.bytes("$id")))
        assertEquals(id, TopicId(Id.bytes("$id".uppercase())))
        for (wrong in listOf("0", "+f", "-1", " f", "0g", "٠١")) assertFailsWith<IllegalArgumentException> { Id.bytes(wrong) }
    },
)

const val OPEN = "--open"
private const val MAIN = "delta.test.MainKt"

/** What a process of its own does: it opens a database, and says why it cannot. */
suspend fun elsewhere(path: String) {
    val opened = runCatching { delta.Device.open(delta.ffi.Config(path = path), MemoryKeystore()).close() }
    println(opened.exceptionOrNull()?.message ?: "opened")
}

private suspend fun throwing(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    val (heard, calm) = Semaphore(0) to AtomicInteger()
    val throws = device.subscribe(topic, object : EventListener {
        override fun onEvent(event: Event) {
            // Errors, too, which Kotlin's `TODO()` throws.
            if (heard.apply { release() }.availablePermits() % 2 == 0) throw NotImplementedError("a bug of the app")
            throw IllegalStateException("a bug of the app")
        }
    })
    val counts = device.subscribe(topic, object : EventListener {
        override fun onEvent(event: Event) {
            if (event is Event.Changed) calm.incrementAndGet()
        }
    })
    repeat(3) {
        device.send(topic, "line $it")
        runInterruptible(Dispatchers.IO) { heard.acquire() }
    }
    until { calm.get() >= 1 }
    device.close()
    listOf(throws, counts).forEach { it.close() }
}

private suspend fun cancelled(folder: Folder) = coroutineScope {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    repeat(50) {
        val dropped = launch(start = CoroutineStart.UNDISPATCHED) { device.send(topic, "cancelled") }
        dropped.cancel()
        dropped.join()
    }
    val kept = withContext(Dispatchers.Default) {
        List(100) { async { device.send(topic, "kept $it") } }.awaitAll().toSet()
    }
    assertEquals(100, kept.size)
    val shown = device.messages(topic, limit = 1000u).map { it.id }.toSet()
    assertTrue(shown.containsAll(kept))
}

private suspend fun denied(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    device.send(topic, "queued")
    device.close()
    open class Locked : Keystore {
        override fun get(item: String): ByteArray? = throw KeystoreException.Denied("the phone is locked")
        override fun put(item: String, value: ByteArray): Unit = throw KeystoreException.Denied("the phone is locked")
        override fun delete(item: String) = throw KeystoreException.Denied("the phone is locked")
    }
    class Broken : Locked() {
        override fun get(item: String): ByteArray? = throw IllegalStateException("no such service")
    }
    refused(DeltaException.Keystore::class, "keystore_denied") { folder.open(keystore = Locked()) }
    // Errors, which are no exceptions: what was not kept must not pass for kept.
    class Linked : Locked() {
        override fun get(item: String): ByteArray? = null
        override fun put(item: String, value: ByteArray): Unit = throw NoClassDefFoundError("no such class")
    }
    refused(DeltaException.Keystore::class, "keystore_failed") { folder.open(keystore = Broken()) }
    refused(DeltaException.Keystore::class, "keystore_failed") { folder.open("other", Linked()) }
    val again = folder.open()
    assertFalse(again.renewed)
    assertEquals(1uL, again.status(topic).outbox.queued)
}

private suspend fun paged(folder: Folder) {
    val device = folder.open()
    val topic = device.openTopic(generateTicket())
    val ids = ArrayList<OperationId>()
    repeat(10) { ids += device.send(topic, "line $it") }
    device.publish(topic, Content.MessageEdit(ids[0], "corrected"))
    device.publish(topic, Content.MessageDelete(ids[1]))
    device.publish(topic, Content.ReactionAdd(ids[0], "👍"))
    val newest = device.messages(topic, limit = 4u)
    assertEquals(ids.subList(6, 10), newest.map { it.id })
    val before = device.messages(topic, MessagePage.Before(newest[0].position), 100u)
    assertEquals(ids.subList(0, 6), before.map { it.id })
    val after = device.messages(topic, MessagePage.After(before.last().position), 2u)
    assertEquals(ids.subList(6, 8), after.map { it.id })
    assertEquals(Triple("corrected", null, true), Triple(before[0].text, before[1].text, before[1].deleted))
    assertEquals("👍" to device.author, device.reactions(ids[0]).single().run { emoji to author })
}
