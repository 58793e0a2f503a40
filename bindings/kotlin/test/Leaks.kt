package delta.test

import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.generateTicket
import java.io.File
import kotlin.test.assertTrue
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.onStart

/** Cycles, and how many come before the first look: the JVM, allocators and SQLite fill their caches first. */
private const val CYCLES = 10_000
private const val WARM_UP = 4_000

/** Looks after the warm-up: what leaks grows from each to the next, what fills a cache does not. */
private const val LOOKS = 3

/** What resident memory may have grown by at the end: the heap is resident from the start (see xtask). */
private const val ALLOWED_KIB = 8 * 1024

/** Ten thousand cycles of what an app does all day: memory, threads and files stay where they were. */
fun leaks(): List<Test> = listOf(
    Test("leaks: subscribe and cancel", LEAKS_MS) {
        Folder().use { folder ->
            val device = folder.open()
            val topic = device.openTopic(generateTicket())
            val nothing = object : EventListener {
                override fun onEvent(event: Event) = Unit
            }
            cycles("subscribe and cancel") {
                device.subscribe(topic, nothing).use { it.cancel() }
            }
        }
    },
    Test("leaks: open and close", LEAKS_MS) {
        Folder().use { folder ->
            val config = delta.ffi.Config(path = folder.database("device").path, workers = 1u)
            cycles("open and close") { delta.Device.open(config, folder.keystore).close() }
        }
    },
)

private suspend fun cycles(name: String, cycle: suspend () -> Unit) {
    repeat(WARM_UP) { cycle() }
    val before = held()
    val looks = List(LOOKS) {
        repeat((CYCLES - WARM_UP) / LOOKS) { cycle() }
        held()
    }
    val after = looks.last()
    println("$name: $CYCLES cycles, memory ${before.kib} -> ${looks.joinToString { it.kib.toString() }} KiB")
    assertTrue(after.kib - before.kib < ALLOWED_KIB, "memory grew from ${before.kib} to ${after.kib} KiB")
    assertTrue(after.threads <= before.threads + 8, "threads: ${before.threads}, then ${after.threads}")
    assertTrue(after.files <= before.files + 8, "files: ${before.files}, then ${after.files}")
}

private data class Held(val kib: Int, val threads: Int, val files: Int)

/** proc_pid_status(5) */
private fun held(): Held {
    repeat(3) {
        System.gc()
        Thread.sleep(100)
    }
    val memory = File("/proc/self/status").readLines().first { it.startsWith("VmRSS:") }
    val count = { folder: String -> File(folder).list().orEmpty().size }
    return Held(memory.filter(Char::isDigit).toInt(), count("/proc/self/task"), count("/proc/self/fd"))
}
