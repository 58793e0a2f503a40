package delta.test

import java.lang.System.err
import kotlin.system.exitProcess
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout

/** Reaching it is a failure, never a pass. */
const val PATIENCE_MS = 120_000L
const val LEAKS_MS = 1_500_000L

/** Runs the tests whose name holds the argument, one after the other; says how each ended. */
fun main(arguments: Array<String>) {
    if (arguments.contentEquals(arrayOf("--bench"))) {
        runBlocking { bench() }
        exitProcess(0)
    }
    if (arguments.firstOrNull() == OPEN) {
        runBlocking { elsewhere(arguments[1]) }
        exitProcess(0)
    }
    val network = Network()
    var failed = 0
    try {
        val tests = scenario(network) + features(network) + misuse() + onion() + leaks()
        for ((name, patience, test) in tests.filter { test -> arguments.all { it in test.name } }) {
            val why = runCatching { runBlocking { withTimeout(patience) { test() } } }.exceptionOrNull()
            println("$name ... ${if (why == null) "ok" else "FAILED"}")
            why?.printStackTrace(err)
            if (why != null) failed += 1
        }
    } finally {
        network.close()
    }
    println(if (failed == 0) "OK" else "$failed failed")
    exitProcess(if (failed == 0) 0 else 1)
}

/** One test. */
data class Test(val name: String, val patience: Long = PATIENCE_MS, val body: suspend () -> Unit)
