"""Who may do what: tokens, instances, roles, and the ways to the socket."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLNamedType,
    GraphQLNonNull,
    build_schema,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_required_argument,
)
from tests.support.process import PATIENCE, DevProcess
from tests.support.subscriber import Subscriber, subscribed
from tests.support.tokens import Mint, forged, unsigned
from websockets.exceptions import InvalidStatus

from taskyard_graphql.schema import export_sdl

pytestmark = pytest.mark.slow

SCHEMA = build_schema(export_sdl())
COUNT = "{ taskQueueStatus { totalTasks } }"
#: Arguments by which one task is named.
IDS = ("id", "taskId")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with DevProcess(tmp_path_factory.mktemp("access") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def mint(process: DevProcess) -> Mint:
    return Mint(process.data)


@pytest.fixture(scope="module")
def hidden(process: DevProcess, mint: Mint) -> str:
    """A task of the instance `theirs`."""
    token = mint.token("owner", "user", "theirs")
    return str(process.data_of(CREATE, {"instance": "theirs"}, token=token)["createAITask"]["id"])


CREATE = """mutation($instance: ID) {
  createAITask(input: {taskType: "by_hand", inputData: {}, instanceId: $instance}) { id instanceId owner }
}"""


def ask(process: DevProcess, authorization: str | None, query: str = COUNT) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.post(
        f"{process.address}/graphql", json={"query": query}, headers=headers, timeout=PATIENCE, trust_env=False
    )


def codes(body: dict[str, Any]) -> list[str]:
    return [error["extensions"]["code"] for error in body["errors"]]


# -- tokens over HTTP -------------------------------------------------------------------------


def test_without_a_token_nothing_is_told_and_nothing_is_done(process: DevProcess, mint: Mint) -> None:
    watcher = mint.token("watcher", "admin", "*")
    before = process.data_of(COUNT, token=watcher)
    mutation = 'mutation { createAITask(input: {taskType: "by_hand", inputData: {}}) { id } }'
    for query in (COUNT, mutation, "{ aiTasks { totalCount } }", "{ taskTypes { name } }", "{ workers { id } }"):
        answer = ask(process, None, query)
        assert (answer.status_code, codes(answer.json())) == (401, ["UNAUTHENTICATED"])
        assert "data" not in answer.json()
    assert process.data_of(COUNT, token=watcher) == before


@pytest.mark.parametrize("query", ["{ nonsense", "{ nonsense }", "{ __typename }", "{ __schema { description } }"])
def test_without_a_token_no_document_is_looked_at(process: DevProcess, query: str) -> None:
    for answer in (
        ask(process, None, query),
        httpx.get(f"{process.address}/graphql", params={"query": query}, timeout=PATIENCE, trust_env=False),
    ):
        assert (answer.status_code, codes(answer.json())) == (401, ["UNAUTHENTICATED"])


BAD: dict[str, Callable[[Mint], str]] = {
    "expired": lambda mint: mint.token("eve", ttl=-1),
    "unsigned": lambda _: unsigned(),
    "forged": lambda _: forged(),
    "another algorithm": lambda mint: mint.other_algorithm("HS512"),
    "broken": lambda mint: mint.token("eve").replace(".", ".e", 1),
    "cut": lambda mint: mint.token("eve")[:-4],
    "no token": lambda _: "hello",
    "empty": lambda _: "",
    "long": lambda _: "eyJ" + "A" * 5000,
    "nested": lambda _: base64.urlsafe_b64encode(b'{"a":' * 300 + b"1" + b"}" * 300).decode() + ".e30.e30",
    "no exp": lambda mint: mint.claiming(exp=None),
    "no sub": lambda mint: mint.claiming(sub=None),
    "no role": lambda mint: mint.claiming(role=None),
    "unknown role": lambda mint: mint.claiming(role="root"),
    "no instances": lambda mint: mint.claiming(instances=None),
    "instances as text": lambda mint: mint.claiming(instances="default"),
    "another audience": lambda mint: mint.claiming(aud="another"),
    "another issuer": lambda mint: mint.claiming(iss="another"),
}


def test_claims_as_they_should_be_are_taken(process: DevProcess, mint: Mint) -> None:
    """So that what follows is refused for its own fault alone."""
    assert ask(process, f"Bearer {mint.claiming()}").status_code == 200


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_is_refused_by_http_and_by_the_socket(process: DevProcess, mint: Mint, kind: str) -> None:
    token = BAD[kind](mint)
    answer = ask(process, f"Bearer {token}".strip())
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert codes(answer.json()) == ["UNAUTHENTICATED"]
    assert "data" not in answer.json()
    with Subscriber(process.address) as client:
        client.send({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
        assert client.closed() == 4403


@pytest.mark.parametrize("scheme", ["Basic", "Token", ""])
def test_only_bearer_is_a_scheme(process: DevProcess, mint: Mint, scheme: str) -> None:
    assert ask(process, f"{scheme} {mint.token('ada')}".strip()).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER  "])
def test_the_scheme_has_no_case(process: DevProcess, mint: Mint, scheme: str) -> None:
    answer = ask(process, f"{scheme} {mint.token('ada')}", CREATE)
    assert answer.json()["data"]["createAITask"]["owner"] == "ada"


# -- instances --------------------------------------------------------------------------------


def document_of(kind: str, name: str, field: GraphQLField, task_id: str) -> str:
    """An operation that asks for this field with the id and the least of other arguments."""
    given = {arg: f'"{task_id}"' for arg in field.args if arg in IDS}
    given |= {
        arg: literal(argument)
        for arg, argument in field.args.items()
        if arg not in IDS and is_required_argument(argument)
    }
    arguments = ", ".join(f"{arg}: {value}" for arg, value in given.items())
    selection = "" if is_leaf_type(get_named_type(field.type)) else " { __typename }"
    return f"{kind} {{ {name}({arguments}){selection} }}"


def literal(argument: GraphQLArgument) -> str:
    inner = argument.type.of_type if isinstance(argument.type, GraphQLNonNull) else argument.type
    if is_list_type(inner):
        return "[]"
    named: GraphQLNamedType = get_named_type(inner)
    if isinstance(named, GraphQLEnumType):
        return next(iter(named.values))
    return {"ID": '"x"', "String": '"x"', "Int": "1", "Float": "1", "Boolean": "true"}.get(named.name, "{}")


def fields_with_an_id(kind: str) -> dict[str, GraphQLField]:
    root = {"query": SCHEMA.query_type, "mutation": SCHEMA.mutation_type, "subscription": SCHEMA.subscription_type}[
        kind
    ]
    assert root is not None
    return {name: field for name, field in root.fields.items() if any(arg in field.args for arg in IDS)}


@pytest.mark.parametrize("kind", ["query", "mutation"])
@pytest.mark.parametrize("role", ["user", "agent", "worker", "admin"])
def test_a_foreign_task_is_not_found_by_any_operation(
    process: DevProcess, mint: Mint, hidden: str, kind: str, role: str
) -> None:
    stranger = mint.token("stranger", role, "ours")
    found = fields_with_an_id(kind)
    assert found
    for name, field in found.items():
        theirs = process.graphql(document_of(kind, name, field, hidden), token=stranger)
        nobodys = process.graphql(document_of(kind, name, field, "no-such-task"), token=stranger)
        assert codes(theirs) == ["NOT_FOUND"], name
        assert hidden in theirs["errors"][0]["message"]
        # The two cannot be told apart.
        for body in (theirs, nobodys):
            body["errors"][0].pop("locations")
        assert theirs == _renamed(nobodys, hidden)
    query = "query($id: ID!) { aiTask(id: $id) { status version } }"
    owner = mint.token("owner", "user", "theirs")
    assert process.data_of(query, {"id": hidden}, token=owner) == {"aiTask": {"status": "QUEUED", "version": 1}}


def _renamed(body: dict[str, Any], task_id: str) -> dict[str, Any]:
    body["errors"][0]["message"] = body["errors"][0]["message"].replace("no-such-task", task_id)
    return body


def test_a_foreign_task_is_not_found_by_any_subscription(process: DevProcess, mint: Mint, hidden: str) -> None:
    stranger = mint.token("stranger", "admin", "ours")
    found = fields_with_an_id("subscription")
    assert "aiTaskStatusChanged" in found
    for name, field in found.items():
        with subscribed(process.address, stranger, document_of("subscription", name, field, hidden)) as client:
            message = client.receive()
            errors = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
            assert [error["extensions"]["code"] for error in errors] == ["NOT_FOUND"], name


def test_a_foreign_instance_is_empty_to_lists_and_figures(process: DevProcess, mint: Mint, hidden: str) -> None:
    query = """{
      aiTasks { totalCount tasks { id } }
      named: aiTasks(filter: {instanceId: "theirs"}) { totalCount tasks { id } }
      taskQueueStatus { totalTasks }
      status: taskQueueStatus(instanceId: "theirs") { totalTasks }
      taskStatistics { totalTasks }
      figures: taskStatistics(filter: {instanceId: "theirs"}) { totalTasks }
      peekTasks { id }
      peeked: peekTasks(filter: {instanceId: "theirs"}) { id }
    }"""
    nothing: dict[str, Any] = {"totalCount": 0, "tasks": []}
    none = {"totalTasks": 0}
    assert process.data_of(query, token=mint.token("stranger", "admin", "ours")) == {
        "aiTasks": nothing, "named": nothing, "taskQueueStatus": none, "status": none, "taskStatistics": none,
        "figures": none, "peekTasks": [], "peeked": [],
    }  # fmt: skip
    seen = process.data_of(query, token=mint.token("owner", "user", "theirs"))
    assert seen["named"] == {"totalCount": 1, "tasks": [{"id": hidden}]}
    assert seen["status"] == seen["figures"] == {"totalTasks": 1}
    assert seen["peeked"] == [{"id": hidden}]


def test_nothing_is_taken_from_a_foreign_instance_or_put_in_it(process: DevProcess, mint: Mint, hidden: str) -> None:
    stranger = mint.token("stranger", "admin", "ours")
    dequeue = 'mutation { a: dequeueTasks { id } b: dequeueTasks(filter: {instanceId: "theirs"}) { id } }'
    assert process.data_of(dequeue, token=stranger) == {"a": [], "b": []}
    assert codes(process.graphql(CREATE, {"instance": "theirs"}, token=stranger)) == ["FORBIDDEN"]
    pause = 'mutation { pauseQueue(queue: "default", instanceId: "theirs") { paused } }'
    assert codes(process.graphql(pause, token=stranger)) == ["FORBIDDEN"]
    owner = mint.token("owner", "user", "theirs")
    assert process.data_of(COUNT, token=owner) == {"taskQueueStatus": {"totalTasks": 1}}
    assert process.data_of("{ peekTasks { id } }", token=owner) == {"peekTasks": [{"id": hidden}]}


def test_an_id_or_key_taken_in_another_instance_tells_nothing_of_it(process: DevProcess, mint: Mint) -> None:
    create = """mutation {
      createAITask(input: {taskType: "by_hand", inputData: {secret: 1}, idempotencyKey: "k1"}) { id instanceId }
    }"""
    first = process.data_of(create, token=mint.token("ada", "user", "one"))["createAITask"]
    second = process.data_of(create, token=mint.token("ada", "user", "two"))["createAITask"]
    assert first["id"] != second["id"]
    assert (first["instanceId"], second["instanceId"]) == ("one", "two")


def test_a_subscription_to_all_tasks_tells_of_the_tokens_instances_only(process: DevProcess, mint: Mint) -> None:
    query = "subscription { aiTaskStatusChanged { instanceId } }"
    with subscribed(process.address, mint.token("ada", "user", "red", "blue"), query) as client:
        for instance in ("red", "green", "blue"):
            process.data_of(CREATE, {"instance": instance}, token=mint.token("maker", "user", "*"))
        told = [client.next()["aiTaskStatusChanged"]["instanceId"] for _ in range(2)]
    assert told == ["red", "blue"]


# -- roles ------------------------------------------------------------------------------------

ADMINISTRATORS = {
    "workers": "{ workers { id } }",
    "pauseQueue": 'mutation { pauseQueue(queue: "spare") { paused } }',
    "resumeQueue": 'mutation { resumeQueue(queue: "spare") { paused } }',
    "cleanupOldTasks": "mutation { cleanupOldTasks { deletedCount } }",
    "timeoutStaleTasks": "mutation { timeoutStaleTasks(timeoutMs: 3600000) { timedOutCount } }",
}


@pytest.mark.parametrize("name", ADMINISTRATORS)
def test_what_is_the_administrators_own(process: DevProcess, mint: Mint, name: str) -> None:
    for role in ("user", "agent", "worker"):
        body = process.graphql(ADMINISTRATORS[name], token=mint.token("x", role, "*"))
        assert (codes(body), body["data"]) == (["FORBIDDEN"], None)
    assert process.data_of(ADMINISTRATORS[name], token=mint.token("x", "admin"))[name] is not None


def test_every_operation_that_says_so_is_for_administrators() -> None:
    said = {
        name
        for root in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type)
        for name, field in (root.fields.items() if root else ())
        if "for administrators" in (field.description or "").lower()
    }
    assert said <= ADMINISTRATORS.keys()


# -- the socket -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("Authorization", "Bearer "),
        ("Authorization", "bearer "),
        ("Authorization", ""),
        ("token", ""),
        ("token", "Bearer "),
    ],
)
def test_a_token_opens_the_socket(process: DevProcess, mint: Mint, name: str, scheme: str) -> None:
    with Subscriber(process.address) as client:
        assert client.init({name: scheme + mint.token("ada")}) == {"type": "connection_ack"}
        client.subscribe(CREATE)
        assert client.next()["createAITask"]["owner"] == "ada"
        assert client.receive() == {"id": "1", "type": "complete"}


@pytest.mark.parametrize(
    "payload",
    [None, {}, {"token": ""}, {"token": None}, {"token": 7}, {"Authorization": ["Bearer"]}, {"Authorization": {}}],
)
def test_without_a_token_the_socket_is_closed(process: DevProcess, payload: dict[str, object] | None) -> None:
    with Subscriber(process.address) as client:
        client.send({"type": "connection_init"} | ({} if payload is None else {"payload": payload}))
        assert client.closed() == 4403


def test_nothing_is_run_before_the_socket_is_acknowledged(process: DevProcess) -> None:
    with Subscriber(process.address) as client:
        client.subscribe(COUNT)
        assert client.closed() == 4401


def test_a_second_init_does_not_change_who_is_there(process: DevProcess, mint: Mint) -> None:
    with Subscriber(process.address) as client:
        client.init({"token": mint.token("ada")})
        client.send({"type": "connection_init", "payload": {"token": mint.token("eve", "admin")}})
        assert client.closed() == 4429


def test_legacy_graphql_ws_is_refused(process: DevProcess) -> None:
    with Subscriber(process.address, protocol="graphql-ws") as client:
        assert client.connection.subprotocol is None
        assert client.closed() == 4406


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"]
)
def test_a_page_of_another_origin_gets_no_socket(process: DevProcess, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        Subscriber(process.address, origin=origin)
    assert refused.value.response.status_code == 403


def test_a_page_of_our_own_origin_gets_one(process: DevProcess, mint: Mint) -> None:
    with Subscriber(process.address, origin=process.address) as client:
        assert client.init({"token": mint.token("ada")}) == {"type": "connection_ack"}


# -- GET --------------------------------------------------------------------------------------


def test_get_takes_queries_and_refuses_mutations(process: DevProcess, mint: Mint) -> None:
    headers = {"Authorization": f"Bearer {mint.token('ada', 'user', 'get')}", "Accept": "application/json"}

    def get(query: str) -> httpx.Response:
        return httpx.get(
            f"{process.address}/graphql", params={"query": query}, headers=headers, timeout=PATIENCE, trust_env=False
        )

    refused = get('mutation { createAITask(input: {taskType: "by_hand", inputData: {}}) { id } }')
    assert 400 <= refused.status_code < 500
    assert "mutations are not allowed" in refused.json()["errors"][0]["message"]
    found = get(COUNT)
    assert (found.status_code, found.json()) == (200, {"data": {"taskQueueStatus": {"totalTasks": 0}}})
