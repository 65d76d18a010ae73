"""Workers whose pod has vanished: their work runs elsewhere within a second, not at the end of their leases."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import pytest

from services.janitor.leases import Leases
from services.janitor.pods import VanishedPods, cluster_of
from services.janitor.rounds import keep
from services.janitor.settings import PodSettings
from shared.errors import Retry
from shared.jobs import JobStore, NewJob, Watch
from shared.jobs.model import new_id
from shared.kubernetes import Pod, Pods
from shared.lifecycle import ended
from tests.fixtures.kubernetes import Namespace, eventually

TYPE = "segmentation"


class Told(Pods):
    """Pods as a test says."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] | None = {}

    def all(self) -> Mapping[str, Pod]:
        if self.pods is None:
            raise Retry("The pods cannot be watched: the API server is away.")
        return self.pods


async def held_by(store: JobStore, worker: str) -> str:
    await store.heartbeat(worker, 15, {"types": TYPE})
    (answer,) = await store.submit(NewJob(new_id(TYPE)))
    (job,) = (await store.claim(worker, [TYPE], 1, 60)).jobs
    assert job.id == answer.id
    return answer.id


def keeper(store: JobStore, pods: Pods) -> VanishedPods:
    return VanishedPods(store, pods, "j1", Leases(store, "j1", 10, 300))


@pytest.mark.parametrize(("stopping", "losses"), [(True, "0"), (False, "1")])
async def test_what_a_vanished_pod_held_is_taken_back(store: JobStore, stopping: bool, losses: str) -> None:
    pods = Told()
    keeping = keeper(store, pods)
    job_id = await held_by(store, "pod-1")
    pods.pods = {"pod-1": Pod("pod-1", stopping=stopping)}
    await keeping.round()
    assert await store.get_fields(job_id, ["status"]) == ["started"]
    pods.pods = {}
    await keeping.round()
    assert await store.get_fields(job_id, ["status", "losses"]) == ["new", losses]


async def test_a_pod_whose_containers_have_ended_for_good_is_gone(store: JobStore) -> None:
    pods = Told()
    keeping = keeper(store, pods)
    job_id = await held_by(store, "pod-1")
    for ended_ in (False, True):
        pods.pods = {"pod-1": Pod("pod-1", ended=ended_)}
        await keeping.round()
    assert await store.get_fields(job_id, ["status"]) == ["new"]


async def test_workers_that_are_no_pods_of_ours_are_left_alone(store: JobStore) -> None:
    pods = Told()
    keeping = keeper(store, pods)
    job_id = await held_by(store, "laptop-1")
    for there in ({"pod-1": Pod("pod-1")}, {}, {}):
        pods.pods = there
        await keeping.round()
    assert await store.get_fields(job_id, ["status"]) == ["started"]


async def test_nothing_is_done_while_the_pods_are_unknown(store: JobStore) -> None:
    pods = Told()
    keeping = keeper(store, pods)
    job_id = await held_by(store, "pod-1")
    pods.pods = {"pod-1": Pod("pod-1")}
    await keeping.round()
    pods.pods = None
    assert await keeping.round() is None
    assert await store.get_fields(job_id, ["status"]) == ["started"]
    pods.pods = {}
    await keeping.round()
    assert await store.get_fields(job_id, ["status"]) == ["new"]


async def test_without_a_cluster_the_janitor_works_without_pods() -> None:
    assert await cluster_of(PodSettings()) is None
    assert await cluster_of(PodSettings(watch=True, kubeconfig="/nonexistent")) is None


async def test_on_a_real_cluster_it_takes_less_than_a_lease(store: JobStore, namespace: Namespace) -> None:
    await namespace.workload("consumer", 1)
    (pod,) = await eventually(lambda: namespace.pods(ready=True))
    name = pod["metadata"]["name"]
    job_id = await held_by(store, name)
    changed = Watch()
    pods = Pods(namespace.cluster, changed.set)
    tasks = [
        asyncio.create_task(pods.run()),
        asyncio.create_task(keep("pods", keeper(store, pods).round, changed, 60)),
    ]
    try:
        await eventually(lambda: _knows(pods, name))
        await namespace.cluster.delete(f"{namespace.core}/pods/{name}")

        async def taken_back() -> bool:
            return await store.get_fields(job_id, ["status", "losses"]) == ["new", "0"]

        await eventually(taken_back, 15)
    finally:
        await ended(*tasks)


async def _knows(pods: Pods, name: str) -> bool:
    with contextlib.suppress(Retry):
        return name in pods.all()
    return False
