package delta.reactnative

import delta.Author
import delta.BlobId
import delta.Id
import delta.Identity
import delta.LogId
import delta.NodeId
import delta.OperationId
import delta.Position
import delta.TopicId
import delta.code
import delta.ffi.AuditLine
import delta.ffi.Attachment
import delta.ffi.AuditPlace
import delta.ffi.BlobSource
import delta.ffi.BlobStatus
import delta.ffi.Change
import delta.ffi.ClockSkew
import delta.ffi.Config
import delta.ffi.Content
import delta.ffi.DeltaException
import delta.ffi.DirectThread
import delta.ffi.Document
import delta.ffi.DocumentPart
import delta.ffi.Event
import delta.ffi.GapRow
import delta.ffi.Message
import delta.ffi.MessagePage
import delta.ffi.Outbox
import delta.ffi.ParkedRows
import delta.ffi.Pending
import delta.ffi.Reaction
import delta.ffi.RelayHops
import delta.ffi.RunSummary
import delta.ffi.Statistics
import delta.ffi.TicketFacts
import delta.ffi.TopicStatus
import delta.ffi.Cancelled
import delta.ffi.Found
import delta.ffi.Invitation
import delta.ffi.JoinRequest
import delta.ffi.Level
import delta.ffi.LogLevel
import delta.ffi.Member
import delta.ffi.Mention
import delta.ffi.OutboxRow
import delta.ffi.OutboxState
import delta.ffi.OwnDevice
import delta.ffi.Place
import delta.ffi.Profile
import delta.ffi.ReceiptPlace
import delta.ffi.ReceivedPage
import delta.ffi.Room
import delta.ffi.RoomText
import delta.ffi.SearchWords
import delta.ffi.Space
import delta.ffi.SpaceAction
import delta.ffi.SpaceDevice
import delta.ffi.SpaceText
import delta.ffi.StorageUse
import delta.ffi.TopicUse
import delta.ffi.Unread
import delta.ffi.Value
import delta.ffi.ValueKey
import delta.ffi.Version
import delta.ffi.Trouble
import delta.kind
import delta.reason
import java.time.Duration
import java.time.Instant
import java.util.Base64

/** What crosses the bridge, as NativeDelta.ts says: maps, lists, strings, booleans, doubles. Null fields are left out. */
internal typealias Plain = Map<String, Any?>

/** A call that is refused before it reaches Delta, or what Delta refused it with. */
internal class Refused(val kind: String, val code: String, val reason: String) : Exception(reason) {
    fun plain(): Plain = mapOf("kind" to kind, "code" to code, "reason" to reason)
}

internal fun refused(error: Throwable): Refused = when (error) {
    is Refused -> error
    is DeltaException -> Refused(error.kind.name.lowercase(), error.code, error.reason)
    else -> Refused("bug", "native", error.toString())
}

/** The fields of an object from JavaScript. */
internal class Fields(private val fields: Map<String, Any?>) {
    fun text(name: String): String = maybe(name) ?: throw missing(name)
    fun maybe(name: String): String? = typed(name)
    fun flag(name: String, unsaid: Boolean = false): Boolean = typed<Boolean>(name) ?: unsaid
    fun number(name: String): Double? = typed<Double>(name)?.let(::finite)
    fun fields(name: String): Fields = Fields(map(typed<Map<*, *>>(name) ?: throw missing(name)))
    fun texts(name: String): List<String> = typed<List<*>>(name).orEmpty().map { it as? String ?: throw missing(name) }
    fun instant(name: String): Instant? = number(name)?.let(::instant)
    fun millis(name: String): Duration? = number(name)?.let(::duration)

    /** What is of another type was not left out. */
    private inline fun <reified T> typed(name: String): T? = fields[name]?.let { it as? T ?: throw missing(name) }

    @Suppress("UNCHECKED_CAST")
    private fun map(fields: Map<*, *>) = fields as Map<String, Any?>
}

