import DeltaKit
import Foundation

/// The shared packet vectors, and packets built here.
func onion() -> [Test] {
    [
        Test("v2 vectors peel to what they say") {
            let vectors = try vectors("onion-v2.json", "onion_v2")
            try equal(vectors.count, 6)
            for vector in vectors {
                var (packet, hops) = (try vector.bytes("packet"), vector.hops)
                while !hops.isEmpty {
                    let hop = hops.removeFirst()
                    let layer = try peelOnionLayer(packet: packet, secret: .v2(seed: hop.bytes("ed25519_seed")))
                    if let next = hops.first {
                        guard case let .forwardToUrl(url, inner) = layer else { throw Failed(description: "\(layer)") }
                        try equal(url, next.text("url"))
                        packet = inner
                    } else {
                        guard case let .deliver(topic, _, payload) = layer else { throw Failed(description: "\(layer)") }
                        try equal(topic, TopicId(try vector.bytes("topic_id")))
                        try equal(payload, try vector.bytes("op"))
                    }
                }
            }
        },
        Test("v3 vectors peel to what they say") {
            let vectors = try vectors("onion-v3.json", "onion_v3")
            try equal(vectors.count, 8)
            for vector in vectors { try peelV3(vector) }
        },
        Test("packets built here peel layer by layer") {
            let fits = { (vector: Vector) in vector.hops.count > 2 && vector.text("terminal") == "deliver" }
            guard let vector = try vectors("onion-v3.json", "onion_v3").first(where: fits) else {
                throw Failed(description: "no vector of three hops")
            }
            let hops = try vector.hops.map { hop in
                OnionHop.v3(node: NodeId(try hop.bytes("node_id")), kid: hop.kid, onionKey: try hop.bytes("onion_public"))
            }
            let target = OnionTarget.writeKey(seed: try vector.bytes("topic_write_secret"))
            var packet = try buildOnionPacket(hops: hops, target: target, op: Data("an operation".utf8))
            try equal(packet.count, 4096)
            var layer = OnionLayer.drop
            for hop in vector.hops {
                layer = try peelOnionLayer(packet: packet, secret: .v3(kid: nil, secret: hop.bytes("onion_secret")))
                if case let .forwardToNode(_, _, inner) = layer { packet = inner }
            }
            guard case let .deliver(_, _, payload) = layer else { throw Failed(description: "\(layer)") }
            try equal(payload, Data("an operation".utf8))
            let topic = OnionTarget.topic(topic: TopicId(Data(count: 32)))
            try await refused(.argument, "onion") { try buildOnionPacket(hops: hops, target: topic, op: Data([0])) }
        },
    ]
}

private func peelV3(_ vector: Vector) throws {
    var hops = vector.hops
    var packet = try hops[0].bytes("packet")
    while !hops.isEmpty {
        let hop = hops.removeFirst()
        let layer = try peelOnionLayer(packet: packet, secret: .v3(kid: hop.kid, secret: hop.bytes("onion_secret")))
        switch (layer, hops.first) {
        case let (.forwardToNode(node, _, inner), next?):
            try equal(node, NodeId(try next.bytes("node_id")))
            packet = inner
        case (.drop, nil):
            try equal(vector.text("terminal"), "drop")
        case let (.deliver(topic, _, payload), nil):
            try equal(topic, TopicId(try vector.bytes("topic_id")))
            try equal(payload, try vector.bytes("payload"))
        default:
            throw Failed(description: "\(layer)")
        }
    }
}

private struct Vector {
    let fields: [String: Any]

    var hops: [Vector] { (fields["hops"] as? [[String: Any]] ?? []).map(Vector.init) }
    var kid: UInt16 { fields["kid"] as? UInt16 ?? 0 }

    func text(_ name: String) -> String { fields[name] as? String ?? "" }

    func bytes(_ name: String) throws -> Data {
        guard let hex = fields[name] as? String, let id = OperationId(hex: hex) else {
            throw Failed(description: "no bytes \(name)")
        }
        return id.bytes
    }
}

private func vectors(_ file: String, _ name: String) throws -> [Vector] {
    let path = URL(fileURLWithPath: environment("DELTA_VECTORS")).appendingPathComponent(file)
    let all = try JSONSerialization.jsonObject(with: Data(contentsOf: path)) as? [String: Any]
    return (all?[name] as? [[String: Any]] ?? []).map(Vector.init)
}
