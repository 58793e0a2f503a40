package delta.reactnative

import delta.Author
import delta.BlobId
import delta.Id
import delta.NodeId
import delta.OperationId
import delta.Position
import delta.TopicId
import delta.ffi.Change
import delta.ffi.ClockSkew
import delta.ffi.Config
import delta.ffi.Content
import delta.ffi.DeltaException
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
import delta.ffi.Level
import delta.ffi.Member
import delta.ffi.OutboxRow
import delta.ffi.OutboxState
import delta.ffi.Place
import delta.ffi.Profile
import delta.ffi.Room
import delta.ffi.RoomText
import delta.ffi.SearchWords
import delta.ffi.Space
import delta.ffi.SpaceText
import delta.ffi.StorageUse
import delta.ffi.TopicUse
import delta.ffi.Unread
import delta.ffi.Version
import delta.ffi.Trouble
import java.time.Duration
import java.time.Instant
import java.util.Base64

/** What crosses the bridge, as NativeDelta.ts says: maps, lists, strings, booleans, doubles. Null fields are left out. */
internal typealias Plain = Map<String, Any?>

/** A call that is refused before it reaches Delta, or what Delta refused it with. */
internal class Refused(val kind: String, val code: String, val reason: String) : Exception(reason) {
    fun plain(): Plain = mapOf("kind" to kind, "code" to code, "reason" to reason)
}

internal fun refused(error: Exception): Refused = when (error) {
    is Refused -> error
    is DeltaException.Argument -> Refused("argument", error.code, error.reason)
    is DeltaException.State -> Refused("state", error.code, error.reason)
    is DeltaException.Device -> Refused("device", error.code, error.reason)
    is DeltaException.Keystore -> Refused("keystore", error.code, error.reason)
    is DeltaException.Network -> Refused("network", error.code, error.reason)
    is DeltaException.Server -> Refused("server", error.code, error.reason)
    is DeltaException.Bug -> Refused("bug", error.code, error.reason)
    else -> Refused("bug", "native", error.toString())
}

/** The fields of an object from JavaScript. */
internal class Fields(private val fields: Map<String, Any?>) {
    fun text(name: String): String = maybe(name) ?: throw missing(name)
    fun maybe(name: String): String? = fields[name] as? String
    fun flag(name: String): Boolean = fields[name] as? Boolean ?: false
    fun number(name: String): Double? = fields[name] as? Double
    fun texts(name: String): List<String> = (fields[name] as? List<*>).orEmpty().map { it as? String ?: throw missing(name) }
    fun instant(name: String): Instant? = number(name)?.let { Instant.ofEpochMilli(it.toLong()) }
    fun millis(name: String): Duration? = number(name)?.let { Duration.ofMillis(it.toLong()) }

    private fun missing(name: String) = Refused("argument", "native", "the field $name is missing or of another type")
}

internal fun config(fields: Fields, path: String): Config = Config(
    path = path,
    allowPlaintext = fields.flag("allowPlaintext"),
    extraRoots = fields.texts("extraRoots").map(::bytes),
    relays = fields.number("relays")?.let(::count) ?: 3u,
    cover = fields.millis("coverMs"),
    relayDelay = fields.millis("relayDelayMs"),
    acceptV2 = fields.flag("acceptV2"),
    recordsUrl = fields.maybe("recordsUrl"),
    mergeChangesMs = fields.number("mergeChangesMs")?.let(::count) ?: 50u,
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
        fields.texts("mentions").map { Author(hex(it)) },
    )
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

internal fun page(fields: Fields): MessagePage = when (val kind = fields.text("kind")) {
    "newest" -> MessagePage.Newest
    "before" -> MessagePage.Before(Position(hex(fields.text("position"))))
    "after" -> MessagePage.After(Position(hex(fields.text("position"))))
    else -> throw unknown(kind)
}

internal fun words(fields: Fields): SearchWords = SearchWords(
    words = fields.text("words"), topic = fields.maybe("topic")?.let { TopicId(hex(it)) },
    author = fields.maybe("author")?.let { Author(hex(it)) }, since = fields.instant("since"),
    until = fields.instant("until"),
)

internal fun spaceText(fields: Fields): SpaceText = SpaceText(
    name = fields.text("name"), label = fields.maybe("label"), description = fields.maybe("description"),
    welcome = fields.maybe("welcome"), avatar = fields.maybe("avatar")?.let { BlobId(hex(it)) },
    cover = fields.maybe("cover")?.let { BlobId(hex(it)) }, public = fields.flag("public"),
    history = fields.flag("history"),
)

internal fun roomText(fields: Fields): RoomText = RoomText(
    name = fields.text("name"), description = fields.maybe("description"),
    cooldown = fields.number("cooldown")?.toLong()?.coerceAtLeast(0)?.toULong(),
)

internal fun level(name: String): Level = Level.entries.find { camel(it.name) == name } ?: throw unknown(name)

private fun unknown(kind: String) = Refused("argument", "native", "there is no kind $kind here")

/** A count from JavaScript: what is below zero is zero. */
internal fun count(number: Double): UInt = number.toLong().coerceIn(0, UInt.MAX_VALUE.toLong()).toUInt()

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
    "mentions" to mentions.map { "$it" }, "acknowledged" to acknowledged, "sentAt" to sentAt.orNothing,
    "receivedAt" to receivedAt.orNothing, "editedAt" to editedAt.orNothing, "deleted" to deleted,
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
    "waiting" to waiting.plain,
)

internal fun TicketFacts.plain(): Plain =
    plain("topic" to "$topic", "log" to "$log", "canWrite" to canWrite, "public" to public)

internal fun Version.plain(): Plain = plain("id" to "$id", "text" to text, "sentAt" to sentAt.orNothing)

internal fun Unread.plain(): Plain = plain("messages" to messages.plain, "mentions" to mentions.plain)

internal fun Profile.plain(): Plain = plain(
    "author" to "$author", "log" to "$log", "name" to name, "bio" to bio, "avatar" to avatar?.toString(),
    "availability" to availability, "public" to public,
)

internal fun Found.plain(): Plain = plain("message" to message.plain(), "log" to "$log", "excerpt" to excerpt)

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

internal fun StorageUse.plain(): Plain = plain(
    "fileBytes" to fileBytes.plain, "freeBytes" to freeBytes.plain, "topics" to topics.map { it.plain() },
)

private fun TopicUse.plain(): Plain = plain(
    "log" to "$log", "topic" to topic?.toString(), "operations" to operations.plain, "bytes" to bytes.plain,
)

private fun Change.plain(): Plain =
    plain(
        "log" to "$log", "kind" to camel(kind.name), "ids" to ids.map { OperationId(it).toString() },
        "keys" to keys.map { plain("collection" to it.collection, "key" to it.key) },
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
        "bytes" to Base64.getEncoder().encodeToString(bytes),
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
