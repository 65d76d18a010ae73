"""Questions that the frontend asks of the store."""

from __future__ import annotations

from shared.jobs import JobStore, NewJob
from shared.jobs.model import new_id


async def test_models_are_known_as_last_announced(store: JobStore) -> None:
    assert await store.models() == {}
    await store.announce_models({"Old": ["1"], "Nuclei": ["1", "2"]})
    await store.announce_models({"Nuclei": ["1", "2"]})
    assert await store.models() == {"Nuclei": ["1", "2"]}


async def test_the_queue_tells_ranks_and_how_many_wait(store: JobStore) -> None:
    ids = [new_id("segmentation") for _ in range(3)]
    await store.submit(*(NewJob(i, owner="ann") for i in ids), NewJob(new_id("segmentation"), owner="bob"))
    assert await store.ranks([(i, "ann") for i in reversed(ids)]) == [2, 1, 0]
    assert await store.ranks([(ids[0], "bob")]) == [None]
    assert await store.waiting("ann", ["segmentation", "tracking"]) == 3


async def test_fields_of_many_jobs_come_in_order_and_from_jobs_only(store: JobStore) -> None:
    first, second = new_id("segmentation"), new_id("segmentation")
    await store.submit(NewJob(first, {"model": "A"}), NewJob(second, {"model": "B"}))
    asked = [(second, ["model"]), ("../types", ["x"]), (first, ["status", "model", "none"])]
    assert await store.fields_of_many(asked) == [["B"], [None], ["new", "A", None]]
