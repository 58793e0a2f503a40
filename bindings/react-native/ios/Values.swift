import Foundation
#if canImport(DeltaKit)
import DeltaKit
#endif

func refused(_ code: String, _ reason: String) -> DeltaError { .Argument(code: code, reason: reason) }

/// The fields of an object from JavaScript.
struct Fields {
    let values: [String: Any]

    func maybe(_ name: String) throws -> String? { try typed(name) }
    func number(_ name: String) throws -> Double? { try typed(name).map(finite) }
    func fields(_ name: String) throws -> Fields { Fields(values: try typed(name) ?? { throw missing(name) }()) }
    func flag(_ name: String, unsaid: Bool = false) throws -> Bool { try typed(name) ?? unsaid }
    func texts(_ name: String) throws -> [String] { try typed(name) ?? [] }
    func text(_ name: String) throws -> String { try maybe(name) ?? { throw missing(name) }() }

    /// What is of another type was not left out.
    private func typed<Value>(_ name: String) throws -> Value? {
        guard let value = values[name], !(value is NSNull) else { return nil }
        guard let typed = value as? Value else { throw missing(name) }
        return typed
    }

    private func missing(_ name: String) -> DeltaError {
        refused("native", "the field \(name) is missing or of another type")
    }
}

func id<Found: Id>(_ hex: String) throws -> Found {
    guard let found = Found(hex: hex) else { throw refused("id", "an id is hex digits in pairs") }
    return found
}

func bytes(_ base64: String) throws -> Data {
    guard let bytes = Data(base64Encoded: base64) else { throw refused("native", "bytes are passed as base64") }
    return bytes
}

/// JavaScript's numbers hold more than numbers: what is none is refused. (Swift's integers would end the app.)
func finite(_ number: Double) throws -> Double {
    guard number.isFinite else { throw refused("native", "\(number) is no number here") }
    return number
}

private func within(_ number: Double, _ limit: Double) throws -> Double {
    guard abs(try finite(number)) <= limit else { throw refused("native", "\(number) is out of range") }
    return number
}

/// Numbers that JavaScript holds exactly.
private let exact = 9_007_199_254_740_991.0
/// What a JavaScript date can say, milliseconds.
private let latest = 8_640_000_000_000_000.0

/// A count from JavaScript: what is below zero is zero.
func count(_ number: Double) throws -> UInt32 {
    UInt32(max(0, min(try finite(number), Double(UInt32.max))))
}

func whole(_ number: Double) throws -> Int64 { Int64(try within(number, exact)) }

/// A number that things are counted from: what is below zero is zero.
func above(_ number: Double) throws -> UInt64 { UInt64(max(0, try whole(number))) }

func date(_ millis: Double) throws -> Date { Date(timeIntervalSince1970: try within(millis, latest) / 1000) }

/// Milliseconds as seconds. What is below zero is zero.
func interval(_ millis: Double) throws -> TimeInterval { max(0, try within(millis, exact)) / 1000 }

func millis(_ date: Date) -> Double { (date.timeIntervalSince1970 * 1000).rounded() }

func config(_ fields: Fields, path: String) throws -> Config {
    Config(
        path: path, allowPlaintext: try fields.flag("allowPlaintext"), extraRoots: try fields.texts("extraRoots").map(bytes),
        proxy: try fields.maybe("proxy"),
        relays: try fields.number("relays").map(count) ?? 3, cover: try fields.number("coverMs").map(interval),
        relayDelay: try fields.number("relayDelayMs").map(interval), acceptV2: try fields.flag("acceptV2"),
        recordsUrl: try fields.maybe("recordsUrl"), hiddenReading: try fields.flag("hiddenReading", unsaid: true),
        lookBeforeRetry: try fields.flag("lookBeforeRetry", unsaid: true), mergeChangesMs: try fields.number("mergeChangesMs").map(count) ?? 50,
        blobCache: try fields.number("blobCache").map(above),
        workers: try fields.number("workers").map(count)
    )
}

func hops(_ fields: Fields) throws -> RelayHops {
    switch try fields.text("kind") {
    case "directory":
        .directory(
            list: try fields.text("list"), records: try fields.text("records"),
            trustedKeys: try fields.texts("trustedKeys").map(id), threshold: try count(fields.number("threshold") ?? 1)
        )
    case "pool": .pool(records: try fields.texts("pool"))
    case let kind: throw refused("native", "there is no kind \(kind) here")
    }
}

