import DeltaKit
import Foundation

func invited(_ network: Network, _ folder: Folder) async throws {
    let (first, second) = try await folder.room(network)
    let (alice, bob) = (first.device, second.device)
    let people = [try await alice.identity(): Level.manage, try await bob.identity(): Level.write]
    let members = try await alice.members(of: first.space)
    try equal(Dictionary(uniqueKeysWithValues: members.map { ($0.member, $0.level) }), people)
    try equal(try await bob.person(of: alice.author, in: second.topic), try await alice.identity())
    try expect(try await alice.devices(of: first.space).allSatisfy { !$0.revoked })
    // Where the other is written to is said by its keys, which may be on their way.
    try await until {
        do {
            _ = try await bob.requestDirect(of: alice.author, text: "a word")
            return true
        } catch let error as DeltaError {
            try equal(error.code, "not_reachable")
            return false
        }
    }
    try await until { try await alice.directThreads().contains { $0.peer == bob.author && $0.text == "a word" } }
    for task in first.hearing + second.hearing { task.cancel() }
}

func asking(_ network: Network, _ folder: Folder) async throws {
    let alice = try await folder.open("alice", keystore: MemoryKeystore())
    let bob = try await folder.open("bob", keystore: MemoryKeystore())
    for device in [alice, bob] { _ = try await device.initSync(network.hops(), to: network.syncUrl) }
    let made = try await alice.createSpace(SpaceText(name: "Kitchen"))
    let hearing = hear(alice, made.topic)
    try expect(try await alice.openInbox() != made.topic)
    let asked = try await bob.requestJoin(made.log, of: alice.contact(), text: "may I?")
    try await until { try await !alice.joinRequests(to: made.log).isEmpty }
    let requests = try await alice.joinRequests(to: made.log)
    try equal(requests.map(\.id), [asked])
    try equal(requests.map(\.author), [bob.author])
    try equal(requests.map(\.text), ["may I?"])
    let person = try await bob.identity()
    _ = try await alice.change(made.log, .add(member: person, level: .read))
    try equal(try await alice.members(of: made.log).filter { $0.member == person }.map(\.level), [.read])
    try await refused(.argument, "contact") { try await bob.requestJoin(made.log, of: "no contact") }
    hearing.cancel()
}

func space(_ folder: Folder) async throws {
    let device = try await folder.open()
    let made = try await device.createSpace(SpaceText(name: "Allotment", description: "All who dig"))
    let room = try await device.createRoom(RoomText(name: "Seeds"), in: made.log)
    try equal(try await device.space(made.log)?.about.description, "All who dig")
    guard let other = Identity(hex: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a") else {
        throw Failed(description: "no hex")
    }
    _ = try await device.change(made.log, .add(member: other, level: .read))
    _ = try await device.change(made.log, .promote(member: other, level: .write))
    _ = try await device.change(made.log, .ban(member: other, reason: "weeds"))
    let banned = try await device.members(of: made.log).filter { $0.member == other }
    try equal(banned.map(\.banned), [true])
    _ = try await device.change(made.log, .archiveRoom(room: room.log))
    try equal(try await device.rooms(of: made.log).map(\.state), [.archived])
    let kinds = ["room.archive", "member.ban", "member.promote", "member.add", "room.create", "space.create"]
    try equal(try await device.auditLog(of: made.log).map(\.kind), kinds)
    let text = try await device.createInvitation(
        to: made.log, level: .write, expires: Date(timeIntervalSinceNow: 86_400), once: true
    )
    let invitations = try await device.invitations(to: made.log)
    try equal(invitations.map(\.once), [true])
    try equal(invitations.map(\.used), [false])
    _ = try await device.change(made.log, .revokeInvitation(invitation: invitations[0].id))
    try equal(try await device.invitations(to: made.log).count, 0)
    try await refused(.argument, "invitation") { try await device.accept(invitation: String(text.dropLast())) }
    let own = try await device.identity()
    try await refused(.state, "not_allowed") { try await device.change(made.log, .add(member: own, level: .read)) }
}

func blobs(_ folder: Folder) async throws {
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    // Two chunks.
    let bytes = Data((0..<256_001).map { UInt8(truncatingIfNeeded: $0 * 31) })
    let (from, to) = (folder.database("from.bin"), folder.database("to.bin"))
    try bytes.write(to: URL(fileURLWithPath: from))
    let file = try await device.attach(file: from, mime: "image/png", name: "from.bin")
    let small = try await device.attach(Data([7]), mime: "text/plain")
    try FileManager.default.removeItem(atPath: from)
    let sent = try await device.send("look", to: topic, attachments: [file, small])
    _ = try await device.publish(.blobShare(blob: small), to: topic)
    let about = try await device.message(sent)?.attachments ?? []
    try equal(about.map(\.blob), [file, small])
    try equal(about.map(\.name), ["from.bin", nil])
    try equal(about.map(\.size), [256_001, 1])
    let status = try await device.blobStatus(file)
    try expect(status.state == .sending && status.have == 0 && status.of == 2)
    try await device.fetch(file)
    try await device.write(file, to: to)
    try expect(try Data(contentsOf: URL(fileURLWithPath: to)) == bytes)
    try equal(try await device.bytes(of: small), Data([7]))
    try await device.drop(file)
    try expect(try await device.blobStatus(file).state == .absent)
    try await refused(.state, "blob_not_here") { try await device.bytes(of: file) }
    try await refused(.device, "io") { try await device.attach(file: from, mime: "text/plain") }
    try await device.close()
}

