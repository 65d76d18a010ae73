"""The autoscaler's settings, beside those that all services share."""

from __future__ import annotations

import sys
from typing import Literal

from pydantic import Field, field_validator

from services.autoscaler.targets import Target, check_names
from shared.settings import Group, Seconds, ServiceSettings


class LocalSettings(Group):
    """Worker processes on this machine."""

    command: tuple[str, ...] = (sys.executable, "-m", "services.consumer")
    """What is started for each replica; it gets KIOSK_NAME and a free side port. JSON list."""
    first_pause: Seconds = 0.5
    """s until a process that died is started again; doubled each time."""
    longest_pause: Seconds = 30.0
    """s; the pause grows no longer than this."""
    settled: Seconds = 60.0
    """s that a process must have lived for its next death to count as a first one."""


class PaceSettings(Group):
    """How much the autoscaler may ask of its surroundings."""

    busy_share: float = Field(0.03, gt=0, le=1)
    """Largest share of a core for decisions in the long run; where they cost more, it looks less often."""
    rest: Seconds = 0.05
    """s at least between two looks at the queues; a burst is one event for so long."""
    scale_interval: Seconds = 30.0
    """s between looks at a target's own replica count, where nothing says that it has changed."""


class KubernetesSettings(Group):
    """The cluster."""

    namespace: str = ""
    """Where the targets are; empty: where this pod runs, or the kubeconfig's."""
    kubeconfig: str = ""
    """Path of a kubeconfig; empty: the service account of this pod."""
    lease: str = "cellkiosk-autoscaler"
    """Name of the Lease by which one of several replicas leads."""
    lease_seconds: Seconds = 15.0
    """s after which another replica takes over from a leader that does not renew."""
    calls_per_second: float = Field(10.0, gt=0)
    """API calls in the long run; short bursts of five times as many are allowed."""
    stale_after: Seconds = 60.0
    """s without a sign of life from the watch, after which what it told is not acted upon."""


class KedaSettings(Group):
    """The external-push scaler for clusters where KEDA owns scaling."""

    host: str = "0.0.0.0"  # noqa: S104  # KEDA calls from its own pod
    """Address to listen at."""
    port: int = Field(6000, ge=0, le=65535)
    """TCP port of the gRPC service."""


class Settings(ServiceSettings):
    """All settings of the autoscaler."""

    scaler: Literal["kubernetes", "local", "keda"] = "kubernetes"
    """What makes replicas: the Kubernetes API, processes on this machine, or KEDA."""
    targets: tuple[Target, ...] = Field((), validate_default=True)
    """What is scaled; JSON list. Empty: one target ``consumer`` with 1 or 2 replicas for all job types."""
    local: LocalSettings = LocalSettings()
    pace: PaceSettings = PaceSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    keda: KedaSettings = KedaSettings()

    @field_validator("targets")
    @classmethod
    def _names(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return check_names(targets) or (Target(name="consumer", min_replicas=1, max_replicas=2),)
