"""A real Redis Cluster: three primaries and a replica of the one that holds the deployment's keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from shared.errors import Retry
from shared.jobs import NewJob, open_store
from shared.jobs.audit import audit
from shared.jobs.connection import connect
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer, free_port
from tests.integration.jobs.flow import PREFIX, TYPE, suite

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


SLOT = key_slot(PREFIX.encode())


@dataclass(frozen=True)
class Nodes:
    """A cluster that stands: the primary of the deployment's slot, its replica, and another primary."""

    holder: Node
    replica: Node
    other: Node


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    with contextlib.ExitStack() as stack:
        servers = [Node(tmp_path / f"node{number}") for number in range(4)]
        for server in servers:
            stack.callback(server.stop, kill=True)
            server.start()
        for server, (first, last) in zip(servers, _RANGES, strict=False):
            await server.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for other in servers[1:]:
            await servers[0].ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        holder = next(server for server, (first, last) in zip(servers, _RANGES, strict=False) if first <= SLOT <= last)
        another = next(server for server in servers[:3] if server is not holder)
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
        yield Nodes(holder, replica, another)


async def test_a_cluster_of_which_no_node_answers_is_waited_for() -> None:
    store = open_store(f"redis+cluster://127.0.0.1:{free_port()}", PREFIX)
    with pytest.raises(Retry, match="cannot be reached"):
        await store.ping()
    with pytest.raises(Retry, match="cannot be reached"):
        await store.get_many(["segmentation:" + 32 * "0"])
    await store.aclose()


async def test_jobs_flow_on_a_cluster_through_failovers(nodes: Nodes) -> None:
    first, second = nodes.holder, nodes.replica
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


async def test_while_its_slot_is_moved_nothing_is_changed_and_then_everything_goes_on(nodes: Nodes) -> None:
    source, target = nodes.holder, nodes.other
    names = {node: str(await node.ask("CLUSTER", "MYID")) for node in (source, target)}
    async with suite(f"redis+cluster://127.0.0.1:{target.port}") as it:
        it.gate.clear()
        waiting = await it.submit(20)  # the worker holds eight of them
        while it.executed < 8:
            await asyncio.sleep(0.01)
        await target.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", names[source])
        await source.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", names[target])
        keys = await source.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 1000)
        await _move(keys[::2], source, target)
        refused = NewJob(new_id(TYPE), {"original_name": "a.tif"})
        with pytest.raises(Retry, match="moving to another node"):
            await it.store.submit(refused)
        with pytest.raises(Retry, match="moving to another node"):
            await it.store.claim("w2", [TYPE], 1, 15)
        it.gate.set()  # what ends now is written when the move is over
        await _move(keys[1::2], source, target)
        for node in (target, source):
            await node.ask("CLUSTER", "SETSLOT", SLOT, "NODE", names[target])
        await it.all_done(waiting)
        assert await it.store.get(refused.id) is None
        await it.all_done(await it.submit(10))
        await it.is_woken_by_events()
        assert await audit(it.store) == []
        assert not await source.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 1000)


async def _move(keys: list[str], source: Node, target: Node) -> None:
    await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
