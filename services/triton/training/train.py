"""Train a bundled model on synthetic scenes and write it as ONNX.

    python -m services.triton.training.train NuclearSegmentation --out model.onnx --minutes 20
    python -m services.triton.training.train NuclearSegmentation --out better.onnx --start model.onnx --rate 1e-3

Needs torch and onnx besides the model server's own environment; the seed makes the images reproducible.
"""

from __future__ import annotations

import argparse
import copy
import functools
import multiprocessing
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from services.triton.training.scenes import GENERATORS, scene_at
from services.triton.training.targets import border_weight, inner_distance
from services.triton.training.unet import UNet, read_folded
from shared.dense.normalise import rescale

SCENE = 192  # pixels along a side, at the model's scale
PER_KIND = 3  # planes of truth for each kind of object: inner distance, foreground, weight
MEMORY = 0.998  # what the averaged weights keep of themselves at a step


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    data, channels = make_set(options.model, options.scenes, options.seed, options.workers)
    print(f"{options.scenes} scenes made in {time.monotonic() - began:.0f} s", flush=True)
    net = UNet(channels, (data.shape[1] - channels) // PER_KIND).to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters", flush=True)
    if options.start:
        read_folded(net, options.start)
    export(train(net, data, options), options.out)


def make_set(model: str, scenes: int, seed: int, workers: int) -> tuple[NDArray[np.float16], int]:
    """Scenes with their truth: float16 (scenes, C + 3 K, SCENE, SCENE), and C.

    The channels, with intensities of 0 to 1 in the product's window, then for each kind of object its inner distance,
    foreground and weight.
    """
    seeds = range(seed * 1_000_000, seed * 1_000_000 + scenes)
    cv2.setNumThreads(1)  # threads of OpenCV do not survive a fork
    first = GENERATORS[model](np.random.default_rng(0), SCENE)
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return np.stack(list(pool.imap(functools.partial(_make_one, model), seeds, 8))), len(first.channels)


def _make_one(model: str, seed: int) -> NDArray[np.float16]:
    """A scene, half of the time of another pixel size and brought to the model's as the product does it."""
    rng = np.random.default_rng(seed)
    zoom = float(np.exp(rng.uniform(np.log(0.5), np.log(1.6)))) if rng.random() < 0.5 else 1.0
    scene = scene_at(model, rng, round(SCENE / zoom), zoom)
    parts = []
    for channel in scene.channels:
        low, high = np.percentile(channel, [1, 99.8])
        resized = rescale(channel[..., np.newaxis], SCENE / channel.shape[0])[..., 0]
        parts.append(np.clip((resized - low) / max(high - low, 1e-6), -1, 30))
    for fine in scene.labels:
        # float32 holds the numbers exactly; OpenCV resizes no int32
        labels = cv2.resize(fine.astype(np.float32), (SCENE, SCENE), interpolation=cv2.INTER_NEAREST_EXACT)
        labels = labels.astype(np.int32)
        parts += [inner_distance(labels), (labels > 0).astype(np.float32), border_weight(labels)]
    return np.stack(parts).astype(np.float16)


def train(net: UNet, data: NDArray[np.float16], options: argparse.Namespace) -> UNet:
    """Train until the steps or the minutes are used up; returns the network with its weights averaged over the steps.

    The rate rises, then falls to zero as a cosine of what is used up.
    """
    rng = np.random.default_rng(options.seed)
    optimiser = torch.optim.AdamW(net.parameters(), options.rate, weight_decay=1e-3)
    channels = net.stem.in_channels
    mean: UNet = copy.deepcopy(net).eval()
    began, step, losses, saved = time.monotonic(), 0, [], 0.0
    _learn(net, frozen=bool(options.start))
    while (share := max(step / options.steps, (time.monotonic() - began) / (60 * options.minutes))) < 1:
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1.0, step / 100 + 0.01) * 0.5 * (1 + np.cos(np.pi * share))
        image, truth = _batch(rng, data, channels, options)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net.logits(image)
        loss = _loss(logits.float(), truth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        step += 1
        _follow(mean, net, min(MEMORY, step / (step + 10)))
        losses.append(loss.item())
        if step % 50 == 0:
            spent = time.monotonic() - began
            print(f"{share:6.1%}  step {step:5d}  loss {np.mean(losses[-50:]):.4f}  {spent:.0f} s", flush=True)
        if share - saved > 0.1:
            saved = share
            export(mean, options.out)
    return mean


def _follow(mean: UNet, net: UNet, memory: float) -> None:
    """Move the averaged weights and statistics a little towards those of ``net``."""
    with torch.no_grad():
        for ours, theirs in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - memory)