private fun missing(name: String) = Refused("argument", "native", "the field $name is missing or of another type")

internal fun config(fields: Fields, path: String): Config = Config(
    path = path,
    allowPlaintext = fields.flag("allowPlaintext"),
    extraRoots = fields.texts("extraRoots").map(::bytes),
    proxy = fields.maybe("proxy"),
    relays = fields.number("relays")?.let(::count) ?: 3u,
    cover = fields.millis("coverMs"),
    relayDelay = fields.millis("relayDelayMs"),
    acceptV2 = fields.flag("acceptV2"),
    recordsUrl = fields.maybe("recordsUrl"),
    hiddenReading = fields.flag("hiddenReading", true),
    lookBeforeRetry = fields.flag("lookBeforeRetry", true),
    mergeChangesMs = fields.number("mergeChangesMs")?.let(::count) ?: 50u,
    blobCache = fields.number("blobCache")?.let(::above),
    workers = fields.number("workers")?.let(::count),
)

internal fun hops(fields: Fields): RelayHops = when (val kind = fields.text("kind")) {
    "directory" -> RelayHops.Directory(
        fields.text("list"), fields.text("records"), fields.texts("trustedKeys").map { NodeId(hex(it)) },
        count(fields.number("threshold") ?: 1.0),
    )
    "pool" -> RelayHops.Pool(fields.texts("pool"))
    else -> throw unknown(kind)
}

internal fun content(fields: Fields): Content = when (val kind = fields.text("kind")) {
    "messageSend" -> Content.MessageSend(
        fields.text("text"), fields.maybe("reply")?.let { OperationId(hex(it)) },
        fields.texts("mentions").map { Author(hex(it)) }, fields.texts("attachments").map { BlobId(hex(it)) },
    )
    "blobShare" -> Content.BlobShare(BlobId(hex(fields.text("blob"))))
    "messageEdit" -> Content.MessageEdit(OperationId(hex(fields.text("target"))), fields.text("text"))
    "messageDelete" -> Content.MessageDelete(OperationId(hex(fields.text("target"))))
    "reactionAdd" -> Content.ReactionAdd(OperationId(hex(fields.text("target"))), fields.text("emoji"))
    "reactionRemove" -> Content.ReactionRemove(OperationId(hex(fields.text("target"))), fields.text("emoji"))
    "profileSet" -> Content.ProfileSet(
        name = fields.text("name"), bio = fields.maybe("bio"), avatar = fields.maybe("avatar")?.let { BlobId(hex(it)) },
        availability = fields.maybe("availability"), public = fields.flag("public"),
    )
    else -> throw unknown(kind)
}

internal fun source(fields: Fields): BlobSource = when (val kind = fields.text("kind")) {
    "file" -> BlobSource.File(fields.text("path"))
    "bytes" -> BlobSource.Bytes(bytes(fields.text("bytes")))
    else -> throw unknown(kind)
}

internal fun page(fields: Fields): MessagePage = when (val kind = fields.text("kind")) {
    "newest" -> MessagePage.Newest
    "before" -> MessagePage.Before(Position(hex(fields.text("position"))))
    "after" -> MessagePage.After(Position(hex(fields.text("position"))))
    else -> throw unknown(kind)
}

internal fun words(fields: Fields): SearchWords = SearchWords(
    words = fields.text("words"), topic = fields.maybe("topic")?.let { TopicId(hex(it)) },
    author = fields.maybe("author")?.let { Author(hex(it)) }, since = fields.instant("since"),
    until = fields.instant("until"), before = fields.number("before")?.let(::whole),
)

