"""Synthetic fluorescent nuclei with exact truth, for training and for choosing every parameter.

A scene is made as a microscope would: shapes are placed (alone and in touching clusters), given a brightness,
texture and profile, laid over a background with a gradient and haze, blurred by the optics, and read by a noisy
sensor. The truth is the label image of the shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN = 16  # pixels around a scene whose light reaches into it
FAINTEST = 0.07  # brightness of a nucleus that counts, beside the typical 1; what is below 0.04 does not
PATIENCE = 6  # nuclei without a place in a row before a scene counts as full
DIAMETERS = (11.0, 36.0)  # mean of a scene, in pixels at the model's scale


@dataclass(frozen=True, slots=True)
class Scene:
    """One synthetic image with its truth.

    ``channels``: float32 (C, H, W) in sensor counts. ``labels``: int32 (K, H, W), one image for each kind of object
    in the order of the model's card, 0 background.
    """

    channels: NDArray[np.float32]
    labels: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Look:
    """What all nuclei of one scene have in common."""

    diameter: float  # pixels, mean
    spread: float  # relative standard deviation of the diameter
    stretch: float  # standard deviation of the ratio of length to width, beyond 1
    roundness: float  # 0 = very uneven outlines, 1 = ellipses
    contrast: float  # standard deviation of the logarithm of the brightness
    texture: float  # depth of the texture inside a nucleus
    overlap: float  # largest share of a nucleus that may lie under others
    cluster: float  # chance that a nucleus is put beside an earlier one
    folded: float  # chance that a nucleus is bent or notched
    dim: float  # chance that a nucleus is many times dimmer than the others


def nuclei_scene(rng: np.random.Generator, size: int, diameter: tuple[float, float] = DIAMETERS) -> Scene:
    """A scene of ``size`` x ``size`` pixels, of nuclei with a mean diameter within ``diameter`` pixels."""
    look = draw_look(rng, diameter)
    side = size + 2 * MARGIN
    labels = np.zeros((side, side), np.int32)
    light = np.zeros((side, side), np.float32)
    if rng.random() > 0.04:  # a few scenes stay empty, so that noise is not taken for nuclei
        fill(rng, look, labels, light)
    inside = slice(MARGIN, MARGIN + size)
    return Scene(expose(rng, light, look)[np.newaxis, inside, inside], labels[np.newaxis, inside, inside].copy())


def draw_look(rng: np.random.Generator, diameter: tuple[float, float]) -> Look:
    """What the nuclei of one scene have in common, with a mean diameter within ``diameter`` pixels."""
    low, high = np.log(diameter[0]), np.log(diameter[1])
    return Look(
        diameter=float(np.exp(rng.uniform(low, high))),
        spread=float(rng.uniform(0.08, 0.35)),
        stretch=float(rng.choice([0.2, 0.4, 0.8], p=[0.3, 0.4, 0.3])),
        roundness=float(rng.uniform(0.2, 1.0)),
        contrast=float(rng.choice([0.15, 0.4, 0.8], p=[0.3, 0.4, 0.3]) * rng.uniform(0.7, 1.3)),
        texture=float(rng.uniform(0.0, 0.45)),
        overlap=float(rng.choice([0.0, 0.06, 0.15], p=[0.3, 0.4, 0.3])),
        cluster=float(rng.uniform(0.1, 0.9)),
        folded=float(rng.choice([0.05, 0.25, 0.6], p=[0.4, 0.35, 0.25])),
        dim=float(rng.choice([0.0, 0.15, 0.4], p=[0.7, 0.2, 0.1])),
    )


def fill(rng: np.random.Generator, look: Look, labels: NDArray[np.int32], light: NDArray[np.float32]) -> None:
    """Draw nuclei into ``labels`` and ``light`` until the wanted cover is reached."""
    size = labels.shape[0]
    cover = rng.uniform(0.03, 0.6) * size * size
    centres: list[tuple[float, float, float]] = []
    covered, number, failed = 0.0, 0, 0
    while covered < cover and failed < PATIENCE:
        mitotic = rng.random() < 0.06
        turn = rng.uniform(0, 2 * np.pi)
        mask = _shape(rng, look, mitotic, turn)
        radius = float(np.sqrt(mask.sum() / np.pi))
        places = _places(rng, look, centres, radius, size)
        for place in places:  # the first that is free
            drawn = _draw(rng, look, labels, light, mask, place, number + 1, mitotic)
            if drawn:
                number += 1
                covered += drawn
                centres.append((*place, radius))
                failed = 0
                break
        else:
            failed += 1
            continue
        if mitotic and rng.random() < 0.5:  # anaphase: a second plate, parallel to the first
            gap = radius * rng.uniform(1.3, 3.5)
            other = (place[0] + gap * np.cos(turn), place[1] - gap * np.sin(turn))
            drawn = _draw(rng, look, labels, light, mask, other, number + 1, mitotic)
            number, covered = number + int(drawn > 0), covered + drawn


def _places(
    rng: np.random.Generator, look: Look, centres: list[tuple[float, float, float]], radius: float, size: int
) -> list[tuple[float, float]]:
    """Where to try a nucleus: anywhere, or ever farther from an earlier one, so that the first free place touches."""
    if not centres or rng.random() >= look.cluster:
        return [(float(rng.uniform(-radius, size + radius)), float(rng.uniform(-radius, size + radius)))]
    y, x, other = centres[int(rng.integers(len(centres)))]
    angle = rng.uniform(0, 2 * np.pi)
    gaps = (rng.uniform(0.55, 1.1) + 0.05 * np.arange(12)) * (radius + other)
    return [(float(y + gap * np.sin(angle)), float(x + gap * np.cos(angle))) for gap in gaps]


def _shape(rng: np.random.Generator, look: Look, mitotic: bool, turn: float) -> NDArray[np.bool_]:
    """One outline as a filled mask: an ellipse with a wavy radius, sometimes bent; a bar when in mitosis."""
    radius = max(3.0, look.diameter / 2 * math.exp(rng.normal(0, look.spread)))
    ratio = 1 + min(abs(rng.normal(0, look.stretch)), 2)
    if mitotic:
        radius, ratio = max(3.0, radius * 0.65), rng.uniform(1.6, 3.0)
    a, b = radius * math.sqrt(ratio), radius / math.sqrt(ratio)
    reach = int(np.ceil(a * 1.7)) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    cosine, sine = math.cos(turn), math.sin(turn)  # NumPy's own numbers would make all of it float64
    u, v = x * cosine + y * sine, y * cosine - x * sine
    if rng.random() < look.folded:
        v = v + rng.uniform(-0.7, 0.7) / a * u * u  # a bean
    angle = np.arctan2(v / b, u / a)
    wave = np.ones_like(u)
    for order in (2, 3, 4, 5):
        depth = rng.normal(0, 0.09 * (1 - look.roundness) * 2 / order + 0.012)
        wave += depth * np.cos(order * angle + rng.uniform(0, 2 * math.pi))
    if not mitotic and rng.random() < look.folded:
        wave *= _notches(rng, angle)
    return np.asarray((u / a) ** 2 + (v / b) ** 2 <= wave**2)


def _notches(rng: np.random.Generator, angle: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dents of an outline, of one nucleus all the same: a kidney with one, a peanut with two."""
    first = float(rng.choice([0.5, 1.5])) * math.pi + rng.normal(0, 0.4)  # on a long side
    depth, width = rng.uniform(0.08, 0.35), rng.uniform(0.25, 0.6)
    result = np.ones_like(angle)
    for place in (first, first + math.pi + rng.normal(0, 0.3))[: 1 + int(rng.random() < 0.3)]:
        away = (angle - place + math.pi) % (2 * math.pi) - math.pi
        result -= depth * np.exp(-((away / width) ** 2))
        depth *= 0.6
    return result


