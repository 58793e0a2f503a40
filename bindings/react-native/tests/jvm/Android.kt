/** The names that AndroidKeystore uses; its keystore itself is in Keystores.kt. */
package android.security.keystore

import java.security.spec.AlgorithmParameterSpec

public class KeyGenParameterSpec private constructor() : AlgorithmParameterSpec {
    public class Builder(alias: String, purposes: Int) {
        init {
            check(alias.isNotEmpty() && purposes != 0)
        }

        public fun setBlockModes(vararg modes: String): Builder = also { check(modes.isNotEmpty()) }

        public fun setEncryptionPaddings(vararg paddings: String): Builder = also { check(paddings.isNotEmpty()) }

        public fun setKeySize(bits: Int): Builder = also { check(bits > 0) }

        public fun build(): KeyGenParameterSpec = KeyGenParameterSpec()
    }
}

public class KeyPermanentlyInvalidatedException : java.security.InvalidKeyException()

public object KeyProperties {
    public const val KEY_ALGORITHM_AES: String = "AES"
    public const val PURPOSE_ENCRYPT: Int = 1
    public const val PURPOSE_DECRYPT: Int = 2
    public const val BLOCK_MODE_GCM: String = "GCM"
    public const val ENCRYPTION_PADDING_NONE: String = "NoPadding"
}
