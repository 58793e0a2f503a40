import Foundation
#if canImport(DeltaKit)
import DeltaKit
#endif

/// The devices of one JavaScript context: only conversion happens here (NativeDelta.ts says what crosses). They are closed
/// with it, so that a reload opens the same databases at once.
///
/// Databases lie in Application Support, in a folder that is left out of backups (a restored copy would be another device)
/// and can be read once the phone was unlocked after it started, so that background runs work.
public final class DeltaBridge: Sendable {
    private let folder: URL
    private let keystore: @Sendable (_ name: String) -> any Keystore
    private let emit: @Sendable ([String: Any]) -> Void
    private let log: @Sendable ([String: Any]) -> Void
    private let open = Open()

    /// `emit` hears the events of all subscriptions, `log` the log lines, each on a thread of Delta's.
    public init(
        folder: URL, keystore: @escaping @Sendable (String) -> any Keystore,
        emit: @escaping @Sendable ([String: Any]) -> Void, log: @escaping @Sendable ([String: Any]) -> Void
    ) {
        (self.folder, self.keystore, self.emit, self.log) = (folder, keystore, emit, log)
    }

    /// Calls the method of this name. The value is a property list, or nothing.
    public func call(_ name: String, _ passed: Passed) async throws -> Any? {
        switch name {
        case "open":
            let sink = try sink(passed.maybe(1))
            return try await opened(passed.fields(0)) { try await Delta.open(config: $0, keystore: $1, log: sink) }
        case "importFrom":
            let (path, passphrase) = (try passed.text(0), try passed.text(1))
            let sink = try sink(passed.maybe(3))
            return try await opened(passed.fields(2)) {
                try await Delta.importFrom(export: path, passphrase: passphrase, config: $0, keystore: $1, log: sink)
            }
        case "close": try await letGo(passed.number(0))
        case let name where name.hasPrefix("pairing"): return try await meet(name, passed)
        case "subscribe": return try await subscribed(passed)
        case "unsubscribe": open.subscriptions.remove(passed.number(0))?.cancel()
        case "networkChanged": open.devices.get(passed.number(0))?.networkChanged()
        case "generateTicket": return try generateTicket(public: passed.flag(0))
        case "readOnlyTicket": return try readOnlyTicket(ticket: passed.text(0))
        case "ticketFacts": return try plain(ticketFacts(ticket: passed.text(0)))
        case "generateMnemonic": return try generateMnemonic()
        case "importMnemonic": try importMnemonic(keystore: keystore(try named(passed.text(0))), words: passed.text(1))
        case "storedMnemonic": return try storedMnemonic(keystore: keystore(try named(passed.text(0))))
        case "mnemonicIdentity": return try mnemonicIdentity(words: passed.text(0)).description
        case "identityAddress": return identityAddress(identity: try id(passed.text(0)))
        case "parseAddress": return try parseAddress(address: passed.text(0)).description
        default:
            guard let device = open.devices.get(passed.number(0)) else { throw closed() }
            if let answer = try await read(name, passed, device) { return answer.value }
            return try await ask(name, passed, device)
        }
        return nil
    }

    /// Listeners are gone and databases closed when it returns.
    public func invalidate() async {
        // What is still being opened or subscribed is refused its number, and let go of by whoever opened it.
        open.pairings.end().forEach { $0.cancel() }
        open.subscriptions.end().forEach { $0.cancel() }
        for device in open.devices.end() { try? await device.close() }
    }

