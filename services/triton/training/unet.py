"""The network: a U-Net (Ronneberger et al., MICCAI 2015, p. 234) that works at half the image's resolution.

The first convolution halves the image; the last gives four values for each of its pixels, which are laid out as the
full image (Shi et al., "Real-time single image and video super-resolution", CVPR 2016, p. 1874). That costs half as
much as a U-Net of as many weights at full resolution, and it sees twice as far.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class UNet(nn.Module):  # type: ignore[misc]
    """Input float32 (N, channels, t, t), values 0..1, ``t`` a multiple of 16.

    Output float32 (N, 2 * objects, t, t), values 0..1: for each kind of object its inner distance, then its
    foreground probability.
    """

    def __init__(self, channels: int = 1, objects: int = 1, widths: tuple[int, ...] = (32, 48, 64, 96)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 4, stride=2, padding=1)
        inputs = (widths[0], *widths[:-1])
        self.down = nn.ModuleList(_double(a, b) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(
            _double(below + here, here) for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 4 * 2 * objects, 1)
        self.pool = nn.MaxPool2d(2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.shuffle = nn.PixelShuffle(2)

    def logits(self, image: Tensor) -> Tensor:
        """The output before the sigmoid."""
        skips: list[Tensor] = []
        flow = torch.relu(self.stem(image))
        for depth, block in enumerate(self.down):
            flow = block(flow if depth == 0 else self.pool(flow))
            skips.append(flow)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            flow = block(torch.cat((self.grow(flow), skip), 1))
        return self.shuffle(self.head(flow))

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(image))


def _double(inputs: int, outputs: int) -> nn.Sequential:
    def once(a: int) -> list[nn.Module]:
        return [nn.Conv2d(a, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(*once(inputs), *once(outputs))


def read_folded(net: UNet, path: Path) -> None:
    """Set ``net`` to the weights of an ONNX file of its own, in which the batch norms are folded into convolutions.

    Each batch norm then only adds the bias. A network with more input channels or kinds of object starts with copies
    of what was learnt for one. Raises ValueError if the file is of another network.
    """
    onnx: Any = importlib.import_module("onnx")  # needed here alone
    to_array = importlib.import_module("onnx.numpy_helper").to_array
    graph = onnx.load(str(path)).graph
    values = {each.name: torch.from_numpy(to_array(each).copy()) for each in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    norms = (module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    if len(nodes) != len(layers):
        raise ValueError(f"{path} holds another network than the one to be trained.")
    with torch.no_grad():
        for node, layer in zip(nodes, layers, strict=True):
            weight = _fit(values[node.input[1]], layer.weight.shape)
            layer.weight.copy_(weight)
            bias = values[node.input[2]].repeat(layer.out_channels // len(values[node.input[2]]))
            if layer.bias is not None:
                layer.bias.copy_(bias)
                continue
            norm = next(norms)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            norm.bias.copy_(bias)


def _fit(weight: Tensor, shape: torch.Size) -> Tensor:
    """Repeat a convolution's weights over more outputs, and share them among more inputs."""
    outputs, inputs = shape[0] // weight.shape[0], shape[1] // weight.shape[1]
    return weight.repeat(outputs, inputs, 1, 1) / inputs
