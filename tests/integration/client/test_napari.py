"""The widget for napari, without napari: with a layer's attributes, and a stand-in for its threads."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from cellkiosk import napari
from tests.fixtures.frontend import Served
from tests.integration.client.conftest import LABELS

ROOT = Path(napari.__file__).parents[1]


def layer() -> Any:
    return SimpleNamespace(data=np.zeros((48, 64), np.uint16), name="field 1", scale=np.array([0.5, 0.5]))


async def test_a_layer_comes_back_as_labels(working: Served) -> None:
    labels, about, kind = await asyncio.to_thread(napari.labels_layer, layer(), working.url, "segmentation")
    assert kind == "labels"
    assert np.array_equal(labels, LABELS)
    assert about == {"name": "field 1 segmentation", "scale": (0.5, 0.5)}


async def test_the_window_is_not_held_up(working: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def thread_worker(function: Callable[..., Any], *, start_thread: bool) -> Callable[..., Any]:
        assert start_thread
        return lambda *arguments: asyncio.to_thread(function, *arguments)

    for name in ("napari", "napari.qt", "napari.qt.threading"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["napari.qt.threading"], "thread_worker", thread_worker, raising=False)
    worker: Any = napari.segment(layer(), working.url)
    assert np.array_equal((await worker)[0], LABELS)


def test_napari_finds_the_widget() -> None:
    manifest = yaml.safe_load((ROOT / "cellkiosk" / "napari.yaml").read_text())
    (command,) = manifest["contributions"]["commands"]
    module, _, function = command["python_name"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert manifest["contributions"]["widgets"][0]["command"] == command["id"]
    assert '"napari.manifest"]\ncellkiosk = "cellkiosk:napari.yaml"' in (ROOT / "pyproject.toml").read_text()
