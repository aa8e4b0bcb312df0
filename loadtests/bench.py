"""How fast is the embedded default? Starts a real `taskyard dev` on an empty data folder and measures it."""

import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import gevent
from gevent import event, socket
from geventhttpclient import HTTPClient

from machine import machine
from operations import headers, request_body
from watching import Watch

HERE = Path(__file__).parent
#: Payload of a task: 200 bytes, as for the peers in the bench of queues.
PAYLOAD = {"text": "x" * 188}
FINISHED = """
query Finished($queue: String!) {
  taskQueueStatus(queue: $queue) { queuedTasks processingTasks completedTasks failedTasks }
  first: aiTasks(filter: {queue: [$queue]}, sort: {field: CREATED_AT, direction: ASC}, first: 1) {
    tasks { createdAt }
  }
  last: aiTasks(filter: {queue: [$queue], status: [COMPLETED]}, sort: {field: COMPLETED_AT}, first: 1) {
    tasks { completedAt }
  }
}
"""
PAUSE = "mutation Pause($queue: String!) { pauseQueue(queue: $queue) { paused } }"
LEGEND = """\
echo/s       requests/s of a bare Starlette endpoint that gives back the same body, from the same clients in the same
             run: what this driver and this machine could do at best. Compare runs by the ratio, not by the figures.
submit/s     createAITask answered, each client sending one after the other; the answer comes after the commit.
ratio        submit/s of echo/s.
finished/s   no-op tasks completed, from the first one's createdAt to the last one's completedAt, while they are
             submitted as above in the same process ({left} were left when the time was over).
pickup       startedAt - queuedAt of the tasks themselves, in ms (they count whole ones), where each client submits a
             task and waits over the subscription until it is completed before it sends the next.
send-start   of the same tasks, startedAt - the client's clock right before it sent: request, commit and pickup.
"""


@dataclass
class Row:
    """The figures of one number of clients."""

    clients: int
    echo: float = 0
    submitted: float = 0
    finished: float = 0
    left: int = 0
    pickup: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        waits = " | ".join(
            f"{percentile(of, 50):.1f} / {percentile(of, 99):.1f}" for of in (self.pickup, self.started)
        )
        return (
            f"| {self.clients} | {self.echo:.1f} | {self.submitted:.1f} | {self.submitted / self.echo:.3f} "
            f"| {self.finished:.1f} | {waits} |"
        )


class Client:
    """One connection that is kept; one request at a time."""

    def __init__(self, address: str, token: str = "") -> None:
        self._http = HTTPClient.from_url(address, concurrency=1, network_timeout=60)
        self._headers = headers(token)

    def post(self, body: bytes) -> Any:
        response = self._http.post("/graphql", body=body, headers=self._headers)
        answer = json.loads(response.read())
        if response.status_code != 200 or "errors" in answer:
            raise click.ClickException(f"refused with {response.status_code}: {answer}")
        return answer

    def query(self, text: str, **variables: Any) -> Any:
        return self.post(json.dumps({"query": text, "variables": variables}).encode())["data"]

    def close(self) -> None:
        self._http.close()


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="length of the longest phase")
@click.option("--clients", default="1,10,50", show_default=True, help="numbers of clients, by comma")
def main(seconds: float, clients: str) -> None:
    """Measure submissions, throughput and pickup latency of the embedded default."""
    print(machine() + "\n")
    taskyard = [str(Path(sys.executable).parent / "taskyard"), "dev", "--port", "0", "--data"]
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="taskyard-bench-") as folder,
        running([sys.executable, str(HERE / "echo.py")], "ready at") as echo,
        running([*taskyard, folder], "Ctrl-C stops.") as dev,
    ):
        echo_address, address = (find(r"ready at (\S+)", output) for output in (echo, dev))
        token = find(r"administrator\):\s*(\S+)", dev)
        for number in map(int, clients.split(",")):
            row = Row(number)
            row.echo = calibrate(echo_address, number, seconds * 0.4)
            measure_submission(row, address, token, seconds)
            measure_pickup(row, address, token, seconds * 0.8)
            rows.append(row)
    print("| clients | echo/s | submit/s | ratio | finished/s | pickup p50 / p99 ms | send-start p50 / p99 ms |")
    print("|---|---|---|---|---|---|---|")
    print(*rows, sep="\n")
    print("\n" + LEGEND.format(left=sum(row.left for row in rows)))


