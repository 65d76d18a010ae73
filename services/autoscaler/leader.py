"""One of several autoscalers acts: who, says a Lease, by the rules that Kubernetes' own components follow.

A holder that stops renewing loses the Lease after its duration as measured by the others' own clocks, so that clocks
need not agree. The holder itself stops acting earlier than that, when it could not renew for two thirds of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import structlog

from shared.errors import NotFound, Retry
from shared.kubernetes import Cluster, Conflict, Json

log = structlog.get_logger(__name__)


class Leader:
    """This process's part in the election.

    Attributes:
        trouble: why the last election could not be held; empty if it was, None before the first.
    """

    def __init__(
        self, cluster: Cluster, lease: str, identity: str, duration: float, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Prepare; ``duration`` is in s, ``changed`` is called when this process begins or ceases to lead."""
        self._cluster = cluster
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases"
        self._lease = lease
        self._identity = identity
        self._duration = duration
        self._changed = changed
        self._until = -float("inf")
        self._rival: tuple[tuple[Any, Any], float, float] = ((None, None), 0.0, duration)
        self._mine: Json | None = None
        self.trouble: str | None = None

    def leads(self) -> bool:
        """Tell whether this process may act at this very moment."""
        return time.monotonic() < self._until

    def headless(self) -> bool:
        """Tell whether no election can be held while, as far as is known here, nobody leads."""
        if not self.trouble or self.leads():
            return False
        (holder, _renewed), seen_at, duration = self._rival
        return holder in (None, "", self._identity) or time.monotonic() - seen_at > duration

    async def run(self) -> None:
        """Take part until cancelled; then give the Lease up, so that another need not wait."""
        try:
            while True:
                led = self.leads()
                await self._try()
                if led != self.leads():
                    log.info("leadership-changed", leads=self.leads(), identity=self._identity)
                    self._changed()
                await asyncio.sleep(self._duration / 5)
        finally:
            if self.leads():
                self._until = -float("inf")
                with contextlib.suppress(Retry, NotFound, TimeoutError):
                    async with asyncio.timeout(2.0):
                        await self._give_up()

    async def _try(self) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(
                max(1.0, self._duration / 3)
            ):  # so that a call that hangs leaves time for another
                got = await self._acquire(began)
        except TimeoutError:
            self.trouble = "the Kubernetes API does not answer"
            return
        except Conflict as error:  # somebody else wrote it: read it at the next try, which comes soon
            log.info("lease-contended", error=str(error))
            return
        except (Retry, NotFound) as error:
            self.trouble = str(error)
            return
        self.trouble = ""
        if got:
            self._until = began + self._duration * 2 / 3
        else:
            self._until = -float("inf")

    async def _acquire(self, began: float) -> bool:
        if self._mine is not None:  # a rival's change since would be a conflict, after which it is read again
            lease, self._mine = self._mine, None
            lease["spec"] = self._spec(lease["spec"])
            self._mine = await self._cluster.put(f"{self._path}/{self._lease}", lease)
            return True
        try:
            lease = await self._cluster.get(f"{self._path}/{self._lease}")
        except NotFound:
            fresh = {"metadata": {"name": self._lease}, "spec": self._spec({})}
            self._mine = await self._cluster.post(self._path, fresh)
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        # What counts is when this process saw the record change, by its own clock.
        record = (holder, spec.get("renewTime"))
        if record != self._rival[0]:
            self._rival = (record, began, float(spec.get("leaseDurationSeconds") or self._duration))
        lapsed = began - self._rival[1] > self._rival[2]
        if holder and holder != self._identity and not lapsed:
            return False
        lease["spec"] = self._spec(spec)
        # It bears its version: a rival's change meanwhile is a conflict.
        self._mine = await self._cluster.put(f"{self._path}/{self._lease}", lease)
        return True

    async def _give_up(self) -> None:
        lease = await self._cluster.get(f"{self._path}/{self._lease}")
        if lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"]["holderIdentity"] = ""
            await self._cluster.put(f"{self._path}/{self._lease}", lease)

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        same = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": before.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same else 1),
        }
