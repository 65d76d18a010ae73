"""Tracks: which object of one frame is which of the next, with divisions, births and deaths.

Frame by frame, objects are linked by linear assignment, in which staying alone (a death, a birth) has its cost too
(Jaqaman et al., "Robust single-particle tracking in live-cell time-lapse sequences", Nature Methods 5 (2008),
pp. 695-702). The cost of a link is one minus the probability that both are the same object, from overlap, distance
and area; how far objects move is measured on the frames themselves. A division is a new object that, together with
the successor of an object before, lies around that object and is like its sister in size.

An object that is missed in a few frames keeps its track: what is new in a frame is held against what was lost shortly
before, in a second assignment, as in the same paper, but frame by frame, so that no movie has to be held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from services.consumer.imaging.labels import LabelStatistics, statistics

#: Nearest objects of the next frame that an object may be linked to.
NEIGHBOURS = 12
#: Nearest objects of the frame before that a new object may come from.
MOTHERS = 6
#: Least probability that a new object is one that was lost some frames before: there is no overlap to tell.
REGAINED = 0.5
# A cost of 0 would be taken for "no link" by sparse matrices.
EPSILON = 1e-9


@dataclass(frozen=True)
class TrackingParams:
    """How readily objects are linked; probabilities and costs are 0..1."""

    max_distance: float = 64
    """Farthest an object moves from one frame to the next; pixels."""
    division: float = 0.01
    """Least probability that a new object is a daughter."""
    birth: float = 0.99
    """Cost of a new object; a link costs one minus its probability."""
    death: float = 0.99
    """Cost of an object that ends."""
    max_gap: int = 2
    """Most frames in a row in which an object may be missed and keep its track."""


@dataclass
class Track:
    """One object over time."""

    label: int
    first: int
    last: int
    parent: int | None = None
    daughters: list[int] = field(default_factory=list)
    frame_div: int | None = None
    """The daughters' first frame."""
    missed: set[int] = field(default_factory=set)
    """Frames between the first and the last in which the object was not seen."""


@dataclass(frozen=True)
class _Frame:
    labels: NDArray[np.int32]
    seen: LabelStatistics
    tracks: NDArray[np.int32]
    """int32 (n,): the track of each object, in the order of ``seen.labels``."""


@dataclass(frozen=True)
class _Lost:
    """An object that was not found again in the frame after its last."""

    track: int
    last: int
    centroid: NDArray[np.float64]
    area: float


