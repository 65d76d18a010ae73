"""The page in Chromium: ``python -m benchmarks.page``.

A frontend process with one result of 4,000² pixels and 10,000 cells. The browser opens the page, cold, and then the
result; then the picture is panned for some seconds at its full size. What the main thread did is read from
Chromium's own trace: each task of the renderer's main thread counts towards the frame of 1/60 s in which it began. On
a machine with other work a task's time holds its waits for a processor; its processor time is told beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientSession

from benchmarks.frontend import Server
from benchmarks.report import Row, row, tell
from services.consumer.writing import write_preview
from shared.jobs import JobType, NewJob, open_store
from shared.jobs.model import new_id
from shared.storage import open_storage
from tests.fixtures.browser import Page, start_chromium
from tests.fixtures.frontend import squares, view_of
from tests.fixtures.redis import RedisServer, free_port

PREFIX = "{bench}:"
SIDE, CELL = 4000, 32
PAN_SECONDS = 4
FRAME_US = 1e6 / 60
#: What the page is asked after it was opened: its own clock, ms, and the bytes that came before its first image.
_LOADED = """
const first = performance.getEntriesByType('resource').find((entry) => /preview/.test(entry.name));
const before = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter((entry) => entry === first || entry.startTime < first.responseEnd);
return {
  paint: performance.getEntriesByName('first-contentful-paint')[0].startTime,
  bytes: before.reduce((sum, entry) => sum + entry.transferSize, 0),
};
"""
#: Where the picture is: x and y of its corner, and its zoom.
_AT = "return document.getElementById('stage').dataset.view.split(' ')"
_PAN = """
const done = arguments[arguments.length - 1], seconds = arguments[0];
const stage = document.getElementById('stage'), box = stage.getBoundingClientRect();
const send = (kind, clientX, clientY) =>
  stage.dispatchEvent(new PointerEvent(kind, {pointerId: 1, clientX, clientY, bubbles: true}));
