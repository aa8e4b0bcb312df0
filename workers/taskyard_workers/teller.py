"""Where the words of a run go: to the claim service, which refuses what comes after the claim is gone."""

from taskyard.service.claims import ClaimService, Run
from taskyard.task import Json, LogLevel, StepStatus


class ClaimTeller:
    """`Teller` of one run."""

    def __init__(self, run: Run, claims: ClaimService) -> None:
        self._run = run
        self._claims = claims

    async def progress(self, percent: float, step: str | None) -> None:
        await self._claims.progress(self._run, percent, step)

    async def step(self, name: str, status: StepStatus, output: Json) -> None:
        await self._claims.step(self._run, name, status, output)

    async def log(self, level: LogLevel, message: str) -> None:
        await self._claims.log(self._run, level, message)
