import DeltaKit
import Foundation

/// Everything an app can do wrong: typed errors, and nothing breaks. No network is needed.
func misuse() -> [Test] {
    [
        Test("case_67 use after close is a typed error") {
            try await Folder.with { folder in
                let device = try await folder.open()
                let topic = try await device.openTopic(generateTicket())
                try await device.close()
                let calls: [() async throws -> Void] = [
                    { _ = try await device.send("late", to: topic) }, { _ = try await device.status(topic) },
                    { _ = try await device.messages(topic) }, { for try await _ in device.events(topic) {} },
                    { for try await _ in device.follow(topic) {} }, { try await device.suspend() },
                    { try await device.resume() }, { _ = try await device.nextWakeupAt() },
                    { _ = try await device.openTopic(generateTicket()) },
                ]
                for call in calls { try await refused(.state, "closed", call) }
                device.networkChanged()
                try await device.close()
            }
        },
        Test("case_67 a listener that throws stops nothing") { try await Folder.with(throwing) },
        Test("case_67 cancelled and concurrent calls leave a whole log") { try await Folder.with(concurrent) },
        Test("case_67 a loop over events ends with its task, and its subscription with it") {
            try await Folder.with(cancelledLoops)
        },
        Test("cancelling a subscription ends a wait for its events") {
            try await Folder.with { folder in
                let path = folder.database("waiting")
                let device = try await Delta.open(config: Config(path: path), keystore: folder.keystore)
                let topic = try await device.openTopic(ticket: generateTicket())
                let subscription = try await device.subscribe(topic: topic, listener: nil)
                // Far beyond this test's patience.
                async let events = subscription.nextEvents(max: 1, deadline: 3600)
                subscription.cancel()
                try equal(try await events.count, 0)
                try equal(try await subscription.nextEvents(max: 1, deadline: 3600).count, 0)
                try await device.close()
            }
        },
        Test("case_68 a keystore that denies is told and what is queued stays") { try await Folder.with(denied) },
        Test("case_69 a second open is refused and a hot reload is not") {
            try await Folder.with { folder in
                var device = try await folder.open()
                let error = try await refused(.device, "database_locked") { try await folder.open() }
                try expect(error.reason.contains("device.db"), error.reason)
                let author = device.author
                for _ in 0..<5 {
                    try await device.close()
                    device = try await folder.open()
                    try equal(device.author, author)
                }
            }
        },
        Test("case_69 a second process is refused") {
            try await Folder.with { folder in
                _ = try await folder.open()
                let (other, output) = (Process(), Pipe())
                other.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
                other.arguments = [openElsewhere, folder.database("device")]
                other.standardOutput = output
                try other.run()
                let said = try output.fileHandleForReading.readToEnd() ?? Data()
                other.waitUntilExit()
                try equal(String(decoding: said, as: UTF8.self), "database_locked\n")
            }
        },
        Test("a device lives as long as its scope, however that ends") {
            try await Folder.with { folder in
                let config = Config(path: folder.database("scoped"))
                for _ in 0..<2 {
                    do {
                        try await Device.with(config, keystore: folder.keystore) { device in
                            try expect(try await device.topics().isEmpty)
                            throw Failed(description: "on purpose")
                        }
                    } catch is Failed {}
                    try equal(try holders(config.path), "0 0")
                }
            }
        },
        Test("two instances keep out of each other's way") {
            try await Folder.with { folder in
                let one = try await folder.open("one")
                let two = try await folder.open("two", keystore: MemoryKeystore())
                let ticket = try generateTicket()
                let topic = try await one.openTopic(ticket)
                try expect(one.author != two.author)
                _ = try await one.send("only here", to: topic)
                try await refused(.state, "unknown_topic") { try await two.messages(topic) }
                try await one.close()
                try equal(try await two.openTopic(ticket), topic)
                try equal(try await two.messages(topic).count, 0)
            }
        },
        Test("what cannot be used is refused before anything is written") { try await Folder.with(unusable) },
        Test("spaces, rooms, search, unread and the outbox") { try await Folder.with(spaces) },
        Test("messages are edited, taken back, reacted to and paged") { try await Folder.with(paged) },
        Test("ids are written as hex, and read from hex alone") {
            let id = TopicId(Data(0...255))
            try equal(id.description, (0...255).map { String(format: "%02x", $0) }.joined())
            try equal(TopicId(hex: id.description), id)
            try equal(TopicId(hex: id.description.uppercased()), id)
            for wrong in ["0", "+f", "-1", " f", "0g", "٠١"] { try expect(TopicId(hex: wrong) == nil, wrong) }
        },
    ]
}

