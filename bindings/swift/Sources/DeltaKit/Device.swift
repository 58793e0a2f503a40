#if canImport(DeltaFFI)
@_exported import DeltaFFI
#endif
import Foundation

extension Config {
    /// For a database in the app's own storage, with the defaults for all else: `Application Support/delta/<name>.db`. `base` stands
    /// for Application Support, say for the folder of an app group. The folder is made as `folder` makes it.
    public static func applicationSupport(
        _ name: String, in base: URL? = nil, allowPlaintext: Bool = false
    ) throws -> Config {
        let base = try base ?? FileManager.default.url(
            for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true
        )
        let place = try folder(base.appendingPathComponent("delta", isDirectory: true))
        return Config(path: place.appendingPathComponent("\(name).db").path, allowPlaintext: allowPlaintext)
    }

    /// Makes a folder for databases where there is none: left out of backups, for a database that is restored is another device, and
    /// readable once the phone was unlocked after its start, for background runs open it while the screen is locked.
    public static func folder(_ place: URL) throws -> URL {
        var place = place
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        #if os(iOS)
        let protection: [FileAttributeKey: Any] = [.protectionKey: FileProtectionType.completeUntilFirstUserAuthentication]
        try FileManager.default.setAttributes(protection, ofItemAtPath: place.path)
        #endif
        #if !os(Linux)
        var values = URLResourceValues()
        values.isExcludedFromBackup = true
        try place.setResourceValues(values)
        #endif
        return place
    }
}

/// One device: its database, its topics, its connections.
///
///     try await Device.with(Config(path: path), keystore: keystore) { device in
///         _ = try await device.initSync(hops, to: "https://sync.example#<the server's key>")
///         let topic = try await device.openTopic(ticket)
///         _ = try await device.send("hello", to: topic)
///         for try await message in device.follow(topic) { print(message.text ?? "") }
///     }
///
/// Calls may come from any task, also at once. A task that is cancelled leaves its call with `CancellationError`; the call
/// may or may not have happened, and nothing is left half done. `open`, `suspend`, `resume`, `wipe` and `close` are
/// waited for in any case. Errors are `DeltaError`s with a stable `code`.
public final class Device: Sendable {
    let inner: Delta

    private init(_ inner: Delta) { self.inner = inner }

    /// Opens (or makes) the database; the device's key is in the keystore. Call `close` at the end.
    public static func open(
        _ config: Config, keystore: any Keystore, log: (any LogSink)? = nil
    ) async throws -> Device {
        // Not let go of: nobody could close what is opened after that.
        Device(try await Delta.open(config: config, keystore: keystore, log: log))
    }

    /// Reads an export into a new database and opens it. For everyone else this device is another one then.
    public static func importing(
        from export: String, passphrase: String, into config: Config, keystore: any Keystore,
        log: (any LogSink)? = nil
    ) async throws -> Device {
        Device(
            try await Delta.importFrom(
                export: export, passphrase: passphrase, config: config, keystore: keystore, log: log
            )
        )
    }

    /// Opens a device for as long as `body` runs, and closes it however that ends.
    public static func with<Value: Sendable>(
        _ config: Config, keystore: any Keystore, log: (any LogSink)? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (Device) async throws -> Value
    ) async throws -> Value {
        let device = try await open(config, keystore: keystore, log: log)
        do {
            let value = try await body(device)
            try await device.close()
            return value
        } catch {
            try? await device.close()
            throw error
        }
    }

    /// This device's key, as others know it.
    public var author: Author { inner.author() }

    /// Whether the database was restored or copied, so that this device has a new key since this open.
    public var renewed: Bool { inner.renewed() }

    /// Sends through these relays to this server from now on. Says which nodes were left out.
    public func initSync(_ hops: RelayHops, to syncUrl: String) async throws -> [String] {
        try await released { [inner] in try await inner.initSync(relayHops: hops, syncUrl: syncUrl) }
    }

    /// Opens a topic from its ticket; again is harmless.
    public func openTopic(_ ticket: String) async throws -> TopicId {
        try await released { [inner] in try await inner.openTopic(ticket: ticket) }
    }