    /// What a device is asked, and changes nothing but how far something was read; nothing for another name.
    private func read(_ name: String, _ passed: Passed, _ device: Delta) async throws -> Answer? {
        switch name {
        case "topics": return Answer(try await device.topics().map(\.description))
        case "messages":
            let page = try page(passed.fields(2))
            let read = try await device.messages(topic: id(passed.text(1)), page: page, limit: count(passed.number(3)))
            return Answer(read.map(plain))
        case "messagesBy":
            let page = try page(passed.fields(3))
            let (since, until) = (try passed.some(5).map(date), try passed.some(6).map(date))
            let read = try await device.messagesBy(
                topic: id(passed.text(1)), author: id(passed.text(2)), page: page, limit: count(passed.number(4)),
                since: since, until: until
            )
            return Answer(read.map(plain))
        case "messagesReceived":
            let (since, until) = (try passed.some(3).map(date), try passed.some(4).map(date))
            let after = try passed.has(5) ? receiptPlace(passed.fields(5)) : nil
            let read = try await device.messagesReceived(
                topic: id(passed.text(1)), limit: count(passed.number(2)), since: since, until: until, after: after
            )
            return Answer(plain(read))
        case "mentions":
            let topic: TopicId? = try passed.maybe(3).map { try id($0) }
            let (limit, before) = (try count(passed.number(2)), try passed.some(4).map(whole))
            let read = try await device.mentions(who: id(passed.text(1)), limit: limit, topic: topic, before: before)
            return Answer(read.map(plain))
        case "person":
            return Answer(try await device.person(topic: id(passed.text(1)), author: id(passed.text(2))).description)
        case "value":
            return Answer(try await device.value(topic: id(passed.text(1)), at: key(passed.fields(2))).map(plain))
        case "values":
            let (collection, prefix) = (try passed.text(2), try passed.text(4))
            let read = try await device.values(
                topic: id(passed.text(1)), collection: collection, limit: count(passed.number(3)), prefix: prefix,
                after: passed.maybe(5)
            )
            return Answer(read.map(plain))
        case "documents":
            let after: OperationId? = try passed.maybe(4).map { try id($0) }
            let (limit, prefix) = (try count(passed.number(2)), try passed.text(3))
            let read = try await device.documents(topic: id(passed.text(1)), limit: limit, prefix: prefix, after: after)
            return Answer(read.map(plain))
        case "documentParts":
            let (limit, after) = (try count(passed.number(3)), try above(passed.number(4)))
            let read = try await device.documentParts(
                topic: id(passed.text(1)), document: id(passed.text(2)), limit: limit, after: after
            )
            return Answer(read.map(plain))
        case "message": return Answer(try await device.message(id: id(passed.text(1))).map(plain))
        case "messageHistory": return Answer(try await device.messageHistory(id: id(passed.text(1))).map(plain))
        case "reactions": return Answer(try await device.reactions(message: id(passed.text(1))).map(plain))
        case "unread": return Answer(plain(try await device.unread(topic: id(passed.text(1)))))
        case "setRead":
            try await device.setRead(topic: id(passed.text(1)), upto: id(passed.text(2)))
            return Answer(nil)
        case "profile":
            return Answer(try await device.profile(topic: id(passed.text(1)), author: id(passed.text(2))).map(plain))
        case "profiles": return Answer(try await device.profiles(author: id(passed.text(1))).map(plain))
        case "search":
            return Answer(try await device.search(search: words(passed.fields(1)), limit: count(passed.number(2))).map(plain))
        case "outbox":
            let (limit, after) = (try count(passed.number(2)), try passed.some(3).map(whole))
            return Answer(try await device.outbox(topic: id(passed.text(1)), limit: limit, after: after).map(plain))
        case "status": return Answer(plain(try await device.status(topic: id(passed.text(1)))))
        case "statistics": return Answer(plain(try await device.statistics()))
        case "blobStatus": return Answer(plain(try await device.blobStatus(blob: id(passed.text(1)))))
        case "blobBytes": return Answer(try await device.blobBytes(blob: id(passed.text(1))).base64EncodedString())
        case "storageUse": return Answer(plain(try await device.storageUse()))
        case "spaces": return Answer(try await device.spaces().map(plain))
        case "space": return Answer(try await device.space(space: id(passed.text(1))).map(plain))
        case "rooms": return Answer(try await device.rooms(space: id(passed.text(1))).map(plain))
        case "members":
            let after: Identity? = try passed.maybe(3).map { try id($0) }
            let limit = try count(passed.number(2))
            return Answer(try await device.members(space: id(passed.text(1)), limit: limit, after: after).map(plain))
        case "spaceDevices": return Answer(try await device.spaceDevices(space: id(passed.text(1))).map(plain))
        case "invitations": return Answer(try await device.invitations(space: id(passed.text(1))).map(plain))
        case "joinRequests": return Answer(try await device.joinRequests(space: id(passed.text(1))).map(plain))
        case "auditLog":
            let before = try passed.has(3) ? auditPlace(passed.fields(3)) : nil
            let limit = try count(passed.number(2))
            return Answer(try await device.auditLog(space: id(passed.text(1)), limit: limit, before: before).map(plain))
        case "directThreads": return Answer(try await device.directThreads().map(plain))
        case "identity": return Answer(try await device.identity().description)
        case "ownDevices": return Answer(try await device.ownDevices().map(plain))
        case "nextWakeupAt": return Answer(try await device.nextWakeupAt().map(millis))
        default: return nil
        }
    }

