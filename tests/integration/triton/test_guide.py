"""docs/models.md followed to the letter: the files that it shows make a model that the real server runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from services.consumer.inference import open_model_server
from shared.dense import read_card
from tests.fixtures.triton import BUNDLED, ROOT, Triton

GUIDE = ROOT / "docs" / "models.md"
WEIGHTS = BUNDLED / "NuclearSegmentation" / "1" / "model.onnx"
BLOCK = np.zeros((64, 64, 1), np.uint8)
BLOCK[20:40, 20:40] = 180


def shown(name: str) -> str:
    """The block of the guide after the comment ``name``."""
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"the guide shows no {name}"
    return found.group(1)


async def test_the_onnx_model_of_the_guide_is_served_as_soon_as_it_is_asked_for(triton: Triton) -> None:
    folder = triton.repository / "MyNuclei"
    (folder / "1").mkdir(parents=True)
    (folder / "card.yaml").write_text(shown("card"))
    (folder / "config.pbtxt").write_text(shown("config"))
    shutil.copyfile(WEIGHTS, folder / "1" / "model.onnx")
    server = open_model_server(triton.url)
    try:
        card = await server.card("MyNuclei")
        maps = await server.predict("MyNuclei", "1", BLOCK, np.array([[0, 200]], np.float32), 1.0, timeout=60)
    finally:
        await server.aclose()
        shutil.rmtree(folder)
        triton.http("repository/models/MyNuclei/unload", {})
    assert (card.name, card.version, card.object_diameter) == ("MyNuclei", "1", 18)
    assert maps[0, 30, 30] > 100
    assert not maps[0, :10].any()


def test_the_bundled_models_have_the_config_of_the_guide() -> None:
    for folder in BUNDLED.iterdir():
        if folder.is_dir():
            assert (folder / "config.pbtxt").read_text() == shown("config")
            assert read_card(folder).name in GUIDE.read_text(encoding="utf-8")


def test_a_torchscript_model_gives_what_the_same_onnx_model_gives(tmp_path: Path) -> None:
    python = os.environ.get("KIOSK_TEST_TORCH_PYTHON")
    if not python:
        pytest.skip("torch is not part of the environments; KIOSK_TEST_TORCH_PYTHON names a Python that has it")
    export = re.search(r"```python\n(module = torch.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert export
    script = f"""
import json, pathlib, sys
import numpy as np, torch
from shared.dense.weights import load_net
torch.manual_seed(1)
net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Sigmoid())
torch.jit.trace(net, torch.zeros(1, 1, 64, 64)).save("model.pt")
{export.group(1)}
image = np.random.default_rng(1).random((2, 1, 32, 48), np.float32)
one = load_net(pathlib.Path("."), 1)(image)
pathlib.Path("model.onnx").rename("other")
two = load_net(pathlib.Path("."), 1)(image)
print(json.dumps([one.shape, float(np.abs(one - two).max()), float(two.std())]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shape, difference, spread = json.loads(done.stdout.splitlines()[-1])
    assert shape == [2, 2, 32, 48]
    assert difference < 1e-5
    assert spread > 0
