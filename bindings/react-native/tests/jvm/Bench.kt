package delta.reactnative.test

import com.facebook.react.bridge.Promise
import com.facebook.react.bridge.ReactApplicationContext
import com.facebook.react.bridge.ReadableMap
import com.facebook.react.bridge.WritableNativeArray
import com.facebook.react.bridge.WritableNativeMap
import delta.MemoryKeystore
import delta.reactnative.DeltaModule
import java.nio.file.Files
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import kotlin.coroutines.resume
import kotlin.coroutines.resumeWithException
import kotlin.coroutines.suspendCoroutine
import kotlinx.coroutines.runBlocking

private const val PAGE = 50

/**
 * What the Android module adds to Kotlin, on the JVM: from a call on it to the values that React Native would hand to
 * JavaScript, and from a publish to its event. What React Native itself takes is not in it: there is no JSI here, and no
 * phone. `cargo xtask bench bindings` runs it. Every figure is the median, and is printed only when all that was asked for came.
 */
fun bench(): Unit = runBlocking {
    val folder = Files.createTempDirectory("delta").toFile()
    val heard = LinkedBlockingQueue<Pair<Long, Map<String, Any?>>>()
    val module = DeltaModule(ReactApplicationContext(folder)) { MemoryKeystore() }
    module.setEventEmitterCallback { (_, event) -> heard.add(System.nanoTime() to (event as ReadableMap).toHashMap()) }
    val config = WritableNativeMap(mapOf("name" to "bench", "mergeChangesMs" to 0.0))
    val device = (asked { module.open(config, null, it) } as ReadableMap).toHashMap().getValue("device") as Double
    val ticket = asked { module.generateTicket(false, it) } as String
    val topic = asked { module.openTopic(device, ticket, it) } as String
    suspend fun send(text: String): String {
        val content = WritableNativeMap(mapOf("kind" to "messageSend", "text" to text, "mentions" to emptyList<String>()))
        return asked { module.publish(device, topic, content, null, it) } as String
    }
    val texts = List(1000) { "message $it" }
    texts.forEach { send(it) }
    val nobody = "00".repeat(32)
    val newest = WritableNativeMap(mapOf("kind" to "newest"))
    val base = report("a call with an empty answer", timed(6000) {
        check(asked { module.message(device, nobody, it) } == null)
    })
    val fifty = report("a page of $PAGE messages", timed(1500) {
        val page = asked { module.messages(device, topic, newest, PAGE.toDouble(), it) } as WritableNativeArray
        check(page.items.map { (it as Map<*, *>)["text"] } == texts.takeLast(PAGE)) { "a page lacks messages" }
    })
    asked { module.subscribe(device, topic, it) }
    val samples = LongArray(300) { number ->
        val begun = System.nanoTime()
        val sent = send("event $number")
        var at: Long? = null
        while (at == null) {
            val (time, event) = checkNotNull(heard.poll(30, TimeUnit.SECONDS)) { "no event" }
            val changes = event["changes"] as? List<*> ?: emptyList<Any>()
            if (changes.any { change -> sent in (change as Map<*, *>)["ids"] as List<*> }) at = time
        }
        at - begun
    }
    report("from a publish to its event", samples)
    module.invalidate()
    folder.deleteRecursively()
    println("ratio %.2f (target ): a page of $PAGE messages / an empty call, React Native's Android module".format(fifty / base))
}

private suspend fun asked(call: (Promise) -> Unit): Any? = suspendCoroutine { waiting ->
    call(Answer { well, value -> if (well) waiting.resume(value) else waiting.resumeWithException(Exception("$value")) })
}

/** Prints the median of nanoseconds as microseconds. */
private fun report(what: String, samples: LongArray): Double {
    val median = samples.sortedArray()[samples.size / 2] / 1000.0
    println("rn-jvm  %-36s p50 %9.1f µs  (${samples.size} samples)".format(what, median))
    return median
}

/** The first half is for the JVM's compiler. */
private suspend fun timed(rounds: Int, call: suspend () -> Unit): LongArray {
    val samples = LongArray(rounds)
    for (round in 0 until rounds) {
        val begun = System.nanoTime()
        call()
        samples[round] = System.nanoTime() - begun
    }
    return samples.copyOfRange(rounds / 2, rounds)
}
