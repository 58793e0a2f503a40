#if canImport(DeltaFFI)
import DeltaFFI
#endif

/// Direct threads: what is said to one device alone.
extension Device {
    /// Opens this device's inbox; gives the topic with the news of direct threads.
    public func openInbox() async throws -> TopicId {
        try await released { [inner] in try await inner.openInbox() }
    }

    /// What others need to write to this device, as a text to be given to them. Good for about two months.
    public func contact() async throws -> String {
        try await released { [inner] in try await inner.contact() }
    }

    /// Asks the device of a contact for a direct thread. It is open once that one accepts.
    public func requestDirect(contact: String, text: String? = nil) async throws -> ThreadId {
        try await released { [inner] in try await inner.requestDirect(contact: contact, text: text) }
    }

    /// The same of a device that shares a space with this one.
    public func requestDirect(of member: Author, text: String? = nil) async throws -> ThreadId {
        try await released { [inner] in try await inner.requestDirectOf(member: member, text: text) }
    }

    /// Accepts a direct thread that another device asked for; gives the topic it lives in.
    public func accept(_ thread: ThreadId) async throws -> TopicId {
        try await released { [inner] in try await inner.acceptDirect(thread: thread) }
    }

    /// Takes no more part in a direct thread, or turns a request down.
    public func close(_ thread: ThreadId) async throws {
        try await released { [inner] in try await inner.closeDirect(thread: thread) }
    }

    /// Publishes in a direct thread. Its messages are read by its topic.
    public func publish(_ content: Content, in thread: ThreadId) async throws -> OperationId {
        try await released { [inner] in try await inner.sendDirect(thread: thread, content: content) }
    }

    /// Says something in a direct thread.
    public func send(_ text: String, in thread: ThreadId, reply: OperationId? = nil) async throws -> OperationId {
        try await publish(.messageSend(text: text, reply: reply, mentions: [], attachments: []), in: thread)
    }

    /// All direct threads, oldest first, requests included.
    public func directThreads() async throws -> [DirectThread] {
        try await released { [inner] in try await inner.directThreads() }
    }

    /// Asks a manager's device to be added to a space: `manager` is its `contact`.
    public func requestJoin(_ space: LogId, of manager: String, text: String? = nil) async throws -> OperationId {
        try await released { [inner] in try await inner.requestJoin(space: space, manager: manager, text: text) }
    }
}