internal fun action(fields: Fields): SpaceAction = when (val kind = fields.text("kind")) {
    "update" -> SpaceAction.Update(spaceText(fields.fields("about")))
    "delete" -> SpaceAction.Delete
    "add" -> SpaceAction.Add(member(fields), level(fields.text("level")))
    "remove" -> SpaceAction.Remove(member(fields))
    "promote" -> SpaceAction.Promote(member(fields), level(fields.text("level")))
    "demote" -> SpaceAction.Demote(member(fields), level(fields.text("level")))
    "leave" -> SpaceAction.Leave
    "transfer" -> SpaceAction.Transfer(member(fields))
    "ban" -> SpaceAction.Ban(member(fields), fields.maybe("reason"))
    "unban" -> SpaceAction.Unban(member(fields))
    "mute" -> SpaceAction.Mute(member(fields), fields.instant("until"))
    "unmute" -> SpaceAction.Unmute(member(fields))
    "revokeInvitation" -> SpaceAction.RevokeInvitation(OperationId(hex(fields.text("invitation"))))
    "updateRoom" -> SpaceAction.UpdateRoom(room(fields), roomText(fields.fields("about")))
    "archiveRoom" -> SpaceAction.ArchiveRoom(room(fields))
    "unarchiveRoom" -> SpaceAction.UnarchiveRoom(room(fields))
    "deleteRoom" -> SpaceAction.DeleteRoom(room(fields))
    else -> throw unknown(kind)
}

private fun member(fields: Fields) = Identity(hex(fields.text("member")))

private fun room(fields: Fields) = LogId(hex(fields.text("room")))

internal fun key(fields: Fields) = ValueKey(fields.text("collection"), fields.text("key"))

internal fun auditPlace(fields: Fields) =
    AuditPlace(count(fields.number("rank") ?: throw missing("rank")), OperationId(hex(fields.text("id"))))

internal fun receiptPlace(fields: Fields) = ReceiptPlace(
    whole(fields.number("at") ?: throw missing("at")), whole(fields.number("arrival") ?: throw missing("arrival")),
)

internal fun spaceText(fields: Fields): SpaceText = SpaceText(
    name = fields.text("name"), label = fields.maybe("label"), description = fields.maybe("description"),
    welcome = fields.maybe("welcome"), avatar = fields.maybe("avatar")?.let { BlobId(hex(it)) },
    cover = fields.maybe("cover")?.let { BlobId(hex(it)) }, public = fields.flag("public"),
    history = fields.flag("history"),
)

internal fun roomText(fields: Fields): RoomText = RoomText(
    name = fields.text("name"), description = fields.maybe("description"),
    cooldown = fields.number("cooldown")?.let(::whole)?.coerceAtLeast(0)?.toULong(),
)

internal fun logLevel(name: String): LogLevel = LogLevel.entries.find { camel(it.name) == name } ?: throw unknown(name)

internal fun logLine(level: LogLevel, target: String, message: String): Map<String, Any?> =
    mapOf("level" to camel(level.name), "target" to target, "message" to message)

internal fun level(name: String): Level = Level.entries.find { camel(it.name) == name } ?: throw unknown(name)

private fun unknown(kind: String) = Refused("argument", "native", "there is no kind $kind here")

/** JavaScript's numbers hold more than numbers: what is none is refused. */
internal fun finite(number: Double): Double =
    if (number.isFinite()) number else throw Refused("argument", "native", "$number is no number here")

/** Numbers that JavaScript holds exactly. */
private const val EXACT = 9_007_199_254_740_991.0

/** What a JavaScript date can say, milliseconds. */
private const val LATEST = 8_640_000_000_000_000.0

internal fun whole(number: Double): Long = within(number, EXACT).toLong()

/** A number that things are counted from: what is below zero is zero. */
internal fun above(number: Double): ULong = whole(number).coerceAtLeast(0).toULong()

internal fun instant(millis: Double): Instant = Instant.ofEpochMilli(within(millis, LATEST).toLong())

/** What is below zero is zero. */
internal fun duration(millis: Double): Duration = Duration.ofMillis(within(millis, EXACT).toLong().coerceAtLeast(0))

private fun within(number: Double, limit: Double): Double =
    if (Math.abs(finite(number)) <= limit) number else throw Refused("argument", "native", "$number is out of range")