func content(_ fields: Fields) throws -> Content {
    switch try fields.text("kind") {
    case "messageSend":
        .messageSend(
            text: try fields.text("text"), reply: try fields.maybe("reply").map(id),
            mentions: try fields.texts("mentions").map(id), attachments: try fields.texts("attachments").map(id)
        )
    case "blobShare": .blobShare(blob: try id(fields.text("blob")))
    case "messageEdit": .messageEdit(target: try id(fields.text("target")), text: try fields.text("text"))
    case "messageDelete": .messageDelete(target: try id(fields.text("target")))
    case "reactionAdd": .reactionAdd(target: try id(fields.text("target")), emoji: try fields.text("emoji"))
    case "reactionRemove": .reactionRemove(target: try id(fields.text("target")), emoji: try fields.text("emoji"))
    case "profileSet":
        .profileSet(
            name: try fields.text("name"), bio: try fields.maybe("bio"),
            avatar: try fields.maybe("avatar").map { try id($0) }, availability: try fields.maybe("availability"),
            public: try fields.flag("public")
        )
    case let kind: throw refused("native", "there is no kind \(kind) here")
    }
}

func source(_ fields: Fields) throws -> BlobSource {
    switch try fields.text("kind") {
    case "file": .file(path: try fields.text("path"))
    case "bytes": .bytes(bytes: try bytes(fields.text("bytes")))
    case let kind: throw refused("native", "there is no kind \(kind) here")
    }
}

func words(_ fields: Fields) throws -> SearchWords {
    SearchWords(
        words: try fields.text("words"), topic: try fields.maybe("topic").map { try id($0) },
        author: try fields.maybe("author").map { try id($0) }, since: try fields.number("since").map(date),
        until: try fields.number("until").map(date), before: try fields.number("before").map(whole)
    )
}

func action(_ fields: Fields) throws -> SpaceAction {
    switch try fields.text("kind") {
    case "update": .update(about: try spaceText(try fields.fields("about")))
    case "delete": .delete
    case "add": .add(member: try id(fields.text("member")), level: try level(fields.text("level")))
    case "remove": .remove(member: try id(fields.text("member")))
    case "promote": .promote(member: try id(fields.text("member")), level: try level(fields.text("level")))
    case "demote": .demote(member: try id(fields.text("member")), level: try level(fields.text("level")))
    case "leave": .leave
    case "transfer": .transfer(member: try id(fields.text("member")))
    case "ban": .ban(member: try id(fields.text("member")), reason: try fields.maybe("reason"))
    case "unban": .unban(member: try id(fields.text("member")))
    case "mute": .mute(member: try id(fields.text("member")), until: try fields.number("until").map(date))
    case "unmute": .unmute(member: try id(fields.text("member")))
    case "revokeInvitation": .revokeInvitation(invitation: try id(fields.text("invitation")))
    case "updateRoom": .updateRoom(room: try id(fields.text("room")), about: try roomText(try fields.fields("about")))
    case "archiveRoom": .archiveRoom(room: try id(fields.text("room")))
    case "unarchiveRoom": .unarchiveRoom(room: try id(fields.text("room")))
    case "deleteRoom": .deleteRoom(room: try id(fields.text("room")))
    case let kind: throw refused("native", "there is no kind \(kind) here")
    }
}

func key(_ fields: Fields) throws -> ValueKey {
    ValueKey(collection: try fields.text("collection"), key: try fields.text("key"))
}

func auditPlace(_ fields: Fields) throws -> AuditPlace {
    AuditPlace(rank: try count(fields.number("rank") ?? .nan), id: try id(fields.text("id")))
}

func receiptPlace(_ fields: Fields) throws -> ReceiptPlace {
    ReceiptPlace(at: try whole(fields.number("at") ?? .nan), arrival: try whole(fields.number("arrival") ?? .nan))
}

func spaceText(_ fields: Fields) throws -> SpaceText {
    SpaceText(
        name: try fields.text("name"), label: try fields.maybe("label"), description: try fields.maybe("description"),
        welcome: try fields.maybe("welcome"), avatar: try fields.maybe("avatar").map { try id($0) },
        cover: try fields.maybe("cover").map { try id($0) }, public: try fields.flag("public"),
        history: try fields.flag("history")
    )
}

