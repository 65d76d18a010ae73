"""The pictures of docs/user-guide.md: the page in Chromium, in front of a real frontend, consumer and models.

    python -m benchmarks.screens [--out docs/images]

Inputs are those of `benchmarks.gallery`: the slice of a fluorescence stack that the stardist wheel ships
(BSD-3-Clause, © Uwe Schmidt and Martin Weigert), and drawings.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from benchmarks.frontend import Server
from benchmarks.pictures import PREFIX, main, running_redis, with_models
from benchmarks.quality import CACHE, real_sets
from services.consumer.pipeline import discover
from services.triton.training.cells import cells_scene
from services.triton.training.nuclei import nuclei_scene
from tests.fixtures.browser import Page, start_chromium
from tests.fixtures.redis import free_port


async def draw(out: Path) -> None:
    """Start the parts and the browser; take the pictures."""
    with tempfile.TemporaryDirectory(prefix="kiosk-screens-") as name:
        folder = Path(name)
        browser = await asyncio.to_thread(start_chromium, folder / "profile")
        if browser is None:
            raise SystemExit("There is no Chromium with its driver here: apt-get install chromium chromium-driver")
        try:
            async with running_page(folder) as url:
                await asyncio.to_thread(take, Page(browser, folder / "shots"), url, inputs(folder))
        finally:
            browser.quit()
        for shot in sorted((folder / "shots").glob("*.png")):
            save(shot, out / f"page-{shot.name}")


@contextlib.asynccontextmanager
async def running_page(folder: Path) -> AsyncIterator[str]:
    """Run Redis, a frontend process and a consumer with the bundled models; yield the page's address."""
    async with running_redis(folder) as (redis, store, notifications):
        port = free_port()
        settings = {
            "KIOSK_REDIS__URL": redis.url,
            "KIOSK_REDIS__PREFIX": PREFIX,
            "KIOSK_STORAGE__URL": f"file://{folder}/storage",
            "KIOSK_HEALTH__PORT": "0",
            "KIOSK_TELEMETRY__LOG_LEVEL": "warning",
            "KIOSK_PORT": str(port),
        }
        front = await asyncio.to_thread(Server, [sys.executable, "-m", "services.frontend"], port, settings)
        try:
            async with with_models(store, notifications, folder):
                await store.announce(*(type(kind).described() for kind in discover().values()))
                yield f"http://127.0.0.1:{port}"
        finally:
            front.stop()


def inputs(folder: Path) -> dict[str, Path]:
    """Write the images that are analysed; return them by the job type that does it."""
    random = np.random.default_rng(7)
    tissue = np.clip(cells_scene(random, 512).channels, 0, 65535).astype(np.uint16)
    plane = np.clip(nuclei_scene(np.random.default_rng(3), 320, (20.0, 26.0)).channels[0], 0, 65535).astype(np.uint16)
    film = np.stack([np.roll(plane, (3 * t, 2 * t), (0, 1))[48:, 48:] for t in range(16)])
    cells = np.clip(nuclei_scene(random, 384, (28.0, 38.0)).channels[0], 0, 65535).astype(np.uint16)
    y, x = np.mgrid[:384, :384]
    spots = random.normal(200, 12, (384, 384))
    for row, column in random.uniform(6, 378, (300, 2)):
        spots += 900 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 1.3**2))
    fish = np.stack([np.clip(spots, 0, 65535).astype(np.uint16), cells])
    written = {
        "segmentation": ("nuclei.tif", real_sets(CACHE)[0].images[0], "YX"),
        "mesmer": ("tissue.tif", tissue, "CYX"),
        "tracking": ("film.tif", film, "TYX"),
        "polaris": ("fish.tif", fish, "CYX"),
    }
    found = {}
    for kind, (name, image, axes) in written.items():
        found[kind] = folder / name
        pixel = {"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65}
        tifffile.imwrite(folder / name, image, ome=True, metadata={"axes": axes, **pixel})
    return found


def take(page: Page, url: str, images: dict[str, Path]) -> None:
    """Do what a person does, and take pictures on the way."""
    page.driver.set_window_size(1280, 1200)
    page.open(url)
    page.sees("Options")
    for kind, path in images.items():
        page.until(functools.partial(page.all, f"#type option[value={kind}]"))
        page.run(
            "const s = document.getElementById('type'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))",
            kind,
        )
        page.choose(path)
    page.sees("4 done", 120)
    page.until(lambda: page.run("return [...document.images].every((image) => image.complete)"))
    page.shot("start")
    page.driver.set_window_size(1280, 1000)
    show(page, "nuclei.tif")
    page.run("document.getElementById('zoom-in').click()")
    point(page, 0.5, 0.5)
    page.shot("viewer")
    show(page, "tissue.tif", lambda: page.run("document.getElementById('channel-0-on').click()"))
    page.shot("channels")
    show(page, "film.tif")
    page.run("const s = document.getElementById('plane'); s.value = 11; s.dispatchEvent(new Event('input'))")
    settled(page)
    page.shot("tracks")
    show(page, "fish.tif")
    page.shot("spots")
    wish = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1.5, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    show(page, "nuclei.tif")
    page.shot("phone")


def show(page: Page, name: str, act: Callable[[], object] = lambda: None) -> None:
    """Open the viewer of an image, and do something there."""
    page.run("document.getElementById('viewer').close()")
    page.until(lambda: page.run("return !document.getElementById('viewer').open"))
    page.run(f"document.querySelector('[aria-label=\"View {name}\"]').click()")
    settled(page)
    act()
    settled(page)


def settled(page: Page) -> None:
    """Wait until all tiles in sight are there and drawn."""
    page.until(lambda: page.one("#viewer").get_attribute("data-ready") == "yes")
    page.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 400))")


def point(page: Page, x: float, y: float) -> None:
    """Move the mouse to a share of the stage's width and height."""
    page.run(
        """const box = document.querySelector('#stage').getBoundingClientRect();
        const at = {clientX: box.left + box.width * arguments[0], clientY: box.top + box.height * arguments[1]};
        document.querySelector('#stage').dispatchEvent(new PointerEvent('pointermove', {pointerId: 1, ...at}))""",
        x,
        y,
    )


def save(shot: Path, target: Path) -> None:
    """Keep a screenshot as a PNG of at most 256 colours, which a page of documentation can afford."""
    with Image.open(shot) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
        size = picture.size
    print(json.dumps({"picture": target.name, "size": size, "bytes": target.stat().st_size}))


if __name__ == "__main__":
    main(__doc__, draw)
