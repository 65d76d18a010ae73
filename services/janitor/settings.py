"""The janitor's settings, beside those that all services share."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Group, Seconds, ServiceSettings


class OrphanSettings(Group):
    """Objects in storage that no job knows."""

    period: Seconds = 3600.0
    """s between two looks through the storage, by all janitors together."""
    grace: Seconds = 86_400.0
    """s that an unknown object is left alone: between an upload and the job that names it."""


class PodSettings(Group):
    """Workers whose pod has vanished."""

    watch: bool = False
    """Whether to watch the pods of the namespace and take back at once what a vanished one held."""
    namespace: str = ""
    """Kubernetes namespace of the workers; empty: the janitor's own."""
    kubeconfig: str = ""
    """File that says how to reach the cluster; empty: the service account of this pod."""


class Settings(ServiceSettings):
    """All settings of a janitor."""

    lease: Seconds = 15.0
    """s; the longest sleep of the lease keeper: a lease that is given while it sleeps cannot end before it wakes."""
    batch: int = Field(100, ge=1, le=1000)
    """Jobs taken back or forgotten in one step."""
    retention_period: Seconds = 60.0
    """s; the longest sleep between two looks at what is due to be forgotten."""
    absent: Seconds = 300.0
    """s after its last word that a worker that holds nothing is taken off the lists."""
    orphans: OrphanSettings = OrphanSettings()
    pods: PodSettings = PodSettings()
