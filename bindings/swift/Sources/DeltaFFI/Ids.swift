import Foundation

/// Bytes of a kind that Delta names things by: compared by content, printed as lower-case hex.
public protocol Id: Hashable, Sendable, CustomStringConvertible {
    /// The id itself.
    var bytes: Data { get }
    /// An id that Delta gave. One of another length is refused, with the code `id`, by the call it is passed to.
    init(_ bytes: Data)
}

extension Id {
    // A page of messages has hundreds of ids: formatting byte by byte would cost more than reading them.
    public var description: String {
        String(decoding: bytes.flatMap { [hexDigits[Int($0 >> 4)], hexDigits[Int($0 & 0xf)]] }, as: UTF8.self)
    }

    /// The id that these hex digits stand for, in lower or upper case; nothing when they do not come in pairs.
    public init?(hex: String) {
        let digits = hex.utf8.compactMap(value)
        guard digits.count == hex.utf8.count, digits.count.isMultiple(of: 2) else { return nil }
        self.init(Data(stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }))
    }
}

private let hexDigits = Array("0123456789abcdef".utf8)

private func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
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

/// Names a direct thread, 32 bytes.
public struct ThreadId: Id {
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
