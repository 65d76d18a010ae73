"""The page in a real browser, on a real frontend; jobs are completed by a stand-in for the consumer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.browser import Page, in_browser
from tests.fixtures.frontend import Serve, Served, image

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


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


async def test_what_is_tried_again_takes_the_place_of_what_failed(served: Served, page: Page) -> None:
    failed = await served.submit("failed.tif")
    (job,) = await served.worker.claim()
    await served.store.fail("stand-in", job.held, "The model server was away.")
    await served.submit("newer.tif")

    def names() -> list[str]:
        return [element.get_attribute("title") for element in page.all(".job .name")]

    def retry() -> None:
        page.open(served.url)
        page.sees("Failed. The model server was away.")
        page.one(f"[data-id='{failed}'] .actions button").click()
        page.until(lambda: "Failed" not in page.text())
        assert names() == ["newer.tif", "failed.tif"]
        assert page.run("return document.activeElement.textContent") == "Cancel"
        page.open(served.url)
        page.sees("0 done, 2 under way")
        assert sorted(names()) == ["failed.tif", "newer.tif"]

    def remove() -> None:
        page.sees("2 done")
        page.run("window.confirm = () => true")
        page.run("document.querySelector('[aria-label=\"Remove failed.tif\"]').click()")
        page.until(lambda: names() == ["newer.tif"])

    await in_browser(retry)
    for job in await served.worker.claim(2):
        await served.worker.complete(job)
    await in_browser(remove)
    # What failed before is not left behind, to be seen after the next reload: it is going, too.
    due, _ = await served.store.due()
    assert failed in due
    assert len(due) == 2


async def test_wrong_files_are_told_beside_right_ones(working: Served, page: Page, tmp_path: Path) -> None:
    text, empty = tmp_path / "letter.png", tmp_path / "nothing.tif"
    text.write_text("Dear Sir or Madam,\n" * 99)
    empty.write_bytes(b"")
    path = image(tmp_path)

    def act() -> None:
        page.driver.set_window_size(1280, 600)
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.one("#more summary").click()
        page.choose(text, empty, path)
        page.sees("The file 'letter.png' is text. Allowed are TIFF, PNG, JPEG and NumPy images")
        page.sees("The file 'nothing.tif' is empty (0 bytes).")
        page.sees("Done in")
        place = "return document.querySelector('.said.error').getBoundingClientRect().bottom <= innerHeight"
        page.until(lambda: page.run(place))
        page.shot("wrong")

    await in_browser(act)


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
        assert wrong == ["option-scale", "option-channels"]
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


@pytest.mark.usefixtures("chromium_alone")
@pytest.mark.parametrize("mode", ["light", "dark"])
async def test_contrast_and_a_phones_width(working: Served, page: Page, mode: str) -> None:
    await working.submit("cells of a mouse with a very long name that does not fit on a phone.tif")

    def act() -> None:
        page.wishes(mode)
        page.phone()
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
