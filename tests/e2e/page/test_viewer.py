"""The viewer in a real browser: tiles, channels, movies with tracks, spots, archives."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import REGISTRY

from tests.fixtures.browser import Page
from tests.fixtures.frontend import TIFF, Serve, Served, squares, view_of

YELLOW = (255, 240, 94)
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


def pixel(page: Page, x: float, y: float) -> list[int]:
    """Return the colour (red, green, blue) that the picture shows at a point of the image."""
    found = page.run(
        """const stage = document.getElementById('stage'), canvas = stage.querySelector('canvas');
        const [left, top, zoom] = stage.dataset.view.split(' ').map(Number), ratio = canvas.width / canvas.clientWidth;
        const copy = new OffscreenCanvas(1, 1).getContext('2d');
        const at = (from, value) => Math.floor((Math.round(from * ratio) + value * zoom * ratio));
        copy.drawImage(canvas, -at(left, arguments[0] + 0.5), -at(top, arguments[1] + 0.5));
        return [...copy.getImageData(0, 0, 1, 1).data];""",
        x,
        y,
    )
    return list(found[:3])


def zoom_of(page: Page) -> float:
    """Return how many pixels of the page one of the image takes."""
    return float(page.one("#stage").get_attribute("data-view").split()[2])


def point_at(page: Page, x: float, y: float) -> None:
    """Move the mouse over a point of the image."""
    page.run(
        """const stage = document.getElementById('stage'), box = stage.getBoundingClientRect();
        const [left, top, zoom] = stage.dataset.view.split(' ').map(Number);
        const at = {clientX: box.left + left + arguments[0] * zoom, clientY: box.top + top + arguments[1] * zoom};
        stage.dispatchEvent(new PointerEvent('pointermove', {pointerId: 1, ...at}))""",
        x,
        y,
    )


def near(colour: list[int], wanted: tuple[int, int, int], far: int = 6) -> bool:
    """Tell whether two colours look the same: tiles are scaled to the screen."""
    return all(abs(one - other) <= far for one, other in zip(colour, wanted, strict=True))


def sent() -> float:
    """Return the bytes of stored files that were sent so far."""
    return REGISTRY.get_sample_value("kiosk_result_bytes_total") or 0.0


async def test_a_large_image_comes_in_tiles_as_it_is_looked_at(served: Served, page: Page, tmp_path: Path) -> None:
    image, labels = squares(4000, 3000, 80, 20)
    view = view_of(tmp_path, image[None, None], labels[None, None], pixel_size_um=0.5)
    job_id = await shown(served, view)
    before = sent()

    def act() -> None:
        # The whole picture: reduced, from a part of the file, and cells are known although no full tile was fetched.
        assert sent() - before < 0.7 * len(view)
        point_at(page, 60, 60)
        page.until(lambda: page.one("#under").text == "Cell 1: 6,400 px = 1600.0 µm²")
        assert page.one("#count").text == "1,131"
        assert page.one("#scale-text").text == "200 µm"
        page.shot("viewer-large")
        # Close: each pixel is that of the image, outlines are lines thinner than it.
        page.run("for (let n = 0; n < 9; n += 1) document.getElementById('zoom-in').click()")
        page.until(lambda: zoom_of(page) > 8)
        put(page, "opacity", 0)
        x, y = 2040, 1530
        cell, grey = int(labels[y, x]), int(image[y, x])
        left = int(np.argmax(labels[y] == cell))
        page.until(lambda: pixel(page, x, y) == [grey] * 3)
        page.until(lambda: near(pixel(page, left - 0.42, y), YELLOW) and pixel(page, left, y) == [grey] * 3)
        # The cell that is pointed at is lit up.
        point_at(page, x, y)
        page.until(lambda: page.one("#under").text.startswith(f"Cell {cell}: 6,400 px"))
        page.until(lambda: near(pixel(page, x, y), (round(grey + (255 - grey) * 160 / 255),) * 3))
        page.shot("viewer-close")

    await look(served, page, job_id, act)


def on_screen(page: Page) -> tuple[int, ...]:
    """Return the colour that the screen itself has in the middle of the stage: not all that is drawn is shown."""
    x, y = page.run(
        """const box = document.getElementById('stage').getBoundingClientRect();
        return [(box.left + box.width / 2) / innerWidth, (box.top + box.height / 2) / innerHeight];"""
    )
    with Image.open(io.BytesIO(page.driver.get_screenshot_as_png())) as screen:
        colour = screen.convert("RGB").getpixel((int(x * screen.width), int(y * screen.height)))
    return tuple(colour) if isinstance(colour, tuple) else ()


async def test_a_browser_too_old_for_the_viewer_shows_a_small_picture(served: Served, page: Page) -> None:
    await served.submit("cells.tif")
    (job,) = await served.worker.claim()
    await served.worker.complete(job)

    def act() -> None:
        page.open(served.url)
        page.sees("1 done")
        page.run("delete window.OffscreenCanvas")
        page.run("document.querySelector('.job button.thumb').click()")
        page.sees("This browser is too old for the viewer.")
        page.until(lambda: page.run("return document.querySelector('#viewer-wait img').naturalWidth"))
        page.shot("viewer-too-old")

    await asyncio.to_thread(act)


@pytest.mark.parametrize("engine", ["its own", "Apple's"])
async def test_each_picture_opened_after_another_is_on_the_screen(
    served: Served, page: Page, tmp_path: Path, engine: str
) -> None:
    image = np.full((1, 1, 128, 128), 255, np.uint8)
    labels = np.zeros_like(image, np.int32)
    for _ in range(4):
        await shown(served, view_of(tmp_path, image, labels))

    def act() -> None:
        page.open(served.url)
        page.sees("4 done")
        if engine == "Apple's":
            page.run("Object.defineProperty(navigator, 'vendor', {value: 'Apple Computer, Inc.'})")
        for number in range(4):
            page.run("document.querySelectorAll('.job button.thumb')[arguments[0]].click()", number)
            ready(page)
            page.until(lambda: on_screen(page) == (255, 255, 255))
            page.keys("\ue00c")
            page.until(lambda: not page.one("#viewer").is_displayed())

    await asyncio.to_thread(act)


async def test_channels_have_a_window_a_gamma_and_a_colour(served: Served, page: Page, tmp_path: Path) -> None:
    image = np.zeros((1, 2, 96, 128), np.uint8)
    image[0, 0, :, 64:], image[0, 1, 48:] = 100, 200
    labels = np.zeros((1, 2, 96, 128), np.int32)
    labels[0, 0, 10:20, 10:20], labels[0, 1, 30:60, 30:60] = 1, 7
    job_id = await shown(served, view_of(tmp_path, image, labels, layers=["whole cells", "nuclei"]))

    def act() -> None:
        assert pixel(page, 100, 10) == [100, 100, 100]
        put(page, "channel-0-high", 200)
        page.until(lambda: pixel(page, 100, 10) == [128, 128, 128])
        put(page, "channel-0-low", 50)
        page.until(lambda: pixel(page, 100, 10) == [85, 85, 85])
        put(page, "channel-0-gamma", 50)
        page.until(lambda: pixel(page, 100, 10) == [147, 147, 147])
        page.one("#channel-1-on").click()
        green = [0, round(0xE6 * 200 / 255), round(0x76 * 200 / 255)]
        page.until(lambda: pixel(page, 10, 90) == green)
        page.one("#channel-0-on").click()
        page.until(lambda: pixel(page, 100, 10) == [0, 0, 0])
        # Labels of another kind; filled and outlined as one likes.
        put(page, "opacity", 100)
        page.until(lambda: max(pixel(page, 15, 15)) > 100)
        put(page, "layer", 1)
        page.until(lambda: pixel(page, 15, 15) == [0, 0, 0] and max(pixel(page, 40, 40)) > 100)
        whole = pixel(page, 40, 54)
        page.until(lambda: near(pixel(page, 29.6, 54), YELLOW))
        put(page, "opacity", 50)
        half = tuple(round((one + other) / 2) for one, other in zip(whole, green, strict=True))
        page.until(lambda: near(pixel(page, 40, 54), (half[0], half[1], half[2]), 2))
        page.one("#outlines").click()
        page.until(lambda: near(pixel(page, 29.6, 54), (half[0], half[1], half[2]), 2))
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


_KEEP = """window.kept = [];
HTMLAnchorElement.prototype.click = function () { window.kept.push(this.download); };
const make = URL.createObjectURL;
URL.createObjectURL = (blob) => { window.blob = blob; return make(blob); };"""


async def test_a_table_and_the_picture_can_be_taken_along(served: Served, page: Page, tmp_path: Path) -> None:
    image, labels = squares(256, 192)
    job_id = await shown(served, view_of(tmp_path, image[None, None], labels[None, None], pixel_size_um=0.5))

    def act() -> None:
        page.run(_KEEP)
        page.until(lambda: page.one("#save-table").click() or page.run("return window.kept.length"))
        text = page.driver.execute_async_script("window.blob.text().then(arguments[0])")
        rows = text.splitlines()
        assert rows[:2] == ["id,area_px,area_um2,x_px,y_px", "1,576,144.000,19.50,19.50"]
        assert len(rows) == 36
        page.one("#save-picture").click()
        page.until(lambda: "cells.png" in page.run("return window.kept"))
        head = page.driver.execute_async_script(
            "window.blob.slice(0, 4).arrayBuffer().then((data) => arguments[0]([...new Uint8Array(data)]))"
        )
        assert bytes(head) == b"\x89PNG"
        assert page.run("return window.kept")[0] == "cells-cells.csv"

    await look(served, page, job_id, act)


async def test_a_movie_has_a_slider_and_its_tracks(served: Served, page: Page, tmp_path: Path) -> None:
    images, labels, lineage = film()
    view = view_of(tmp_path, images, labels, lineage=lineage, axis="T", layers=["tracks"])
    job_id = await shown(served, view)

    def act() -> None:
        assert page.one("#plane-out").text == "1 of 6"
        point_at(page, 20, 50)
        page.until(lambda: page.one("#under").text == "Track 1: 400 px\nFrames 1 to 4")
        put(page, "plane", 4)
        put(page, "opacity", 0)
        page.until(lambda: pixel(page, 135, 22)[0] == 180 and pixel(page, 20, 44)[0] == 20)
        # Both daughters' tails lead along the mother's way.
        page.until(lambda: max(pixel(page, 30, 49.5)) > 200 and max(pixel(page, 70, 49.5)) > 200)
        page.one("#tails").click()
        page.until(lambda: pixel(page, 30, 49.5) == [20, 20, 20])
        assert page.one("#count").text == "2"
        point_at(page, 135, 25)
        page.until(lambda: "Track 2: 225 px\nFrames 5 to 6, daughter of 1" in page.one("#under").text)
        page.shot("viewer-movie")
        page.run("document.getElementById('stage').focus()")
        page.keys(".")
        page.until(lambda: page.one("#plane-out").text == "6 of 6")
        # The cell that was pointed at stays lit where it has gone.
        page.until(lambda: near(pixel(page, 147, 22), (227, 227, 227)))
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
        inside, outside = (255, 110, 110), (213, 222, 220)
        page.until(lambda: near(pixel(page, 20, 20), inside) and near(pixel(page, 50.5, 60.2), inside))
        assert near(pixel(page, 3, 3), outside)
        assert page.one("#spots-out").text == "3"

        def wide() -> int:
            return sum(near(pixel(page, 20 + at / zoom_of(page), 20), inside) for at in range(-9, 10))

        before, zoomed = wide(), zoom_of(page)
        page.run("for (let n = 0; n < 3; n += 1) document.getElementById('zoom-out').click()")
        page.until(lambda: zoom_of(page) < zoomed / 3)
        assert abs(wide() - before) <= 1
        page.shot("viewer-spots")
        page.one("#spots").click()
        page.until(lambda: not near(pixel(page, 3, 3), outside))

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
        assert page.one("#viewer-title").get_attribute("textContent").endswith("field-1.tif")
        put(page, "item", 2)
        page.until(lambda: page.one("#viewer-title").get_attribute("textContent").endswith("field-2.tif"))
        ready(page)
        put(page, "item", 3)
        page.sees("The image has no pixels.")

    await look(served, page, job_id, act)


async def test_a_result_goes_to_another_viewer_by_its_address(serve: Serve, page: Page) -> None:
    served = await serve(label_viewer="https://label.example/import?file={labels}&of={image}&as={axes}")
    job_id = await served.submit("cells.tif")
    (job,) = await served.worker.claim()
    await served.worker.complete(job)

    def act() -> None:
        page.run("window.open = (address) => { window.opened = address; }")
        page.one("#viewer-send").click()
        told = parse_qs(urlsplit(page.run("return window.opened")).query)
        assert told["as"] == ["YX"]
        assert told["file"][0].startswith(f"{served.url}/results/")
        assert told["of"][0].startswith(f"{served.url}/uploads/")
        for (address,) in (told["file"], told["of"]):
            assert page.run("return fetch(arguments[0]).then((answer) => answer.status)", address) == 200

    await look(served, page, job_id, act)


async def test_a_result_goes_into_an_import_form(serve: Serve, page: Page) -> None:
    taken: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(dict(await request.post()))
        headers = {"Access-Control-Allow-Origin": "*"}
        status = 200 if len(taken) == 1 else 500
        return web.json_response("made1", status=status, headers=headers)

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text="a project")

    other = web.Application()
    other.add_routes([web.post("/api/project", take), web.get("/project", show)])
    async with TestServer(other) as label:
        served = await serve(label_viewer=f"http://127.0.0.1:{label.port}/")
        job_id = await served.submit("cells.tif")
        (job,) = await served.worker.claim()
        await served.worker.complete(job)

        def act() -> None:
            before, here = set(page.driver.window_handles), page.driver.current_window_handle
            page.one("#viewer-send").click()
            (opened,) = page.until(lambda: set(page.driver.window_handles) - before)
            page.driver.switch_to.window(opened)
            page.until(lambda: page.driver.current_url.endswith("/project?projectId=made1"))
            page.driver.close()
            page.driver.switch_to.window(here)
            page.problems()
            page.one("#viewer-send").click()
            page.sees("did not take the result (answered 500). It must be able to reach this service.")
            page.problems()

        await look(served, page, job_id, act)
    assert sorted(taken[0]) == ["axes", "images", "labels"]
    async with served.http.get(taken[0]["labels"]) as answer:
        assert answer.content_type == "application/zip"


async def test_a_result_that_is_gone_is_told(served: Served, page: Page) -> None:
    def act() -> None:
        page.open(f"{served.url}/#segmentation:{'0' * 32}")
        page.sees("The job named in the address is not here (any more).")

    await asyncio.to_thread(act)
