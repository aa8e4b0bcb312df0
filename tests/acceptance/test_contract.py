"""What clients of Taskyard already send, unchanged, against the real process: are the answers right?"""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from graphql import OperationDefinitionNode, parse
from tests.support.process import DevProcess, eventually
from tests.support.subscriber import Subscriber, subscribed
from tests.support.tokens import Mint

pytestmark = pytest.mark.slow

OPERATIONS = (Path(__file__).parent / "contract" / "operations.graphql").read_text()

#: Each of them is run below, by its name, out of the document as it stands.
COVERED = {
    "GetTask", "GetTasks", "QueueStatus", "Statistics", "CreateTask", "CreateBatch", "Cancel", "Retry", "Start",
    "Complete", "Fail", "Cleanup", "TimeoutStale", "TaskUpdates", "OneTask", "Queue",
}  # fmt: skip


class Client:
    """Sends operations of the contract as one bearer; each test has an instance of its own."""

    def __init__(self, process: DevProcess, mint: Mint, instance: str, role: str = "user") -> None:
        self.process = process
        self.instance = instance
        self.token = mint.token(f"{role}@{instance}", role, instance)

    def run(self, name: str, **variables: Any) -> Any:
        """The data of an operation that must succeed: its one field."""
        (value,) = self.process.data_of(OPERATIONS, variables, name=name, token=self.token).values()
        return value

    def codes(self, name: str, **variables: Any) -> list[str]:
        """The error codes of an operation that must fail."""
        body = self.process.graphql(OPERATIONS, variables, name=name, token=self.token)
        assert not any((body.get("data") or {}).values()), body
        return [error["extensions"]["code"] for error in body["errors"]]

    def create(self, **fields: Any) -> str:
        """A task that no worker takes, unless a type is named."""
        made = self.run("CreateBatch", inputs=[{"taskType": "by_hand", "inputData": {}} | fields])
        assert made["errors"] == []
        return str(made["tasks"][0]["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        task: dict[str, Any] = self.run("GetTask", id=task_id)
        return task

    def pause(self, paused: bool) -> None:
        """Hold the queue `default` of the instance, or let it go; for an administrator."""
        name = "pauseQueue" if paused else "resumeQueue"
        query = f'mutation {{ {name}(queue: "default") {{ paused }} }}'
        assert self.process.data_of(query, token=self.token) == {name: {"paused": paused}}

    def subscribe(self, name: str, **variables: Any) -> Subscriber:
        return subscribed(self.process.address, self.token, OPERATIONS, variables, name=name)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with DevProcess(tmp_path_factory.mktemp("contract") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def mint(process: DevProcess) -> Mint:
    return Mint(process.data)


@pytest.fixture
def client(process: DevProcess, mint: Mint, request: pytest.FixtureRequest) -> Client:
    return Client(process, mint, request.node.name.replace("[", "-").replace("]", ""))


@pytest.fixture
def admin(client: Client, mint: Mint) -> Client:
    """An administrator of the same instance."""
    return Client(client.process, mint, client.instance, "admin")


def moment(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    assert parsed.tzinfo is not None
    return parsed


def test_every_operation_of_the_contract_is_run_here() -> None:
    document = parse(OPERATIONS)
    named = {
        node.name.value for node in document.definitions if isinstance(node, OperationDefinitionNode) and node.name
    }
    assert named == COVERED


def test_create_task_gives_a_queued_task_that_get_task_shows_as_it_was_sent(client: Client) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = client.run("CreateTask")
    after = datetime.now(UTC)

    assert made == {"id": made["id"], "status": "QUEUED", "taskType": "translation"}
    task = client.task(made["id"])
    assert before <= moment(task.pop("createdAt")) <= after
    assert task == {
        "id": made["id"],
        "taskType": "translation",
        "status": "QUEUED",
        "priority": "NORMAL",
        "startedAt": None,
        "completedAt": None,
        "errorMessage": None,
        "inputData": {"text": "Hello", "targetLanguage": "sw"},
        "outputData": None,
        "retryCount": 0,
        "maxRetries": 3,
        "progressPercentage": 0,
        "estimatedCost": None,
        "actualCost": None,
        "qualityScore": None,
        "agent": {"id": "agent_123", "name": "agent_123", "type": "generic"},
    }


def test_a_worker_does_the_task_and_get_task_shows_what_came_of_it(client: Client) -> None:
    content = {"taskType": "mock_content", "inputData": {"topic": "tide pools", "length": "short"}}
    task_id = client.create(**content, estimatedCost=0.5)

    eventually(lambda: client.task(task_id)["status"] == "COMPLETED")
    task = client.task(task_id)
    assert task["outputData"]["title"] == "On tide pools"
    assert len(task["outputData"]["sections"]) == 2
    assert task["progressPercentage"] == 100
    assert task["qualityScore"] == 0.9
    assert task["actualCost"] == pytest.approx(task["outputData"]["words"] * 0.0001)
    assert task["estimatedCost"] == 0.5
    assert moment(task["createdAt"]) <= moment(task["startedAt"]) < moment(task["completedAt"])


def test_get_tasks_gives_just_the_queued_ones_of_high_priority(client: Client) -> None:
    high = [client.create(priority="HIGH") for _ in range(3)]
    for priority in ("LOW", "NORMAL", "URGENT"):
        client.create(priority=priority)
    running = client.create(priority="HIGH")
    client.run("Start", id=running)

    found = client.run("GetTasks")

    assert {task["id"] for task in found["tasks"]} == set(high)
    assert {(task["status"], task["priority"], task["agent"]) for task in found["tasks"]} == {
        ("QUEUED", "HIGH", None)
    }
    assert found["totalCount"] == 3
    assert found["pageInfo"] == {"hasNextPage": False, "currentPage": 1, "totalPages": 1}


def test_get_tasks_cuts_the_list_at_twenty_and_counts_them_all(client: Client) -> None:
    inputs = [{"taskType": "by_hand", "inputData": {"n": n}, "priority": "HIGH"} for n in range(45)]
    made = client.run("CreateBatch", inputs=inputs)

    found = client.run("GetTasks")

    assert made["successCount"] == 45
    assert len({task["id"] for task in found["tasks"]}) == 20
    times = [moment(task["createdAt"]) for task in found["tasks"]]
    assert times == sorted(times, reverse=True)
    assert found["totalCount"] == 45
    assert found["pageInfo"] == {"hasNextPage": True, "currentPage": 1, "totalPages": 3}


def test_a_batch_creates_what_is_right_and_says_what_is_wrong_with_the_rest(client: Client) -> None:
    right = {"taskType": "by_hand", "inputData": {}}
    inputs = [
        right,
        right | {"taskType": "no blanks please"},
        {"taskType": "delay", "inputData": {"seconds": "long"}},
        right | {"maxRetries": 101},
        right | {"priority": "URGENT"},
    ]

    made = client.run("CreateBatch", inputs=inputs)

    assert (made["successCount"], made["failedCount"]) == (2, 3)
    assert [task["status"] for task in made["tasks"]] == ["QUEUED", "QUEUED"]
    assert [client.task(task["id"])["priority"] for task in made["tasks"]] == ["NORMAL", "URGENT"]
    assert [(error["index"], error["code"]) for error in made["errors"]] == [
        (1, "INVALID_INPUT"),
        (2, "INVALID_INPUT"),
        (3, "INVALID_INPUT"),
    ]
    assert "taskType" in made["errors"][0]["message"]
    assert "100" in made["errors"][2]["message"]
    assert client.run("QueueStatus")["totalTasks"] == 2


def test_start_then_complete(client: Client) -> None:
    task_id = client.create()

    started = client.run("Start", id=task_id)
    running = client.task(task_id)
    completed = client.run("Complete", id=task_id, out={"text": "Habari", "list": [1, None]})

    assert started == {"id": task_id, "status": "PROCESSING", "startedAt": started["startedAt"]}
    assert (running["status"], running["startedAt"]) == ("PROCESSING", started["startedAt"])
    assert (running["completedAt"], running["outputData"]) == (None, None)
    assert completed == {"id": task_id, "status": "COMPLETED", "completedAt": completed["completedAt"]}
    assert moment(started["startedAt"]) <= moment(completed["completedAt"])
    task = client.task(task_id)
    assert task["outputData"] == {"text": "Habari", "list": [1, None]}
    assert (task["actualCost"], task["qualityScore"], task["progressPercentage"]) == (0.04, 0.9, 100)
    assert task["retryCount"] == 0
    for name in ("Start", "Cancel", "Retry"):
        assert client.codes(name, id=task_id) == ["ILLEGAL_TRANSITION"]


def test_start_then_fail_then_retry_then_complete(client: Client) -> None:
    task_id = client.create()
    client.run("Start", id=task_id)

    failed = client.run("Fail", id=task_id, why="the model was away")
    assert failed == {"id": task_id, "status": "FAILED", "errorMessage": "the model was away"}
    assert client.task(task_id)["completedAt"] is not None

    assert client.run("Retry", id=task_id) == {"id": task_id, "status": "QUEUED", "retryCount": 0}
    again = client.task(task_id)
    assert (again["errorMessage"], again["completedAt"], again["startedAt"]) == (None, None, None)

    client.run("Start", id=task_id)
    assert client.run("Complete", id=task_id, out={})["status"] == "COMPLETED"
    attempt = "query($id: ID!) { aiTask(id: $id) { attempt } }"
    assert client.process.data_of(attempt, {"id": task_id}, token=client.token) == {"aiTask": {"attempt": 2}}


def test_what_is_not_running_is_neither_completed_nor_failed(client: Client) -> None:
    task_id = client.create()
    assert client.codes("Complete", id=task_id, out={}) == ["ILLEGAL_TRANSITION"]
    assert client.codes("Fail", id=task_id, why="why not") == ["ILLEGAL_TRANSITION"]
    assert client.codes("Retry", id=task_id) == ["ILLEGAL_TRANSITION"]
    assert client.task(task_id)["status"] == "QUEUED"


def test_cancel_a_queued_task_and_retry_it(client: Client) -> None:
    task_id = client.create()
    assert client.run("Cancel", id=task_id) == {"id": task_id, "status": "CANCELLED"}
    assert client.run("Cancel", id=task_id) == {"id": task_id, "status": "CANCELLED"}
    assert client.codes("Start", id=task_id) == ["ILLEGAL_TRANSITION"]
    assert client.run("Retry", id=task_id) == {"id": task_id, "status": "QUEUED", "retryCount": 0}


def test_cancel_a_task_that_a_worker_runs(client: Client) -> None:
    task_id = client.create(taskType="delay", inputData={"seconds": 3000})
    eventually(lambda: client.task(task_id)["status"] == "PROCESSING")

    assert client.run("Cancel", id=task_id)["status"] == "CANCELLED"

    workers = "{ workers { running } }"
    every = Client(client.process, Mint(client.process.data), "default", "admin")
    eventually(lambda: every.process.data_of(workers, token=every.token) == {"workers": [{"running": 0}]})
    assert client.task(task_id)["status"] == "CANCELLED"


def test_queue_status_counts_each_task_where_it_is(client: Client) -> None:
    for _ in range(2):
        client.create()
    processing, completed, failed, cancelled = (client.create() for _ in range(4))
    for task_id in (processing, completed, failed):
        client.run("Start", id=task_id)
    client.run("Complete", id=completed, out={})
    client.run("Fail", id=failed, why="no")
    client.run("Cancel", id=cancelled)

    status = client.run("QueueStatus")

    assert status.pop("averageWaitTime") > 0
    assert status == {
        "totalTasks": 6,
        "queuedTasks": 2,
        "processingTasks": 1,
        "completedTasks": 1,
        "failedTasks": 1,
        "averageProcessingTime": 1200,
        "queueHealth": "HEALTHY",
    }


def test_statistics_equal_what_was_done(client: Client) -> None:
    mine = [client.create(agentId="agent_7") for _ in range(6)]
    client.create()
    for task_id in mine[:4]:
        client.run("Start", id=task_id)
    for task_id in mine[:3]:
        client.run("Complete", id=task_id, out={})
    client.run("Fail", id=mine[3], why="no")
    client.run("Cancel", id=mine[4])
    expected = {
        "totalTasks": 6,
        "completedTasks": 3,
        "failedTasks": 1,
        "cancelledTasks": 1,
        "successRate": 0.75,
        "averageProcessingTime": 1200,
        "totalCost": pytest.approx(0.12),
        "averageQualityScore": pytest.approx(0.9),
    }
    nothing = dict.fromkeys(expected, 0) | {
        "successRate": None,
        "averageProcessingTime": None,
        "averageQualityScore": None,
    }
    created = moment(client.task(mine[0])["createdAt"])
    before, after = ((created + timedelta(hours=hours)).isoformat() for hours in (-1, 1))

    assert client.run("Statistics", agentId="agent_7") == expected
    assert client.run("Statistics") == expected | {"totalTasks": 7}
    assert client.run("Statistics", agentId="agent_7", startDate=before, endDate=after) == expected
    assert client.run("Statistics", startDate=after) == nothing
    assert client.run("Statistics", endDate=before) == nothing
    assert client.run("Statistics", agentId="agent_8") == nothing


def test_task_updates_delivers_each_change_of_every_task_in_order(client: Client) -> None:
    with client.subscribe("TaskUpdates") as updates:
        first, second = client.create(), client.create()
        client.run("Start", id=first)
        client.run("Cancel", id=second)
        client.run("Fail", id=first, why="no")
        client.run("Retry", id=first)

        told = [updates.next()["aiTaskStatusChanged"] for _ in range(6)]

    assert [(task["id"], task["status"], task["errorMessage"]) for task in told] == [
        (first, "QUEUED", None),
        (second, "QUEUED", None),
        (first, "PROCESSING", None),
        (second, "CANCELLED", None),
        (first, "FAILED", "no"),
        (first, "QUEUED", None),
    ]
    assert [task["completedAt"] is not None for task in told] == [False, False, False, True, True, False]


def test_one_task_begins_with_how_it_stands_and_ends_with_its_end(client: Client) -> None:
    task_id = client.create(taskType="delay", inputData={"seconds": 3000})
    eventually(lambda: client.task(task_id)["progressPercentage"] > 0)
    with client.subscribe("OneTask", id=task_id) as updates:
        other = client.create()
        first, second = (updates.next()["aiTaskStatusChanged"] for _ in range(2))
        client.run("Cancel", id=task_id)
        rest = updates.collect_until(lambda data: data["aiTaskStatusChanged"]["status"] == "CANCELLED")

    told = [first, second, *(data["aiTaskStatusChanged"] for data in rest)]
    assert other not in {task["id"] for task in told}
    assert {task["id"] for task in told} == {task_id}
    assert {task["status"] for task in told[:-1]} == {"PROCESSING"}
    progress = [task["progressPercentage"] for task in told[:-1]]
    assert 0 < progress[0] < progress[1] < 100
    assert progress == sorted(set(progress))


def test_one_task_delivers_a_whole_run(client: Client, admin: Client) -> None:
    # The queue is held until the subscription has begun.
    admin.pause(True)
    task_id = client.create(taskType="mock_content", inputData={"topic": "reefs", "length": "short"})
    with client.subscribe("OneTask", id=task_id) as updates:
        admin.pause(False)
        told = updates.collect_until(lambda data: data["aiTaskStatusChanged"]["status"] == "COMPLETED")

    states = [data["aiTaskStatusChanged"] for data in told]
    assert [(state["status"], state["progressPercentage"]) for state in states] == [
        ("QUEUED", 0),
        ("PROCESSING", 0),
        ("PROCESSING", 50),
        ("PROCESSING", 100),
        ("COMPLETED", 100),
    ]  # fmt: skip


def test_queue_begins_with_the_figures_and_follows_them(client: Client) -> None:
    def figures(queued: int, processing: int) -> dict[str, Any]:
        return {"queuedTasks": queued, "processingTasks": processing, "queueHealth": "HEALTHY"}

    task_id = client.create()
    with client.subscribe("Queue") as updates:
        assert updates.next()["taskQueueUpdated"] == figures(1, 0)
        client.run("Start", id=task_id)
        told = updates.collect_until(lambda data: data["taskQueueUpdated"] == figures(0, 1))
        client.run("Complete", id=task_id, out={})
        told += updates.collect_until(lambda data: data["taskQueueUpdated"] == figures(0, 0))

    steps = [figures(1, 0), figures(0, 1), figures(0, 0)]
    places = [steps.index(data["taskQueueUpdated"]) for data in told]
    assert places == sorted(places)


@pytest.mark.parametrize("role", ["user", "agent", "worker"])
def test_only_administrators_clean_up_and_time_out(client: Client, mint: Mint, role: str) -> None:
    task_id = client.create()
    client.run("Start", id=task_id)
    caller = Client(client.process, mint, client.instance, role)

    assert caller.codes("Cleanup") == ["FORBIDDEN"]
    assert caller.codes("TimeoutStale") == ["FORBIDDEN"]
    assert caller.task(task_id)["status"] == "PROCESSING"


def set_back(process: DevProcess, column: str, *task_ids: str) -> None:
    """Let this have happened eight days ago: from outside, as nothing of the API can."""
    connection = sqlite3.connect(process.data / "taskyard.db", timeout=60)
    with connection:
        for task_id in task_ids:
            connection.execute(f"UPDATE tasks SET {column} = {column} - 691200000 WHERE id = ?", [task_id])
    connection.close()


def test_cleanup_deletes_what_ended_over_a_week_ago(client: Client, admin: Client, mint: Mint) -> None:
    other = Client(client.process, mint, "a-neighbour")
    old, fresh, foreign = client.create(), client.create(), other.create()
    waiting = client.create()
    for owner, task_id in ((client, old), (client, fresh), (other, foreign)):
        owner.run("Cancel", id=task_id)
    set_back(client.process, "completed_at", old, foreign)
    set_back(client.process, "created_at", waiting)

    assert admin.run("Cleanup") == {"deletedCount": 1}
    assert admin.run("Cleanup") == {"deletedCount": 0}

    assert client.codes("GetTask", id=old) == ["NOT_FOUND"]
    assert client.task(fresh)["status"] == "CANCELLED"
    assert client.task(waiting)["status"] == "QUEUED"
    assert other.task(foreign)["status"] == "CANCELLED"


def test_timeout_stale_fails_the_runs_that_began_over_an_hour_ago(client: Client, admin: Client) -> None:
    stale, fresh, waiting = (client.create(timeoutMs=7 * 86_400_000) for _ in range(3))
    for task_id in (stale, fresh):
        client.run("Start", id=task_id)
    set_back(client.process, "started_at", stale)

    assert admin.run("TimeoutStale") == {"timedOutCount": 1}
    assert admin.run("TimeoutStale") == {"timedOutCount": 0}

    code = "query($id: ID!) { aiTask(id: $id) { status errorCode } }"
    assert client.process.data_of(code, {"id": stale}, token=client.token) == {
        "aiTask": {"status": "FAILED", "errorCode": "TIMEOUT"}
    }
    assert client.task(fresh)["status"] == "PROCESSING"
    assert client.task(waiting)["status"] == "QUEUED"
