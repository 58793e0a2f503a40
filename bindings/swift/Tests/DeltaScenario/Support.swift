import DeltaKit
import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// One sync server and three relays (`delta demo --serve`); they end with it.
final class Network: @unchecked Sendable {
    // Nothing of it changes after `init`.
    private let folder: URL
    private let child = Process()
    private let input = Pipe()
    private let facts: [String: Any]

    init() throws {
        folder = try temporaryFolder()
        child.executableURL = URL(fileURLWithPath: environment("DELTA_PROGRAMS")).appendingPathComponent("delta")
        child.arguments = ["demo", "--serve", "--json", "--keep", folder.appendingPathComponent("network").path]
        let output = Pipe()
        (child.standardInput, child.standardOutput) = (input, output)
        try child.run()
        var line = Data()
        while line.last != UInt8(ascii: "\n") {
            guard let byte = try output.fileHandleForReading.read(upToCount: 1), !byte.isEmpty else {
                throw Failed(description: "delta demo --serve said nothing")
            }
            line += byte
        }
        facts = try JSONSerialization.jsonObject(with: line) as? [String: Any] ?? [:]
    }

    var syncUrl: String { fact("sync") }

    func hops() throws -> RelayHops {
        guard let trusted = NodeId(hex: fact("trust")) else { throw Failed(description: "no trusted key") }
        return .directory(
            list: try String(contentsOfFile: fact("directory"), encoding: .utf8),
            records: try String(contentsOfFile: fact("records"), encoding: .utf8),
            trustedKeys: [trusted], threshold: 1
        )
    }

    /// All of them hang: connections are accepted by the system, and nobody answers.
    func halt() { signal(SIGSTOP) }

    func goOn() { signal(SIGCONT) }

    func close() {
        goOn()
        try? input.fileHandleForWriting.close()
        child.waitUntilExit()
        try? FileManager.default.removeItem(at: folder)
    }

    /// The one envelope that the server has of a topic, as a push service takes it from there.
    func envelope(_ topic: TopicId) throws -> Data {
        struct Page: Decodable {
            struct Op: Decodable { let data: Data }
            let ops: [Op]
        }
        let base = syncUrl.split(separator: "#")[0]
        guard let url = URL(string: "\(base)/topic/\(topic)/ops") else { throw Failed(description: "\(base)") }
        let ops = try JSONDecoder().decode(Page.self, from: Data(contentsOf: url)).ops
        try equal(ops.count, 1)
        return ops[0].data
    }

    private func fact(_ name: String) -> String { facts[name] as? String ?? "" }

    private func signal(_ number: Int32) {
        for pid in (facts["pids"] as? [String: Int] ?? [:]).values { kill(pid_t(pid), number) }
    }
}

/// A folder for the databases of one test, and what was opened in it. All is closed and removed at the end.
actor Folder {
    nonisolated let keystore = MemoryKeystore()
    nonisolated private let folder: URL
    private var devices: [Device] = []

    private init() throws { folder = try temporaryFolder() }

    static func with(_ body: (Folder) async throws -> Void) async throws {
        let folder = try Folder()
        var ended: Result<Void, any Error> = .success(())
        do { try await body(folder) } catch { ended = .failure(error) }
        for device in await folder.devices { try? await device.close() }
        try FileManager.default.removeItem(at: folder.folder)
        try ended.get()
    }

    nonisolated func database(_ name: String) -> String { folder.appendingPathComponent("\(name).db").path }

    func open(
        _ name: String = "device", keystore: (any Keystore)? = nil, log: (any LogSink)? = nil
    ) async throws -> Device {
        let config = Config(path: database(name), allowPlaintext: true, mergeChangesMs: 0)
        let device = try await Device.open(config, keystore: keystore ?? self.keystore, log: log)
        devices.append(device)
        return device
    }

    /// On the network, in a topic.
    func joined(_ network: Network, _ name: String, _ ticket: String) async throws -> (Device, TopicId) {
        let device = try await open(name, keystore: MemoryKeystore())
        try equal(try await device.initSync(network.hops(), to: network.syncUrl), [])
        return (device, try await device.openTopic(ticket))
    }
}

/// A device in a room of a space, and what hears of the topics it follows until it is closed.
struct Roommate {
    let device: Device
    let space: LogId
    let topic: TopicId
    let hearing: [Task<Void, any Error>]
}

extension Folder {
    /// Two devices in a room of a space: the first made it, the second came by its invitation.
    nonisolated func room(_ network: Network) async throws -> (Roommate, Roommate) {
        let alice = try await open("alice", keystore: MemoryKeystore())
        let bob = try await open("bob", keystore: MemoryKeystore())
        for device in [alice, bob] { try equal(try await device.initSync(network.hops(), to: network.syncUrl), []) }
        let made = try await alice.createSpace(SpaceText(name: "Kitchen"))
        let room = try await alice.createRoom(RoomText(name: "Dinner"), in: made.log)
        let hers = [made.topic, room.topic].map { hear(alice, $0) }
        let joined = try await bob.accept(invitation: alice.createInvitation(to: made.log, level: .write))
        try equal(joined.log, made.log)
        var his = [hear(bob, joined.topic)]
        try await until { try await bob.rooms(of: made.log).contains { $0.topic != nil } }
        let seen = try await bob.rooms(of: made.log)
        try equal(seen.map(\.room), [room.log])
        guard let topic = seen.first?.topic else { throw Failed(description: "the room has no topic") }
        his.append(hear(bob, topic))
        return (
            Roommate(device: alice, space: made.log, topic: room.topic, hearing: hers),
            Roommate(device: bob, space: made.log, topic: topic, hearing: his)
        )
    }
}

/// Follows a topic until the device is closed.
func hear(_ device: Device, _ topic: TopicId) -> Task<Void, any Error> {
    Task { for try await _ in device.events(topic) {} }
}

/// Locks on the database's files and open files of this process, asked of another one: "locks files".
func holders(_ database: String) throws -> String {
    let names = ["", "-wal", "-shm", ".lock"].map { "'\(database)\($0)'" }.joined(separator: " ")
    let script = """
        inodes=" $(stat -c %i \(names) 2>/dev/null | tr '\\n' ' ') "
        locks=0
        while read -r _ _ _ _ _ place _; do
            case "$inodes" in *" ${place##*:} "*) locks=$((locks + 1)) ;; esac
        done < /proc/locks
        open=$(ls -l /proc/\(ProcessInfo.processInfo.processIdentifier)/fd | grep -c -F -- '-> \(database)')
        echo "$locks $open"
        """
    let (shell, output) = (Process(), Pipe())
    shell.executableURL = URL(fileURLWithPath: "/bin/sh")
    shell.arguments = ["-c", script]
    shell.standardOutput = output
    try shell.run()
    let said = try output.fileHandleForReading.readToEnd() ?? Data()
    shell.waitUntilExit()
    return String(decoding: said, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
}

func environment(_ name: String) -> String { ProcessInfo.processInfo.environment[name] ?? "" }

private func temporaryFolder() throws -> URL {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("delta-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
}

/// What several threads put somewhere.
final class Shared<Value: Sendable>: @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSLock()
    private var inner: Value

    init(_ value: Value) { inner = value }

    var value: Value { lock.withLock { inner } }

    func change(_ body: (inout Value) -> Void) { lock.withLock { body(&inner) } }
}
