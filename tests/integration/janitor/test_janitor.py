"""The janitor's keepers on a real Redis and real files."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from services.janitor.leases import Leases
from services.janitor.orphans import Orphans
from services.janitor.preview import preview
from services.janitor.retention import Retention
from services.janitor.rounds import keep
from services.janitor.settings import OrphanSettings, Settings
from shared.errors import Misconfigured, NotFound, Retry
from shared.jobs import Held, JobStore, NewJob, Notifications, Watch
from shared.jobs.keys import HINT_JANITOR
from shared.jobs.model import new_id
from shared.storage import Storage, open_storage

TYPE = "segmentation"


@pytest.fixture
async def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}/storage", "ours")


class Clock:
    """A clock that tests move; the store is given its time."""

    def __init__(self, store: JobStore) -> None:
        self.ms = 1_700_000_000_000
        self.store = JobStore(store.redis, store.prefix, 0, lambda: str(self.ms))

    def pass_(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


async def submitted(store: JobStore, **fields: object) -> str:
    (answer,) = await store.submit(NewJob(new_id(TYPE), **fields))  # type: ignore[arg-type]
    return answer.id


async def claimed(store: JobStore, worker: str, count: int = 1, lease: float = 15) -> list[Held]:
    return [job.held for job in (await store.claim(worker, [TYPE], count, lease)).jobs]


async def finished(store: JobStore, storage: Storage, **fields: object) -> str:
    job_id = await submitted(store, **fields)
    (held,) = await claimed(store, "w1")
    assert await store.complete("w1", (held, {})) == [True]
    await storage.put(f"output/{job_id.partition(':')[2]}/1/result.zip", b"result")
    return job_id


async def names(storage: Storage) -> list[str]:
    return [found.key async for found in storage.list()]


async def keys_left(store: JobStore, *words: str) -> list[str]:
    keys = [key async for key in store.redis.scan_iter(match="*")]
    return [key for key in keys if key.startswith(store.prefix) and any(word in key for word in words)]


async def test_expired_leases_go_to_the_front_and_are_buried_in_the_end(store: JobStore) -> None:
    clock = Clock(store)
    leases = Leases(clock.store, "j1", 10, 300)
    first = await submitted(clock.store, max_attempts=2)
    await submitted(clock.store)
    for worker in ("w1", "w2"):
        assert [held.id for held in await claimed(clock.store, worker)] == [first]
        assert await leases.round() == 15.0
        clock.pass_(15.001)
        await leases.round()
    status, reason = await store.get_fields(first, ["status", "reason"])
    assert status == "failed"
    assert reason is not None
    assert "2 failed attempts" in reason
    assert "attempt 1 lost its worker w1, whose lease ran out" in reason
    assert "attempt 2 lost its worker w2, whose lease ran out" in reason


async def test_more_than_a_batch_is_taken_back_in_one_round(store: JobStore) -> None:
    clock = Clock(store)
    ids = [await submitted(clock.store) for _ in range(25)]
    await claimed(clock.store, "w1", 25)
    clock.pass_(20)
    assert await Leases(clock.store, "j1", 4, 300).round() is None
    assert {held.id for held in await claimed(clock.store, "w2", 25)} == set(ids)


async def test_a_long_absent_worker_leaves_the_lists_but_not_while_it_holds_a_job(store: JobStore) -> None:
    clock = Clock(store)
    await submitted(clock.store)
    await clock.store.heartbeat("busy", 15, {"types": TYPE})
    await clock.store.heartbeat("gone", 15, {"types": TYPE})
    await claimed(clock.store, "busy", lease=10_000)
    await claimed(clock.store, "gone")  # nothing left: parked
    await clock.store.retire("gone")
    leases = Leases(clock.store, "j1", 10, 300)
    clock.pass_(314)
    await leases.round()
    assert {worker.id for worker in await clock.store.workers()} == {"busy", "gone"}
    clock.pass_(2)
    await leases.round()
    assert {worker.id for worker in await clock.store.workers()} == {"busy"}
    assert await keys_left(store, "retiring", "idle") == []


async def test_the_janitor_wakes_at_the_deadline_without_any_event(store: JobStore) -> None:
    await submitted(store)
    await claimed(store, "w1", lease=0.2)
    deaf = Watch()
    keeper = asyncio.create_task(keep("leases", Leases(store, "j1", 10, 300).round, deaf, 60))
    try:
        async with asyncio.timeout(10):
            while not await claimed(store, "w2"):
                await asyncio.sleep(0)
    finally:
        keeper.cancel()


async def test_a_round_in_trouble_is_made_again(store: JobStore) -> None:
    rounds = 0
    enough = asyncio.Event()

    async def troubled() -> float | None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            enough.set()
        raise Retry("Redis is away.")

    watch = Watch()
    keeper = asyncio.create_task(keep("test", troubled, watch, 60))
    async with asyncio.timeout(10):
        while not enough.is_set():
            watch.set()
            await asyncio.sleep(0)
    keeper.cancel()


async def test_a_hint_wakes_the_janitor(store: JobStore, notifications: Notifications) -> None:
    job_id = await submitted(store, retention=0.0)
    async with notifications.watch(HINT_JANITOR) as watch:
        async with asyncio.timeout(20):  # the server may serve another connection before the subscription's
            while not await store.redis.pubsub_channels(pattern=f"*{store.prefix}{HINT_JANITOR}"):
                await asyncio.sleep(0)
        await store.cancel(job_id, "someone")
        assert await watch.wait(10)


async def test_retention_deletes_objects_and_every_key(store: JobStore, storage: Storage) -> None:
    await storage.put("uploads/mine.tif", b"x")
    await storage.put("uploads/shared.tif", b"x")
    gone = await finished(store, storage, uses=("uploads/mine.tif", "uploads/shared.tif"), retention=0)
    await storage.put(f"output/{gone.partition(':')[2]}/part/1/labels.png", b"x")
    kept = await finished(store, storage, uses=("uploads/shared.tif",), retention=1000)
    due = await Retention(store, storage, "j1", 1).round()
    assert due is not None
    assert 990 < due <= 1000
    assert await store.get(gone) is None
    assert await names(storage) == [f"output/{kept.partition(':')[2]}/1/result.zip", "uploads/shared.tif"]
    assert await keys_left(store, gone.partition(":")[2], "doomed", "turn:") == []


async def test_a_job_is_forgotten_with_its_parts(store: JobStore, storage: Storage) -> None:
    parent = await submitted(store, retention=0)
    (held,) = await claimed(store, "w1")
    await store.split("w1", held, [(TYPE, {}), (TYPE, {})])
    for child in await claimed(store, "w1", 2):
        await store.complete("w1", (child, {}))
    (again,) = await claimed(store, "w1")
    await store.complete("w1", (again, {}))
    await Retention(store, storage, "j1", 10).round()
    assert await keys_left(store, parent.partition(":")[2]) == []


async def test_what_a_crash_left_half_deleted_is_finished(store: JobStore, storage: Storage) -> None:
    await storage.put("uploads/x.tif", b"x")
    job_id = await finished(store, storage, uses=("uploads/x.tif",), retention=0)
    assert await store.release_objects(job_id) == ["uploads/x.tif"]  # and then the janitor was killed
    assert not await store.expire(job_id, None), "what is half deleted cannot be kept any more"
    with pytest.raises(NotFound, match=r"uploads/x\.tif"):
        await submitted(store, uses=("uploads/x.tif",))
    await Retention(store, storage, "j2", 10).round()
    assert await names(storage) == []
    assert await keys_left(store, job_id.partition(":")[2], "doomed", "uses:") == []


async def test_a_pinned_job_stays(store: JobStore, storage: Storage) -> None:
    job_id = await finished(store, storage, retention=0)
    assert await store.expire(job_id, None)
    assert await store.release_objects(job_id) is None
    await Retention(store, storage, "j1", 10).round()
    assert await store.get(job_id) is not None
    assert len(await names(storage)) == 1


async def test_files_of_people_under_a_jobs_results_stay(store: JobStore, storage: Storage, tmp_path: Path) -> None:
    job_id = await finished(store, storage, retention=0)
    notes = tmp_path / "storage" / "output" / job_id.partition(":")[2] / "notes.txt"
    notes.write_text("mine")
    foreign = open_storage(f"file://{tmp_path}/storage", "theirs")
    await foreign.put(f"output/{job_id.partition(':')[2]}/1/other.zip", b"theirs")
    await Retention(store, storage, "j1", 10).round()
    assert [name.rpartition("/")[2] for name in await names(storage)] == ["other.zip", "notes.txt"]


async def test_several_janitors_do_nothing_twice(store: JobStore, storage: Storage, caplog) -> None:  # type: ignore[no-untyped-def]
    deleted: list[str] = []
    delete = storage.delete

    async def counted(key: str) -> bool:
        deleted.append(key)
        return await delete(key)

    storage.delete = counted  # type: ignore[method-assign]
    for _ in range(10):
        await finished(store, storage, retention=0)
    await asyncio.gather(*(Retention(store, storage, f"j{n}", 3).round() for n in range(5)))
    assert len(deleted) == len(set(deleted)) == 10
    assert await names(storage) == []


async def test_a_dead_janitors_turn_goes_to_the_next(store: JobStore) -> None:
    assert await store.take_turn("retention", "j1", 30)
    assert not await store.take_turn("retention", "j2", 30)
    assert await store.take_turn("retention", "j1", 30), "whoever has the turn keeps it"
    await store.redis.pexpire(f"{store.prefix}turn:retention", 1)  # nobody took it again
    async with asyncio.timeout(10):
        while not await store.take_turn("retention", "j2", 30):
            await asyncio.sleep(0)
    await store.end_turn("retention", "j1")
    assert not await store.take_turn("retention", "j3", 30), "only its holder ends a turn"


def aged(tmp_path: Path, key: str, seconds: float) -> None:
    """Make a stored object look older, as if it had been written before."""
    import hashlib
    import json

    name = hashlib.sha256(key.encode()).hexdigest()
    about = tmp_path / "storage" / ".kiosk" / "meta" / name[:2] / name[2:]
    facts = json.loads(about.read_text())
    facts["stored_at"] = time.time() - seconds
    about.write_text(json.dumps(facts))
    os.utime(tmp_path / "storage" / key, (facts["stored_at"],) * 2)


async def orphanage(store: JobStore, storage: Storage, tmp_path: Path) -> str:
    """Fill a storage with known, unknown, foreign and young objects; return the id of the job that knows some."""
    job_id = await finished(store, storage, uses=("uploads/known.tif",))
    hexes = {"unknown": "0" * 32, "known": job_id.partition(":")[2]}
    for key in ("uploads/known.tif", "uploads/unknown.tif", "uploads/young.tif", f"output/{hexes['unknown']}/1/a.zip"):
        await storage.put(key, b"x")
    await storage.put("models/card.yaml", b"x")
    foreign = open_storage(f"file://{tmp_path}/storage", "theirs")
    await foreign.put("uploads/foreign.tif", b"x")
    (tmp_path / "storage" / "uploads" / "person.tif").write_bytes(b"x")
    for key in await names(storage):
        if not key.endswith(("young.tif", "person.tif")):
            aged(tmp_path, key, 200)
    os.utime(tmp_path / "storage" / "uploads" / "person.tif", (0, 0))
    return job_id


async def test_only_old_unknown_objects_of_this_deployment_are_removed(
    store: JobStore, storage: Storage, tmp_path: Path
) -> None:
    job_id = await orphanage(store, storage, tmp_path)
    orphans = Orphans(store, storage, "j1", OrphanSettings(grace=100, period=3600))
    await orphans.round()
    assert await names(storage) == [
        "models/card.yaml",
        f"output/{job_id.partition(':')[2]}/1/result.zip",
        "uploads/foreign.tif",
        "uploads/known.tif",
        "uploads/person.tif",
        "uploads/young.tif",
    ]
    assert await keys_left(store, "doomed") == []
    await storage.put("uploads/later.tif", b"x")
    aged(tmp_path, "uploads/later.tif", 200)
    await Orphans(store, storage, "j2", OrphanSettings(grace=100, period=3600)).round()
    assert "uploads/later.tif" in await names(storage), "one look in each period, by all janitors together"


async def test_an_object_that_gets_its_job_in_time_is_not_doomed(store: JobStore) -> None:
    await submitted(store, uses=("uploads/a.tif",))
    assert await store.doom("uploads/a.tif", "uploads/b.tif") == {"uploads/b.tif"}
    with pytest.raises(NotFound):
        await submitted(store, uses=("uploads/b.tif",))
    await store.absolve("uploads/b.tif")
    await submitted(store, uses=("uploads/b.tif",))


async def test_a_dry_run_tells_everything_and_changes_nothing(
    store: JobStore, storage: Storage, tmp_path: Path
) -> None:
    await orphanage(store, storage, tmp_path)
    lost = await submitted(store)
    await claimed(store, "w1", lease=0.001)
    due = await finished(store, storage, uses=("uploads/known.tif",), retention=0)
    await storage.put("uploads/alone.tif", b"x")
    alone = await finished(store, storage, uses=("uploads/alone.tif",), retention=0)
    before = (await names(storage), await store.get(lost), await store.get(due))
    settings = Settings(orphans=OrphanSettings(grace=100))
    told = [sentence async for sentence in preview(store, storage, settings)]
    assert any(f"take back {lost}" in sentence for sentence in told)
    assert any(f"forget {due}" in sentence for sentence in told)
    assert sum("uploads/known.tif" in sentence for sentence in told) == 0
    assert sum("uploads/alone.tif: only" in sentence and alone in sentence for sentence in told) == 1
    assert sum("no job knows it" in sentence for sentence in told) == 2
    assert (await names(storage), await store.get(lost), await store.get(due)) == before


async def test_trouble_of_every_kind_ends_a_round_and_never_the_keeper(store: JobStore) -> None:
    """A bucket refuses to delete one object under a hold: that must not take the keeper of the leases down."""
    troubles: list[Exception] = [
        Misconfigured("The bucket refuses."),
        NotFound("Gone."),
        OSError("bad"),
        Retry("Away."),
    ]
    all_happened = asyncio.Event()

    async def troubled() -> float | None:
        if troubles:
            raise troubles.pop()
        all_happened.set()
        return None

    watch = Watch()
    keeper = asyncio.create_task(keep("test", troubled, watch, 60))
    async with asyncio.timeout(10):
        while not all_happened.is_set():
            assert not keeper.done()
            watch.set()
            await asyncio.sleep(0)
    keeper.cancel()


def refusing(storage: Storage, *words: str) -> None:
    """Let a storage refuse to delete objects whose names hold some words."""
    delete = storage.delete

    async def deleted(key: str) -> bool:
        if any(word in key for word in words):
            raise Misconfigured(f"The bucket refuses {key}.")
        return await delete(key)

    storage.delete = deleted  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [1, 15])
async def test_a_job_that_cannot_be_deleted_keeps_no_other_alive(
    store: JobStore, storage: Storage, number: int
) -> None:
    stuck = [await finished(store, storage, retention=0) for _ in range(number)]
    others = [await finished(store, storage, retention=0) for _ in range(5)]
    refusing(storage, *(job_id.partition(":")[2] for job_id in stuck))
    retention = Retention(store, storage, "j1", 10)
    for _ in range(2):
        with pytest.raises(Misconfigured, match="refuses"):
            await retention.round()
    assert await store.get_many(others) == [None] * 5
    assert None not in await store.get_many(stuck)


async def test_an_orphan_that_cannot_be_deleted_keeps_no_other(
    store: JobStore, storage: Storage, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        await storage.put(f"uploads/{name}.tif", b"x")
        aged(tmp_path, f"uploads/{name}.tif", 1000)
    refusing(storage, "a.tif")
    with pytest.raises(Misconfigured, match="refuses"):
        await Orphans(store, storage, "j1", OrphanSettings(grace=60)).round()
    assert await names(storage) == ["uploads/a.tif"]
    assert await store.redis.smembers(f"{store.prefix}doomed") == {"uploads/a.tif"}


async def test_a_damaged_list_of_files_keeps_no_job_from_being_forgotten(store: JobStore, storage: Storage) -> None:
    clock = Clock(store)
    damaged = [await finished(clock.store, storage, retention=1) for _ in range(2)]
    sound = await finished(clock.store, storage, retention=1)
    lists = ('["../x", ".kiosk/y", "a//b"]', '[{"x": 1}, 7, null, ["y"]]')
    for job_id, uses in zip(damaged, lists, strict=True):
        await store.redis.hset(f"{store.prefix}job:{job_id}", "uses", uses)
    clock.pass_(2)
    await Retention(clock.store, storage, "j1", 10).round()
    assert [await store.get(job_id) for job_id in (*damaged, sound)] == [None] * 3
    assert await names(storage) == []