/** A count from JavaScript: what is below zero is zero. */
internal fun count(number: Double): UInt = finite(number).toLong().coerceIn(0, UInt.MAX_VALUE.toLong()).toUInt()

internal fun hex(text: String): ByteArray =
    runCatching { Id.bytes(text) }.getOrElse { throw Refused("argument", "id", "an id is hex digits in pairs") }

internal fun bytes(base64: String): ByteArray = try {
    Base64.getDecoder().decode(base64)
} catch (error: IllegalArgumentException) {
    throw Refused("argument", "native", "bytes are passed as base64")
}

private fun plain(vararg fields: Pair<String, Any?>): Plain = fields.filter { it.second != null }.toMap()

private val ULong.plain: Double get() = toDouble()
private val ULong?.orNothing: Double? get() = this?.toDouble()
private val Instant?.orNothing: Double? get() = this?.toEpochMilli()?.toDouble()

internal fun Message.plain(): Plain = plain(
    "id" to "$id", "author" to "$author", "position" to "$position", "text" to text, "reply" to reply?.toString(),
    "mentions" to mentions.map { "$it" }, "attachments" to attachments.map { it.plain() },
    "acknowledged" to acknowledged, "sentAt" to sentAt.orNothing,
    "receivedAt" to receivedAt.orNothing, "editedAt" to editedAt.orNothing, "deleted" to deleted,
)

internal fun Attachment.plain(): Plain =
    plain("blob" to "$blob", "size" to size.plain, "mime" to mime, "name" to name)

internal fun BlobStatus.plain(): Plain = plain(
    "about" to about.plain(), "state" to camel(state.name), "have" to have.toDouble(), "of" to of.toDouble(),
)

internal fun Reaction.plain(): Plain = plain("emoji" to emoji, "author" to "$author", "person" to "$person", "id" to "$id")

internal fun TopicStatus.plain(): Plain = plain(
    "connection" to camel(connection.name), "cursor" to cursor.plain, "head" to head.orNothing,
    "gaps" to gaps.map { it.plain() }, "outbox" to outbox.plain(), "pending" to pending.plain(),
    "blocked" to blocked?.plain(), "unreadable" to unreadable?.plain(), "clockSkew" to clockSkew?.plain(),
    "roundTripMs" to roundTripMs.orNothing,
)

private fun ClockSkew.plain(): Plain = plain("aheadMs" to aheadMs.toDouble())

private fun GapRow.plain(): Plain = plain("first" to first.plain, "last" to last.plain)

private fun Outbox.plain(): Plain = plain(
    "queued" to queued.plain, "sent" to sent.plain, "parked" to parked.plain,
    "parkedReasons" to parkedReasons.map { it.plain() },
)

private fun ParkedRows.plain(): Plain = plain("reason" to reason, "count" to count.plain)

private fun Pending.plain(): Plain =
    plain("key" to key.plain, "predecessor" to predecessor.plain, "bytes" to bytes.plain)

private fun Trouble.plain(): Plain = plain("code" to code, "reason" to reason)

internal fun Statistics.plain(): Plain = plain(
    "topics" to topics.plain, "operations" to operations.plain, "queued" to queued.plain, "sent" to sent.plain,
    "parked" to parked.plain, "outboxBytes" to outboxBytes.plain, "storedBytes" to storedBytes.plain,
)

internal fun RunSummary.plain(): Plain = plain(
    "complete" to complete, "topics" to topics.plain, "caughtUp" to caughtUp.plain, "received" to received.plain,
    "waiting" to waiting.plain, "blobs" to blobs.plain,
)

internal fun TicketFacts.plain(): Plain =
    plain("topic" to "$topic", "log" to "$log", "canWrite" to canWrite, "public" to public)

internal fun Version.plain(): Plain = plain("id" to "$id", "text" to text, "sentAt" to sentAt.orNothing)

internal fun Unread.plain(): Plain = plain("messages" to messages.plain, "mentions" to mentions.plain)

