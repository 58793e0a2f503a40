#if canImport(DeltaFFI)
import DeltaFFI
#endif
import Foundation

/// Documents: what a conversation's members write together, merged by a library of the app's (Automerge, as a rule).
extension Device {
    /// Makes a document under a path (names between slashes) and gives its id. Nothing is in it yet.
    public func createDocument(_ path: String, in topic: TopicId) async throws -> OperationId {
        try await released { [inner] in try await inner.createDocument(topic: topic, path: path) }
    }

    /// Writes a change to a document, as the app's library gives it; with `snapshot` all of it. At most 768 KiB.
    public func write(
        _ bytes: Data, to document: OperationId, in topic: TopicId, snapshot: Bool = false
    ) async throws -> OperationId {
        try await released { [inner] in
            try await inner.writeDocument(topic: topic, document: document, bytes: bytes, snapshot: snapshot)
        }
    }

    /// Documents by their paths: those that begin with `prefix`; `after` is the last one of the page before.
    public func documents(
        in topic: TopicId, prefix: String = "", after: OperationId? = nil, limit: UInt32 = 64
    ) async throws -> [Document] {
        try await released { [inner] in
            try await inner.documents(topic: topic, limit: limit, prefix: prefix, after: after)
        }
    }

    /// What was written to a document, as this device read it: parts with a number above `after`. One may come again.
    public func parts(
        of document: OperationId, in topic: TopicId, after: UInt64 = 0, limit: UInt32 = 64
    ) async throws -> [DocumentPart] {
        try await released { [inner] in
            try await inner.documentParts(topic: topic, document: document, limit: limit, after: after)
        }
    }
}