class Tracker:
    """Links frames as they come; remembers the frame before, what was lost lately, and a short record of each track.

    Args:
        params: costs and the farthest move.
    """

    def __init__(self, params: TrackingParams | None = None) -> None:
        self._params = params or TrackingParams()
        self._tracks: list[Track] = []
        self._before: _Frame | None = None
        self._lost: list[_Lost] = []
        self._moved = 0.0
        self._frames = 0

    def add(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Link the next frame.

        Args:
            labels: int32 (H, W), 0 background; numbers mean nothing beyond this frame.

        Returns:
            int32 (H, W): the same objects, each with the number of its track, 1..n over all frames.
        """
        labels = np.ascontiguousarray(labels)
        seen = statistics(labels)
        tracks = np.zeros(seen.labels.size, np.int32)
        before = self._before
        if before is None or before.seen.labels.size == 0 or seen.labels.size == 0:
            self._regain(seen, tracks)
        else:
            successor = self._continue(before, labels, seen, tracks)
            self._regain(seen, tracks)
            self._divide(before, seen, successor, tracks)
        if before is not None:
            self._lose(before, tracks)
        for i in np.flatnonzero(tracks == 0):
            tracks[i] = self._start().label
        for track in tracks.tolist():
            self._tracks[track - 1].last = self._frames
        number = np.zeros(int(seen.labels.max(initial=0)) + 1, np.int32)
        number[seen.labels] = tracks
        self._before = _Frame(labels, seen, tracks)
        self._frames += 1
        return np.asarray(number[labels], np.int32)

    def lineage(self) -> dict[str, dict[str, Any]]:
        """Return all tracks by number: label, frames, daughters, parent, frame_div, capped.

        ``frames`` are those in which the object was seen; one that it was missed in is not among them. A track is
        capped where it ended before the last frame: by a division or because its object was lost.
        """
        return {
            str(track.label): {
                "label": track.label,
                "frames": [t for t in range(track.first, track.last + 1) if t not in track.missed],
                "daughters": track.daughters,
                "parent": track.parent,
                "frame_div": track.frame_div,
                "capped": track.last < self._frames - 1,
            }
            for track in self._tracks
        }

    def _start(self, parent: int | None = None) -> Track:
        track = Track(len(self._tracks) + 1, self._frames, self._frames, parent)
        self._tracks.append(track)
        return track

    def _continue(
        self, before: _Frame, labels: NDArray[np.int32], seen: LabelStatistics, tracks: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        """Fill in the tracks of objects that were there before; return the successor of each of those, or -1."""
        one, other, cost, self._moved = _candidates(before, labels, seen, self._params)
        one, other = _assign(one, other, cost, before.seen.labels.size, seen.labels.size, self._params)
        tracks[other] = before.tracks[one]
        successor = np.full(before.seen.labels.size, -1, np.int64)
        successor[one] = other
        return successor

    def _regain(self, seen: LabelStatistics, tracks: NDArray[np.int32]) -> None:
        """Fill in the tracks of new objects that are like one that was lost shortly before."""
        self._lost = [lost for lost in self._lost if self._frames - lost.last - 1 <= self._params.max_gap]
        new = np.flatnonzero(tracks == 0)
        if not self._lost or not new.size:
            return
        one, other, cost = _regainable(self._lost, seen, new, self._moved, self._frames, self._params.max_distance)
        one, other = _assign(one, other, cost, len(self._lost), new.size, self._params)
        for lost, place in zip((self._lost[i] for i in one.tolist()), new[other].tolist(), strict=True):
            tracks[place] = lost.track
            self._tracks[lost.track - 1].missed.update(range(lost.last + 1, self._frames))
        regained = set(one.tolist())
        self._lost = [lost for i, lost in enumerate(self._lost) if i not in regained]

    def _divide(
        self, before: _Frame, seen: LabelStatistics, successor: NDArray[np.int64], tracks: NDArray[np.int32]
    ) -> None:
        """Fill in the tracks of daughters."""
        new = np.flatnonzero(tracks == 0)
        for mother, first, second in _divisions(before.seen, seen, successor, new, self._moved, self._params):
            parent = self._tracks[before.tracks[mother] - 1]
            daughters = [self._start(parent.label).label for _ in range(2)]
            parent.daughters, parent.frame_div = daughters, self._frames
            tracks[[first, second]] = daughters

    def _lose(self, before: _Frame, tracks: NDArray[np.int32]) -> None:
        """Remember the objects of the frame before that have no successor and did not divide."""
        for i in np.flatnonzero(~np.isin(before.tracks, tracks)).tolist():
            track = int(before.tracks[i])
            if not self._tracks[track - 1].daughters:
                seen = before.seen
                self._lost.append(_Lost(track, self._frames - 1, seen.centroids[i], float(seen.areas[i])))


def _candidates(
    before: _Frame, labels: NDArray[np.int32], seen: LabelStatistics, params: TrackingParams
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], float]:
    """Return pairs of objects that may be the same, the cost of linking each, and how far objects move, in pixels."""
    tree = cKDTree(seen.centroids)
    near, other = tree.query(
        before.seen.centroids, k=min(NEIGHBOURS, seen.labels.size), distance_upper_bound=params.max_distance
    )
    near, other = near.reshape(before.seen.labels.size, -1), other.reshape(before.seen.labels.size, -1)
    one = np.repeat(np.arange(other.shape[0]), other.shape[1])
    found = np.isfinite(near.ravel())
    one, other, distance = one[found], other.ravel()[found].astype(np.int64), near.ravel()[found]
    radius = float(np.sqrt(np.median(seen.areas) / np.pi))
    closest = near[:, 0][np.isfinite(near[:, 0])]
    usual = float(np.median(closest)) if closest.size else 0.0
    length = max(radius, 2 * usual)
    near_and_alike = _near_and_alike(distance / length, before.seen.areas[one], seen.areas[other])
    overlap = _overlaps(before, labels, seen, one, other)
    return one, other, (1 - overlap) * (1 - near_and_alike), usual


def _near_and_alike(distance: NDArray[np.float64], area: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability that two objects are the same by distance, in usual lengths, and area."""
    alike = np.sqrt(np.minimum(area, other) / np.maximum(area, other))
    return np.asarray(np.exp(-(distance**2) / 2) * alike, np.float64)


def _regainable(
    lost: list[_Lost], seen: LabelStatistics, new: NDArray[np.int64], moved: float, frame: int, max_distance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs of lost and of new objects that are probably the same, and the cost of linking each.

    An object moves at random: how far, grows with the root of the frames that have passed.
    """
    centroids = np.array([each.centroid for each in lost])
    near, other = cKDTree(seen.centroids[new]).query(
        centroids, k=min(NEIGHBOURS, new.size), distance_upper_bound=max_distance
    )
    near, other = near.reshape(len(lost), -1), other.reshape(len(lost), -1)
    one, place = np.nonzero(np.isfinite(near))
    other = other[one, place].astype(np.int64)
    passed = np.array([frame - each.last for each in lost])[one]
    radius = float(np.sqrt(np.median(seen.areas) / np.pi))
    length = max(radius, 2 * moved) * np.sqrt(passed)
    areas = np.array([each.area for each in lost])[one]
    probability = _near_and_alike(near[one, place] / length, areas, seen.areas[new[other]])
    likely = probability >= REGAINED
    return one[likely].astype(np.int64), other[likely], 1 - probability[likely]


def _overlaps(
    before: _Frame, labels: NDArray[np.int32], seen: LabelStatistics, one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the intersection over union of pairs of objects of two frames: float64 (n,)."""
    if before.labels.shape != labels.shape:
        return np.zeros(one.size)
    both = (before.labels > 0) & (labels > 0)
    pair = before.labels[both].astype(np.int64) << 32 | labels[both]
    known, count = fastremap.unique(pair, return_counts=True)
    if known.size == 0:
        return np.zeros(one.size)
    wanted = before.seen.labels[one].astype(np.int64) << 32 | seen.labels[other]
    place = np.searchsorted(known, wanted).clip(max=known.size - 1)
    shared = np.where(known[place] == wanted, count[place], 0)
    return np.asarray(shared / (before.seen.areas[one] + seen.areas[other] - shared), np.float64)


def _assign(
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    cost: NDArray[np.float64],
    rows: int,
    columns: int,
    params: TrackingParams,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the cheapest pairs of which each object is in at most one.

    Every object has a stand-in on the other side, its death or its birth; the stand-ins of a linked pair take each
    other for nothing. Linking two objects thus costs twice the link, leaving both alone a death and a birth.
    """
    useful = 2 * cost < params.birth + params.death
    one, other, cost = one[useful], other[useful], cost[useful]
    first, second = np.arange(rows), np.arange(columns)
    row = np.concatenate([one, first, rows + second, rows + other])
    column = np.concatenate([other, columns + first, second, columns + one])
    free = np.zeros(one.size)
    price = np.concatenate([2 * cost, np.full(rows, params.death), np.full(columns, params.birth), free]) + EPSILON
    graph = coo_array((price, (row, column)), shape=(rows + columns, rows + columns)).tocsr()
    row, column = min_weight_full_bipartite_matching(graph)
    linked = (row < rows) & (column < columns)
    return row[linked].astype(np.int64), column[linked].astype(np.int64)


def _divisions(
    before: LabelStatistics,
    seen: LabelStatistics,
    successor: NDArray[np.int64],
    new: NDArray[np.int64],
    moved: float,
    params: TrackingParams,
) -> list[tuple[int, int, int]]:
    """Return mothers and their two daughters, most probable first, none in two divisions; ``new`` may be daughters."""
    mothers = np.flatnonzero(successor >= 0)
    if new.size == 0 or mothers.size == 0:
        return []
    near, found = cKDTree(before.centroids[mothers]).query(
        seen.centroids[new], k=min(MOTHERS, mothers.size), distance_upper_bound=params.max_distance
    )
    near, found = near.reshape(new.size, -1), found.reshape(new.size, -1)
    second, place = np.nonzero(np.isfinite(near))
    mother = mothers[found[second, place]]
    second = new[second]
    probability = _division_probability(before, seen, mother, successor[mother], second, moved)
    divisions: list[tuple[int, int, int]] = []
    taken: set[tuple[str, int]] = set()
    for i in np.argsort(-probability):
        keys = {("mother", int(mother[i])), ("daughter", int(second[i]))}
        if probability[i] > params.division and not keys & taken:
            taken |= keys
            divisions.append((int(mother[i]), int(successor[mother[i]]), int(second[i])))
    return divisions


def _division_probability(
    before: LabelStatistics,
    seen: LabelStatistics,
    mother: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    moved: float,
) -> NDArray[np.float64]:
    """Judge divisions: sisters alike in size, together about their mother's size, and she midway between them.

    The widths of the three are guesses at biology, checked on simulated movies. A stable cell beside a new one fails
    on two: both together are twice its size, and it is not midway.
    """
    middle = (seen.centroids[first] + seen.centroids[second]) / 2
    off = np.linalg.norm(middle - before.centroids[mother], axis=1)
    radius = np.sqrt(before.areas[mother] / np.pi)
    astray = off / (0.4 * radius + np.minimum(moved, radius))
    areas = seen.areas[first].astype(np.float64), seen.areas[second].astype(np.float64)
    unlike = np.log(areas[0] / areas[1]) / 0.4
    grown = np.log((areas[0] + areas[1]) / before.areas[mother]) / 0.35
    return np.asarray(np.exp(-(astray**2 + unlike**2 + grown**2) / 2))
