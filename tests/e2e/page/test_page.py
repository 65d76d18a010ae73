"""The page in a real browser, on a real frontend; jobs are completed by a stand-in for the consumer."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.auth import KeyStore
from tests.fixtures.browser import Page
from tests.fixtures.frontend import TIFF, Serve, Served, picture

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def in_browser(act: Callable[[], None]) -> None:
    """Run what drives the browser beside the server's event loop."""
    await asyncio.to_thread(act)


def image(folder: Path, name: str = "cells.png") -> Path:
    path = folder / name
    path.write_bytes(picture(256, 192))
    return path


def opened(page: Page) -> bool:
    return page.one("#viewer").get_attribute("data-ready") == "yes"


async def test_from_upload_to_result(working: Served, page: Page, tmp_path: Path) -> None:
    path = image(tmp_path)

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.shot("start")
        moved = page.run("return performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize || 0), 0)")
        assert 5_000 < moved <= 250_000
        page.choose(path)
        page.sees("Done in")
        page.shot("done")
        page.one(".job .actions .primary").click()
        page.until(lambda: opened(page))
        assert page.one("#count").text == "35"
        assert page.one("#viewer-download").get_attribute("href").endswith("/result")
        point_at_the_middle(page)
        page.until(lambda: page.one("#under").text == "Cell 18: 576 px = 144.0 µm²")
        page.shot("viewer")
        assert page.problems() == []

    await in_browser(act)


def point_at_the_middle(page: Page) -> None:
    """Move the mouse over the picture's cell 18: its middle is at (116, 84) of 256 × 192."""
    page.run(
        """const stage = document.getElementById('stage'), box = stage.getBoundingClientRect();
        const [left, top, zoom] = stage.dataset.view.split(' ').map(Number);
        const at = {clientX: box.left + left + 116 * zoom, clientY: box.top + top + 84 * zoom};
        stage.dispatchEvent(new PointerEvent('pointermove', {pointerId: 1, ...at}))"""
    )


async def test_reloaded_in_the_middle(served: Served, page: Page, tmp_path: Path) -> None:
    path = image(tmp_path)

    def first() -> None:
        page.open(served.url)
        page.sees("Outlines every nucleus.")
        page.choose(path)
        page.sees("number 1 in your queue")
        page.open(served.url)
        page.sees("number 1 in your queue")
        page.shot("waiting")

    await in_browser(first)
    (job,) = await served.worker.claim()
    await in_browser(lambda: page.sees("Starting"))
    await served.worker.complete(job)
    await in_browser(lambda: page.sees("Done in"))


async def test_cancel_and_failure_are_told(served: Served, page: Page) -> None:
    first, second = await served.submit("first.tif"), await served.submit("second.tif")
    await served.store.claim("stand-in", ["segmentation"], 1, 30)
    (held,) = [job.held for job in await served.store.get_many([first]) if job]
    await served.store.fail("stand-in", held, "The image has 2 channels, but channel 7 was asked for.")

    def act() -> None:
        page.open(served.url)
        page.sees("Failed. The image has 2 channels, but channel 7 was asked for.")
        page.one(f"[data-id='{second}'] .actions button").click()
        page.sees("Canceled. Canceled on request.")
        page.shot("failed")

    await in_browser(act)


class Wire:
    """A connection to the server that can be cut in the middle."""

    def __init__(self, port: int) -> None:
        self._port, self._open, self._whole = port, set[asyncio.StreamWriter](), True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, back}
        await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(16_384):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def cut(self) -> None:
        self._whole = False
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self._whole = True


async def test_an_upload_survives_a_cut_connection(working: Served, page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)
    slow = {"offline": False, "latency": 0, "downloadThroughput": 10**7, "uploadThroughput": 1_000_000}
    wire = Wire(int(working.url.rpartition(":")[2]))
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop = asyncio.get_running_loop()

    def act() -> None:
        page.open(url)
        page.sees("Outlines every nucleus.")
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        page.choose(path)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.2)
        loop.call_soon_threadsafe(wire.cut)
        page.sees("The connection was lost. Trying again in ")
        page.shot("cut")
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        loop.call_soon_threadsafe(wire.mend)
        page.sees("Done in")

    await in_browser(act)
    wire.cut()
    server.close()
    (stored,) = [stat async for stat in working.front.storage.list("uploads/")]
    local = working.front.storage.local_path(stored.key)
    assert local is not None
    assert local.read_bytes() == path.read_bytes()


async def test_an_upload_survives_a_reload(working: Served, page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)
    slow = {"offline": False, "latency": 0, "downloadThroughput": 10**7, "uploadThroughput": 1_000_000}

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        page.choose(path)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.3)
        page.open(working.url)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.3)
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        page.sees("Done in")
        page.until(lambda: not page.all("#uploads li"))
        # Once it is a job, it is kept no more.
        page.open(working.url)
        page.sees("1 done")
        assert not page.all("#uploads li")

    await in_browser(act)
    (stored,) = [stat async for stat in working.front.storage.list("uploads/")]
    local = working.front.storage.local_path(stored.key)
    assert local is not None
    assert local.read_bytes() == path.read_bytes()


