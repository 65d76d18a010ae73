"""The autoscaler on a real Kubernetes API with real controllers and a real Redis; only the nodes are played."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.autoscaler.loop import Loop
from services.autoscaler.scalers.kubernetes import KubernetesScaler
from services.autoscaler.settings import KubernetesSettings, PaceSettings
from services.autoscaler.targets import Target
from shared.jobs import Held, JobStore, NewJob, Notifications
from shared.jobs.model import new_id
from shared.kubernetes import DELETION_COST, Conflict, connect
from tests.fixtures.kubernetes import ControlPlane, Namespace, eventually

TARGET = Target(
    name="work", queues={"work": 1.0}, jobs_per_replica=1, max_replicas=3, cooldown=0.3, stabilisation_window=0.3
)
Start = Callable[..., Awaitable["Autoscaler"]]


class Autoscaler:
    """A running loop, and what it said last."""

    def __init__(self, store: JobStore, scaler: KubernetesScaler, loop: Loop) -> None:
        self.store, self.scaler, self.loop = store, scaler, loop
        self.task = asyncio.create_task(loop.run())

    async def said(self, name: str = "work") -> dict[str, Any]:
        return dict(json.loads((await self.store.decisions()).get(name, "{}")))

    async def says(self, code: str, words: str = "", name: str = "work", seconds: float = 60.0) -> dict[str, Any]:
        async def it() -> dict[str, Any] | None:
            said = await self.said(name)
            return said if said.get("code") == code and words in said["reason"] else None

        return dict(await eventually(it, seconds))

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.scaler.aclose(1.0)


@pytest.fixture
async def start(store: JobStore, notifications: Notifications) -> AsyncIterator[Start]:
    running: list[Autoscaler] = []

    async def begin(
        namespace: Namespace, *targets: Target, kubeconfig: str = "", identity: str = "one", lease: float = 2.0
    ) -> Autoscaler:
        settings = KubernetesSettings(lease_seconds=lease, calls_per_second=100)
        cluster = await connect(kubeconfig or namespace.plane.kubeconfig, namespace.name, rate=100)
        scaler = KubernetesScaler(cluster, targets, settings, identity=identity, scale_interval=1.0)
        loop = Loop(store, notifications, scaler, targets, pace=PaceSettings(busy_share=0.5), reconcile=0.5)
        running.append(Autoscaler(store, scaler, loop))
        return running[-1]

    yield begin
    for autoscaler in running:
        await autoscaler.stop()


async def test_from_nothing_up_and_back_to_nothing(namespace: Namespace, start: Start, store: JobStore) -> None:
    await namespace.workload("work", gpus=1)
    autoscaler = await start(namespace, TARGET)
    await autoscaler.says("steady")
    await store.submit(*(NewJob(new_id("work")) for _ in range(3)))
    pods = await eventually(lambda: _ready(namespace, 3))
    held = {name: await _claim(store, name) for name in pods}
    for name in list(held)[:2]:
        await store.complete(name, (held.pop(name), {}))
    (busy,) = held
    await eventually(lambda: _scaled(namespace, 1))
    left = await eventually(lambda: _ready(namespace, 1))
    # This API server does not yet heed the deletion cost; that it was set is all that can be seen here.
    marked = [event for event in await namespace.events("work") if event["reason"] == "ScaledDown"]
    assert marked
    assert left
    await store.complete(busy, (held[busy], {}))
    await eventually(lambda: _scaled(namespace, 0))
    await eventually(lambda: _ready(namespace, 0))
    reasons = {event["reason"] for event in await namespace.events("work")}
    assert {"ScaledUp", "ScaledDown"} <= reasons


async def test_idle_pods_are_marked_before_the_number_falls_and_busy_ones_never(
    namespace: Namespace, start: Start, store: JobStore
) -> None:
    # Pods that take long to end can still be looked at when they were told to.
    await namespace.workload("work", annotations={"fake-kubelet/stop-after": "30"}, grace=30)
    autoscaler = await start(namespace, TARGET)
    await autoscaler.says("steady")
    await store.submit(*(NewJob(new_id("work")) for _ in range(3)))
    pods = await eventually(lambda: _ready(namespace, 3))
    held = {name: await _claim(store, name) for name in pods}
    idle = list(held)[:2]
    for name in idle:
        await store.complete(name, (held[name], {}))
    await eventually(lambda: _scaled(namespace, 1))
    items, _version = await namespace.cluster.list_all(f"{namespace.core}/pods")
    marked = {p["metadata"]["name"] for p in items if DELETION_COST in p["metadata"].get("annotations", {})}
    assert marked == set(idle)
    await store.submit(NewJob(new_id("work")))
    assert not (await store.claim(idle[0], ["work"], 1, 5.0)).jobs, "a worker that is to go got work"


async def test_pods_that_find_no_gpu_are_a_reason_not_a_retry(
    namespace: Namespace, start: Start, store: JobStore
) -> None:
    await namespace.workload("work", gpus=2)  # no node has so many
    autoscaler = await start(namespace, TARGET)
    await store.submit(NewJob(new_id("work")))
    said = await autoscaler.says("unservable", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in said["reason"]
    version = (await namespace.cluster.get(f"{namespace.apps}/deployments/work"))["metadata"]["generation"]
    for _ in range(5):
        await autoscaler.loop.look()
    after = (await namespace.cluster.get(f"{namespace.apps}/deployments/work"))["metadata"]["generation"]
    assert after == version, "it was asked for again"
    reasons = {event["reason"] for event in await namespace.events("work")}
    assert "ReplicasCannotStart" in reasons


async def test_a_quota_is_named(namespace: Namespace, start: Start, store: JobStore, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.autoscaler.scalers.kubernetes._MISSING_AFTER", 0.5)
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    await namespace.cluster.post(f"{namespace.core}/resourcequotas", quota)
    await eventually(lambda: _has_quota(namespace))
    await namespace.workload("work")
    autoscaler = await start(namespace, TARGET)
    await store.submit(*(NewJob(new_id("work")) for _ in range(3)))
    said = await autoscaler.says("unservable", "exceeded quota")
    assert "2 do not exist" in said["reason"]


async def test_an_image_that_cannot_be_pulled_is_named(namespace: Namespace, start: Start, store: JobStore) -> None:
    await namespace.workload("work", annotations={"fake-kubelet/delay": "600"})
    autoscaler = await start(namespace, TARGET)
    await store.submit(NewJob(new_id("work")))
    (pod,) = await eventually(lambda: namespace.pods())
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "none"'}}
    status = {"name": "main", "image": "none", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    path = f"{namespace.core}/pods/{pod['metadata']['name']}/status"
    await namespace.cluster.patch(path, {"status": {"containerStatuses": [status]}})
    await autoscaler.says("unservable", "ImagePullBackOff")


async def test_a_stateful_set_shrinks_only_from_its_idle_end(
    namespace: Namespace, start: Start, store: JobStore
) -> None:
    await namespace.workload("work", kind="StatefulSet")
    target = TARGET.model_copy(update={"kind": "StatefulSet"})
    autoscaler = await start(namespace, target)
    await store.submit(*(NewJob(new_id("work")) for _ in range(3)))
    assert await eventually(lambda: _ready(namespace, 3)) == ["work-0", "work-1", "work-2"]
    held = {name: await _claim(store, name) for name in ("work-0", "work-1", "work-2")}
    await store.complete("work-0", (held["work-0"], {}))
    await autoscaler.says("busy")
    assert await namespace.replicas("work", "StatefulSet") == 3
    await store.complete("work-2", (held["work-2"], {}))
    await eventually(lambda: _scaled(namespace, 2, "StatefulSet"))
    await store.complete("work-1", (held["work-1"], {}))
    await eventually(lambda: _scaled(namespace, 0, "StatefulSet"))


async def test_what_is_refused_is_held_and_heals_when_it_is_allowed(
    namespace: Namespace, start: Start, store: JobStore, tmp_path: Path
) -> None:
    await namespace.workload("work")
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch", "list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    ]
    kubeconfig = await _service_account(namespace, tmp_path, rules)
    autoscaler = await start(namespace, TARGET, kubeconfig=kubeconfig)
    await store.submit(NewJob(new_id("work")))
    said = await autoscaler.says("hold", "refuses to GET")
    assert 'cannot get resource "deployments/scale"' in said["reason"]
    assert await namespace.replicas("work") == 0
    # This is the whole of the Role that the chart gives it.
    rules.append({"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]})
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.name}"
    await namespace.cluster.patch(f"{rbac}/roles/autoscaler", {"rules": rules})
    await eventually(lambda: _scaled(namespace, 1))
    await eventually(lambda: _has_event(namespace, "ScaledUp"))


async def test_a_target_deleted_and_remade_is_scaled_again(namespace: Namespace, start: Start, store: JobStore) -> None:
    await namespace.workload("work")
    autoscaler = await start(namespace, TARGET)
    await autoscaler.says("steady")
    await namespace.cluster.delete(f"{namespace.apps}/deployments/work")
    await autoscaler.says("hold", "does not exist")
    await store.submit(NewJob(new_id("work")))
    await namespace.workload("work")
    await eventually(lambda: _scaled(namespace, 1))


async def test_somebody_elses_number_is_taken_as_it_is_and_led_back(
    namespace: Namespace, start: Start, store: JobStore
) -> None:
    await namespace.workload("work")
    autoscaler = await start(namespace, TARGET.model_copy(update={"cooldown": 1.0, "stabilisation_window": 1.0}))
    await autoscaler.says("steady")
    await namespace.set_replicas("work", 3)
    said = await autoscaler.says("down")
    assert said["actual"] == 3
    await eventually(lambda: _scaled(namespace, 0))


async def test_a_number_changed_behind_its_back_is_not_overwritten(
    namespace: Namespace, store: JobStore, notifications: Notifications
) -> None:
    await namespace.workload("work")
    cluster = await connect(namespace.plane.kubeconfig, namespace.name, rate=100)
    scaler = KubernetesScaler(cluster, [TARGET], KubernetesSettings(lease_seconds=2), identity="one")
    watching = asyncio.create_task(scaler.run(lambda: None))
    await eventually(scaler.acting)
    await eventually(lambda: _observed(scaler))
    await namespace.set_replicas("work", 2)
    scaler._scales["work"].read += 60  # as if nothing had shown it yet
    scaler._pods_of = lambda _target, _scale: ()  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        await scaler.scale(TARGET, 1, [])
    assert await namespace.replicas("work") == 2
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await scaler.aclose(1)


@pytest.mark.timeout(400)
async def test_the_api_server_and_etcd_may_go_and_come_back(
    own_control_plane: ControlPlane, start: Start, store: JobStore
) -> None:
    from tests.fixtures.kubernetes import new_namespace

    namespace = await new_namespace(own_control_plane)
    await namespace.workload("work")
    autoscaler = await start(namespace, TARGET)
    await autoscaler.says("steady")
    own_control_plane.kill("kube-apiserver")
    await store.submit(NewJob(new_id("work")))
    await autoscaler.says("hold")
    lists = autoscaler.scaler.pods.lists
    own_control_plane.restart("kube-apiserver")
    await eventually(lambda: _scaled(namespace, 1))
    await eventually(lambda: _listed_since(autoscaler, lists))
    own_control_plane.kill("etcd")
    await store.submit(NewJob(new_id("work")))
    # Whichever comes first: a call that hangs, or a lease that could not be renewed, after which nobody leads.
    await autoscaler.says("hold", seconds=120)
    own_control_plane.restart("etcd")
    # Its clients in the API server, one for each kind of object, try again after pauses that grow with the time that it
    # was away (gRPC: by 1.6 each, to 2 min): what that takes is not in our hands, so it is waited for with patience.
    await eventually(lambda: _scaled(namespace, 2), seconds=240)
    await namespace.cluster.aclose()


async def test_redis_away_means_hold(namespace: Namespace, own_redis: Any, prefix: str) -> None:
    from shared.jobs import open_store

    await namespace.workload("work", 2)
    store = open_store(own_redis.url, prefix)
    notifications = Notifications(own_redis.url, prefix)
    cluster = await connect(namespace.plane.kubeconfig, namespace.name, rate=100)
    scaler = KubernetesScaler(cluster, [TARGET], KubernetesSettings(lease_seconds=2), identity="one")
    watching = asyncio.create_task(scaler.run(lambda: None))
    await eventually(scaler.acting)
    await eventually(lambda: _observed(scaler))
    own_redis.stop(kill=True)
    loop = Loop(store, notifications, scaler, [TARGET], pace=PaceSettings(), reconcile=1.0)
    for _ in range(3):
        await loop.look()
    assert await namespace.replicas("work") == 2, "without its queues nothing is known of the work"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await scaler.aclose(1)
    await notifications.aclose()
    await store.aclose()


# -- what the tests look at


async def _claim(store: JobStore, worker: str) -> Held:
    await store.heartbeat(worker, 60.0, {"types": "work"})
    (job,) = (await store.claim(worker, ["work"], 1, 60.0)).jobs
    return job.held


async def _ready(namespace: Namespace, count: int) -> list[str] | bool:
    pods = sorted(pod["metadata"]["name"] for pod in await namespace.pods(ready=True))
    return (pods or True) if len(pods) == count else False


async def _scaled(namespace: Namespace, replicas: int, kind: str = "Deployment") -> bool:
    return await namespace.replicas("work", kind) == replicas


async def _listed_since(autoscaler: Autoscaler, lists: int) -> bool:
    """Whether the pods were listed anew, as they are after trouble."""
    return bool(autoscaler.scaler.pods.lists > lists)


async def _has_event(namespace: Namespace, reason: str) -> bool:
    return reason in {event["reason"] for event in await namespace.events("work")}


async def _has_quota(namespace: Namespace) -> bool:
    quota = await namespace.cluster.get(f"{namespace.core}/resourcequotas/few")
    return bool(quota.get("status", {}).get("hard"))


async def _observed(scaler: KubernetesScaler) -> bool:
    return (await scaler.observe(TARGET)).replicas >= 0


async def _service_account(namespace: Namespace, folder: Path, rules: list[dict[str, Any]]) -> str:
    """Make a service account with a Role of these rules; return a kubeconfig with its token."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.name}"
    await namespace.cluster.post(f"{namespace.core}/serviceaccounts", {"metadata": {"name": "autoscaler"}})
    await namespace.cluster.post(f"{rbac}/roles", {"metadata": {"name": "autoscaler"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "autoscaler", "namespace": namespace.name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "autoscaler"}
    binding = {"metadata": {"name": "autoscaler"}, "subjects": [subject], "roleRef": role}
    await namespace.cluster.post(f"{rbac}/rolebindings", binding)
    path = f"{namespace.core}/serviceaccounts/autoscaler/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await namespace.cluster.post(path, request))["status"]["token"]
    config = json.loads(Path(namespace.plane.kubeconfig).read_text())
    config["users"][0]["user"]["token"] = token
    written = folder / "kubeconfig"
    written.write_text(json.dumps(config))
    return str(written)
