package delta.reactnative

import com.facebook.react.bridge.Arguments
import com.facebook.react.bridge.Promise
import com.facebook.react.bridge.ReactApplicationContext
import com.facebook.react.bridge.ReadableMap
import delta.Author
import delta.LogId
import delta.OperationId
import delta.Position
import delta.TopicId
import delta.ffi.Delta
import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.Keystore
import delta.ffi.Subscription
import delta.ffi.generateMnemonic as freshMnemonic
import delta.ffi.generateTicket as freshTicket
import delta.ffi.importMnemonic as keepMnemonic
import delta.ffi.readOnlyTicket as withoutWriting
import delta.ffi.ticketFacts as factsOf
import java.io.File
import java.time.Duration
import java.time.Instant
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicLong
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeoutOrNull

/**
 * The devices of one JavaScript context: only conversion happens here. They are closed with it, so that a reload opens
 * the same databases at once.
 *
 * Databases lie in the folder that Android leaves out of backups: a restored copy would be another device.
 */
public class DeltaModule(
    context: ReactApplicationContext,
    private val keystore: (File) -> Keystore,
) : NativeDeltaSpec(context) {
    public constructor(context: ReactApplicationContext) : this(context, ::AndroidKeystore)

    private val folder = File(context.noBackupFilesDir, "delta")
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)
    private val devices = ConcurrentHashMap<Long, Delta>()
    private val subscriptions = ConcurrentHashMap<Long, Subscription>()
    private val numbers = AtomicLong()

    override fun open(config: ReadableMap, promise: Promise): Unit = answer(promise) {
        val fields = Fields(config.toHashMap())
        val keystore = keystore(place(fields.text("name")))
        val config = config(fields, database(fields.text("name")).path)
        // To its end, also when this module goes away meanwhile: nobody else could close what is opened.
        withContext(NonCancellable) {
            val device = Delta.open(config, keystore, null)
            val number = numbers.incrementAndGet()
            devices[number] = device
            if (gone) letGo(number)
            mapOf("device" to number.toDouble(), "author" to device.author().toString(), "renewed" to device.renewed())
        }
    }

    override fun close(device: Double, promise: Promise): Unit = answer(promise) {
        letGo(device.toLong())
        null
    }

    override fun initSync(device: Double, relayHops: ReadableMap, syncUrl: String, promise: Promise): Unit =
        on(device, promise) { it.initSync(hops(Fields(relayHops.toHashMap())), syncUrl) }

    override fun openTopic(device: Double, ticket: String, promise: Promise): Unit =
        on(device, promise) { it.openTopic(ticket).toString() }

    override fun topics(device: Double, promise: Promise): Unit =
        on(device, promise) { open -> open.topics().map { it.toString() } }

    override fun publish(device: Double, topic: String, content: ReadableMap, key: String?, promise: Promise): Unit =
        on(device, promise) {
            it.publish(topicId(topic), content(Fields(content.toHashMap())), key?.let(::bytes)).toString()
        }

    override fun subscribe(device: Double, topic: String, promise: Promise): Unit = on(device, promise) {
        val number = numbers.incrementAndGet()
        val subscription = it.subscribe(topicId(topic), object : EventListener {
            override fun onEvent(event: Event) {
                emitOnEvent(Arguments.makeNativeMap(event.plain() + ("subscription" to number.toDouble())))
                if (event is Event.Closed) subscriptions.remove(number)?.close()
            }
        })
        subscriptions[number] = subscription
        if (gone) unsubscribe(number.toDouble())
        number.toDouble()
    }

    override fun unsubscribe(subscription: Double) {
        subscriptions.remove(subscription.toLong())?.use { it.cancel() }
    }

    override fun messages(device: Double, topic: String, page: ReadableMap, limit: Double, promise: Promise): Unit =
        on(device, promise) { open ->
            open.messages(topicId(topic), page(Fields(page.toHashMap())), count(limit)).map { it.plain() }
        }

    override fun message(device: Double, id: String, promise: Promise): Unit =
        on(device, promise) { it.message(OperationId(hex(id)))?.plain() }

    override fun reactions(device: Double, message: String, promise: Promise): Unit =
        on(device, promise) { open -> open.reactions(OperationId(hex(message))).map { it.plain() } }

    override fun signal(device: Double, topic: String, bytes: String, promise: Promise): Unit =
        on(device, promise) { it.signal(topicId(topic), bytes(bytes)).nothing() }

    override fun status(device: Double, topic: String, promise: Promise): Unit =
        on(device, promise) { it.status(topicId(topic)).plain() }

    override fun statistics(device: Double, promise: Promise): Unit = on(device, promise) { it.statistics().plain() }

    override fun networkChanged(device: Double) {
        devices[device.toLong()]?.networkChanged()
    }

    override fun suspend(device: Double, promise: Promise): Unit = on(device, promise) { it.suspend().nothing() }

    override fun resume(device: Double, promise: Promise): Unit = on(device, promise) { it.resume().nothing() }

    override fun runOnce(device: Double, deadline: Double, promise: Promise): Unit =
        on(device, promise) { it.runOnce(Duration.ofMillis(deadline.toLong().coerceAtLeast(0))).plain() }

    override fun nextWakeupAt(device: Double, promise: Promise): Unit =
        on(device, promise) { it.nextWakeupAt()?.toEpochMilli()?.toDouble() }

    override fun messageHistory(device: Double, id: String, promise: Promise): Unit =
        on(device, promise) { open -> open.messageHistory(OperationId(hex(id))).map { it.plain() } }

    override fun unread(device: Double, topic: String, promise: Promise): Unit =
        on(device, promise) { it.unread(topicId(topic)).plain() }

    override fun setRead(device: Double, topic: String, upto: String, promise: Promise): Unit =
        on(device, promise) { it.setRead(topicId(topic), Position(hex(upto))).nothing() }

    override fun profile(device: Double, topic: String, author: String, promise: Promise): Unit =
        on(device, promise) { it.profile(topicId(topic), Author(hex(author)))?.plain() }

    override fun profiles(device: Double, author: String, promise: Promise): Unit =
        on(device, promise) { open -> open.profiles(Author(hex(author))).map { it.plain() } }

    override fun search(device: Double, search: ReadableMap, limit: Double, promise: Promise): Unit =
        on(device, promise) { open -> open.search(words(Fields(search.toHashMap())), count(limit)).map { it.plain() } }

    override fun outbox(device: Double, topic: String, limit: Double, after: Double?, promise: Promise): Unit =
        on(device, promise) { open -> open.outbox(topicId(topic), count(limit), after?.toLong()).map { it.plain() } }

    override fun retry(device: Double, topic: String, promise: Promise): Unit =
        on(device, promise) { it.retry(topicId(topic)).toDouble() }

    override fun cancel(device: Double, topic: String, operation: String, promise: Promise): Unit =
        on(device, promise) { it.cancel(topicId(topic), OperationId(hex(operation))).plain() }

    override fun createSpace(device: Double, about: ReadableMap, promise: Promise): Unit =
        on(device, promise) { it.createSpace(spaceText(Fields(about.toHashMap()))).plain() }

    override fun createRoom(device: Double, space: String, about: ReadableMap, promise: Promise): Unit =
        on(device, promise) { it.createRoom(LogId(hex(space)), roomText(Fields(about.toHashMap()))).plain() }

    override fun spaces(device: Double, promise: Promise): Unit =
        on(device, promise) { open -> open.spaces().map { it.plain() } }

    override fun space(device: Double, space: String, promise: Promise): Unit =
        on(device, promise) { it.space(LogId(hex(space)))?.plain() }

    override fun rooms(device: Double, space: String, promise: Promise): Unit =
        on(device, promise) { open -> open.rooms(LogId(hex(space))).map { it.plain() } }

    override fun members(device: Double, space: String, promise: Promise): Unit =
        on(device, promise) { open -> open.members(LogId(hex(space))).map { it.plain() } }

    override fun createInvitation(
        device: Double, space: String, level: String, expires: Double?, once: Boolean, promise: Promise,
    ): Unit = on(device, promise) {
        it.createInvitation(LogId(hex(space)), level(level), expires?.let { at -> Instant.ofEpochMilli(at.toLong()) }, once)
    }

    override fun acceptInvitation(device: Double, invitation: String, promise: Promise): Unit =
        on(device, promise) { it.acceptInvitation(invitation).plain() }

    override fun storageUse(device: Double, promise: Promise): Unit = on(device, promise) { it.storageUse().plain() }

    override fun wipeTopic(device: Double, topic: String, promise: Promise): Unit =
        on(device, promise) { it.wipeTopic(topicId(topic)).nothing() }

    override fun generateTicket(isPublic: Boolean, promise: Promise): Unit = answer(promise) { freshTicket(isPublic) }

    override fun readOnlyTicket(ticket: String, promise: Promise): Unit = answer(promise) { withoutWriting(ticket) }

    override fun ticketFacts(ticket: String, promise: Promise): Unit = answer(promise) { factsOf(ticket).plain() }

    override fun generateMnemonic(promise: Promise): Unit = answer(promise) { freshMnemonic() }

    override fun importMnemonic(name: String, words: String, promise: Promise): Unit =
        answer(promise) { keepMnemonic(keystore(place(name)), words).nothing() }

    /** Listeners are gone and databases closed when it returns; what hangs is left behind after some seconds. */
    override fun invalidate() {
        gone = true
        subscriptions.keys.forEach { unsubscribe(it.toDouble()) }
        runBlocking { withTimeoutOrNull(CLOSING_MS) { devices.keys.forEach { letGo(it) } } }
        scope.cancel()
        super.invalidate()
    }

    @Volatile private var gone = false

    private suspend fun letGo(number: Long) {
        devices.remove(number)?.use { withContext(NonCancellable) { it.shutdown() } }
    }

    private fun on(device: Double, promise: Promise, call: suspend (Delta) -> Any?): Unit = answer(promise) {
        call(devices[device.toLong()] ?: throw Refused("state", "closed", "the device was closed; open it again"))
    }

    private fun answer(promise: Promise, call: suspend () -> Any?) {
        scope.launch {
            try {
                promise.resolve(native(call()))
            } catch (error: Exception) {
                val refused = refused(error)
                promise.reject(refused.code, refused.reason, error, Arguments.makeNativeMap(refused.plain()))
            }
        }
    }

    private fun place(name: String): File {
        if (!NAME.matches(name)) throw Refused("argument", "name", "a name has 1 to 64 of A-Z a-z 0-9 _ -")
        folder.mkdirs()
        return File(folder, name)
    }

    private fun database(name: String): File = File(folder, "$name.db")

    public companion object {
        private const val CLOSING_MS = 5_000L
        private val NAME = Regex("[A-Za-z0-9_-]{1,64}")
    }
}

private fun topicId(hex: String) = TopicId(hex(hex))

/** Instead of what Kotlin calls nothing. */
private fun Unit.nothing(): Any? = null

@Suppress("UNCHECKED_CAST")
private fun native(value: Any?): Any? = when (value) {
    is Map<*, *> -> Arguments.makeNativeMap(value as Map<String, Any?>)
    is List<*> -> Arguments.makeNativeArray(value)
    else -> value
}
