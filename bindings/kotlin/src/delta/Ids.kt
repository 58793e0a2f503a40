package delta

/** Bytes as a value: compared by content, printed as lower-case hex. */
public sealed class Id(public val bytes: ByteArray) {
    override fun equals(other: Any?): Boolean =
        this === other || (other is Id && other::class == this::class && bytes.contentEquals(other.bytes))

    override fun hashCode(): Int = bytes.contentHashCode()

    // A page of messages has hundreds of ids: formatting byte by byte would cost more than reading them.
    override fun toString(): String = String(CharArray(2 * bytes.size) { at ->
        val byte = bytes[at / 2].toInt() and 0xff
        DIGITS[if (at % 2 == 0) byte shr 4 else byte and 0xf]
    })

    public companion object {
        private const val DIGITS = "0123456789abcdef"

        /** The bytes that lower-case or upper-case hex stands for. */
        public fun bytes(hex: String): ByteArray {
            require(hex.length % 2 == 0) { "hex digits come in pairs" }
            return ByteArray(hex.length / 2) { (16 * digit(hex[2 * it]) + digit(hex[2 * it + 1])).toByte() }
        }

        private fun digit(char: Char): Int = when (char) {
            in '0'..'9' -> char - '0'
            in 'a'..'f' -> char - 'a' + 10
            in 'A'..'F' -> char - 'A' + 10
            else -> throw IllegalArgumentException("$char is no hex digit")
        }
    }
}

/** Where a conversation lives on a server, 32 bytes. */
public class TopicId(bytes: ByteArray) : Id(bytes)

/** Names an operation (a message, say), 32 bytes. */
public class OperationId(bytes: ByteArray) : Id(bytes)

/** Who signs: a device's Ed25519 key, 32 bytes. */
public class Author(bytes: ByteArray) : Id(bytes)

/** Stable name of a conversation, 32 bytes. */
public class LogId(bytes: ByteArray) : Id(bytes)

/** A relay's or sync server's Ed25519 key, 32 bytes. */
public class NodeId(bytes: ByteArray) : Id(bytes)

/** Who a person is: the Ed25519 key that certifies their devices, 32 bytes. */
public class Identity(bytes: ByteArray) : Id(bytes)

/** Names a direct thread, 32 bytes. */
public class ThreadId(bytes: ByteArray) : Id(bytes)

/** Names a blob, 32 bytes. */
public class BlobId(bytes: ByteArray) : Id(bytes)

/** Where a message is shown. To be handed back for the page before or after it. */
public class Position(bytes: ByteArray) : Id(bytes)
