"""The watcher lets a model infer only where nothing else shows that it works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.triton import health, watch


def looks(monkeypatch: pytest.MonkeyPatch, progress: Iterator[float], *, broken: bool = False) -> list[int]:
    """What was asked of the one model by the end of each of three looks, if it gets so far before and after each."""
    asked, silent, done, by_then = [], {}, {}, []
    monkeypatch.setattr(health, "loaded", lambda _server: ["one"])
    monkeypatch.setattr(watch, "progress", lambda _care, _name: next(progress))
    monkeypatch.setattr(watch, "reload", lambda _care, _name: None)

    def check(_server: str, name: str, _timeout: float) -> None:
        asked.append(name)
        if broken:
            raise health.Unhealthy("It fails.", broken=True)

    monkeypatch.setattr(health, "check_model", check)
    for _ in range(3):
        assert watch.mend_all(watch.Care("http://127.0.0.1:1"), silent, done) == (["one"] if broken else [])
        by_then.append(len(asked))
    return by_then


def test_a_model_that_works_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    # looked at once, when nothing is known of it; then it has got further each time
    assert looks(monkeypatch, iter([5.0, 5.1, 7.0, 9.0])) == [1, 1, 1]


def test_an_idle_model_infers_at_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(monkeypatch, iter([0.0, 0.1, 0.1, 0.2, 0.2, 0.3])) == [1, 2, 3]


def test_a_model_that_has_died_gets_no_further_and_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(monkeypatch, iter([5.0, 0.0, 0.0, 0.0, 0.0, 0.0]), broken=True) == [1, 2, 3]