    /// Keeps the key (an Ed25519 seed) that a public topic's server asks readers for; without one it is forgotten.
    public func setReadKey(_ key: Data?, for topic: TopicId) async throws {
        try await released { [inner] in try await inner.setReadKey(topic: topic, key: key) }
    }

    /// The topics that are open.
    public func topics() async throws -> [TopicId] {
        try await released { [inner] in try await inner.topics() }
    }

    /// Signs, stores and queues an operation. With a `key` it happens once, however often it is called.
    public func publish(_ content: Content, to topic: TopicId, key: Data? = nil) async throws -> OperationId {
        try await released { [inner] in try await inner.publish(topic: topic, content: content, key: key) }
    }

    /// Publishes a message.
    public func send(
        _ text: String, to topic: TopicId, reply: OperationId? = nil, mentions: [Author] = [], attachments: [BlobId] = [],
        key: Data? = nil
    ) async throws -> OperationId {
        let content = Content.messageSend(text: text, reply: reply, mentions: mentions, attachments: attachments)
        return try await publish(content, to: topic, key: key)
    }

    /// Pushes a topic's events to `listener`, on a thread of Delta's, until the subscription is cancelled or the device is
    /// closed. Keep it: one that nobody holds ends. `events` is what most apps want.
    public func subscribe(_ topic: TopicId, listener: any EventListener) async throws -> Subscription {
        try await released { [inner] in try await inner.subscribe(topic: topic, listener: listener) }
    }

    /// The topic's events, from when a loop over them begins.
    public func events(_ topic: TopicId) -> Events { Events(device: inner, topic: topic) }

    /// The messages of a topic in their order: the newest 64 that are here, then new ones as they take their place.
    public func follow(_ topic: TopicId) -> Messages { Messages(device: inner, topic: topic) }

    /// A page of messages, oldest first; the newest ones unless `page` says otherwise.
    public func messages(
        _ topic: TopicId, page: MessagePage = .newest, limit: UInt32 = 64
    ) async throws -> [Message] {
        try await released { [inner] in try await inner.messages(topic: topic, page: page, limit: limit) }
    }

    /// One message.
    public func message(_ id: OperationId) async throws -> Message? {
        try await released { [inner] in try await inner.message(id: id) }
    }

    /// The reactions that stand on one message.
    public func reactions(to message: OperationId) async throws -> [Reaction] {
        try await released { [inner] in try await inner.reactions(message: message) }
    }

    /// Tells whoever listens now (presence, typing). Nobody stores it.
    public func signal(_ bytes: Data, to topic: TopicId) async throws {
        try await released { [inner] in try await inner.signal(topic: topic, bytes: bytes) }
    }

    /// Where a topic stands.
    public func status(_ topic: TopicId) async throws -> TopicStatus {
        try await released { [inner] in try await inner.status(topic: topic) }
    }

    /// What the device holds.
    public func statistics() async throws -> Statistics {
        try await released { [inner] in try await inner.statistics() }
    }

    /// Tell it when the network changed (an `NWPathMonitor`). It never storms.
    public func networkChanged() { inner.networkChanged() }

    /// Lets go of every file, lock and socket until `resume`.
    public func suspend() async throws { try await inner.suspend() }

    /// Goes on after `suspend`.
    public func resume() async throws { try await inner.resume() }

    /// A background fetch, also while suspended; back within `deadline` whatever the network does. Cancelled, nobody waits
    /// for it any more; `suspend` ends the run itself.
    public func runOnce(deadline: Duration) async throws -> RunSummary {
        let (seconds, attoseconds) = deadline.components
        let interval = Double(seconds) + Double(attoseconds) / 1e18
        return try await released { [inner] in try await inner.runOnce(deadline: interval) }
    }

    /// When something queued is due to be sent (again): for BGTaskScheduler.
    public func nextWakeupAt() async throws -> Date? {
        try await released { [inner] in try await inner.nextWakeupAt() }
    }

    /// Finishes what was accepted and closes everything. Again is harmless.
    public func close() async throws { try await inner.close() }
}
