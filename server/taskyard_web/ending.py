"""The end of a process: at a signal, and within a bound, whatever a processor has left behind."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

logger = logging.getLogger(__name__)

#: Seconds that what was left behind may still take.
GRACE = 1.0
_THREADS = "taskyard-blocking"


@asynccontextmanager
async def bounded_end() -> AsyncIterator[None]:
    """End the process soon after the block, which must have stopped and closed everything of ours.

    The interpreter would wait for what ignores that it is cancelled, and for threads that still work
    (`asyncio.to_thread`). An error is raised as usual.
    """
    executor = ThreadPoolExecutor(thread_name_prefix=_THREADS)
    asyncio.get_running_loop().set_default_executor(executor)
    yield
    executor.shutdown(wait=False, cancel_futures=True)
    end = time.monotonic() + GRACE
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)]
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads) or not all(task.done() for task in tasks):
        logger.warning("a processor goes on although it was told to stop; the process ends without it")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def stop_signal() -> None:
    """Return at the first SIGINT or SIGTERM; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, told.set)
    try:
        await told.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
