"""The viewer in a real browser: tiles, channels, movies with tracks, spots, archives."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fixtures.browser import Page
from tests.fixtures.frontend import TIFF, Served, squares, view_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def shown(served: Served, view: bytes, **facts: str) -> str:
    """Complete a job that shows a view; return its id."""
    served.worker.view = view
    job_id = await served.submit("cells.tif")
    (job,) = await served.worker.claim()
    await served.worker.complete(job, facts)
    return job_id


async def look(served: Served, page: Page, job_id: str, act: Callable[[], None]) -> None:
    """Open a job's picture by its address, and do something there."""

    def all_of_it() -> None:
        page.open(f"{served.url}/#{job_id}")
        ready(page)
        act()
        assert page.problems() == []

    await asyncio.to_thread(all_of_it)


def ready(page: Page) -> None:
    page.until(lambda: page.one("#viewer").get_attribute("data-ready") == "yes")


def put(page: Page, name: str, value: object) -> None:
    """Set a control, as a hand would."""
    script = """const e = document.getElementById(arguments[0]); e.value = arguments[1];
    for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true}))"""
    page.run(script, name, str(value))


def pixel(page: Page, x: float, y: float, layer: str = "image") -> list[int]:
    """Return the colour (red, green, blue, alpha) that a layer has at a point of the image, by its topmost tile."""
    found = page.run(
        """const [layer, x, y] = arguments;
        const tiles = [...document.querySelectorAll(`.world .${layer} canvas`)].filter((tile) => {
          const s = tile.style, left = parseFloat(s.left), top = parseFloat(s.top);
          return x >= left && y >= top && x < left + parseFloat(s.width) && y < top + parseFloat(s.height);
        }).sort((a, b) => b.style.zIndex - a.style.zIndex);
        if (!tiles.length) return null;
        const tile = tiles[0], s = tile.style;
        const copy = new OffscreenCanvas(1, 1).getContext('2d');
        const at = (v, from, size, count) => Math.floor((v - parseFloat(from)) / parseFloat(size) * count);
        copy.drawImage(tile, -at(x, s.left, s.width, tile.width), -at(y, s.top, s.height, tile.height));
        return [...copy.getImageData(0, 0, 1, 1).data];""",
        layer,
        x,
        y,
    )
    return list(found)


def point_at(page: Page, x: float, y: float) -> None:
    """Move the mouse over a point of the image."""
    page.run(
        """const world = document.querySelector('.world'), box = world.getBoundingClientRect();
        const at = {clientX: box.left + box.width * arguments[0] / parseFloat(world.style.width),
          clientY: box.top + box.height * arguments[1] / parseFloat(world.style.height)};
        document.querySelector('#stage').dispatchEvent(new PointerEvent('pointermove', {pointerId: 1, ...at}))""",
        x,
        y,
    )


def settled(page: Page, what: Callable[[], Any]) -> None:
    page.until(what)


async def test_a_large_image_comes_in_tiles_as_it_is_looked_at(served: Served, page: Page, tmp_path: Path) -> None:
    image, labels = squares(4000, 3000, 80, 20)
    job_id = await shown(served, view_of(tmp_path, image[None, None], labels[None, None], pixel_size_um=0.5))

    def act() -> None:
        # The whole picture: reduced, in few tiles, and cells are known although no full tile was fetched.
        assert 1 <= len(page.all(".world .image canvas")) < 12
        point_at(page, 60, 60)
        page.until(lambda: page.one("#under").text == "Cell 1: 6,400 px = 1600.0 µm²")
        assert page.one("#count").text == "1,131"
        assert page.one("#scale-text").text == "200 µm"
        page.shot("viewer-large")
        # Close: full tiles, each pixel that of the image, outlines as lines.
        for _ in range(9):
            page.one("#zoom-in").click()
        page.until(lambda: page.all(".world .edge path[d^=M]"))
        assert page.run("return getComputedStyle(document.querySelector('.rim')).visibility") == "hidden"
        x, y = 2040.0, 1560.0
        settled(page, lambda: pixel(page, x, y)[0] == int(image[int(y), int(x)]))
        full = page.run("return [...document.querySelectorAll('.world .image canvas')].map((c) => c.style.width)")
        assert "512px" in full
        point_at(page, x, y)
        page.until(lambda: page.one("#under").text.startswith(f"Cell {labels[int(y), int(x)]}: 6,400 px"))
        assert not page.one(".pick").get_attribute("hidden")
        page.shot("viewer-close")

    await look(served, page, job_id, act)