    /// What a device does.
    private func ask(_ name: String, _ passed: Passed, _ device: Delta) async throws -> Any? {
        switch name {
        case "initSync": return try await device.initSync(relayHops: hops(passed.fields(1)), syncUrl: passed.text(2))
        case "openTopic": return try await device.openTopic(ticket: passed.text(1)).description
        case "setReadKey":
            let key = try passed.maybe(2).map(bytes)
            try await device.setReadKey(topic: id(passed.text(1)), key: key)
        case "publish":
            let key = try passed.maybe(3).map(bytes)
            let topic: TopicId = try id(passed.text(1))
            return try await device.publish(topic: topic, content: content(passed.fields(2)), key: key).description
        case "retry": return Double(try await device.retry(topic: id(passed.text(1))))
        case "cancel": return plain(try await device.cancel(topic: id(passed.text(1)), operation: id(passed.text(2))))
        case "createSpace": return plain(try await device.createSpace(about: spaceText(passed.fields(1))))
        case "createRoom":
            return plain(try await device.createRoom(space: id(passed.text(1)), about: roomText(passed.fields(2))))
        case "createInvitation":
            let (level, expires) = (try level(passed.text(2)), try passed.some(3).map(date))
            let space: LogId = try id(passed.text(1))
            return try await device.createInvitation(space: space, level: level, expires: expires, once: passed.flag(4))
        case "acceptInvitation": return plain(try await device.acceptInvitation(invitation: passed.text(1)))
        case "changeSpace":
            let action = try action(passed.fields(2))
            return try await device.changeSpace(space: id(passed.text(1)), action: action).description
        case "openInbox": return try await device.openInbox().description
        case "contact": return try await device.contact()
        case "requestDirect":
            return try await device.requestDirect(contact: passed.text(1), text: passed.maybe(2)).description
        case "requestDirectOf":
            return try await device.requestDirectOf(member: id(passed.text(1)), text: passed.maybe(2)).description
        case "acceptDirect": return try await device.acceptDirect(thread: id(passed.text(1))).description
        case "closeDirect": try await device.closeDirect(thread: id(passed.text(1)))
        case "sendDirect":
            let thread: ThreadId = try id(passed.text(1))
            return try await device.sendDirect(thread: thread, content: content(passed.fields(2))).description
        case "requestJoin":
            let (space, manager): (LogId, String) = (try id(passed.text(1)), try passed.text(2))
            return try await device.requestJoin(space: space, manager: manager, text: passed.maybe(3)).description
        case "putValue":
            let (at, value) = (try key(passed.fields(2)), try bytes(passed.text(3)))
            return try await device.putValue(topic: id(passed.text(1)), at: at, value: value).description
        case "deleteValue":
            return try await device.deleteValue(topic: id(passed.text(1)), at: key(passed.fields(2))).description
        case "createDocument":
            return try await device.createDocument(topic: id(passed.text(1)), path: passed.text(2)).description
        case "writeDocument":
            let (part, snapshot) = (try bytes(passed.text(3)), passed.flag(4))
            return try await device.writeDocument(
                topic: id(passed.text(1)), document: id(passed.text(2)), bytes: part, snapshot: snapshot
            ).description
        case "attach":
            let source = try source(passed.fields(1))
            return try await device.attach(source: source, mime: passed.text(2), name: passed.maybe(3)).description
        case "fetchBlob": try await device.fetchBlob(blob: id(passed.text(1)))
        case "dropBlob": try await device.dropBlob(blob: id(passed.text(1)))
        case "writeBlob": try await device.writeBlob(blob: id(passed.text(1)), path: passed.text(2))
        case "prune": return Double(try await device.prune(topic: id(passed.text(1)), before: date(passed.number(2))))
        case "wipeTopic": try await device.wipeTopic(topic: id(passed.text(1)))
        case "wipe":
            try await device.wipe()
            try await letGo(passed.number(0))
        case "keySnapshot": return try await device.keySnapshot().base64EncodedString()
        case "exportTo":
            let (path, passphrase) = (try passed.text(1), try passed.text(2))
            try await device.export(path: path, passphrase: passphrase, words: passed.maybe(3))
        case "revokeDevice": try await device.revokeDevice(author: id(passed.text(1)))
        case "pair":
            let host = try await device.pair()
            return ["pairing": try paired(.host(host)), "text": host.text()]
        case "join": return ["pairing": try paired(.guest(try await device.join(text: passed.text(1))))]
        case "signal": try await device.signal(topic: id(passed.text(1)), bytes: bytes(passed.text(2)))
        case "suspend": try await device.suspend()
        case "resume": try await device.resume()
        case "runOnce": return try await plain(device.runOnce(deadline: interval(passed.number(1))))
        default: throw refused("native", "there is no call \(name)")
        }
        return nil
    }

