"""What happens when Python ends: devices that were left open are closed, and what Rust still calls has left Python by then.

Before Python 3.14 a thread that comes to Python afterwards is ended in the midst of Rust, which aborts the process.
"""

import asyncio
import atexit
import time
import weakref

from . import delta_ffi as ffi

#: How long the end of the process waits for a listener, keystore or log sink that does not return, seconds.
PATIENCE = 10.0
#: Between two looks.
PAUSE = 0.001

_devices: "weakref.WeakSet[ffi.Delta]" = weakref.WeakSet()


def close_at_exit(device: ffi.Delta) -> None:
    """Closes it when Python ends, unless it is gone by then."""
    _devices.add(device)


def _leave() -> None:
    devices = list(_devices)
    until = time.monotonic() + PATIENCE
    if devices:
        # A loop that calls were to be made on has ended.
        ffi.uniffi_set_event_loop(None)
        asyncio.run(_close(devices))
    # One keystore belongs to each of these; others are of devices that were given up and are closing.
    while _held() or len(ffi._UniffiFfiConverterTypeKeystore._handle_map) > len(devices):
        if time.monotonic() > until:
            return
        time.sleep(PAUSE)


async def _close(devices) -> None:
    closing = [asyncio.ensure_future(device.close()) for device in devices]
    # Nobody is there any more to hear how it went, and nothing durable depends on it.
    await asyncio.wait(closing, timeout=PATIENCE)
    for ended in closing:
        if ended.done() and not ended.cancelled():
            ended.exception()


def _held() -> bool:
    """Whether a call from Rust is in Python, or can still come: for what Rust holds it calls."""
    maps = (
        ffi._UniffiContinuationHandleMap,
        ffi._UniffiFfiConverterTypeEventListener._handle_map,
        ffi._UniffiFfiConverterTypeLogSink._handle_map,
    )
    return bool(ffi._uniffi_inside) or any(len(each) for each in maps)


atexit.register(_leave)
