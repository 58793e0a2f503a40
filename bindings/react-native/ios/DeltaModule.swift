#if canImport(ObjectiveC)
import Foundation

/// What DeltaModule.mm calls: one entry for all methods. It cannot be compiled outside of Apple's systems; all but names is
/// in `DeltaBridge`, which can.
@objc(DeltaModuleBridge)
public final class DeltaModuleBridge: NSObject {
    private let bridge: DeltaBridge

    @objc public init(
        emit: @escaping @Sendable ([String: Any]) -> Void, log: @escaping @Sendable ([String: Any]) -> Void
    ) {
        let support = FileManager.default.urls(for: .applicationSupportDirectory, in: .userDomainMask)[0]
        bridge = DeltaBridge(
            folder: support.appendingPathComponent("delta", isDirectory: true),
            keystore: { KeychainKeystore(service: "delta.\($0)") }, emit: emit, log: log
        )
    }

    @objc public func call(
        _ name: String, passed: [Any],
        resolve: @escaping @Sendable (Any?) -> Void,
        reject: @escaping @Sendable (String, String, NSError) -> Void
    ) {
        let (bridge, passed) = (bridge, Passed(passed))
        let awake = ["runOnce", "suspend"].contains(name) ? Awake("delta: \(name)") : nil
        Task {
            defer { awake?.end() }
            do {
                resolve(try await bridge.call(name, passed))
            } catch let error as DeltaError {
                let told = ["kind": error.kind.rawValue, "code": error.code, "reason": error.reason]
                reject(error.code, error.reason, NSError(domain: "delta", code: 0, userInfo: told))
            } catch {
                reject("native", "\(error)", error as NSError)
            }
        }
    }

    /// Waits, on the thread that React Native lets modules go on: a reload opens the same databases right after it.
    @objc public func invalidate() {
        let (bridge, closed) = (bridge, DispatchSemaphore(value: 0))
        Task.detached {
            await bridge.invalidate()
            closed.signal()
        }
        _ = closed.wait(timeout: .now() + 5)
    }
}

/// Until it is ended iOS does not freeze the app in the background, as long as it has time to give: frozen half-way through a run or
/// a suspend it would hold the database's lock, and be ended for it.
private final class Awake: Sendable {
    private let ended = DispatchSemaphore(value: 0)

    init(_ reason: String) {
        ProcessInfo.processInfo.performExpiringActivity(withReason: reason) { [ended] expired in
            // On a thread of its own, for as long as this waits; and once more when the time is over, or when there is none.
            if expired { ended.signal() } else { ended.wait() }
        }
    }

    func end() { ended.signal() }
}
#endif
