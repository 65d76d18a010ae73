"""``kiosk simulate``: what the autoscaler would do with a load, and what it would cost; see services/autoscaler."""

from __future__ import annotations

from collections.abc import Sequence


def run(words: Sequence[str]) -> int:
    """Pass the words on: the simulator has a command line of its own."""
    from services.autoscaler.simulate.command import main

    return main(words)
