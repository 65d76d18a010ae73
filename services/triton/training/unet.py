"""The network: a U-Net (Ronneberger et al., MICCAI 2015, p. 234) that is thin where the image is large."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn


class UNet(nn.Module):  # type: ignore[misc]
    """Input float32 (N, channels, t, t), values 0..1, ``t`` a multiple of 16.

    Output float32 (N, 2 * objects, t, t), values 0..1: for each kind of object its inner distance, then its
    foreground probability.
    """

    def __init__(self, channels: int = 1, objects: int = 1, widths: tuple[int, ...] = (12, 32, 48, 64, 96)) -> None:
        super().__init__()
        inputs = (channels, *widths[:-1])
        self.down = nn.ModuleList(_double(a, b) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(
            _double(below + here, here) for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 2 * objects, 1)
        self.pool = nn.MaxPool2d(2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")

    def logits(self, image: Tensor) -> Tensor:
        """The output before the sigmoid."""
        skips: list[Tensor] = []
        flow = image
        for depth, block in enumerate(self.down):
            flow = block(flow if depth == 0 else self.pool(flow))
            skips.append(flow)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            flow = block(torch.cat((self.grow(flow), skip), 1))
        return self.head(flow)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(image))


def _double(inputs: int, outputs: int) -> nn.Sequential:
    def once(a: int) -> list[nn.Module]:
        return [nn.Conv2d(a, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(*once(inputs), *once(outputs))


def read_folded(net: UNet, path: Path) -> None:
    """Set ``net`` to the weights of an ONNX file of its own, in which the batch norms are folded into convolutions.

    Each batch norm then only adds the bias. Raises ValueError if the file is of another network.
    """
    graph = onnx.load(str(path)).graph
    values = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    shapes = [tuple(values[node.input[1]].shape) for node in nodes]
    if shapes != [tuple(layer.weight.shape) for layer in layers]:
        raise ValueError(f"{path} holds another network than the one to be trained.")
    with torch.no_grad():
        for place, (node, layer) in enumerate(zip(nodes, layers, strict=True)):
            layer.weight.copy_(values[node.input[1]])
            bias = values[node.input[2]]
            if layer.bias is not None:
                layer.bias.copy_(bias)
                continue
            norm = norms[place]
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            norm.bias.copy_(bias)
