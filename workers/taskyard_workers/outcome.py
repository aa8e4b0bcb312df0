"""How a run ended: one frozen value each, which the settler turns into a write."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from taskyard.task import Json, Metrics


class Reason(StrEnum):
    """Why a run is interrupted."""

    #: The task was cancelled, or the claim is no longer ours: whatever the run says is thrown away.
    LOST = "LOST"
    #: The worker stops: the task goes back in its place.
    SHUTDOWN = "SHUTDOWN"
    #: The store did not take what the run told: the task goes back in its place, and no retry is spent.
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Completed:
    """The processor returned."""

    output: Json
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Failed:
    """The processor raised, or what it was given or gave is not of its type."""

    code: str
    message: str
    retry: bool
    processing_ms: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run was stopped from outside before it ended."""

    reason: Reason


Outcome: TypeAlias = Completed | Failed | Interrupted
