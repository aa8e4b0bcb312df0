"""Settings: read once, checked at once, and a message that names the variable."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from taskyard.errors import StartupError
from taskyard.settings import Settings, effective, load_settings

#: Variables that other programs use as well, for the same thing.
COMMON = {"DATABASE_URL", "REDIS_URL", "JWT_SECRET"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        assert field.alias is not None
        monkeypatch.delenv(field.alias, raising=False)


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.queue_backend) == ("127.0.0.1", 4000, None)
    assert (settings.lease, settings.heartbeat, settings.poll, settings.retention_days) == (30, 5, 1, 7)
    assert (settings.jwt_secret, settings.default_processor, settings.strict_agents) == (None, None, False)
    assert (settings.database_url, settings.redis_url, settings.redis_prefix) == (None, None, "taskyard")


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.alias in COMMON or str(field.alias).startswith("TASKYARD_"), name


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TASKYARD_PORT", "http"),
        ("TASKYARD_PORT", "-1"),
        ("TASKYARD_PORT", "65536"),
        ("TASKYARD_PORT", ""),
        ("TASKYARD_CONCURRENCY", "0"),
        ("TASKYARD_CONCURRENCY", "10001"),
        ("TASKYARD_REDIS_PREFIX", ""),
        ("TASKYARD_REDIS_PREFIX", "{tasks}"),
        ("TASKYARD_QUEUE", "redis2"),
        ("TASKYARD_LEASE_SECONDS", "0.5"),
        ("TASKYARD_LEASE_SECONDS", "inf"),
        ("TASKYARD_LEASE_SECONDS", "nan"),
        ("TASKYARD_LEASE_SECONDS", "1e300"),
        ("TASKYARD_HEARTBEAT_SECONDS", "0"),
        ("TASKYARD_POLL_SECONDS", "0"),
        ("TASKYARD_DRAIN_SECONDS", "-1"),
        ("TASKYARD_DRAIN_SECONDS", "inf"),
        ("TASKYARD_TASK_TIMEOUT_SECONDS", "0"),
        ("TASKYARD_TASK_TIMEOUT_SECONDS", "1e300"),
        ("TASKYARD_MAX_RETRIES", "-1"),
        ("TASKYARD_MAX_RETRIES", "101"),
        ("TASKYARD_STARVE_SECONDS", "inf"),
        ("TASKYARD_RETENTION_DAYS", "1e300"),
        ("TASKYARD_DEMO_PROCESSORS", "perhaps"),
        ("TASKYARD_STRICT_AGENTS", "2"),
        ("JWT_SECRET", "short"),
        ("JWT_SECRET", ""),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError) as caught:
        load_settings()
    assert caught.value.message.startswith(f"bad setting: {variable}: ")
    assert caught.value.code == "CANNOT_START"


def test_several_bad_values_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKYARD_PORT", "x")
    monkeypatch.setenv("TASKYARD_MAX_RETRIES", "y")
    with pytest.raises(StartupError, match=r"TASKYARD_PORT: .*; TASKYARD_MAX_RETRIES: "):
        load_settings()


def test_a_bad_override_is_named_as_well() -> None:
    with pytest.raises(StartupError, match="TASKYARD_PORT: input should be less than or equal to 65535"):
        load_settings({"port": 70_000})


def test_a_short_secret_is_told_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "canary-in-a-mine")
    with pytest.raises(StartupError, match="JWT_SECRET: must have at least 32 bytes") as caught:
        load_settings()
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in str(error)
        error = error.__cause__


def test_a_secret_is_measured_in_bytes_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "ü" * 16)
    settings = load_settings()
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == "ü" * 16
    assert "ü" not in repr(settings)


def test_a_beat_must_come_twice_in_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKYARD_LEASE_SECONDS", "10")
    monkeypatch.setenv("TASKYARD_HEARTBEAT_SECONDS", "5")
    assert load_settings().heartbeat == 5
    monkeypatch.setenv("TASKYARD_HEARTBEAT_SECONDS", "5.01")
    with pytest.raises(StartupError, match=r"TASKYARD_HEARTBEAT_SECONDS.*TASKYARD_LEASE_SECONDS"):
        load_settings()


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_an_empty_url_is_none(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "")
    settings = load_settings()
    assert (settings.database_url, settings.redis_url) == (None, None)


def test_overrides_stand_above_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TASKYARD_PORT", "5000")
    monkeypatch.setenv("TASKYARD_DATA", "/elsewhere")
    monkeypatch.setenv("TASKYARD_HOST", "::1")
    settings = load_settings({"data": tmp_path, "port": None})
    assert (settings.data, settings.port, settings.host) == (tmp_path, 5000, "::1")


@pytest.mark.parametrize(("variable", "value"), [("HOST", "bogus"), ("PORT", "1"), ("DATA", "/x"), ("LEASE", "x")])
def test_what_others_call_so_is_not_ours(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert load_settings() == Settings.model_construct()


def test_the_effective_settings_are_every_variable_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKYARD_PORT", "5000")
    shown = effective(load_settings({"concurrency": 3}))
    assert shown.keys() == {field.alias for field in Settings.model_fields.values()}
    assert (shown["TASKYARD_PORT"], shown["TASKYARD_CONCURRENCY"]) == ("5000", "3")
    assert (shown["TASKYARD_LEASE_SECONDS"], shown["TASKYARD_STRICT_AGENTS"]) == ("30.0", "False")
    assert shown["JWT_SECRET"] == shown["TASKYARD_DEFAULT_PROCESSOR"] == ""


@pytest.mark.parametrize("variable", ["JWT_SECRET", "TASKYARD_TOKEN"])
def test_the_effective_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "canary " * 10)
    shown = effective(load_settings())
    assert shown[variable] == "**********"
    assert "canary" not in str(shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:canary@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql://ann:canary@host:5432/db?ssl=1", "postgresql://ann:***@host:5432/db?ssl=1"),
        ("postgresql://ann:can/ary@canary@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann@host/db?password=canary&ssl=1", "postgresql://ann@host/db?password=***&ssl=1"),
        ("postgresql://ann@host/db?ssl=1&password=canary", "postgresql://ann@host/db?ssl=1&password=***"),
        ("postgresql://ann@host/db?password=can@ary&ssl=1", "postgresql://ann@host/db?password=***&ssl=1"),
        ("postgresql://ann@host/db?sslpassword=canary&ssl=1", "postgresql://ann@host/db?sslpassword=***&ssl=1"),
        ("postgresql://ann:canary@host/db?password=canary", "postgresql://ann:***@host/db?password=***"),
        ("a:b@c", "a:b@c"),
    ],
)
def test_the_effective_settings_show_no_password_of_a_url(
    monkeypatch: pytest.MonkeyPatch, value: str, shown: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", value)
    settings = load_settings()
    assert effective(settings)["DATABASE_URL"] == shown
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"TASKYARD_QUEUE": "redis"}, "redis needs DATABASE_URL and REDIS_URL"),
        ({"TASKYARD_QUEUE": "redis", "REDIS_URL": "redis://h"}, "redis needs DATABASE_URL and REDIS_URL"),
        (
            {"TASKYARD_QUEUE": "memory", "DATABASE_URL": "postgresql://host/db"},
            "a queue in memory is only for SQLite",
        ),
    ],
)
def test_a_queue_needs_its_server(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], fault: str) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError, match=f"TASKYARD_QUEUE: {fault}"):
        load_settings()


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
