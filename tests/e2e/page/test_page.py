"""The page in a real browser, on a real frontend; jobs are completed by a stand-in for the consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.browser import Page
from tests.fixtures.frontend import Served, squares

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def in_browser(act: Callable[[], None]) -> None:
    """Run what drives the browser beside the server's event loop."""
    await asyncio.to_thread(act)


def image(folder: Path, name: str = "cells.png") -> Path:
    path = folder / name
    path.write_bytes(squares(256, 192)[0])
    return path


async def test_from_upload_to_result(working: Served, page: Page, tmp_path: Path) -> None:
    path = image(tmp_path)

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.shot("start")
        page.choose(path)
        page.sees("Done in")
        page.shot("done")
        page.one(".job .actions .primary").click()
        page.until(lambda: page.one("#viewer").get_attribute("data-ready") == "yes")
        assert page.one("#count").text == "35"
        page.shot("viewer")
        assert page.problems() == []

    await in_browser(act)
