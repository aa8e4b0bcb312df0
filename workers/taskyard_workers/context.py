"""What a running processor is given: `TaskContext`, whose words go to a `Teller`."""

from dataclasses import dataclass
from typing import Protocol

from taskyard.task import Json, LogLevel, Metrics, StepStatus


@dataclass(frozen=True, slots=True)
class Identity:
    """Which run of which task this is."""

    task_id: str
    instance_id: str
    agent_id: str | None
    attempt: int


class Teller(Protocol):
    """Where the words of a run go. Each raises `LeaseLost` once the claim is gone."""

    async def progress(self, percent: float, step: str | None) -> None: ...
    async def step(self, name: str, status: StepStatus, output: Json) -> None: ...
    async def log(self, level: LogLevel, message: str) -> None: ...


class RunContext:
    """`TaskContext` of one attempt, in the worker's process or in one of its own."""

    def __init__(self, identity: Identity, teller: Teller) -> None:
        self.identity = identity
        self.teller = teller
        self.cancelled = False
        self._cost: float | None = None
        self._quality: float | None = None

    @property
    def task_id(self) -> str:
        return self.identity.task_id

    @property
    def instance_id(self) -> str:
        return self.identity.instance_id

    @property
    def agent_id(self) -> str | None:
        return self.identity.agent_id

    @property
    def attempt(self) -> int:
        return self.identity.attempt

    @property
    def idempotency_key(self) -> str:
        # Not the submitter's own key, which is unique only inside an instance and only until a clean-up.
        return self.identity.task_id

    async def progress(self, percent: float, step: str | None = None) -> None:
        await self.teller.progress(percent, step)

    async def step(self, name: str, status: StepStatus = StepStatus.RUNNING, output: Json = None) -> None:
        await self.teller.step(name, StepStatus(status), output)

    async def log(self, message: str, level: LogLevel = LogLevel.INFO) -> None:
        await self.teller.log(LogLevel(level), message)

    def report(self, *, actual_cost: float | None = None, quality_score: float | None = None) -> None:
        self._cost = self._cost if actual_cost is None else actual_cost
        self._quality = self._quality if quality_score is None else quality_score

    def metrics(self, processing_ms: int) -> Metrics:
        """What was reported, with the length of the run."""
        return Metrics(actual_cost=self._cost, quality_score=self._quality, processing_ms=processing_ms)