func roomText(_ fields: Fields) throws -> RoomText {
    RoomText(
        name: try fields.text("name"), description: try fields.maybe("description"),
        cooldown: try fields.number("cooldown").map { UInt64(max(0, try whole($0))) }
    )
}

func level(_ name: String) throws -> Level {
    switch name {
    case "pull": .pull
    case "read": .read
    case "write": .write
    case "manage": .manage
    default: throw refused("native", "there is no kind \(name) here")
    }
}

func logLevel(_ name: String) throws -> LogLevel {
    switch name {
    case "error": .error
    case "warn": .warn
    case "info": .info
    case "debug": .debug
    case "trace": .trace
    default: throw refused("native", "there is no kind \(name) here")
    }
}

func page(_ fields: Fields) throws -> MessagePage {
    switch try fields.text("kind") {
    case "newest": .newest
    case "before": .before(position: try id(fields.text("position")))
    case "after": .after(position: try id(fields.text("position")))
    case let kind: throw refused("native", "there is no kind \(kind) here")
    }
}

/// Nothing is left out of what JavaScript gets but what is not there.
private func fields(_ values: [String: Any?]) -> [String: Any] { values.compactMapValues { $0 } }

func plain(_ message: Message) -> [String: Any] {
    fields([
        "id": "\(message.id)", "author": "\(message.author)", "position": "\(message.position)", "text": message.text,
        "reply": message.reply?.description, "mentions": message.mentions.map(\.description),
        "attachments": message.attachments.map { plain($0) },
        "acknowledged": message.acknowledged, "sentAt": message.sentAt.map(millis),
        "receivedAt": message.receivedAt.map(millis), "editedAt": message.editedAt.map(millis),
        "deleted": message.deleted,
    ])
}

func plain(_ attachment: Attachment) -> [String: Any] {
    fields([
        "blob": "\(attachment.blob)", "size": Double(attachment.size), "mime": attachment.mime,
        "name": attachment.name,
    ])
}

func plain(_ status: BlobStatus) -> [String: Any] {
    [
        "about": plain(status.about), "state": "\(status.state)", "have": Double(status.have),
        "of": Double(status.of),
    ]
}

func plain(_ reaction: Reaction) -> [String: Any] {
    ["emoji": reaction.emoji, "author": "\(reaction.author)", "person": "\(reaction.person)", "id": "\(reaction.id)"]
}

private func plain(_ skew: ClockSkew) -> [String: Any] {
    ["aheadMs": Double(skew.aheadMs)]
}

func plain(_ status: TopicStatus) -> [String: Any] {
    fields([
        "connection": "\(status.connection)", "cursor": Double(status.cursor), "head": status.head.map(Double.init),
        "gaps": status.gaps.map { ["first": Double($0.first), "last": Double($0.last)] }, "outbox": plain(status.outbox),
        "pending": [
            "key": Double(status.pending.key), "predecessor": Double(status.pending.predecessor),
            "bytes": Double(status.pending.bytes),
        ],
        "blocked": status.blocked.map(plain), "unreadable": status.unreadable.map(plain),
        "clockSkew": status.clockSkew.map(plain), "roundTripMs": status.roundTripMs.map(Double.init),
    ])
}

private func plain(_ outbox: Outbox) -> [String: Any] {
    [
        "queued": Double(outbox.queued), "sent": Double(outbox.sent), "parked": Double(outbox.parked),
        "parkedReasons": outbox.parkedReasons.map { ["reason": $0.reason, "count": Double($0.count)] },
    ]
}

private func plain(_ trouble: Trouble) -> [String: Any] { ["code": trouble.code, "reason": trouble.reason] }

func plain(_ statistics: Statistics) -> [String: Any] {
    [
        "topics": Double(statistics.topics), "operations": Double(statistics.operations),
        "queued": Double(statistics.queued), "sent": Double(statistics.sent), "parked": Double(statistics.parked),
        "outboxBytes": Double(statistics.outboxBytes), "storedBytes": Double(statistics.storedBytes),
    ]
}

func plain(_ summary: RunSummary) -> [String: Any] {
    [
        "complete": summary.complete, "topics": Double(summary.topics), "caughtUp": Double(summary.caughtUp),
        "received": Double(summary.received), "waiting": Double(summary.waiting),
        "blobs": Double(summary.blobs),
    ]
}

