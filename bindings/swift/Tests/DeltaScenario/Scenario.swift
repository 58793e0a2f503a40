import DeltaKit
import Foundation

/// What every language runs, against real relays and a real sync server.
func scenario(_ network: Network) -> [Test] {
    [
        Test("two devices meet in a space, talk, go offline, come back, suspend, resume and close") {
            try await Folder.with { try await talk(network, $0) }
        },
        Test("follow gives each message once, in order") {
            try await Folder.with { folder in
                let ticket = try generateTicket()
                let (alice, topic) = try await folder.joined(network, "alice", ticket)
                let (bob, _) = try await folder.joined(network, "bob", ticket)
                let texts = (0..<20).map { "line \($0)" }
                async let read = bob.follow(topic).prefix(texts.count).reduce(into: []) { $0.append($1.text ?? "") }
                for text in texts { _ = try await alice.send(text, to: topic) }
                try equal(try await read, texts)
            }
        },
        Test("follow waits while the device is suspended, and ends with it") {
            try await Folder.with { try await following(network, $0) }
        },
        Test("run once while suspended fetches, sends and goes back to sleep") {
            try await Folder.with { try await runOnce(network, $0) }
        },
        Test("run once ends within its deadline while nobody answers") {
            try await Folder.with { folder in
                let (alice, _) = try await folder.joined(network, "alice", generateTicket())
                try await alice.suspend()
                network.halt()
                defer { network.goOn() }
                let start = ContinuousClock.now
                let summary = try await alice.runOnce(deadline: .seconds(3))
                // The promise is what is checked here, not a speed.
                try expect(ContinuousClock.now - start < .seconds(3))
                try expect(!summary.complete)
                try equal([summary.topics, summary.caughtUp], [1, 0])
                try equal(try holders(folder.database("alice")), "0 0")
            }
        },
        Test("a cancelled task leaves a run at once, and the run still ends well") {
            try await Folder.with { folder in
                let (alice, _) = try await folder.joined(network, "alice", generateTicket())
                try await alice.suspend()
                network.halt()
                defer { network.goOn() }
                // Far beyond this test's patience: only cancelling ends the wait.
                let running = Task { try await alice.runOnce(deadline: .seconds(3600)) }
                // Begun: it has the database open.
                try await until { try holders(folder.database("alice")) != "0 0" }
                running.cancel()
                try await cancelled { _ = try await running.value }
                try await alice.suspend()
                try equal(try holders(folder.database("alice")), "0 0")
            }
        },
        Test("case_66 logs and errors show no key and no text") {
            try await Folder.with { try await quiet(network, $0) }
        },
    ]
}

private func talk(_ network: Network, _ folder: Folder) async throws {
    let (first, second) = try await folder.room(network)
    let (alice, topic, bob, there) = (first.device, first.topic, second.device, second.topic)
    let sent = try await alice.send("hello", to: topic)
    try await until(bob, there, "hello")
    let received = try await bob.messages(there)
    try equal(received.map(\.id), [sent])
    try equal(received.map(\.author), [alice.author])
    let answer = try await bob.send("hello yourself", to: there)
    // Heard by herself, too: nothing of hers is on its way.
    try await until(alice, topic, "hello", "hello yourself")
    try equal(try await alice.message(answer)?.author, bob.author)
    // Offline: what is said meanwhile waits, and arrives once.
    do {
        network.halt()
        defer { network.goOn() }
        alice.networkChanged()
        let away = try await alice.send("while away", to: topic)
        let outbox = try await alice.status(topic).outbox
        try expect(outbox.queued + outbox.sent >= 1, "\(outbox)")
        try expect(try await alice.outbox(topic).contains { $0.operation == away })
    }
    alice.networkChanged()
    try await until(bob, there, "hello", "hello yourself", "while away")
    // Suspended: nothing is held.
    try await alice.suspend()
    try equal(try holders(folder.database("alice")), "0 0")
    try await refused(.state, "suspended") { try await alice.send("too late", to: topic) }
    _ = try await bob.send("good night", to: there)
    try await alice.resume()
    try expect(!(try holders(folder.database("alice"))).hasPrefix("0 "), "nothing is locked after resume")
    try await until(alice, topic, "hello", "hello yourself", "while away", "good night")
    try await alice.close()
    try await alice.close()
    try equal(try holders(folder.database("alice")), "0 0")
    try await bob.close()
    // The loops end with their devices.
    for task in first.hearing + second.hearing { try await task.value }
}

