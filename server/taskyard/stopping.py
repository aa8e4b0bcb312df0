"""Ending a task for certain."""

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)

#: A task is given up after so many seconds.
BOUND = 10.0
#: How long a task may take to answer a cancellation before it is cancelled again.
AGAIN = 1.0


async def end(task: "asyncio.Task[Any]", bound: float = BOUND) -> None:
    """Cancel a task until it is done; after `bound` seconds log that it is not, and leave it.

    Once is not enough: a driver may answer a cancellation with an error of its own, which a loop takes for one more
    fault and goes on.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + bound
    while not task.done():
        left = deadline - loop.time()
        if left <= 0:
            logger.error("%s cannot be stopped and is left behind", task.get_name())
            return
        task.cancel()
        await asyncio.wait({task}, timeout=min(AGAIN, left))
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s ended with an error", task.get_name(), exc_info=error)