async def test_files_that_look_the_same_are_not_taken_for_each_other(
    working: Served, page: Page, tmp_path: Path
) -> None:
    contents = [TIFF + bytes([n]) * 3_000_000 for n in (1, 2)]
    paths = [tmp_path / str(n) / "field.tif" for n in (1, 2)]
    for path, content in zip(paths, contents, strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    slow = {"offline": False, "latency": 0, "downloadThroughput": 10**7, "uploadThroughput": 1_000_000}

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        page.choose(paths[0])
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.3)
        page.one("#uploads button").click()
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        page.choose(paths[1])
        page.sees("Done in")

    await in_browser(act)
    (job_id, _), *_ = await working.store.owned("anonymous")
    (key,) = await working.store.get_fields(job_id, ["input_file_name"])
    stored = working.front.storage.local_path(str(key))
    assert stored is not None
    assert stored.read_bytes() == contents[1]


_NOBODY_AT_IT = "navigator.locks.query().then(({ held }) => arguments[0](!held.length))"


async def test_an_interrupted_upload_waits_for_its_owner(serve: Serve, page: Page, tmp_path: Path) -> None:
    served = await serve(auth={"anonymous": "off"})
    keys = KeyStore(served.store.redis, served.store.prefix)
    (_, hers), (_, his) = await keys.create("hers", owner="ada"), await keys.create("his", owner="bob")
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)
    slow = {"offline": False, "latency": 0, "downloadThroughput": 10**7, "uploadThroughput": 200_000}

    def sign_in(key: str) -> None:
        page.open(f"{served.url}/#nothing")
        page.until(lambda: page.one("#sign-in").is_displayed())
        page.one("#key").send_keys(key, "\ue007")
        # Told once what was interrupted has been looked for.
        page.sees("The job named in the address is not here")

    def begin() -> None:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        page.choose(path)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.02)

    def leave() -> None:
        page.open(f"{served.url}/about")
        page.until(lambda: page.driver.execute_async_script(_NOBODY_AT_IT))
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})

    def sign_out() -> None:
        page.one("#sign").click()
        page.until(lambda: page.one("#sign-in").is_displayed())
        leave()

    def act() -> None:
        sign_in(hers)
        begin()
        leave()
        page.driver.delete_all_cookies()
        sign_in(his)
        assert not page.all("#uploads li")
        sign_out()
        sign_in(hers)
        page.sees("number 1 in your queue")
        # Who signs out leaves nothing to go on with.
        begin()
        sign_out()
        sign_in(hers)
        assert not page.all("#uploads li")

    await in_browser(act)
    assert len(await served.store.owned("ada")) == 1
    assert await served.store.owned("bob") == []


async def test_wrong_files_are_told_beside_right_ones(working: Served, page: Page, tmp_path: Path) -> None:
    text, empty = tmp_path / "letter.png", tmp_path / "nothing.tif"
    text.write_text("Dear Sir or Madam,\n" * 99)
    empty.write_bytes(b"")
    path = image(tmp_path)

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.choose(text, empty, path)
        page.sees("The file 'letter.png' is text. Allowed are TIFF, PNG, JPEG and NumPy images")
        page.sees("The file 'nothing.tif' is empty (0 bytes).")
        page.sees("Done in")
        page.shot("wrong")

    await in_browser(act)


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


async def test_a_batch_has_one_heading_and_is_canceled_as_one(served: Served, page: Page, tmp_path: Path) -> None:
    paths = [image(tmp_path, f"field_{n}.png") for n in range(3)]

    def first() -> None:
        page.open(served.url)
        page.sees("Outlines every nucleus.")
        page.choose(*paths)
        page.sees("3 images\n3 under way")

    slow = {"offline": False, "latency": 0, "downloadThroughput": 10**7, "uploadThroughput": 200_000}
    large = [tmp_path / f"large_{n}.tif" for n in range(4)]
    for path in large:
        path.write_bytes(TIFF + bytes(3_000_000))

    def then() -> None:
        page.sees("3 images\n1 done, 2 under way")
        # What is still on its way is stopped, all at once.
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
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


async def test_the_cost_is_told_where_there_are_prices(serve: Serve, page: Page) -> None:
    used = {"gpu_seconds": "36.0", "cpu_seconds": "7.2", "bytes_in": "600", "bytes_out": "1000"}
    priced = await serve(cost={"gpu_machine": "n1-standard-1,nvidia-tesla-t4", "cpu_machine": "n1-standard-4"})
    unpriced = await serve()
    job_id = await priced.submit("cells.tif")

    def live() -> None:
        page.sees("Done in")
        page.sees(" for $0.0101")

    def act() -> None:
        page.run("document.querySelector('.job .thumb').click()")
        page.until(lambda: opened(page))
        page.one("#viewer details summary").click()
        page.sees("Model server used\n36.00 s")
        page.sees("Cost\n$0.0101 (prices 2019-06)")
        page.open(f"{unpriced.url}/#{job_id}")
        page.until(lambda: opened(page))
        page.one("#viewer details summary").click()
        page.sees("Model server used\n36.00 s")
        assert "$" not in page.text()

    await in_browser(lambda: (page.open(priced.url), page.sees("number 1 in your queue")))
    (job,) = await priced.worker.claim()
    await priced.worker.complete(job, used)
    await in_browser(live)
    await in_browser(act)


