"""F: whether the index in Redis agrees with SQL. It is read through the queue itself."""

import time

from tests.fault.deployment import Deployment


def agreed(yard: Deployment, healed: float, *, of_all: bool = False) -> float:
    raise NotImplementedError


def indexed(yard: Deployment, task_id: str) -> float:
    raise NotImplementedError


def rebuilt(yard: Deployment, task_id: str) -> float:
    return time.time()
