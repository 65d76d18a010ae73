"""What axe-core finds on the page: nothing of WCAG 2.2 A and AA, nor of its best practices."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.browser import Page
from tests.fixtures.frontend import Served

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_RUN = """
const done = arguments[arguments.length - 1];
axe.run(document).then(({ violations }) => done(violations.map((one) =>
  `${one.id} (${one.impact}): ${one.nodes.map((node) => node.html.slice(0, 120)).join(' | ')}`)));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """Return the source of axe-core."""
    folder = os.environ.get("KIOSK_TEST_NODE_MODULES", "")
    path = Path(folder) / "axe-core" / "axe.min.js"
    if not folder or not path.is_file():
        pytest.skip("axe-core is not installed: npm install axe-core, KIOSK_TEST_NODE_MODULES=…/node_modules")
    return path.read_text()


def found(page: Page, axe: str) -> Any:
    page.run(axe)
    return page.driver.execute_async_script(_RUN)


@pytest.mark.usefixtures("chromium_alone")
@pytest.mark.parametrize("mode", ["light", "dark"])
async def test_nothing_keeps_anybody_out(served: Served, page: Page, axe: str, mode: str) -> None:
    wish = {"type": "segmentation", "files": [{"file": (await served.upload())[1]["uploadedName"]} for _ in range(2)]}
    await served.post("/api/v1/batches", wish)
    failed, done, _waiting = [await served.submit(name) for name in ("failed.tif", "done.tif", "waiting.tif")]
    jobs = {job.id: job for job in await served.worker.claim(9)}
    await served.worker.complete(jobs[done])
    await served.store.fail("stand-in", jobs[failed].held, "The image has no pixels.")

    def act() -> None:
        page.wishes(mode)
        page.open(served.url)
        page.sees("2 images\n2 under way")
        page.one("#more summary").click()
        assert found(page, axe) == []
        page.run("document.getElementById('sign-in').showModal()")
        assert found(page, axe) == []
        page.run("document.getElementById('sign-in').close()")
        page.run("document.querySelector('.job button.thumb').click()")
        page.until(lambda: page.one("#viewer").get_attribute("data-ready") == "yes")
        assert found(page, axe) == []
        for path, seen in (("/about", "Which files"), ("/docs", "Watch a batch")):
            page.open(served.url + path)
            page.sees(seen)
            page.run("for (const one of document.querySelectorAll('details')) one.open = true")
            assert found(page, axe) == []

    await asyncio.to_thread(act)
