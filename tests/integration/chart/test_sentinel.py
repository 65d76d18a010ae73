"""The chart's three Redis pods with Sentinel, by their own scripts and configuration, and what becomes of the jobs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Retry
from shared.jobs import JobStore, NewJob, Notifications, open_store
from shared.jobs.model import new_id
from shared.lifecycle import ended
from tests.fixtures.helm import CHART, of_kind, pod_specs, rendered
from tests.fixtures.redis import RedisServer, free_port, server_binary

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("sentinel")]
PASSWORD, TYPE, PREFIX = "letters4and4digits", "segmentation", "{kiosk}:"
SCRIPTS = {"redis": "server.sh", "sentinel": "sentinel.sh"}


def configuration(folder: Path) -> Path:
    """Write the chart's redis.conf, with its data in a folder."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(rendered("gke"), "ConfigMap")}
    file = folder / "redis.conf"
    file.write_text(maps["kiosk-cellkiosk-redis"]["redis.conf"].replace("dir /data", f"dir {folder}"))
    return file


class Pod:
    """One pod of the StatefulSet: its two containers as processes, with the environment that the chart gives them."""

    def __init__(self, folder: Path, number: int) -> None:
        self.state = folder / f"pod{number}"
        self.state.mkdir()
        # Once: a server that starts while the file is written anew would read half of it, and keep no log of writes.
        self.configuration = configuration(self.state)
        self.ports = {"redis": free_port(), "sentinel": free_port()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def address(self, container: str) -> str:
        return f"127.0.0.1:{self.ports[container]}"

    def start(self, pods: list[Pod], *containers: str) -> None:
        """Start its containers, or those that are named."""
        for name in containers or SCRIPTS:
            with (self.state / f"{name}.log").open("ab") as log:
                command = ["sh", str(CHART / "files" / "redis" / SCRIPTS[name])]
                self.processes[name] = subprocess.Popen(
                    command, env=self._environment(name, pods), stdout=log, stderr=log, start_new_session=True
                )

    def _environment(self, container: str, pods: list[Pod]) -> dict[str, str]:
        containers = pod_specs(rendered("gke"))["StatefulSet/kiosk-cellkiosk-redis"]["containers"]
        manifest = next(each for each in containers if each["name"] == container)
        assert manifest["command"] == [f"/config/{SCRIPTS[container]}"]
        said = {each["name"]: each.get("value", "") for each in manifest["env"]}
        here = {
            "POD": "",
            "REDISCLI_AUTH": PASSWORD,
            "SELF": "127.0.0.1",
            "PORT": str(self.ports["redis"]),
            "SENTINEL_PORT": str(self.ports["sentinel"]),
            "FIRST": pods[0].address("redis"),
            "SENTINELS": " ".join(pod.address("sentinel") for pod in pods),
            "CONFIG": str(self.configuration),
            "STATE": str(self.state),
        }
        assert here.keys() <= said.keys(), "the scripts get from the chart what they get here"
        return {"PATH": "/usr/bin:/bin:/usr/local/bin"} | said | here

    def log(self) -> str:
        return (self.state / "redis.log").read_text()[-800:]

    def kill(self) -> None:
        """What the loss of a node does."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def stop(self) -> None:
        """What the kubelet does: SIGTERM to process 1 of each container, which must not ignore it."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(20)

    async def ask(self, container: str, *words: str) -> Any:
        password = PASSWORD if container == "redis" else None
        client = Redis(port=self.ports[container], password=password, decode_responses=True, socket_timeout=5)
        try:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            return None
        finally:
            await client.aclose()

    async def role(self) -> list[Any]:
        """What Redis says of itself: ["master", …] or ["slave", host, port, "connected", …]; empty where it is away."""
        return await self.ask("redis", "ROLE") or []


async def until(true: Any, what: str, seen: Callable[[], Any] = str) -> None:
    """Other processes bring it about, so there is nothing to wait on but the clock; says at last what was seen."""
    try:
        async with asyncio.timeout(60):
            while not await true():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await asyncio.Event().wait()
    except TimeoutError:
        pytest.fail(f"did not come about: {what} {seen()}")


async def master_of(pods: list[Pod]) -> Pod | None:
    """The one that all living sentinels name, which knows itself as master, with all others following it."""
    alive = [pod for pod in pods if pod.processes["redis"].poll() is None]
    named = [await pod.ask("sentinel", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "kiosk") for pod in alive]
    if not all(named) or len({each[1] for each in named}) > 1:
        return None
    master = next(pod for pod in pods if str(pod.ports["redis"]) == str(named[0][1]))
    roles = {pod: await pod.role() for pod in alive}
    others = [role for pod, role in roles.items() if pod is not master]
    if roles.get(master, [""])[:1] != ["master"]:
        return None
    return master if all(role[2:4] == [master.ports["redis"], "connected"] for role in others) else None


async def settled(pods: list[Pod]) -> Pod:
    async def true() -> bool:
        return await master_of(pods) is not None

    await until(true, "one master that all agree on", lambda: {each.state.name: each.log() for each in pods})
    master = await master_of(pods)
    assert master is not None
    return master


async def all_known(pods: list[Pod]) -> None:
    """Each sentinel knows both replicas and both other sentinels, as it must for a failover."""

    async def true() -> bool:
        said = [await pod.ask("sentinel", "SENTINEL", "MASTER", "kiosk") or {} for pod in pods]
        return all((each.get("num-slaves"), each.get("num-other-sentinels")) in {("2", "2"), (2, 2)} for each in said)

    await until(true, "sentinels that know all")


def _needs_programs() -> None:
    if not any(shutil.which(f"{name}-server") and shutil.which(f"{name}-cli") for name in ("valkey", "redis")):
        pytest.skip("neither Valkey nor Redis is installed with its command line (on Debian: apt install redis-server)")


@contextlib.asynccontextmanager
async def three_pods(folder: Path) -> AsyncIterator[tuple[list[Pod], JobStore, Notifications]]:
    _needs_programs()
    pods = [Pod(folder, number) for number in range(3)]
    hosts = ",".join(pod.address("sentinel") for pod in pods)
    url = f"redis+sentinel://:{PASSWORD}@{hosts}/kiosk/0"
    store, notifications = open_store(url, PREFIX), Notifications(url, PREFIX)
    try:
        for pod in pods:
            pod.start(pods)
        assert await settled(pods) is pods[0], "with nothing known, the first pod is the master"
        for pod in pods:
            assert PASSWORD not in Path(f"/proc/{pod.processes['redis'].pid}/cmdline").read_text()
        await all_known(pods)
        listening = asyncio.create_task(notifications.run())
        try:
            await notifications.ready()
            yield pods, store, notifications
        finally:
            await ended(listening)
    finally:
        for pod in pods:
            pod.kill()
        await notifications.aclose()
        await store.aclose()


async def submit(store: JobStore, count: int) -> list[str]:
    """Submit as a client does that is told to come again: with the same ids."""
    jobs = [NewJob(new_id(TYPE)) for _ in range(count)]
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Retry):
                ids = [answer.id for answer in await store.submit(*jobs)]
                assert await store.redis.wait(1, 5000) >= 1, "a replica has it"
                return ids


