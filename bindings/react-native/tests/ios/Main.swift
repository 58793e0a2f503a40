// What of the iOS module runs without Apple's systems: DeltaBridge, over the real library. Compiled with it by
// xtask/src/bindings/swift_root.sh.
import DeltaKit
import Foundation

/// What is not as it should be.
struct Failed: Error { let what: String }

func expect(_ holds: Bool, _ what: String) throws {
    if !holds { throw Failed(what: what) }
}

/// The call is refused with this code.
func refused(_ code: String, _ bridge: DeltaBridge, _ name: String, _ passed: [Any]) async throws {
    do {
        _ = try await bridge.call(name, Passed(passed))
    } catch let error as DeltaError {
        return try expect(error.code == code, "\(name) \(passed): \(error)")
    }
    throw Failed(what: "\(name) \(passed) was not refused")
}

/// Waits in its first `get` until it is let go.
final class Slow: Keystore, @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSCondition()
    private var asked = false
    private var free = false
    private let inner = MemoryKeystore()

    var isAsked: Bool { lock.withLock { asked } }

    func release() {
        lock.withLock {
            free = true
            lock.broadcast()
        }
    }

    func get(item: String) throws -> Data? {
        lock.withLock {
            asked = true
            while !free { lock.wait() }
        }
        return try inner.get(item: item)
    }

    func put(item: String, value: Data) throws { try inner.put(item: item, value: value) }
    func delete(item: String) throws { try inner.delete(item: item) }
}

@main
struct Main {
    static func main() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("delta-\(UUID())")
        defer { try? FileManager.default.removeItem(at: folder) }
        try await numbers(folder)
        try await gone(folder)
        print("OK")
    }

    /// Numbers that are none would end an app in Swift.
    static func numbers(_ folder: URL) async throws {
        let keystore = MemoryKeystore()
        let bridge = DeltaBridge(folder: folder, keystore: { _ in keystore }, emit: { _ in }, log: { _ in })
        let opened = try await bridge.call("open", Passed([["name": "numbers"] as [String: Any]]))
        let device = (opened as? [String: Any])?["device"] ?? -1
        let ticket = try await bridge.call("generateTicket", Passed([false])) ?? ""
        let topic = try await bridge.call("openTopic", Passed([device, ticket])) ?? ""
        let newest = ["kind": "newest"] as [String: Any]
        for wrong in [Double.nan, .infinity, -.infinity] {
            try await refused("native", bridge, "messages", [device, topic, newest, wrong])
            try await refused("native", bridge, "runOnce", [device, wrong])
            try await refused("native", bridge, "outbox", [device, topic, 10.0, wrong])
            try await refused("native", bridge, "prune", [device, topic, wrong])
            try await refused("native", bridge, "search", [device, ["words": "x", "since": wrong] as [String: Any], 1.0])
            try await refused("native", bridge, "open", [["name": "more", "coverMs": wrong] as [String: Any]])
            try await refused("closed", bridge, "topics", [wrong])
        }
        try await refused("native", bridge, "runOnce", [device, 1e300])
        try await refused("native", bridge, "prune", [device, topic, 1e300])
        // What is of another type was not left out.
        for wrong in [["reply": 5.0], ["mentions": [5.0]], ["mentions": "nobody"]] as [[String: Any]] {
            let content = ["kind": "messageSend", "text": "x"].merging(wrong) { $1 }
            try await refused("native", bridge, "publish", [device, topic, content])
        }
        try await refused("native", bridge, "open", [["name": "more", "allowPlaintext": "yes"] as [String: Any]])
        try await refused("native", bridge, "createSpace", [device, ["name": "x", "history": 1.5] as [String: Any]])
        let unsaid = ["kind": "messageSend", "text": "x", "reply": NSNull()] as [String: Any]
        _ = try await bridge.call("publish", Passed([device, topic, unsaid]))
        let none = try await bridge.call("messages", Passed([device, topic, newest, -1.0])) as? [Any]
        try expect(none?.count == 0, "a count below zero is zero")
        try await refused("native", bridge, "open", [["name": "loud"] as [String: Any], "all"])
        await bridge.invalidate()
    }

    /// A device that was still being opened when its JavaScript went is closed, and its database opens again.
    static func gone(_ folder: URL) async throws {
        let keystore = Slow()
        let config = ["name": "gone"] as [String: Any]
        let before = DeltaBridge(folder: folder, keystore: { _ in keystore }, emit: { _ in }, log: { _ in })
        let opening = Task { try await refused("closed", before, "open", [["name": "gone"] as [String: Any]]) }
        while !keystore.isAsked { try await Task.sleep(for: .milliseconds(5)) }
        await before.invalidate()
        keystore.release()
        try await opening.value
        let after = DeltaBridge(folder: folder, keystore: { _ in keystore }, emit: { _ in }, log: { _ in })
        _ = try await after.call("open", Passed([config]))
        await after.invalidate()
        try await refused("closed", after, "open", [config])
    }
}
