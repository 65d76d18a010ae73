"""Takes back at once what a worker held whose pod has vanished: nobody waits for its leases to end.

Only a worker that was seen as a pod of this namespace, and is seen no more, is taken for gone: a worker elsewhere is
nobody's business here. When the Kubernetes API cannot be read nothing is done, since the leases end by themselves.
"""

from __future__ import annotations

import structlog

from services.janitor import metrics
from services.janitor.leases import Leases
from services.janitor.settings import PodSettings
from shared.errors import Misconfigured, Retry
from shared.jobs import JobStore
from shared.kubernetes import Cluster, Pods, connect

log = structlog.get_logger(__name__)


class VanishedPods:
    """The keeper of the workers that are pods."""

    def __init__(self, store: JobStore, pods: Pods, name: str, leases: Leases) -> None:
        """Compare the workers of a store with the pods of a namespace."""
        self._store, self._pods, self._name, self._leases = store, pods, name, leases
        self._seen: dict[str, bool] = {}  # pods that were there, and whether they had been told to stop

    async def round(self) -> float | None:
        """Take back what the workers of vanished pods held."""
        try:
            pods = self._pods.all()
        except Retry as error:
            metrics.troubles.labels("pods").inc()
            log.debug("pods-unknown", error=str(error))
            return None
        there = {name: pod for name, pod in pods.items() if not pod.ended}
        gone = self._seen.keys() - there.keys()
        if gone:
            for worker in await self._store.workers():
                if worker.id in gone:
                    await self._take_back(worker.id, in_order=self._seen[worker.id])
        self._seen = {name: pod.stopping for name, pod in there.items()}
        return None

    async def _take_back(self, worker: str, *, in_order: bool) -> None:
        """A pod that was told to stop charges its jobs nothing; one that fell may have fallen by one of them."""
        outcomes = await self._store.evict(self._name, worker, charge=not in_order)
        log.info("pod-vanished", worker=worker, jobs=len(outcomes), in_order=in_order)
        self._leases.told(outcomes, "pod-vanished")


async def cluster_of(settings: PodSettings) -> Cluster | None:
    """Return the cluster to watch; None where there is none, which is told once."""
    if not settings.watch:
        return None
    try:
        return await connect(settings.kubeconfig, settings.namespace)
    except Misconfigured as error:
        log.warning("pods-not-watched", error=str(error))
        return None