    /// One side of a pairing, while both wait for each other.
    private func meet(_ name: String, _ passed: Passed) async throws -> Any? {
        let number = passed.number(0)
        switch name {
        case "pairingAsked":
            let request = try await host(number).asked()
            return ["device": request.device().description, "code": request.code()]
        // Of the same that was asked for.
        case "pairingAccept": try await host(number).asked().accept()
        case "pairingRefuse": try await host(number).asked().refuse()
        case "pairingCode": return try await guest(number).code()
        case "pairingJoined": return try await guest(number).joined().description
        case "pairingCancel": open.pairings.remove(number)?.cancel()
        default: throw refused("native", "there is no call \(name)")
        }
        return nil
    }

    private func host(_ number: Double) throws -> PairingHost {
        guard case let .host(host)? = open.pairings.get(number) else { throw cancelled() }
        return host
    }

    private func guest(_ number: Double) throws -> PairingGuest {
        guard case let .guest(guest)? = open.pairings.get(number) else { throw cancelled() }
        return guest
    }

    private func cancelled() -> DeltaError {
        .State(code: "pairing_expired", reason: "the pairing was cancelled")
    }

    private func paired(_ pairing: Pairing) throws -> Double {
        guard let number = open.pairings.add(pairing) else {
            pairing.cancel()
            throw closed()
        }
        return number
    }

    private func opened(
        _ fields: Fields, _ begin: (Config, any Keystore) async throws -> Delta
    ) async throws -> Any? {
        let name = try named(fields.text("name"))
        let path = try Config.folder(folder).appendingPathComponent("\(name).db").path
        let device = try await begin(config(fields, path: path), keystore(name))
        guard let number = open.devices.add(device) else {
            try? await device.close()
            throw closed()
        }
        return ["device": number, "author": device.author().description, "renewed": device.renewed()]
    }

    private func sink(_ wanted: String?) throws -> (any LogSink)? {
        guard let wanted else { return nil }
        return Sink(least: try logLevel(wanted), line: log)
    }

    private func subscribed(_ passed: Passed) async throws -> Any? {
        guard let device = open.devices.get(passed.number(0)) else { throw closed() }
        let number = open.subscriptions.next()
        let listener = Forward { [emit, open] event in
            emit(plain(event).merging(["subscription": number]) { $1 })
            if case .closed = event { open.subscriptions.remove(number)?.cancel() }
        }
        let subscription = try await device.subscribe(topic: id(passed.text(1)), listener: listener)
        guard open.subscriptions.put(number, subscription) else {
            subscription.cancel()
            throw closed()
        }
        return number
    }

