"""Equal uploads against a plain model: no object is given up that somebody wants, and none is kept that nobody does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from shared.errors import NotFound
from shared.jobs import JobStore, NewJob
from shared.jobs.audit import audit
from shared.jobs.model import new_id

TYPE = "segmentation"
GRACE = 100.0


@dataclass
class Model:
    """Objects in storage, uploads by name (object, time), and the uploads that jobs name."""

    now: float = 1_700_000_000.0
    stored: set[str] = field(default_factory=set)
    uploads: dict[str, tuple[str, float]] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)

    def wanted(self, name: str) -> bool:
        """Whether an upload is young, or named by a job."""
        return self.now - self.uploads[name][1] < GRACE or name in self.jobs.values()

    def needed(self) -> set[str]:
        return {object_ for name, (object_, _) in self.uploads.items() if self.wanted(name)}


class Actor:
    """Does at random what frontends and janitors do, on the store and on the model."""

    def __init__(self, store: JobStore, seed: int) -> None:
        self.model = Model()
        self.store = JobStore(store.redis, store.prefix, 0, lambda: str(round(self.model.now * 1000)))
        self.random = random.Random(seed)
        self.number = 0

    async def step(self) -> None:
        acts = (self.upload, self.upload, self.submit, self.submit, self.forget, self.sweep, self.wait)
        await self.random.choice(acts)()

    async def upload(self) -> None:
        self.number += 1
        name = f"uploads/{self.number}.tif"
        owner, bytes_ = self.random.choice("ab"), self.random.choice("xy")
        self.model.stored.add(name)
        found = await self.store.share(owner, bytes_, ".tif", name, "cells.tif")
        assert found in self.model.stored
        if found != name:
            self.model.stored.discard(name)
        self.model.uploads[name] = (found, self.model.now)

    async def submit(self) -> None:
        """Submit a job for any upload that ever was, as a client may that remembers it."""
        if not self.model.uploads:
            return
        name = self.random.choice(sorted(self.model.uploads))
        held, _ = self.model.uploads[name]
        there = name in self.model.stored or await self.store.shared(name) is not None
        if not there:
            assert not self.model.wanted(name)
            return
        (answer,) = await self.store.submit(NewJob(new_id(TYPE), {"input_file_name": name}, uses=(name,)))
        job = await self.store.get(answer.id)
        assert job is not None
        assert job.input_object == held
        assert held in self.model.stored
        self.model.jobs[answer.id] = name

    async def forget(self) -> None:
        if not self.model.jobs:
            return
        job = self.random.choice(sorted(self.model.jobs))
        await self.store.cancel(job, "test")
        await self.store.expire(job, 0)
        objects = await self.store.release_objects(job)
        assert objects is not None
        name = self.model.jobs.pop(job)
        if name not in self.model.jobs.values():
            held, _ = self.model.uploads[name]
            self.model.uploads[name] = (held, 0.0)  # its last job goes, and it with that
        for gone in objects:
            await self.deleted(gone)
        await self.store.forget(job, objects)

    async def sweep(self) -> None:
        for gone in await self.store.doom(*sorted(self.model.stored), grace=GRACE):
            await self.deleted(gone)
            await self.store.absolve(gone)
        assert self.model.stored == self.model.needed(), "what nobody wants is gone after a sweep"

    async def deleted(self, gone: str) -> None:
        assert gone not in self.model.needed(), f"{gone} is wanted"
        self.model.stored.discard(gone)

    async def wait(self) -> None:
        self.model.now += self.random.choice([1, GRACE / 2, GRACE])

    async def end(self) -> None:
        while self.model.jobs:
            await self.forget()
        self.model.now += 2 * GRACE
        await self.sweep()
        assert self.model.stored == set()


@pytest.mark.parametrize("seed", range(6))
async def test_no_object_goes_that_is_wanted_and_none_stays_that_is_not(store: JobStore, seed: int) -> None:
    actor = Actor(store, seed)
    for _ in range(80):
        await actor.step()
    assert await audit(actor.store) == []
    await actor.end()
    left = [key[len(store.prefix) :] async for key in store.redis.scan_iter(match="*") if key.startswith(store.prefix)]
    assert [key for key in left if key.startswith(("upload:", "content:", "uses:", "doomed"))] == []


async def test_many_names_of_one_object_are_taken_off_some_at_a_time(store: JobStore) -> None:
    for number in range(1500):
        await store.share("ann", "sum", ".tif", f"uploads/{number}.tif", "cells.tif")
    assert await store.doom("uploads/0.tif") == set(), "a step of limited length, since Redis waits meanwhile"
    assert await store.doom("uploads/0.tif") == {"uploads/0.tif"}


async def test_an_object_whose_place_another_took_stays_for_the_job_that_names_it(store: JobStore) -> None:
    """It was found missing for a moment only, as by a storage that is slow to show what it has."""
    await store.share("ann", "sum", ".tif", "uploads/a.tif", "cells.tif")
    job = new_id(TYPE)
    await store.submit(NewJob(job, {"input_file_name": "uploads/a.tif"}, uses=("uploads/a.tif",)))
    assert await store.share("ann", "sum", ".tif", "uploads/b.tif", "x.tif", missing="uploads/a.tif") == "uploads/b.tif"
    assert await store.doom("uploads/a.tif") == set()
    await store.cancel(job, "test")
    await store.expire(job, 0)
    await store.forget(job, await store.release_objects(job) or [])
    assert await store.doom("uploads/a.tif") == {"uploads/a.tif"}


async def test_an_upload_being_deleted_cannot_be_named_by_any_of_its_names(store: JobStore) -> None:
    for name in ("uploads/a.tif", "uploads/b.tif"):
        await store.share("ann", "sum", ".tif", name, "cells.tif")
    assert await store.doom("uploads/a.tif") == {"uploads/a.tif"}
    with pytest.raises(NotFound):
        await store.submit(NewJob(new_id(TYPE), uses=("uploads/a.tif",)))
    assert await store.shared("uploads/b.tif") is None
