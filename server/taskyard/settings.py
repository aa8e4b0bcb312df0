"""Settings: one frozen object, built once at start, checked there. No other module reads the environment."""

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from taskyard.errors import StartupError

#: HS256 wants a key at least as long as its digest (RFC 7518, 3.2).
MIN_SECRET_BYTES = 32
#: In a URL: what stands between the user's name and the last @, or in the parameter of that name.
_PASSWORDS = (
    re.compile(r"([?&](?:ssl)?password=)[^&\s]*"),
    # To the last @: one that is not encoded may have some.
    re.compile(r"(://[^:/@\s]*:)\S*(?=@)"),
)


class QueueBackend(StrEnum):
    """Where the index of ready tasks is kept; the tasks themselves are always in the database."""

    MEMORY = "memory"
    REDIS = "redis"
    SQL = "sql"


class Settings(BaseSettings):
    """Every setting, with its environment variable as alias. Durations are seconds."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        # Fields are looked for by name as well: without a prefix, any HOST or PORT would be taken for ours.
        env_prefix="TASKYARD_",
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    data: Path = Field(default=Path(".taskyard"), alias="TASKYARD_DATA", description="data folder")
    # Not secrets as a whole: where they lead is worth showing. `effective` masks their passwords.
    database_url: str | None = Field(
        default=None,
        repr=False,
        alias="DATABASE_URL",
        description="PostgreSQL, as postgresql://; unset: SQLite in the data folder",
    )
    redis_url: str | None = Field(
        default=None,
        repr=False,
        alias="REDIS_URL",
        description="Redis, as redis://; unset: PostgreSQL does its work as well",
    )
    redis_prefix: str = Field(
        default="taskyard",
        pattern=r"^[A-Za-z0-9_.:-]{1,100}$",
        alias="TASKYARD_REDIS_PREFIX",
        description="what every key and channel in Redis begins with",
    )
    jwt_secret: SecretStr | None = Field(
        default=None, alias="JWT_SECRET", description="key that signs the tokens, 32 bytes or more"
    )
    token: SecretStr | None = Field(
        default=None, alias="TASKYARD_TOKEN", description="token that `watch` shows to the server"
    )
    host: str = Field(default="127.0.0.1", alias="TASKYARD_HOST", description="address to listen on")
    port: int = Field(default=4000, ge=0, le=65535, alias="TASKYARD_PORT", description="port; 0: any free one")
    concurrency: int = Field(
        default=10, ge=1, le=10_000, alias="TASKYARD_CONCURRENCY", description="tasks a worker runs at once"
    )
    queue_backend: QueueBackend | None = Field(
        default=None,
        alias="TASKYARD_QUEUE",
        description="memory, redis or sql; unset: memory on SQLite, otherwise redis with REDIS_URL, sql without",
    )
    lease: float = Field(
        default=30,
        ge=1,
        le=86_400,
        alias="TASKYARD_LEASE_SECONDS",
        description="how long a claim holds without a heartbeat",
    )
    heartbeat: float = Field(
        default=5,
        gt=0,
        alias="TASKYARD_HEARTBEAT_SECONDS",
        description="how often a worker renews its leases",
    )
    poll: float = Field(
        default=1, gt=0, alias="TASKYARD_POLL_SECONDS", description="the worker's poll below its wake-ups"
    )
    drain: float = Field(
        default=20,
        ge=0,
        le=86_400,
        alias="TASKYARD_DRAIN_SECONDS",
        description="how long a stop waits for running tasks",
    )
    task_timeout: float = Field(
        default=3600,
        gt=0,
        le=604_800,
        alias="TASKYARD_TASK_TIMEOUT_SECONDS",
        description="longest run of a task whose type sets no time-out",
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        le=100,
        alias="TASKYARD_MAX_RETRIES",
        description="retries where task and type set none",
    )
    starve: float = Field(
        default=60,
        gt=0,
        le=86_400,
        alias="TASKYARD_STARVE_SECONDS",
        description="age at which a task of low priority gets its turn",
    )
    retention_days: float = Field(
        default=7,
        gt=0,
        le=36_500,
        alias="TASKYARD_RETENTION_DAYS",
        description="how long finished tasks are kept by cleanup",
    )
    default_processor: str | None = Field(
        default=None,
        alias="TASKYARD_DEFAULT_PROCESSOR",
        description="type whose processor does unknown types",
    )
    demo_processors: bool = Field(
        default=True,
        alias="TASKYARD_DEMO_PROCESSORS",
        description="load echo, mock_content, delay, random_failure",
    )
    strict_agents: bool = Field(
        default=False,
        alias="TASKYARD_STRICT_AGENTS",
        description="refuse tasks for agents that are not known",
    )

    @field_validator("database_url", "redis_url", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        # So that a compose file may pass a variable on that nobody has set.
        return None if value == "" else value

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
        return secret


def load_settings(overrides: Mapping[str, Any] | None = None, *, without: Collection[str] = ()) -> Settings:
    """Settings from the environment, with `overrides` by field name above it.

    The fields in `without` are unset whatever the environment says, unless they are overridden. Raises
    `StartupError`, which names the variable that is wrong.
    """
    given = dict.fromkeys(without) | {key: value for key, value in (overrides or {}).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults = "; ".join(f"{_variable(fault['loc'])}: {_plain(fault['msg'])}" for fault in error.errors())
        raise StartupError(f"bad setting: {faults}") from error
    if settings.heartbeat * 2 > settings.lease:
        raise StartupError("bad setting: TASKYARD_HEARTBEAT_SECONDS must be at most half of TASKYARD_LEASE_SECONDS")
    if settings.queue_backend is QueueBackend.MEMORY and settings.database_url is not None:
        raise StartupError("bad setting: TASKYARD_QUEUE: a queue in memory is only for SQLite; choose redis or sql")
    if settings.queue_backend is QueueBackend.REDIS and None in (settings.database_url, settings.redis_url):
        raise StartupError("bad setting: TASKYARD_QUEUE: redis needs DATABASE_URL and REDIS_URL")
    return settings


def effective(settings: Settings) -> dict[str, str]:
    """The value of each variable as text: secrets are masked, and so are passwords inside URLs."""
    values = {
        field.alias or name: "" if getattr(settings, name) is None else str(getattr(settings, name))
        for name, field in Settings.model_fields.items()
    }
    return {variable: _without_passwords(value) for variable, value in values.items()}


def _without_passwords(value: str) -> str:
    for password in _PASSWORDS:
        value = password.sub(r"\1***", value)
    return value


def _variable(location: tuple[str | int, ...]) -> str:
    name = str(location[0]) if location else "settings"
    field = Settings.model_fields.get(name)
    return (field.alias or name) if field else name


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").lower()
