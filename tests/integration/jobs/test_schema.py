"""The version of the keys in Redis: written once, refused where it is newer, raised by steps where it is older."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import pytest

from shared.errors import Misconfigured, Retry
from shared.jobs import JobStore
from shared.jobs.keys import SCHEMA_VERSION
from shared.jobs.schema import STEPS, compared, fit
from shared.version import VERSION
from tests.fixtures.redis import RedisServer
from tests.fixtures.suite import ROOT


class Steps(dict[int, object]):
    """Steps that note themselves in Redis, as real ones would change keys."""

    def __init__(self, *versions: int) -> None:
        super().__init__({version: self._step(version) for version in versions})
        self.done: list[int] = []

    def _step(self, version: int) -> object:
        async def step(store: JobStore) -> None:
            await asyncio.sleep(0)
            self.done.append(version)
            assert await store.schema() == version

        return step


async def raised(store: JobStore, steps: Steps, version: int, by: str = "me") -> None:
    await fit(store, by, version=version, steps=steps)  # type: ignore[arg-type]


async def test_the_first_service_writes_the_version(store: JobStore) -> None:
    assert await store.schema() is None
    await fit(store, "me")
    assert await store.schema() == SCHEMA_VERSION
    await fit(store, "another")
    assert set(range(1, SCHEMA_VERSION)) == set(STEPS), "each older version has a step to the next"


async def test_a_newer_version_is_refused(store: JobStore) -> None:
    await store.set_schema(SCHEMA_VERSION + 1)
    for look in (fit(store, "me"), compared(store)):
        with pytest.raises(Misconfigured, match=r"of a newer version of CellKiosk.*no way back"):
            await look
    assert await store.schema() == SCHEMA_VERSION + 1


async def test_an_older_version_is_brought_up_to_date_step_by_step(store: JobStore) -> None:
    await store.set_schema(3)
    steps = Steps(3, 4, 5)
    await raised(store, steps, 6)
    assert (steps.done, await store.schema()) == ([3, 4, 5], 6)
    await raised(store, steps, 6)
    assert steps.done == [3, 4, 5]


async def test_of_many_services_one_does_it(store: JobStore) -> None:
    await store.set_schema(1)
    steps = Steps(1, 2)

    async def start(by: str) -> None:
        while True:
            with contextlib.suppress(Retry):
                return await raised(store, steps, 3, by)
            await asyncio.sleep(0)

    await asyncio.gather(*(start(str(number)) for number in range(8)))
    assert steps.done == [1, 2]


async def test_a_step_that_broke_off_is_done_again(store: JobStore) -> None:
    await store.set_schema(1)
    steps = Steps(1)

    async def breaks(_store: JobStore) -> None:
        raise Retry("Redis is away.")

    with pytest.raises(Retry):
        await fit(store, "me", version=2, steps={1: breaks})
    assert await store.schema() == 1
    await raised(store, steps, 2, by="another")
    assert (steps.done, await store.schema()) == ([1], 2)


async def test_nothing_is_changed_while_workers_of_another_version_live(store: JobStore) -> None:
    await store.set_schema(1)
    steps = Steps(1)
    await store.heartbeat("old-worker", 60, {"version": "0.0.9"})
    with pytest.raises(Misconfigured, match="workers of another version live: old-worker"):
        await raised(store, steps, 2)
    await store.heartbeat("old-worker", 60, {"version": VERSION})
    await raised(store, steps, 2)
    assert steps.done == [1]


async def test_a_version_too_old_and_one_that_is_none_are_named(store: JobStore) -> None:
    await store.set_schema(1)
    with pytest.raises(Misconfigured, match=r"knows no way from there\. Upgrade to a version in between"):
        await raised(store, Steps(2), 3)
    await store.redis.set(f"{store.prefix}schema", "horse")
    with pytest.raises(Misconfigured, match="schema 'horse', which is no number"):
        await fit(store, "me")


@pytest.mark.parametrize("service", ["frontend", "consumer", "janitor", "autoscaler"])
async def test_no_service_works_on_a_newer_version(
    service: str, store: JobStore, redis_server: RedisServer, tmp_path: object
) -> None:
    await store.set_schema(SCHEMA_VERSION + 1)
    settings = {
        "PYTHONPATH": str(ROOT),
        "KIOSK_REDIS__URL": redis_server.url,
        "KIOSK_REDIS__PREFIX": store.prefix,
        "KIOSK_STORAGE__URL": f"file://{tmp_path}/storage",
        "KIOSK_SCRATCH": f"{tmp_path}/scratch",
        "KIOSK_MODEL_SERVER__URL": f"onnx://{ROOT}/services/triton/models",
        "KIOSK_SCALER": "local",
        "KIOSK_PORT": "0",
        "KIOSK_HEALTH__PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{service}"),
        env={"PATH": os.environ["PATH"], **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = (text.decode() for text in await process.communicate())
    assert process.returncode == 2, out + err
    assert f"{service}: Redis holds jobs of schema {SCHEMA_VERSION + 1}" in err
    assert "Traceback" not in out + err
