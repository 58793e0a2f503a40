#if canImport(DeltaFFI)
import DeltaFFI
#endif
import Foundation

/// Keeps secrets as long as it lives: for tests. An app uses `KeychainKeystore`.
public final class MemoryKeystore: Keystore, @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSLock()
    private var items: [String: Data] = [:]

    public init() {}

    public func get(item: String) throws -> Data? { lock.withLock { items[item] } }

    public func put(item: String, value: Data) throws { lock.withLock { items[item] = value } }

    public func delete(item: String) throws { lock.withLock { _ = items.removeValue(forKey: item) } }
}
