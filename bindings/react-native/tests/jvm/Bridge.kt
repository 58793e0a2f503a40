package delta.reactnative.test

import com.facebook.react.bridge.Promise
import com.facebook.react.bridge.ReactApplicationContext
import com.facebook.react.bridge.ReadableMap
import com.facebook.react.bridge.WritableMap
import com.facebook.react.bridge.WritableNativeArray
import com.facebook.react.bridge.WritableNativeMap
import delta.MemoryKeystore
import delta.ffi.Keystore
import delta.ffi.KeystoreException
import delta.reactnative.DeltaModule
import java.io.File
import java.lang.reflect.Method
import java.util.concurrent.ConcurrentHashMap

/**
 * The Android module behind a pipe: a line `[number, "method", arguments]` in, `[number, true, value]` or
 * `[number, false, {code, message, userInfo}]` out, and `[0, true, event]` for events, `[0, false, line]` for log lines. The line `[n, "invalidate", []]`
 * does what a reload does: the module goes, and a new one is there. With `--keystores` it tests the keystore instead, with
 * `--bench` it measures.
 */
fun main(arguments: Array<String>) {
    if (arguments[0] == "--keystores") return keystores()
    if (arguments[0] == "--bench") return bench()
    val keystores = ConcurrentHashMap<String, MemoryKeystore>()
    val context = ReactApplicationContext(File(arguments[0]))
    val make = {
        val keystore = { place: File ->
            if (place.name.startsWith("locked")) Locked else keystores.computeIfAbsent(place.name) { MemoryKeystore() }
        }
        DeltaModule(context, keystore).also { made ->
            made.setEventEmitterCallback { (name, event) -> say(listOf(0.0, name == "onEvent", event)) }
        }
    }
    var module = make()
    for (line in generateSequence(::readLine)) {
        val (number, name, passed) = Json(line).value() as List<*>
        if (name == "invalidate") {
            module.invalidate()
            module = make()
            say(listOf(number, true, null))
            continue
        }
        val method = DeltaModule::class.java.methods.first { it.name == name && !it.isBridge }
        call(module, method, passed as List<*>, number)
    }
    module.invalidate()
}

/** That of a phone which nobody unlocked. */
private object Locked : Keystore {
    override fun get(item: String): ByteArray? = throw KeystoreException.Denied("the phone is locked")
    override fun put(item: String, value: ByteArray) = throw KeystoreException.Denied("the phone is locked")
    override fun delete(item: String) = throw KeystoreException.Denied("the phone is locked")
}

private fun call(module: DeltaModule, method: Method, passed: List<*>, number: Any?) {
    val promised = method.parameterTypes.lastOrNull() == Promise::class.java
    @Suppress("UNCHECKED_CAST")
    val values = passed.map { if (it is Map<*, *>) WritableNativeMap(it as Map<String, Any?>) else it }
    val answer = Answer { well, value -> say(listOf(number, well, value)) }
    method.invoke(module, *(if (promised) values + answer else values).toTypedArray())
    if (!promised) say(listOf(number, true, null))
}

/** Tells whether the call went well, with its value or why not. */
internal class Answer(private val told: (Boolean, Any?) -> Unit) : Promise {
    override fun resolve(value: Any?) = told(true, value)

    override fun reject(code: String?, message: String?, throwable: Throwable?, userInfo: WritableMap?) =
        told(false, mapOf("code" to code, "message" to message, "userInfo" to userInfo))

    override fun reject(code: String, message: String?) = reject(code, message, null, null)
    override fun reject(code: String, throwable: Throwable?) = reject(code, null, throwable, null)
    override fun reject(code: String, message: String?, throwable: Throwable?) = reject(code, message, throwable, null)
    override fun reject(throwable: Throwable) = reject(null, null, throwable, null)
    override fun reject(throwable: Throwable, userInfo: WritableMap) = reject(null, null, throwable, userInfo)
    override fun reject(code: String, userInfo: WritableMap) = reject(code, null, null, userInfo)
    override fun reject(code: String, throwable: Throwable?, userInfo: WritableMap) =
        reject(code, null, throwable, userInfo)
    override fun reject(code: String, message: String?, userInfo: WritableMap) = reject(code, message, null, userInfo)

    @Deprecated("as in the interface")
    override fun reject(message: String) = reject(null, message, null, null)
}

@Synchronized
private fun say(value: Any?) {
    println(json(value))
    System.out.flush()
}

private fun json(value: Any?): String = when (value) {
    null -> "null"
    is String -> value.asSequence().joinToString("", "\"", "\"") {
        if (it < ' ' || it == '"' || it == '\\') "\\u%04x".format(it.code) else "$it"
    }
    is ReadableMap -> json(value.toHashMap())
    is Map<*, *> -> value.entries.joinToString(",", "{", "}") { json(it.key) + ":" + json(it.value) }
    is WritableNativeArray -> json(value.items)
    is List<*> -> value.joinToString(",", "[", "]") { json(it) }
    else -> "$value"
}

/** JSON as JavaScript writes it: no blanks. */
private class Json(private val text: String) {
    private var at = 0

    fun value(): Any? = when (text[at]) {
        '{' -> members('}') { (value() as String).also { at += 1 } to value() }.toMap()
        '[' -> members(']') { value() }
        '"' -> string()
        else -> word()
    }

    private fun <T> members(close: Char, member: () -> T): List<T> {
        val members = ArrayList<T>()
        at += 1
        while (text[at] != close) {
            if (members.isNotEmpty()) at += 1
            members += member()
        }
        at += 1
        return members
    }

    private fun string(): String = buildString {
        at += 1
        while (text[at] != '"') {
            if (text[at] == '\\') append(escaped()) else append(text[at])
            at += 1
        }
        at += 1
    }

    private fun escaped(): Char {
        at += 1
        return when (val mark = text[at]) {
            'n' -> '\n'
            't' -> '\t'
            'r' -> '\r'
            'b' -> '\b'
            'f' -> '\u000c'
            'u' -> text.substring(at + 1, at + 5).toInt(16).toChar().also { at += 4 }
            else -> mark
        }
    }

    private fun word(): Any? {
        val end = generateSequence(at) { it + 1 }.first { it == text.length || text[it] in ",]}" }
        return when (val word = text.substring(at, end).also { at = end }) {
            "null" -> null
            "true", "false" -> word == "true"
            else -> word.toDouble()
        }
    }
}
