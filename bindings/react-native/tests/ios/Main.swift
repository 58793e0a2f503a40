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
        try await documents(folder)
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

    /// What is passed by its place comes where it belongs.
    static func documents(_ folder: URL) async throws {
        let keystore = MemoryKeystore()
        let bridge = DeltaBridge(folder: folder, keystore: { _ in keystore }, emit: { _ in }, log: { _ in })
        let opened = try await bridge.call("open", Passed([["name": "documents"] as [String: Any]])) as? [String: Any]
        let (device, author) = (opened?["device"] ?? -1, opened?["author"] as? String)
        let ticket = try await bridge.call("generateTicket", Passed([false])) ?? ""
        let topic = try await bridge.call("openTopic", Passed([device, ticket])) ?? ""
        func asked(_ name: String, _ passed: Any...) async throws -> Any {
            try await bridge.call(name, Passed([device, topic] + passed)) ?? NSNull()
        }
        func rows(_ answer: Any) -> [[String: Any]] { answer as? [[String: Any]] ?? [] }
        let second = try await asked("createDocument", "notes/b")
        let first = try await asked("createDocument", "notes/a")
        _ = try await asked("createDocument", "todo")
        let page = rows(try await asked("documents", 1.0, "notes/", NSNull()))
        try expect(page.map { $0["path"] as? String } == ["notes/a"], "\(page)")
        try expect(page.map { $0["author"] as? String } == [author] && author != nil, "\(page)")
        let rest = rows(try await asked("documents", 10.0, "notes/", first))
        try expect(rest.map { $0["id"] as? String } == [second as? String], "\(rest)")
        let written = [try await asked("writeDocument", second, "AP8=", false), try await asked("writeDocument", second, "AQ==", true)]
        let parts = rows(try await asked("documentParts", second, 10.0, -1.0))
        try expect(parts.map { $0["id"] as? String } == written.map { $0 as? String }, "\(parts)")
        try expect(parts.map { $0["bytes"] as? String } == ["AP8=", "AQ=="], "\(parts)")
        try expect(parts.map { $0["snapshot"] as? Bool } == [false, true], "\(parts)")
        let later = rows(try await asked("documentParts", second, 10.0, parts[0]["number"] ?? 0.0))
        try expect(later.map { $0["id"] as? String } == [written[1] as? String], "\(later)")
        try expect(rows(try await asked("documentParts", second, 1.0, 0.0)).count == 1, "a page of one")
        try await refused("native", bridge, "documentParts", [device, topic, second, 10.0, Double.nan])
        try await refused("content", bridge, "createDocument", [device, topic, "a//b"])
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
