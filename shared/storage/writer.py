"""Writing and digesting a stream of chunks in threads, while more of it comes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, ClassVar

from shared.storage.offload import off_loop, settled
from shared.storage.protocol import BLOCK

#: Bytes of one writer that may wait for the disk, so that its thread has always something to go on with; and of all
#: writers of the process, where there are many.
_AHEAD = 4 * BLOCK
_AHEAD_OF_ALL = 128 * BLOCK


class BlockWriter:
    """Writes and digests chunks in threads, in their order, while more are taken: only who is quicker ever waits."""

    _open: ClassVar[int] = 0

    def __init__(self, path: Path, *, fsync: bool = False, append: bool = False, digest: bool = True) -> None:
        self._file: BinaryIO = path.open("ab" if append else "wb", buffering=0)
        self._fsync = fsync
        self._sha256 = hashlib.sha256() if digest else None
        self._room = asyncio.Event()
        self._lines = self._new_lines()
        BlockWriter._open += 1

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._lines[0].done

    async def write(self, chunk: bytes) -> None:
        """Take a chunk; returns at once unless too much is waiting for the disk."""
        for line in self._lines:
            line.take(chunk)
        while max(line.waiting for line in self._lines) > self._share():
            self._room.clear()
            await self._room.wait()
            for line in self._lines:
                if line.waiting:
                    line.go_on()

    async def finish(self) -> tuple[int, str]:
        """Write the rest; return bytes and SHA-256."""
        await asyncio.gather(*(line.finish() for line in self._lines))
        await off_loop(self._close)
        return self.size, self._sha256.hexdigest() if self._sha256 else ""

    async def aclose(self) -> None:
        """Close the file, after any write still under way."""
        BlockWriter._open -= 1
        for line in self._lines:
            await line.settle()
        with contextlib.suppress(OSError):
            self._file.close()

    def _new_lines(self) -> list[_Line]:
        if self._sha256 is None:
            return [_Line(self._room, self._write)]
        # Many writers keep all cores busy as it is: a second thread for each would only be one more hand-over.
        if BlockWriter._open >= (os.cpu_count() or 1):
            return [_Line(self._room, self._write, self._sha256.update)]
        return [_Line(self._room, self._write), _Line(self._room, self._sha256.update)]

    @staticmethod
    def _share() -> int:
        """Return how many bytes may wait."""
        return min(_AHEAD, max(BLOCK, _AHEAD_OF_ALL // max(1, BlockWriter._open)))

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:  # a raw write may take only a part
            view = view[self._file.write(view) :]

    def _close(self) -> None:
        if self._fsync:
            os.fsync(self._file.fileno())
        self._file.close()


class _Line:
    """Does things with each chunk, in order, in a thread: called once for many, since each call takes its time."""

    def __init__(self, room: asyncio.Event, *things: Callable[[bytes], object]) -> None:
        """Do these things; ``room`` is set whenever some chunks are done."""
        self._things = things
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._working: asyncio.Future[None] | None = None
        self._taken = 0
        self.done = 0
        """Bytes that are done."""

    @property
    def waiting(self) -> int:
        """Bytes that are not done."""
        return self._taken - self.done

    def take(self, chunk: bytes) -> None:
        """Take a chunk; begin with it where a block is waiting."""
        self._chunks.append(chunk)
        self._taken += len(chunk)
        if self.waiting >= BLOCK:
            self.go_on()

    def go_on(self) -> asyncio.Future[None]:
        """See to it that a thread does what is waiting; raise what stopped the last one."""
        if self._working is not None and self._working.done():
            self._working.result()
            self._working = None
        if self._working is None:
            self._working = self._loop.run_in_executor(None, self._work)
            self._working.add_done_callback(lambda _: self._room.set())
        return self._working

    async def finish(self) -> None:
        """Do the rest."""
        while self.waiting:
            await asyncio.shield(self.go_on())

    async def settle(self) -> None:
        """Wait for the end of what is under way."""
        if self._working is not None:
            await settled(self._working)

    def _work(self) -> None:
        while self._chunks:
            block = self._next_block()
            for thing in self._things:
                thing(block)
            self.done += len(block)
            if not self._room.is_set():
                self._loop.call_soon_threadsafe(self._room.set)

    def _next_block(self) -> bytes:
        # No more than a block: to join large chunks takes longer than to write and digest each.
        chunks, size = [], 0
        while self._chunks and size < BLOCK:
            chunks.append(self._chunks.popleft())
            size += len(chunks[-1])
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
