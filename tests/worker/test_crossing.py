"""The way from a thread to the event loop."""

from __future__ import annotations

import asyncio
import threading

from headrace.worker.crossing import Crossing


async def test_everything_comes_across_in_order() -> None:
    """However thread and loop interleave, nothing is lost, repeated or left lying."""
    count = 20_000
    seen: list[int] = []
    all_there = asyncio.Event()

    def receive(item: int) -> None:
        seen.append(item)
        if item == count - 1:
            all_there.set()

    crossing = Crossing(asyncio.get_running_loop(), receive)

    def work() -> None:
        for item in range(count):
            crossing.send(item)

    thread = threading.Thread(target=work)
    thread.start()
    async with asyncio.timeout(30):
        await all_there.wait()
    thread.join()
    assert seen == list(range(count))
    assert crossing.wakeups <= count


async def test_a_busy_loop_is_woken_once() -> None:
    """What is sent while the loop is busy shares one wake-up: at most one call waits in the loop."""
    seen: list[int] = []
    crossing = Crossing(asyncio.get_running_loop(), seen.append)
    for item in range(100):
        crossing.send(item)
    assert crossing.wakeups == 1
    await asyncio.sleep(0)
    assert seen == list(range(100))


async def test_a_fast_sender_does_not_keep_the_loop() -> None:
    """What comes while items are taken waits for the loop's next round: others have their turn."""
    turns: list[str] = []
    crossing: Crossing[int]

    def receive(item: int) -> None:
        turns.append(f"item {item}")
        if item < 3:
            crossing.send(item + 1)

    crossing = Crossing(asyncio.get_running_loop(), receive)
    crossing.send(1)
    asyncio.get_running_loop().call_soon(turns.append, "other")
    await asyncio.sleep(0)
    assert turns == ["item 1", "other"]
    for _ in range(2):
        await asyncio.sleep(0)
    assert turns == ["item 1", "other", "item 2", "item 3"]
