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
    private let open = Open()

    /// `emit` hears the events of all subscriptions, on a thread of Delta's.
    public init(
        folder: URL, keystore: @escaping @Sendable (String) -> any Keystore,
        emit: @escaping @Sendable ([String: Any]) -> Void
    ) {
        (self.folder, self.keystore, self.emit) = (folder, keystore, emit)
    }

    /// Calls the method of this name. The value is a property list, or nothing.
    public func call(_ name: String, _ passed: Passed) async throws -> Any? {
        switch name {
        case "open": return try await opened(passed.fields(0))
        case "close": try await letGo(passed.number(0))
        case "subscribe": return try await subscribed(passed)
        case "unsubscribe": open.subscriptions.remove(passed.number(0))?.cancel()
        case "networkChanged": open.devices.get(passed.number(0))?.networkChanged()
        case "generateTicket": return try generateTicket(public: passed.flag(0))
        case "readOnlyTicket": return try readOnlyTicket(ticket: passed.text(0))
        case "ticketFacts": return try plain(ticketFacts(ticket: passed.text(0)))
        case "generateMnemonic": return try generateMnemonic()
        case "importMnemonic": try importMnemonic(keystore: keystore(try named(passed.text(0))), words: passed.text(1))
        default:
            guard let device = open.devices.get(passed.number(0)) else { throw closed() }
            if let answer = try await read(name, passed, device) { return answer.value }
            return try await ask(name, passed, device)
        }
        return nil
    }

    /// Listeners are gone and databases closed when it returns.
    public func invalidate() async {
        open.subscriptions.all().forEach { open.subscriptions.remove($0)?.cancel() }
        for number in open.devices.all() { try? await letGo(number) }
    }

    /// What a device is asked, and changes nothing but how far something was read; nothing for another name.
    private func read(_ name: String, _ passed: Passed, _ device: Delta) async throws -> Answer? {
        switch name {
        case "topics": return Answer(try await device.topics().map(\.description))
        case "messages":
            let page = try page(passed.fields(2))
            let read = try await device.messages(topic: id(passed.text(1)), page: page, limit: count(passed.number(3)))
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
            let (limit, after) = (count(passed.number(2)), passed.some(3).map { Int64($0) })
            return Answer(try await device.outbox(topic: id(passed.text(1)), limit: limit, after: after).map(plain))
        case "status": return Answer(plain(try await device.status(topic: id(passed.text(1)))))
        case "statistics": return Answer(plain(try await device.statistics()))
        case "storageUse": return Answer(plain(try await device.storageUse()))
        case "spaces": return Answer(try await device.spaces().map(plain))
        case "space": return Answer(try await device.space(space: id(passed.text(1))).map(plain))
        case "rooms": return Answer(try await device.rooms(space: id(passed.text(1))).map(plain))
        case "members": return Answer(try await device.members(space: id(passed.text(1))).map(plain))
        case "nextWakeupAt": return Answer(try await device.nextWakeupAt().map(millis))
        default: return nil
        }
    }

    /// What a device does.
    private func ask(_ name: String, _ passed: Passed, _ device: Delta) async throws -> Any? {
        switch name {
        case "initSync": return try await device.initSync(relayHops: hops(passed.fields(1)), syncUrl: passed.text(2))
        case "openTopic": return try await device.openTopic(ticket: passed.text(1)).description
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
            let (level, expires) = (try level(passed.text(2)), passed.some(3).map(date))
            let space: LogId = try id(passed.text(1))
            return try await device.createInvitation(space: space, level: level, expires: expires, once: passed.flag(4))
        case "acceptInvitation": return plain(try await device.acceptInvitation(invitation: passed.text(1)))
        case "wipeTopic": try await device.wipeTopic(topic: id(passed.text(1)))
        case "signal": try await device.signal(topic: id(passed.text(1)), bytes: bytes(passed.text(2)))
        case "suspend": try await device.suspend()
        case "resume": try await device.resume()
        case "runOnce": return try await plain(device.runOnce(deadline: max(0, passed.number(1)) / 1000))
        default: throw refused("native", "there is no call \(name)")
        }
        return nil
    }

    private func opened(_ fields: Fields) async throws -> Any? {
        let name = try named(fields.text("name"))
        let path = try place().appendingPathComponent("\(name).db").path
        let device = try await Delta.open(config: config(fields, path: path), keystore: keystore(name))
        let number = open.devices.add(device)
        return ["device": number, "author": device.author().description, "renewed": device.renewed()]
    }

    private func subscribed(_ passed: Passed) async throws -> Any? {
        guard let device = open.devices.get(passed.number(0)) else { throw closed() }
        let number = open.subscriptions.next()
        let listener = Forward { [emit, open] event in
            emit(plain(event).merging(["subscription": number]) { $1 })
            if case .closed = event { open.subscriptions.remove(number)?.cancel() }
        }
        open.subscriptions.put(number, try await device.subscribe(topic: id(passed.text(1)), listener: listener))
        return number
    }

    private func closed() -> DeltaError {
        .State(code: "closed", reason: "the device was closed; open it again")
    }

    private func letGo(_ number: Double) async throws {
        try await open.devices.remove(number)?.close()
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

    private func place() throws -> URL {
        var folder = folder
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        #if os(iOS)
        let protection: [FileAttributeKey: Any] = [.protectionKey: FileProtectionType.completeUntilFirstUserAuthentication]
        try FileManager.default.setAttributes(protection, ofItemAtPath: folder.path)
        #endif
        #if !os(Linux)
        var values = URLResourceValues()
        values.isExcludedFromBackup = true
        try folder.setResourceValues(values)
        #endif
        return folder
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
}

private final class Numbered<Value>: @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSLock()
    private var values: [Double: Value] = [:]
    private var last = 0.0

    func next() -> Double {
        lock.withLock {
            last += 1
            return last
        }
    }

    func add(_ value: Value) -> Double {
        let number = next()
        put(number, value)
        return number
    }

    func put(_ number: Double, _ value: Value) { lock.withLock { values[number] = value } }
    func get(_ number: Double) -> Value? { lock.withLock { values[number] } }
    func remove(_ number: Double) -> Value? { lock.withLock { values.removeValue(forKey: number) } }
    func all() -> [Double] { lock.withLock { Array(values.keys) } }
}

private final class Forward: EventListener {
    private let hear: @Sendable (Event) -> Void

    init(_ hear: @escaping @Sendable (Event) -> Void) { self.hear = hear }

    func onEvent(event: Event) throws { hear(event) }
}
