"""What a running processor is given: `TaskContext` over the claim service."""

from taskyard.service.claims import ClaimService, Run
from taskyard.task import Json, LogLevel, Metrics, StepStatus, Task


class RunContext:
    """`TaskContext` of one attempt. Its writes raise `LeaseLost` once the claim is gone."""

    def __init__(self, task: Task, run: Run, claims: ClaimService) -> None:
        self._task = task
        self._run = run
        self._claims = claims
        self.cancelled = False
        self._cost: float | None = None
        self._quality: float | None = None

    @property
    def task_id(self) -> str:
        return self._task.id

    @property
    def instance_id(self) -> str:
        return self._task.instance_id

    @property
    def agent_id(self) -> str | None:
        return self._task.agent_id

    @property
    def attempt(self) -> int:
        return self._run.attempt

    @property
    def idempotency_key(self) -> str:
        # Not the submitter's own key, which is unique only inside an instance and only until a clean-up.
        return self._task.id

    async def progress(self, percent: float, step: str | None = None) -> None:
        await self._claims.progress(self._run, percent, step)

    async def step(self, name: str, status: StepStatus = StepStatus.RUNNING, output: Json = None) -> None:
        await self._claims.step(self._run, name, StepStatus(status), output)

    async def log(self, message: str, level: LogLevel = LogLevel.INFO) -> None:
        await self._claims.log(self._run, LogLevel(level), message)

    def report(self, *, actual_cost: float | None = None, quality_score: float | None = None) -> None:
        self._cost = self._cost if actual_cost is None else actual_cost
        self._quality = self._quality if quality_score is None else quality_score

    def metrics(self, processing_ms: int) -> Metrics:
        """What was reported, with the length of the run."""
        return Metrics(actual_cost=self._cost, quality_score=self._quality, processing_ms=processing_ms)
