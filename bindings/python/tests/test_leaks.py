"""Ten thousand cycles of what an app does all day: memory, threads and files stay where they were."""

import asyncio
import gc
import os
import tempfile
import unittest
from datetime import timedelta
from pathlib import Path

import delta

#: Cycles, and how many of them come before the first look: allocators and SQLite fill their caches first.
CYCLES = 10_000
WARM_UP = 2_000
#: What resident memory may have grown by at the end: less than 500 bytes a cycle.
ALLOWED_KIB = 4 * 1024


def memory_kib() -> int:
    """Resident memory of this process (proc_pid_status(5))."""
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def count(folder: str) -> int:
    return len(os.listdir(folder))


@unittest.skipUnless(os.path.exists("/proc/self/status"), "memory is read from /proc")
class Leaks(unittest.IsolatedAsyncioTestCase):
    async def cycles(self, cycle) -> None:
        for _ in range(WARM_UP):
            await cycle()
        before = memory_kib(), count("/proc/self/task"), count("/proc/self/fd")
        for _ in range(CYCLES - WARM_UP):
            await cycle()
        after = memory_kib(), count("/proc/self/task"), count("/proc/self/fd")
        print(f"{self.id().rsplit('.', 1)[1]}: {CYCLES} cycles, memory {before[0]} -> {after[0]} KiB")
        self.assertLess(after[0] - before[0], ALLOWED_KIB)
        self.assertLessEqual(after[1], before[1] + 8, "threads")
        self.assertLessEqual(after[2], before[2] + 8, "files")

    async def test_subscribe_and_cancel(self):
        with tempfile.TemporaryDirectory() as folder:
            device = await delta.open(Path(folder) / "device.db", delta.MemoryKeystore())
            topic = await device.open_topic(delta.generate_ticket())

            async def cycle():
                pushed = await device.subscribe(topic, lambda event: None)
                fetched = await device.subscribe(topic)
                await fetched.next_events(1, timedelta(0))
                pushed.cancel()
                fetched.cancel()

            await self.cycles(cycle)
            await device.close()

    async def test_open_and_close(self):
        with tempfile.TemporaryDirectory() as folder:
            keystore = delta.MemoryKeystore()

            async def cycle():
                device = await delta.open(Path(folder) / "device.db", keystore, workers=1)
                await device.close()

            await self.cycles(cycle)


if __name__ == "__main__":
    unittest.main()
