"""The array stages against scikit-image's own, on one thread: time and sameness of the results.

    python -m benchmarks.imaging [--json FILE]

Times are processor seconds per megapixel, the best of some runs, so that other work on the machine hardly shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import edt
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.exposure import equalize_adapthist, rescale_intensity
from skimage.feature import peak_local_max
from skimage.measure import label, regionprops_table
from skimage.morphology import h_maxima, remove_small_holes, remove_small_objects
from skimage.segmentation import relabel_sequential
from skimage.segmentation import watershed as flood

from benchmarks.report import Row, options, row, tell
from services.consumer.imaging.basins import label_basins
from services.consumer.imaging.labels import relabel, remove_small, statistics
from services.consumer.imaging.normalise import equalise, plane_window, rescale
from services.consumer.imaging.spots import SpotParams, detect_spots
from services.consumer.imaging.tracking import Tracker
from services.consumer.imaging.watershed import fill_holes

SIDE = 1024
RUNS = 3
H = 3000
PEER = "scikit-image"


def main() -> None:
    """Measure, print."""
    cv2.setNumThreads(1)
    options(__doc__)
    tell([*watershed_rows(), *intensity_rows(), *label_rows(), *spot_rows(), *tracking_rows()])


def seconds(work: Callable[[], Any], runs: int = RUNS) -> float:
    """Return the processor seconds that a call takes, the least of some runs."""
    spent = []
    for _ in range(runs):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return min(spent)


def timed(what: str, ours: Callable[[], Any], peer: Callable[[], Any], megapixels: float = SIDE**2 / 1e6) -> Row:
    """Compare the time of two calls that do the same."""
    mine, theirs = seconds(ours) / megapixels, seconds(peer, 1) / megapixels
    return row(what, "s/MP", mine, peer=PEER, peer_value=theirs, at_most=1)


def nuclei(seed: int = 0) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    """Return touching ellipses as labels, and their smoothed inner distance as the pipelines see it."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((SIDE, SIDE), np.int32)
    for number in range(1, 1500):
        centre, axes = rng.integers(0, SIDE, 2), rng.integers(9, 16, 2)
        cv2.ellipse(labels, centre.tolist(), axes.tolist(), float(rng.random() * 180), 0, 360, number, -1)
    labels = relabel(labels)
    distance = edt.edt(labels, black_border=False)
    highest = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(highest, labels.ravel(), distance.ravel())
    inner = np.where(labels > 0, distance / np.maximum(highest[labels], 1), 0)
    height = (1 + 254 * inner).astype(np.uint16) * 257 * (labels > 0)
    # A slope too slight to matter, so that no two neighbours are of one height: there, methods may differ.
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), 1.5) + rng.random(labels.shape, np.float32)
    return labels, height.astype(np.uint16)


def watershed_rows() -> list[Row]:
    """H-maxima and flooding from them."""
    labels, height = nuclei()
    mask = labels > 0
    masked = np.where(mask, height, 0)

    def theirs() -> NDArray[np.int32]:
        markers = label(h_maxima(masked, H), connectivity=2)
        return np.asarray(flood(-masked.astype(np.int32), markers, mask=mask, connectivity=2), np.int32)

    ours, peers = label_basins(masked, mask, H), theirs()
    same = min(agreement(ours, peers), agreement(peers, ours))
    return [
        timed("watershed: h-maxima and flooding", lambda: label_basins(masked, mask, H), theirs),
        row("watershed: objects", "objects", int(ours.max()), peer=PEER, peer_value=int(peers.max()), at_least=0.999),
        row("watershed: pixels with the same label", "share", same, at_least=0.999),
        timed(
            "holes of an interior",
            lambda: fill_holes(mask.copy(), 15),
            lambda: remove_small_holes(mask, max_size=15, connectivity=1),
        ),
    ]


