"""Blocks to a Triton server on the same host, and its answers, go through shared memory, not through the socket."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

PREFIX = "kiosk"
SMALLEST = 1 << 18  # bytes of a block from which it is worth while
LARGEST = 1 << 28  # bytes of all regions of one server; blocks beyond that go through the socket
CALL_SECONDS = 5.0
REST_SECONDS = 600.0  # how long after a call that was given up its answer may still be written
_PAGE = 4096
_numbers = itertools.count()
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Loan:
    """A region that holds a block, with room behind it for the answer."""

    image: InferInput
    region: SharedMemory
    answer: int
    """Where the answer begins in the region, bytes."""
    room: int
    """Bytes for it; 0 where it comes through the socket."""

    def output(self, name: str) -> InferRequestedOutput:
        """The output that is to be written into the region, or to come through the socket."""
        output = InferRequestedOutput(name)
        if self.room:
            output.set_shared_memory(self.region.name, self.room, self.answer)
        return output

    def read(self, shape: list[int]) -> NDArray[np.uint8]:
        """A copy of the answer, uint8 of a shape."""
        return np.ndarray(shape, np.uint8, buffer=self.region.buf, offset=self.answer).copy()


class SharedBlocks:
    """The regions of shared memory that one server of this host knows of.

    Made and given back on the event loop; a region is lent to one call at a time and kept for the next.
    """

    def __init__(self, client: InferenceServerClient, host: str) -> None:
        self._client = client
        self._usable = is_this_host(host)
        self._answers = True
        self._cleaned = False
        self._free: list[SharedMemory] = []
        self._regions: dict[str, SharedMemory] = {}
        self._making = 0  # bytes of regions that the server is being told of

    @asynccontextmanager
    async def lend(self, block: NDArray[Any], kind: str, answer: int = 0) -> AsyncIterator[Loan | None]:
        """A region with ``block`` (H, W, C) and room for ``answer`` bytes; None where all has to go through the socket.

        A call that was given up may still be answered: its region rests until that cannot be any more, so that no
        other call can take that answer for its own.
        """
        room = answer if answer >= SMALLEST and self._answers else 0
        start = -(-block.nbytes // _PAGE) * _PAGE
        region = await self._take(start + room) if self._usable and block.nbytes >= SMALLEST else None
        if region is None:
            yield None
            return
        given_up = bool(room)
        try:
            await asyncio.to_thread(_copy, block, region)
            image = InferInput(block.dtype.name, [1, *block.shape], kind)
            image.set_shared_memory(region.name, block.nbytes)
            yield Loan(image, region, start, room)
            given_up = False
        finally:
            if given_up:
                asyncio.get_running_loop().call_later(REST_SECONDS, self._give_back, region)
            else:
                self._give_back(region)

    def refuse_answers(self) -> None:
        """Let answers come through the socket from now on: the server gives larger ones than its card says."""
        self._answers = False

    def _give_back(self, region: SharedMemory) -> None:
        if self._regions.get(region.name) is region:
            self._free.append(region)
        else:
            _close(region)  # forgotten meanwhile

    def forget(self) -> None:
        """The server knows the regions no more, as after a restart: begin anew."""
        for region in self._regions.values():
            _remove(region, lent=region not in self._free)
        self._regions.clear()
        self._free.clear()

    async def aclose(self) -> None:
        for name in list(self._regions):
            with suppress(InferenceServerException):
                await self._client.unregister_system_shared_memory(name, client_timeout=CALL_SECONDS)
        self.forget()

    async def _take(self, size: int) -> SharedMemory | None:
        for region in self._free:
            if region.size >= size:
                self._free.remove(region)
                return region
        wanted = 1 << (size - 1).bit_length()
        if sum(each.size for each in self._regions.values()) + self._making + wanted > LARGEST:
            return None
        self._making += wanted
        try:
            return await self._make(wanted)
        finally:
            self._making -= wanted

    async def _make(self, size: int) -> SharedMemory | None:
        name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        region = None
        try:
            await self._clean_up()
            region = SharedMemory(name, create=True, size=size)
            await self._client.register_system_shared_memory(name, f"/{name}", size, client_timeout=CALL_SECONDS)
        except (InferenceServerException, OSError) as error:
            # another container, or no room in /dev/shm: the socket always works
            _log.info("shared-memory-not-used", reason=str(error))
            self._usable = False
            if region is not None:
                _remove(region)
            return None
        except BaseException:
            if region is not None:
                _remove(region)
            raise
        self._regions[name] = region
        return region

    async def _clean_up(self) -> None:
        """Once: have the server let go of what processes left that were killed."""
        if self._cleaned:
            return
        self._cleaned = True
        status = await self._client.get_system_shared_memory_status(client_timeout=CALL_SECONDS)
        for name in list(status.regions):
            if _is_orphan(name):
                await self._client.unregister_system_shared_memory(name, client_timeout=CALL_SECONDS)


def is_this_host(host: str) -> bool:
    """Whether an address is this machine's own (a loopback address)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_orphan(name: str) -> bool:
    """Whether a region is of a process of ours that lives no more."""
    prefix, _, rest = name.partition("-")
    process = rest.partition("-")[0]
    if prefix != PREFIX or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _copy(block: NDArray[Any], region: SharedMemory) -> None:
    target: NDArray[Any] = np.ndarray(block.shape, block.dtype, buffer=region.buf)
    target[...] = block


def _remove(region: SharedMemory, *, lent: bool = False) -> None:
    """Take the region's name away; what is lent is closed by the call that has it."""
    if not lent:
        _close(region)
    with suppress(FileNotFoundError):
        region.unlink()


def _close(region: SharedMemory) -> None:
    with suppress(BufferError):  # a copy is still under way in a thread that nobody waits for
        region.close()
