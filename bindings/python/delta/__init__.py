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

from .device import Device, FileKeystore, MemoryKeystore, open
from .delta_ffi import (
    Config,
    Connection,
    Content,
    DeltaError,
    Event,
    EventListener,
    Keystore,
    KeystoreError,
    ListenerError,
    LogLevel,
    LogSink,
    Message,
    MessagePage,
    OnionHop,
    OnionLayer,
    OnionSecret,
    OnionTarget,
    RelayHops,
    build_onion_packet,
    generate_mnemonic,
    generate_ticket,
    import_mnemonic,
    peel_onion_layer,
    read_only_ticket,
    ticket_facts,
)

__all__ = [name for name in dir() if not name.startswith("_") and name not in ("delta_ffi", "device")]