async def test_no_window_goes_on_in_anothers_name(serve: Serve, page: Page, tmp_path: Path) -> None:
    served = await serve(auth={"anonymous": "off"})
    keys = KeyStore(served.store.redis, served.store.prefix)
    (_, hers), (_, his) = await keys.create("hers", owner="ada"), await keys.create("his", owner="bob")
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)
    slow = {"offline": False, "latency": 0, "downloadThroughput": 10**7, "uploadThroughput": 200_000}

    def sign_in(key: str) -> None:
        page.until(lambda: page.one("#sign-in").is_displayed())
        page.one("#key").send_keys(key, "\ue007")
        page.sees("Outlines every nucleus.")

    def act() -> None:
        driver = page.driver
        page.open(served.url)
        sign_in(hers)
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        page.choose(path)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.02)
        first = driver.current_window_handle
        driver.switch_to.new_window("tab")
        page.open(served.url)
        page.sees("Outlines every nucleus.")
        page.one("#sign").click()
        sign_in(his)
        driver.close()
        driver.switch_to.window(first)
        # The first window has begun anew: it shows what is his, and sends nothing of hers.
        page.sees("Nothing here yet.")
        assert not page.all("#uploads li")

    await in_browser(act)
    assert await served.store.owned("ada") == []
    assert await served.store.owned("bob") == []


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


async def test_options_are_drawn_and_sent(served: Served, page: Page, tmp_path: Path) -> None:
    path = image(tmp_path)

    def act() -> None:
        page.open(served.url)
        page.sees("Outlines every nucleus.")
        page.one("#more summary").click()
        # What is not allowed is told before anything is uploaded.
        page.one("#option-scale").send_keys("50")
        page.one("#option-channels").send_keys("0, two")
        page.choose(path)
        page.sees("An option is not allowed as it is.")
        wrong = page.run("return [...document.querySelectorAll('#options :invalid')].map((one) => one.id)")
        assert wrong == ["option-channels", "option-scale"]
        assert not page.all("#uploads li")
        for name, text in (("scale", "0.5"), ("channels", "0, 2")):
            page.one(f"#option-{name}").clear()
            page.one(f"#option-{name}").send_keys(text)
        page.one("#option-detect_scale").click()
        page.shot("options")
        page.choose(path)
        page.sees("number 1 in your queue")

    await in_browser(act)
    (job,) = await served.worker.claim()
    assert job.options == {"scale": 0.5, "channels": [0, 2], "detect_scale": False}


async def test_by_keyboard_alone(working: Served, page: Page) -> None:
    def tab_to(what: str) -> None:
        for _ in range(40):
            page.keys("\ue004")
            if what in (page.run("return document.activeElement.textContent") or ""):
                return
        raise AssertionError(f"The key Tab does not lead to {what!r}.")

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        tab_to("Sparse nuclei")
        page.keys("\ue007")
        page.sees("Done in")
        tab_to("View")
        page.keys("\ue007")
        page.until(lambda: opened(page))
        page.keys("n")
        page.until(lambda: page.one("#under").text.startswith("Cell 1: "))
        before = page.one("#stage").get_attribute("data-view")
        page.keys("+", "\ue012")
        page.until(lambda: page.one("#stage").get_attribute("data-view") != before)
        page.keys("\ue00c")
        page.until(lambda: not page.one("#viewer").is_displayed())

    await in_browser(act)


_CONTRAST = r"""
const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0.99) return c;
  }
  return [255, 255, 255];
};
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const [a, b] = [light(parse(style.color)), light(ground(element))].sort((x, y) => y - x);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < (large ? 3 : 4.5)) poor.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return poor;
"""


@pytest.mark.parametrize("mode", ["light", "dark"])
async def test_contrast_and_a_phones_width(working: Served, page: Page, mode: str) -> None:
    await working.submit("cells of a mouse with a very long name that does not fit on a phone.tif")

    def act() -> None:
        wish = {"features": [{"name": "prefers-color-scheme", "value": mode}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
        phone = {"width": 375, "height": 740, "deviceScaleFactor": 2, "mobile": True}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        for path, seen in (("/", "Done in"), ("/about", "Which files"), ("/docs", "Watch a batch")):
            page.open(working.url + path)
            page.sees(seen)
            assert page.run(_CONTRAST) == []
            assert page.run("return document.documentElement.scrollWidth <= innerWidth")
            page.shot(f"phone-{mode}{path.replace('/', '-')}")
        page.open(working.url)
        page.sees("Done in")
        page.run("document.querySelector('.job .actions .primary').click()")
        page.until(lambda: opened(page))
        assert page.run(_CONTRAST) == []
        page.shot(f"phone-{mode}-viewer")
        assert page.problems() == []

    await in_browser(act)
