#if canImport(DeltaFFI)
import DeltaFFI
#endif
import Foundation

/// What is read back beside messages.
extension Device {
    /// Every text a message had, as sent first; nothing for a tombstone.
    public func history(of message: OperationId) async throws -> [Version] {
        try await released { [inner] in try await inner.messageHistory(id: message) }
    }

    /// A page of one author's messages, oldest first; with `since` and `until` those received in that time.
    public func messages(
        by author: Author, in topic: TopicId, page: MessagePage = .newest, limit: UInt32 = 64,
        since: Date? = nil, until: Date? = nil
    ) async throws -> [Message] {
        try await released { [inner] in
            try await inner.messagesBy(
                topic: topic, author: author, page: page, limit: limit, since: since, until: until
            )
        }
    }

    /// A page of the messages received from `since` on and before `until`, in that order; the next one is after its `next`.
    public func messagesReceived(
        in topic: TopicId, since: Date? = nil, until: Date? = nil, after: ReceiptPlace? = nil, limit: UInt32 = 64
    ) async throws -> ReceivedPage {
        try await released { [inner] in
            try await inner.messagesReceived(topic: topic, limit: limit, since: since, until: until, after: after)
        }
    }

    /// Messages that mention somebody, those that came last first, in one topic or all; before an `arrival`.
    public func mentions(
        of who: Author, in topic: TopicId? = nil, before: Int64? = nil, limit: UInt32 = 64
    ) async throws -> [Mention] {
        try await released { [inner] in
            try await inner.mentions(who: who, limit: limit, topic: topic, before: before)
        }
    }

    /// An author's profile in one conversation.
    public func profile(of author: Author, in topic: TopicId) async throws -> Profile? {
        try await released { [inner] in try await inner.profile(topic: topic, author: author) }
    }

    /// An author's profiles in all conversations.
    public func profiles(of author: Author) async throws -> [Profile] {
        try await released { [inner] in try await inner.profiles(author: author) }
    }

    /// Messages with all the words, those that came last first.
    public func search(_ search: SearchWords, limit: UInt32 = 64) async throws -> [Found] {
        try await released { [inner] in try await inner.search(search: search, limit: limit) }
    }

    /// What of a topic's messages has not been read, counted from `setRead`.
    public func unread(_ topic: TopicId) async throws -> Unread {
        try await released { [inner] in try await inner.unread(topic: topic) }
    }

    /// Notes how far a topic was read: up to this message's position. It never goes back.
    public func setRead(_ topic: TopicId, upTo position: Position) async throws {
        try await released { [inner] in try await inner.setRead(topic: topic, upto: position) }
    }

    /// Operations of a topic that are not acknowledged yet, oldest first: those after row `after`.
    public func outbox(_ topic: TopicId, after: Int64? = nil, limit: UInt32 = 64) async throws -> [OutboxRow] {
        try await released { [inner] in try await inner.outbox(topic: topic, limit: limit, after: after) }
    }

    /// Puts the parked operations of a topic back in the queue and says how many there were.
    public func retry(_ topic: TopicId) async throws -> UInt64 {
        try await released { [inner] in try await inner.retry(topic: topic) }
    }

    /// Takes back an operation of this device: removed when it never left, otherwise deleted by a further one.
    public func cancel(_ operation: OperationId, in topic: TopicId) async throws -> Cancelled {
        try await released { [inner] in try await inner.cancel(topic: topic, operation: operation) }
    }

    /// What lies on the device, and which conversations take how much of it.
    public func storageUse() async throws -> StorageUse {
        try await released { [inner] in try await inner.storageUse() }
    }

    /// Erases messages received before an instant from this device; says how many. Others keep them.
    public func prune(_ topic: TopicId, before: Date) async throws -> UInt64 {
        try await released { [inner] in try await inner.prune(topic: topic, before: before) }
    }

    /// Removes a conversation from this device, a space with its rooms. Others keep what they have.
    public func wipe(_ topic: TopicId) async throws { try await inner.wipeTopic(topic: topic) }

    /// Closes the device and removes everything: keys, words, database.
    public func wipe() async throws { try await inner.wipe() }

    /// What a notification extension needs; see `decryptPush`. Made again when the app goes to the background.
    public func keySnapshot() async throws -> Data {
        try await released { [inner] in try await inner.keySnapshot() }
    }

    /// Writes the database, with a person's words if they are passed, into a new file that the passphrase opens.
    public func export(to path: String, passphrase: String, words: String? = nil) async throws {
        try await released { [inner] in try await inner.export(path: path, passphrase: passphrase, words: words) }
    }

    /// Puts a value under a key; the last writer wins on every device.
    public func put(_ value: Data, at key: ValueKey, in topic: TopicId) async throws -> OperationId {
        try await released { [inner] in try await inner.putValue(topic: topic, at: key, value: value) }
    }

    /// Removes the value under a key.
    public func deleteValue(at key: ValueKey, in topic: TopicId) async throws -> OperationId {
        try await released { [inner] in try await inner.deleteValue(topic: topic, at: key) }
    }

    /// The value under a key.
    public func value(at key: ValueKey, in topic: TopicId) async throws -> Value? {
        try await released { [inner] in try await inner.value(topic: topic, at: key) }
    }

    /// The values of a collection in the order of their keys: those that begin with `prefix` and come after `after`.
    public func values(
        of collection: String, in topic: TopicId, prefix: String = "", after: String? = nil, limit: UInt32 = 64
    ) async throws -> [Value] {
        try await released { [inner] in
            try await inner.values(topic: topic, collection: collection, limit: limit, prefix: prefix, after: after)
        }
    }
}
