#if canImport(Security)
#if canImport(DeltaFFI)
import DeltaFFI
#endif
import Foundation
import Security

/// Keeps secrets in the Keychain: readable once the device was unlocked after it started (so that background runs work),
/// never in a backup, never on another device.
public final class KeychainKeystore: Keystore {
    private let service: String
    private let group: String?

    /// `service` tells two databases of one app apart. `group` is an access group shared with a notification extension.
    public init(service: String, group: String? = nil) {
        (self.service, self.group) = (service, group)
    }

    public func get(item: String) throws -> Data? {
        var query = self.query(item)
        query[kSecReturnData] = true
        query[kSecMatchLimit] = kSecMatchLimitOne
        var found: CFTypeRef?
        let status = SecItemCopyMatching(query as CFDictionary, &found)
        if status == errSecItemNotFound { return nil }
        try check(status)
        return found as? Data
    }

    public func put(item: String, value: Data) throws {
        let protection = kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly
        let content: [CFString: Any] = [kSecValueData: value, kSecAttrAccessible: protection]
        let status = SecItemUpdate(query(item) as CFDictionary, content as CFDictionary)
        guard status == errSecItemNotFound else { return try check(status) }
        try check(SecItemAdd(query(item).merging(content) { $1 } as CFDictionary, nil))
    }

    public func delete(item: String) throws {
        let status = SecItemDelete(query(item) as CFDictionary)
        if status != errSecItemNotFound { try check(status) }
    }

    private func query(_ item: String) -> [CFString: Any] {
        var query: [CFString: Any] = [
            kSecClass: kSecClassGenericPassword, kSecAttrService: service, kSecAttrAccount: item,
            kSecUseDataProtectionKeychain: true,
        ]
        if let group { query[kSecAttrAccessGroup] = group }
        return query
    }

    private func check(_ status: OSStatus) throws {
        switch status {
        case errSecSuccess: return
        case errSecInteractionNotAllowed, errSecAuthFailed, errSecUserCanceled:
            throw KeystoreError.Denied(reason: "the Keychain is locked (\(status))")
        default: throw KeystoreError.Failed(reason: "the Keychain answered \(status)")
        }
    }
}
#endif
