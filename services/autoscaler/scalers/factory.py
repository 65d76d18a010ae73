"""Chooses the scaler; each is imported only where it is used, since the Kubernetes client is heavy."""

from __future__ import annotations

from services.autoscaler import metrics
from services.autoscaler.scalers.protocol import Scaler
from services.autoscaler.settings import Settings
from shared.jobs import JobStore


async def open_scaler(settings: Settings, store: JobStore) -> Scaler:
    """Return the scaler that the settings name.

    Raises:
        Misconfigured: it cannot work here.
    """
    if settings.scaler == "local":
        from services.autoscaler.scalers.local import LocalScaler

        return LocalScaler(settings.name, store, settings.local, settings.targets)
    if settings.scaler == "keda":
        from services.autoscaler.scalers.keda import KedaScaler

        return KedaScaler(settings.keda, settings.targets)
    from services.autoscaler.scalers.kubernetes import KubernetesScaler
    from shared.kubernetes import connect

    chosen = settings.kubernetes
    cluster = await connect(chosen.kubeconfig, chosen.namespace, rate=chosen.calls_per_second, counted=_counted)
    return KubernetesScaler(
        cluster, settings.targets, chosen, identity=settings.name, scale_interval=settings.pace.scale_interval
    )


def _counted(verb: str, outcome: str) -> None:
    metrics.api_calls.labels(verb, outcome).inc()
