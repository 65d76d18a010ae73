"""Replicas by the Kubernetes API: patches ``scale``, watches pods, marks whom to remove.

What its Role needs: ``scale`` of the targets: get, patch; pods: get, list, watch, patch; events: create, patch, list;
leases: get, create, update.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from services.autoscaler.decide import Decision, Fleet, Member
from services.autoscaler.leader import Leader
from services.autoscaler.scalers.events import Events
from services.autoscaler.scalers.in_flight import InFlight
from services.autoscaler.settings import KubernetesSettings
from services.autoscaler.targets import Target
from shared.errors import NotFound, Retry
from shared.kubernetes import DELETION_COST, Cluster, Conflict, Json, Pod, Pods, selects

log = structlog.get_logger(__name__)

_APPS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
#: Lower than any other pod's: the controller removes these first.
_LEAST_COST = "-2147483647"
#: s after which replicas that were asked for and do not exist are a reason to look for why.
_MISSING_AFTER = 10.0


def path_of(target: Target, namespace: str) -> str:
    """Return the path of a target's object."""
    if plural := _APPS.get(target.kind):
        return f"/apis/apps/v1/namespaces/{namespace}/{plural}/{target.name}"
    plural, version, group = target.kind.split(".", 2)
    return f"/apis/{group}/{version}/namespaces/{namespace}/{plural}/{target.name}"


@dataclass
class _Scale:
    """A target's scale as last read."""

    read: float
    replicas: int
    created: int
    selector: str
    version: str
    uid: str
    pods: int
    missing_since: float | None = None


