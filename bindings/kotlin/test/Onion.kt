package delta.test

import delta.Id
import delta.TopicId
import delta.NodeId
import delta.ffi.DeltaException
import delta.ffi.OnionHop
import delta.ffi.OnionLayer
import delta.ffi.OnionSecret
import delta.ffi.OnionTarget
import delta.ffi.buildOnionPacket
import delta.ffi.peelOnionLayer
import java.io.File
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertIs

private val VECTORS = File(System.getProperty("delta.vectors"))

/** The shared packet vectors, and packets built here. */
fun onion(): List<Test> = listOf(
    Test("v2 vectors peel to what they say") {
        val vectors = vectors("onion-v2.json", "onion_v2")
        assertEquals(6, vectors.size)
        for (vector in vectors) {
            var packet = vector.bytes("packet")
            for ((number, hop) in vector.list("hops").withIndex()) {
                val layer = peelOnionLayer(packet, OnionSecret.V2(hop.bytes("ed25519_seed")))
                if (number + 1 < vector.list("hops").size) {
                    assertIs<OnionLayer.ForwardToUrl>(layer)
                    assertEquals(vector.list("hops")[number + 1].text("url"), layer.url)
                    packet = layer.packet
                } else {
                    assertIs<OnionLayer.Deliver>(layer)
                    assertEquals(TopicId(vector.bytes("topic_id")), layer.topic)
                    assertContentEquals(vector.bytes("op"), layer.payload)
                }
            }
        }
    },
    Test("v3 vectors peel to what they say") {
        val vectors = vectors("onion-v3.json", "onion_v3")
        assertEquals(8, vectors.size)
        for (vector in vectors) {
            var packet = vector.list("hops")[0].bytes("packet")
            for ((number, hop) in vector.list("hops").withIndex()) {
                val kid = (hop["kid"] as Number).toInt().toUShort()
                val layer = peelOnionLayer(packet, OnionSecret.V3(kid, hop.bytes("onion_secret")))
                if (number + 1 < vector.list("hops").size) {
                    assertIs<OnionLayer.ForwardToNode>(layer)
                    assertEquals(NodeId(vector.list("hops")[number + 1].bytes("node_id")), layer.node)
                    packet = layer.packet
                } else if (vector.text("terminal") == "drop") {
                    assertIs<OnionLayer.Drop>(layer)
                } else {
                    assertIs<OnionLayer.Deliver>(layer)
                    assertEquals(TopicId(vector.bytes("topic_id")), layer.topic)
                    assertContentEquals(vector.bytes("payload"), layer.payload)
                }
            }
        }
    },
    Test("packets built here peel layer by layer") {
        val vector = vectors("onion-v3.json", "onion_v3")
            .first { it.list("hops").size > 2 && it.text("terminal") == "deliver" }
        val hops = vector.list("hops").map { hop ->
            val kid = (hop["kid"] as Number).toInt().toUShort()
            OnionHop.V3(NodeId(hop.bytes("node_id")), kid, hop.bytes("onion_public"), 0u)
        }
        val target = OnionTarget.WriteKey(vector.bytes("topic_write_secret"))
        var packet = buildOnionPacket(hops, target, "an operation".toByteArray())
        assertEquals(4096, packet.size)
        var layer: OnionLayer = OnionLayer.Drop
        for (hop in vector.list("hops")) {
            layer = peelOnionLayer(packet, OnionSecret.V3(null, hop.bytes("onion_secret")))
            if (layer is OnionLayer.ForwardToNode) packet = layer.packet
        }
        assertIs<OnionLayer.Deliver>(layer)
        assertContentEquals("an operation".toByteArray(), layer.payload)
        refused(DeltaException.Argument::class, "onion") {
            buildOnionPacket(hops, OnionTarget.Topic(TopicId(ByteArray(32))), ByteArray(1))
        }
    },
)

@Suppress("UNCHECKED_CAST")
private fun vectors(file: String, name: String): List<Map<String, Any?>> =
    (Json(File(VECTORS, file).readText()).value() as Map<String, Any?>)[name] as List<Map<String, Any?>>

@Suppress("UNCHECKED_CAST")
private fun Map<String, Any?>.list(name: String) = get(name) as List<Map<String, Any?>>
private fun Map<String, Any?>.text(name: String) = get(name) as String
private fun Map<String, Any?>.bytes(name: String) = Id.bytes(text(name))

/** Enough JSON for the vectors. */
private class Json(private val text: String) {
    private var at = 0

    fun value(): Any? = when (peek()) {
        '{' -> members('{', '}') { (value() as String).also { expect(':') } to value() }.toMap()
        '[' -> members('[', ']') { value() }
        '"' -> string()
        else -> word()
    }

    private fun peek(): Char {
        while (text[at].isWhitespace()) at += 1
        return text[at]
    }

    private fun expect(what: Char) = check(peek() == what) { "$what expected at $at" }.also { at += 1 }

    private fun <T> members(open: Char, close: Char, member: () -> T): List<T> {
        expect(open)
        val members = ArrayList<T>()
        while (peek() != close) {
            if (members.isNotEmpty()) expect(',')
            members += member()
        }
        at += 1
        return members
    }

    private fun string(): String {
        expect('"')
        val end = generateSequence(at) { it + 1 }.first { text[it] == '"' && text[it - 1] != '\\' }
        return text.substring(at, end).also { at = end + 1 }
    }

    private fun word(): Any? {
        val end = generateSequence(at) { it + 1 }.first { text[it] in ",]} \n" }
        return when (val word = text.substring(at, end).also { at = end }) {
            "null" -> null
            "true", "false" -> word == "true"
            else -> word.toDouble()
        }
    }
}
