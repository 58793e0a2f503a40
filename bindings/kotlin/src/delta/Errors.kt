package delta

import delta.ffi.DeltaException

/** Who is at fault when a call fails: the call, how things stand, this device, its keystore, the network, a server, or Delta. */
public enum class Kind { ARGUMENT, STATE, DEVICE, KEYSTORE, NETWORK, SERVER, BUG }

/** Who is at fault. */
public val DeltaException.kind: Kind get() = parts.first

/** Stable in all versions and languages; docs/errors.md lists every one. */
public val DeltaException.code: String get() = parts.second

/** What happened and what to do, for people. */
public val DeltaException.reason: String get() = parts.third

private val DeltaException.parts: Triple<Kind, String, String>
    get() = when (this) {
        is DeltaException.Argument -> Triple(Kind.ARGUMENT, code, reason)
        is DeltaException.State -> Triple(Kind.STATE, code, reason)
        is DeltaException.Device -> Triple(Kind.DEVICE, code, reason)
        is DeltaException.Keystore -> Triple(Kind.KEYSTORE, code, reason)
        is DeltaException.Network -> Triple(Kind.NETWORK, code, reason)
        is DeltaException.Server -> Triple(Kind.SERVER, code, reason)
        is DeltaException.Bug -> Triple(Kind.BUG, code, reason)
    }
