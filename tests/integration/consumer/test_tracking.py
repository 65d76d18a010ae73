"""Tracking end to end: a movie with a division, segmented frame by frame and linked."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.consumer.pipelines import segmentation, tracking
from services.consumer.worker import Outcome
from shared.errors import InvalidInput
from shared.jobs import Job
from tests.fixtures.consumer import Consumer, labels_of, tiff

FRAMES, SIZE = 6, 128


def movie() -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Return a movie (T, Y, X) of one cell that walks and one that divides after the third frame; and its labels."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.full((FRAMES, SIZE, SIZE), 300, np.float32)
    labels = np.zeros((FRAMES, SIZE, SIZE), np.int32)
    for t in range(FRAMES):
        centres = [(32 + 3 * t, 30)]
        centres += [(80, 90)] if t < 3 else [(80 - 10 - t, 90 - 4), (80 + 10 + t, 90 + 4)]
        for number, (row, column) in enumerate(centres, start=1):
            distance = np.hypot(y - row, x - column)
            image[t] += 3000 * np.clip(11 - distance, 0, 1)
            labels[t][distance < 10] = number
    image += np.random.default_rng(0).normal(0, 20, image.shape)
    return image.astype(np.uint16), labels


def check(entries: dict[str, bytes]) -> None:
    assert list(entries) == ["film_feature_0.tif", "lineage.json"]
    stack, lineage = labels_of(entries["film_feature_0.tif"]), json.loads(entries["lineage.json"])
    assert stack.shape == (FRAMES, SIZE, SIZE)
    walker, parent = stack[0, 32, 30], stack[0, 80, 90]
    assert all(stack[t, 32 + 3 * t, 30] == walker for t in range(FRAMES))
    daughters = {int(stack[5, 80 - 15, 86]), int(stack[5, 80 + 15, 94])}
    track = lineage[str(parent)]
    assert set(track["daughters"]) == daughters
    assert track["frame_div"] == 3
    assert lineage[str(walker)]["daughters"] == []
    assert lineage[str(walker)]["frames"] == list(range(FRAMES))
    assert all(lineage[str(daughter)]["parent"] == parent for daughter in daughters)
    assert set(track) == {"label", "frames", "daughters", "parent", "frame_div", "capped"}


async def test_a_movie_becomes_tracks_with_a_division(consumer: Consumer) -> None:
    job = await consumer.run("tracking", tiff(movie()[0], metadata={"axes": "TYX"}), "film.tif")
    check(await consumer.result(job))
    assert job.fields["total_jobs"] == str(FRAMES)


async def test_a_long_movie_is_segmented_in_runs_of_frames(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_PARTS", 2)
    job = await consumer.run("tracking", tiff(movie()[0], metadata={"axes": "TYX"}), "film.tif")
    check(await consumer.result(job))
    assert job.fields["total_jobs"] == "2"


async def test_frames_that_cannot_be_segmented_are_empty_and_told(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = segmentation._hand_over

    async def broken(job: Job, *rest: Any) -> Outcome:
        if job.fields["original_name"] == "frames-2-3":
            raise InvalidInput("These two are out of focus.")
        return await whole(job, *rest)

    monkeypatch.setattr(tracking, "_PARTS", 3)
    monkeypatch.setattr(segmentation, "_hand_over", broken)
    job = await consumer.run("tracking", tiff(movie()[0], metadata={"axes": "TYX"}), "film.tif")
    stack = labels_of((await consumer.result(job))["film_feature_0.tif"])
    assert [bool(frame.any()) for frame in stack] == [True, True, False, False, True, True]
    assert stack[1, 35, 30] == stack[4, 44, 30]
    assert job.fields["failures"] == "frames-2-3=These%20two%20are%20out%20of%20focus."


def npy(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def segmented(image: NDArray[Any], labels: NDArray[Any], mode: str = "w") -> bytes:
    """Return a .trk file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, array in (("raw.npy", image), ("tracked.npy", labels)):
            content = npy(array[..., np.newaxis])
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_a_segmented_movie_is_linked_as_it_is(consumer: Consumer, mode: str) -> None:
    job = await consumer.run("tracking", segmented(*movie(), mode), "film.trk")
    check(await consumer.result(job))


async def test_several_movies_of_a_file_are_linked_each_by_itself(consumer: Consumer) -> None:
    image, labels = movie()
    content = segmented(np.stack([image, image[::-1]]), np.stack([labels, labels[::-1]]), "w:gz")
    job = await consumer.run("tracking", content, "films.trks", {"pixel_size_um": 0.5})
    entries = await consumer.result(job)
    assert list(entries) == ["films_batch_0_feature_0.tif", "films_batch_1_feature_0.tif", "lineages.json"]
    forward, backward = json.loads(entries["lineages.json"])
    check({"film_feature_0.tif": entries["films_batch_0_feature_0.tif"], "lineage.json": json.dumps(forward).encode()})
    assert not any(track["daughters"] for track in backward.values())
    assert labels_of(entries["films_batch_1_feature_0.tif"]).shape == labels.shape
    assert job.fields["dim_order"] == "BTYX"


async def test_labels_of_any_number_are_numbered_anew(consumer: Consumer) -> None:
    image, labels = movie()
    wild = np.where(labels == 0, -7, labels.astype(np.int64) * 2_000_000_000)
    job = await consumer.run("tracking", segmented(image, wild), "film.trk")
    check(await consumer.result(job))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no tar at all" * 100, "no archive"),
        (segmented(np.zeros((2, 8, 8)), np.zeros((3, 8, 8), np.int32)), "differ in shape"),
        (segmented(np.zeros((2, 8, 8)), np.zeros((2, 8, 8))), "whole numbers are needed"),
        (segmented(np.zeros((2, 8, 8), complex), np.zeros((2, 8, 8), np.int32)), "numbers are needed"),
        (segmented(np.zeros((2, 8, 8)), np.zeros((2, 8, 8), np.int32))[:1500], "damaged"),
    ],
)
async def test_a_broken_segmented_movie_fails_with_a_sentence(consumer: Consumer, content: bytes, reason: str) -> None:
    job = await consumer.run("tracking", content, "film.trk")
    assert job.status == "failed"
    assert reason in job.fields["reason"]


async def test_an_archive_of_movies_takes_segmented_ones_too(consumer: Consumer) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/film.trk", segmented(*movie()))
    job = await consumer.run("archive", out.getvalue(), "films.zip", item_type="tracking")
    assert list(await consumer.result(job)) == ["a/film_feature_0.tif", "a/lineage.json"]


async def test_one_frame_is_no_movie(consumer: Consumer) -> None:
    job = await consumer.run("tracking", tiff(movie()[0][0]), "film.tif")
    assert job.status == "failed"
    assert job.fields["reason"].startswith("A movie needs 2 to")
