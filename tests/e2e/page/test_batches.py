"""Many files at once in a real browser."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.browser import Page, in_browser
from tests.fixtures.frontend import TIFF, Served, image

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_twenty_files_at_once(working: Served, page: Page, tmp_path: Path) -> None:
    paths = [image(tmp_path, f"field_{n:02}.png") for n in range(20)]

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.choose(*paths)
        page.sees("20 done", 90)
        page.until(lambda: not page.all("#uploads li"))
        page.until(lambda: len(page.all(".job .thumb img")) == 20)
        assert page.one("#download-all").is_displayed()
        page.sees("20 images\n20 done")
        page.shot("twenty")
        names = zip_at(page, page.one(".batch a[download]").get_attribute("href"))
        assert names == [f"field_{n:02}/field_{n:02}_batch_0_feature_0.tif" for n in range(20)]
        assert zip_at(page, page.one("#download-all").get_attribute("href")) == names

    await in_browser(act)
    batches = {(await working.store.get_fields(i, ["batch"]))[0] for i, _ in await working.store.owned("anonymous")}
    assert len(batches) == 1


def zip_at(page: Page, url: str) -> list[str]:
    """Return the names in a zip that the page can download."""
    script = """fetch(arguments[0]).then((answer) => answer.arrayBuffer())
      .then((data) => arguments[1]([...new Uint8Array(data)]))"""
    data = bytes(page.driver.execute_async_script(script, url))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.namelist()


@pytest.mark.usefixtures("chromium_alone")
async def test_a_batch_has_one_heading_and_is_canceled_as_one(served: Served, page: Page, tmp_path: Path) -> None:
    paths = [image(tmp_path, f"field_{n}.png") for n in range(3)]

    def first() -> None:
        page.open(served.url)
        page.sees("Outlines every nucleus.")
        page.choose(*paths)
        page.sees("3 images\n3 under way")

    large = [tmp_path / f"large_{n}.tif" for n in range(4)]
    for path in large:
        path.write_bytes(TIFF + bytes(3_000_000))

    def then() -> None:
        page.sees("3 images\n1 done, 2 under way")
        # What is still on its way is stopped, all at once.
        page.uplink(200_000)
        page.choose(*large)
        page.until(lambda: len(page.all("#uploads li")) == 4)
        page.sees("0 of 4 files sent")
        page.one("#sending-stop").click()
        page.until(lambda: not page.all("#uploads li"))
        page.until(lambda: not page.one("#sending").is_displayed())
        page.open(served.url)
        page.sees("3 images\n1 done, 2 under way")
        page.one(".batch-head button").click()
        page.sees("3 images\n1 done, 2 canceled")
        page.shot("batch")
        page.run("window.confirm = () => true")
        page.run("document.querySelector('.batch .job [aria-label^=Remove]').click()")
        page.until(lambda: len(page.all(".batch .job")) == 2)

    await in_browser(first)
    (job,) = await served.worker.claim()
    await served.worker.complete(job)
    await in_browser(then)


async def test_what_failed_of_a_batch_is_tried_again_at_once(served: Served, page: Page) -> None:
    file = (await served.upload())[1]["uploadedName"]
    wish = {"type": "segmentation", "files": [{"file": file, "name": f"{n}.tif"} for n in range(3)]}
    await served.post("/api/v1/batches", wish)
    first, *others = await served.worker.claim(3)
    await served.worker.complete(first)
    for job in others:
        await served.store.fail("stand-in", job.held, "The model server was away.")

    def act() -> None:
        page.open(served.url)
        page.sees("3 images\n1 done, 2 failed")
        page.until(lambda: len(page.all(".badge.failed")) == 2)
        page.run(
            "[...document.querySelectorAll('.batch-head button')].find((b) => b.textContent.includes('again')).click()"
        )
        page.sees("3 images\n1 done, 2 under way")
        assert len(page.all(".batch .job")) == 3
        assert "Try again" not in page.text()
        page.shot("tried-again")

    await in_browser(act)
    again = await served.worker.claim(3)
    assert {job.fields["revived_from"] for job in again} == {job.id for job in others}


async def test_hundreds_of_jobs_need_few_connections(served: Served, page: Page) -> None:
    file = (await served.upload())[1]["uploadedName"]
    batches = []
    for _ in range(4):
        wish = {"type": "segmentation", "files": [{"file": file, "name": f"{n}.tif"} for n in range(70)]}
        batches.append((await served.post("/api/v1/batches", wish))[1])

    def shown() -> None:
        page.open(served.url)
        for _ in range(11):
            page.until(lambda: page.one("#older").is_displayed())
            before = len(page.all(".job"))
            page.run("document.getElementById('older').click()")
            page.until(lambda before=before: len(page.all(".job")) > before)
        page.sees("0 done, 280 under way")

    async def done(batch: dict[str, Any]) -> None:
        """Complete all jobs of a batch; the oldest go first, so all of them are claimed."""
        wanted = set(batch["jobs"])
        for job in held:
            if job.id in wanted:
                await served.store.complete("stand-in", (job.held, {"output_url": "x", "failures": ""}))

    await in_browser(shown)
    held = await served.worker.claim(280)
    await done(batches[3])
    await in_browser(lambda: page.sees("70 done, 210 under way"))
    # The first batch was not watched before the others had ended.
    for batch in batches[:3]:
        await done(batch)
    await in_browser(lambda: page.sees("280 done"))
    await in_browser(lambda: page.sees("70 images\n70 done"))
