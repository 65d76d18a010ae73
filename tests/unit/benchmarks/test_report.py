"""A run that breaks keeps the figures of the parts that it had measured."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import engine, pipeline
from benchmarks.report import Row, row


def measured(*_arguments: object) -> list[Row]:
    return [row("measured", "s", 1.0)]


def broken(*_arguments: object) -> list[Row]:
    raise RuntimeError("The machine has no room left.")


def test_a_broken_run_of_the_engines_keeps_what_it_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextlib.contextmanager
    def running(_folder: Path) -> Iterator[object]:
        yield SimpleNamespace(url="redis://127.0.0.1:1", process=SimpleNamespace(pid=0))

    target = tmp_path / "rows.json"
    monkeypatch.setattr(engine, "_redis", running)
    monkeypatch.setattr(engine, "PARTS", {"one": measured, "two": broken})
    monkeypatch.setattr("sys.argv", ["engine", "--json", str(target), "--only", "one,two"])
    with pytest.raises(RuntimeError, match="no room"):
        engine.main()
    assert [each["metric"] for each in json.loads(target.read_text())] == ["measured"]


async def test_a_broken_run_of_the_pipeline_keeps_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextlib.asynccontextmanager
    async def running(*_arguments: object, **_options: object) -> AsyncIterator[None]:
        yield

    async def one(*_arguments: object) -> list[Row]:
        return measured()

    async def two(*_arguments: object) -> list[Row]:
        return broken()

    target = tmp_path / "rows.json"
    monkeypatch.setattr(pipeline, "running_stack", running)
    monkeypatch.setattr(pipeline, "_bytes", one)
    monkeypatch.setattr(pipeline, "_memory", two)
    with pytest.raises(RuntimeError, match="no room"):
        await pipeline.measure(["bytes", "memory"], target)
    assert [each["metric"] for each in json.loads(target.read_text())] == ["measured"]