func wiped(_ folder: Folder) async throws {
    let base = URL(fileURLWithPath: folder.database("base"), isDirectory: true)
    let config = try Config.applicationSupport("main", in: base)
    try equal(config.path, base.path + "/delta/main.db")
    try await Device.with(config, keystore: folder.keystore) { device in try await device.wipe() }
    try equal(try FileManager.default.contentsOfDirectory(atPath: base.path + "/delta"), [])
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    _ = try await device.send("gone soon", to: topic)
    let used = try await device.storageUse().topics
    try equal(used.map(\.topic), [topic])
    try equal(used.map(\.operations), [1])
    try equal(try await device.prune(topic, before: Date()), 0)
    try await device.wipe(topic)
    try await refused(.state, "unknown_topic") { try await device.messages(topic) }
    try await device.wipe()
    try expect(!FileManager.default.fileExists(atPath: folder.database("device")))
    try expect(try folder.keystore.get(item: "delta.device") == nil)
    try await refused(.state, "closed") { try await device.topics() }
}

func reading(_ folder: Folder) async throws {
    let device = try await folder.open()
    let topic = try await device.openTopic(generateTicket())
    _ = try await device.publish(.profileSet(name: "Ada", bio: "writes", avatar: nil, public: false), to: topic)
    try equal(try await device.profile(of: device.author, in: topic)?.name, "Ada")
    try equal(try await device.profiles(of: device.author).map(\.bio), ["writes"])
    _ = try await device.send("one", to: topic)
    try equal(try await device.retry(topic), 0)
    let shown = try await device.messages(topic)
    try await device.setRead(topic, upTo: shown[0].position)
    try equal(try await device.unread(topic), Unread(messages: 0, mentions: 0))
}

func texts() throws {
    for isPublic in [false, true] {
        let ticket = try generateTicket(public: isPublic)
        let facts = try ticketFacts(ticket: ticket)
        let reader = try ticketFacts(ticket: readOnlyTicket(ticket: ticket))
        try equal([facts.public, facts.canWrite, reader.canWrite], [isPublic, true, false])
        try equal(facts.topic, reader.topic)
        try equal(facts.log, reader.log)
    }
    let identity = try mnemonicIdentity(words: generateMnemonic())
    try equal(try parseAddress(address: " \(identityAddress(identity: identity))\n"), identity)
    do {
        _ = try parseAddress(address: "pk:x")
        throw Failed(description: "was not refused")
    } catch let error as DeltaError {
        try equal(error.code, "address")
    }
}

/// What a notification service extension does: no database, no network.
func previewed(_ network: Network, _ folder: Folder) async throws {
    let (ticket, keystore) = (try generateTicket(), MemoryKeystore())
    let (alice, topic) = try await folder.joined(network, "alice", ticket)
    let bob = try await folder.open("bob", keystore: keystore)
    _ = try await bob.initSync(network.hops(), to: network.syncUrl)
    _ = try await bob.openTopic(ticket)
    let hearing = hear(bob, topic)
    let sent = try await alice.send("pushed", to: topic, mentions: [bob.author])
    try await until(bob, topic, "pushed")
    let sealed = try await bob.keySnapshot()
    try await bob.close()
    try await hearing.value
    let envelope = try network.envelope(topic)

    let snapshot = try KeySnapshot.open(sealed: sealed, keystore: keystore)
    let preview = try decryptPush(sealedOp: envelope, keySnapshot: snapshot)
    guard case let .message(text, mentions) = preview.said else { throw Failed(description: "\(preview.said)") }
    try equal(text, "pushed")
    try equal([mentions, preview.own, preview.mayWrite], [true, false, true])
    try equal(preview.topic, topic)
    try equal(preview.operation, sent)
    try equal(preview.author, alice.author)
    for (wrong, code) in [(UInt8(1), "push_needs_app"), (UInt8(3), "push_no_key")] {
        try await refused(.state, code) { try decryptPush(sealedOp: Data(repeating: wrong, count: 300), keySnapshot: snapshot) }
    }
    try await refused(.argument, "push_damaged") { try decryptPush(sealedOp: envelope.dropLast(), keySnapshot: snapshot) }
    try await refused(.keystore, "keystore_failed") { try KeySnapshot.open(sealed: sealed, keystore: MemoryKeystore()) }
}

func signalled(_ network: Network, _ folder: Folder) async throws {
    let ticket = try generateTicket()
    let (alice, topic) = try await folder.joined(network, "alice", ticket)
    let (bob, _) = try await folder.joined(network, "bob", ticket)
    let hearing = Task { () -> (Author, Data)? in
        for try await event in bob.events(topic) {
            if case let .signal(_, author, bytes) = event { return (author, bytes) }
        }
        return nil
    }
    try await until { try await bob.status(topic).connection == .live }
    try await alice.signal(Data("typing".utf8), to: topic)
    let heard = try await hearing.value
    try equal(heard?.0, alice.author)
    try equal(heard?.1, Data("typing".utf8))
    try equal(try await bob.messages(topic).count, 0)
    try await refused(.argument, "signal") { try await alice.signal(Data(), to: topic) }
}