internal fun Profile.plain(): Plain = plain(
    "author" to "$author", "log" to "$log", "name" to name, "bio" to bio, "avatar" to avatar?.toString(),
    "availability" to availability, "public" to public,
)

internal fun Found.plain(): Plain =
    plain("message" to message.plain(), "log" to "$log", "arrival" to arrival.toDouble(), "excerpt" to excerpt)

internal fun Mention.plain(): Plain =
    plain("message" to message.plain(), "log" to "$log", "arrival" to arrival.toDouble())

internal fun ReceivedPage.plain(): Plain = plain(
    "messages" to messages.map { it.plain() },
    "next" to next?.let { plain("at" to it.at.toDouble(), "arrival" to it.arrival.toDouble()) },
)

internal fun Value.plain(): Plain = plain(
    "at" to at.plain(), "value" to base64(value), "author" to "$author", "id" to "$id",
    "writtenAt" to writtenAt.orNothing,
)

private fun ValueKey.plain(): Plain = plain("collection" to collection, "key" to key)

internal fun Document.plain(): Plain = plain("id" to "$id", "path" to path, "author" to "$author")

internal fun DocumentPart.plain(): Plain = plain(
    "number" to number.plain, "id" to "$id", "author" to "$author", "snapshot" to snapshot, "bytes" to base64(bytes),
)

internal fun SpaceDevice.plain(): Plain = plain("device" to "$device", "person" to "$person", "revoked" to revoked)

internal fun Invitation.plain(): Plain = plain(
    "id" to "$id", "level" to camel(level.name), "expires" to expires.orNothing, "once" to once, "used" to used,
)

internal fun JoinRequest.plain(): Plain =
    plain("id" to "$id", "author" to "$author", "invitation" to invitation?.toString(), "text" to text)

internal fun AuditLine.plain(): Plain = plain(
    "place" to plain("rank" to place.rank.toDouble(), "id" to "${place.id}"), "who" to "$who", "kind" to kind,
    "subject" to subject?.toString(), "device" to device?.toString(),
)

internal fun OwnDevice.plain(): Plain = plain("device" to "$device", "this" to `this`, "revoked" to revoked)

internal fun base64(bytes: ByteArray): String = Base64.getEncoder().encodeToString(bytes)

internal fun OutboxRow.plain(): Plain = plain(
    "row" to row.toDouble(), "operation" to "$operation", "bytes" to bytes.toDouble(), "own" to own,
    "state" to state.plain(), "tries" to tries.toDouble(), "notBefore" to notBefore.orNothing,
)

private fun OutboxState.plain(): Plain = when (this) {
    is OutboxState.Queued -> plain("kind" to "queued")
    is OutboxState.Sent -> plain("kind" to "sent")
    is OutboxState.Parked -> plain("kind" to "parked", "reason" to reason)
}

internal fun Cancelled.plain(): Plain = when (this) {
    is Cancelled.Removed -> plain("kind" to "removed")
    is Cancelled.Deleted -> plain("kind" to "deleted", "operation" to "$operation")
}

internal fun Place.plain(): Plain = plain("log" to "$log", "topic" to "$topic")

internal fun Space.plain(): Plain = plain(
    "space" to "$space", "topic" to topic?.toString(), "about" to about.plain(), "deleted" to deleted,
    "updateRequired" to updateRequired,
)

private fun SpaceText.plain(): Plain = plain(
    "name" to name, "label" to label, "description" to description, "welcome" to welcome,
    "avatar" to avatar?.toString(), "cover" to cover?.toString(), "public" to public, "history" to history,
)

internal fun Room.plain(): Plain = plain(
    "room" to "$room", "space" to "$space", "topic" to topic?.toString(), "about" to about.plain(),
    "state" to camel(state.name),
)

private fun RoomText.plain(): Plain =
    plain("name" to name, "description" to description, "cooldown" to cooldown.orNothing)

internal fun Member.plain(): Plain =
    plain("member" to "$member", "level" to level?.let { camel(it.name) }, "muted" to muted, "banned" to banned)