func plain(_ facts: TicketFacts) -> [String: Any] {
    ["topic": "\(facts.topic)", "log": "\(facts.log)", "canWrite": facts.canWrite, "public": facts.`public`]
}

func plain(_ version: Version) -> [String: Any] {
    fields(["id": "\(version.id)", "text": version.text, "sentAt": version.sentAt.map(millis)])
}

func plain(_ unread: Unread) -> [String: Any] {
    ["messages": Double(unread.messages), "mentions": Double(unread.mentions)]
}

func plain(_ profile: Profile) -> [String: Any] {
    fields([
        "author": "\(profile.author)", "log": "\(profile.log)", "name": profile.name, "bio": profile.bio,
        "avatar": profile.avatar?.description, "availability": profile.availability, "public": profile.`public`,
    ])
}

func plain(_ found: Found) -> [String: Any] {
    [
        "message": plain(found.message), "log": "\(found.log)", "arrival": Double(found.arrival),
        "excerpt": found.excerpt,
    ]
}

func plain(_ mention: Mention) -> [String: Any] {
    ["message": plain(mention.message), "log": "\(mention.log)", "arrival": Double(mention.arrival)]
}

func plain(_ page: ReceivedPage) -> [String: Any] {
    fields([
        "messages": page.messages.map(plain),
        "next": page.next.map { ["at": Double($0.at), "arrival": Double($0.arrival)] },
    ])
}

func plain(_ value: Value) -> [String: Any] {
    [
        "at": plain(value.at), "value": value.value.base64EncodedString(), "author": "\(value.author)",
        "id": "\(value.id)", "writtenAt": millis(value.writtenAt),
    ]
}

private func plain(_ key: ValueKey) -> [String: Any] { ["collection": key.collection, "key": key.key] }

func plain(_ document: Document) -> [String: Any] {
    ["id": "\(document.id)", "path": document.path, "author": "\(document.author)"]
}

func plain(_ part: DocumentPart) -> [String: Any] {
    [
        "number": Double(part.number), "id": "\(part.id)", "author": "\(part.author)", "snapshot": part.snapshot,
        "bytes": part.bytes.base64EncodedString(),
    ]
}

func plain(_ device: SpaceDevice) -> [String: Any] {
    ["device": "\(device.device)", "person": "\(device.person)", "revoked": device.revoked]
}

func plain(_ invitation: Invitation) -> [String: Any] {
    fields([
        "id": "\(invitation.id)", "level": "\(invitation.level)", "expires": invitation.expires.map(millis),
        "once": invitation.once, "used": invitation.used,
    ])
}

func plain(_ request: JoinRequest) -> [String: Any] {
    fields([
        "id": "\(request.id)", "author": "\(request.author)", "invitation": request.invitation?.description,
        "text": request.text,
    ])
}

func plain(_ line: AuditLine) -> [String: Any] {
    fields([
        "place": ["rank": Double(line.place.rank), "id": "\(line.place.id)"], "who": "\(line.who)",
        "kind": line.kind, "subject": line.subject?.description, "device": line.device?.description,
    ])
}

func plain(_ device: OwnDevice) -> [String: Any] {
    ["device": "\(device.device)", "this": device.this, "revoked": device.revoked]
}

func plain(_ row: OutboxRow) -> [String: Any] {
    [
        "row": Double(row.row), "operation": "\(row.operation)", "bytes": Double(row.bytes), "own": row.own,
        "state": plain(row.state), "tries": Double(row.tries), "notBefore": millis(row.notBefore),
    ]
}

private func plain(_ state: OutboxState) -> [String: Any] {
    switch state {
    case .queued: ["kind": "queued"]
    case .sent: ["kind": "sent"]
    case let .parked(reason): ["kind": "parked", "reason": reason]
    }
}

func plain(_ cancelled: Cancelled) -> [String: Any] {
    switch cancelled {
    case .removed: ["kind": "removed"]
    case let .deleted(operation): ["kind": "deleted", "operation": "\(operation)"]
    }
}

func plain(_ place: Place) -> [String: Any] { ["log": "\(place.log)", "topic": "\(place.topic)"] }

func plain(_ space: Space) -> [String: Any] {
    fields([
        "space": "\(space.space)", "topic": space.topic?.description, "about": plain(space.about),
        "deleted": space.deleted, "updateRequired": space.updateRequired,
    ])
}

