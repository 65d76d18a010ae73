"""The front door: uploads, small requests, event streams; ``python -m benchmarks.frontend [PART…]``.

Parts: ``uploads``, ``requests``, ``streams``; all of them where none is named. The peer of uploads and
requests is a bare aiohttp handler in the same run: it writes what comes to the same disk, or does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from aiohttp import web

from benchmarks.report import Row, row, tell
from shared.jobs import Held, JobStore, JobType, NewJob, open_store
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer, free_port

GB = 1_000_000_000
BLOCK = b"II*\0" + bytes(range(256)) * 1024
#: As long as those of requests, curl and the browsers: how quickly it is looked for depends on its length.
BOUNDARY = b"8d3f0b6c2a914e57a0c4f19be6d27538"
STREAMS, CHANGES_PER_SECOND = 10_000, 500
PREFIX = "{bench}:"


class Server:
    """A server in a process of its own: what is measured, or the bare one beside it."""

    def __init__(self, command: list[str], port: int, environment: dict[str, str]) -> None:
        self.port = port
        log = Path(tempfile.gettempdir()) / f"bench-frontend-{port}.log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=out, stderr=out)
        deadline = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{command} did not start: {log.read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/health-check", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def rss(self) -> int:
        """Return the bytes of memory that the process has now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024

    def stop(self) -> None:
        """End it; on a busy machine it may be slow to close very many connections, and what was measured is kept."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def peak_of(server: Server) -> Iterator[list[int]]:
    """Watch a server's memory; the list holds the most that it had, in bytes."""
    peak, stop = [server.rss()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], server.rss())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


# -- the bare server --


def serve_bare(port: int, folder: Path) -> None:
    """Serve what does no more than it must: an answer, and the bytes of a body written to a file."""

    async def nothing(_request: web.Request) -> web.Response:
        return web.json_response({"message": "OK"})

    async def write(request: web.Request) -> web.Response:
        path = folder / f"{id(request)}.raw"
        with path.open("wb") as file:
            async for chunk in request.content.iter_any():
                file.write(chunk)
        path.unlink()
        return web.json_response({"message": "OK"})

    app = web.Application(client_max_size=0)
    app.add_routes([web.get("/api/health-check", nothing), web.post("/empty", nothing), web.post("/write", write)])
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


# -- uploads --


def send_file(port: int, path: str, size: int, *, form: bool) -> dict[str, str]:
    """Send a file of a size; return what was answered, or raise unless it was taken."""
    head = edge = b""
    kind = b"application/octet-stream"
    if form:
        head = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="big.tif"\r\n\r\n' % BOUNDARY
        edge = b"\r\n--%s--\r\n" % BOUNDARY
        kind = b"multipart/form-data; boundary=%s" % BOUNDARY
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
            % (path.encode(), kind, len(head) + size + len(edge))
        )
        wire.sendall(head)
        left = size
        while left:
            block = BLOCK[:left] if left < len(BLOCK) else BLOCK
            wire.sendall(block)
            left -= len(block)
        wire.sendall(edge)
        answer = wire.recv(65_536)
    if b" 200 " not in answer.split(b"\r\n", 1)[0]:
        raise RuntimeError(answer.decode())
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


