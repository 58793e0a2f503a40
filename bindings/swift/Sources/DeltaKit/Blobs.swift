import Foundation
#if canImport(DeltaFFI)
import DeltaFFI
#endif

/// Images and files that messages bring along.
extension Device {
    /// Makes a blob of a file of at most 64 MiB, chunk by chunk, and begins to send it; messages bring it along
    /// (`attachments`). When it returns the file is not needed any more, and sending goes on also after a restart.
    public func attach(file path: String, mime: String, name: String? = nil) async throws -> BlobId {
        try await released { [inner] in
            try await inner.attach(source: .file(path: path), mime: mime, name: name)
        }
    }

    /// The same of bytes.
    public func attach(_ bytes: Data, mime: String, name: String? = nil) async throws -> BlobId {
        try await released { [inner] in
            try await inner.attach(source: .bytes(bytes: bytes), mime: mime, name: name)
        }
    }

    /// How a blob stands.
    public func blobStatus(_ blob: BlobId) async throws -> BlobStatus {
        try await released { [inner] in try await inner.blobStatus(blob: blob) }
    }

    /// Fetches a blob that a message names, unless it is here. Events of the kind `blob` say when to look how far it is.
    public func fetch(_ blob: BlobId) async throws {
        try await released { [inner] in try await inner.fetchBlob(blob: blob) }
    }

    /// Removes a blob from this device, also one that is being sent or fetched. Others keep what they have.
    public func drop(_ blob: BlobId) async throws {
        try await released { [inner] in try await inner.dropBlob(blob: blob) }
    }

    /// Writes a blob that is here into a file, chunk by chunk; one that is there is replaced.
    public func write(_ blob: BlobId, to path: String) async throws {
        try await released { [inner] in try await inner.writeBlob(blob: blob, path: path) }
    }

    /// A blob that is here, whole: for small ones.
    public func bytes(of blob: BlobId) async throws -> Data {
        try await released { [inner] in try await inner.blobBytes(blob: blob) }
    }
}
