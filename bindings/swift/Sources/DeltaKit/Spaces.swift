#if canImport(DeltaFFI)
import DeltaFFI
#endif
import Foundation

/// Spaces, their rooms, members and invitations.
extension Device {
    /// Makes a space, with this device as its first manager.
    public func createSpace(_ about: SpaceText) async throws -> Place {
        try await released { [inner] in try await inner.createSpace(about: about) }
    }

    /// Makes a room in a space and opens it.
    public func createRoom(_ about: RoomText, in space: LogId) async throws -> Place {
        try await released { [inner] in try await inner.createRoom(space: space, about: about) }
    }

    /// Changes a space, its rooms or its members.
    public func change(_ space: LogId, _ action: SpaceAction) async throws -> OperationId {
        try await released { [inner] in try await inner.changeSpace(space: space, action: action) }
    }

    /// The spaces this device knows.
    public func spaces() async throws -> [Space] {
        try await released { [inner] in try await inner.spaces() }
    }

    /// One space.
    public func space(_ space: LogId) async throws -> Space? {
        try await released { [inner] in try await inner.space(space: space) }
    }

    /// The rooms of a space, archived and deleted ones included.
    public func rooms(of space: LogId) async throws -> [Room] {
        try await released { [inner] in try await inner.rooms(space: space) }
    }

    /// Members of a space, and whoever is banned from it, by their keys: those after `after`.
    public func members(of space: LogId, limit: UInt32 = 1000, after: Identity? = nil) async throws -> [Member] {
        try await released { [inner] in try await inner.members(space: space, limit: limit, after: after) }
    }

    /// The devices of a space, each with the person it belongs to.
    public func devices(of space: LogId) async throws -> [SpaceDevice] {
        try await released { [inner] in try await inner.spaceDevices(space: space) }
    }

    /// Whose a device is in a topic.
    public func person(of device: Author, in topic: TopicId) async throws -> Identity {
        try await released { [inner] in try await inner.person(topic: topic, author: device) }
    }

    /// Makes an invitation and gives its text, for a link or QR code: hand it over as you would a key.
    public func createInvitation(
        to space: LogId, level: Level, expires: Date? = nil, once: Bool = false
    ) async throws -> String {
        try await released { [inner] in
            try await inner.createInvitation(space: space, level: level, expires: expires, once: once)
        }
    }

    /// Opens the space of an invitation and claims it.
    public func accept(invitation: String) async throws -> Place {
        try await released { [inner] in try await inner.acceptInvitation(invitation: invitation) }
    }

    /// The invitations of a space that are not revoked.
    public func invitations(to space: LogId) async throws -> [Invitation] {
        try await released { [inner] in try await inner.invitations(space: space) }
    }

    /// Who asks to be let in. A manager answers with `SpaceAction.add`.
    public func joinRequests(to space: LogId) async throws -> [JoinRequest] {
        try await released { [inner] in try await inner.joinRequests(space: space) }
    }

    /// What happened in a space, newest first: the lines below the `place` of one, the newest without it.
    public func auditLog(of space: LogId, before: AuditPlace? = nil, limit: UInt32 = 64) async throws -> [AuditLine] {
        try await released { [inner] in try await inner.auditLog(space: space, limit: limit, before: before) }
    }
}
