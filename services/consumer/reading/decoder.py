"""The pool of helper processes that decode image files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from services.consumer.reading.decoded import Decoded
from services.consumer.reading.limits import SECONDS, ReadLimits
from shared.errors import InvalidInput, Retry, StorageFull

log = structlog.get_logger(__name__)

#: The folder that the services are run from.
_ROOT = Path(__file__).parents[3]
#: s until a helper that was started must be there.
_START = 60.0
#: Bytes of one answer.
_ANSWER = 1 << 20
#: What helpers get of the environment: no secrets.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "VIRTUAL_ENV")


class _Crashed(Exception):
    """A helper ended by itself; the argument is its return code."""


class Decoder:
    """A pool of bounded helper processes; each decodes one file at a time and stays for the next.

    Args:
        limits: what one file may cost.
        processes: how many files are decoded at once; processes start when they are needed.
        timeout: s for one file.
    """

    def __init__(self, limits: ReadLimits, processes: int = 2, timeout: float = 300) -> None:
        self._limits = limits
        self._timeout = timeout
        self._gate = asyncio.Semaphore(processes)
        self._idle: list[_Helper] = []
        self._closed = False

    async def decode(self, source: Path, target: Path, *, dimension_order: str = "") -> Decoded:
        """Decode an image file into a .npy file of (B, C, Y, X).

        Args:
            source: the image file; its format is told from its bytes.
            target: to write.
            dimension_order: what the user says of the axes, such as ``"BXYC"``; "" to have it worked out.

        Raises:
            InvalidInput: anything about the file or the order is wrong; one sentence says what.
            StorageFull: there is no room for the pixels.
            Retry: helpers do not start, or are being killed from outside.
        """
        request = {"source": str(source), "target": str(target), "dimension_order": dimension_order}
        try:
            return self._read(await self._answer(request))
        except BaseException:
            # A process that was ended leaves half an image behind.
            target.unlink(missing_ok=True)  # noqa: ASYNC240  # one call, and it must happen when cancelled too
            raise

    async def _answer(self, request: dict[str, str]) -> dict[str, Any]:
        async with self._gate:
            try:
                return await self._ask(request)
            except _Crashed as crash:
                # Killed from outside, perhaps: the file gets a second chance, in a process of its own.
                log.warning("decoder-crashed", returncode=crash.args[0])
                try:
                    return await self._ask(request, fresh=True)
                except _Crashed as again:
                    raise _blame(again.args[0]) from again

    async def aclose(self) -> None:
        """End all helpers."""
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    async def _ask(self, request: dict[str, str], *, fresh: bool = False) -> dict[str, Any]:
        helper = self._idle.pop() if self._idle and not fresh else await _Helper.start(self._limits, self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await helper.ask(request)
        except TimeoutError as error:
            raise InvalidInput(
                f"Decoding the file took longer than {self._timeout:g} s (setting {SECONDS}).", code="too-slow"
            ) from error
        else:
            if not self._closed:
                self._idle.append(helper)
                return answer
        finally:
            if helper not in self._idle:
                await helper.end()
        return answer

    def _read(self, answer: dict[str, Any]) -> Decoded:
        if "decoded" in answer:
            found = answer["decoded"]
            shape, names = tuple(found["shape"]), tuple(found["channel_names"])
            return Decoded(**found | {"path": Path(found["path"]), "shape": shape, "channel_names": names})
        if answer.get("full"):
            raise StorageFull("There is no room for the decoded image; free some in the consumer's scratch folder.")
        log.info("image-refused", code=answer["code"], reason=answer["invalid"], detail=answer.get("detail", ""))
        raise InvalidInput(answer["invalid"], code=answer["code"])


def _blame(returncode: int) -> Exception:
    if returncode == -signal.SIGKILL:
        return Retry("The processes that decode images are being killed, perhaps for lack of memory.")
    if returncode == -signal.SIGXCPU:
        return InvalidInput(f"Decoding the file takes too much processor time (setting {SECONDS}).", code="too-slow")
    return InvalidInput(
        "The file could not be decoded: it makes its decoder crash, so it is damaged.", code="decoder-crashed"
    )


class _Helper:
    """One process; see `helper`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout

    @classmethod
    async def start(cls, limits: ReadLimits, seconds: float) -> _Helper:
        """Start a process and wait until it is ready; raises Retry if it does not get there."""
        try:
            return await cls._started(limits, seconds)
        except (_Crashed, TimeoutError, OSError) as error:
            log.warning("decoder-did-not-start", error=repr(error))
            raise Retry("The process that decodes images did not start; see the consumer's log.") from error

    @classmethod
    async def _started(cls, limits: ReadLimits, seconds: float) -> _Helper:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # In a container the packages lie where only this variable says.
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.consumer.reading.helper",
            json.dumps({"limits": asdict(limits), "seconds": seconds}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_ANSWER,
            cwd=_ROOT,
            # One thread each: several files are decoded at once, and threads cost address space.
            env=environment | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        helper = cls(process)
        try:
            async with asyncio.timeout(_START):
                await helper._line()
        except BaseException:
            await helper.end()
            raise
        return helper

    async def ask(self, request: dict[str, str]) -> dict[str, Any]:
        """Send a request and return its answer; raises _Crashed if the process ends instead."""
        with contextlib.suppress(ConnectionError):
            self._in.write(json.dumps(request).encode() + b"\n")
            await self._in.drain()
        answer: dict[str, Any] = json.loads(await self._line())
        return answer

    async def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._in.close()
        await self._process.wait()

    async def _line(self) -> bytes:
        line = await self._out.readline()
        if not line.endswith(b"\n"):
            raise _Crashed(await self._process.wait())
        return line
