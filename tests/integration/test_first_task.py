"""The core from submit to done, on SQLite, without any transport."""

from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service.claims import Run
from taskyard.task import Metrics, NewTask


async def test_a_task_is_submitted_claimed_and_completed(runtime: Runtime, user: Principal) -> None:
    task = await runtime.tasks.create(user, NewTask(task_type="echo", input={"text": "hi"}))
    (claimed,) = await runtime.claims.claim("w1", Want(limit=5))
    assert claimed.id == task.id
    assert claimed.payload is not None
    assert claimed.payload.input == {"text": "hi"}
    await runtime.claims.complete(Run(task.id, claimed.attempt, "worker:w1"), {"text": "ho"}, Metrics())
    done = await runtime.tasks.get(user, task.id)
    assert done.status is TaskStatus.COMPLETED
    assert done.payload is not None
    assert done.payload.output == {"text": "ho"}
