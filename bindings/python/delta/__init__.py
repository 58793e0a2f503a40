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

from .delta_ffi import *
from .device import Device, import_from, open
from .keystore import FileKeystore, MemoryKeystore

__all__ = [name for name in dir() if not name.startswith("_") and name not in ("delta_ffi", "device", "keystore", "leaving")]
