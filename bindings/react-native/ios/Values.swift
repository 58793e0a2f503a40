import Foundation
#if canImport(DeltaKit)
import DeltaKit
#endif

func refused(_ code: String, _ reason: String) -> DeltaError { .Argument(code: code, reason: reason) }

/// The fields of an object from JavaScript.
struct Fields {
    let values: [String: Any]

    func maybe(_ name: String) -> String? { values[name] as? String }
    func number(_ name: String) -> Double? { values[name] as? Double }
    func flag(_ name: String) -> Bool { values[name] as? Bool ?? false }
    func texts(_ name: String) -> [String] { values[name] as? [String] ?? [] }

    func text(_ name: String) throws -> String {
        guard let text = maybe(name) else { throw refused("native", "the field \(name) is missing or of another type") }
        return text
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

/// A count from JavaScript: what is below zero is zero.
func count(_ number: Double) -> UInt32 { UInt32(exactly: max(0, min(number, Double(UInt32.max))).rounded()) ?? 0 }

func date(_ millis: Double) -> Date { Date(timeIntervalSince1970: millis / 1000) }

func millis(_ date: Date) -> Double { (date.timeIntervalSince1970 * 1000).rounded() }

func config(_ fields: Fields, path: String) throws -> Config {
    Config(
        path: path, allowPlaintext: fields.flag("allowPlaintext"), extraRoots: try fields.texts("extraRoots").map(bytes),
        relays: fields.number("relays").map(count) ?? 3, cover: fields.number("coverMs").map { $0 / 1000 },
        relayDelay: fields.number("relayDelayMs").map { $0 / 1000 }, acceptV2: fields.flag("acceptV2"),
        recordsUrl: fields.maybe("recordsUrl"), mergeChangesMs: fields.number("mergeChangesMs").map(count) ?? 50,
        workers: fields.number("workers").map(count)
    )
}

func hops(_ fields: Fields) throws -> RelayHops {
    switch try fields.text("kind") {
    case "directory":
        .directory(
            list: try fields.text("list"), records: try fields.text("records"),
            trustedKeys: try fields.texts("trustedKeys").map(id), threshold: count(fields.number("threshold") ?? 1)
        )
    case "pool": .pool(records: fields.texts("pool"))
    case let kind: throw refused("native", "there is no kind \(kind) here")
    }
}

func content(_ fields: Fields) throws -> Content {
    switch try fields.text("kind") {
    case "messageSend":
        .messageSend(
            text: try fields.text("text"), reply: try fields.maybe("reply").map(id),
            mentions: try fields.texts("mentions").map(id)
        )
    case "messageEdit": .messageEdit(target: try id(fields.text("target")), text: try fields.text("text"))
    case "messageDelete": .messageDelete(target: try id(fields.text("target")))
    case "reactionAdd": .reactionAdd(target: try id(fields.text("target")), emoji: try fields.text("emoji"))
    case "reactionRemove": .reactionRemove(target: try id(fields.text("target")), emoji: try fields.text("emoji"))
    case "profileSet":
        .profileSet(
            name: try fields.text("name"), bio: fields.maybe("bio"),
            avatar: try fields.maybe("avatar").map { try id($0) }, availability: fields.maybe("availability"),
            public: fields.flag("public")
        )
    case let kind: throw refused("native", "there is no kind \(kind) here")
    }
}

func words(_ fields: Fields) throws -> SearchWords {
    SearchWords(
        words: try fields.text("words"), topic: try fields.maybe("topic").map { try id($0) },
        author: try fields.maybe("author").map { try id($0) }, since: fields.number("since").map(date),
        until: fields.number("until").map(date)
    )
}

func spaceText(_ fields: Fields) throws -> SpaceText {
    SpaceText(
        name: try fields.text("name"), label: fields.maybe("label"), description: fields.maybe("description"),
        welcome: fields.maybe("welcome"), avatar: try fields.maybe("avatar").map { try id($0) },
        cover: try fields.maybe("cover").map { try id($0) }, public: fields.flag("public"),
        history: fields.flag("history")
    )
}

func roomText(_ fields: Fields) throws -> RoomText {
    RoomText(
        name: try fields.text("name"), description: fields.maybe("description"),
        cooldown: fields.number("cooldown").map { UInt64(max(0, min($0, 1e15))) }
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
        "acknowledged": message.acknowledged, "sentAt": message.sentAt.map(millis),
        "receivedAt": message.receivedAt.map(millis), "editedAt": message.editedAt.map(millis),
        "deleted": message.deleted,
    ])
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
    ["message": plain(found.message), "log": "\(found.log)", "excerpt": found.excerpt]
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
        "keys": change.keys.map { ["collection": $0.collection, "key": $0.key] },
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
