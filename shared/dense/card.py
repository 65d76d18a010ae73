"""The model card: what a model expects, what it gives, and how to read what it gives.

A card is the file ``card.yaml`` in the model's folder, or in the folder of one version, which then counts for that
version alone. The server hands it out as JSON, so that nobody else needs to see the repository.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from shared.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How intensities become what the network reads; found per channel over the whole plane.

    ``window`` names how low and high are found: ``percentile`` (``low`` and ``high`` are percentiles), ``mean-std``
    (low is the mean, high is the mean plus one standard deviation), or ``range`` (``low`` and ``high`` are
    intensities). Then ``(value - low) / (high - low)``, clipped to 0..1 if ``clip``, to the power ``gamma``.
    """

    window: Literal["percentile", "mean-std", "range"] = "percentile"
    low: float = 1.0
    high: float = 99.8
    of: Literal["all", "non-zero"] = "all"  # which pixels count
    clip: bool = True
    gamma: float = 1.0  # other than 1 needs clip


@dataclass(frozen=True, slots=True)
class ObjectMaps:
    """One kind of object that the model finds, and the output channels of the network that tell of it."""

    name: str  # e.g. nuclear, whole-cell
    foreground: int  # channel: probability that a pixel belongs to an object
    distance: int | None = None  # channel: inner distance, 1 in the middle, 0 at the edge
    boundary: int | None = None  # channel: probability of an edge; used where there is no distance


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """From maps to labels. Lengths are in model pixels, heights in units of the inner distance (0..1)."""

    foreground: float = 0.5  # probability from which a pixel is part of an object
    smoothing: float = 1.0  # sigma of the Gaussian over the inner distance
    h: float = 0.1  # a maximum must rise this far above its saddle to be an object of its own
    min_size: float = 15.0  # objects of fewer square model pixels go
    max_hole: float = 15.0  # holes of fewer square model pixels are filled


@dataclass(frozen=True, slots=True)
class ModelCard:
    """All that is known about a model without loading it."""

    name: str
    channels: tuple[str, ...]  # what the input channels show, in order
    pixel_size_um: float  # micrometres per model pixel
    objects: tuple[ObjectMaps, ...]
    licence: str
    origin: str  # where the weights come from and how they were made
    version: str = ""  # filled in by the server, from the folder that the weights are in
    description: str = ""
    object_diameter: float = 0.0  # model pixels, what the network knows best; 0: not known
    scale_channel: int = 0  # input channel in which objects of that diameter are seen; for automatic scale
    tile: int = 512  # largest tile, model pixels
    fixed_tile: bool = False  # the network takes tiles of this size only
    multiple: int = 16  # tile sides are multiples of this
    overlap: float = 0.25  # share of a tile that it has in common with the next
    batch: int = 4  # tiles per call of the network
    block: int = 2048  # largest side of a request, image pixels, halo included
    halo: int = 128  # model pixels that a block shares with each neighbour, so that labels agree
    activation: Literal["none", "sigmoid", "softmax"] = "none"  # to put on the network's output
    normalisation: Normalisation = field(default_factory=Normalisation)
    postprocessing: PostProcessing = field(default_factory=PostProcessing)
    quality: dict[str, Any] = field(default_factory=dict)  # measured figures, free form

    def to_json(self) -> str:
        """The card as JSON, readable by :func:`parse_card`."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


def read_card(model: Path, version: str = "") -> ModelCard:
    """The card of the model in folder ``model``; raises Misconfigured, naming the file and the field."""
    own = model / version / "card.yaml"
    path = own if version and own.is_file() else model / "card.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"The model {model.name} has no readable card.yaml: {error}.") from error
    return parse_card(text, str(path), default_name=model.name)


def parse_card(text: str, where: str = "card", default_name: str = "") -> ModelCard:
    """A card from YAML or JSON; raises Misconfigured, naming ``where`` and the field that is wrong."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Misconfigured(f"{where} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise Misconfigured(f"{where} must hold fields such as name and channels, not {type(values).__name__}.")
    card: ModelCard = _build(ModelCard, {"name": default_name, **values}, where)
    _check(card, where)
    return card


def _build(kind: Any, values: Any, where: str) -> Any:
    """An instance of the dataclass ``kind`` from plain values, each checked against its annotation."""
    if not isinstance(values, dict):
        raise Misconfigured(f"{where} must hold fields, not {values!r}.")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise Misconfigured(f"{where} has the unknown field {unknown[0]}; known are: {', '.join(hints)}.")
    for each in dataclasses.fields(kind):
        needed = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if needed and each.name not in values:
            raise Misconfigured(f"{where} lacks the field {each.name}.")
    return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if origin is tuple:
        return _convert_list(inner[0], value, where)
    if origin is Literal:
        if value not in inner:
            raise Misconfigured(f"{where} is {value!r}; allowed are: {', '.join(map(str, inner))}.")
        return value
    if origin is types.UnionType:  # int | None
        return None if value is None else _convert(inner[0], value, where)
    return _plain(dict if origin is dict else hint, value, where)


def _convert_list(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise Misconfigured(f"{where} must be a list with at least one entry, not {value!r}.")
    return tuple(_convert(hint, each, f"{where}[{place}]") for place, each in enumerate(value))


def _plain(kind: Any, value: Any, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number and math.isfinite(value):
        return float(value)
    if kind is not float and isinstance(value, kind) and (kind is not int or number):
        return value
    names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", dict: "a mapping"}
    raise Misconfigured(f"{where} must be {names[kind]}, not {value!r}.")


def _check(card: ModelCard, where: str) -> None:
    rules = {
        "name must not be empty": bool(card.name),
        "pixel_size_um must be above 0": card.pixel_size_um > 0,
        "scale_channel must name one of the channels": 0 <= card.scale_channel < len(card.channels),
        "multiple must be at least 1": card.multiple >= 1,
        "tile must be a multiple of the field multiple": card.tile > 0 and card.tile % card.multiple == 0,
        "overlap must lie between 0 and 0.5": 0 <= card.overlap <= 0.5,
        "batch must be at least 1": card.batch >= 1,
        "block must be at least 64": card.block >= 64,
        "halo must not be negative": card.halo >= 0,
        "normalisation: gamma other than 1 needs clip": card.normalisation.gamma == 1 or card.normalisation.clip,
        "normalisation: low must be below high": _ordered(card.normalisation),
        "postprocessing: foreground must lie between 0 and 1": 0 <= card.postprocessing.foreground <= 1,
    }
    for sentence, kept in rules.items():
        if not kept:
            raise Misconfigured(f"{where}: {sentence}.")


def _ordered(normalisation: Normalisation) -> bool:
    return normalisation.window == "mean-std" or normalisation.low < normalisation.high