def agreement(ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> float:
    """Return the share of pixels on which two labelings agree, each label of the first paired with its best."""
    pairs, counts = np.unique(ours.astype(np.int64).ravel() << 32 | theirs.ravel(), return_counts=True)
    best = np.zeros(int(ours.max()) + 1, np.int64)
    np.maximum.at(best, pairs >> 32, counts)
    return float(best.sum() / ours.size)


def intensity_rows() -> list[Row]:
    """Rescaling between percentiles, and local contrast."""
    _, height = nuclei()
    image = height + np.random.default_rng(1).integers(0, 3000, height.shape).astype(np.uint16)
    window = plane_window(image)

    def theirs() -> NDArray[Any]:
        low, high = np.percentile(image, (0.1, 99.9))
        return np.asarray(rescale_intensity(image, in_range=(low, high), out_range=(0.0, 1.0)))

    off = float(np.abs(rescale(image[..., np.newaxis], window)[..., 0] - theirs()).max())
    return [
        timed(
            "percentiles and rescaling", lambda: rescale(image[..., np.newaxis], plane_window(image)), lambda: theirs()
        ),
        row("rescaling: largest difference", "of 0..1", off, at_most=0.001),
        timed("adaptive histogram equalisation", lambda: equalise(image), lambda: equalize_adapthist(image)),
    ]


def label_rows() -> list[Row]:
    """Renumbering, removing small objects, measuring."""
    labels, _ = nuclei()
    gaps = labels * 3
    same = np.array_equal(relabel(gaps), relabel_sequential(gaps)[0])
    found = statistics(labels)
    table = regionprops_table(labels, properties=("label", "area", "centroid", "bbox"))
    alike = bool((found.areas == table["area"]).all() and np.allclose(found.centroids[:, 0], table["centroid-0"]))
    return [
        timed("renumbering labels", lambda: relabel(gaps), lambda: relabel_sequential(gaps)),
        row("renumbering: the same labels", "yes = 1", int(same), at_least=1),
        timed(
            "removing small objects",
            lambda: remove_small(labels, 300),
            lambda: relabel_sequential(remove_small_objects(labels, max_size=299)),
        ),
        timed(
            "area, centroid and box of each object",
            lambda: statistics(labels),
            lambda: regionprops_table(labels, properties=("label", "area", "centroid", "bbox")),
        ),
        row("area and centroid: the same", "yes = 1", int(alike), at_least=1),
    ]


def spot_rows() -> list[Row]:
    """Spots by the Laplacian of Gaussian; the peer gets the same threshold, on its own scale."""
    from scipy.ndimage import gaussian_laplace

    rng = np.random.default_rng(2)
    image = rng.normal(1000, 20, (SIDE, SIDE)).astype(np.float32)
    y, x = np.meshgrid(np.arange(15, SIDE - 15, 14.0), np.arange(15, SIDE - 15, 14.0), indexing="ij")
    true = np.stack([y.ravel(), x.ravel()], axis=1) + rng.uniform(-2, 2, (y.size, 2))
    rows, columns = np.indices((11, 11)) - 5
    for place in true:
        top, left = np.rint(place).astype(int)
        off = place - (top, left)
        spot = 400 * np.exp(-((rows - off[0]) ** 2 + (columns - off[1]) ** 2) / (2 * 1.5**2))
        image[top - 5 : top + 6, left - 5 : left + 6] += spot.astype(np.float32)

    def theirs() -> NDArray[Any]:
        answer = -(1.5**2) * gaussian_laplace(image, 1.5)
        return np.asarray(peak_local_max(answer, min_distance=1, threshold_abs=60))

    found = detect_spots(image, SpotParams())
    distance, _ = cKDTree(found.positions).query(true)
    theirs_off, _ = cKDTree(theirs()).query(true)
    return [
        timed("spots: Laplacian of Gaussian and maxima", lambda: detect_spots(image, SpotParams()), theirs),
        row("spots found", "of those there are", len(found.positions) / len(true), at_least=0.99),
        row(
            "spots: median distance from the truth",
            "px",
            float(np.median(distance)),
            peer=PEER,
            peer_value=float(np.median(theirs_off)),
            at_most=1,
        ),
    ]


def tracking_rows() -> list[Row]:
    """Linking frames; there is no such thing in scikit-image."""
    labels, _ = nuclei()
    frames = [np.roll(labels, 2 * t, axis=0) for t in range(4)]

    def link() -> None:
        tracker = Tracker()
        for frame in frames:
            tracker.add(frame)

    count = len(frames) * int(labels.max())
    return [row("tracking: objects linked", "objects/s", count / seconds(link), at_least=1000)]


if __name__ == "__main__":
    main()
