package delta

import delta.ffi.AuditLine
import delta.ffi.AuditPlace
import delta.ffi.BlobSource
import delta.ffi.BlobStatus
import delta.ffi.Cancelled
import delta.ffi.Config
import delta.ffi.Content
import delta.ffi.Delta
import delta.ffi.DeltaException
import delta.ffi.DirectThread
import delta.ffi.Document
import delta.ffi.DocumentPart
import delta.ffi.Event
import delta.ffi.EventListener
import delta.ffi.Found
import delta.ffi.Invitation
import delta.ffi.JoinRequest
import delta.ffi.Keystore
import delta.ffi.Level
import delta.ffi.LogSink
import delta.ffi.Member
import delta.ffi.Mention
import delta.ffi.Message
import delta.ffi.MessagePage
import delta.ffi.OutboxRow
import delta.ffi.OwnDevice
import delta.ffi.PairingGuest
import delta.ffi.PairingHost
import delta.ffi.Place
import delta.ffi.Profile
import delta.ffi.Reaction
import delta.ffi.ReceiptPlace
import delta.ffi.ReceivedPage
import delta.ffi.RelayHops
import delta.ffi.Room
import delta.ffi.RoomText
import delta.ffi.RunSummary
import delta.ffi.SearchWords
import delta.ffi.Space
import delta.ffi.SpaceAction
import delta.ffi.SpaceDevice
import delta.ffi.SpaceText
import delta.ffi.Statistics
import delta.ffi.StorageUse
import delta.ffi.Subscription
import delta.ffi.TopicStatus
import delta.ffi.Unread
import delta.ffi.Value
import delta.ffi.ValueKey
import delta.ffi.Version
import java.io.Closeable
import java.io.File
import java.time.Instant
import kotlin.time.Duration
import kotlin.time.Duration.Companion.hours
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

        /** Reads an export into a new database and opens it. For everyone else this device is another one then. */
        public suspend fun importFrom(
            export: File,
            passphrase: String,
            config: Config,
            keystore: Keystore,
            log: LogSink? = null,
        ): Device = Device(Delta.importFrom(export.path, passphrase, config, keystore, log))

        private const val AT_ONCE: UInt = 64u

        /** The longest page there is. */
        private const val MOST: UInt = 1000u

        /** How long one wait for events lasts before it begins anew. Nothing depends on it. */
        private val WAIT = 1.hours.toJavaDuration()
    }

    /** This device's key, as others know it. */
    public val author: Author get() = inner.author()

    /** Whether the database was restored or copied, so that this device has a new key since this open. */
    public val renewed: Boolean get() = inner.renewed()

    /** Sends through these relays to this server from now on. Says which nodes were left out. */
    public suspend fun initSync(hops: RelayHops, syncUrl: String): List<String> = inner.initSync(hops, syncUrl)

    /** Opens a topic from its ticket; again is harmless. */
    public suspend fun openTopic(ticket: String): TopicId = inner.openTopic(ticket)

    /** Keeps the key (an Ed25519 seed) that a public topic's server asks readers for; without one it is forgotten. */
    public suspend fun setReadKey(topic: TopicId, key: ByteArray? = null): Unit = inner.setReadKey(topic, key)

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
        mentions: List<Author> = emptyList(),
        attachments: List<BlobId> = emptyList(),
    ): OperationId = publish(topic, Content.MessageSend(text, reply, mentions, attachments), key)

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

    /**
     * The messages of a topic in their order: the newest 64 that are here, then new ones as they take their place. It waits
     * while the device is suspended, and ends with the collector or the device.
     */
    public fun follow(topic: TopicId): Flow<Message> = flow {
        inner.subscribe(topic, null).use { subscription ->
            try {
                var page: MessagePage = MessagePage.Newest
                while (true) {
                    val placed = placed(topic, page)
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

    private suspend fun placed(topic: TopicId, page: MessagePage): List<Message> = try {
        messages(topic, page).filter { it.acknowledged }
    } catch (refused: DeltaException.State) {
        // An event of either tells when to look again, or that there is nothing more.
        if (refused.code != "suspended" && refused.code != "closed") throw refused
        emptyList()
    }

    /** A page of messages, oldest first; the newest ones unless [page] says otherwise. */
    public suspend fun messages(
        topic: TopicId,
        page: MessagePage = MessagePage.Newest,
        limit: UInt = AT_ONCE,
    ): List<Message> = inner.messages(topic, page, limit)

    /** A page of one author's messages, oldest first; with [since] and [until] those received in that time. */
    public suspend fun messagesBy(
        topic: TopicId,
        author: Author,
        page: MessagePage = MessagePage.Newest,
        limit: UInt = AT_ONCE,
        since: Instant? = null,
        until: Instant? = null,
    ): List<Message> = inner.messagesBy(topic, author, page, limit, since, until)

    /** A page of the messages received from [since] on and before [until], in that order; the next one is [after] its `next`. */
    public suspend fun messagesReceived(
        topic: TopicId,
        since: Instant? = null,
        until: Instant? = null,
        after: ReceiptPlace? = null,
        limit: UInt = AT_ONCE,
    ): ReceivedPage = inner.messagesReceived(topic, limit, since, until, after)

    /** Messages that mention [who], those that came last first, in one topic or all; before an `arrival`. */
    public suspend fun mentions(
        who: Author,
        topic: TopicId? = null,
        before: Long? = null,
        limit: UInt = AT_ONCE,
    ): List<Mention> = inner.mentions(who, limit, topic, before)

    /** One message. */
    public suspend fun message(id: OperationId): Message? = inner.message(id)

    /** The reactions that stand on one message. */
    public suspend fun reactions(message: OperationId): List<Reaction> = inner.reactions(message)

    /** Every text a message had, as sent first. */
    public suspend fun messageHistory(id: OperationId): List<Version> = inner.messageHistory(id)

    /** The person behind a device in a topic. */
    public suspend fun person(topic: TopicId, device: Author): Identity = inner.person(topic, device)

    /** An author's profile in one conversation. */
    public suspend fun profile(topic: TopicId, author: Author): Profile? = inner.profile(topic, author)

    /** An author's profiles in all conversations. */
    public suspend fun profiles(author: Author): List<Profile> = inner.profiles(author)

    /** Messages with all the words, those that came last first. */
    public suspend fun search(search: SearchWords, limit: UInt = AT_ONCE): List<Found> = inner.search(search, limit)

    /** What of a topic has not been read, counted from [setRead]. */
    public suspend fun unread(topic: TopicId): Unread = inner.unread(topic)

    /** Notes how far a topic was read. It never goes back. */
    public suspend fun setRead(topic: TopicId, upto: Position): Unit = inner.setRead(topic, upto)

    /** Sets the value of a key over whatever this device knows of it: the last writer wins everywhere. */
    public suspend fun putValue(topic: TopicId, at: ValueKey, value: ByteArray): OperationId =
        inner.putValue(topic, at, value)

    /** Deletes a key. */
    public suspend fun deleteValue(topic: TopicId, at: ValueKey): OperationId = inner.deleteValue(topic, at)

    /** The value of a key. */
    public suspend fun value(topic: TopicId, at: ValueKey): Value? = inner.value(topic, at)

    /** Values of a collection by key: those that begin with [prefix], after key [after]. */
    public suspend fun values(
        topic: TopicId,
        collection: String,
        prefix: String = "",
        after: String? = null,
        limit: UInt = AT_ONCE,
    ): List<Value> = inner.values(topic, collection, limit, prefix, after)

    /** Makes a document under a path (names between slashes) and gives its id. Nothing is in it yet. */
    public suspend fun createDocument(topic: TopicId, path: String): OperationId = inner.createDocument(topic, path)

    /** Writes a change to a document, as the app's library gives it; with [snapshot] all of it. At most 768 KiB. */
    public suspend fun writeDocument(
        topic: TopicId,
        document: OperationId,
        bytes: ByteArray,
        snapshot: Boolean = false,
    ): OperationId = inner.writeDocument(topic, document, bytes, snapshot)

    /** Documents by their paths: those that begin with [prefix]; [after] is the last one of the page before. */
    public suspend fun documents(
        topic: TopicId,
        prefix: String = "",
        after: OperationId? = null,
        limit: UInt = AT_ONCE,
    ): List<Document> = inner.documents(topic, limit, prefix, after)

    /** What was written to a document, as this device read it: parts with a number above [after]. One may come again. */
    public suspend fun documentParts(
        topic: TopicId,
        document: OperationId,
        after: ULong = 0u,
        limit: UInt = AT_ONCE,
    ): List<DocumentPart> = inner.documentParts(topic, document, limit, after)

    /** Makes a space, with this device as its first manager. */
    public suspend fun createSpace(about: SpaceText): Place = inner.createSpace(about)

    /** Makes a room in a space and opens it. */
    public suspend fun createRoom(space: LogId, about: RoomText): Place = inner.createRoom(space, about)

    /** Changes a space, its rooms or its members. */
    public suspend fun changeSpace(space: LogId, action: SpaceAction): OperationId = inner.changeSpace(space, action)

    /** Makes an invitation and gives its text: a secret, to be handed over as a link or QR code. */
    public suspend fun createInvitation(
        space: LogId,
        level: Level,
        expires: Instant? = null,
        once: Boolean = false,
    ): String = inner.createInvitation(space, level, expires, once)

    /** Opens the space of an invitation and claims it. Whoever made it has to be online for the answer. */
    public suspend fun acceptInvitation(invitation: String): Place = inner.acceptInvitation(invitation)

    /** The spaces this device knows. */
    public suspend fun spaces(): List<Space> = inner.spaces()

    /** One space. */
    public suspend fun space(space: LogId): Space? = inner.space(space)

    /** The rooms of a space, archived and deleted ones included. */
    public suspend fun rooms(space: LogId): List<Room> = inner.rooms(space)

    /** Members of a space, and whoever is banned from it, by their keys: those after [after]. */
    public suspend fun members(space: LogId, limit: UInt = MOST, after: Identity? = null): List<Member> =
        inner.members(space, limit, after)

    /** The devices that a space was told of, revoked ones included. */
    public suspend fun spaceDevices(space: LogId): List<SpaceDevice> = inner.spaceDevices(space)

    /** The invitations of a space that are not revoked. */
    public suspend fun invitations(space: LogId): List<Invitation> = inner.invitations(space)

    /** Who asks to be let in. */
    public suspend fun joinRequests(space: LogId): List<JoinRequest> = inner.joinRequests(space)

    /** What happened in a space, newest first; lines below the `place` of one. */
    public suspend fun auditLog(space: LogId, limit: UInt = AT_ONCE, before: AuditPlace? = null): List<AuditLine> =
        inner.auditLog(space, limit, before)

    /** Opens this device's inbox; gives the topic with the news of direct threads. */
    public suspend fun openInbox(): TopicId = inner.openInbox()

    /** What others need to write to this device, as a text to be given to them. Good for about two months. */
    public suspend fun contact(): String = inner.contact()

    /** Asks the device of a contact for a direct thread. It is open once that one accepts. */
    public suspend fun requestDirect(contact: String, text: String? = null): ThreadId =
        inner.requestDirect(contact, text)

    /** The same of a device that shares a space with this one. */
    public suspend fun requestDirectOf(member: Author, text: String? = null): ThreadId =
        inner.requestDirectOf(member, text)

    /** Accepts a direct thread that another device asked for; gives the topic it lives in. */
    public suspend fun acceptDirect(thread: ThreadId): TopicId = inner.acceptDirect(thread)

    /** Takes no more part in a direct thread, or turns a request down. */
    public suspend fun closeDirect(thread: ThreadId): Unit = inner.closeDirect(thread)

    /** Publishes in a direct thread. Its messages are read by its topic. */
    public suspend fun sendDirect(thread: ThreadId, content: Content): OperationId = inner.sendDirect(thread, content)

    /** All direct threads, oldest first, requests included. */
    public suspend fun directThreads(): List<DirectThread> = inner.directThreads()

    /** Asks a manager's device to be added to a space: [manager] is its [contact]. */
    public suspend fun requestJoin(space: LogId, manager: String, text: String? = null): OperationId =
        inner.requestJoin(space, manager, text)

    /** Operations of a topic that are not acknowledged yet, oldest first, after row [after]. */
    public suspend fun outbox(topic: TopicId, limit: UInt = AT_ONCE, after: Long? = null): List<OutboxRow> =
        inner.outbox(topic, limit, after)

    /** Puts parked operations back in the queue; says how many there were. */
    public suspend fun retry(topic: TopicId): ULong = inner.retry(topic)

    /** Takes back an operation of this device. */
    public suspend fun cancel(topic: TopicId, operation: OperationId): Cancelled = inner.cancel(topic, operation)

    /** Whose device this is. */
    public suspend fun identity(): Identity = inner.identity()

    /** The person's devices, as far as this one has heard of them. */
    public suspend fun ownDevices(): List<OwnDevice> = inner.ownDevices()

    /** Revokes a device of this person, for good. */
    public suspend fun revokeDevice(device: Author): Unit = inner.revokeDevice(device)

    /** Begins to make a further device this person's: show its text, compare codes, accept. */
    public suspend fun pair(): PairingHost = inner.pair()

    /** Asks to become a device of the person whose device shows this text. */
    public suspend fun join(text: String): PairingGuest = inner.join(text)

    /**
     * Makes a blob of a [file] of at most 64 MiB, chunk by chunk, and begins to send it; messages bring it along
     * (`attachments`). When it returns the file is not needed any more, and sending goes on also after a restart.
     */
    public suspend fun attach(file: File, mime: String, name: String? = file.name): BlobId =
        inner.attach(BlobSource.File(file.path), mime, name)

    /** The same of bytes. */
    public suspend fun attach(bytes: ByteArray, mime: String, name: String? = null): BlobId =
        inner.attach(BlobSource.Bytes(bytes), mime, name)

    /** How a blob stands. */
    public suspend fun blobStatus(blob: BlobId): BlobStatus = inner.blobStatus(blob)

    /** Fetches a blob that a message names, unless it is here. Events of the kind `BLOB` say when to look how far it is. */
    public suspend fun fetchBlob(blob: BlobId): Unit = inner.fetchBlob(blob)

    /** Removes a blob from this device, also one that is being sent or fetched. Others keep what they have. */
    public suspend fun dropBlob(blob: BlobId): Unit = inner.dropBlob(blob)

    /** Writes a blob that is here into a [file], chunk by chunk; one that is there is replaced. */
    public suspend fun writeBlob(blob: BlobId, file: File): Unit = inner.writeBlob(blob, file.path)

    /** A blob that is here, whole: for small ones. */
    public suspend fun blobBytes(blob: BlobId): ByteArray = inner.blobBytes(blob)

    /** What the database takes, conversation by conversation. For a settings page, not for every frame. */
    public suspend fun storageUse(): StorageUse = inner.storageUse()

    /** Erases messages received before an instant from this device; says how many. Others keep them. */
    public suspend fun prune(topic: TopicId, before: Instant): ULong = inner.prune(topic, before)

    /** Removes a conversation from this device, a space with its rooms. Others keep what they have. */
    public suspend fun wipeTopic(topic: TopicId): Unit = inner.wipeTopic(topic)

    /** Closes the device and removes everything: keys, words, database. */
    public suspend fun wipe(): Unit = withContext(NonCancellable) { inner.wipe() }

    /** What a notification extension needs; see [delta.ffi.decryptPush]. Made again when the app goes to the background. */
    public suspend fun keySnapshot(): ByteArray = inner.keySnapshot()

    /** Writes the database, with a person's words if passed, into a new file that the passphrase opens. */
    public suspend fun export(file: File, passphrase: String, words: String? = null): Unit =
        inner.export(file.path, passphrase, words)

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
