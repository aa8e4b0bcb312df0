"""compose.yaml, the Dockerfile and docs/deploy.md: valid by the tools of the field, and true of this version."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from tests.support.deploy import COMPOSE, DOCKERFILE, DOCS, ROOT, Step, compose, docs_blocks, stages

from taskyard.settings import Settings
from taskyard_web.cli import main
from taskyard_web.ending import GRACE
from taskyard_web.health import PATH
from taskyard_web.server import CLOSE_BOUND
from taskyard_workers.attempt import STOP_GRACE

BIN = Path(sys.executable).parent
FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}
#: What the images of others read.
FOREIGN = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}
OURS = ("migrate", "serve", "worker")


def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([sm])", text).groups()  # type: ignore[union-attr] - or the test fails
    return int(number) * {"s": 1, "m": 60}[unit]


def shown(name: str) -> str:
    """A setting's default as the environment has it."""
    default = FIELDS[name].default
    return str(default).lower() if isinstance(default, bool) else "" if default is None else str(default)


def passes(*command: str) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_compose_is_valid_by_the_compose_specification(tmp_path: Path) -> None:
    override = tmp_path / "compose.override.yaml"
    override.write_text(*docs_blocks("yaml"))
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE), str(override))


def test_every_variable_of_compose_is_known_and_its_default_is_ours() -> None:
    text = COMPOSE.read_text() + (ROOT / ".env.example").read_text()
    named = set(re.findall(r"\$\{(\w+)", text)) | set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    assert "JWT_SECRET" in named
    assert named - FIELDS.keys() - FOREIGN == set()
    defaults = re.findall(r"\$\{(\w+):-([^}]*)\}", text) + re.findall(r"^#([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert len(defaults) >= 8
    assert defaults == [(name, shown(name)) for name, _ in defaults]


def test_every_variable_of_a_container_is_one_that_it_reads() -> None:
    for name, service in services().items():
        known = FIELDS.keys() if name in OURS else FOREIGN
        assert service.get("environment", {}).keys() - known == set(), name


@pytest.mark.parametrize("name", ["JWT_SECRET", "POSTGRES_PASSWORD"])
def test_compose_refuses_to_start_without_a_secret(name: str) -> None:
    uses = re.findall(rf"\$\{{{name}[^}}]*\}}", COMPOSE.read_text())
    assert uses
    assert all(use.startswith(f"${{{name}:?") for use in uses)
    assert re.search(rf"^{name}=$", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_no_container_has_more_rights_than_it_needs() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert "privileged" not in service
        # Ours run as the Dockerfile says, the others as the user that their image has for it.
        assert service.get("user") == (None if name in OURS else name), name


def test_only_serve_can_be_reached_and_only_from_this_machine() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {"serve": ["127.0.0.1:4000-4001:4000"]}
    assert services()["serve"]["deploy"]["replicas"] == 2
    assert compose()["networks"]["data"] == {"internal": True}
    for name in ("postgres", "redis", "migrate"):
        assert services()[name]["networks"] == ["data"], name


def test_nothing_starts_before_what_it_needs() -> None:
    for name in ("serve", "worker"):
        assert services()[name]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
    assert services()["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services()["migrate"]["restart"] == "no"
    assert services()["postgres"]["healthcheck"]["test"][1] == "pg_isready"
    assert services()["redis"]["healthcheck"]["test"][1] == "redis-cli"


def test_a_container_has_time_to_drain() -> None:
    for name in ("serve", "worker"):
        drain = float(services()[name]["environment"]["TASKYARD_DRAIN_SECONDS"])
        assert seconds(services()[name]["stop_grace_period"]) > drain + STOP_GRACE + GRACE + CLOSE_BOUND, name


def test_redis_keeps_what_it_is_given() -> None:
    command = services()["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


def test_the_image_is_named_after_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {services()[name]["image"] for name in OURS} == {f"taskyard:{version}"}


@pytest.mark.slow
def test_every_dockerfile_passes_the_linter(tmp_path: Path) -> None:
    examples = docs_blocks("dockerfile")
    assert len(examples) == 2
    for number, example in enumerate(examples):
        (tmp_path / f"Dockerfile.{number}").write_text(example)
    passes("hadolint", "--no-color", "--failure-threshold", "style", str(DOCKERFILE), *map(str, tmp_path.iterdir()))


def test_the_image_is_small_and_its_user_is_nobody_special() -> None:
    build, final = stages()
    assert {stage[0].rest.split()[0] for stage in (build, final)} == {"python:${PYTHON}-slim"}
    assert [step for step in final if step.keyword == "COPY"] == [
        Step("COPY", ("--from=build",), "/opt/taskyard /opt/taskyard")
    ]
    (user,) = (step.rest for step in final if step.keyword == "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    steps = {step.keyword: step for step in final}
    assert steps["ENTRYPOINT"].words == ["taskyard"]
    assert steps["CMD"].words == ["serve", "--host", "0.0.0.0"]
    assert "PYTHONUNBUFFERED=1" in steps["ENV"].rest
    assert PATH in steps["HEALTHCHECK"].rest


def test_the_builder_is_given_what_the_image_is_made_from_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = {
        source.rstrip("/") for step in stages()[0] if step.keyword == "COPY" for source in step.rest.split()[:-1]
    }
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied


def pins(name: str) -> dict[str, set[str]]:
    """Version and hashes of each package of a lock file."""
    found = re.findall(r"^([\w.-]+)==(.*\\\n(?:    --hash.*\n)+)", (ROOT / name).read_text(), re.MULTILINE)
    return {package: {text.split()[0], *re.findall(r"sha256:\w+", text)} for package, text in found}


def test_the_runtime_lock_is_what_taskyard_needs_out_of_the_whole_lock() -> None:
    runtime, everything = pins("requirements-runtime.lock"), pins("requirements.lock")
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    named = {re.split(r"[\[<>=]", need)[0] for need in needs}
    assert named - runtime.keys() == set(), "run: make lock"
    assert {name: everything.get(name) for name in runtime} == runtime, "run: make lock"
    assert runtime.keys().isdisjoint({"pytest", "mypy", "ruff", "locust", "hatchling"})


def test_the_table_of_settings_is_true() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \| [^|]+ \| [^|]+ \|$", DOCS.read_text(), re.MULTILINE)
    assert {"DATABASE_URL", "REDIS_URL", "JWT_SECRET"} <= {name for name, _ in rows}
    assert rows == [(name, f"{shown(name)} ".strip()) for name, _ in rows]


def test_every_variable_in_the_docs_is_a_setting() -> None:
    named = set(re.findall(r"\b(TASKYARD_[A-Z_]+|JWT_[A-Z_]+|DATABASE_URL|REDIS_URL)\b", DOCS.read_text()))
    assert len(named) > 8
    assert named - FIELDS.keys() == set()


def test_every_command_in_the_docs_exists_with_its_options() -> None:
    code = "\n".join([*re.findall(r"`([^`\n]+)`", DOCS.read_text()), *docs_blocks("[a-z]+")])
    lines = re.findall(r"(?:(?<=bin/)|(?<!-U )(?<![/\w]))taskyard ([a-z]+)((?: --?[a-z][^\n]*)?)", code)
    lines += re.findall(r"compose run --rm \w+ ([a-z]+)((?: --?[a-z][^\n]*)?)", code)
    assert {"serve", "worker", "migrate", "token", "config"} <= {command for command, _ in lines}
    for name, rest in lines:
        command = main.commands[name]
        known = {option for one in command.params if isinstance(one, click.Option) for option in one.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) - known == set(), f"taskyard {name}{rest}"
    run = {service["command"][0] for name, service in services().items() if name in OURS and "command" in service}
    assert run - main.commands.keys() == set()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd on this machine")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    names = re.findall(r"`/etc/systemd/system/(\S+@\.service)`", DOCS.read_text())
    assert names == ["taskyard-serve@.service", "taskyard-worker@.service"]
    for name, unit in zip(names, docs_blocks("systemd"), strict=True):
        installed = unit.replace("/opt/taskyard/bin/taskyard", str(BIN / "taskyard"))
        assert installed != unit
        (tmp_path / name).write_text(installed)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        # Other lines are about other units of the machine.
        faults = [line for line in done.stderr.splitlines() if name.partition("@")[0] in line]
        assert (done.returncode, faults) == (0, [])


def test_systemd_gives_a_worker_time_to_drain() -> None:
    for unit in docs_blocks("systemd"):
        options = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
        assert options["KillMode"] == "mixed"
        assert (
            int(options["TimeoutStopSec"])
            > FIELDS["TASKYARD_DRAIN_SECONDS"].default + STOP_GRACE + GRACE + CLOSE_BOUND
        )


def test_the_health_check_in_the_docs_is_the_one_that_is_served() -> None:
    assert set(re.findall(r"/api/\S*?health", DOCS.read_text())) == {PATH}