def _learn(net: UNet, *, frozen: bool) -> None:
    """Put ``net`` into training; ``frozen``: with batch norms that keep their statistics, as folded ones must."""
    net.train()
    for module in net.modules():
        if frozen and isinstance(module, torch.nn.BatchNorm2d):
            module.eval()


def _batch(
    rng: np.random.Generator, data: NDArray[np.float16], channels: int, options: argparse.Namespace
) -> tuple[Tensor, Tensor]:
    """Random scenes, turned and mirrored, with random intensity windows and noise: image and truth."""
    crops = []
    for index in rng.integers(len(data), size=options.batch):
        crop = np.rot90(data[index], int(rng.integers(4)), (1, 2)).astype(np.float32)
        crop = crop[:, :, ::-1] if rng.random() < 0.5 else crop
        seen = [_vary(rng, crop[c]) for c in range(channels)]
        crops.append(np.concatenate((np.stack(seen), crop[channels:])))
    batch = torch.from_numpy(np.stack(crops))
    return batch[:, :channels].contiguous(memory_format=torch.channels_last), batch[:, channels:]


def _vary(rng: np.random.Generator, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network reads of a plane: with a window too narrow or too wide, often with more noise or blur."""
    low = rng.normal(0, 0.03)
    high = low + np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.2:
        unit = cv2.GaussianBlur(unit, (0, 0), rng.uniform(0.3, 1.2))
    if rng.random() < 0.3:
        unit = unit + rng.uniform(0, 0.08) * rng.standard_normal(unit.shape, np.float32)
    unit = np.clip((unit - low) / (high - low), 0, 1)
    return np.asarray(unit ** (0.5 * np.exp(rng.normal(0, 0.15))), np.float32)


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    kinds = truth.shape[1] // PER_KIND
    each = [
        _loss_of_kind(logits[:, 2 * k : 2 * k + 2], truth[:, PER_KIND * k : PER_KIND * k + PER_KIND])
        for k in range(kinds)
    ]
    return torch.stack(each).mean()


def _loss_of_kind(logits: Tensor, truth: Tensor) -> Tensor:
    distance, front, weight = truth[:, 0], truth[:, 1], truth[:, 2]
    guess = torch.sigmoid(logits)
    cross = (functional.binary_cross_entropy_with_logits(logits[:, 1], front, reduction="none") * weight).mean()
    both = (guess[:, 1] * front).sum()
    dice = 1 - (2 * both + 1) / (guess[:, 1].sum() + front.sum() + 1)
    miss = functional.smooth_l1_loss(guess[:, 0], distance, beta=0.1, reduction="none") * weight * (1 + 2 * front)
    return cross + 0.5 * dice + 4 * miss.mean()


def export(net: UNet, out: Path) -> None:
    """Write ``net`` as ONNX with a free batch and tile size; batch norms are folded into the convolutions."""
    net.eval()
    example = torch.zeros(1, net.stem.in_channels, 64, 64)
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        net,
        (example,),
        str(out),
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["maps"],
        dynamic_axes={"image": axes, "maps": axes},
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(GENERATORS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="ONNX weights of this script to go on from")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1, help="of torch; one is quickest for so small a network")
    parser.add_argument("--workers", type=int, default=2, help="processes that make the scenes")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
