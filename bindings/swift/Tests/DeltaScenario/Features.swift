import DeltaKit
import Foundation

/// What an app uses beside sending and receiving. What needs two devices and a space is in Together.swift.
func features(_ network: Network) -> [Test] {
    [
        Test("features: messages are paged by author and by mention") { try await Folder.with(pages) },
        Test("features: an export is imported with the words and another key") { try await Folder.with(exported) },
        Test("features: a further device is paired and revoked") {
            try await Folder.with { try await paired(network, $0) }
        },
        Test("features: two people talk in a direct thread") {
            try await Folder.with { try await direct(network, $0) }
        },
        Test("features: whoever is invited is a member and can be written to") {
            try await Folder.with { try await invited(network, $0) }
        },
        Test("features: whoever asks to join is seen and let in") {
            try await Folder.with { try await asking(network, $0) }
        },
        Test("features: an extension previews what was pushed") {
            try await Folder.with { try await previewed(network, $0) }
        },
        Test("features: a signal reaches who listens now") {
            try await Folder.with { try await signalled(network, $0) }
        },
        Test("features: profiles, read markers, the outbox") { try await Folder.with(reading) },
        Test("features: documents are made, paged and written to") { try await Folder.with(documents) },
        Test("features: a space is changed and audited") { try await Folder.with(space) },
        Test("features: messages bring blobs along") { try await Folder.with(blobs) },
        Test("features: what is wiped is gone") { try await Folder.with(wiped) },
        Test("features: tickets and addresses say what they are for") { try texts() },
    ]
}

private func pages(_ folder: Folder) async throws {
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    var ids: [OperationId] = []
    for number in 0..<3 {
        ids.append(try await device.send("word \(number)", to: topic, mentions: [device.author]))
    }
    let by = try await device.messages(by: device.author, in: topic, limit: 2)
    try equal(by.map(\.id), Array(ids[1...]))
    let earlier = try await device.messages(by: device.author, in: topic, page: .before(position: by[0].position))
    try equal(earlier.map(\.id), Array(ids[..<1]))
    // No server has them: they were received at no time.
    let epoch = Date(timeIntervalSince1970: 0)
    try equal(try await device.messages(by: device.author, in: topic, since: epoch).count, 0)
    try equal(try await device.messagesReceived(in: topic).messages.count, 0)
    let mentions = try await device.mentions(of: device.author, limit: 2)
    try equal(mentions.map(\.message.id), [ids[2], ids[1]])
    let rest = try await device.mentions(of: device.author, in: topic, before: mentions[1].arrival)
    try equal(rest.map(\.message.id), [ids[0]])
    try await device.setReadKey(Data(count: 32), for: topic)
    try await device.setReadKey(nil, for: topic)
    try await refused(.argument, "id") { try await device.setReadKey(Data(count: 31), for: topic) }
    let space = try await device.createSpace(SpaceText(name: "Paged"))
    for number in 0..<3 { _ = try await device.createRoom(RoomText(name: "Room \(number)"), in: space.log) }
    let lines = try await device.auditLog(of: space.log)
    let newest = try await device.auditLog(of: space.log, limit: 1)
    try equal(try await device.auditLog(of: space.log, before: newest[0].place), Array(lines[1...]))
    let members = try await device.members(of: space.log, limit: 1)
    try equal(try await device.members(of: space.log, after: members[0].member).count, 0)
}

private func documents(_ folder: Folder) async throws {
    final class Listener: EventListener {
        let named = Shared<Set<Data>>([])
        func onEvent(event: Event) throws {
            guard case let .changed(_, changes) = event else { return }
            for change in changes where change.kind == .document { named.change { $0.formUnion(change.ids) } }
        }
    }
    let (device, listener) = (try await folder.open(), Listener())
    let topic = try await device.openTopic(generateTicket())
    let heard = try await device.subscribe(topic, listener: listener)
    var made: [OperationId] = []
    for path in ["notes/b", "notes/a", "todo"] { made.append(try await device.createDocument(path, in: topic)) }
    try equal(try await device.documents(in: topic).map(\.path), ["notes/a", "notes/b", "todo"])
    let page = try await device.documents(in: topic, prefix: "notes/", limit: 1)
    try equal(page, [Document(id: made[1], path: "notes/a", author: device.author)])
    try equal(try await device.documents(in: topic, prefix: "notes/", after: made[1]).map(\.id), [made[0]])
    let change = try await device.write(Data([0, 255]), to: made[0], in: topic)
    let snapshot = try await device.write(Data("all of it".utf8), to: made[0], in: topic, snapshot: true)
    let parts = try await device.parts(of: made[0], in: topic)
    try equal(parts.map(\.id), [change, snapshot])
    try equal(parts.map(\.snapshot), [false, true])
    try equal(parts.map(\.bytes), [Data([0, 255]), Data("all of it".utf8)])
    try expect(parts[0].number < parts[1].number && parts[0].author == device.author)
    try equal(try await device.parts(of: made[0], in: topic, after: parts[0].number), [parts[1]])
    try equal(try await device.parts(of: made[0], in: topic, limit: 1), [parts[0]])
    try equal(try await device.parts(of: made[2], in: topic), [])
    try await refused(.argument, "content") { try await device.createDocument("a//b", in: topic) }
    let most = 768 * 1024
    try await refused(.argument, "content") {
        try await device.write(Data(count: most + 1), to: made[1], in: topic)
    }
    _ = try await device.write(Data(count: most), to: made[1], in: topic)
    let wanted = Set(made.map(\.bytes))
    try await until { listener.named.value == wanted }
    heard.cancel()
}

