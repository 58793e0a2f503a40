package delta

import delta.ffi.Keystore
import java.util.concurrent.ConcurrentHashMap

/** Keeps secrets as long as it lives: for tests. An app wraps the Android Keystore. */
public class MemoryKeystore : Keystore {
    private val items = ConcurrentHashMap<String, ByteArray>()

    override fun get(item: String): ByteArray? = items[item]

    override fun put(item: String, value: ByteArray) {
        items[item] = value
    }

    override fun delete(item: String) {
        items.remove(item)
    }
}
