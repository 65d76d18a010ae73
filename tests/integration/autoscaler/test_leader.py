"""Two autoscalers, one acts: real processes, a real Lease."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.autoscaler.leader import Leader
from shared.jobs import JobStore, NewJob
from shared.jobs.model import new_id
from shared.kubernetes import connect
from tests.fixtures.kubernetes import Namespace, eventually
from tests.fixtures.redis import RedisServer

TARGETS = [{"name": "work", "queues": {"work": 1}, "jobs_per_replica": 1, "max_replicas": 3}]


@pytest.fixture
async def services(
    namespace: Namespace, redis_server: RedisServer, prefix: str, store: JobStore
) -> AsyncIterator[dict[str, asyncio.subprocess.Process]]:
    """Two real services, ``one`` and ``two``."""
    processes = {}
    for name in ("one", "two"):
        environment = os.environ | {
            "KIOSK_NAME": name,
            "KIOSK_HEALTH__PORT": "0",
            "KIOSK_REDIS__URL": redis_server.url,
            "KIOSK_REDIS__PREFIX": prefix,
            "KIOSK_TARGETS": json.dumps(TARGETS),
            "KIOSK_KUBERNETES__KUBECONFIG": namespace.plane.kubeconfig,
            "KIOSK_KUBERNETES__NAMESPACE": namespace.name,
            "KIOSK_KUBERNETES__LEASE_SECONDS": "2",
        }
        processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.autoscaler", env=environment, cwd=Path.cwd()
        )
    yield processes
    for process in processes.values():
        if process.returncode is None:
            process.terminate()
            assert await process.wait() == 0


async def _holder(namespace: Namespace) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/cellkiosk-autoscaler"
    return str((await namespace.cluster.get(path))["spec"].get("holderIdentity") or "")


async def test_when_the_leader_is_killed_the_other_goes_on(
    namespace: Namespace, services: dict[str, asyncio.subprocess.Process], store: JobStore
) -> None:
    await namespace.workload("work")
    first = await eventually(lambda: _holder(namespace))
    await store.submit(NewJob(new_id("work")))

    async def scaled(replicas: int) -> bool:
        return await namespace.replicas("work") == replicas

    await eventually(lambda: scaled(1))
    os.kill(services[first].pid, signal.SIGKILL)
    await store.submit(NewJob(new_id("work")))
    await eventually(lambda: scaled(2))
    assert await _holder(namespace) not in ("", first)


async def test_a_leader_that_stops_hands_over_at_once(namespace: Namespace) -> None:
    cluster = await connect(namespace.plane.kubeconfig, namespace.name, rate=100)
    # A Lease this long would be waited for in vain.
    leaders = [Leader(cluster, "handover", name, 1000.0) for name in ("one", "two")]
    first = asyncio.create_task(leaders[0].run())
    await eventually(lambda: _leads(leaders[0]))
    await leaders[1]._try()
    assert not leaders[1].leads()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not leaders[0].leads()
    await leaders[1]._try()
    assert leaders[1].leads()
    await cluster.aclose()


async def test_a_lease_taken_by_a_rival_is_seen_at_the_next_renewal(namespace: Namespace) -> None:
    cluster = await connect(namespace.plane.kubeconfig, namespace.name, rate=100)
    leader = Leader(cluster, "contended", "one", 1000.0)
    await leader._try()
    assert leader.leads()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/contended"
    await cluster.patch(path, {"spec": {"holderIdentity": "rival"}})
    await leader._try()  # refused: the Lease is not what it was
    await leader._try()  # read anew
    assert not leader.leads()
    await cluster.delete(path)
    await leader._try()
    assert leader.leads(), "a Lease that was deleted is made again"
    await cluster.aclose()


async def _leads(leader: Leader) -> bool:
    return leader.leads()
