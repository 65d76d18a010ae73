"""What was promised is measured by a benchmark that is run, and judged by its own target."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import promised
from benchmarks.__main__ import SCRIPTS
from benchmarks.promised import BEST, PROMISES, Promise
from benchmarks.report import row

FOLDER = Path(promised.__file__).parent
#: They choose settings or draw pictures, and measure nothing.
TOOLS = {"calibrate", "gallery", "screens"}
#: Promised, and not measured yet: `make bench` says so.
UNMEASURED: set[str] = set()


def texts(script: str) -> Iterator[re.Pattern[str]]:
    """The texts in a script's source; what is worked out in them may be anything."""
    for node in ast.walk(ast.parse((FOLDER / f"{script}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in node.values]
            yield re.compile("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.compile(re.escape(node.value))


def test_every_benchmark_is_run() -> None:
    programs = {path.stem for path in FOLDER.glob("[a-z]*.py") if '"__main__"' in path.read_text(encoding="utf-8")}
    assert programs - TOOLS == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", sorted({promise.benchmark for promise in PROMISES}))
def test_what_is_promised_is_a_row_of_its_benchmark(script: str) -> None:
    assert script in {each.name for each in SCRIPTS}
    known = list(texts(script))
    for promise in PROMISES:
        if promise.benchmark == script and promise.metric not in UNMEASURED:
            assert any(each.fullmatch(promise.metric) for each in known), promise


def test_a_figure_that_nobody_measured_counts_as_missed() -> None:
    missing = Promise("engine", "no-op jobs", at_least=3).judge([])
    assert (missing.ours, missing.ok, missing.target) == (None, False, "≥ 3 (not measured)")
    assert Promise("engine", "no-op jobs").judge([]).ok is False
    assert [each.ok for each in promised.judged({})] == [False] * len(PROMISES)


def test_the_best_of_the_peers_counts() -> None:
    rates = {"a": 10.0, "b": 25.0}
    told = [row("no-op jobs", "jobs/s", 60.0, peer=name, peer_value=value) for name, value in rates.items()]
    judged = Promise("engine", "no-op jobs", BEST, at_least=3).judge(told)
    assert (judged.peer, judged.target, judged.ok) == ("b", "≥ 3×", False)
    assert Promise("engine", "no-op jobs", "a", at_least=3).judge(told).ok
    assert Promise("engine", "no-op jobs", BEST, less=True).judge(told).peer == "a"


def test_a_bound_may_be_on_our_figure_beside_a_peer() -> None:
    told = [row("start", "ms", 4.0, peer="SAQ", peer_value=2.0)]
    judged = Promise("engine", "start", at_most=5, of_ours=True).judge(told)
    assert (judged.target, judged.ok) == ("≤ 5 ms", True)
    assert Promise("engine", "start", "SAQ", at_most=1).judge(told).ok is False
