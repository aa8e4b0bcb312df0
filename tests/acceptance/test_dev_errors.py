"""What the command line says when something is wrong, and its smaller commands."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from tests.support.process import PATIENCE, TASKYARD, DevProcess, clean_environment, run_taskyard

from taskyard.principal import DEFAULT_INSTANCE, Role
from taskyard.runtime import Runtime
from taskyard_web import cli
from taskyard_web.app import build_app

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with DevProcess(tmp_path_factory.mktemp("cli") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, database_template: Path) -> Path:
    """A folder with a database and some modules, good and bad."""
    folder = tmp_path_factory.mktemp("bench")
    newer = folder / "newer"
    newer.mkdir()
    shutil.copy(database_template, newer / "taskyard.db")
    connection = sqlite3.connect(newer / "taskyard.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    (folder / "nodatabase").mkdir()
    (folder / "nodatabase" / "taskyard.db").write_text("this is a letter, and no database at all\n" * 200)
    (folder / "file").write_text("")
    (folder / "empty.py").write_text("x = 1\n")
    (folder / "broken.py").write_text("def f(:\n    pass\n")
    (folder / "raises.py").write_text("raise RuntimeError('the key is missing')\n")
    (folder / "twice.py").write_text(
        "from taskyard import processor\n\n\n@processor('echo')\nasync def mine(value, ctx):\n    return value\n"
    )
    (folder / "plain.py").write_text(
        "from taskyard import processor\n\n\n@processor('plain')\ndef mine(value, ctx):\n    return value\n"
    )
    return folder


CANNOT_START = {
    "a setting that is no number": ([], {"TASKYARD_PORT": "http"}, r"TASKYARD_PORT\b.*integer"),
    "a setting out of range": ([], {"TASKYARD_CONCURRENCY": "0"}, r"TASKYARD_CONCURRENCY\b.*greater than"),
    "settings that contradict": ([], {"TASKYARD_LEASE_SECONDS": "2"}, "TASKYARD_HEARTBEAT_SECONDS must be"),
    "a short secret": ([], {"JWT_SECRET": "short"}, "JWT_SECRET: must have at least 32 bytes"),
    "a port that is none": (["--port", "70000"], {}, r"TASKYARD_PORT.*65535"),
    "a port below none": (["--port", "-1"], {}, r"TASKYARD_PORT.*0"),
    "an address that is not ours": (["--host", "192.0.2.1"], {}, "cannot listen on 192.0.2.1"),
    "an address that is none": (["--host", "no such host"], {}, "cannot listen on no such host"),
    "a missing module": (["--import", "no_such_module"], {}, "no_such_module cannot be imported: .*No module named"),
    "a missing file": (["--import", "missing.py"], {}, "there is no file missing.py"),
    "a module without processors": (["--import", "empty"], {}, "empty holds no processor: mark one with @processor"),
    "a file without processors": (["--import", "empty.py"], {}, "empty.py holds no processor"),
    "a file that is no Python": (["--import", "broken.py"], {}, "broken.py cannot be imported: SyntaxError"),
    "a module that raises": (
        ["--import", "raises"],
        {},
        "raises cannot be imported: RuntimeError: the key is missing",
    ),
    "a type declared twice": (
        ["--import", "twice.py"],
        {},
        "declares the task type 'echo', which is declared already",
    ),
    "a processor that is not async": (["--import", "plain.py"], {}, "'plain' must be an async function"),
    "an unknown default processor": (
        [],
        {"TASKYARD_DEFAULT_PROCESSOR": "no_such_type"},
        "TASKYARD_DEFAULT_PROCESSOR: no processor named 'no_such_type' is loaded; there are delay, echo",
    ),
    "a database of a newer Taskyard": (["--data", "newer"], {}, "was made by a newer Taskyard"),
    "a file that is no database": (
        ["--data", "nodatabase"],
        {},
        "taskyard.db cannot be opened: file is not a database",
    ),
    "a data folder that is a file": ([], {"TASKYARD_DATA": "file"}, "the data folder file cannot be used"),
    "a data folder below a file": (["--data", "file/data"], {}, "the data folder file/data cannot be used"),
    "a data folder nobody may write": (
        ["--data", "/proc/taskyard"],
        {},
        "the data folder /proc/taskyard cannot be used",
    ),
}


@pytest.mark.parametrize("what", CANNOT_START)
def test_dev_says_in_one_sentence_why_it_cannot_start(bench: Path, what: str) -> None:
    arguments, env, message = CANNOT_START[what]
    folder = [] if "--data" in arguments or "TASKYARD_DATA" in env else ["--data", "fresh"]
    port = [] if "--port" in arguments or "TASKYARD_PORT" in env else ["--port", "0"]
    said = run_taskyard("dev", *port, *folder, *arguments, env=env, expect=1, cwd=bench)
    check_sentence(said, message)


def check_sentence(said: str, message: str) -> None:
    assert re.fullmatch(r"Error: [^\n]+\n", said), said
    assert re.search(message, said), said
    assert "Traceback" not in said
    assert "sqlalche.me" not in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_dev_says_that_it_may_not_write_its_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    check_sentence(
        run_taskyard("dev", "--port", "0", "--data", str(tmp_path / "data"), expect=1),
        "cannot be used: Permission denied",
    )


def test_dev_says_that_the_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = run_taskyard("dev", "--port", str(port), "--data", str(tmp_path), expect=1)
    check_sentence(said, f"port {port} on 127.0.0.1 is taken: .*--port")


def test_dev_says_that_the_data_folder_is_in_use(process: DevProcess) -> None:
    said = run_taskyard("dev", "--port", "0", "--data", str(process.data), expect=1)
    check_sentence(said, "is in use by another Taskyard: .*--data")
    assert process.data_of("{ __typename }") == {"__typename": "Query"}


@pytest.mark.parametrize("arguments", [["dev", "--port", "http"], ["dev", "--nonsense"], ["nonsense"]])
def test_wrong_usage_is_shown_with_the_usage(arguments: list[str]) -> None:
    said = run_taskyard(*arguments, expect=2)
    assert said.startswith("Usage: taskyard")
    assert "\nError: " in said
    assert "Traceback" not in said


# -- the smaller commands ---------------------------------------------------------------------


def test_token_prints_a_token_alone_and_it_works(process: DevProcess) -> None:
    done = subprocess.run(
        [str(TASKYARD), "token", "--sub", "ada", "--data", str(process.data)],
        capture_output=True,
        text=True,
        env=clean_environment(None),
        timeout=PATIENCE,
        check=True,
    )
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout)
    assert done.stderr == ""
    token = done.stdout.strip()
    create = 'mutation { createAITask(input: {taskType: "by_hand", inputData: {}}) { owner instanceId } }'
    made = process.data_of(create, token=token)["createAITask"]
    assert made == {"owner": "ada", "instanceId": DEFAULT_INSTANCE}
    refused = process.graphql("{ workers { id } }", token=token)
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


def test_token_of_a_role_and_instances(process: DevProcess) -> None:
    token = process.make_token("grace", "admin", "north", "south")
    assert process.data_of("{ workers { status } }", token=token) == {"workers": [{"status": "ALIVE"}]}
    create = """mutation($instance: ID) {
      createAITask(input: {taskType: "by_hand", inputData: {}, instanceId: $instance}) { instanceId }
    }"""
    for instance in ("north", "south"):
        made = process.data_of(create, {"instance": instance}, token=token)
        assert made["createAITask"]["instanceId"] == instance
    refused = process.graphql(create, {"instance": "default"}, token=token)
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


def test_token_is_signed_with_the_secret_of_the_environment(process: DevProcess, tmp_path: Path) -> None:
    secret = (process.data / "jwt_secret").read_text()
    token = run_taskyard(
        "token", "--sub", "ada", "--data", str(tmp_path / "none"), env={"JWT_SECRET": secret}
    ).strip()
    assert process.data_of("{ taskQueueStatus { totalTasks } }", token=token)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--sub'"),
        (["--sub", "ada", "--role", "root"], "'root' is not one of 'user', 'agent', 'worker', 'admin'"),
        (["--sub", "ada", "--ttl", "0"], "0 is not in the range"),
        (["--sub", "ada", "--ttl", "99999999999999"], "99999999999999 is not in the range"),
        (["--sub", ""], "'--sub': must not be empty"),
        (["--sub", "ada", "--instance", ""], "'--instance': must not be empty"),
        (["--sub", "ada", "--ttl", "soon"], "'soon' is not a valid integer"),
    ],
)
def test_token_refuses_bad_arguments(arguments: list[str], message: str) -> None:
    said = run_taskyard("token", *arguments, expect=2)
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["--data", "file/data"], {}, "there is no secret to sign a token with"),
        ([], {"JWT_SECRET": "short"}, "JWT_SECRET: must have at least 32 bytes"),
    ],
)
def test_token_says_in_one_sentence_what_is_wrong(
    bench: Path, arguments: list[str], env: dict[str, str], message: str
) -> None:
    check_sentence(run_taskyard("token", "--sub", "ada", *arguments, env=env, expect=1, cwd=bench), message)


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", run_taskyard("version"))


def test_config_prints_the_settings_that_hold(tmp_path: Path) -> None:
    env = {"JWT_SECRET": "canary " * 10, "TASKYARD_PORT": "5000"}
    said = run_taskyard("config", env=env, cwd=tmp_path)
    lines = said.splitlines()
    assert {"TASKYARD_PORT=5000", "TASKYARD_HOST=127.0.0.1", "TASKYARD_TOKEN=", "JWT_SECRET=**********"} <= {*lines}
    assert all(re.fullmatch(r"[A-Z_]+=.*", line) for line in lines)
    assert "canary" not in said
    assert list(tmp_path.iterdir()) == []
    check_sentence(run_taskyard("config", env={"TASKYARD_PORT": "http"}, expect=1), "TASKYARD_PORT")


def test_schema_prints_the_published_contract() -> None:
    assert run_taskyard("schema") == (ROOT / "graphql" / "schema.graphql").read_text()


def test_help_names_every_command() -> None:
    said = run_taskyard("--help")
    assert {"dev", "serve", "migrate", "token", "watch", "schema", "config", "version"} <= cli.main.commands.keys()
    for name, command in cli.main.commands.items():
        assert re.search(rf"^  {name} +\S", said, re.MULTILINE)
        assert command.help


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["token", "--help"], ["dev", "--help"]])
def test_help_and_version_load_next_to_nothing(arguments: list[str]) -> None:
    program = f"""
