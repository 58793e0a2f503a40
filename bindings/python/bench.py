"""What the language costs: calls, a page of messages, an event. `cargo xtask bench bindings` runs it with the library as it
ships. Every figure is the median, and is printed only when all that was asked for came."""

import asyncio
import queue
import tempfile
import time
from pathlib import Path

import delta

PAGE = 50


def report(what: str, samples: list[int]) -> float:
    """Prints the median of nanoseconds as microseconds."""
    median = sorted(samples)[len(samples) // 2] / 1000
    print(f"python  {what:36} p50 {median:9.1f} µs  ({len(samples)} samples)")
    return median


async def timed(rounds: int, call) -> list[int]:
    samples = []
    for number in range(rounds):
        start = time.perf_counter_ns()
        await call(number)
        samples.append(time.perf_counter_ns() - start)
    return samples


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        device = await delta.open(Path(folder) / "device.db", delta.MemoryKeystore(), merge_changes_ms=0)
        topic = await device.open_topic(delta.generate_ticket())
        texts = [f"message {number}" for number in range(1000)]
        for text in texts:
            await device.send(topic, text)

        async def synchronous(_):
            assert len(device.author) == 32

        async def empty(_):
            assert await device.message(bytes(32)) is None

        async def page(_):
            messages = await device.messages(topic, limit=PAGE)
            assert [message.text for message in messages] == texts[-PAGE:]

        report("a call that waits for nothing", await timed(5000, synchronous))
        base = report("an async call with an empty answer", await timed(2000, empty))
        fifty = report(f"a page of {PAGE} messages", await timed(500, page))

        heard: queue.SimpleQueue = queue.SimpleQueue()
        subscription = await device.subscribe(topic, lambda event: heard.put((time.perf_counter_ns(), event)))
        samples = []
        for number in range(300):
            text = f"event {number}"
            begun = time.perf_counter_ns()
            sent = await device.send(topic, text)
            while True:
                at, event = heard.get(timeout=30)
                if event.is_CHANGED() and any(sent in change.ids for change in event.changes):
                    break
            # It is heard once the message is durable, as a rule before the call has returned.
            samples.append(at - begun)
        report("from a publish to its event", samples)
        subscription.cancel()
        await device.close()
        print(f"ratio {fifty / base:.2f} (target ): a page of {PAGE} messages / an empty call, Python")


asyncio.run(main())
