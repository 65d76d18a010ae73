"""Settings that several services share; each service adds its own in ``services/<name>/settings.py``.

Every setting comes from the environment: ``KIOSK_`` and the path of the field, two underscores between the levels,
as in ``KIOSK_REDIS__URL``. A wrong or missing value names itself and ends the process with exit code 2.
"""

from __future__ import annotations

import os
import socket
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import Misconfigured

S = TypeVar("S", bound="ServiceSettings")

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Group(BaseModel):
    """A nested group of settings: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RedisSettings(Group):
    """Where the jobs are."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """redis://, rediss://, redis+sentinel:// or redis+cluster://; secret, since it may hold a password."""
    prefix: str = "{kiosk}:"
    """Of all keys of this deployment; the braces keep them in one slot of a cluster."""
    notifications: bool = True
    """Whether to use keyspace notifications; off, changes are seen at the reconcile period only."""
    reconcile: Seconds = 5.0
    """s; how often the truth is read without any notification: the longest delay a lost one can cause."""


class StorageSettings(Group):
    """Where images and results are."""

    url: str = "file://./data/storage"
    """file:///folder or gs://bucket/prefix."""
    deployment: str = "kiosk"
    """Marks the objects that this deployment wrote; only those are ever removed by the janitor."""
    gcs_api_root: str = ""
    """Another address of the GCS API, for an emulator; empty for the real one."""


class TelemetrySettings(Group):
    """What a service tells of itself."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged: debug, info, warning or error."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """json, console, or auto: readable on a terminal, JSON elsewhere."""
    otlp_endpoint: str = ""
    """OTLP/HTTP collector, such as http://collector:4318; empty: no traces leave the process."""
    trace_ratio: float = Field(1.0, ge=0, le=1)
    """Share of traces that are kept, decided where a trace begins."""
    trace_rate: float = Field(20.0, ge=0)
    """Traces/s that one process begins and keeps at most, so that a flood of small jobs costs little."""


class HealthSettings(Group):
    """The side port with /healthz, /readyz and /metrics."""

    host: str = "0.0.0.0"  # noqa: S104  # probes and scrapes come from outside the container
    """Address to listen at."""
    port: Port = 9090
    """TCP port; 0 takes a free one and logs it; every service of `kiosk up` gets its own."""


class ServiceSettings(BaseSettings):
    """What every service needs."""

    model_config = SettingsConfigDict(
        env_prefix="KIOSK_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    name: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Of this process, unique in the deployment; the pod's name in Kubernetes."""
    grace: Seconds = 25.0
    """s to finish work after SIGTERM; less than terminationGracePeriodSeconds, which kills."""
    redis: RedisSettings = RedisSettings()
    storage: StorageSettings = StorageSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    health: HealthSettings = HealthSettings()


def load(kind: type[S]) -> S:
    """Read and check a service's settings from the environment.

    Raises:
        Misconfigured: naming every variable that is wrong or missing, and what is allowed.
    """
    try:
        return kind()
    except ValidationError as error:
        wrong = "; ".join(f"{_variable(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise Misconfigured(f"These settings are wrong: {wrong}.") from error


def _variable(path: tuple[int | str, ...]) -> str:
    return "KIOSK_" + "__".join(str(step).upper() for step in path)
