package delta

import delta.ffi.Config
import delta.ffi.Content
import delta.ffi.Delta
import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.Keystore
import delta.ffi.LogSink
import delta.ffi.Message
import delta.ffi.MessagePage
import delta.ffi.Reaction
import delta.ffi.RelayHops
import delta.ffi.RunSummary
import delta.ffi.Statistics
import delta.ffi.Subscription
import delta.ffi.TopicStatus
import java.io.Closeable
import java.time.Instant
import kotlin.time.Duration
import kotlin.time.Duration.Companion.seconds
import kotlin.time.toJavaDuration
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext

/**
 * One device: its database, its topics, its connections.
 *
 *     Device.open(Config(path), keystore).use { device ->
 *         device.initSync(hops, "https://sync.example#<the server's key>")
 *         val topic = device.openTopic(ticket)
 *         device.send(topic, "hello")
 *         device.follow(topic).collect { println(it.text) }
 *     }
 *
 * Calls may come from any coroutine, also at once. One that is cancelled may or may not have happened; nothing is left
 * half done. Errors are [delta.ffi.DeltaException]s with a stable `code`.
 */
public class Device private constructor(private val inner: Delta) : Closeable {
    public companion object {
        /** Opens (or makes) the database; the device's key is in the keystore. */
        public suspend fun open(config: Config, keystore: Keystore, log: LogSink? = null): Device =
            Device(Delta.open(config, keystore, log))

        private const val AT_ONCE: UInt = 64u

        /** How long one wait for events lasts before it begins anew. Nothing depends on it. */
        private val WAIT = 30.seconds.toJavaDuration()
    }

    /** This device's key, as others know it. */
    public val author: Author get() = inner.author()

    /** Whether the database was restored or copied, so that this device has a new key since this open. */
    public val renewed: Boolean get() = inner.renewed()

    /** Sends through these relays to this server from now on. Says which nodes were left out. */
    public suspend fun initSync(hops: RelayHops, syncUrl: String): List<String> = inner.initSync(hops, syncUrl)

    /** Opens a topic from its ticket; again is harmless. */
    public suspend fun openTopic(ticket: String): TopicId = inner.openTopic(ticket)

    /** The topics that are open. */
    public suspend fun topics(): List<TopicId> = inner.topics()

    /** Signs, stores and queues an operation. With a [key] it happens once, however often it is called. */
    public suspend fun publish(topic: TopicId, content: Content, key: ByteArray? = null): OperationId =
        inner.publish(topic, content, key)

    /** Publishes a message. */
    public suspend fun send(
        topic: TopicId,
        text: String,
        reply: OperationId? = null,
        key: ByteArray? = null,
    ): OperationId = publish(topic, Content.MessageSend(text, reply, emptyList()), key)

    /**
     * Pushes a topic's events to [listener], on a thread of Delta's, until the subscription is cancelled or closed.
     * Keep it: one that nobody holds ends. [events] is what most apps want.
     */
    public suspend fun subscribe(topic: TopicId, listener: EventListener): Subscription =
        inner.subscribe(topic, listener)

    /** The topic's events. Cold: it subscribes when collected and ends with the collector or the device. */
    public fun events(topic: TopicId): Flow<Event> = flow {
        inner.subscribe(topic, null).use { subscription ->
            try {
                while (true) {
                    for (event in subscription.nextEvents(AT_ONCE, WAIT)) {
                        emit(event)
                        if (event is Event.Closed) return@flow
                    }
                }
            } finally {
                subscription.cancel()
            }
        }
    }

    /** The messages of a topic in their order: those that are here, then new ones as they take their place. */
    public fun follow(topic: TopicId): Flow<Message> = flow {
        inner.subscribe(topic, null).use { subscription ->
            try {
                var page: MessagePage = MessagePage.Newest
                while (true) {
                    val placed = messages(topic, page).filter { it.acknowledged }
                    for (message in placed) {
                        page = MessagePage.After(message.position)
                        emit(message)
                    }
                    if (placed.isEmpty() && subscription.nextEvents(AT_ONCE, WAIT).any { it is Event.Closed }) {
                        return@flow
                    }
                }
            } finally {
                subscription.cancel()
            }
        }
    }

    /** A page of messages, oldest first; the newest ones unless [page] says otherwise. */
    public suspend fun messages(
        topic: TopicId,
        page: MessagePage = MessagePage.Newest,
        limit: UInt = AT_ONCE,
    ): List<Message> = inner.messages(topic, page, limit)

    /** One message. */
    public suspend fun message(id: OperationId): Message? = inner.message(id)

    /** The reactions that stand on one message. */
    public suspend fun reactions(message: OperationId): List<Reaction> = inner.reactions(message)

    /** Tells whoever listens now (presence, typing). Nobody stores it. */
    public suspend fun signal(topic: TopicId, bytes: ByteArray): Unit = inner.signal(topic, bytes)

    /** Where a topic stands. */
    public suspend fun status(topic: TopicId): TopicStatus = inner.status(topic)

    /** What the device holds. */
    public suspend fun statistics(): Statistics = inner.statistics()

    /** Tell it when the network changed (a `ConnectivityManager.NetworkCallback`). It never storms. */
    public fun networkChanged(): Unit = inner.networkChanged()

    /** Lets go of every file, lock and socket until [resume]. */
    public suspend fun suspend(): Unit = inner.suspend()

    /** Goes on after [suspend]. */
    public suspend fun resume(): Unit = inner.resume()

    /** A background fetch, also while suspended; back within [deadline] whatever the network does. */
    public suspend fun runOnce(deadline: Duration): RunSummary = inner.runOnce(deadline.toJavaDuration())

    /** When something queued is due to be sent (again): for WorkManager. */
    public suspend fun nextWakeupAt(): Instant? = inner.nextWakeupAt()

    /** Finishes what was accepted and closes everything; also when the coroutine was cancelled. Again is harmless. */
    public suspend fun shutdown(): Unit = withContext(NonCancellable) { inner.shutdown() }

    /** As [shutdown], for `use`; waits. */
    override fun close(): Unit = runBlocking { inner.shutdown() }
}