class KubernetesScaler:
    """Scales objects of one namespace."""

    def __init__(
        self,
        cluster: Cluster,
        targets: Sequence[Target],
        settings: KubernetesSettings,
        *,
        identity: str,
        scale_interval: float = 30.0,
    ) -> None:
        """Prepare; nothing is sent before `run`."""
        self._cluster = cluster
        self._settings = settings
        self._interval = scale_interval
        self._paths = {target.name: path_of(target, cluster.namespace) for target in targets}
        self._scales: dict[str, _Scale] = {}
        self._tell: Callable[[], None] = lambda: None
        self._matched: dict[str, tuple[Pod, ...]] | None = None
        self.pods = Pods(cluster, self._pods_changed, stale_after=settings.stale_after)
        self.leader = Leader(cluster, settings.lease, identity, settings.lease_seconds, lambda: self._tell())
        self._events = Events(cluster, identity)
        self._in_flight = InFlight()

    async def run(self, changed: Callable[[], None]) -> None:
        """Watch the pods and take part in the election."""
        self._tell = changed
        async with asyncio.TaskGroup() as group:
            group.create_task(self.pods.run(), name="pods")
            group.create_task(self.leader.run(), name="leader")

    async def acting(self) -> bool:
        """Tell whether this process leads; raises Retry where nobody can."""
        if self.leader.headless():
            raise Retry(f"It is not known who leads: {self.leader.trouble}")
        return self.leader.leads()

    async def observe(self, target: Target) -> Fleet:
        """Return the replicas asked for and the pods there are."""
        self.pods.all()  # raises while they are not known
        scale = await self._scale(target)
        pods = self._pods_of(target, scale)
        now = time.monotonic()
        missing = len([pod for pod in pods if not pod.stopping]) < scale.replicas
        scale.missing_since = (scale.missing_since or now) if missing else None
        members = tuple(_member(target, pod) for pod in pods if not pod.ended)
        if scale.missing_since is not None and now - scale.missing_since > _MISSING_AFTER:
            why = await self._events.why_missing(target.name)
            return Fleet(scale.replicas, members, why or "pods that were asked for are not created")
        return Fleet(scale.replicas, members)

    async def busy(self, target: Target, fleet: Fleet) -> frozenset[str]:
        """Return replicas of a model server that have requests in hand, or may."""
        if target.in_flight_port is None:
            return frozenset()
        known = self.pods.all()
        addresses = {member.name: known[member.name].ip for member in fleet.staying if member.name in known}
        return await self._in_flight.busy(target.in_flight_port, addresses)

    async def scale(self, target: Target, replicas: int, going: Sequence[str]) -> None:
        """Say which pods may go, then patch the number, unless somebody else changed it meanwhile."""
        if not self.leader.leads():
            raise Retry("Another autoscaler leads by now.")
        before = await self._scale(target)
        try:
            if going and target.kind != "StatefulSet":
                await asyncio.gather(*(self._mark(name, _LEAST_COST) for name in going))
            await self._patch(target, before, replicas)
        except (Retry, NotFound) as error:
            self._scales.pop(target.name, None)
            await self.keep(target, going)
            raise _as_retry(target, error) from error

    async def keep(self, _target: Target, names: Sequence[str]) -> None:
        """Take the mark off pods that are to stay after all; done at the next occasion where it fails."""
        with contextlib.suppress(Retry):
            known = self.pods.all()
            marked = [name for name in names if name in known and known[name].deletion_cost]
            await asyncio.gather(*(self._mark(name, None) for name in marked))

    async def explain(self, target: Target, decision: Decision) -> None:
        """Write an Event on the target, where this process leads."""
        if not self.leader.leads():
            return
        scale = self._scales.get(target.name)
        await self._events.tell(target, scale.uid if scale else "", decision)

    async def check(self) -> None:
        """Raise Retry while the cluster cannot be seen, or nobody is known to lead."""
        self.pods.all()
        if self.leader.trouble is None:
            raise Retry("No election was held yet.")
        if self.leader.trouble:
            raise Retry(f"The election cannot be held: {self.leader.trouble}")

    async def aclose(self, _grace: float) -> None:
        """Close the connections."""
        await self._in_flight.aclose()
        await self._cluster.aclose()

    # -- reading

    def _pods_changed(self) -> None:
        self._matched = None
        self._tell()

    async def _scale(self, target: Target) -> _Scale:
        """Return a target's scale: read again when it may have changed, which its pods show, and from time to time."""
        known = self._scales.get(target.name)
        if known is not None and time.monotonic() - known.read < self._interval:
            there = sum(not pod.stopping for pod in self._pods_of(target, known))
            if abs(there - known.replicas) <= abs(known.pods - known.replicas):
                known.pods = there  # on its way to what was asked for
                return known
        return await self._read_scale(target)

    async def _read_scale(self, target: Target) -> _Scale:
        before = self._scales.pop(target.name, None)
        try:
            raw = await self._cluster.get(self._paths[target.name] + "/scale")
        except NotFound as error:
            raise _as_retry(target, error) from error
        return self._keep_scale(target, raw, before)

    def _keep_scale(self, target: Target, raw: Json, before: _Scale | None) -> _Scale:
        meta, status = raw["metadata"], raw.get("status") or {}
        scale = _Scale(
            read=time.monotonic(),
            replicas=int((raw.get("spec") or {}).get("replicas", 0)),
            created=int(status.get("replicas", 0)),
            selector=str(status.get("selector", "")),
            version=meta["resourceVersion"],
            uid=meta["uid"],
            pods=0,
            missing_since=before.missing_since if before else None,
        )
        if before is None or before.selector != scale.selector:
            self._matched = None
        self._scales[target.name] = scale
        scale.pods = sum(not pod.stopping for pod in self._pods_of(target, scale))
        return scale

    def _pods_of(self, target: Target, scale: _Scale) -> tuple[Pod, ...]:
        if self._matched is None:
            self._matched = {}
        if target.name not in self._matched:
            pods: Mapping[str, Pod] = self.pods.all() if scale.selector else {}
            mine = [pod for pod in pods.values() if selects(scale.selector, pod.labels)]
            self._matched[target.name] = tuple(mine)
        return self._matched[target.name]

    # -- writing

    async def _patch(self, target: Target, before: _Scale, replicas: int) -> None:
        """Set the number if it is still the one that the decision was made on, in one call where possible."""
        path = self._paths[target.name] + "/scale"
        try:
            raw = await self._cluster.patch(path, _from_to(before.replicas, replicas))
        except Conflict:
            now = await self._read_scale(target)
            if now.replicas != before.replicas:
                raise
            raw = await self._cluster.patch(path, _scale_to(replicas, now.version))
        self._keep_scale(target, raw, None)

    async def _mark(self, name: str, cost: str | None) -> None:
        with contextlib.suppress(NotFound):  # it is gone already
            body = {"metadata": {"annotations": {DELETION_COST: cost}}}
            await self._cluster.patch(f"{self._cluster.pods()}/{name}", body)


def _from_to(before: int, after: int) -> list[Json]:
    # A scale of 0 has no such field at all, and a test for null is one for that.
    return [
        {"op": "test", "path": "/spec/replicas", "value": before or None},
        {"op": "add", "path": "/spec/replicas", "value": after},
    ]


def _scale_to(replicas: int, version: str) -> Json:
    return {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}


def _as_retry(target: Target, error: Retry | NotFound) -> Retry:
    if isinstance(error, NotFound):
        return Retry(f"The {target.kind} {target.name!r} does not exist, or has no scale.", after=5.0)
    return error


def _member(target: Target, pod: Pod) -> Member:
    ordinal = pod.name.rpartition("-")[2] if target.kind == "StatefulSet" else ""
    return Member(
        pod.name, pod.stopping, pod.ready, pod.problem, int(ordinal) if ordinal.isdigit() else None, pod.created
    )
