#if canImport(DeltaFFI)
import DeltaFFI
#endif

/// Who is at fault when a call fails.
public enum Kind: String, Sendable {
    case argument, state, device, keystore, network, server, bug
}

extension DeltaError {
    /// Stable in all versions and languages; docs/errors.md lists every one.
    public var code: String { parts.code }

    /// What happened and what to do, for people.
    public var reason: String { parts.reason }

    /// Who is at fault.
    public var kind: Kind { parts.kind }

    private var parts: (kind: Kind, code: String, reason: String) {
        switch self {
        case let .Argument(code, reason): (.argument, code, reason)
        case let .State(code, reason): (.state, code, reason)
        case let .Device(code, reason): (.device, code, reason)
        case let .Keystore(code, reason): (.keystore, code, reason)
        case let .Network(code, reason): (.network, code, reason)
        case let .Server(code, reason): (.server, code, reason)
        case let .Bug(code, reason): (.bug, code, reason)
        }
    }
}