async def claim_all(store: JobStore, ids: list[str]) -> None:
    claimed = await store.claim("w1", [TYPE], len(ids) + 1, 60)
    assert sorted(job.id for job in claimed.jobs) == sorted(ids)


async def test_jobs_outlive_the_loss_of_the_master_and_an_outage_of_all(tmp_path: Path) -> None:
    """First a failover, which the first pod misses; then all start again at once, and its old data must not win."""
    async with three_pods(tmp_path) as (pods, store, notifications):
        ids = await submit(store, 10)
        seen = notifications.reconnections
        pods[0].kill()
        ids += await submit(store, 10)
        new = await settled(pods)
        assert new is not pods[0]
        for pod in pods:
            pod.kill()
        pods[0].start(pods)
        # It has nobody to ask but its own sentinel, which knows of no failover.
        await until(lambda: pods[0].ask("sentinel", "PING"), "the first pod's sentinel")
        for pod in pods[1:]:
            pod.start(pods)
        assert await settled(pods) is new, "the old master follows"
        async with notifications.watch(f"job:{ids[-1]}") as watch:
            await claim_all(store, ids)
            assert await watch.wait(30), "notifications come from the new master"
        assert notifications.reconnections > seen
        await asyncio.to_thread(pods[0].stop)


async def test_a_replica_that_writes_its_first_log_ends_when_it_is_asked(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    async with Redis(port=own_redis.port) as master:
        for number in range(100):
            await master.set(f"key{number}", "x")
    port, folder = free_port(), tmp_path / "replica"
    folder.mkdir()
    slowly = ["--rdb-key-save-delay", "1000000"]  # µs a key, of what is written in the background
    place = ["--port", str(port), "--replicaof", f"127.0.0.1 {own_redis.port}", "--logfile", str(folder / "log")]
    process = subprocess.Popen([server_binary(), str(configuration(folder)), *place, *slowly])
    try:

        async def writes() -> bool:
            async with Redis(port=port, decode_responses=True) as replica:
                with contextlib.suppress(RedisError):
                    return bool((await replica.info("persistence"))["aof_rewrite_in_progress"])
                return False

        await until(writes, "a replica that writes its log")
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
    finally:
        process.kill()
        process.wait(10)
