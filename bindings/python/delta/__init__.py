"""Delta for Python: asyncio, for scripts and tests.

    import asyncio, delta

    async def main():
        async with await delta.open("device.db", delta.FileKeystore("device.key")) as device:
            await device.init_sync(hops, "https://sync.example#<the server's key>")
            topic = await device.open_topic(ticket)
            await device.send(topic, "hello")
            async for message in device.follow(topic):
                print(message.author.hex()[:8], message.text)

    asyncio.run(main())

What is not here is in `delta_ffi`, which is generated: `cargo xtask bindings`. docs/getting-started-python.md shows a
first message, docs/errors.md every error's `code`.
"""

from .device import Device, import_from, open
from .keystore import FileKeystore, MemoryKeystore
from .delta_ffi import (
    Cancelled,
    Config,
    Connection,
    Content,
    DeltaError,
    Event,
    EventListener,
    KeySnapshot,
    Keystore,
    KeystoreError,
    Level,
    ListenerError,
    LogLevel,
    LogSink,
    Message,
    MessagePage,
    OnionHop,
    OnionLayer,
    OnionSecret,
    OnionTarget,
    OutboxState,
    Preview,
    PreviewSaid,
    RelayHops,
    RoomState,
    RoomText,
    SpaceAction,
    SpaceText,
    build_onion_packet,
    decrypt_push,
    generate_mnemonic,
    generate_ticket,
    identity_address,
    import_mnemonic,
    mnemonic_identity,
    parse_address,
    peel_onion_layer,
    read_only_ticket,
    stored_mnemonic,
    ticket_facts,
)

__all__ = [name for name in dir() if not name.startswith("_") and name not in ("delta_ffi", "device", "keystore")]