def timed_uploads(port: int, path: str, count: int, size: int, *, form: bool) -> float:
    """Return the MB/s of some uploads at once."""
    threads = [threading.Thread(target=send_file, args=(port, path, size), kwargs={"form": form}) for _ in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * size / (time.perf_counter() - started) / 1e6


def uploads(front: Server, bare: Server, folder: Path) -> list[Row]:
    """Measure one large upload and many at once, each beside the bare handler's; the better of two runs."""
    rows = []
    for name, count, size, most in (("1 × 1 GB", 1, GB, 64), ("50 × 100 MB", 50, GB // 10, 256)):
        idle = front.rss()
        ours = theirs = 0.0
        with peak_of(front) as peak:
            for _ in range(2):
                ours = max(ours, timed_uploads(front.port, "/api/upload", count, size, form=True))
                theirs = max(theirs, timed_uploads(bare.port, "/write", count, size, form=False))
                for path in folder.glob("uploads/*"):
                    path.unlink()
        rows.append(row(f"upload {name}", "MB/s", ours, peer="bare aiohttp", peer_value=theirs, at_least=0.8))
        rows.append(row(f"upload {name}: memory above idle", "MB", (peak[0] - idle) / 1e6, at_most=most))
    return rows


# -- small requests --


class Caller(asyncio.Protocol):
    """Sends one request after the other on one connection."""

    def __init__(self, request: bytes, count: int, done: asyncio.Future[None]) -> None:
        self._request, self._left, self._done = request, count, done
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if not data.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(RuntimeError(data.decode(errors="replace")))
            self._transport.close()
            return
        self._left -= 1
        if self._left > 0:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self._done.set_result(None)


async def rate(port: int, path: str, body: Mapping[str, object], connections: int = 64, each: int = 50) -> float:
    """Return requests/s; answers are so small that each comes in one piece."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(data)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(connections)]
    started = time.perf_counter()
    for future in done:
        await loop.create_connection(partial(Caller, head.encode() + data, each, future), "127.0.0.1", port)
    await asyncio.gather(*done)
    return connections * each / (time.perf_counter() - started)


async def requests(front: Server, bare: Server, store: JobStore) -> list[Row]:
    """Measure orders and questions beside an empty handler; the best of six turns each."""
    answer = await asyncio.to_thread(send_file, front.port, "/api/upload", 100_000, form=True)
    (job,) = await store.submit(NewJob(new_id("segmentation")))
    form = {"scale": "1", "dimensionOrder": "YX"}
    order = {"jobType": "segmentation", "imageName": "cells.tif", **answer, "jobForm": form}
    asked: dict[tuple[str, str], Mapping[str, object]] = {
        ("predict", "/api/predict"): order,
        ("redis", "/api/redis"): {"hash": job.id, "key": ["status", "progress", "output_url", "reason", "failures"]},
    }
    best: dict[str, float] = {}
    for _ in range(6):
        best["empty"] = max(best.get("empty", 0), await rate(bare.port, "/empty", order))
        for (name, path), body in asked.items():
            best[name] = max(best.get(name, 0), await rate(front.port, path, body))
    return [
        row(f"/api/{name}", "requests/s", best[name], peer="empty handler", peer_value=best["empty"], at_least=0.5)
        for name, _ in asked
    ]


# -- event streams --


class Listener(asyncio.Protocol):
    """Holds one event stream open, and tells when the next event comes."""

    def __init__(self, job_id: str, port: int, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        self._job, self._port, self._ready, self._heard = job_id, port, ready, heard
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        path = f"/api/v1/jobs/{self._job}/events"
        transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1") and not data.startswith(b"HTTP/1.1 200"):
            print(data.decode(errors="replace"))
        if b"event: job" not in data:
            return
        if self._begun:
            self._heard(self._job)
        else:
            self._begun = True
            self._ready()


async def streams(front: Server, store: JobStore) -> list[Row]:
    """Open very many streams, each on a job of its own, and measure memory and delay while jobs change."""
    held = await _started_jobs(store, STREAMS)
    before = front.rss()
    sent: dict[str, float] = {}
    delays: list[float] = []
    opened = asyncio.Semaphore(0)

    def heard(job_id: str) -> None:
        if (at := sent.pop(job_id, None)) is not None:
            delays.append(time.perf_counter() - at)

    loop = asyncio.get_running_loop()
    transports = []
    for start in range(0, len(held), 200):
        for one in held[start : start + 200]:
            listener = partial(Listener, one.id, front.port, opened.release, heard)
            transport, _ = await loop.create_connection(listener, "127.0.0.1", front.port)
            transports.append(transport)
        for _ in held[start : start + 200]:
            await opened.acquire()
    await asyncio.sleep(2)
    memory = (front.rss() - before) / len(held)
    with _no_halts():
        await _change(store, held, sent)
        await asyncio.sleep(1)
    for transport in transports:
        transport.close()
    delays.sort()
    lost = len(sent)
    return [
        row(f"{len(held):,} streams: memory each", "kB", memory / 1e3, at_most=20),
        row(f"{len(held):,} streams: event delay p50 at {CHANGES_PER_SECOND}/s", "ms", 1e3 * delays[len(delays) // 2]),
        row(
            f"{len(held):,} streams: event delay p99 at {CHANGES_PER_SECOND}/s",
            "ms",
            1e3 * delays[int(len(delays) * 0.99)],
            at_most=100,
        ),
        row(f"{len(held):,} streams: changes never heard", "events", lost, at_most=0),
    ]


@contextlib.contextmanager
def _no_halts() -> Iterator[None]:
    """Keep this program's own collector from halting it: the delays are to be the frontend's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _started_jobs(store: JobStore, count: int) -> list[Held]:
    await store.submit(*(NewJob(new_id("watched"), {"original_name": "cells.tif"}) for _ in range(count)))
    held: list[Held] = []
    while len(held) < count:
        held += [job.held for job in (await store.claim("bench", ["watched"], 500, 3600)).jobs]
    return held


async def _change(store: JobStore, held: list[Held], sent: dict[str, float], seconds: float = 15) -> None:
    """Change jobs at a steady rate, each only after its last change was heard."""
    started, number = time.perf_counter(), 0
    tasks: set[asyncio.Task[None]] = set()
    at_once = asyncio.Semaphore(32)  # one connection to Redis each
    while (passed := time.perf_counter() - started) < seconds:
        while number < passed * CHANGES_PER_SECOND:
            one = held[number % len(held)]
            sent[one.id] = time.perf_counter()
            percent = 1 + number // len(held)
            task = asyncio.create_task(_advance(store, one, percent, at_once))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)


async def _advance(store: JobStore, held: Held, percent: int, at_once: asyncio.Semaphore) -> None:
    async with at_once:
        await store.advance("bench", (held, "predicting", percent))


# -- all of it --


@contextlib.contextmanager
def suite(folder: Path) -> Iterator[tuple[Server, Server, str]]:
    """Start Redis, a frontend and the bare server."""
    redis = RedisServer(folder / "redis").start()
    environment = {
        "KIOSK_REDIS__URL": redis.url,
        "KIOSK_REDIS__PREFIX": PREFIX,
        "KIOSK_STORAGE__URL": (folder / "storage").as_uri(),
        "KIOSK_HEALTH__PORT": "0",
        "KIOSK_TELEMETRY__LOG_LEVEL": "warning",
    }
    ports = free_port(), free_port()
    front = Server([sys.executable, "-m", "services.frontend"], ports[0], {**environment, "KIOSK_PORT": str(ports[0])})
    bare = Server(
        [sys.executable, "-m", "benchmarks.frontend", "--serve-bare", str(ports[1]), str(folder)], ports[1], {}
    )
    try:
        yield front, bare, redis.url
    finally:
        front.stop()
        bare.stop()
        redis.stop(kill=True)


async def measure(parts: list[str], front: Server, bare: Server, url: str, folder: Path) -> list[Row]:
    """Run the parts one after the other."""
    store = open_store(url, PREFIX)
    schema = {"type": "object", "properties": {"scale": {"type": "number"}, "dimension_order": {"type": "string"}}}
    await store.announce(JobType("segmentation", options_schema=schema))
    rows: list[Row] = []
    try:
        if "uploads" in parts:
            rows += await asyncio.to_thread(uploads, front, bare, folder / "storage")
        if "requests" in parts:
            rows += await requests(front, bare, store)
        if "streams" in parts:
            rows += await streams(front, store)
    finally:
        await store.aclose()
    return rows


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve-bare", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_bare:
        serve_bare(int(arguments.serve_bare[0]), Path(arguments.serve_bare[1]))
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="bench-frontend-") as name, suite(Path(name)) as (front, bare, url):
        rows = asyncio.run(measure(arguments.parts or ["uploads", "requests", "streams"], front, bare, url, Path(name)))
    tell(rows)


if __name__ == "__main__":
    main()
