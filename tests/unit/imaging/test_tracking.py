"""Tracks of simulated movies: links, divisions, births, deaths, and what the lineage says of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.consumer.imaging.tracking import Tracker, TrackingParams

SIZE = 512


@dataclass
class Movie:
    """Cells that walk at random, keep their distance, divide, and may vanish."""

    seed: int
    cells: int = 60
    walk: float = 2.0
    divide: float = 0.0
    frames: list[NDArray[np.int32]] = field(default_factory=list)
    parents: dict[int, int] = field(default_factory=dict)

    def make(self, count: int) -> Movie:
        rng = np.random.default_rng(self.seed)
        place = rng.random((self.cells, 2)) * (SIZE - 40) + 20
        radius = rng.uniform(8, 11, self.cells)
        ids = list(range(1, self.cells + 1))
        for _ in range(count):
            place = self.apart(place, radius)
            self.draw(place, radius, ids)
            place += rng.normal(0, self.walk, place.shape)
            radius = np.minimum(radius * 1.01, 11)
            for i in np.flatnonzero(rng.random(len(ids)) < self.divide):
                axis = rng.normal(size=2)
                axis *= radius[i] * 0.75 / np.linalg.norm(axis)
                mother, first = ids[i], max(max(ids), max(self.parents, default=0)) + 1
                self.parents |= {first: mother, first + 1: mother}
                place = np.concatenate([place, [place[i] - axis]])
                place[i] += axis
                radius[i] *= 0.72
                radius = np.append(radius, radius[i])
                ids[i] = first
                ids.append(first + 1)
        return self

    def apart(self, place: NDArray[Any], radius: NDArray[Any]) -> NDArray[Any]:
        for _ in range(20):
            gap = place[:, np.newaxis] - place
            distance = np.linalg.norm(gap, axis=2) + np.eye(len(place)) * 1e9
            push = np.maximum(radius[:, np.newaxis] + radius + 1 - distance, 0) / 2
            place = place + (gap / distance[..., np.newaxis] * push[..., np.newaxis]).sum(axis=1) * 0.5
        return np.clip(place, 12, SIZE - 13)

    def draw(self, place: NDArray[Any], radius: NDArray[Any], ids: list[int]) -> None:
        frame = np.zeros((SIZE, SIZE), np.int32)
        for (y, x), r, name in zip(place, radius, ids, strict=True):
            cv2.circle(frame, (round(x), round(y)), round(r), name, -1)
        self.frames.append(frame)


def shuffled(frame: NDArray[np.int32], seed: int) -> NDArray[np.int32]:
    """Give a frame's objects other numbers, as a segmentation would."""
    known = np.unique(frame)[1:]
    number = np.zeros(int(frame.max(initial=0)) + 1, np.int32)
    number[known] = np.random.default_rng(seed).permutation(known.size) + 1
    return number[frame]


def track(frames: list[NDArray[np.int32]], params: TrackingParams | None = None) -> tuple[Tracker, list[Any]]:
    tracker = Tracker(params)
    return tracker, [tracker.add(shuffled(frame, t)) for t, frame in enumerate(frames)]


def names(truth: NDArray[np.int32], found: NDArray[np.int32]) -> dict[int, int]:
    """Return the track of each true object of a frame."""
    return {int(name): int(found[truth == name][0]) for name in np.unique(truth)[1:]}


def links(truth: list[NDArray[np.int32]], found: list[NDArray[np.int32]]) -> tuple[int, int]:
    """Return how many objects kept their track from frame to frame, and how many should have."""
    right = wanted = 0
    for t in range(len(truth) - 1):
        before, after = names(truth[t], found[t]), names(truth[t + 1], found[t + 1])
        for name in before.keys() & after.keys():
            wanted += 1
            right += before[name] == after[name]
    return right, wanted


@pytest.mark.parametrize("walk", [1.0, 3.0, 6.0])
def test_walking_cells_keep_their_tracks(walk: float) -> None:
    movie = Movie(1, walk=walk).make(15)
    _, found = track(movie.frames)
    right, wanted = links(movie.frames, found)
    assert right >= 0.995 * wanted


def test_divisions_are_found_and_few_are_made_up() -> None:
    right = made_up = wanted = 0
    for seed in range(3):
        movie = Movie(seed, cells=40, divide=0.012).make(25)
        tracker, found = track(movie.frames)
        true = set(movie.parents.values())
        lineage = tracker.lineage()
        named = {}
        for truth, labels in zip(movie.frames, found, strict=True):
            named.update({track: name for name, track in names(truth, labels).items()})
        # The last division may lie behind the last frame.
        seen = {name for frame in movie.frames for name in np.unique(frame).tolist()}
        wanted += sum(
            1 for mother in true if any(child in seen and movie.parents[child] == mother for child in movie.parents)
        )
        for number, entry in lineage.items():
            if entry["daughters"]:
                right += named[int(number)] in true
                made_up += named[int(number)] not in true
    assert wanted > 20
    assert right >= 0.9 * wanted
    assert made_up <= 0.1 * wanted


