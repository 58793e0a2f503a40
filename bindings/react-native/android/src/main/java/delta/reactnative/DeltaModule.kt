package delta.reactnative

import com.facebook.react.bridge.Arguments
import com.facebook.react.bridge.Promise
import com.facebook.react.bridge.ReactApplicationContext
import com.facebook.react.bridge.ReadableMap
import delta.Author
import delta.BlobId
import delta.Identity
import delta.LogId
import delta.OperationId
import delta.Position
import delta.ThreadId
import delta.TopicId
import delta.android.AndroidKeystore
import delta.ffi.Config
import delta.ffi.Delta
import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.Keystore
import delta.ffi.LogLevel
import delta.ffi.LogSink
import delta.ffi.PairingGuest
import delta.ffi.PairingHost
import delta.ffi.PairingRequest
import delta.ffi.Subscription
import delta.ffi.generateMnemonic as freshMnemonic
import delta.ffi.generateTicket as freshTicket
import delta.ffi.identityAddress as addressOf
import delta.ffi.importMnemonic as keepMnemonic
import delta.ffi.mnemonicIdentity as identityOf
import delta.ffi.parseAddress as readAddress
import delta.ffi.storedMnemonic as keptMnemonic
import delta.ffi.readOnlyTicket as withoutWriting
import delta.ffi.ticketFacts as factsOf
import java.io.File
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicLong
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.async
import kotlinx.coroutines.cancel
import kotlinx.coroutines.joinAll
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
    private val pairings = ConcurrentHashMap<Long, Pairing>()
    private val numbers = AtomicLong()

    override fun open(config: ReadableMap, logLevel: String?, promise: Promise): Unit =
        opened(config, promise) { place, keystore -> Delta.open(place, keystore, log(logLevel)) }

    override fun importFrom(
        path: String, passphrase: String, config: ReadableMap, logLevel: String?, promise: Promise,
    ): Unit = opened(config, promise) { place, keystore ->
        Delta.importFrom(path, passphrase, place, keystore, log(logLevel))
    }

    private fun log(wanted: String?): LogSink? {
        val least = logLevel(wanted ?: return null)
        return object : LogSink {
            override fun level() = least

            override fun log(level: LogLevel, target: String, message: String) {
                if (!gone) emitOnLog(Arguments.makeNativeMap(logLine(level, target, message)))
            }
        }
    }

    private fun opened(
        config: ReadableMap, promise: Promise, open: suspend (Config, Keystore) -> Delta,
    ): Unit = answer(promise) {
        val fields = Fields(config.toHashMap())
        val keystore = keystore(place(fields.text("name")))
        val place = config(fields, database(fields.text("name")).path)
        // To its end, also when this module goes away meanwhile: nobody else could close what is opened.
        withContext(NonCancellable) {
            val device = open(place, keystore)
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

    override fun setReadKey(device: Double, topic: String, key: String?, promise: Promise): Unit =
        on(device, promise) { it.setReadKey(topicId(topic), key?.let(::bytes)).nothing() }

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

    override fun messagesBy(
        device: Double, topic: String, author: String, page: ReadableMap, limit: Double, since: Double?, until: Double?,
        promise: Promise,
    ): Unit = on(device, promise) { open ->
        val wanted = page(Fields(page.toHashMap()))
        val (from, to) = since?.let(::instant) to until?.let(::instant)
        open.messagesBy(topicId(topic), Author(hex(author)), wanted, count(limit), from, to).map { it.plain() }
    }

    override fun messagesReceived(
        device: Double, topic: String, limit: Double, since: Double?, until: Double?, after: ReadableMap?, promise: Promise,
    ): Unit = on(device, promise) {
        val (from, to) = since?.let(::instant) to until?.let(::instant)
        val place = after?.let { place -> receiptPlace(Fields(place.toHashMap())) }
        it.messagesReceived(topicId(topic), count(limit), from, to, place).plain()
    }

    override fun mentions(
        device: Double, who: String, limit: Double, topic: String?, before: Double?, promise: Promise,
    ): Unit = on(device, promise) { open ->
        open.mentions(Author(hex(who)), count(limit), topic?.let(::topicId), before?.let(::whole)).map { it.plain() }
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
        try {
            devices[device.toLong()]?.networkChanged()
        } catch (_: IllegalStateException) {
            // It was closed just now. There is no promise to refuse: the app would end.
        }
    }

    override fun suspend(device: Double, promise: Promise): Unit = on(device, promise) { it.suspend().nothing() }

    override fun resume(device: Double, promise: Promise): Unit = on(device, promise) { it.resume().nothing() }

    override fun runOnce(device: Double, deadline: Double, promise: Promise): Unit =
        on(device, promise) { it.runOnce(duration(deadline)).plain() }

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

    override fun person(device: Double, topic: String, author: String, promise: Promise): Unit =
        on(device, promise) { it.person(topicId(topic), Author(hex(author))).toString() }

    override fun putValue(device: Double, topic: String, at: ReadableMap, value: String, promise: Promise): Unit =
        on(device, promise) { it.putValue(topicId(topic), key(Fields(at.toHashMap())), bytes(value)).toString() }

    override fun deleteValue(device: Double, topic: String, at: ReadableMap, promise: Promise): Unit =
        on(device, promise) { it.deleteValue(topicId(topic), key(Fields(at.toHashMap()))).toString() }

    override fun value(device: Double, topic: String, at: ReadableMap, promise: Promise): Unit =
        on(device, promise) { it.value(topicId(topic), key(Fields(at.toHashMap())))?.plain() }

    override fun values(
        device: Double, topic: String, collection: String, limit: Double, prefix: String, after: String?, promise: Promise,
    ): Unit = on(device, promise) { open ->
        open.values(topicId(topic), collection, count(limit), prefix, after).map { it.plain() }
    }

    override fun createDocument(device: Double, topic: String, path: String, promise: Promise): Unit =
        on(device, promise) { it.createDocument(topicId(topic), path).toString() }

    override fun writeDocument(
        device: Double, topic: String, document: String, bytes: String, snapshot: Boolean, promise: Promise,
    ): Unit = on(device, promise) {
        it.writeDocument(topicId(topic), OperationId(hex(document)), bytes(bytes), snapshot).toString()
    }

    override fun documents(
        device: Double, topic: String, limit: Double, prefix: String, after: String?, promise: Promise,
    ): Unit = on(device, promise) { open ->
        val last = after?.let { OperationId(hex(it)) }
        open.documents(topicId(topic), count(limit), prefix, last).map { it.plain() }
    }

    override fun documentParts(
        device: Double, topic: String, document: String, limit: Double, after: Double, promise: Promise,
    ): Unit = on(device, promise) { open ->
        open.documentParts(topicId(topic), OperationId(hex(document)), count(limit), above(after)).map { it.plain() }
    }

    override fun search(device: Double, search: ReadableMap, limit: Double, promise: Promise): Unit =
        on(device, promise) { open -> open.search(words(Fields(search.toHashMap())), count(limit)).map { it.plain() } }

    override fun outbox(device: Double, topic: String, limit: Double, after: Double?, promise: Promise): Unit =
        on(device, promise) { open -> open.outbox(topicId(topic), count(limit), after?.let(::whole)).map { it.plain() } }

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

    override fun members(device: Double, space: String, limit: Double, after: String?, promise: Promise): Unit =
        on(device, promise) { open ->
            open.members(LogId(hex(space)), count(limit), after?.let { Identity(hex(it)) }).map { it.plain() }
        }

    override fun spaceDevices(device: Double, space: String, promise: Promise): Unit =
        on(device, promise) { open -> open.spaceDevices(LogId(hex(space))).map { it.plain() } }

    override fun changeSpace(device: Double, space: String, action: ReadableMap, promise: Promise): Unit =
        on(device, promise) { it.changeSpace(LogId(hex(space)), action(Fields(action.toHashMap()))).toString() }

    override fun auditLog(device: Double, space: String, limit: Double, before: ReadableMap?, promise: Promise): Unit =
        on(device, promise) { open ->
            val place = before?.let { auditPlace(Fields(it.toHashMap())) }
            open.auditLog(LogId(hex(space)), count(limit), place).map { it.plain() }
        }

    override fun invitations(device: Double, space: String, promise: Promise): Unit =
        on(device, promise) { open -> open.invitations(LogId(hex(space))).map { it.plain() } }

    override fun joinRequests(device: Double, space: String, promise: Promise): Unit =
        on(device, promise) { open -> open.joinRequests(LogId(hex(space))).map { it.plain() } }

    override fun createInvitation(
        device: Double, space: String, level: String, expires: Double?, once: Boolean, promise: Promise,
    ): Unit = on(device, promise) {
        it.createInvitation(LogId(hex(space)), level(level), expires?.let(::instant), once)
    }

    override fun acceptInvitation(device: Double, invitation: String, promise: Promise): Unit =
        on(device, promise) { it.acceptInvitation(invitation).plain() }

    override fun openInbox(device: Double, promise: Promise): Unit = on(device, promise) { it.openInbox().toString() }

    override fun contact(device: Double, promise: Promise): Unit = on(device, promise) { it.contact() }

    override fun requestDirect(device: Double, contact: String, text: String?, promise: Promise): Unit =
        on(device, promise) { it.requestDirect(contact, text).toString() }

    override fun requestDirectOf(device: Double, member: String, text: String?, promise: Promise): Unit =
        on(device, promise) { it.requestDirectOf(Author(hex(member)), text).toString() }

    override fun acceptDirect(device: Double, thread: String, promise: Promise): Unit =
        on(device, promise) { it.acceptDirect(ThreadId(hex(thread))).toString() }

    override fun closeDirect(device: Double, thread: String, promise: Promise): Unit =
        on(device, promise) { it.closeDirect(ThreadId(hex(thread))).nothing() }

    override fun sendDirect(device: Double, thread: String, content: ReadableMap, promise: Promise): Unit =
        on(device, promise) {
            it.sendDirect(ThreadId(hex(thread)), content(Fields(content.toHashMap()))).toString()
        }

    override fun directThreads(device: Double, promise: Promise): Unit =
        on(device, promise) { open -> open.directThreads().map { it.plain() } }

    override fun requestJoin(device: Double, space: String, manager: String, text: String?, promise: Promise): Unit =
        on(device, promise) { it.requestJoin(LogId(hex(space)), manager, text).toString() }

    override fun attach(
        device: Double, source: ReadableMap, mime: String, name: String?, promise: Promise,
    ): Unit = on(device, promise) { it.attach(source(Fields(source.toHashMap())), mime, name).toString() }

    override fun blobStatus(device: Double, blob: String, promise: Promise): Unit =
        on(device, promise) { it.blobStatus(BlobId(hex(blob))).plain() }

    override fun fetchBlob(device: Double, blob: String, promise: Promise): Unit =
        on(device, promise) { it.fetchBlob(BlobId(hex(blob))).nothing() }

    override fun dropBlob(device: Double, blob: String, promise: Promise): Unit =
        on(device, promise) { it.dropBlob(BlobId(hex(blob))).nothing() }

    override fun writeBlob(device: Double, blob: String, path: String, promise: Promise): Unit =
        on(device, promise) { it.writeBlob(BlobId(hex(blob)), path).nothing() }

    override fun blobBytes(device: Double, blob: String, promise: Promise): Unit =
        on(device, promise) { base64(it.blobBytes(BlobId(hex(blob)))) }

    override fun storageUse(device: Double, promise: Promise): Unit = on(device, promise) { it.storageUse().plain() }

    override fun prune(device: Double, topic: String, before: Double, promise: Promise): Unit =
        on(device, promise) { it.prune(topicId(topic), instant(before)).toDouble() }

    override fun wipeTopic(device: Double, topic: String, promise: Promise): Unit =
        on(device, promise) { it.wipeTopic(topicId(topic)).nothing() }

    override fun wipe(device: Double, promise: Promise): Unit = on(device, promise) {
        withContext(NonCancellable) { it.wipe() }
        letGo(device.toLong())
        null
    }

    override fun keySnapshot(device: Double, promise: Promise): Unit = on(device, promise) { base64(it.keySnapshot()) }

    override fun exportTo(device: Double, path: String, passphrase: String, words: String?, promise: Promise): Unit =
        on(device, promise) { it.export(path, passphrase, words).nothing() }

    override fun identity(device: Double, promise: Promise): Unit = on(device, promise) { it.identity().toString() }

    override fun ownDevices(device: Double, promise: Promise): Unit =
        on(device, promise) { open -> open.ownDevices().map { it.plain() } }

    override fun revokeDevice(device: Double, author: String, promise: Promise): Unit =
        on(device, promise) { it.revokeDevice(Author(hex(author))).nothing() }

    override fun pair(device: Double, promise: Promise): Unit = on(device, promise) {
        val host = it.pair()
        mapOf("pairing" to paired(Pairing(host = host)), "text" to host.text())
    }

    override fun pairingAsked(pairing: Double, promise: Promise): Unit = meeting(pairing, promise) {
        val request = checkNotNull(it.host).asked()
        it.request = request
        mapOf("device" to request.device().toString(), "code" to request.code())
    }

    override fun pairingAccept(pairing: Double, promise: Promise): Unit = meeting(pairing, promise) {
        withContext(NonCancellable) { checkNotNull(it.request).accept() }.nothing()
    }

    override fun pairingRefuse(pairing: Double, promise: Promise): Unit = meeting(pairing, promise) {
        withContext(NonCancellable) { checkNotNull(it.request).refuse() }.nothing()
    }

    override fun join(device: Double, text: String, promise: Promise): Unit = on(device, promise) {
        mapOf("pairing" to paired(Pairing(guest = it.join(text))))
    }

    override fun pairingCode(pairing: Double, promise: Promise): Unit =
        meeting(pairing, promise) { checkNotNull(it.guest).code() }

    override fun pairingJoined(pairing: Double, promise: Promise): Unit =
        meeting(pairing, promise) { checkNotNull(it.guest).joined().toString() }

    override fun pairingCancel(pairing: Double) {
        pairings.remove(pairing.toLong())?.cancel()
    }

    override fun generateTicket(isPublic: Boolean, promise: Promise): Unit = answer(promise) { freshTicket(isPublic) }

    override fun readOnlyTicket(ticket: String, promise: Promise): Unit = answer(promise) { withoutWriting(ticket) }

    override fun ticketFacts(ticket: String, promise: Promise): Unit = answer(promise) { factsOf(ticket).plain() }

    override fun generateMnemonic(promise: Promise): Unit = answer(promise) { freshMnemonic() }

    override fun importMnemonic(name: String, words: String, promise: Promise): Unit =
        answer(promise) { keepMnemonic(keystore(place(name)), words).nothing() }

    override fun storedMnemonic(name: String, promise: Promise): Unit =
        answer(promise) { keptMnemonic(keystore(place(name))) }

    override fun mnemonicIdentity(words: String, promise: Promise): Unit =
        answer(promise) { identityOf(words).toString() }

    override fun identityAddress(identity: String, promise: Promise): Unit =
        answer(promise) { addressOf(Identity(hex(identity))) }

    override fun parseAddress(address: String, promise: Promise): Unit =
        answer(promise) { readAddress(address).toString() }

    /** Listeners are gone and databases closed when it returns; what hangs is left behind after some seconds. */
    override fun invalidate() {
        gone = true
        pairings.keys.forEach { pairingCancel(it.toDouble()) }
        subscriptions.keys.forEach { unsubscribe(it.toDouble()) }
        // Each for itself: one that fails or hangs keeps no other open.
        val closing = devices.keys.map { scope.async { letGo(it) } }
        runBlocking { withTimeoutOrNull(CLOSING_MS) { closing.joinAll() } }
        scope.cancel()
        super.invalidate()
    }

    @Volatile private var gone = false

    /** Closes a device. Where that fails it stays, so that it can be called again. */
    private suspend fun letGo(number: Long) {
        val device = devices[number] ?: return
        withContext(NonCancellable) { device.shutdown() }
        if (devices.remove(number, device)) device.close()
    }

    private fun paired(pairing: Pairing): Double {
        val number = numbers.incrementAndGet()
        pairings[number] = pairing
        if (gone) pairingCancel(number.toDouble())
        return number.toDouble()
    }

    private fun meeting(pairing: Double, promise: Promise, call: suspend (Pairing) -> Any?): Unit = answer(promise) {
        call(pairings[pairing.toLong()] ?: throw Refused("state", "pairing_expired", "the pairing was cancelled"))
    }

    private fun on(device: Double, promise: Promise, call: suspend (Delta) -> Any?): Unit = answer(promise) {
        val open = devices[device.toLong()] ?: throw closed()
        try {
            call(open)
        } catch (error: IllegalStateException) {
            // Of what was closed just now nothing is left to say so itself.
            throw if (devices[device.toLong()] === open) error else closed()
        }
    }

    private fun closed() = Refused("state", "closed", "the device was closed; open it again")

    private fun answer(promise: Promise, call: suspend () -> Any?) {
        scope.launch {
            try {
                promise.resolve(native(call()))
            } catch (error: Throwable) {
                // Errors, too: a library for another processor is none of the app's end.
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

/** One side of a pairing. */
private class Pairing(val host: PairingHost? = null, val guest: PairingGuest? = null) {
    @Volatile var request: PairingRequest? = null

    fun cancel() {
        host?.cancel()
        guest?.cancel()
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
