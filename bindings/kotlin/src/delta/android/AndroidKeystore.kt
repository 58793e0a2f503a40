package delta.android

import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyPermanentlyInvalidatedException
import android.security.keystore.KeyProperties
import delta.ffi.Keystore
import delta.ffi.KeystoreException
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption
import java.security.GeneralSecurityException
import java.security.KeyStore
import java.security.ProviderException
import javax.crypto.AEADBadTagException
import javax.crypto.Cipher
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import javax.crypto.spec.GCMParameterSpec

/**
 * Secrets in files, each sealed with AES-GCM by a key that never leaves the Android Keystore: worth nothing on another phone.
 * They are called [place], a point and the item's name. Every database has a place of its own, in the folder that is not
 * backed up:
 *
 *     val folder = File(context.noBackupFilesDir, "delta").apply { mkdirs() }
 *     Device.open(Config(path = File(folder, "main.db").path), AndroidKeystore(File(folder, "main")))
 *
 * A folder that is not there is made.
 */
public class AndroidKeystore(private val place: File) : Keystore {
    override fun get(item: String): ByteArray? = guarded {
        val file = file(item)
        if (!file.exists()) return@guarded null
        val sealed = file.readBytes()
        if (sealed.size < NONCE) throw KeystoreException.Failed("the item $item is damaged")
        // A new key would open nothing.
        val key = kept() ?: throw KeystoreException.Failed("the key that sealed the item $item is gone")
        val cipher = Cipher.getInstance(CIPHER)
        cipher.init(Cipher.DECRYPT_MODE, key, GCMParameterSpec(TAG_BITS, sealed, 0, NONCE))
        cipher.updateAAD(item.toByteArray())
        cipher.doFinal(sealed, NONCE, sealed.size - NONCE)
    }

    override fun put(item: String, value: ByteArray): Unit = guarded {
        checkNotNull(place.absoluteFile.parentFile).mkdirs()
        val cipher = Cipher.getInstance(CIPHER)
        // The keystore itself draws the nonce.
        cipher.init(Cipher.ENCRYPT_MODE, key())
        cipher.updateAAD(item.toByteArray())
        val written = File(file(item).path + ".new")
        FileOutputStream(written).use {
            it.write(cipher.iv + cipher.doFinal(value))
            it.fd.sync()
        }
        if (!written.renameTo(file(item))) throw KeystoreException.Failed("the item $item cannot be written")
        synced(written)
    }

    override fun delete(item: String): Unit = guarded {
        val file = file(item)
        if (!file.delete() && file.exists()) throw KeystoreException.Failed("the item $item cannot be removed")
        synced(file)
    }

    /** What its folder lists is there after a loss of power, too. */
    private fun synced(file: File) {
        FileChannel.open(checkNotNull(file.absoluteFile.parentFile).toPath(), StandardOpenOption.READ).use { it.force(true) }
    }

    private fun file(item: String) = File("${place.path}.$item")

    private fun kept(): SecretKey? {
        val store = KeyStore.getInstance(PROVIDER).apply { load(null) }
        return store.getKey(ALIAS, null) as? SecretKey
    }

    private fun key(): SecretKey = synchronized(AndroidKeystore::class) {
        kept() ?: KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, PROVIDER).run {
            val purposes = KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT
            init(
                KeyGenParameterSpec.Builder(ALIAS, purposes)
                    .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
                    .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
                    .setKeySize(KEY_BITS)
                    .build(),
            )
            generateKey()
        }
    }

    private fun <T> guarded(call: () -> T): T = try {
        call()
    } catch (error: AEADBadTagException) {
        throw KeystoreException.Failed("an item is damaged, or from another phone: $error")
    } catch (error: KeyPermanentlyInvalidatedException) {
        throw KeystoreException.Failed("the key that sealed the items is gone for good: $error")
    } catch (error: GeneralSecurityException) {
        // Before the first unlock after a start the keystore gives no key.
        throw KeystoreException.Denied("the Android Keystore gives no key now: $error")
    } catch (error: ProviderException) {
        // Its service was killed, or is busy.
        throw KeystoreException.Denied("the Android Keystore does not answer: $error")
    } catch (error: IOException) {
        throw KeystoreException.Failed("an item cannot be read or written: $error")
    }

    private companion object {
        const val PROVIDER = "AndroidKeyStore"
        const val ALIAS = "delta"
        const val CIPHER = "AES/GCM/NoPadding"
        const val NONCE = 12
        const val TAG_BITS = 128
        const val KEY_BITS = 256
    }
}
