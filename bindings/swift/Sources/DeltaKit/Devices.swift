#if canImport(DeltaFFI)
import DeltaFFI
#endif
import Foundation

/// The person behind the device, and their other devices.
extension Device {
    /// Whose device this is.
    public func identity() async throws -> Identity {
        try await released { [inner] in try await inner.identity() }
    }

    /// The person's devices, as far as this one has heard of them.
    public func ownDevices() async throws -> [OwnDevice] {
        try await released { [inner] in try await inner.ownDevices() }
    }

    /// Revokes a device of this person, for good.
    public func revoke(_ device: Author) async throws {
        try await released { [inner] in try await inner.revokeDevice(author: device) }
    }

    /// Begins to make a further device this person's: show its text, compare codes, accept. `cancel` ends its waits.
    public func pair() async throws -> PairingHost {
        try await released { [inner] in try await inner.pair() }
    }

    /// Asks to become a device of the person whose device shows this text. `cancel` ends its waits.
    public func join(_ text: String) async throws -> PairingGuest {
        try await released { [inner] in try await inner.join(text: text) }
    }
}
