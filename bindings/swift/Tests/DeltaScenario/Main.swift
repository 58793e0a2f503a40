import DeltaKit
import Foundation

/// Reaching it is a failure, never a pass.
let patience: Duration = .seconds(120)

/// One test.
struct Test: Sendable {
    let name: String
    let body: @Sendable () async throws -> Void

    init(_ name: String, _ body: @escaping @Sendable () async throws -> Void) {
        (self.name, self.body) = (name, body)
    }
}

/// What is not as it should be.
struct Failed: Error, CustomStringConvertible {
    let description: String
}

/// Runs the tests whose name holds every argument, one after the other; says how each ended.
@main
struct Main {
    static func main() async throws {
        if CommandLine.arguments.dropFirst().first == "--bench" {
            return try await bench()
        }
        if CommandLine.arguments.dropFirst().first == openElsewhere {
            await elsewhere(CommandLine.arguments[2])
            return
        }
        let network = try Network()
        let wanted = CommandLine.arguments.dropFirst()
        var failed = 0
        for test in scenario(network) + features(network) + misuse() + onion() where wanted.allSatisfy({ test.name.contains($0) }) {
            let watchdog = Task.detached {
                try await Task.sleep(for: patience)
                say("\(test.name) ... FAILED: it hangs")
                network.close()
                exit(1)
            }
            do {
                try await test.body()
                say("\(test.name) ... ok")
            } catch {
                say("\(test.name) ... FAILED: \(error)")
                failed += 1
            }
            watchdog.cancel()
        }
        network.close()
        say(failed == 0 ? "OK" : "\(failed) failed")
        exit(failed == 0 ? 0 : 1)
    }
}

/// A line, at once: what is buffered is lost when a program ends badly.
func say(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
}

func expect(_ holds: Bool, _ what: @autoclosure () -> String = "", line: UInt = #line, file: String = #fileID) throws {
    if !holds { throw Failed(description: "\(file):\(line) \(what())") }
}

func equal<Value: Equatable>(_ is: Value, _ wanted: Value, line: UInt = #line, file: String = #fileID) throws {
    if `is` != wanted { throw Failed(description: "\(file):\(line) \(`is`) is not \(wanted)") }
}

/// The call is refused by an error of this kind, with this code and a reason.
@discardableResult
func refused<Value>(
    _ kind: Kind, _ code: String, line: UInt = #line, file: String = #fileID, _ call: () async throws -> Value
) async throws -> DeltaError {
    do {
        _ = try await call()
    } catch let error as DeltaError {
        try equal("\(error.kind) \(error.code)", "\(kind) \(code)", line: line, file: file)
        try expect(!error.reason.isEmpty, "no reason", line: line, file: file)
        return error
    }
    throw Failed(description: "\(file):\(line) was not refused")
}

/// Until exactly these texts have their place, in any order.
func until(_ device: Device, _ topic: TopicId, _ texts: String...) async throws {
    try await until { try await device.messages(topic).filter(\.acknowledged).compactMap(\.text).sorted() == texts.sorted() }
}

func until(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await Task.sleep(for: .milliseconds(20)) }
}
