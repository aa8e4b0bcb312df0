"""What the workers can do: declared task types, who is alive, which queues are paused. Read often, kept briefly."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import jsonschema_rs

from taskyard.clock import Clock
from taskyard.errors import InvalidInput
from taskyard.lifecycle import TaskStatus
from taskyard.store.registry import Registry, Worker
from taskyard.task import Json, Task, TaskTypeSpec, WaitingReason

#: A worker that has told nothing of itself for so many heartbeats counts as gone.
SILENT_BEATS = 3
#: How long what was read is believed, in seconds.
FRESH = 1.0
_MESSAGE = 300


class Catalog:
    """Declared types with their validators, and why a task waits. `heartbeat` is seconds."""

    def __init__(self, registry: Registry, clock: Clock, heartbeat: float) -> None:
        self._registry = registry
        self._clock = clock
        self._silence = timedelta(seconds=heartbeat * SILENT_BEATS)
        self._read_at: float | None = None
        self._expired = 0
        self._reading = asyncio.Lock()
        self._specs: Mapping[str, TaskTypeSpec] = {}
        self._validators: dict[str, tuple[Mapping[str, object], jsonschema_rs.Validator]] = {}
        self._workers: list[Worker] = []
        self._paused: frozenset[tuple[str, str]] = frozenset()

    async def types(self) -> list[TaskTypeSpec]:
        await self._refresh()
        return list(self._specs.values())

    async def type_named(self, name: str) -> TaskTypeSpec | None:
        await self._refresh()
        return self._specs.get(name)

    async def living_workers(self) -> list[Worker]:
        await self._refresh()
        return self._workers

    def expire(self) -> None:
        """Read anew at the next question: something was changed here."""
        self._read_at = None
        self._expired += 1

    async def check_input(self, task_type: str, value: Json) -> None:
        """Raise `InvalidInput`, with the path of the fault, if the type is known and refuses this input."""
        spec = await self.type_named(task_type)
        if spec is not None:
            self._check(f"{task_type}:input", spec.input_schema, value, "inputData")

    async def check_output(self, task_type: str, value: Json) -> None:
        """The same for a result."""
        spec = await self.type_named(task_type)
        if spec is not None and spec.output_schema is not None:
            self._check(f"{task_type}:output", spec.output_schema, value, "outputData")

    async def waiting_reason(self, task: Task) -> WaitingReason | None:
        """Why a task that has not ended is not being worked on; None if nothing holds it up but its turn."""
        match task.status:
            case TaskStatus.SUBMITTED:
                return WaitingReason.DEPENDENCIES
            case TaskStatus.SCHEDULED:
                return WaitingReason.SCHEDULED
            case TaskStatus.RETRYING:
                return WaitingReason.BACKOFF
            case TaskStatus.QUEUED:
                await self._refresh()
                if (task.instance_id, task.queue) in self._paused:
                    return WaitingReason.PAUSED
                if not any(_runs(worker, task) for worker in self._workers):
                    return WaitingReason.NO_WORKER_FOR_TYPE
        return None

    def _check(self, key: str, schema: Mapping[str, object], value: Json, root: str) -> None:
        known = self._validators.get(key)
        if known is None or known[0] is not schema:
            known = self._validators[key] = (schema, jsonschema_rs.validator_for(dict(schema)))
        try:
            fault = next(iter(known[1].iter_errors(value)), None)
        except ValueError as error:
            raise InvalidInput(f"{root} is not plain JSON: {error}", path=[root]) from error
        if fault is not None:
            message = fault.message if len(fault.message) <= _MESSAGE else fault.message[:_MESSAGE] + "..."
            missing = getattr(fault.kind, "property", None)  # only a property that is required has one
            raise InvalidInput(message, path=[root, *fault.instance_path, *([missing] if missing else [])])

    async def _refresh(self) -> None:
        if self._is_fresh():
            return
        async with self._reading:
            if self._is_fresh():
                return
            read_at, expired = self._clock.monotonic(), self._expired
            specs = {spec.name: spec for spec in await self._registry.types()}
            # An unchanged declaration keeps its object, and so its validator.
            self._specs = {
                name: old if (old := self._specs.get(name)) == spec else spec for name, spec in specs.items()
            }
            self._workers = await self._registry.workers(self._clock.now() - self._silence)
            self._paused = await self._registry.paused()
            # What was changed while this was read is not in it, perhaps.
            self._read_at = read_at if self._expired == expired else None

    def _is_fresh(self) -> bool:
        return self._read_at is not None and self._clock.monotonic() - self._read_at < FRESH


def _runs(worker: Worker, task: Task) -> bool:
    return (worker.types is None or task.task_type in worker.types) and (
        worker.queues is None or task.queue in worker.queues
    )
