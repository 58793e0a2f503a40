package delta.test

import delta.Device
import delta.Id
import delta.LogId
import delta.MemoryKeystore
import delta.NodeId
import delta.TopicId
import delta.code
import delta.ffi.Config
import delta.ffi.DeltaException
import delta.ffi.Keystore
import delta.ffi.Level
import delta.ffi.LogSink
import delta.ffi.RelayHops
import delta.ffi.RoomText
import delta.ffi.SpaceText
import delta.kind
import delta.reason
import java.io.File
import java.nio.file.Files
import java.util.concurrent.TimeUnit
import kotlin.reflect.KClass
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import kotlinx.coroutines.delay

/** One sync server and three relays (`delta demo --serve`); they end with it. */
class Network {
    private val folder = Files.createTempDirectory("delta").toFile()
    private val child: Process
    private val facts: String

    init {
        val program = File(System.getProperty("delta.programs"), "delta").path
        val command = listOf(program, "demo", "--serve", "--json", "--keep", File(folder, "network").path)
        child = ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start()
        facts = child.inputStream.bufferedReader().readLine()
    }

    val syncUrl: String get() = fact("sync")

    fun hops(): RelayHops = RelayHops.Directory(
        File(fact("directory")).readText(),
        File(fact("records")).readText(),
        listOf(NodeId(Id.bytes(fact("trust")))),
        1u,
    )

    /** All of them hang: connections are accepted by the system, and nobody answers. */
    fun halt() = signal("STOP")

    fun goOn() = signal("CONT")

    fun close() {
        goOn()
        child.outputStream.close()
        child.waitFor(20, TimeUnit.SECONDS)
        folder.deleteRecursively()
    }

    private fun fact(name: String): String =
        checkNotNull(Regex("\"$name\":\"([^\"]*)\"").find(facts)) { "no $name in $facts" }.groupValues[1]

    private fun signal(name: String) {
        val pids = checkNotNull(Regex("\"pids\":\\{([^}]*)}").find(facts)).groupValues[1]
        for (pid in Regex(":(\\d+)").findAll(pids)) {
            assertEquals(0, ProcessBuilder("kill", "-s", name, pid.groupValues[1]).start().waitFor())
        }
    }
}

/** A folder for the databases of one test, and what was opened in it. */
class Folder : AutoCloseable {
    val folder: File = Files.createTempDirectory("delta").toFile()
    val keystore = MemoryKeystore()
    private val devices = mutableListOf<Device>()

    fun database(name: String) = File(folder, "$name.db")

    suspend fun open(name: String = "device", keystore: Keystore = this.keystore, log: LogSink? = null): Device {
        val config = Config(path = database(name).path, allowPlaintext = true, mergeChangesMs = 0u)
        return Device.open(config, keystore, log).also { devices += it }
    }

    /** On the network, in a topic. */
    suspend fun joined(network: Network, name: String, ticket: String): Pair<Device, TopicId> {
        val device = open(name, MemoryKeystore())
        assertEquals(emptyList(), device.initSync(network.hops(), network.syncUrl))
        return device to device.openTopic(ticket)
    }

    override fun close() {
        devices.forEach { it.close() }
        folder.deleteRecursively()
    }
}

/** A device in a room of a space. */
data class Roommate(val device: Device, val space: LogId, val topic: TopicId)

/** Two devices in a room of a space: the first made it, the second came by its invitation. [hear] is told what each follows. */
suspend fun room(network: Network, folder: Folder, hear: (Device, TopicId) -> Unit): Pair<Roommate, Roommate> {
    val (alice, bob) = folder.open("alice", MemoryKeystore()) to folder.open("bob", MemoryKeystore())
    for (device in listOf(alice, bob)) assertEquals(emptyList(), device.initSync(network.hops(), network.syncUrl))
    val made = alice.createSpace(SpaceText("Kitchen"))
    val room = alice.createRoom(made.log, RoomText("Dinner"))
    hear(alice, made.topic)
    hear(alice, room.topic)
    val joined = bob.acceptInvitation(alice.createInvitation(made.log, Level.WRITE))
    assertEquals(made.log, joined.log)
    hear(bob, joined.topic)
    until { bob.rooms(made.log).any { it.topic != null } }
    val seen = bob.rooms(made.log).single()
    assertEquals(room.log, seen.room)
    val topic = checkNotNull(seen.topic)
    hear(bob, topic)
    return Roommate(alice, made.log, room.topic) to Roommate(bob, made.log, topic)
}

suspend fun until(condition: suspend () -> Boolean) {
    while (!condition()) delay(20)
}

/** Until exactly these texts have their place, in any order. */
suspend fun Device.untilTexts(topic: TopicId, vararg texts: String) = until {
    messages(topic).filter { it.acknowledged }.map { it.text.orEmpty() }.sorted() == texts.sorted()
}

/** The call is refused by an error of this kind, with this code and a reason. */
suspend fun refused(kind: KClass<out DeltaException>, code: String, call: suspend () -> Any?): DeltaException {
    val error = runCatching { call() }.exceptionOrNull()
    assertTrue(kind.isInstance(error), "$error is no ${kind.simpleName}")
    assertTrue("code=$code, reason=" in error?.message.orEmpty(), "$error has not the code $code")
    error as DeltaException
    assertEquals(listOf(kind.simpleName?.uppercase(), code), listOf(error.kind.name, error.code))
    assertTrue(error.reason.isNotEmpty())
    return error
}

/** Locks on the database's files and open files of this process, asked of another one: (locks, files). */
fun holders(database: File): Pair<Int, Int> {
    val names = listOf("", "-wal", "-shm", ".lock").map { database.path + it }
    val pid = ProcessHandle.current().pid()
    val script = """
        inodes=" ${'$'}(stat -c %i ${names.joinToString(" ") { "'$it'" }} 2>/dev/null | tr '\n' ' ') "
        locks=0
        while read -r _ _ _ _ _ place _; do
            case "${'$'}inodes" in *" ${'$'}{place##*:} "*) locks=${'$'}((locks + 1)) ;; esac
        done < /proc/locks
        open=${'$'}(ls -l /proc/$pid/fd 2>/dev/null | grep -c -F -- '-> ${database.path}')
        echo "${'$'}locks ${'$'}open"
    """.trimIndent()
    val shell = ProcessBuilder("sh", "-c", script).redirectErrorStream(true).start()
    val (locks, open) = shell.inputStream.bufferedReader().readText().trim().split(' ')
    return locks.toInt() to open.toInt()
}
