"""Turn a bioimage.io package into a model folder.

    python -m services.triton.bioimageio PACKAGE.zip --repository models --name MyNuclei --objects nuclear:0,1

A package is a zip (or an unpacked folder) with ``rdf.yaml`` (or ``bioimageio.yaml``) and weights, see
https://bioimage.io and the model descriptions 0.4 and 0.5. ONNX weights are taken before TorchScript. What the
description says of axes, tile sizes, intensities and licence goes into ``card.yaml``; what no description says, which
output channel means what, is told with ``--objects``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from services.triton.bioimageio_intensities import activation, normalisation
from shared.dense import parse_card
from shared.errors import InvalidInput, KioskError

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
WEIGHTS = {"onnx": "model.onnx", "torchscript": "model.pt"}
LARGEST = 4 << 30  # bytes of weights that are unpacked
CONFIG = 'backend: "dense"\nversion_policy { all {} }\n'
TILE = 512
PIXEL_SIZE = 0.65  # micrometres, where the description names none


@dataclass(frozen=True, slots=True)
class Axes:
    """One input's axes, whatever version of the description they are from."""

    order: str  # e.g. bcyx
    channels: int
    side: int  # pixels, the smallest (or only) tile
    step: int  # what tiles may grow by; 0: not at all
    channel_names: tuple[str, ...] = ()
    pixel_size: float = 0.0  # micrometres; 0: not said


