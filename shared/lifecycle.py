"""The same start and stop for every service.

A service is an async function that gets a `Process` and works until ``process.stopping`` is set:

    async def main(process: Process[Settings]) -> None:
        process.check("redis", store.ping)          # readiness
        process.task("loop", loop())                # guarded: an unexpected end stops the service
        await process.stopping.wait()

    sys.exit(run("janitor", Settings, main))

Exit codes: 0 stopped as asked, 1 a task ended unexpectedly, 2 misconfigured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.errors import KioskError, Misconfigured
from shared.settings import ServiceSettings, load
from shared.telemetry import configure_logs, configure_traces
from shared.version import VERSION

S = TypeVar("S", bound=ServiceSettings)
Check = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)

#: Seconds that a readiness check may take; a hanging dependency is one that is away.
_CHECK_TIMEOUT = 2.0


class Process(Generic[S]):
    """One running service: its settings, its tasks, its health, and the wish to stop.

    Attributes:
        settings: as validated at the start.
        stopping: set when the service has been asked to stop, or when a task ended unexpectedly.
    """

    def __init__(self, service: str, settings: S) -> None:
        """Set up for a service; nothing runs yet."""
        self.service = service
        self.settings = settings
        self.stopping = asyncio.Event()
        self.failure: BaseException | None = None
        self._checks: dict[str, Check] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, name: str, check: Check) -> None:
        """Add a readiness check: an async function that raises a `KioskError` when its part is not usable.

        A service adds all of its checks without waiting in between: it counts as ready when those that it has pass.
        """
        self._checks[name] = check

    def task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the background by name; if it ends before it is cancelled, the service stops."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel_tasks(self) -> None:
        """Cancel what still runs in the background and wait for its end."""
        await ended(*self._tasks)

    async def readiness(self) -> dict[str, str]:
        """Run all checks at once; return ``ok`` or a sentence for each. No check: the service is still starting."""
        names, checks = tuple(self._checks), tuple(self._checks.values())  # more may come while these are under way
        results = await asyncio.gather(*(_checked(check) for check in checks))
        return dict(zip(names, results, strict=True))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self.stopping.is_set():
            return
        self.failure = task.exception() or RuntimeError(f"The task {task.get_name()} ended by itself.")
        known = isinstance(self.failure, Misconfigured)  # told to the user by a sentence, at the end
        log.error("task-ended", task=task.get_name(), exc_info=None if known else task.exception())
        self.stopping.set()


async def ended(*tasks: asyncio.Task[Any], again: float = 2.0) -> None:
    """Cancel tasks and wait for their end; what they raise is not raised here.

    A library may swallow a cancellation (`asyncio.wait_for` does on Python 3.11), so it is repeated after ``again`` s.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _done, waiting = await asyncio.wait(waiting, timeout=again)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: not to be reported as never retrieved


def run(service: str, kind: type[S], main: Callable[[Process[S]], Awaitable[None]]) -> int:
    """Run a service until it is asked to stop; return its exit code."""
    try:
        settings = load(kind)
        return asyncio.run(_run(service, settings, main))
    except Misconfigured as error:
        sys.stderr.write(f"{service}: {error}\n")
        return 2


async def _run(service: str, settings: S, main: Callable[[Process[S]], Awaitable[None]]) -> int:
    configure_logs(settings.telemetry, service)
    traces = configure_traces(settings.telemetry, service, VERSION, settings.name)
    gc.freeze()  # what all the imports made lives as long as the process: not to be looked at again and again
    process = Process(service, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stopping.set)
    try:
        async with health_server(process):
            log.info("service-started", name=settings.name, version=VERSION)
            await main(process)
    finally:
        await process.cancel_tasks()
        traces.shutdown()
    log.info("service-stopped", failed=process.failure is not None)
    if isinstance(process.failure, Misconfigured):
        raise process.failure
    return 1 if process.failure else 0


@contextlib.asynccontextmanager
async def health_server(process: Process[S]) -> Any:
    """Serve /healthz, /readyz and /metrics on the side port for the time of the context."""
    runner = web.AppRunner(_health_app(process), access_log=None)
    await runner.setup()
    health = process.settings.health
    try:
        await web.TCPSite(runner, health.host, health.port).start()
    except OSError as error:
        await runner.cleanup()
        raise Misconfigured(
            f"Port {health.port} (KIOSK_HEALTH__PORT) cannot be listened at: {error.strerror}."
        ) from error
    log.info("health-listening", port=runner.addresses[0][1])
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _health_app(process: Process[S]) -> web.Application:
    async def healthz(_request: web.Request) -> web.Response:
        failed = process.failure is not None
        return web.json_response({"status": "failed" if failed else "ok"}, status=503 if failed else 200)

    async def readyz(_request: web.Request) -> web.Response:
        results = await process.readiness()
        stopping = process.stopping.is_set()
        ready = not stopping and bool(results) and all(result == "ok" for result in results.values())
        state = "stopping" if stopping else "ready" if ready else "not ready"
        return web.json_response({"status": state, "checks": results}, status=200 if ready else 503)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


async def _checked(check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT):
            await check()
    except TimeoutError:
        return f"no answer within {_CHECK_TIMEOUT:g} s"
    except KioskError as error:
        return str(error)
    return "ok"