internal fun DirectThread.plain(): Plain = plain(
    "thread" to "$thread", "peer" to "$peer", "state" to camel(state.name), "text" to text, "log" to log?.toString(),
    "topic" to topic?.toString(), "madeAt" to madeAt.orNothing,
)

internal fun StorageUse.plain(): Plain = plain(
    "fileBytes" to fileBytes.plain, "freeBytes" to freeBytes.plain, "topics" to topics.map { it.plain() },
)

private fun TopicUse.plain(): Plain = plain(
    "log" to "$log", "topic" to topic?.toString(), "operations" to operations.plain, "bytes" to bytes.plain,
)

private fun Change.plain(): Plain =
    plain(
        "log" to "$log", "kind" to camel(kind.name), "ids" to ids.map { OperationId(it).toString() },
        "keys" to keys.map { it.plain() },
    )

internal fun Event.plain(): Plain = when (this) {
    is Event.Changed -> plain("kind" to "changed", "topic" to "$topic", "changes" to changes.map { it.plain() })
    is Event.Acknowledged ->
        plain("kind" to "acknowledged", "topic" to "$topic", "operation" to "$operation", "seq" to seq.plain)
    is Event.ConnectionChanged ->
        plain("kind" to "connectionChanged", "topic" to "$topic", "connection" to camel(connection.name))
    is Event.Reset -> plain("kind" to "reset", "topic" to "$topic")
    is Event.Gap -> plain("kind" to "gap", "topic" to "$topic", "first" to first.plain, "last" to last.plain)
    is Event.ServerFault -> plain("kind" to "serverFault", "topic" to "$topic", "reason" to reason)
    is Event.ServerEquivocates ->
        plain("kind" to "serverEquivocates", "topic" to "$topic", "author" to "$author", "operation" to "$operation")
    is Event.ServerWithholds -> plain("kind" to "serverWithholds", "topic" to "$topic", "seq" to seq.plain)
    is Event.FalseReset -> plain("kind" to "falseReset", "topic" to "$topic")
    is Event.TopicClosed ->
        plain("kind" to "topicClosed", "topic" to "$topic", "rotator" to "$rotator", "successor" to "$successor")
    is Event.Moved -> plain("kind" to "moved", "topic" to "$topic", "successor" to "$successor")
    is Event.AwaitingKey ->
        plain("kind" to "awaitingKey", "topic" to "$topic", "successor" to "$successor", "reason" to reason)
    is Event.RotationLost -> plain("kind" to "rotationLost", "topic" to "$topic", "operation" to "$operation")
    is Event.Forked -> plain("kind" to "forked", "topic" to "$topic", "author" to "$author", "log" to "$log")
    is Event.Signal -> plain(
        "kind" to "signal", "topic" to "$topic", "author" to "$author",
        "bytes" to base64(bytes),
    )
    is Event.SignalSent -> plain("kind" to "signalSent", "topic" to "$topic", "taken" to taken)
    is Event.Readable -> plain("kind" to "readable", "topic" to "$topic", "trouble" to trouble?.plain())
    is Event.Delivery -> plain("kind" to "delivery", "topic" to "$topic", "trouble" to trouble?.plain())
    is Event.ClockSkew -> plain("kind" to "clockSkew", "topic" to "$topic", "skew" to skew?.plain())
    is Event.Storage -> plain("kind" to "storage", "topic" to "$topic", "trouble" to trouble?.plain())
    is Event.Lagged -> plain("kind" to "lagged", "topic" to "$topic", "dropped" to dropped.plain)
    is Event.Closed -> plain("kind" to "closed", "topic" to "$topic")
}

/** `CAUGHT_UP` as JavaScript writes it: `caughtUp`. */
private fun camel(name: String): String =
    name.lowercase().split('_').joinToString("") { it.replaceFirstChar(Char::uppercase) }.replaceFirstChar(Char::lowercase)