let openElsewhere = "--open"

/// What a process of its own does: it opens a database, and says why it cannot.
func elsewhere(_ path: String) async {
    do {
        try await Device.open(Config(path: path), keystore: MemoryKeystore()).close()
        say("opened")
    } catch {
        say((error as? DeltaError)?.code ?? "\(error)")
    }
}

private func throwing(_ folder: Folder) async throws {
    final class Listener: EventListener {
        let heard = Shared(0)
        let fails: Bool
        init(fails: Bool) { self.fails = fails }
        func onEvent(event: Event) throws {
            if case .changed = event { heard.change { $0 += 1 } }
            if fails { throw Failed(description: "a bug of the app") }
        }
    }
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    let (throwing, calm) = (Listener(fails: true), Listener(fails: false))
    let kept = [
        try await device.subscribe(topic, listener: throwing), try await device.subscribe(topic, listener: calm),
    ]
    for number in 1...3 {
        _ = try await device.send("line \(number)", to: topic)
        try await until { throwing.heard.value >= number && calm.heard.value >= 1 }
    }
    try await device.close()
    for subscription in kept { subscription.cancel() }
}

private func concurrent(_ folder: Folder) async throws {
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    for _ in 0..<50 {
        let dropped = Task { try await device.send("cancelled", to: topic) }
        dropped.cancel()
        _ = await dropped.result
    }
    let kept = try await withThrowingTaskGroup(of: OperationId.self) { group in
        for number in 0..<100 { group.addTask { try await device.send("kept \(number)", to: topic) } }
        return try await group.reduce(into: Set()) { $0.insert($1) }
    }
    try equal(kept.count, 100)
    let shown = try await device.messages(topic, limit: 1000).map(\.id)
    try expect(kept.isSubset(of: shown))
}

private func cancelledLoops(_ folder: Folder) async throws {
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    let started = Shared(0)
    let loops = (0..<20).map { number in
        Task {
            if number.isMultiple(of: 2) {
                for try await _ in device.events(topic) { started.change { $0 += 1 } }
            } else {
                for try await _ in device.follow(topic) { started.change { $0 += 1 } }
            }
        }
    }
    // A loop hears what comes after it began, which it says to nobody.
    try await until {
        _ = try await device.send("heard", to: topic)
        return started.value > 0
    }
    for loop in loops { loop.cancel() }
    // Long before a wait for events would end by itself.
    for loop in loops { try await cancelled { try await loop.value } }
    // Another one hears what comes after it began.
    let again = Task { try await device.follow(topic).first { $0.text == "heard again" } }
    _ = try await device.send("heard again", to: topic)
    again.cancel()
    try await cancelled { _ = try await again.value }
}

private func denied(_ folder: Folder) async throws {
    final class Locked: Keystore {
        func get(item: String) throws -> Data? { throw KeystoreError.Denied(reason: "the phone is locked") }
        func put(item: String, value: Data) throws { throw KeystoreError.Denied(reason: "the phone is locked") }
        func delete(item: String) throws { throw KeystoreError.Denied(reason: "the phone is locked") }
    }
    final class Broken: Keystore {
        func get(item: String) throws -> Data? { throw Failed(description: "no such service") }
        func put(item: String, value: Data) throws {}
        func delete(item: String) throws {}
    }
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    _ = try await device.send("queued", to: topic)
    try await device.close()
    try await refused(.keystore, "keystore_denied") { try await folder.open(keystore: Locked()) }
    try await refused(.keystore, "keystore_failed") { try await folder.open(keystore: Broken()) }
    let again = try await folder.open()
    try expect(!again.renewed)
    try equal(try await again.status(topic).outbox.queued, 1)
}

