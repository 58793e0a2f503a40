package delta.test

import delta.ffi.Config
import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.generateTicket
import delta.MemoryKeystore
import delta.OperationId
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import kotlin.test.assertEquals
import kotlin.test.assertNull

private const val PAGE = 50

/**
 * What the language costs: calls, a page of messages, an event. `cargo xtask bench bindings` runs it with the library as
 * it ships. Every figure is the median, and is printed only when all that was asked for came.
 */
suspend fun bench() = Folder().use { folder ->
    val config = Config(path = folder.database("device").path, mergeChangesMs = 0u)
    delta.Device.open(config, MemoryKeystore()).use { device ->
        val topic = device.openTopic(generateTicket())
        val texts = List(1000) { "message $it" }
        texts.forEach { device.send(topic, it) }
        val nobody = OperationId(ByteArray(32))
        // The JVM compiles what runs often: the first rounds do not count.
        report("a call that waits for nothing", timed(20_000) { assertEquals(32, device.author.bytes.size) })
        val base = report("a suspending call, empty answer", timed(6000) { assertNull(device.message(nobody)) })
        val fifty = report("a page of $PAGE messages", timed(1500) {
            val page = device.messages(topic, limit = PAGE.toUInt())
            assertEquals<List<String?>>(texts.takeLast(PAGE), page.map { it.text })
        })
        val heard = LinkedBlockingQueue<Pair<Long, Event>>()
        val subscription = device.subscribe(topic, object : EventListener {
            override fun onEvent(event: Event) {
                heard.add(System.nanoTime() to event)
            }
        })
        val samples = LongArray(300) { number ->
            val begun = System.nanoTime()
            val sent = device.send(topic, "event $number")
            var at: Long? = null
            while (at == null) {
                val (time, event) = checkNotNull(heard.poll(30, TimeUnit.SECONDS)) { "no event" }
                val changes = (event as? Event.Changed)?.changes.orEmpty()
                if (changes.any { change -> change.ids.any { it.contentEquals(sent.bytes) } }) at = time
            }
            // It is heard once the message is durable, as a rule before the call has returned.
            at - begun
        }
        report("from a publish to its event", samples)
        subscription.close()
        println("ratio %.2f (target ): a page of $PAGE messages / an empty call, Kotlin".format(fifty / base))
    }
}

/** Prints the median of nanoseconds as microseconds. */
private fun report(what: String, samples: LongArray): Double {
    val median = samples.sortedArray()[samples.size / 2] / 1000.0
    println("kotlin  %-36s p50 %9.1f µs  (${samples.size} samples)".format(what, median))
    return median
}

private inline fun timed(rounds: Int, call: () -> Unit): LongArray {
    val samples = LongArray(rounds) {
        val start = System.nanoTime()
        call()
        System.nanoTime() - start
    }
    return samples.copyOfRange(rounds / 2, rounds)
}