const begin = performance.now();
let frames = 0;
stage.setPointerCapture = () => {};
send('pointerdown', box.left + 400, box.top + 400);
const step = (now) => {
  const t = (now - begin) / 1000;
  if (t > seconds) { send('pointerup', 0, 0); done(frames); return; }
  frames += 1;
  send('pointermove', box.left + 400 - 500 * Math.sin(t), box.top + 400 - 400 * Math.sin(1.7 * t));
  requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""


def main() -> None:
    """Measure, and print the rows."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-page-") as name:
        browser = start_chromium(Path(name) / "profile")
        if browser is None:
            raise SystemExit("There is no Chromium with its driver here: apt-get install chromium chromium-driver")
        try:
            tell(measure(Page(browser, Path(name)), Path(name)))
        finally:
            browser.quit()


def measure(page: Page, folder: Path) -> list[Row]:
    """Start the frontend, make the result, look at it."""
    redis = RedisServer(folder / "redis").start()
    port = free_port()
    settings = {
        "KIOSK_REDIS__URL": redis.url,
        "KIOSK_REDIS__PREFIX": PREFIX,
        "KIOSK_STORAGE__URL": (folder / "storage").as_uri(),
        "KIOSK_HEALTH__PORT": "0",
        "KIOSK_TELEMETRY__LOG_LEVEL": "warning",
        "KIOSK_PORT": str(port),
    }
    front = Server([sys.executable, "-m", "services.frontend"], port, settings)
    try:
        asyncio.run(make_result(redis.url, folder))
        return [*loading(page, f"http://127.0.0.1:{port}"), *panning(page)]
    finally:
        front.stop()
        redis.stop()


async def make_result(redis_url: str, folder: Path) -> None:
    """Store a finished job with a large picture."""
    store, storage = open_store(redis_url, PREFIX), open_storage((folder / "storage").as_uri())
    try:
        await store.announce(JobType("segmentation", title="Segmentation", options_schema={"type": "object"}))
        image, labels = squares(SIDE, SIDE, CELL, 8)
        image = np.clip(image + np.random.default_rng(1).normal(20, 6, image.shape), 0, 255).astype(np.uint8)
        await storage.put("output/x/cells.view", view_of(folder, image[None, None], labels[None, None]))
        write_preview(image, labels, folder / "preview.png")
        await storage.put("output/x/preview.png", folder / "preview.png", "image/png")
        facts = {"original_name": "large.tif", "input_file_name": "uploads/x.tif"}
        job_id = new_id("segmentation")
        await store.submit(NewJob(job_id, facts, owner="anonymous"))
        (job,) = (await store.claim("bench", ["segmentation"], 1, 30)).jobs
        found = {"view_file_name": "output/x/cells.view", "preview_file_name": "output/x/preview.png", "failures": ""}
        await store.complete("bench", (job.held, found))
    finally:
        await store.aclose()
        await storage.aclose()


def loading(page: Page, url: str) -> list[Row]:
    """Open the page with an empty cache; interactive is when its job can be clicked, seen from within the page."""
    watch = """new MutationObserver((_, observer) => {
      if (document.querySelector('.job .thumb img')) { window.interactive = performance.now(); observer.disconnect(); }
    }).observe(document, {childList: true, subtree: true});"""
    page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    page.open(url)
    page.until(lambda: page.run("return document.querySelector('.job .thumb img')?.complete"))
    page.until(lambda: page.run("return performance.getEntriesByName('first-contentful-paint').length"))
    told = page.run(_LOADED)
    return [
        row("first paint", "ms", told["paint"], at_most=1000),
        row("interactive, own jobs there", "ms", page.run("return window.interactive"), at_most=2000),
        row("bytes up to the first image", "KB", told["bytes"] / 1000, at_most=250),
    ]


def panning(page: Page) -> list[Row]:
    """Pan the picture at its full size, and read the trace."""
    page.run("document.querySelector('.job .thumb').click()")
    page.until(lambda: page.one("#viewer").get_attribute("data-ready") == "yes")
    page.run("for (let n = 0; n < 5; n += 1) document.getElementById('zoom-in').click()")
    page.until(lambda: float(page.run(_AT)[2]) > 0.9)
    before = drawn(page)
    with Trace(page) as trace:
        page.driver.execute_async_script(_PAN, PAN_SECONDS)
        page.until(lambda: drawn(page) > before)
    frames = drawn(page) - before
    wall, cpu = trace.main_thread_ms("dur"), trace.main_thread_ms("tdur")
    return [
        row("frames drawn while panning", "/s", frames / PAN_SECONDS),
        row("main thread per frame, p50", "ms", share(wall, 0.5), at_most=8),
        row("main thread per frame, p95", "ms", share(wall, 0.95), at_most=8),
        row("main thread per frame, p99", "ms", share(wall, 0.99)),
        row("its processor time, p95", "ms", share(cpu, 0.95)),
    ]


def share(numbers: list[float], part: float) -> float:
    """Return the number below which a part of them lies."""
    return sorted(numbers)[min(len(numbers) - 1, int(part * len(numbers)))]


def drawn(page: Page) -> int:
    """Return how often the picture was drawn until it last came to rest."""
    return int(page.run("return document.getElementById('stage').dataset.drawn"))


class Trace:
    """Chromium's trace of what happens in the context, over the DevTools protocol."""

    def __init__(self, page: Page) -> None:
        self._address = page.driver.capabilities["goog:chromeOptions"]["debuggerAddress"]
        self._runner = asyncio.Runner()
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Trace:
        self._runner.run(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        with self._runner:
            self._runner.run(self._end())

    async def _begin(self) -> None:
        self._http = ClientSession()
        async with self._http.get(f"http://{self._address}/json/version") as answer:
            place = (await answer.json(content_type=None))["webSocketDebuggerUrl"]
        self._wire = await self._http.ws_connect(place, max_msg_size=0)
        categories = "toplevel,disabled-by-default-devtools.timeline,__metadata"
        wish = {"categories": categories, "transferMode": "ReportEvents"}
        await self._wire.send_json({"id": 1, "method": "Tracing.start", "params": wish})

    async def _end(self) -> None:
        async with self._http, self._wire:
            await self._wire.send_json({"id": 2, "method": "Tracing.end"})
            while (told := await self._wire.receive_json()).get("method") != "Tracing.tracingComplete":
                if told.get("method") == "Tracing.dataCollected":
                    self._events += told["params"]["value"]

    def main_thread_ms(self, length: str) -> list[float]:
        """Return the ms of the renderer's main thread in each frame of 1/60 s, of the page that ran most.

        Args:
            length: "dur" for the time that passed, "tdur" for that of the processor.
        """
        threads = {
            (event["pid"], event["tid"])
            for event in self._events
            if event.get("name") == "thread_name" and event["args"]["name"] == "CrRendererMain"
        }
        tasks: dict[tuple[int, int], list[tuple[float, float]]] = {thread: [] for thread in threads}
        for event in self._events:
            place = (event.get("pid", 0), event.get("tid", 0))
            # Not the event of the same name around it, which counts the same time again.
            if event.get("ph") == "X" and place in tasks and event["name"] == "ThreadControllerImpl::RunTask":
                tasks[place].append((event["ts"], event.get(length, 0)))
        busiest = max(tasks.values(), key=len)
        begin = min(at for at, _ in busiest)
        frames: dict[int, float] = {}
        for at, taken in busiest:
            frame = int((at - begin) / FRAME_US)
            frames[frame] = frames.get(frame, 0) + taken / 1000
        return list(frames.values())


if __name__ == "__main__":
    main()
