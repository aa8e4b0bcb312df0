"""Load on GraphQL: some submit, some list, some watch. `loadtests/README.md` says how to run it."""

from datetime import UTC, datetime
from typing import Any

from locust import FastHttpUser, User, between, events, task
from locust.argument_parser import LocustArgumentParser

from operations import headers, request_body
from watching import Watch


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator] # locust says nothing of it
def _arguments(parser: LocustArgumentParser, **_: Any) -> None:
    parser.add_argument(
        "--token", env_var="TASKYARD_TOKEN", default="", is_secret=True, help="token of the users (TASKYARD_TOKEN)"
    )


class GraphQLUser(FastHttpUser):
    """Sends named operations. HTTP says 200 even if GraphQL found errors: those count as failures here."""

    abstract = True

    def execute(self, name: str, variables: dict[str, Any]) -> None:
        with self.client.post(
            "/graphql",
            data=request_body(name, variables).decode(),
            headers=headers(self.environment.parsed_options.token),
            name=name,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"HTTP {response.status_code}")
            elif errors := response.json().get("errors"):
                response.failure(f"{errors[0].get('extensions', {}).get('code')}: {errors[0]['message']}")


class Submitter(GraphQLUser):
    """An application that submits short work."""

    weight = 3
    wait_time = between(0.05, 0.15)

    @task
    def submit(self) -> None:
        self.execute("CreateTask", {"input": {"taskType": "echo", "inputData": {"text": "x" * 200}}})


class Lister(GraphQLUser):
    """Somebody who looks at the newest tasks, and at those that failed."""

    wait_time = between(0.2, 0.6)

    @task(3)
    def newest(self) -> None:
        self.execute("ListTasks", {"first": 20})

    @task
    def failed(self) -> None:
        self.execute("ListTasks", {"first": 20, "filter": {"status": ["FAILED"]}})


class Watcher(User):
    """A console that hears of every change. Its response time is that from the change, as the task's own
    `updatedAt` tells it, to the message: the clocks of server and load generator must agree.
    """

    def on_start(self) -> None:
        assert self.host is not None, "name the server with --host"
        self.watch = Watch(self.host, self.environment.parsed_options.token)

    def on_stop(self) -> None:
        self.watch.close()

    @task
    def hear(self) -> None:
        failure: Exception | None = None
        delay = 0.0
        try:
            change = self.watch.next(timeout=1)
            delay = (datetime.now(UTC) - datetime.fromisoformat(change["updatedAt"])).total_seconds() * 1000
        except TimeoutError:
            return
        except (ConnectionError, OSError) as error:
            failure = error
        self.environment.events.request.fire(
            request_type="WS", name="WatchTasks", response_time=max(0.0, delay), response_length=0,
            exception=failure, context={},
        )  # fmt: skip
        if failure is not None:
            self.watch.close()
            self.on_start()
