"""The pictures of docs/gallery.md: inputs through the real consumer, results drawn over them.

    python -m benchmarks.gallery [--out docs/images]

One input is real: the slice of a fluorescence stack that the stardist wheel ships (BSD-3-Clause, © Uwe Schmidt and
Martin Weigert). The others are drawn by the generators that also made the training data, and say so.
"""

from __future__ import annotations

import colorsys
import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import main, running_redis, with_models
from benchmarks.quality import CACHE, real_sets
from services.triton.training.cells import cells_scene
from services.triton.training.nuclei import nuclei_scene
from tests.fixtures.consumer import Consumer, labels_of, tiff

#: Pixels on the longer side of a picture.
WIDTH = 640
Grey = NDArray[np.uint8]


async def draw(out: Path) -> None:
    """Run one job of each type and draw what came of it."""
    cv2.imwrite(str(out / "example.png"), example())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_redis(folder) as (_, store, notifications), with_models(store, notifications, folder) as it:
            await segmentation(it, out)
            await mesmer(it, out)
            await tracking(it, out)
            await polaris(it, out)


def example() -> Grey:
    """Drawn nuclei (H, W), for those who have no image at hand; the commands of docs/getting-started.md use it."""
    return grey(nuclei_scene(np.random.default_rng(1), 320, (24.0, 30.0)).channels[0])


async def segmentation(consumer: Consumer, out: Path) -> None:
    """The real image, and its nuclei outlined."""
    image = real_sets(CACHE)[0].images[0]
    entries = await consumer.result(await consumer.run("segmentation", tiff(image), "nuclei.tif"))
    labels = labels_of(next(iter(entries.values())))
    save(out / "segmentation.png", side_by_side(colour(grey(image)), outlined(colour(grey(image)), labels)))


async def mesmer(consumer: Consumer, out: Path) -> None:
    """Two drawn channels, and whole cells and nuclei outlined."""
    scene = cells_scene(np.random.default_rng(7), 320)
    image = np.clip(scene.channels, 0, 65535).astype(np.uint16)
    job = await consumer.run("mesmer", tiff(image), "tissue.tif", {"dimension_order": "CXY", "scale": 1})
    entries = await consumer.result(job)
    cells, nuclei = (labels_of(entries[f"tissue_feature_{place}.tif"]) for place in (0, 1))
    picture = np.stack([grey(image[1]) // 3, grey(image[1]), np.maximum(grey(image[0]), grey(image[1]) // 4)], axis=-1)
    drawn = outlined(outlined(picture, cells, (255, 255, 255)), nuclei, (255, 210, 60))
    save(out / "mesmer.png", side_by_side(picture, drawn))


async def tracking(consumer: Consumer, out: Path) -> None:
    """Four of the frames of a drawn movie, each track in a colour of its own."""
    scene = nuclei_scene(np.random.default_rng(3), 224, (20.0, 26.0))
    plane = np.clip(scene.channels[0], 0, 65535).astype(np.uint16)
    movie = np.stack([np.roll(plane, (3 * t, 2 * t), (0, 1))[24:, 24:] for t in range(8)])
    entries = await consumer.result(await consumer.run("tracking", tiff(movie, metadata={"axes": "TYX"}), "film.tif"))
    stack = labels_of(entries["film_feature_0.tif"])
    frames = [filled(colour(grey(movie[t])), stack[t]) for t in (0, 2, 4, 6)]
    save(out / "tracking.png", np.concatenate(frames, axis=1))


async def polaris(consumer: Consumer, out: Path) -> None:
    """Drawn spots in drawn nuclei: outlines, and each spot in the colour of its cell."""
    rng = np.random.default_rng(5)
    scene = nuclei_scene(rng, 256, (24.0, 34.0))
    nuclei = np.clip(scene.channels[0], 0, 65535).astype(np.uint16)
    y, x = np.mgrid[:256, :256]
    spots = rng.normal(200, 12, (256, 256))
    for row, column in rng.uniform(6, 250, (160, 2)):
        spots += 900 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 1.3**2))
    image = np.stack([np.clip(spots, 0, 65535).astype(np.uint16), nuclei])
    entries = await consumer.result(await consumer.run("polaris", tiff(image), "fish.tif", {"dimension_order": "CXY"}))
    labels = labels_of(entries["fish_batch_0_feature_0.tif"])
    picture = outlined(colour(grey(nuclei) // 2), labels)
    scale = WIDTH // 2 // 256 + 1
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    for spot in csv.DictReader(io.StringIO(entries["fish_0.csv"].decode())):
        centre = (round(scale * (float(spot["x"]) + 0.5)), round(scale * (float(spot["y"]) + 0.5)))
        cv2.circle(picture, centre, 4, (255, 90, 90) if spot["cellID0"] != "0" else (150, 150, 150), 1, cv2.LINE_AA)
    save(out / "polaris.png", side_by_side(colour(grey(image[0])), picture))


def grey(plane: NDArray[Any]) -> Grey:
    """Stretch a plane (H, W) between its percentiles 0.5 and 99.7 to 0..255."""
    low, high = np.percentile(plane, [0.5, 99.7])
    return np.asarray(np.clip(255 * (plane.astype(float) - low) / max(1e-6, high - low), 0, 255), np.uint8)


def colour(plane: Grey) -> Grey:
    """Return a grey plane (H, W) as RGB (H, W, 3)."""
    return np.repeat(plane[..., np.newaxis], 3, axis=-1)


def outlined(picture: Grey, labels: NDArray[np.int32], ink: tuple[int, int, int] = (80, 255, 120)) -> Grey:
    """Return a picture with the inner edge of every label drawn."""
    padded = np.pad(labels, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    edge = np.zeros(labels.shape, np.bool_)
    for rows, columns in ((slice(2, None), slice(1, -1)), (slice(None, -2), slice(1, -1)),
                          (slice(1, -1), slice(2, None)), (slice(1, -1), slice(None, -2))):  # fmt: skip
        edge |= padded[rows, columns] != centre
    result = picture.copy()
    result[edge & (labels > 0)] = ink
    return result


def filled(picture: Grey, labels: NDArray[np.int32]) -> Grey:
    """Return a picture with every label tinted in a colour of its own."""
    hues = [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb((0.618 * n) % 1, 0.8, 1) for n in range(int(labels.max())))]
    tint = (255 * np.array(hues)).astype(np.uint8)[labels]
    mixed = (0.55 * picture + 0.45 * tint).astype(np.uint8)
    return np.where((labels > 0)[..., np.newaxis], mixed, picture)


def side_by_side(left: Grey, right: Grey) -> Grey:
    """Return two pictures beside each other, of equal height."""
    height = max(left.shape[0], right.shape[0], WIDTH // 2)
    parts = []
    for part in (left, right):
        width = round(part.shape[1] * height / part.shape[0])
        parts.append(cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST))
    return np.concatenate([parts[0], np.full((height, 8, 3), 255, np.uint8), parts[1]], axis=1)


def save(path: Path, picture: Grey) -> None:
    """Write an RGB picture as PNG."""
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(json.dumps({"picture": path.name, "size": list(picture.shape[:2]), "bytes": path.stat().st_size}))


if __name__ == "__main__":
    main(__doc__, draw)
