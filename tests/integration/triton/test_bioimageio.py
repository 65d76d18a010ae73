"""From a bioimage.io package to a model that the real server runs; the packages are made here."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from services.consumer.inference import open_model_server
from services.triton.bioimageio import card_of, convert, read_objects
from shared.dense import predict, read_card
from shared.dense.weights import load_net
from shared.errors import InvalidInput
from tests.fixtures.triton import BUNDLED, ROOT, Triton

WEIGHTS = BUNDLED / "NuclearSegmentation" / "1" / "model.onnx"
SHA = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
NUCLEI = [{"name": "nuclear", "distance": 0, "foreground": 1}]
PERCENTILES = {"min_percentile": 1, "max_percentile": 99.8}

OLD: dict[str, Any] = {  # a description of format 0.4
    "format_version": "0.4.10",
    "type": "model",
    "name": "Borrowed nuclei",
    "description": "Made for a test.",
    "license": "CC-BY-4.0",
    "authors": [{"name": "A. Nonymous"}],
    "cite": [{"text": "A paper", "doi": "10.0000/example"}],
    "inputs": [
        {
            "name": "image",
            "axes": "bcyx",
            "shape": {"min": [1, 1, 64, 64], "step": [0, 0, 16, 16]},
            "preprocessing": [{"name": "scale_range", "kwargs": {"axes": "yx", "mode": "per_sample", **PERCENTILES}}],
        }
    ],
    "outputs": [{"name": "maps", "axes": "bcyx"}],
    "weights": {"onnx": {"source": "weights/net.onnx", "sha256": SHA, "opset_version": 17}},
}
SPATIAL = {"type": "space", "size": {"min": 64, "step": 16}, "unit": "micrometer", "scale": 0.4}
NEW: dict[str, Any] = {  # a description of format 0.5
    **OLD,
    "format_version": "0.5.4",
    "inputs": [
        {
            "id": "image",
            "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": ["DAPI"]},
                {**SPATIAL, "id": "y"},
                {**SPATIAL, "id": "x"},
            ],
            "preprocessing": [
                {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                {"id": "scale_range", "kwargs": {"axes": ["y", "x"], **PERCENTILES}},
                {"id": "clip", "kwargs": {"min": 0, "max": 1}},
            ],
        }
    ],
}


def package(folder: Path, description: dict[str, Any], name: str = "package.zip") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rdf.yaml", yaml.safe_dump(description))
        archive.write(WEIGHTS, "weights/net.onnx")
    return path


def changed(**fields: Any) -> dict[str, Any]:
    """The old description with other fields of its input."""
    return {**OLD, "inputs": [{**OLD["inputs"][0], **fields}]}


async def test_the_real_server_runs_a_converted_package_without_a_restart(triton: Triton, tmp_path: Path) -> None:
    words = ["--repository", str(triton.repository), "--name", "Borrowed", "--objects", "nuclear:1,0"]
    command = [sys.executable, "-m", "services.triton.bioimageio", str(package(tmp_path, OLD)), *words]
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(triton.repository / "Borrowed" / "1")), done.stderr

    server = open_model_server(triton.url)
    try:
        card = await server.card("Borrowed")  # the client asks the server to load it
        block = (np.random.default_rng(2).random((90, 120, 1)) ** 3 * 255).astype(np.uint8)
        window = np.array([[3, 200]], np.float32)
        maps = await server.predict("Borrowed", "1", block, window, 1.0, timeout=60)
    finally:
        await server.aclose()
        shutil.rmtree(triton.repository / "Borrowed")
        triton.http("repository/models/Borrowed/unload", {})
    assert (card.name, card.licence, card.tile, card.multiple) == ("Borrowed", "CC-BY-4.0", 512, 16)
    assert card.normalisation.window == "percentile"
    expected = predict(block, window, 1.0, card, load_net(WEIGHTS.parent, 1))
    assert np.mean(np.abs(maps.astype(int) - expected) > 2) < 0.002


def test_a_second_package_becomes_a_further_version_with_its_own_card(tmp_path: Path) -> None:
    first = convert(package(tmp_path, OLD), tmp_path / "models", "Borrowed", NUCLEI)
    second = convert(package(tmp_path, NEW), tmp_path / "models", "Borrowed", NUCLEI, object_diameter=20.0)
    assert (first.name, second.name) == ("1", "2")
    one, two = (read_card(tmp_path / "models" / "Borrowed", version) for version in "12")
    assert (one.channels, one.pixel_size_um, one.normalisation.clip) == (("nuclear",), 0.65, False)
    assert (two.channels, two.pixel_size_um, two.normalisation.clip) == (("DAPI",), 0.4, True)
    assert (one.object_diameter, two.object_diameter) == (0.0, 20.0)
    assert sorted(each.name for each in first.parent.iterdir()) == ["1", "2", "card.yaml", "config.pbtxt"]
    assert (second / "model.onnx").read_bytes() == WEIGHTS.read_bytes()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], {"window": "range", "low": 0.0, "high": 1.0}),
        ([{"name": "zero_mean_unit_variance"}], {"window": "mean-std"}),
        ([{"name": "scale_linear", "kwargs": {"gain": 0.5, "offset": -1}}], {"low": 2.0, "high": 4.0}),
        ([{"name": "scale_linear", "kwargs": {"gain": [0.5], "offset": [-1]}}], {"low": 2.0, "high": 4.0}),
        (
            [{"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 100, "std": 20}}],
            {"window": "range", "low": 100.0, "high": 120.0},
        ),
    ],
)
def test_intensities_are_prepared_as_the_package_says(steps: list[Any], expected: dict[str, Any]) -> None:
    found = card_of(changed(preprocessing=steps), "Mine", NUCLEI)["normalisation"]
    assert {name: found[name] for name in expected} == expected
    assert found["clip"] is False


def test_a_fixed_shape_becomes_a_fixed_tile() -> None:
    card = card_of(changed(shape=[1, 1, 256, 256]), "Mine", NUCLEI)
    assert (card["tile"], card["fixed_tile"], card["multiple"]) == (256, True, 1)


def test_a_sigmoid_is_left_to_the_server() -> None:
    outputs = [{"name": "maps", "postprocessing": [{"name": "sigmoid"}, {"name": "binarize"}]}]
    assert card_of({**OLD, "outputs": outputs}, "Mine", NUCLEI)["activation"] == "sigmoid"


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({**OLD, "type": "dataset"}, "does not describe a model"),
        ({**OLD, "weights": {"keras_hdf5": {"source": "w"}}}, "weights as keras_hdf5; onnx or torchscript"),
        ({**OLD, "weights": {"onnx": {"source": "weights/other.onnx"}}}, "does not hold its onnx weights"),
        ({**OLD, "weights": {"onnx": {"source": "../../../etc/passwd"}}}, "does not hold its onnx weights"),
        ({**OLD, "weights": {"onnx": {"source": "weights/net.onnx", "sha256": "0" * 64}}}, "do not have the SHA-256"),
        ({**OLD, "inputs": [*OLD["inputs"], *OLD["inputs"]]}, "takes 2 images at once"),
        (changed(axes="bczyx", shape=[1, 1, 8, 64, 64]), "axes in the order bczyx; only bcyx"),
        (changed(shape=[1, 1, 64, 32]), "Tiles must be square"),
        (changed(shape=[1, 1]), "does not fit its axes"),
        (changed(shape={"min": [1, 1, 100, 100], "step": [0, 0, 16, 16]}), "Tiles of 100 pixels and 16 more"),
        (changed(preprocessing=[{"name": "binarize", "kwargs": {"threshold": 3}}]), "prepares images by 'binarize'"),
        (changed(preprocessing=[{"name": "scale_linear", "kwargs": {"gain": [1, 2]}}]), "in its own way"),
        (changed(preprocessing=[{"name": "scale_linear", "kwargs": {"gain": -1}}]), "scales intensities by -1"),
        (
            changed(preprocessing=[{"name": "scale_range"}, {"name": "clip", "kwargs": {"min": 0, "max": 9}}]),
            "0 to 1 can be served",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(
    description: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        convert(package(tmp_path, description), tmp_path / "models", "Borrowed", NUCLEI)
    assert sentence in str(caught.value)
    assert not (tmp_path / "models").exists()


def test_a_package_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    path = package(tmp_path, OLD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil.txt", "x")
    with pytest.raises(InvalidInput, match=r"'\.\./evil\.txt' leaves its folder"):
        convert(path, tmp_path / "models", "Borrowed", NUCLEI)


@pytest.mark.parametrize(
    ("name", "objects", "sentence"),
    [
        ("../up", "nuclear:0", "A model's name is of letters"),
        ("Mine", "nuclear", "is not of the form name:foreground"),
        ("Mine", " ", "must name at least one kind"),
        ("Mine", "nuclear:0", "is neither a zip nor a folder"),
    ],
)
def test_the_command_answers_a_wrong_word_with_one_sentence(
    name: str, objects: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "no.zip").write_bytes(b"text")
    words = ["--repository", str(tmp_path / "models"), "--name", name, "--objects", objects]
    command = [sys.executable, "-m", "services.triton.bioimageio", str(tmp_path / "no.zip"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_objects_are_read_as_they_are_written() -> None:
    assert read_objects("nuclear:1,0 cell:2,b3 spot:4") == [
        {"name": "nuclear", "foreground": 1, "distance": 0},
        {"name": "cell", "foreground": 2, "boundary": 3},
        {"name": "spot", "foreground": 4},
    ]
