"""A real Redis Cluster: three primaries and a replica of the one that holds the deployment's keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from shared.errors import Retry
from shared.jobs import open_store
from shared.jobs.audit import audit
from shared.jobs.connection import connect
from tests.fixtures.redis import RedisServer, free_port
from tests.integration.jobs.flow import PREFIX, suite

#: The first and last slot of each primary.
_RANGES = ((0, 5460), (5461, 10922), (10923, 16383))


class Node(RedisServer):
    """A server of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.bus = free_port()
        options = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", "1000")
        super().__init__(folder, *options)

    async def ask(self, *words: Any) -> Any:
        """Run one command on this very node."""
        client = connect(self.url)
        try:
            return await client.execute_command(*words)
        finally:
            await client.aclose()

    async def is_replica(self) -> bool:
        """Return whether it follows another and has all that it had."""
        role = await self.ask("ROLE")
        return role[0] == "slave" and role[3] == "connected"


async def _until(met: Any) -> None:
    async with asyncio.timeout(30):
        while not await met():
            await asyncio.sleep(0.05)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """A cluster that stands; gives the primary of the deployment's slot and its replica."""
    with contextlib.ExitStack() as stack:
        servers = [Node(tmp_path / f"node{number}") for number in range(4)]
        for server in servers:
            stack.callback(server.stop, kill=True)
            server.start()
        for server, (first, last) in zip(servers, _RANGES, strict=False):
            await server.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for other in servers[1:]:
            await servers[0].ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        slot = key_slot(PREFIX.encode())
        holder = next(server for server, (first, last) in zip(servers, _RANGES, strict=False) if first <= slot <= last)
        name, replica = str(await holder.ask("CLUSTER", "MYID")), servers[3]

        async def all_known() -> bool:
            told = [str(await server.ask("CLUSTER", "NODES")) for server in servers]
            return all(text.count("connected") == len(servers) for text in told)

        await _until(all_known)
        await replica.ask("CLUSTER", "REPLICATE", name)
        await _until(replica.is_replica)
        for server in servers:

            async def stands(server: Node = server) -> bool:
                told = str(await server.ask("CLUSTER", "INFO"))
                return "cluster_state:ok" in told and "slave" in str(await server.ask("CLUSTER", "NODES"))

            await _until(stands)
        yield holder, replica


async def test_a_cluster_of_which_no_node_answers_is_waited_for() -> None:
    store = open_store(f"redis+cluster://127.0.0.1:{free_port()}", PREFIX)
    with pytest.raises(Retry, match="cannot be reached"):
        await store.ping()
    with pytest.raises(Retry, match="cannot be reached"):
        await store.get_many(["segmentation:" + 32 * "0"])
    await store.aclose()


async def test_jobs_flow_on_a_cluster_through_failovers(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    async with suite(f"redis+cluster://127.0.0.1:{first.port}") as it:
        await it.is_woken_by_events()
        # In order: the old primary lives on as a replica and sends everybody on.
        await second.ask("CLUSTER", "FAILOVER")
        await it.all_done(await it.submit(10))
        await _until(first.is_replica)
        await it.is_woken_by_events()
        # Without warning.
        ids = await it.submit(20)
        await it.all_done(ids)
        await asyncio.to_thread(second.stop, kill=True)
        await it.all_done(await it.submit(10))
        await it.all_done(ids)
        await it.is_woken_by_events()
        assert await audit(it.store) == []
