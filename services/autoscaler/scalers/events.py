"""Kubernetes Events: those written about a target, and those read to find out why pods are not created."""

from __future__ import annotations

import datetime as dt
import secrets
import time

import structlog

from services.autoscaler.decide import Decision
from services.autoscaler.targets import Target
from shared.errors import NotFound, Retry
from shared.kubernetes import Cluster, Json

log = structlog.get_logger(__name__)

_REASONS = {
    "up": ("ScaledUp", "Normal"),
    "down": ("ScaledDown", "Normal"),
    "hold": ("ScalingHeld", "Warning"),
    "unservable": ("ReplicasCannotStart", "Warning"),
    "over-budget": ("BudgetReached", "Warning"),
    "at-max": ("MaximumReached", "Normal"),
}
#: s in which equal events are counted in one.
_TOGETHER = 600.0
#: s between two events of one kind where nothing was changed.
_SELDOM = 60.0
#: s between two looks for why pods are missing.
_WHY_PERIOD = 30.0


class Events:
    """Writes and reads the events of one namespace; neither ever raises: an event is worth no trouble."""

    def __init__(self, cluster: Cluster, identity: str) -> None:
        """Prepare."""
        self._cluster = cluster
        self._identity = identity
        self._path = f"/api/v1/namespaces/{cluster.namespace}/events"
        self._written: dict[tuple[str, str], tuple[float, str, int]] = {}
        self._why: dict[str, tuple[float, str]] = {}

    async def tell(self, target: Target, uid: str, decision: Decision) -> None:
        """Write an event about a decision that people want to see on the target."""
        if decision.code not in _REASONS:
            return
        reason, kind = _REASONS[decision.code]
        at, name, count = self._written.get((target.name, reason), (-_TOGETHER, "", 0))
        if not decision.changes and time.monotonic() - at < _SELDOM:
            return
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            if name and time.monotonic() - at < _TOGETHER:
                again = {"count": count + 1, "lastTimestamp": now, "message": decision.reason}
                await self._cluster.patch(f"{self._path}/{name}", again)
            else:
                count, name = 0, f"{target.name}.{secrets.token_hex(8)}"
                await self._cluster.post(self._path, self._event(target, uid, name, reason, kind, decision.reason, now))
        except (Retry, NotFound) as error:
            self._written.pop((target.name, reason), None)
            log.debug("event-not-written", target=target.name, error=str(error))
            return
        self._written[target.name, reason] = (time.monotonic(), name, count + 1)

    async def why_missing(self, target: str) -> str:
        """Return why the pods of a target are not created, as its controller said it (a quota, say); or nothing."""
        at, why = self._why.get(target, (-_WHY_PERIOD, ""))
        if time.monotonic() - at < _WHY_PERIOD:
            return why
        try:
            listed = await self._cluster.get(self._path, fieldSelector="reason=FailedCreate", limit=500)
        except (Retry, NotFound) as error:
            log.debug("events-not-read", error=str(error))
            return why
        mine = [e for e in listed.get("items") or [] if _is_of(e["involvedObject"].get("name", ""), target)]
        newest: Json = max(mine, key=lambda e: e.get("lastTimestamp") or "", default={})
        self._why[target] = (time.monotonic(), str(newest.get("message", "")).rstrip("."))
        return self._why[target][1]

    def _event(self, target: Target, uid: str, name: str, reason: str, kind: str, message: str, now: str) -> Json:
        version = "apps/v1"
        object_kind = target.kind
        if "." in target.kind:
            plural, version, group = target.kind.split(".", 2)
            object_kind, version = plural, f"{group}/{version}"
        return {
            "metadata": {"name": name, "namespace": self._cluster.namespace},
            "involvedObject": {
                "kind": object_kind,
                "apiVersion": version,
                "name": target.name,
                "namespace": self._cluster.namespace,
                "uid": uid,
            },
            "reason": reason,
            "message": message[:1024],
            "type": kind,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": "cellkiosk-autoscaler"},
            "reportingComponent": "cellkiosk.org/autoscaler",
            "reportingInstance": self._identity,
        }


def _is_of(name: str, target: str) -> bool:
    """Tell whether an object is the target or the ReplicaSet of a Deployment of that name."""
    return name == target or name.rpartition("-")[0] == target