async def test_channels_have_a_window_a_gamma_and_a_colour(served: Served, page: Page, tmp_path: Path) -> None:
    image = np.zeros((1, 2, 96, 128), np.uint8)
    image[0, 0, :, 64:], image[0, 1, 48:] = 100, 200
    labels = np.zeros((1, 2, 96, 128), np.int32)
    labels[0, 0, 10:20, 10:20], labels[0, 1, 30:60, 30:60] = 1, 7
    job_id = await shown(served, view_of(tmp_path, image, labels, layers=["whole cells", "nuclei"]))

    def act() -> None:
        assert pixel(page, 100, 10)[:3] == [100, 100, 100]
        put(page, "channel-0-high", 200)
        settled(page, lambda: pixel(page, 100, 10)[:3] == [128, 128, 128])
        put(page, "channel-0-low", 50)
        settled(page, lambda: pixel(page, 100, 10)[:3] == [85, 85, 85])
        put(page, "channel-0-gamma", 50)
        settled(page, lambda: pixel(page, 100, 10)[:3] == [147, 147, 147])
        page.one("#channel-1-on").click()
        settled(page, lambda: pixel(page, 10, 90)[:3] == [0, round(0xE6 * 200 / 255), round(0x76 * 200 / 255)])
        page.one("#channel-0-on").click()
        settled(page, lambda: pixel(page, 100, 10)[:3] == [0, 0, 0])
        # Labels of another kind; filled and outlined as one likes.
        assert pixel(page, 15, 15, "fill")[3] == 255
        put(page, "layer", 1)
        settled(page, lambda: pixel(page, 15, 15, "fill")[3] == 0 and pixel(page, 40, 40, "fill")[3] == 255)
        assert pixel(page, 40, 40, "rim")[3] == 0
        assert pixel(page, 30, 40, "rim")[3] == 255
        put(page, "opacity", 80)
        assert page.run("return document.querySelector('.fill').style.opacity") == "0.8"
        page.one("#outlines").click()
        assert not page.one(".rim").is_displayed()
        page.shot("viewer-channels")

    await look(served, page, job_id, act)


def film() -> tuple[NDArray[np.uint8], NDArray[np.int32], dict[str, dict[str, Any]]]:
    """Return a movie of a cell that moves to the right and divides before the last two of its six frames."""
    labels = np.zeros((6, 1, 120, 160), np.int32)
    for t in range(4):
        labels[t, 0, 40:60, 10 + 20 * t : 30 + 20 * t] = 1
    for t in (4, 5):
        labels[t, 0, 20:35, 90 + 10 * t : 105 + 10 * t] = 2
        labels[t, 0, 65:80, 90 + 10 * t : 105 + 10 * t] = 3
    about = {"daughters": [], "frame_div": None, "capped": False}
    lineage = {
        "1": {"label": 1, "frames": [0, 1, 2, 3], "parent": None, **about},
        "2": {"label": 2, "frames": [4, 5], "parent": 1, **about},
        "3": {"label": 3, "frames": [4, 5], "parent": 1, **about},
    }
    return np.where(labels > 0, 180, 20).astype(np.uint8), labels, lineage


async def test_a_movie_has_a_slider_and_its_tracks(served: Served, page: Page, tmp_path: Path) -> None:
    images, labels, lineage = film()
    view = view_of(tmp_path, images, labels, lineage=lineage, axis="T", layers=["tracks"])
    job_id = await shown(served, view)

    def act() -> None:
        assert page.one("#plane-out").text == "1 of 6"
        point_at(page, 20, 50)
        page.until(lambda: page.one("#under").text == "Track 1: 400 px\nFrames 1 to 4")
        put(page, "plane", 4)
        settled(page, lambda: pixel(page, 135, 25)[0] == 180 and pixel(page, 20, 50)[0] == 20)
        page.until(lambda: len(page.all(".tails path")) == 2)
        page.until(lambda: page.all(".tails path")[0].get_attribute("d").startswith("M20.0 50.0L40.0 50.0L60.0 50.0"))
        assert page.one("#count").text == "2"
        point_at(page, 135, 25)
        page.until(lambda: "Track 2: 225 px\nFrames 5 to 6, daughter of 1" in page.one("#under").text)
        page.shot("viewer-movie")
        page.run("document.getElementById('stage').focus()")
        page.keys(".")
        page.until(lambda: page.one("#plane-out").text == "6 of 6")
        # The cell that was pointed at stays lit where it has gone.
        page.until(lambda: page.run("return document.querySelector('.pick').style.left") == "140px")
        page.one("#play").click()
        page.until(lambda: page.one("#plane-out").text == "3 of 6")
        page.one("#play").click()

    await look(served, page, job_id, act)