    private func closed() -> DeltaError {
        .State(code: "closed", reason: "the device was closed; open it again")
    }

    /// Closes a device. Where that fails it stays, so that it can be called again.
    private func letGo(_ number: Double) async throws {
        try await open.devices.get(number)?.close()
        _ = open.devices.remove(number)
    }

    private func named(_ name: String) throws -> String {
        let allowed = name.utf8.allSatisfy { byte in
            switch UInt8(byte) {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"): true
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"): true
            default: false
            }
        }
        guard allowed, (1...64).contains(name.utf8.count) else {
            throw DeltaError.Argument(code: "name", reason: "a name has 1 to 64 of A-Z a-z 0-9 _ -")
        }
        return name
    }
}

private final class Sink: LogSink {
    private let least: LogLevel
    private let line: @Sendable ([String: Any]) -> Void

    init(least: LogLevel, line: @escaping @Sendable ([String: Any]) -> Void) { (self.least, self.line) = (least, line) }

    func level() throws -> LogLevel { least }

    func log(level: LogLevel, target: String, message: String) throws {
        line(["level": "\(level)", "target": target, "message": message])
    }
}

/// An answer, which may be nothing.
private struct Answer {
    let value: Any?
    init(_ value: Any?) { self.value = value }
}

/// What a call was passed.
public struct Passed: @unchecked Sendable {
    // Property lists, which nobody changes any more.
    private let values: [Any]

    public init(_ values: [Any]) { self.values = values }

    func some(_ at: Int) -> Double? { value(at) as? Double }
    func number(_ at: Int) -> Double { some(at) ?? -1 }
    func has(_ at: Int) -> Bool { value(at) is [String: Any] }
    func flag(_ at: Int) -> Bool { value(at) as? Bool ?? false }
    func maybe(_ at: Int) -> String? { value(at) as? String }
    func text(_ at: Int) throws -> String { try maybe(at) ?? { throw refused("native", "a text is missing") }() }
    func fields(_ at: Int) -> Fields { Fields(values: value(at) as? [String: Any] ?? [:]) }

    private func value(_ at: Int) -> Any? { values.indices.contains(at) ? values[at] : nil }
}

/// What is open, by its number in JavaScript.
private final class Open: Sendable {
    let devices = Numbered<Delta>()
    let subscriptions = Numbered<Subscription>()
    let pairings = Numbered<Pairing>()
}

/// One side of a pairing.
private enum Pairing: Sendable {
    case host(PairingHost)
    case guest(PairingGuest)

    func cancel() {
        switch self {
        case let .host(host): host.cancel()
        case let .guest(guest): guest.cancel()
        }
    }
}

private final class Numbered<Value>: @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSLock()
    private var values: [Double: Value] = [:]
    private var last = 0.0
    private var ended = false

    func next() -> Double {
        lock.withLock {
            last += 1
            return last
        }
    }

    /// Its number; nothing once this has ended.
    func add(_ value: Value) -> Double? {
        let number = next()
        return put(number, value) ? number : nil
    }

    /// Whether it is held now; not once this has ended.
    func put(_ number: Double, _ value: Value) -> Bool {
        lock.withLock {
            if !ended { values[number] = value }
            return !ended
        }
    }

    /// Nothing is taken any more. Gives what was held.
    func end() -> [Value] {
        lock.withLock {
            defer { values = [:] }
            ended = true
            return Array(values.values)
        }
    }

    func get(_ number: Double) -> Value? { lock.withLock { values[number] } }
    func remove(_ number: Double) -> Value? { lock.withLock { values.removeValue(forKey: number) } }
}

private final class Forward: EventListener {
    private let hear: @Sendable (Event) -> Void

    init(_ hear: @escaping @Sendable (Event) -> Void) { self.hear = hear }

    func onEvent(event: Event) throws { hear(event) }
}
