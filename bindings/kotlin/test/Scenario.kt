package delta.test

import delta.ffi.DeltaException
import delta.ffi.LogLevel
import delta.ffi.LogSink
import delta.ffi.generateTicket
import java.util.concurrent.CopyOnWriteArrayList
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds
import kotlin.time.TimeSource
import kotlinx.coroutines.Job
import kotlinx.coroutines.async
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch

/** What every language runs, against real relays and a real sync server. */
fun scenario(network: Network): List<Test> = listOf(
    Test("two devices meet in a space, talk, go offline, come back, suspend, resume and close") {
        Folder().use { folder -> talk(network, folder) }
    },
    Test("follow gives each message once, in order") {
        Folder().use { folder ->
            val ticket = generateTicket()
            val (alice, topic) = folder.joined(network, "alice", ticket)
            val (bob, _) = folder.joined(network, "bob", ticket)
            val texts = List(20) { "line $it" }
            coroutineScope {
                val reading = async { bob.follow(topic).take(texts.size).map { it.text }.toList() }
                texts.forEach { alice.send(topic, it) }
                assertEquals<List<String?>>(texts, reading.await())
            }
        }
    },
    Test("follow waits while the device is suspended, and ends with it") {
        Folder().use { folder -> following(network, folder) }
    },
    Test("run once while suspended fetches, sends and goes back to sleep") {
        Folder().use { folder -> runOnce(network, folder) }
    },
    Test("run once ends within its deadline while nobody answers") {
        Folder().use { folder ->
            val (alice, _) = folder.joined(network, "alice", generateTicket())
            alice.suspend()
            network.halt()
            val start = TimeSource.Monotonic.markNow()
            val summary = try { alice.runOnce(3.seconds) } finally { network.goOn() }
            // The promise is what is checked here, not a speed.
            assertTrue(start.elapsedNow() < 3.seconds)
            assertFalse(summary.complete)
            assertEquals(1uL to 0uL, summary.topics to summary.caughtUp)
            assertEquals(0 to 0, holders(folder.database("alice")))
        }
    },
    Test("case_66 logs and errors show no key and no text") {
        Folder().use { folder -> quiet(network, folder) }
    },
)

private suspend fun talk(network: Network, folder: Folder) = coroutineScope {
    val heard = mutableListOf<Job>()
    val (first, second) = room(network, folder) { device, topic -> heard += launch { device.events(topic).collect {} } }
    val (alice, _, topic) = first
    val (bob, _, there) = second
    val sent = alice.send(topic, "hello")
    bob.untilTexts(there, "hello")
    val message = bob.messages(there).single()
    assertEquals(sent to alice.author, message.id to message.author)
    val answer = bob.send(there, "hello yourself")
    // Heard by herself, too: nothing of hers is on its way.
    alice.untilTexts(topic, "hello", "hello yourself")
    assertEquals(bob.author, alice.message(answer)?.author)
    // Offline: what is said meanwhile waits, and arrives once.
    network.halt()
    try {
        alice.networkChanged()
        val away = alice.send(topic, "while away")
        val outbox = alice.status(topic).outbox
        assertTrue(outbox.queued + outbox.sent >= 1uL, "$outbox")
        assertTrue(alice.outbox(topic).any { it.operation == away })
    } finally {
        network.goOn()
    }
    alice.networkChanged()
    bob.untilTexts(there, "hello", "hello yourself", "while away")
    // Suspended: nothing is held.
    alice.suspend()
    assertEquals(0 to 0, holders(folder.database("alice")))
    refused(DeltaException.State::class, "suspended") { alice.send(topic, "too late") }
    bob.send(there, "good night")
    alice.resume()
    assertTrue(holders(folder.database("alice")).first > 0)
    alice.untilTexts(topic, "hello", "hello yourself", "while away", "good night")
    alice.close()
    alice.shutdown()
    assertEquals(0 to 0, holders(folder.database("alice")))
    bob.close()
    // The flows end with their devices.
    heard.forEach { it.join() }
}

private suspend fun following(network: Network, folder: Folder) = coroutineScope {
    val ticket = generateTicket()
    val (alice, topic) = folder.joined(network, "alice", ticket)
    val (bob, _) = folder.joined(network, "bob", ticket)
    val texts = CopyOnWriteArrayList<String?>()
    val reading = launch { alice.follow(topic).collect { texts += it.text } }
    for ((number, text) in listOf("before", "meanwhile", "in between", "after").withIndex()) {
        if (number in 1..2) alice.suspend()
        bob.send(topic, text)
        // What a run receives is there for the loop after the device wakes.
        if (number == 2) alice.runOnce(PATIENCE_MS.milliseconds)
        if (number in 1..2) alice.resume()
        until { texts.size > number }
    }
    alice.shutdown()
    reading.join()
    assertEquals<List<String?>>(listOf("before", "meanwhile", "in between", "after"), texts)
}

private suspend fun runOnce(network: Network, folder: Folder) = coroutineScope {
    val ticket = generateTicket()
    val (alice, topic) = folder.joined(network, "alice", ticket)
    val (bob, _) = folder.joined(network, "bob", ticket)
    bob.send(topic, "queued on bob")
    bob.suspend()
    assertNotNull(bob.nextWakeupAt())
    alice.send(topic, "for bob")
    val hearing = launch { alice.events(topic).collect {} }
    until { alice.status(topic).outbox.run { queued + sent } == 0uL }
    val summary = bob.runOnce(PATIENCE_MS.milliseconds)
    assertTrue(summary.complete, "$summary")
    assertEquals(0 to 0, holders(folder.database("bob")))
    assertNull(bob.nextWakeupAt())
    alice.untilTexts(topic, "queued on bob", "for bob")
    hearing.cancel()
}

private suspend fun quiet(network: Network, folder: Folder) = coroutineScope {
    val lines = CopyOnWriteArrayList<String>()
    val sink = object : LogSink {
        override fun level() = LogLevel.TRACE
        override fun log(level: LogLevel, target: String, message: String) {
            lines += message
        }
    }
    val ticket = generateTicket()
    val device = folder.open("loud", log = sink)
    device.initSync(network.hops(), network.syncUrl)
    val topic = device.openTopic(ticket)
    // What a listener throws is the app's own text; that it failed is logged.
    val failing = device.subscribe(topic, object : delta.ffi.EventListener {
        override fun onEvent(event: delta.ffi.Event): Unit = error("a bug of the app")
    })
    device.send(topic, "a very private text")
    device.untilTexts(topic, "a very private text")
    until { lines.isNotEmpty() }
    val error = refused(DeltaException.Argument::class, "ticket") { device.openTopic(ticket.dropLast(1) + "!") }
    failing.cancel()
    device.close()
    val secret = checkNotNull(folder.keystore.get("delta.device")).copyOfRange(25, 57)
    assertEquals(32, secret.size)
    val said = lines.joinToString("\n") + error.stackTraceToString() + device + folder.keystore
    val hex = secret.joinToString("") { "%02x".format(it) }
    for (hidden in listOf(hex, secret.contentToString(), ticket, ticket.take(30), "a very private text")) {
        assertFalse(hidden in said)
    }
}
