"""The doctor's questions about models, with a server that is a list of answers."""

from __future__ import annotations

from typing import Any

import pytest

from services.console.doctor import checks
from services.console.up.place import Running
from services.triton import health

RUNNING = Running(1, "http://127.0.0.1:1", "redis://x", "file:///x", "grpc://x", ports={"triton": {"http": 1}})
READY = {"name": "Nuclei", "version": "2", "state": "READY"}


async def test_a_model_that_is_not_loaded_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server tries again and again, and has no reason to tell while it does."""
    reason = "Internal: Misconfigured: card.yaml lacks the field pixel_size_um.\n\nAt:\n  card.py(127): _build"
    answers = iter(
        [
            [READY, {"name": "Mine", "version": "1", "state": "LOADING"}],
            [READY, {"name": "Mine", "version": "1", "state": "UNAVAILABLE", "reason": reason}],
        ]
    )
    found = await _asked(monkeypatch, lambda: next(answers))
    assert found == [
        ("ok", "Nuclei predict"),
        ("warning", "Mine is not loaded: Misconfigured: card.yaml lacks the field pixel_size_um."),
    ]


async def test_an_old_version_that_is_not_loaded_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    index = [READY, READY | {"version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]
    assert await _asked(monkeypatch, lambda: index) == [("ok", "Nuclei predict")]


async def test_a_model_that_never_gets_ready_is_waited_for_in_vain_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = [READY, {"name": "Mine", "version": "1", "state": "LOADING"}]
    found = await _asked(monkeypatch, lambda: index)
    assert found[1] == ("warning", "Mine is not loaded: that is still under way")


async def _asked(monkeypatch: pytest.MonkeyPatch, index: Any) -> list[tuple[str, str]]:
    monkeypatch.setattr(health, "check_server", lambda _server: ["Nuclei"])
    monkeypatch.setattr(health, "call", lambda *_words: index())
    monkeypatch.setattr(checks, "PAUSE", 0.0)
    return [(finding.state, finding.sentence) for finding in await checks.models(RUNNING)]