private func exported(_ folder: Folder) async throws {
    let words = try generateMnemonic()
    try importMnemonic(keystore: folder.keystore, words: words)
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    let snapshot = try KeySnapshot.open(sealed: try await device.keySnapshot(), keystore: folder.keystore)
    try expect(abs(snapshot.takenAt().timeIntervalSinceNow) < 3600)
    let (file, keystore) = (folder.database("export"), MemoryKeystore())
    try await device.export(to: file, passphrase: "a passphrase", words: words)
    let config = Config(path: folder.database("copy"))
    try await refused(.argument, "export_passphrase") {
        try await Device.importing(from: file, passphrase: "another", into: config, keystore: keystore)
    }
    let copy = try await Device.importing(from: file, passphrase: "a passphrase", into: config, keystore: keystore)
    try equal(try await copy.topics(), [topic])
    try expect(copy.renewed && copy.author != device.author)
    try equal(try storedMnemonic(keystore: keystore), words)
    try await copy.close()
}

private func paired(_ network: Network, _ folder: Folder) async throws {
    let words = try generateMnemonic()
    try importMnemonic(keystore: folder.keystore, words: words)
    let old = try await folder.open("old")
    let new = try await folder.open("new", keystore: MemoryKeystore())
    for device in [old, new] { _ = try await device.initSync(network.hops(), to: network.syncUrl) }
    let topic = try await old.openTopic(generateTicket())
    let unwanted = try await old.pair()
    let turned = try await new.join(unwanted.text())
    let asks = try await unwanted.asked()
    try await asks.refuse()
    try await asks.refuse()
    try await refused(.state, "pairing_expired") { try await asks.accept() }
    try await refused(.state, "pairing_refused") { try await turned.joined() }
    let host = try await old.pair()
    let guest = try await new.join(host.text())
    let request = try await host.asked()
    try equal(request.device(), new.author)
    try equal(request.code(), try await guest.code())
    try await request.accept()
    try await refused(.state, "pairing_expired") { try await request.refuse() }
    let person = try mnemonicIdentity(words: words)
    try equal(try await guest.joined(), person)
    try equal(try await new.identity(), person)
    try expect(try await new.topics().contains(topic))
    try await old.revoke(new.author)
    try equal(try await old.ownDevices().filter(\.revoked).map(\.device), [new.author])
    let other = try await old.pair()
    async let asked = other.asked()
    other.cancel()
    do { _ = try await asked } catch let error as DeltaError { try equal(error.code, "pairing_expired") }
    try await refused(.argument, "pairing") { try await new.join("no text") }
}

private func direct(_ network: Network, _ folder: Folder) async throws {
    let alice = try await folder.open("alice", keystore: MemoryKeystore())
    let bob = try await folder.open("bob", keystore: MemoryKeystore())
    for device in [alice, bob] { _ = try await device.initSync(network.hops(), to: network.syncUrl) }
    let thread = try await alice.requestDirect(contact: bob.contact(), text: "may I?")
    try equal(try await alice.directThreads().map(\.state), [.asked])
    try await until { try await bob.directThreads().contains { $0.state == .requested } }
    let request = try await bob.directThreads()
    try equal(request.map(\.thread), [thread])
    try equal(request.map(\.peer), [alice.author])
    try equal(request.map(\.text), ["may I?"])
    let there = try await bob.accept(thread)
    try await until { try await alice.directThreads().contains { $0.state == .open } }
    guard let here = try await alice.directThreads().first?.topic else {
        throw Failed(description: "an open thread has no topic")
    }
    let hearing = [(alice, here), (bob, there)].map { device, topic in
        Task { for try await _ in device.events(topic) {} }
    }
    _ = try await bob.send("of course", in: thread)
    try await until(alice, here, "of course")
    _ = try await alice.send("thank you", in: thread)
    try await until(bob, there, "of course", "thank you")
    for task in hearing { task.cancel() }
    try await alice.close(thread)
    try await refused(.state, "thread_state") { try await alice.send("too late", in: thread) }
    try await refused(.argument, "contact") { try await alice.requestDirect(contact: "no contact") }
    try await refused(.state, "unknown_thread") { try await alice.accept(ThreadId(Data(count: 32))) }
}