def test_the_lineage_of_one_division() -> None:
    frames = [np.zeros((64, 64), np.int32) for _ in range(4)]
    for t, frame in enumerate(frames):
        if t < 2:
            cv2.circle(frame, (32, 32), 10, 1, -1)
        else:
            cv2.circle(frame, (24, 32), 7, 1, -1)
            cv2.circle(frame, (40, 32), 7, 2, -1)
    tracker, found = track(frames)
    assert tracker.lineage() == {
        "1": {"label": 1, "frames": [0, 1], "daughters": [2, 3], "parent": None, "frame_div": 2, "capped": True},
        "2": {"label": 2, "frames": [2, 3], "daughters": [], "parent": 1, "frame_div": None, "capped": False},
        "3": {"label": 3, "frames": [2, 3], "daughters": [], "parent": 1, "frame_div": None, "capped": False},
    }
    assert [sorted(np.unique(frame)) for frame in found] == [[0, 1], [0, 1], [0, 2, 3], [0, 2, 3]]


def test_a_new_neighbour_is_no_daughter() -> None:
    frames = [np.zeros((64, 96), np.int32) for _ in range(2)]
    cv2.circle(frames[0], (30, 32), 10, 1, -1)
    cv2.circle(frames[1], (30, 32), 10, 1, -1)
    cv2.circle(frames[1], (52, 32), 10, 2, -1)
    tracker, _ = track(frames)
    assert [entry["parent"] for entry in tracker.lineage().values()] == [None, None]


def test_far_objects_are_another_and_costs_decide() -> None:
    frames = [np.zeros((64, 200), np.int32) for _ in range(2)]
    cv2.circle(frames[0], (20, 32), 8, 1, -1)
    cv2.circle(frames[1], (60, 32), 8, 1, -1)
    for params, tracks in (
        (TrackingParams(), 1),
        (TrackingParams(max_distance=39), 2),
        (TrackingParams(birth=0.05, death=0.05), 2),
    ):
        tracker, _ = track(frames, params)
        assert len(tracker.lineage()) == tracks, params
    assert tracker.lineage()["1"]["capped"]


def test_frames_without_objects() -> None:
    empty = np.zeros((32, 32), np.int32)
    one = empty.copy()
    one[4:9, 4:9] = 7
    tracker = Tracker()
    for frame in (empty, one, empty, empty, empty, one):
        tracker.add(frame)
    assert [(entry["frames"], entry["parent"]) for entry in tracker.lineage().values()] == [([1], None), ([5], None)]
    assert Tracker().lineage() == {}


@pytest.mark.parametrize(("missed", "max_gap", "tracks"), [(1, 2, 1), (2, 2, 1), (3, 2, 2), (1, 0, 2), (2, 1, 2)])
def test_a_cell_that_is_missed_for_a_while_keeps_its_track(missed: int, max_gap: int, tracks: int) -> None:
    frames = []
    for t in range(missed + 4):
        frame = np.zeros((64, 160), np.int32)
        cv2.circle(frame, (120, 32), 9, 1, -1)
        if not 2 <= t < 2 + missed:
            cv2.circle(frame, (30 + t, 32), 9, 2, -1)
        frames.append(frame)
    tracker, found = track(frames, TrackingParams(max_gap=max_gap))
    lineage = tracker.lineage()
    assert len(lineage) == 1 + tracks
    if tracks == 1:
        number = int(found[0][32, 30])
        assert lineage[str(number)]["frames"] == [0, 1, *range(2 + missed, missed + 4)]
        assert found[-1][32, 30 + missed + 3] == number
        assert not lineage[str(number)]["capped"]


def test_a_cell_that_comes_where_another_of_its_kind_was_not_is_new() -> None:
    frames = [np.zeros((96, 96), np.int32) for _ in range(4)]
    for t, (place, radius) in {0: (20, 10), 1: (20, 10), 3: (80, 10)}.items():
        cv2.circle(frames[t], (place, 48), radius, 1, -1)
    assert len(track(frames)[0].lineage()) == 2
    frames[3][...] = 0
    cv2.circle(frames[3], (20, 48), 4, 1, -1)  # at its place, but a sixth of its area
    assert len(track(frames)[0].lineage()) == 2


def test_missed_cells_of_a_crowd_are_regained_and_seldom_confused() -> None:
    movie = Movie(7, cells=80, walk=2.0).make(30)
    rng = np.random.default_rng(3)
    frames = [
        np.where(np.isin(frame, rng.choice(np.arange(1, 81), 3, replace=False)), 0, frame) for frame in movie.frames
    ]
    kept = {}
    for max_gap in (0, 2):
        _, found = track(frames, TrackingParams(max_gap=max_gap))
        tracks: dict[int, set[int]] = {}
        for truth, labels in zip(frames, found, strict=True):
            for name, number in names(truth, labels).items():
                tracks.setdefault(name, set()).add(number)
        kept[max_gap] = sum(len(numbers) == 1 for numbers in tracks.values())
    assert kept[0] < 40  # each cell is missed about once
    assert kept[2] >= 72


def test_tracks_are_numbered_without_gaps() -> None:
    movie = Movie(5, cells=30, divide=0.02).make(12)
    tracker, found = track(movie.frames)
    present = np.unique(np.concatenate([np.unique(frame) for frame in found]))
    assert present.tolist() == list(range(len(tracker.lineage()) + 1))
    for number, entry in tracker.lineage().items():
        assert [t for t, frame in enumerate(found) if (frame == int(number)).any()] == entry["frames"]


def test_five_thousand_touching_cells_are_linked_in_seconds() -> None:
    y, x = np.indices((1420, 1420), np.int32)
    frame = (y // 20) * 71 + x // 20 + 1
    tracker = Tracker()
    tracker.add(frame)
    begun = time.process_time()
    moved = np.where(y < 3, 0, np.roll(frame, 3, axis=0))
    found = tracker.add(moved)
    assert time.process_time() - begun < 5
    assert np.array_equal(found, moved)
