"""Choose a model's post-processing on synthetic scenes: ``python -m benchmarks.calibrate NuclearSegmentation``.

The scenes come from the model's own generator with seeds that training never used. No real image is read: those
are for ``benchmarks.quality`` alone. What is best here goes into the model's card by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics import Tally
from benchmarks.quality import MODELS, otsu, params_of
from services.consumer.imaging.normalise import plane_window
from services.consumer.imaging.watershed import watershed
from services.triton.training.scenes import GENERATORS
from shared.dense import ModelCard, Net, predict, read_card
from shared.dense.scale import estimate_zoom, object_diameter, zoom_to
from shared.dense.weights import load_net

SEED = 900_000_000  # far from what training uses
REPORTED = 950_000_000  # scenes that no setting was chosen on either, for the figures of the docs
SIDE = 384
FOREGROUND = (0.5, 0.6, 0.7)
SMOOTHING = (0.7, 1.0, 1.5)
HEIGHTS = (0.04, 0.08, 0.12, 0.18, 0.24)
SIZES = (25.0, 40.0)
DIAMETERS = (14.0, 16.0, 18.0, 20.0, 22.0, 25.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A synthetic image (H, W, C), the truth of each kind of object, and how the product would read it."""

    image: NDArray[np.float32]
    truths: list[NDArray[np.int32]]
    window: NDArray[np.float32]
    zoom: float


def examples(card: ModelCard, count: int, *, scaled: bool = True, first: int = SEED) -> list[Example]:
    """``count`` scenes of the model's generator that it was not trained on."""
    result = []
    for seed in range(first, first + count):
        scene = GENERATORS[card.name](np.random.default_rng(seed), SIDE)
        image = np.moveaxis(scene.channels, 0, -1)
        how = card.normalisation
        window = plane_window(image, low=how.low, high=how.high, nonzero=how.of == "non-zero")
        result.append(Example(image, list(scene.labels), window, estimate_zoom(image, card) if scaled else 1.0))
    return result


def tally(scenes: list[Example], maps: list[NDArray[np.uint8]], card: ModelCard) -> list[Tally]:
    """The figures of each kind of object with the card's post-processing."""
    tallies = [Tally() for _ in card.objects]
    for scene, each in zip(scenes, maps, strict=True):
        for kind, result in enumerate(tallies):
            shape = scene.truths[kind].shape
            result.add(scene.truths[kind], watershed(each[kind], params_of(card), (shape[0], shape[1])))
    return tallies


def search(scenes: list[Example], card: ModelCard, net: Net) -> list[tuple[float, float, dict[str, Any]]]:
    """All settings: mean over the kinds of object of F1 at 0.5 and of mAP, and the setting; best first."""
    found = []
    for foreground in FOREGROUND:
        chosen = _with(card, foreground=foreground)
        maps = [predict(each.image, each.window, each.zoom, chosen, net) for each in scenes]
        for smoothing, h, size in itertools.product(SMOOTHING, HEIGHTS, SIZES):
            setting = {"smoothing": smoothing, "h": h, "min_size": size, "max_hole": size}
            tallies = tally(scenes, maps, _with(chosen, **setting))
            found.append((*_mean(tallies), {"foreground": foreground, **setting}))
    return sorted(found, key=lambda each: -(each[0] + each[1]))


def report(card: ModelCard, net: Net, count: int) -> None:
    """Print the figures of the card as it is, beside those of Otsu's threshold with a watershed."""
    scenes = examples(card, count, first=REPORTED)
    maps = [predict(each.image, each.window, each.zoom, card, net) for each in scenes]
    plain = [Tally() for _ in card.objects]
    for scene in scenes:
        for kind, found, truth in zip(card.objects, plain, scene.truths, strict=True):
            channel = card.channels.index(kind.name) if kind.name in card.channels else -1
            found.add(truth, otsu(scene.image[..., channel]))
    print(f"{'objects':12} {'method':32} {'F1@0.5':>7} {'F1@0.75':>8} {'mAP':>6} {'PQ':>6}")
    for kind, ours, theirs in zip(card.objects, tally(scenes, maps, card), plain, strict=True):
        for name, each in ((card.name, ours), ("Otsu + watershed", theirs)):
            figures = f"{each.f1(0.5):7.3f} {each.f1(0.75):8.3f} {each.average_precision:6.3f} {each.panoptic:6.3f}"
            print(f"{kind.name:12} {name:32} {figures}")


def compare_diameters(card: ModelCard, net: Net, count: int) -> None:
    """Print what the card gives with other sizes for the objects to be brought to."""
    plain = examples(card, count, scaled=False)
    found = [object_diameter(each.image[..., card.scale_channel]) for each in plain]
    for diameter in DIAMETERS:
        chosen = dataclasses.replace(card, object_diameter=diameter)
        zooms = [zoom_to(diameter, size) for size in found]
        scenes = [dataclasses.replace(each, zoom=zoom) for each, zoom in zip(plain, zooms, strict=True)]
        each = tally(scenes, [predict(s.image, s.window, s.zoom, chosen, net) for s in scenes], chosen)
        f1, precision = _mean(each)
        print(f"diameter {diameter:g}: F1 {f1:.4f}  mAP {precision:.4f}", flush=True)


def _mean(tallies: list[Tally]) -> tuple[float, float]:
    """F1 at 0.5 and mAP, averaged over the kinds of object."""
    precisions = [each.average_precision for each in tallies]
    return float(np.mean([each.f1(0.5) for each in tallies])), float(np.mean(precisions))


def _with(card: ModelCard, **setting: float) -> ModelCard:
    return dataclasses.replace(card, postprocessing=dataclasses.replace(card.postprocessing, **setting))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--weights", type=Path, help="folder with the weights (default: the newest version)")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--no-scaling", action="store_true", help="as if the zoom were given as 1")
    parser.add_argument("--report", action="store_true", help="the card's figures on further scenes, nothing else")
    parser.add_argument("--diameters", action="store_true", help="compare sizes to bring objects to, nothing else")
    options = parser.parse_args()
    folder = MODELS / options.model
    newest = max((each.name for each in folder.iterdir() if each.name.isdecimal()), key=int)
    card, net = read_card(folder, newest), load_net(options.weights or folder / newest)
    if options.report:
        report(card, net, options.scenes)
        return
    if options.diameters:
        compare_diameters(card, net, options.scenes)
        return
    scenes = examples(card, options.scenes, scaled=not options.no_scaling)
    print(f"{len(scenes)} scenes, zoom {min(s.zoom for s in scenes):.2f} to {max(s.zoom for s in scenes):.2f}")
    maps = [predict(each.image, each.window, each.zoom, card, net) for each in scenes]
    for kind, now in zip(card.objects, tally(scenes, maps, card), strict=True):
        print(
            f"the card, {kind.name}: F1 {now.f1(0.5):.4f}  F1@0.75 {now.f1(0.75):.4f}  mAP {now.average_precision:.4f}"
        )
    for f1, precision, setting in search(scenes, card, net)[:12]:
        print(f"F1 {f1:.4f}  mAP {precision:.4f}  {setting}")


if __name__ == "__main__":
    main()