import sys
from taskyard_web.cli import main
main({arguments!r}, standalone_mode=False)
print(*sorted({{name.partition('.')[0] for name in sys.modules}}), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=clean_environment(None),
        timeout=PATIENCE,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "click" in loaded
    heavy = {
        "pydantic",
        "jose",
        "cryptography",
        "sqlalchemy",
        "strawberry",
        "graphql",
        "starlette",
        "uvicorn",
        "asyncio",
    }
    assert not loaded & heavy


def test_the_roles_of_the_command_line_are_those_of_the_core() -> None:
    assert tuple(role.value for role in Role) == cli.ROLES


# -- pages ------------------------------------------------------------------------------------


def get(process: DevProcess, path: str, accept: str = "*/*") -> httpx.Response:
    return httpx.get(f"{process.address}{path}", headers={"Accept": accept}, timeout=PATIENCE, trust_env=False)


def test_health_answers_without_a_token(process: DevProcess) -> None:
    answer = get(process, "/api/ai/tasks/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {"database": "ok"}})


def test_the_start_page_shows_a_line_that_creates_a_task(process: DevProcess, tmp_path: Path) -> None:
    page = get(process, "/", "text/html")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    found = re.search(r"<code>(curl .*)</code>", page.text)
    assert found is not None
    # As a newcomer would: in the folder of the data, with `taskyard` on the path.
    env = clean_environment({"TASKYARD_DATA": str(process.data)})
    env["PATH"] = f"{TASKYARD.parent}:{env['PATH']}"
    ran = subprocess.run(["sh", "-c", unescape(found[1])], capture_output=True, env=env, timeout=PATIENCE, check=True)
    assert json.loads(ran.stdout)["data"]["createAITask"]["status"] == "QUEUED"


def test_the_line_that_dev_prints_creates_a_task(process: DevProcess) -> None:
    found = re.search(r"^curl .*$", process.output, re.MULTILINE)
    assert found is not None
    ran = subprocess.run(["sh", "-c", found[0]], capture_output=True, timeout=PATIENCE, check=True)
    assert json.loads(ran.stdout)["data"]["createAITask"]["status"] == "QUEUED"


def test_graphiql_is_for_browsers(process: DevProcess) -> None:
    page = get(process, "/graphql", "text/html,application/xhtml+xml,*/*;q=0.8")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.status_code in (200, 503)  # without its assets it says how to build them
    data = get(process, "/graphql", "application/json")
    assert data.status_code == 401
    assert data.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_graphiql_is_there_in_dev_only(runtime: Runtime) -> None:
    transport = httpx.ASGITransport(build_app(runtime, graphiql=False))
    async with httpx.AsyncClient(transport=transport, base_url="http://taskyard") as client:
        page = await client.get("/graphql", headers={"Accept": "text/html"})
        assert page.status_code == 404
        assert "html" not in page.headers["content-type"]
        assert (await client.get("/graphiql/graphiql.js")).status_code == 404
        assert 'href="graphql"' not in (await client.get("/")).text
