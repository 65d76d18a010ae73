"""The replicas of a Triton server: found by name, one long-lived channel each, the least busy one first."""

from __future__ import annotations

import asyncio
import math
import random
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from tritonclient.grpc.aio import InferenceServerClient

from services.consumer.inference.shared import SharedBlocks
from services.consumer.inference.sharing import SharedTime
from services.consumer.memory import MemoryBudget
from shared.errors import Retry

Address = tuple[str, int]
Resolve = Callable[[str, int], Awaitable[list[Address]]]
RESOLVE_SECONDS = 2.0
#: Bytes of blocks and answers under way to one server: more than two of its batches would only wait there.
ROOM = 96 << 20
FIRST_REST, LONGEST_REST = 0.25, 5.0  # seconds a replica is left alone after it did not answer
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
_log = structlog.get_logger(__name__)


class Replica:
    """One server process and the channel to it."""

    def __init__(self, address: Address) -> None:
        host, port = address
        self.address = address
        self.target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.client = InferenceServerClient(self.target, channel_args=CHANNEL)
        self.blocks = SharedBlocks(self.client, host)
        self.room = MemoryBudget(ROOM)
        self.outstanding = 0
        self.usual = 0.0  # seconds, a slow average of what calls take
        self.heard = -math.inf  # when it last answered anybody, by the loop's clock
        self.time = SharedTime()
        self.tells_seconds = True  # an older server does not, until shown otherwise
        self.mending = asyncio.Lock()
        self.mended: dict[str, float] = {}  # model: when it was last reloaded
        self._failures = 0
        self._rests_until = 0.0

    async def aclose(self) -> None:
        await self.blocks.aclose()
        await self.client.close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count one call as outstanding."""
        self.outstanding += 1
        try:
            yield
        finally:
            self.outstanding -= 1

    def answered(self, seconds: float) -> None:
        self.usual += 0.1 * (seconds - self.usual)
        self._failures = 0
        self._rests_until = 0.0

    def needs_longer(self, seconds: float) -> None:
        """It was silent for too long; as calls wait 20 times what is usual, the next ones have twice as long."""
        self.usual = max(self.usual, seconds / 10)

    def silent(self, now: float) -> None:
        """It did not answer: leave it alone for a while, longer each time."""
        rest = min(LONGEST_REST, FIRST_REST * 2**self._failures)
        self._failures += 1
        self._rests_until = now + rest

    def rests(self, now: float) -> bool:
        return now < self._rests_until


class Replicas:
    """All replicas behind the given names, kept current by a background task."""

    def __init__(self, endpoints: Sequence[Address], resolve: Resolve | None = None) -> None:
        self._endpoints = list(endpoints)
        self._resolve = resolve or resolve_name
        self._replicas: dict[Address, Replica] = {}
        self._leaving: set[Replica] = set()
        self._first: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[Replica]:
        return iter(list(self._replicas.values()))

    @property
    def outstanding(self) -> int:
        return sum(r.outstanding for r in (*self._replicas.values(), *self._leaving))

    async def pick(self, now: float) -> Replica:
        """The replica with the fewest outstanding calls; one that did not answer lately only if all did not.

        Raises Retry if the names stand for no address.
        """
        await self._started()
        if not self._replicas:
            names = ", ".join(f"{host}:{port}" for host, port in self._endpoints)
            raise Retry(f"The model server {names} has no address at present.")
        return min(self, key=lambda r: (r.rests(now), r.outstanding, random.random()))

    async def refresh(self) -> None:
        """Look the names up once: new addresses get a channel, gone ones are left when their calls are done."""
        found: set[Address] = set()
        for host, port in self._endpoints:
            try:
                found.update(await self._resolve(host, port))
            except OSError as error:  # keep what is known: a name server may be away for a moment
                _log.warning("model-server-unknown-host", host=host, reason=str(error))
                found.update(a for a in self._replicas if a[1] == port)
        for address in found - self._replicas.keys():
            self._replicas[address] = Replica(address)
        for address in self._replicas.keys() - found:
            self._leaving.add(self._replicas.pop(address))
        for replica in [r for r in self._leaving if not r.outstanding]:
            self._leaving.discard(replica)
            await replica.aclose()

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for replica in (*self._replicas.values(), *self._leaving):
            await replica.aclose()
        self._replicas.clear()
        self._leaving.clear()

    async def _started(self) -> None:
        if self._task is None:
            self._first = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._keep_current(self._first), name="model-server-addresses")
        assert self._first is not None
        await asyncio.shield(self._first)

    async def _keep_current(self, first: asyncio.Future[None]) -> None:
        while True:
            await self.refresh()
            if not first.done():
                first.set_result(None)
            await asyncio.sleep(RESOLVE_SECONDS)


async def resolve_name(host: str, port: int) -> list[Address]:
    """All addresses of ``host``; IPv4 alone where it has both kinds, since both then mean the same servers."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    old = {(str(info[4][0]), port) for info in found if info[0] == socket.AF_INET}
    new = {(str(info[4][0]), port) for info in found if info[0] == socket.AF_INET6}
    return sorted(old or new)
