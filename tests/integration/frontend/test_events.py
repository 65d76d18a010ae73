"""Event streams: live, replayed, of many jobs, and all the same without notifications."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse

from shared.jobs.model import new_id
from tests.fixtures.frontend import Serve, Served


@dataclass(frozen=True)
class Event:
    kind: str
    id: str
    data: dict[str, Any]


async def events_of(answer: ClientResponse) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "data" in fields:
            yield Event(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
        fields = {}


@contextlib.asynccontextmanager
async def stream(served: Served, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with served.http.get(served.url + path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        yield events_of(answer)


@pytest.mark.parametrize("hear", [True, False])
async def test_a_job_is_followed_to_its_end(serve: Serve, hear: bool) -> None:
    # Without notifications nothing comes but at the reconcile period; with them the period is never waited for.
    served = await serve(hear=hear, redis={"reconcile": 0.1 if not hear else 600})
    job_id = await served.submit()
    async with stream(served, f"/api/v1/jobs/{job_id}/events") as events:
        assert (await anext(events)).data["status"] == "new"
        (job,) = await served.worker.claim()
        while (event := await anext(events)).data["status"] != "started":
            assert event.data["status"] == "new"
            assert event.data["position"] == 1
        await served.worker.complete(job)
        told = [event async for event in events]
    assert told[-1].kind == "end"
    final = told[-2].data
    assert (final["status"], final["progress"]) == ("done", 100)
    assert final["links"]["result"] == f"/api/v1/jobs/{job_id}/result"
    assert await served.front.hub.fields((job_id, ("status",))) == ["done"]


async def test_how_long_it_may_take_is_told_while_waiting_and_while_running(serve: Serve) -> None:
    earlier = await serve()
    for _ in range(3):
        await earlier.submit()
        (job,) = await earlier.worker.claim()
        await earlier.worker.complete(job, {"total_time": "10.5"})
    served = await serve()  # has seen no job end
    first, second = await served.submit(), await served.submit()
    path = f"/api/v1/events?ids={first},{second}"
    async with stream(served, path) as events:
        etas: dict[str, float | None] = {}
        while etas != {first: 10, second: 21}:
            event = (await anext(events)).data
            etas[event["id"]] = event["eta"]
        (job,) = await served.worker.claim()
        while (event := (await anext(events)).data)["status"] != "started":
            pass
        assert event["eta"] == 10
        await served.store.advance("stand-in", (job.held, "predicting", 40))
        while (event := (await anext(events)).data)["status"] != "predicting":
            pass
        assert event["eta"] == 6
        await served.worker.complete(job)
        while (event := (await anext(events)).data)["status"] != "done":
            pass
        assert event["eta"] is None


async def test_a_reconnection_is_told_only_what_changed_since(served: Served) -> None:
    job_id = await served.submit()
    async with stream(served, f"/api/v1/jobs/{job_id}/events") as events:
        first = await anext(events)
    (job,) = await served.worker.claim()
    later = str(int(first.id) + 1)
    async with stream(served, f"/api/v1/jobs/{job_id}/events", **{"Last-Event-ID": later}) as events:
        event = await anext(events)
        assert event.data["status"] == "started"
        await served.worker.complete(job)
    async with stream(served, f"/api/v1/jobs/{job_id}/events", **{"Last-Event-ID": str(10**15 - 1)}) as events:
        assert [event.kind async for event in events] == ["end"]


async def test_many_jobs_on_one_stream(served: Served) -> None:
    ids = [await served.submit(f"cells_{n}.tif") for n in range(3)]
    path = f"/api/v1/events?ids={','.join(ids)},{new_id('segmentation')}"
    async with stream(served, path) as events:
        seen = {(await anext(events)).data["id"] for _ in ids}
        assert seen == set(ids)
        for job in await served.worker.claim(3):
            await served.worker.complete(job)
        done = {event.data["id"] async for event in events if event.kind == "job" and event.data["status"] == "done"}
    assert done == set(ids)


async def test_a_batch_on_one_stream(served: Served) -> None:
    files = [(await served.upload(f"cells_{n}.tif"))[1]["uploadedName"] for n in range(3)]
    wish = {"type": "segmentation", "files": [{"file": key} for key in files]}
    status, batch = await served.post("/api/v1/batches", wish)
    assert (status, batch["total"], batch["counts"]) == (201, 3, {"new": 3})
    async with stream(served, f"/api/v1/batches/{batch['id']}/events") as events:
        assert {(await anext(events)).data["id"] for _ in files} == set(batch["jobs"])
        assert (await served.http.delete(f"{served.url}/api/v1/batches/{batch['id']}")).status == 200
        # Until it is canceled a job may be told its place in the queue.
        last = {event.data["id"]: event.data["status"] async for event in events if event.kind == "job"}
    assert last == dict.fromkeys(batch["jobs"], "canceled")
    _, batch = await served.get(f"/api/v1/batches/{batch['id']}")
    assert (batch["final"], batch["progress"]) == (True, 100)


async def test_those_who_leave_are_forgotten(served: Served) -> None:
    job_id = await served.submit()
    hub = served.front.hub
    async with stream(served, f"/api/v1/jobs/{job_id}/events") as events:
        await anext(events)
        assert list(hub._watched) == [job_id]
    (job,) = await served.worker.claim()
    await served.worker.complete(job)
    # The server learns that the client has gone when it next writes.
    async with asyncio.timeout(10):
        while hub._watched:
            await asyncio.sleep(0)


async def test_a_job_that_is_forgotten_ends_its_stream(served: Served) -> None:
    job_id = await served.submit()
    async with stream(served, f"/api/v1/jobs/{job_id}/events") as events:
        await anext(events)
        await served.store.redis.delete(served.store.prefix + "job:" + job_id)
        assert [event.kind async for event in events if event.kind != "job"] == ["gone", "end"]


async def test_events_heal_after_redis_was_away(own_redis, prefix: str, serve: Serve) -> None:  # type: ignore[no-untyped-def]
    from shared.jobs import NewJob, open_store

    store = open_store(own_redis.url, prefix)
    try:
        await store.submit(NewJob(job_id := new_id("segmentation")))
        served = await serve(hear=False, on=store, redis={"reconcile": 0.1})
        async with stream(served, f"/api/v1/jobs/{job_id}/events") as events:
            await anext(events)
            own_redis.stop(kill=True)
            status, problem = await served.get(f"/api/v1/jobs/{job_id}")
            assert (status, problem["code"]) == (503, "unavailable")
            async with served.http.post(f"{served.url}/api/status", json={"hash": job_id}) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1
                assert "job store" in (await answer.json())["message"]
            own_redis.start()
            await store.cancel(job_id, "test")
            told = [event async for event in events]
        assert told[-2].data["status"] == "canceled"
    finally:
        await store.aclose()