def _draw(
    rng: np.random.Generator,
    look: Look,
    labels: NDArray[np.int32],
    light: NDArray[np.float32],
    mask: NDArray[np.bool_],
    centre: tuple[float, float],
    number: int,
    mitotic: bool,
) -> int:
    """Add one nucleus at ``centre``; return the pixels it took, 0 when it would hide too much."""
    size = labels.shape[0]
    top, left = (round(c) - mask.shape[0] // 2 for c in centre)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + mask.shape[0], size), min(left + mask.shape[1], size)
    if y0 >= y1 or x0 >= x1:
        return 0
    part = (slice(y0, y1), slice(x0, x1))
    inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    seen = mask[inner]
    free = seen & (labels[part] == 0)
    if free.sum() < max(6, 0.5 * min(seen.sum(), mask.sum()), (1 - look.overlap) * seen.sum() - 1):
        return 0
    count, pieces = cv2.connectedComponents(free.astype(np.uint8), connectivity=4)
    if count > 2:  # an earlier nucleus cut it in two: keep the larger piece
        free = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    labels[part][free] = number
    light[part] += (_profile(rng, look, mask, mitotic))[inner]
    return int(free.sum())


def _profile(rng: np.random.Generator, look: Look, mask: NDArray[np.bool_], mitotic: bool) -> NDArray[np.float32]:
    """The light of one nucleus: brightness times a profile between flat and domed, times texture."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    dome = (depth / max(float(depth.max()), 1.0)) ** rng.uniform(0.05, 0.7)
    bright = np.exp(rng.normal(0, look.contrast)) * (rng.uniform(1.5, 7) if mitotic else 1)
    if rng.random() < look.dim:
        bright *= np.exp(rng.uniform(np.log(0.06), np.log(0.5)))
    bright = max(bright, FAINTEST)
    grain = smooth_noise(rng, mask.shape, max(1.0, look.diameter * rng.uniform(0.05, 0.2)))
    texture = np.clip(1 + look.texture * grain, 0.15, 2.5)
    if rng.random() < 0.35:  # nucleoli: dark or bright spots
        for _ in range(int(rng.integers(1, 4))):
            texture *= _spot(rng, mask.shape, look.diameter)
    return np.asarray(mask * dome * bright * texture, np.float32)


def _spot(rng: np.random.Generator, shape: tuple[int, ...], diameter: float) -> NDArray[np.float32]:
    middle = np.array(shape) / 2 + rng.normal(0, diameter / 6, 2)
    y, x = np.ogrid[: shape[0], : shape[1]]
    width = diameter * rng.uniform(0.05, 0.12)
    bump = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / (2 * width**2))
    return np.asarray(1 + rng.uniform(-0.6, 0.7) * bump, np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> NDArray[np.float32]:
    """Noise of unit variance whose grains are about ``width`` pixels wide; drawn small and enlarged."""
    small = [max(2, int(np.ceil(n / width)) + 1) for n in shape]
    grain = rng.normal(0, 1, small).astype(np.float32)
    large = cv2.resize(grain, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large / (float(large.std()) + 1e-6), np.float32)


def expose(rng: np.random.Generator, light: NDArray[np.float32], look: Look) -> NDArray[np.float32]:
    """What the sensor reads of ``light``: optics, background, uneven lighting, debris, noise, depth of bits."""
    size = light.shape[0]
    blur = rng.uniform(0.02, 0.09) * look.diameter if rng.random() < 0.8 else 0.4
    image = cv2.GaussianBlur(light, (0, 0), max(0.4, blur))
    if rng.random() < 0.7:  # light from out of focus planes and cytoplasm
        haze = cv2.GaussianBlur(light, (0, 0), look.diameter * rng.uniform(0.3, 1.2))
        image += rng.uniform(0, 0.35) * haze
    if rng.random() < 0.5:  # nuclei out of focus that are not in the truth
        for _ in range(int(rng.integers(1, 4))):
            image += rng.uniform(0.03, 0.15) * _blob(rng, size, look.diameter * rng.uniform(0.6, 1.5))
    if rng.random() < 0.5:
        image += _ghosts(rng, light, look)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 8))):  # debris: small and bright, dots and fibres
            image += _debris(rng, size, look.diameter)
    base = rng.uniform(0.0, 0.5)
    image += base * (1 + rng.uniform(0, 0.4) * smooth_noise(rng, light.shape, size / rng.uniform(1.5, 5)))
    if rng.random() < 0.6:  # uneven lighting
        image *= np.clip(1 + rng.uniform(0, 0.3) * smooth_noise(rng, light.shape, size / 1.5), 0.25, 2)
    return _sense(rng, np.maximum(image, 0))


def _blob(rng: np.random.Generator, size: int, width: float) -> NDArray[np.float32]:
    middle = rng.uniform(0, size, 2)
    along = np.arange(size, dtype=np.float32)
    rows, columns = (np.exp(-((along - m) ** 2) / (2 * width**2)) for m in middle)
    return np.asarray(np.outer(rows, columns), np.float32)


def _ghosts(rng: np.random.Generator, light: NDArray[np.float32], look: Look) -> NDArray[np.float32]:
    """Nuclei so dim beside the others, up to 4 % of them, that people do not count them: not in the truth."""
    image = np.zeros_like(light)
    typical = float(np.median(light[light > 0])) if (light > 0).any() else 0.0
    size = light.shape[0]
    for _ in range(int(rng.integers(1, 8))):
        mask = _shape(rng, look, False, rng.uniform(0, 2 * np.pi)).astype(np.float32)
        top, left = (int(rng.integers(-mask.shape[0] // 2, size - mask.shape[0] // 2)) for _ in range(2))
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + mask.shape[0], size), min(left + mask.shape[1], size)
        bright = typical * np.exp(rng.uniform(np.log(0.001), np.log(0.04)))
        image[y0:y1, x0:x1] += bright * mask[y0 - top : y1 - top, x0 - left : x1 - left]
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0)), np.float32)


def _debris(rng: np.random.Generator, size: int, diameter: float) -> NDArray[np.float32]:
    """One thing that is too small for a nucleus, in its own brightness: a dot, or a fibre a few times as long."""
    width = max(0.8, diameter * rng.uniform(0.03, 0.1))
    length = width * (rng.uniform(2, 6) if rng.random() < 0.35 else 1)
    middle, turn = rng.uniform(0, size, 2), rng.uniform(0, np.pi)
    y, x = (np.arange(size, dtype=np.float32) - m for m in middle)
    along = x[np.newaxis, :] * np.cos(turn) + y[:, np.newaxis] * np.sin(turn)
    across = y[:, np.newaxis] * np.cos(turn) - x[np.newaxis, :] * np.sin(turn)
    light = np.exp(np.log(0.1) + rng.random() * np.log(30))  # 0.1 to 3
    return np.asarray(light * np.exp(-((along / length) ** 2 + (across / width) ** 2) / 2), np.float32)


def _sense(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    photons = float(np.exp(rng.uniform(np.log(15), np.log(20000))))
    counts = rng.poisson(image * photons).astype(np.float32) / photons
    counts += rng.normal(0, np.exp(rng.uniform(np.log(0.0005), np.log(0.09))), image.shape).astype(np.float32)
    if rng.random() < 0.4:  # rescaled or compressed files have correlated noise
        counts = cv2.GaussianBlur(counts, (0, 0), rng.uniform(0.4, 1.0))
    if rng.random() < 0.2:
        counts = np.minimum(counts, np.percentile(counts, rng.uniform(95, 100)))  # saturated
    levels = rng.choice([255, 4095, 65535], p=[0.4, 0.3, 0.3]) * rng.uniform(0.15, 1.0)
    counts += rng.uniform(0, 0.3)
    return np.asarray(np.round(np.maximum(counts, 0) / max(float(counts.max()), 1e-6) * levels), np.float32)
