"""Every panel, rule and alert of the chart against a real Prometheus that looks at the real stack under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.triton.environment import Environment
from shared.jobs import NewJob, open_store
from shared.jobs.model import new_id
from tests.fixtures.prometheus import Prometheus, program, queries, rules, running_prometheus
from tests.fixtures.redis import RedisServer
from tests.integration.telemetry.stack import Stack, has_a_number, pause, running_stack

pytestmark = [pytest.mark.timeout(580), pytest.mark.xdist_group("telemetry")]
PATIENCE = 150.0


def quick(text: str) -> str:
    """The same rules at the pace of a test: no pending time, windows of ten seconds, thresholds of that pace."""
    text = re.sub(r"\bfor: \w+", "for: 0s", text)
    text = re.sub(r"\[\d+[mh]\]", "[10s]", text)
    for usual, here in (
        ("seconds:max > 900", "seconds:max > 3"),
        ('le="300.0"', 'le="5.0"'),
        ("[10s])) > 3", "[10s])) > 0"),
    ):
        assert usual in text
        text = text.replace(usual, here)
    return text


def filled(expression: str) -> str:
    """A panel's query as Grafana would send it."""
    return expression.replace("$namespace", "lab").replace("$__rate_interval", "15s")


async def until(true: Callable[[], object], why: Callable[[], object]) -> None:
    """Wait until something that other processes bring about holds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(true):
                await pause(0.2)
    except TimeoutError:
        pytest.fail(f"did not come about: {why()}")


def empty(prometheus: Prometheus) -> list[str]:
    """The panels that would show nothing now; raises where a query is wrong."""
    return [
        f"{board}/{panel}: {expression}"
        for board, panel, expression in queries()
        if not has_a_number(prometheus.query(filled(expression)))
    ]


def silent_rules(prometheus: Prometheus) -> list[str]:
    """Rules that err, and recording rules that record nothing."""
    wrong = [rule["name"] for rule in prometheus.rules() if rule["health"] == "err"]
    records = [rule["name"] for rule in prometheus.rules() if rule["type"] == "recording"]
    return wrong + [name for name in records if not has_a_number(prometheus.query(name))]


async def test_panels_rules_and_alerts(tmp_path: Path, own_redis: RedisServer, triton_environment: Environment) -> None:
    program("prometheus")
    async with running_stack(tmp_path, own_redis, triton_environment) as stack:
        with running_prometheus(tmp_path, stack.scraped, quick(rules())) as prometheus:
            await _set_memory(stack, 1_000_000_000)
            load = asyncio.create_task(stack.load(0.25))
            try:
                await until(lambda: not empty(prometheus), lambda: empty(prometheus))
                await until(lambda: not silent_rules(prometheus), lambda: silent_rules(prometheus))
                # Where the machine is busy, jobs wait for longer than the shortened rules allow, for a while.
                usual = {"KioskBudgetReached", "KioskJobsLate"}
                await until(lambda: prometheus.alerts() <= usual, lambda: prometheus.alerts() - usual)
                for together in PROVOKED:
                    await asyncio.gather(*(provoke(stack, prometheus) for provoke in together))
            finally:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)


async def _set_memory(stack: Stack, limit: int) -> None:
    client = Redis.from_url(stack.redis.url)
    await client.config_set("maxmemory", limit)
    await client.aclose()


async def fires(prometheus: Prometheus, *names: str) -> None:
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.update(prometheus.alerts())
        return seen >= set(names)

    await until(all_seen, lambda: f"{sorted(set(names) - seen)}; fired: {sorted(seen)}")


async def budget(_stack: Stack, prometheus: Prometheus) -> None:
    """A target whose day's money is spent."""
    await fires(prometheus, "KioskBudgetReached")


async def frozen_worker(stack: Stack, prometheus: Prometheus) -> None:
    """The only consumer is frozen: jobs wait, nobody works, leases run out; thawed, it finds its jobs gone."""
    process = stack.parts["consumer"].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        await fires(prometheus, "KioskQueueStuck", "KioskNothingConsumed", "KioskPartDown")
        # On a fast machine that is soon: wait until most of what waits will be late.
        late = "cellkiosk:queue_oldest_seconds:max > 12"
        await until(lambda: has_a_number(prometheus.query(late)), lambda: late)
    finally:
        process.send_signal(signal.SIGCONT)
    await fires(prometheus, "KioskJobsLate")


