"""Redis under real sentinels: three of them, a primary that is killed while jobs flow, a replica that takes over."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.errors import Retry
from shared.jobs.audit import audit
from shared.jobs.connection import AWAY, RedisError, connect
from tests.fixtures.redis import RedisServer, free_port, server_binary
from tests.integration.jobs.flow import Suite, suite


@contextlib.contextmanager
def _sentinels(folder: Path, primary: int) -> Iterator[list[int]]:
    """Run three sentinels that watch one primary and need two of them to agree; give their ports."""
    ports, processes = [free_port() for _ in range(3)], []
    for port in ports:
        home = folder / f"sentinel-{port}"
        home.mkdir()
        conf = home / "sentinel.conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {home}\nsentinel monitor main 127.0.0.1 {primary} 2\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        with (home / "log").open("wb") as log:
            processes.append(
                subprocess.Popen([server_binary(), str(conf), "--sentinel"], stdout=log, stderr=subprocess.STDOUT)
            )
    try:
        yield ports
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(10)


async def _is_followed(primary: RedisServer) -> None:
    """Wait until the replica has all data: a sentinel that starts then sees it at once, else only ten seconds later."""
    client = connect(primary.url)
    async with asyncio.timeout(30):
        while (await client.info("replication")).get("slave0", {}).get("state") != "online":
            await asyncio.sleep(0.05)
    await client.aclose()


async def _know_each_other(ports: list[int]) -> None:
    """Wait until each sentinel sees the replica and the two others: before that none can make a failover."""
    async with asyncio.timeout(30):
        for port in ports:
            client = connect(f"redis://127.0.0.1:{port}/0")
            while True:
                with contextlib.suppress(*AWAY, RedisError):
                    flat = await client.execute_command("SENTINEL", "MASTER", "main")
                    state = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
                    if (int(state["num-slaves"]), int(state["num-other-sentinels"])) == (1, 2):
                        break
                await asyncio.sleep(0.05)
            await client.aclose()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[tuple[str, RedisServer, RedisServer]]:
    """A primary and its replica under three sentinels, and the URL of the service."""
    primary = RedisServer(tmp_path / "primary").start()
    replica = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port)).start()
    try:
        await _is_followed(primary)
        with _sentinels(tmp_path, primary.port) as ports:
            await _know_each_other(ports)
            hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
            yield f"redis+sentinel://{hosts}/main/0", primary, replica
    finally:
        for server in (primary, replica):
            server.stop(kill=True)


async def _flow(it: Suite, replicated: list[str], over: asyncio.Event) -> None:
    """Submit until it is over; note what a replica is known to have."""
    while not over.is_set():
        ids = await it.submit(5)
        with contextlib.suppress(Retry, *AWAY, RedisError):
            if await it.store.redis.wait(1, 200) == 1:
                replicated += ids


async def test_a_killed_primary_is_replaced_while_jobs_flow(service: tuple[str, RedisServer, RedisServer]) -> None:
    url, primary, replica = service
    replicated: list[str] = []
    over = asyncio.Event()
    async with suite(url) as it:
        flow = asyncio.create_task(_flow(it, replicated, over))
        while len(replicated) < 50:
            await it.all_done(await it.submit())
        before = it.executed
        await asyncio.to_thread(primary.stop, kill=True)
        after = await it.submit(10)  # is told to come again until the replica has taken over
        await it.all_done(after)
        over.set()
        await flow
        assert it.executed > before
        await it.all_done(replicated)
        assert await audit(it.store) == []
        assert (await it.store.redis.info("server"))["tcp_port"] == replica.port


class _Played:
    """A sentinel as redis-py asks it: silent, or with an answer after a moment."""

    def __init__(self, answers: bool) -> None:
        self.answers = answers

    async def sentinel_masters(self) -> dict[str, dict[str, object]]:
        await asyncio.sleep(0)
        if not self.answers:
            raise RedisConnectionError("silent")
        good = {"is_master": True, "is_sdown": False, "is_odown": False, "num-other-sentinels": 2}
        return {"main": {**good, "ip": "127.0.0.1", "port": 1}}

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_no_sentinel_is_forgotten_when_two_callers_ask_at_once() -> None:
    client = connect("redis+sentinel://a,b,c/main/0")
    manager = client.connection_pool.sentinel_manager  # type: ignore[attr-defined]
    for real in manager.sentinels:
        await real.aclose()
    manager.sentinels = played = [_Played(False), _Played(False), _Played(True)]
    everybody = set(played)
    await asyncio.gather(*(manager.discover_master("main") for _ in range(2)))
    assert set(manager.sentinels) == everybody
    await client.aclose()
