import Foundation

/// Waits for a call, and is let go at once when its task is cancelled. The call itself goes on to its end: UniFFI's Swift
/// futures cannot be dropped, and what Delta began it finishes.
func released<Value: Sendable>(_ call: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let outcome = Outcome<Value>()
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { waiting in
            outcome.wait(waiting)
            Task {
                // Nobody waits for what has not begun.
                guard !outcome.isSettled else { return }
                do {
                    outcome.settle(.success(try await call()))
                } catch {
                    outcome.settle(.failure(error))
                }
            }
        }
    } onCancel: {
        outcome.settle(.failure(CancellationError()))
    }
}

/// What comes first counts: the call's end or the task's.
private final class Outcome<Value: Sendable>: @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSLock()
    private var waiting: CheckedContinuation<Value, any Error>?
    private var settled: Result<Value, any Error>?

    var isSettled: Bool { lock.withLock { settled != nil } }

    func wait(_ continuation: CheckedContinuation<Value, any Error>) {
        let settled = lock.withLock {
            if self.settled == nil { waiting = continuation }
            return self.settled
        }
        if let settled { continuation.resume(with: settled) }
    }

    func settle(_ result: Result<Value, any Error>) {
        let waiting = lock.withLock {
            let waiting = self.waiting
            if settled == nil { settled = result }
            self.waiting = nil
            return waiting
        }
        waiting?.resume(with: result)
    }
}