async def test_spots_are_points_of_one_size(served: Served, page: Page, tmp_path: Path) -> None:
    image, labels = squares(256, 192)
    spots = np.array([[20.0, 20.0], [3.0, 3.0], [60.25, 50.5]])
    view = view_of(tmp_path, image[None, None], labels[None, None], points=spots, layers=["nuclei"])
    job_id = await shown(served, view)

    def act() -> None:
        page.until(lambda: page.all(".spots path")[0].get_attribute("d") == "M20.5 20.5h0M51.0 60.8h0")
        assert page.all(".spots path")[1].get_attribute("d") == "M3.5 3.5h0"
        assert page.one("#spots-out").text == "3"
        width = "return parseFloat(getComputedStyle(document.querySelector('.spots')).strokeWidth)"
        zoom = "return parseFloat(document.querySelector('.world').style.transform.slice(6))"
        before = page.run(width) * page.run(zoom)
        page.one("#zoom-in").click()
        page.until(lambda: page.run(width) * page.run(zoom) == pytest.approx(before, rel=1e-4))
        page.shot("viewer-spots")
        page.one("#spots").click()
        assert not page.all(".spots path")[0].is_displayed()

    await look(served, page, job_id, act)


async def test_the_images_of_an_archive_one_by_one(served: Served, page: Page) -> None:
    store, worker = served.store, served.worker
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("field-1.tif", TIFF)
    _, stored = await served.upload("fields.zip", content.getvalue())
    order = {"jobType": "segmentation", "imageName": "fields.zip", "uploadedName": stored["uploadedName"]}
    _, answer = await served.post("/api/predict", order)
    job_id = str(answer["hash"])
    (job,) = await worker.claim()
    parts = [("segmentation", {"original_name": f"field-{n}.tif", "input_file_name": "x"}) for n in (1, 2, 3)]
    await store.split("stand-in", job.held, parts, {})
    first, second, third = await worker.claim(3)
    await worker.complete(first)
    await worker.complete(second)
    await store.fail("stand-in", third.held, "The image has no pixels.")
    (parent,) = await worker.claim()
    await worker.complete(parent, {"total_jobs": "3"})

    def act() -> None:
        assert page.one("#viewer-title").text.endswith("field-1.tif")
        put(page, "item", 2)
        page.until(lambda: page.one("#viewer-title").text.endswith("field-2.tif"))
        ready(page)
        put(page, "item", 3)
        page.sees("The image has no pixels.")

    await look(served, page, job_id, act)


async def test_a_result_goes_to_another_viewer(serve: Any, page: Page) -> None:
    served = await serve(label_viewer="https://label.example/import?file={url}&as=zip")
    job_id = await served.submit("cells.tif")
    (job,) = await served.worker.claim()
    await served.worker.complete(job)

    def act() -> None:
        link = page.one("#viewer-send")
        assert link.is_displayed()
        _, _, rest = link.get_attribute("href").partition("https://label.example/import?file=")
        address = page.run("return decodeURIComponent(arguments[0])", rest.removesuffix("&as=zip"))
        assert address.startswith(f"{served.url}/results/")
        assert page.run("return fetch(arguments[0]).then((answer) => answer.status)", address) == 200

    await look(served, page, job_id, act)


async def test_a_result_that_is_gone_is_told(served: Served, page: Page) -> None:
    def act() -> None:
        page.open(f"{served.url}/#segmentation:{'0' * 32}")
        page.sees("The job named in the address is not here (any more).")

    await asyncio.to_thread(act)
