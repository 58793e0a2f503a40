import DeltaKit
import Foundation

private let page = 50

/// What the language costs: calls, a page of messages, an event. `cargo xtask bench bindings` runs it. Every figure is the
/// median, and is printed only when all that was asked for came.
func bench() async throws {
    try await Folder.with { folder in
        let device = try await folder.open()
        let topic = try await device.openTopic(generateTicket())
        let texts = (0..<1000).map { "message \($0)" }
        for text in texts { _ = try await device.send(text, to: topic) }
        let nobody = OperationId(Data(count: 32))
        report("a call that waits for nothing", try await timed(5000) { try equal(device.author.bytes.count, 32) })
        let base = report("an async call with an empty answer", try await timed(2000) {
            try expect(try await device.message(nobody) == nil)
        })
        let fifty = report("a page of \(page) messages", try await timed(500) {
            try equal(try await device.messages(topic, limit: UInt32(page)).map(\.text), texts.suffix(page).map { $0 })
        })
        report("from a publish to its event", try await heard(device, topic))
        print("ratio \(rounded(fifty / base, 2)) (target ): a page of \(page) messages / an empty call, Swift")
    }
}

private func heard(_ device: Device, _ topic: TopicId) async throws -> [Double] {
    final class Listener: EventListener {
        let changes = Shared<[Data: ContinuousClock.Instant]>([:])
        func onEvent(event: Event) throws {
            let now = ContinuousClock.now
            guard case let .changed(_, found) = event else { return }
            changes.change { changes in found.flatMap(\.ids).forEach { changes[$0] = now } }
        }
    }
    let listener = Listener()
    let subscription = try await device.subscribe(topic, listener: listener)
    var samples: [Double] = []
    for number in 0..<300 {
        let begun = ContinuousClock.now
        let sent = try await device.send("event \(number)", to: topic)
        // It is heard once the message is durable, as a rule before the call has returned.
        var heard: ContinuousClock.Instant?
        while heard == nil {
            heard = listener.changes.value[sent.bytes]
            await Task.yield()
        }
        samples.append(micros((heard ?? begun) - begun))
    }
    subscription.cancel()
    return samples
}

/// Prints the median.
@discardableResult
private func report(_ what: String, _ samples: [Double]) -> Double {
    let median = samples.sorted()[samples.count / 2]
    let name = what.padding(toLength: max(36, what.count), withPad: " ", startingAt: 0)
    print("swift   \(name) p50 \(rounded(median, 1)) µs  (\(samples.count) samples)")
    return median
}

private func timed(_ rounds: Int, _ call: () async throws -> Void) async throws -> [Double] {
    var samples: [Double] = []
    for _ in 0..<rounds {
        let start = ContinuousClock.now
        try await call()
        samples.append(micros(ContinuousClock.now - start))
    }
    return samples
}

private func micros(_ duration: Duration) -> Double {
    Double(duration.components.seconds) * 1e6 + Double(duration.components.attoseconds) / 1e12
}

private func rounded(_ number: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", number) }