async def lost_leases(stack: Stack, prometheus: Prometheus) -> None:
    """A worker that is frozen again and again loses what it holds."""
    process = stack.parts["consumer"].process
    assert process is not None
    # A counter that first appears has not grown yet, so it takes more than one freeze.
    freezing = asyncio.create_task(_freeze_again(stack, process))
    try:
        await fires(prometheus, "KioskLeasesLost")
    finally:
        freezing.cancel()
        await asyncio.gather(freezing, return_exceptions=True)
        process.send_signal(signal.SIGCONT)


async def _freeze_again(stack: Stack, process: subprocess.Popen[bytes]) -> None:
    """Freeze a worker for longer than its leases last, each time in the middle of a job."""
    async with contextlib.aclosing(Redis.from_url(stack.redis.url)) as client:
        while True:
            process.send_signal(signal.SIGSTOP)
            if await client.zcard("{kiosk}:leases:segmentation"):
                await pause(5.0)
                process.send_signal(signal.SIGCONT)
                await pause(2.0)
            process.send_signal(signal.SIGCONT)
            await pause(0.01)


async def broken_model(stack: Stack, prometheus: Prometheus) -> None:
    """The model's own process is killed: Triton is up, and every request fails until the model is loaded again."""
    stopping = asyncio.Event()
    killer = asyncio.create_task(_kill_stubs(stack, stopping))
    try:
        await fires(prometheus, "KioskModelServerFailing")
    finally:
        stopping.set()
        await killer


async def _kill_stubs(stack: Stack, stopping: asyncio.Event) -> None:
    """Kill each for which a model was loaded: one that is killed while it loads holds the server up instead."""
    server = stack.parts["triton"].process
    assert server is not None
    seen: dict[int, float] = {}
    while not stopping.is_set():
        for process in _stubs_of(server.pid):
            if time.monotonic() - seen.setdefault(process, time.monotonic()) > 3.0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        await pause(1.0)


def _stubs_of(server: int) -> Iterator[int]:
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == server and b"triton_python_backend_stub" in (place / "cmdline").read_bytes():
                yield int(place.name)


async def poison(stack: Stack, prometheus: Prometheus) -> None:
    """Jobs whose worker never comes back, three times: the janitor gives them up."""
    store = open_store(stack.redis.url, "{kiosk}:")
    async with contextlib.aclosing(store):
        await store.submit(NewJob(new_id("poison"), {}))
        # The series must be there before it grows.
        await until(lambda: prometheus.query('kiosk_queue_dead{type="poison"}'), lambda: "no such series")
        for _ in range(3):
            async with asyncio.timeout(PATIENCE):
                while not (await store.claim("ghost", ["poison"], 1, 0.2)).jobs:
                    await pause(0.1)
    await fires(prometheus, "KioskDeadLettersGrowing")


async def full_redis(stack: Stack, prometheus: Prometheus) -> None:
    client = Redis.from_url(stack.redis.url)
    used = int((await client.info("memory"))["used_memory"])
    await client.aclose()
    await _set_memory(stack, int(used / 0.9))
    await fires(prometheus, "KioskRedisMemory")
    await _set_memory(stack, 1_000_000_000)


async def no_redis(stack: Stack, prometheus: Prometheus) -> None:
    """Redis goes: requests fail, and the autoscaler decides nothing."""
    stack.redis.stop(kill=True)
    await fires(prometheus, "KioskRequestsFailing", "KioskAutoscalerHeld")
    stack.redis.start()


#: One after the other, but for those that do not touch the same part.
PROVOKED = ((budget, frozen_worker, poison), (lost_leases,), (broken_model,), (full_redis,), (no_redis,))


def test_every_alert_has_a_provocation() -> None:
    import inspect

    source = "".join(inspect.getsource(each) for together in PROVOKED for each in together)
    assert set(re.findall(r"alert: (\w+)", rules())) == set(re.findall(r'"(Kiosk\w+)"', source))
