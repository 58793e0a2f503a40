#if canImport(DeltaFFI)
import DeltaFFI
#endif

/// Most events or messages taken at once.
let atOnce: UInt32 = 64
/// How long one wait for events lasts before it begins anew. Nothing depends on it.
private let wait: Double = 3600

/// A topic's events. Cold: each loop over it subscribes when it begins, and ends with itself, its task or the device.
///
///     for try await event in device.events(topic) { … }
///
/// A cancelled task leaves the loop with `CancellationError`.
public struct Events: AsyncSequence, Sendable {
    public typealias Element = Event
    let device: Delta
    let topic: TopicId

    public func makeAsyncIterator() -> Iterator { Iterator(device: device, topic: topic) }

    /// One loop.
    public struct Iterator: AsyncIteratorProtocol {
        private let device: Delta
        private let topic: TopicId
        // Its subscription ends with whoever holds it.
        private var subscription: Subscription?
        private var taken: ArraySlice<Event> = []
        private var ended = false

        init(device: Delta, topic: TopicId) {
            (self.device, self.topic) = (device, topic)
        }

        /// The next event; nothing after `closed`.
        public mutating func next() async throws -> Event? {
            while !ended {
                if let event = taken.popFirst() {
                    if case .closed = event { ended = true }
                    return event
                }
                let subscription = try await begin()
                taken = try await withTaskCancellationHandler {
                    try await released { ArraySlice(try await subscription.nextEvents(max: atOnce, deadline: wait)) }
                } onCancel: {
                    subscription.cancel()
                }
            }
            return nil
        }

        /// The subscription, made when it is first asked for.
        mutating func begin() async throws -> Subscription {
            if let subscription { return subscription }
            let (device, topic) = (device, topic)
            let made = try await released { try await device.subscribe(topic: topic, listener: nil) }
            subscription = made
            return made
        }
    }
}

/// The messages of a topic in their order: the newest 64 that are here, then new ones as they take their place. A loop over
/// them waits while the device is suspended, and ends with the device.
public struct Messages: AsyncSequence, Sendable {
    public typealias Element = Message
    let device: Delta
    let topic: TopicId

    public func makeAsyncIterator() -> Iterator { Iterator(device: device, topic: topic) }

    /// One loop.
    public struct Iterator: AsyncIteratorProtocol {
        private let device: Delta
        private let topic: TopicId
        private var events: Events.Iterator
        private var page = MessagePage.newest
        private var taken: ArraySlice<Message> = []

        init(device: Delta, topic: TopicId) {
            (self.device, self.topic) = (device, topic)
            events = Events.Iterator(device: device, topic: topic)
        }

        /// The next message; nothing once the device is closed.
        public mutating func next() async throws -> Message? {
            // Before the first page is read, so that nothing falls between the two.
            _ = try await events.begin()
            while true {
                if let message = taken.popFirst() {
                    page = .after(position: message.position)
                    return message
                }
                taken = try await placed()[...]
                if taken.isEmpty {
                    switch try await events.next() {
                    case nil, .closed: return nil
                    default: continue
                    }
                }
            }
        }

        private func placed() async throws -> [Message] {
            let (device, topic, page) = (device, topic, page)
            do {
                let read = try await released {
                    try await device.messages(topic: topic, page: page, limit: atOnce)
                }
                return read.filter(\.acknowledged)
            } catch let refused as DeltaError where ["suspended", "closed"].contains(refused.code) {
                // An event of either tells when to look again, or that there is nothing more.
                return []
            }
        }
    }
}