def convert(package: Path, repository: Path, name: str, objects: list[dict[str, Any]], **told: Any) -> Path:
    """Write the model of ``package`` into ``repository``; returns the folder of its new version.

    ``objects``: as in a card, see ``shared.dense.ObjectMaps``. ``told``: fields of the card that the caller knows
    better. A model that is there already gets a further version with a card of its own. Raises InvalidInput with
    a sentence if the package cannot be used.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise InvalidInput(f"A model's name is of letters, digits, '_', '-' and '.', not {name!r}.", code="bad-name")
    with _opened(package) as folder:
        description = _description(folder)
        source, target = _weights(folder, description)
        card = {**card_of(description, name, objects), **told}
        parse_card(yaml.safe_dump(card), f"The card made from {package.name}")
        return _write(repository / name, card, source, target)


def card_of(description: dict[str, Any], name: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The card's fields that follow from a model description; raises InvalidInput for what cannot be served."""
    inputs, outputs = description.get("inputs") or [], description.get("outputs") or []
    if len(inputs) != 1 or not outputs:
        raise InvalidInput(f"{name} takes {len(inputs)} images at once; models with one can be served.", code="axes")
    axes = _axes(inputs[0])
    if axes.order != "bcyx":
        raise InvalidInput(
            f"{name} takes axes in the order {axes.order}; only bcyx (batch, channel, y, x) can be served.", code="axes"
        )
    side, step = axes.side, axes.step
    tile = side if not step else max(side, side + (TILE - side) // step * step)
    channels = axes.channel_names or (("nuclear",) if axes.channels == 1 else ())
    card: dict[str, Any] = {
        "name": name,
        "description": str(description.get("description", "")).strip(),
        "channels": list(channels) or [f"channel {place}" for place in range(axes.channels)],
        "pixel_size_um": axes.pixel_size or PIXEL_SIZE,
        "tile": tile,
        "fixed_tile": not step,
        "multiple": _multiple(side, step),
        "objects": objects,
        "normalisation": normalisation(inputs[0], name),
        "activation": activation(outputs[0]),
        "licence": str(description.get("license") or "not stated"),
        "origin": _origin(description),
    }
    return card


def _multiple(side: int, step: int) -> int:
    """Tiles of the smallest size plus any number of steps are multiples of the step only if that size is one."""
    if not step:
        return 1
    if side % step:
        raise InvalidInput(f"Tiles of {side} pixels and {step} more at a time cannot be served.", code="axes")
    return step


def _axes(source: dict[str, Any]) -> Axes:
    axes = source.get("axes")
    if isinstance(axes, str):  # 0.4
        return _axes_of_letters(axes, source.get("shape"))
    if isinstance(axes, list):  # 0.5
        return _axes_of_list(axes)
    raise InvalidInput("The description names no axes for the input.", code="axes")


def _axes_of_letters(order: str, shape: Any) -> Axes:
    if isinstance(shape, dict):
        least, step = shape.get("min"), shape.get("step")
    else:
        least, step = shape, [0] * len(order)
    if not (isinstance(least, list) and isinstance(step, list) and len(least) == len(step) == len(order)):
        raise InvalidInput(f"The description's shape {shape!r} does not fit its axes {order}.", code="axes")
    size, grows = dict(zip(order, least, strict=True)), dict(zip(order, step, strict=True))
    _same(size.get("y"), size.get("x"))
    return Axes(order, int(size.get("c", 1)), int(size.get("y", 0)), int(grows.get("y", 0)))


def _axes_of_list(axes: list[dict[str, Any]]) -> Axes:
    letters = {"batch": "b", "channel": "c"}
    order = "".join(letters.get(str(axis.get("type")), str(axis.get("id", "?"))) for axis in axes)
    by_letter = dict(zip(order, axes, strict=True))
    names = tuple(str(each) for each in by_letter.get("c", {}).get("channel_names", ()))
    (side, step), (wide, _) = (_size(by_letter.get(letter, {}).get("size")) for letter in "yx")
    _same(side, wide)
    scale, unit = by_letter.get("x", {}).get("scale", 0), by_letter.get("x", {}).get("unit")
    known = unit == "micrometer" and isinstance(scale, int | float)
    return Axes(order, max(1, len(names)), side, step, names, float(scale) if known else 0.0)


def _size(size: Any) -> tuple[int, int]:
    if isinstance(size, dict) and "min" in size:
        return int(size["min"]), int(size.get("step", 0))
    return (int(size), 0) if isinstance(size, int) else (0, 0)


def _same(height: Any, width: Any) -> None:
    if not isinstance(height, int) or height < 1 or height != width:
        raise InvalidInput(f"Tiles must be square with a size in pixels, not {height} x {width}.", code="axes")


def _origin(description: dict[str, Any]) -> str:
    authors = ", ".join(
        str(each.get("name", "")) for each in description.get("authors") or [] if isinstance(each, dict)
    )
    cited = [str(each.get("doi") or each.get("url") or each.get("text")) for each in description.get("cite") or []]
    parts = [f"bioimage.io model {description.get('id') or description.get('name')}", authors and f"by {authors}"]
    return "; ".join(part for part in (*parts, ", ".join(cited[:3])) if part)


@contextmanager
def _opened(package: Path) -> Iterator[Path]:
    """The package as a folder."""
    if package.is_dir():
        yield package
        return
    if not zipfile.is_zipfile(package):
        raise InvalidInput(f"{package} is neither a zip nor a folder.", code="not-a-package")
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(package) as archive:
        _unpack(archive, Path(scratch))
        yield Path(scratch)


def _unpack(archive: zipfile.ZipFile, target: Path) -> None:
    if sum(each.file_size for each in archive.infolist()) > LARGEST:
        raise InvalidInput(f"The package unpacks to more than {LARGEST >> 30} GiB.", code="too-large")
    for each in archive.infolist():
        path = PurePosixPath(each.filename)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidInput(f"The package's entry {each.filename!r} leaves its folder.", code="not-a-package")
    archive.extractall(target)


def _description(folder: Path) -> dict[str, Any]:
    found = next((path for name in DESCRIPTIONS for path in sorted(folder.rglob(name))), None)
    if found is None:
        raise InvalidInput(f"The package holds no {' or '.join(DESCRIPTIONS[:2])}.", code="not-a-package")
    try:
        values = yaml.safe_load(found.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{found.name} is not valid YAML: {error}", code="not-a-package") from error
    if not isinstance(values, dict) or values.get("type", "model") != "model":
        raise InvalidInput(f"{found.name} does not describe a model.", code="not-a-package")
    return {**values, "_folder": str(found.parent)}


def _weights(folder: Path, description: dict[str, Any]) -> tuple[Path, str]:
    """The file of the weights, checked, and the name that it gets here."""
    offered = description.get("weights") or {}
    kind = next((each for each in WEIGHTS if each in offered), None)
    if kind is None:
        kinds = ", ".join(offered) or "none"
        raise InvalidInput(f"The package has weights as {kinds}; onnx or torchscript can be served.", code="weights")
    source = offered[kind].get("source")
    source = source.get("source") if isinstance(source, dict) else source
    base = Path(description["_folder"]).resolve()
    path = (base / str(source)).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidInput(f"The package does not hold its {kind} weights {source!r}.", code="weights")
    wanted = offered[kind].get("sha256")
    if wanted and hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
        raise InvalidInput(f"The weights {source} do not have the SHA-256 that the description names.", code="weights")
    return path, WEIGHTS[kind]


def _write(model: Path, card: dict[str, Any], weights: Path, name: str) -> Path:
    """Put the version there in one step, so that a server that looks meanwhile never sees half of it."""
    model.mkdir(parents=True, exist_ok=True)
    numbers = [int(each.name) for each in model.iterdir() if each.name.isdecimal()]
    version = model / str(max(numbers, default=0) + 1)
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
    with tempfile.TemporaryDirectory(dir=model, prefix=".new-") as scratch:
        ready = Path(scratch) / "version"
        ready.mkdir()
        shutil.copyfile(weights, ready / name)
        (ready / "card.yaml").write_text(text, encoding="utf-8")
        if not (model / "card.yaml").exists():
            (model / "card.yaml").write_text(text, encoding="utf-8")
        if not (model / "config.pbtxt").exists():
            (model / "config.pbtxt").write_text(CONFIG, encoding="ascii")
        ready.rename(version)
    return version


def read_objects(text: str) -> list[dict[str, Any]]:
    """``nuclear:0,1`` (name:foreground[,distance]) or ``cell:0,b1`` (a boundary), several separated by spaces."""
    result: list[dict[str, Any]] = []
    for part in text.split():
        found = re.fullmatch(r"([A-Za-z][\w-]*):(\d+)(?:,(b?)(\d+))?", part)
        if not found:
            raise InvalidInput(f"--objects {part!r} is not of the form name:foreground[,distance].", code="objects")
        name, front, boundary, other = found.groups()
        kind: dict[str, Any] = {"name": name, "foreground": int(front)}
        if other is not None:
            kind["boundary" if boundary else "distance"] = int(other)
        result.append(kind)
    if not result:
        raise InvalidInput("--objects must name at least one kind of object.", code="objects")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m services.triton.bioimageio", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("package", type=Path)
    parser.add_argument("--repository", type=Path, required=True, help="folder that the model's folder goes into")
    parser.add_argument("--name", required=True)
    parser.add_argument("--objects", default="nuclear:0", help="name:foreground[,distance or b + boundary] channels")
    parser.add_argument("--pixel-size", type=float, help="micrometres of a model pixel")
    parser.add_argument("--object-diameter", type=float, help="model pixels; switches automatic scale on")
    options = parser.parse_args()
    told = {"pixel_size_um": options.pixel_size, "object_diameter": options.object_diameter}
    given = {name: value for name, value in told.items() if value is not None}
    try:
        objects = read_objects(options.objects)
        print(convert(options.package, options.repository, options.name, objects, **given))
    except (KioskError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