private func unusable(_ folder: Folder) async throws {
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    try await refused(.argument, "ticket") { try await device.openTopic("no ticket") }
    try await refused(.argument, "id") { try await device.send("x", to: TopicId(Data(count: 3))) }
    try await refused(.state, "unknown_topic") { try await device.send("x", to: TopicId(Data(count: 32))) }
    let long = String(repeating: "x", count: 64 * 1024 + 1)
    try await refused(.argument, "content") { try await device.send(long, to: topic) }
    try await refused(.argument, "idempotency_key") { try await device.send("x", to: topic, key: Data()) }
    try await refused(.state, "no_network") { try await device.runOnce(deadline: .seconds(1)) }
    let reader = try await device.openTopic(readOnlyTicket(ticket: generateTicket()))
    try await refused(.state, "read_only") { try await device.send("x", to: reader) }
    let elsewhere = Config(path: folder.database("proxied"), proxy: "ftp://127.0.0.1:1")
    try await refused(.argument, "proxy") { try await Device.open(elsewhere, keystore: MemoryKeystore()) }
    try equal(try await device.statistics().operations, 0)
}

private func paged(_ folder: Folder) async throws {
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    var ids: [OperationId] = []
    for number in 0..<10 { ids.append(try await device.send("line \(number)", to: topic)) }
    _ = try await device.publish(.messageEdit(target: ids[0], text: "corrected"), to: topic)
    _ = try await device.publish(.messageDelete(target: ids[1]), to: topic)
    _ = try await device.publish(.reactionAdd(target: ids[0], emoji: "👍"), to: topic)
    let newest = try await device.messages(topic, limit: 4)
    try equal(newest.map(\.id), Array(ids[6...]))
    let before = try await device.messages(topic, page: .before(position: newest[0].position), limit: 100)
    try equal(before.map(\.id), Array(ids[..<6]))
    let after = try await device.messages(topic, page: .after(position: before[5].position), limit: 2)
    try equal(after.map(\.id), Array(ids[6..<8]))
    try equal([before[0].text, before[1].text], ["corrected", nil])
    try expect(before[1].deleted)
    let reactions = try await device.reactions(to: ids[0])
    try equal(reactions.map(\.emoji), ["👍"])
    try equal(reactions.map(\.author), [device.author])
}

private func spaces(_ folder: Folder) async throws {
    let device = try await folder.open()
    let space = try await device.createSpace(SpaceText(name: "Family"))
    let room = try await device.createRoom(RoomText(name: "Dinner"), in: space.log)
    try equal(try await device.spaces().map(\.about.name), ["Family"])
    try equal(try await device.rooms(of: space.log).map(\.topic), [room.topic])
    try equal(try await device.members(of: space.log).map(\.level), [.manage])
    try expect(try await !device.createInvitation(to: space.log, level: .write, once: true).isEmpty)
    try await refused(.argument, "invitation") { try await device.accept(invitation: "none") }
    let sent = try await device.send("Potatoes tonight", to: room.topic)
    try equal(try await device.outbox(room.topic).filter { $0.operation == sent }.map(\.state), [.queued])
    try equal(try await device.search(SearchWords(words: "potatoes")).map(\.message.id), [sent])
    try equal(try await device.history(of: sent).map(\.text), ["Potatoes tonight"])
    let key = ValueKey(collection: "settings", key: "colour")
    _ = try await device.put(Data("red".utf8), at: key, in: room.topic)
    try equal(try await device.value(at: key, in: room.topic)?.value, Data("red".utf8))
    try equal(try await device.values(of: "settings", in: room.topic, prefix: "col").map(\.at), [key])
    _ = try await device.deleteValue(at: key, in: room.topic)
    try expect(try await device.value(at: key, in: room.topic) == nil)
    let last = try await device.send("too early", to: room.topic)
    try equal(try await device.unread(room.topic), Unread(messages: 0, mentions: 0))
    guard case .removed = try await device.cancel(last, in: room.topic) else {
        throw Failed(description: "what never left is not removed")
    }
    try expect(try await device.message(last) == nil)
}
