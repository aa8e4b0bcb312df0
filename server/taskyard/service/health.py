"""Whether a queue is well: the rules, as pure functions. docs/operations.md explains them to operators."""

from datetime import timedelta
from enum import StrEnum

#: Failure rates mean something from so many ends on.
ENOUGH_ENDS = 20
DEGRADED_WAIT = timedelta(minutes=1)
CRITICAL_WAIT = timedelta(minutes=15)
DEGRADED_FAILURES = 0.2
CRITICAL_FAILURES = 0.5


class QueueHealth(StrEnum):
    """How a queue is."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    CRITICAL = "CRITICAL"


def queue_health(*, oldest_wait: timedelta, ended: int, failed: int, workers: int) -> QueueHealth:
    """The health of a queue from how long its oldest ready task has waited, how many of the tasks that
    ended in the last hour failed, and whether any worker lives.

    CRITICAL: the oldest has waited over 15 minutes, or over one minute while no worker lives, or half of
    the ends or more were failures. DEGRADED: it has waited over a minute, or a fifth or more failed.
    Without a worker remote agents may still do the tasks: only one that waits tells that nobody does.
    """
    failure_rate = failed / ended if ended >= ENOUGH_ENDS else 0.0
    patience = CRITICAL_WAIT if workers else DEGRADED_WAIT
    if oldest_wait > patience or failure_rate >= CRITICAL_FAILURES:
        return QueueHealth.CRITICAL
    if oldest_wait > DEGRADED_WAIT or failure_rate >= DEGRADED_FAILURES:
        return QueueHealth.DEGRADED
    return QueueHealth.HEALTHY