def calibrate(address: str, clients: int, seconds: float) -> float:
    body = request_body("CreateTask", {"input": {"taskType": "echo", "inputData": PAYLOAD}})
    return together(address, "", clients, seconds, lambda client, _: client.post(body))


def measure_submission(row: Row, address: str, token: str, seconds: float) -> None:
    queue = f"bench-submit-{row.clients}"
    body = request_body("CreateTask", {"input": {"taskType": "echo", "queue": queue, "inputData": PAYLOAD}})
    row.submitted = together(address, token, row.clients, seconds, lambda client, _: client.post(body))
    client = Client(address, token)
    bound = time.monotonic() + 2 * seconds
    while True:
        found = client.query(FINISHED, queue=queue)
        status = found["taskQueueStatus"]
        row.left = status["queuedTasks"] + status["processingTasks"]
        if not row.left or time.monotonic() > bound:
            break
        gevent.sleep(0.1)
    # What is left must not disturb what comes next.
    client.query(PAUSE, queue=queue)
    client.close()
    if status["failedTasks"]:
        raise click.ClickException(f"{status['failedTasks']} tasks failed")
    if found["last"]["tasks"]:
        last, first = found["last"]["tasks"][0]["completedAt"], found["first"]["tasks"][0]["createdAt"]
        row.finished = status["completedTasks"] / max(0.001, moment(last) - moment(first))


def measure_pickup(row: Row, address: str, token: str, seconds: float) -> None:
    host, port = address.removeprefix("http://").split(":")
    watch = Watch(address, token, sock=socket.create_connection((host, int(port))))
    waiting: dict[str, event.AsyncResult] = {}

    def listen() -> None:
        while True:
            change = watch.next(timeout=60)
            if change["status"] == "COMPLETED" and change["id"] in waiting:
                waiting.pop(change["id"]).set(change)

    def round_trip(client: Client, number: int) -> None:
        task_id = f"bench-pickup-{row.clients}-{number}"
        done = waiting[task_id] = event.AsyncResult()
        order = {"id": task_id, "taskType": "echo", "queue": f"bench-pickup-{row.clients}", "inputData": PAYLOAD}
        body = request_body("CreateTask", {"input": order})
        sent = time.time()
        client.post(body)
        task = done.get(timeout=30)
        row.pickup.append(1000 * (moment(task["startedAt"]) - moment(task["queuedAt"])))
        row.started.append(1000 * (moment(task["startedAt"]) - sent))

    listener = gevent.spawn(listen)
    try:
        together(address, token, row.clients, seconds, round_trip)
    finally:
        listener.kill()
        watch.close()


def together(address: str, token: str, clients: int, seconds: float, act: Callable[[Client, int], object]) -> float:
    """Let so many clients act again and again for so long; gives acts per second. `act` gets a number of its own."""
    numbers = iter(range(sys.maxsize))
    done = 0
    end = time.perf_counter() + seconds

    def one() -> None:
        nonlocal done
        client = Client(address, token)
        while time.perf_counter() < end:
            act(client, next(numbers))
            done += 1
        client.close()

    begin = time.perf_counter()
    gevent.joinall([gevent.spawn(one) for _ in range(clients)], raise_error=True)
    return done / (time.perf_counter() - begin)


@contextmanager
def running(command: list[str], ready: str) -> Iterator[str]:
    """A process that has printed that it is ready; gives what it printed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = ""
        try:
            for line in process.stdout:
                output += line
                if ready in line:
                    break
            else:
                raise click.ClickException(f"{command[1]} did not start: {output}")
            yield output
        finally:
            process.terminate()


def find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


def moment(text: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else math.nan


if __name__ == "__main__":
    main()
