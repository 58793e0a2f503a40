import Foundation

/// Bytes of a kind that Delta names things by: compared by content, printed as lower-case hex.
public protocol Id: Hashable, Sendable, CustomStringConvertible {
    /// The id itself.
    var bytes: Data { get }
    /// An id that Delta gave. One of another length is refused, with the code `id`, by the call it is passed to.
    init(_ bytes: Data)
}

extension Id {
    public var description: String { bytes.map { String(format: "%02x", $0) }.joined() }

    /// The id that these hex digits stand for, in lower or upper case; nothing when they do not come in pairs.
    public init?(hex: String) {
        let digits = Array(hex.utf8)
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes = Data(capacity: digits.count / 2)
        for at in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(decoding: digits[at..<at + 2], as: UTF8.self), radix: 16) else { return nil }
            bytes.append(byte)
        }
        self.init(bytes)
    }
}

/// Where a conversation lives on a server, 32 bytes.
public struct TopicId: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}

/// Names an operation (a message, say), 32 bytes.
public struct OperationId: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}

/// Who signs: a device's Ed25519 key, 32 bytes.
public struct Author: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}

/// Stable name of a conversation, 32 bytes.
public struct LogId: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}

/// A relay's or sync server's Ed25519 key, 32 bytes.
public struct NodeId: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}

/// Who a person is: the Ed25519 key that certifies their devices, 32 bytes.
public struct Identity: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}

/// Names a blob, 32 bytes.
public struct BlobId: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}

/// Where a message is shown. To be handed back for the page before or after it.
public struct Position: Id {
    public let bytes: Data
    public init(_ bytes: Data) { self.bytes = bytes }
}
