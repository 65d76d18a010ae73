"""Chooses the scaler; each is imported only where it is used, since the Kubernetes client is heavy."""

from __future__ import annotations

from services.autoscaler.scalers.protocol import Scaler
from services.autoscaler.settings import Settings
from shared.errors import Misconfigured
from shared.jobs import JobStore


async def open_scaler(settings: Settings, store: JobStore) -> Scaler:
    """Return the scaler that the settings name.

    Raises:
        Misconfigured: it cannot work here.
    """
    if settings.scaler == "local":
        from services.autoscaler.scalers.local import LocalScaler

        return LocalScaler(settings.name, store, settings.local)
    raise Misconfigured(f"The scaler {settings.scaler!r} is not there yet.")