private func following(_ network: Network, _ folder: Folder) async throws {
    let ticket = try generateTicket()
    let (alice, topic) = try await folder.joined(network, "alice", ticket)
    let (bob, _) = try await folder.joined(network, "bob", ticket)
    let texts = Shared<[String?]>([])
    let reading = Task {
        for try await message in alice.follow(topic) { texts.change { $0.append(message.text) } }
    }
    let wanted = ["before", "meanwhile", "in between", "after"]
    for (number, text) in wanted.enumerated() {
        let sleeps = (1...2).contains(number)
        if sleeps { try await alice.suspend() }
        _ = try await bob.send(text, to: topic)
        // What a run receives is there for the loop after the device wakes.
        if number == 2 { _ = try await alice.runOnce(deadline: patience) }
        if sleeps { try await alice.resume() }
        try await until { texts.value.count > number }
    }
    try await alice.close()
    try await reading.value
    try equal(texts.value, wanted)
}

private func runOnce(_ network: Network, _ folder: Folder) async throws {
    let ticket = try generateTicket()
    let (alice, topic) = try await folder.joined(network, "alice", ticket)
    let (bob, _) = try await folder.joined(network, "bob", ticket)
    _ = try await bob.send("queued on bob", to: topic)
    try await bob.suspend()
    try expect(try await bob.nextWakeupAt() != nil)
    _ = try await alice.send("for bob", to: topic)
    let hearing = Task { for try await _ in alice.events(topic) {} }
    try await until {
        let outbox = try await alice.status(topic).outbox
        return outbox.queued + outbox.sent == 0
    }
    let summary = try await bob.runOnce(deadline: patience)
    try expect(summary.complete, "\(summary)")
    try equal(try holders(folder.database("bob")), "0 0")
    try expect(try await bob.nextWakeupAt() == nil)
    try await until(alice, topic, "queued on bob", "for bob")
    hearing.cancel()
    try await cancelled { try await hearing.value }
}

private func quiet(_ network: Network, _ folder: Folder) async throws {
    final class Sink: LogSink {
        let lines = Shared<[String]>([])
        func level() throws -> LogLevel { .trace }
        func log(level: LogLevel, target: String, message: String) throws { lines.change { $0.append(message) } }
    }
    final class Failing: EventListener {
        func onEvent(event: Event) throws { throw ListenerError.Failed(reason: "a bug of the app") }
    }
    let (sink, ticket) = (Sink(), try generateTicket())
    let device = try await folder.open("loud", log: sink)
    _ = try await device.initSync(network.hops(), to: network.syncUrl)
    let topic = try await device.openTopic(ticket)
    let failing = try await device.subscribe(topic, listener: Failing())
    _ = try await device.send("a very private text", to: topic)
    try await until(device, topic, "a very private text")
    try await until { !sink.lines.value.isEmpty }
    let error = try await refused(.argument, "ticket") { try await device.openTopic(String(ticket.dropLast()) + "!") }
    failing.cancel()
    try await device.close()
    // The item is a version, an instance, a count, then the seed.
    let secret = try folder.keystore.get(item: "delta.device")?.dropFirst(25).prefix(32) ?? Data()
    try equal(secret.count, 32)
    let said = sink.lines.value.joined(separator: "\n") + "\(error)" + error.localizedDescription
    for hidden in [secret.map { String(format: "%02x", $0) }.joined(), ticket, "a very private text", "\(Array(secret))"] {
        try expect(!said.contains(hidden), "a secret was said")
    }
}

/// What a cancelled task ends with.
func cancelled(line: UInt = #line, file: String = #fileID, _ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch is CancellationError {
        return
    }
    throw Failed(description: "\(file):\(line) was not cancelled")
}
