"""The documented log events are those of the code, and named alike."""

from __future__ import annotations

import re

from tests.unit.chart.test_values import generate


def test_events_are_named_alike() -> None:
    generate()
    import events

    found = events.events()
    assert len({each.name for each in found}) > 40
    assert [each for each in found if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", each.name)] == []


def test_secrets_are_not_told_by_name() -> None:
    generate()
    import events

    assert not [each for each in events.events() if {"token", "password", "secret", "cookie"} & set(each.fields)]
