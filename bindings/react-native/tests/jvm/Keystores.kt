package delta.reactnative.test

import android.security.keystore.KeyPermanentlyInvalidatedException
import delta.android.AndroidKeystore
import delta.ffi.KeystoreException
import java.io.File
import java.io.InputStream
import java.io.OutputStream
import java.nio.file.Files
import java.security.Key
import java.security.KeyStoreSpi
import java.security.Provider
import java.security.ProviderException
import java.security.SecureRandom
import java.security.Security
import java.security.UnrecoverableKeyException
import java.security.cert.Certificate
import java.security.spec.AlgorithmParameterSpec
import java.util.Collections
import java.util.Date
import javax.crypto.KeyGeneratorSpi
import javax.crypto.SecretKey
import javax.crypto.spec.SecretKeySpec

/** What Android's keystore does, and how it fails: a stand-in by its name, in this process alone. */
private object Platform {
    var key: SecretKey? = null
    var failure: Exception? = null
}

public class StandInStore : KeyStoreSpi() {
    override fun engineGetKey(alias: String, password: CharArray?): Key? = Platform.failure?.let { throw it } ?: Platform.key
    override fun engineLoad(stream: InputStream?, password: CharArray?) {}
    override fun engineContainsAlias(alias: String): Boolean = Platform.key != null
    override fun engineAliases() = Collections.emptyEnumeration<String>()
    override fun engineDeleteEntry(alias: String) {}
    override fun engineGetCertificate(alias: String): Certificate? = null
    override fun engineGetCertificateAlias(certificate: Certificate): String? = null
    override fun engineGetCertificateChain(alias: String): Array<Certificate>? = null
    override fun engineGetCreationDate(alias: String): Date? = null
    override fun engineIsCertificateEntry(alias: String): Boolean = false
    override fun engineIsKeyEntry(alias: String): Boolean = true
    override fun engineSetCertificateEntry(alias: String, certificate: Certificate?) {}
    override fun engineSetKeyEntry(alias: String, key: Key?, password: CharArray?, chain: Array<out Certificate>?) {}
    override fun engineSetKeyEntry(alias: String, key: ByteArray?, chain: Array<out Certificate>?) {}
    override fun engineSize(): Int = 1
    override fun engineStore(stream: OutputStream?, password: CharArray?) {}
}

public class StandInKeys : KeyGeneratorSpi() {
    override fun engineGenerateKey(): SecretKey =
        SecretKeySpec(ByteArray(32).also(SecureRandom()::nextBytes), "AES").also { Platform.key = it }
    override fun engineInit(random: SecureRandom?) {}
    override fun engineInit(size: Int, random: SecureRandom?) {}
    override fun engineInit(spec: AlgorithmParameterSpec?, random: SecureRandom?) {}
}

private class StandIn : Provider("AndroidKeyStore", "1", "for tests") {
    init {
        put("KeyStore.AndroidKeyStore", StandInStore::class.java.name)
        put("KeyGenerator.AES", StandInKeys::class.java.name)
    }
}

/** The Android keystore's own code over the stand-in: what it keeps, and what it says when it cannot. */
fun keystores() {
    Security.addProvider(StandIn())
    val folder = Files.createTempDirectory("delta").toFile()
    try {
        kept(folder)
        failing(folder)
        said("keystores OK")
    } finally {
        folder.deleteRecursively()
    }
}

private fun kept(folder: File) {
    // Its folder is made by what is put there first.
    val first = AndroidKeystore(File(folder, "not there/main"))
    check(first.get("item") == null)
    first.put("item", byteArrayOf(1))
    check(first.get("item").contentEquals(byteArrayOf(1)))
    val keystore = AndroidKeystore(File(folder, "main"))
    check(keystore.get("item") == null)
    keystore.put("item", byteArrayOf(1, 2, 3))
    keystore.put("item", byteArrayOf(4, 5))
    check(keystore.get("item").contentEquals(byteArrayOf(4, 5)))
    check(AndroidKeystore(File(folder, "other")).get("item") == null)
    // An item under another's name does not open.
    File(folder, "main.item").copyTo(File(folder, "main.moved"))
    failed { keystore.get("moved") }
    File(folder, "main.cut").writeBytes(ByteArray(3))
    failed { keystore.get("cut") }
    keystore.delete("item")
    check(keystore.get("item") == null)
    keystore.delete("item")
}

private fun failing(folder: File) {
    val keystore = AndroidKeystore(File(folder, "main"))
    keystore.put("item", byteArrayOf(1))
    for (gone in listOf<Exception>(UnrecoverableKeyException(), ProviderException("busy"))) {
        Platform.failure = gone
        denied { keystore.get("item") }
        denied { keystore.put("item", byteArrayOf(2)) }
    }
    Platform.failure = KeyPermanentlyInvalidatedException()
    failed { keystore.get("item") }
    Platform.failure = null
    check(keystore.get("item").contentEquals(byteArrayOf(1)))
    // Another key opens nothing, and none is made for what it cannot open.
    val key = Platform.key
    Platform.key = null
    failed { keystore.get("item") }
    check(Platform.key == null)
    Platform.key = key
    // What cannot be removed is not said to be gone.
    val stuck = File(folder, "main.stuck")
    File(stuck, "in the way").apply { parentFile.mkdirs() }.writeText("x")
    failed { keystore.delete("stuck") }
    failed { keystore.put("stuck", byteArrayOf(1)) }
    failed { keystore.get("stuck") }
}

private fun denied(call: () -> Unit) = check(runCatching(call).exceptionOrNull() is KeystoreException.Denied)

private fun failed(call: () -> Unit) {
    val error = runCatching(call).exceptionOrNull()
    check(error is KeystoreException.Failed) { "$error" }
}

private fun said(line: String) = println(line)