private func plain(_ text: SpaceText) -> [String: Any] {
    fields([
        "name": text.name, "label": text.label, "description": text.description, "welcome": text.welcome,
        "avatar": text.avatar?.description, "cover": text.cover?.description, "public": text.`public`,
        "history": text.history,
    ])
}

func plain(_ room: Room) -> [String: Any] {
    fields([
        "room": "\(room.room)", "space": "\(room.space)", "topic": room.topic?.description, "about": plain(room.about),
        "state": "\(room.state)",
    ])
}

private func plain(_ text: RoomText) -> [String: Any] {
    fields(["name": text.name, "description": text.description, "cooldown": text.cooldown.map(Double.init)])
}

func plain(_ member: Member) -> [String: Any] {
    fields([
        "member": "\(member.member)", "level": member.level.map { "\($0)" }, "muted": member.muted,
        "banned": member.banned,
    ])
}

func plain(_ thread: DirectThread) -> [String: Any] {
    fields([
        "thread": "\(thread.thread)", "peer": "\(thread.peer)", "state": "\(thread.state)", "text": thread.text,
        "log": thread.log?.description, "topic": thread.topic?.description, "madeAt": millis(thread.madeAt),
    ])
}

func plain(_ use: StorageUse) -> [String: Any] {
    let topics = use.topics.map { one in
        fields([
            "log": "\(one.log)", "topic": one.topic?.description, "operations": Double(one.operations),
            "bytes": Double(one.bytes),
        ])
    }
    return ["fileBytes": Double(use.fileBytes), "freeBytes": Double(use.freeBytes), "topics": topics]
}

private func plain(_ change: Change) -> [String: Any] {
    [
        "log": "\(change.log)", "kind": "\(change.kind)", "ids": change.ids.map { OperationId($0).description },
        "keys": change.keys.map(plain),
    ]
}

func plain(_ event: Event) -> [String: Any] {
    func named(_ kind: String, _ topic: TopicId, _ more: [String: Any?] = [:]) -> [String: Any] {
        fields(more).merging(["kind": kind, "topic": "\(topic)"]) { $1 }
    }
    switch event {
    case let .changed(topic, changes): return named("changed", topic, ["changes": changes.map(plain)])
    case let .acknowledged(topic, operation, seq):
        return named("acknowledged", topic, ["operation": "\(operation)", "seq": Double(seq)])
    case let .connectionChanged(topic, connection):
        return named("connectionChanged", topic, ["connection": "\(connection)"])
    case let .reset(topic): return named("reset", topic)
    case let .gap(topic, first, last): return named("gap", topic, ["first": Double(first), "last": Double(last)])
    case let .serverFault(topic, reason): return named("serverFault", topic, ["reason": reason])
    case let .serverEquivocates(topic, author, operation):
        return named("serverEquivocates", topic, ["author": "\(author)", "operation": "\(operation)"])
    case let .serverWithholds(topic, seq): return named("serverWithholds", topic, ["seq": Double(seq)])
    case let .falseReset(topic): return named("falseReset", topic)
    case let .topicClosed(topic, rotator, successor):
        return named("topicClosed", topic, ["rotator": "\(rotator)", "successor": "\(successor)"])
    case let .moved(topic, successor): return named("moved", topic, ["successor": "\(successor)"])
    case let .awaitingKey(topic, successor, reason):
        return named("awaitingKey", topic, ["successor": "\(successor)", "reason": reason])
    case let .rotationLost(topic, operation): return named("rotationLost", topic, ["operation": "\(operation)"])
    case let .forked(topic, author, log): return named("forked", topic, ["author": "\(author)", "log": "\(log)"])
    case let .signal(topic, author, bytes):
        return named("signal", topic, ["author": "\(author)", "bytes": bytes.base64EncodedString()])
    case let .signalSent(topic, taken): return named("signalSent", topic, ["taken": taken])
    case let .readable(topic, trouble): return named("readable", topic, ["trouble": trouble.map(plain)])
    case let .delivery(topic, trouble): return named("delivery", topic, ["trouble": trouble.map(plain)])
    case let .clockSkew(topic, skew): return named("clockSkew", topic, ["skew": skew.map(plain)])
    case let .storage(topic, trouble): return named("storage", topic, ["trouble": trouble.map(plain)])
    case let .lagged(topic, dropped): return named("lagged", topic, ["dropped": Double(dropped)])
    case let .closed(topic): return named("closed", topic)
    }
}
