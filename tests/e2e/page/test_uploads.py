"""Uploads in a real browser that are cut, reloaded, mistaken for others or another's."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from shared.auth import KeyStore
from tests.fixtures.browser import Page, in_browser
from tests.fixtures.frontend import TIFF, Serve, Served

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


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


@pytest.mark.usefixtures("chromium_alone")
async def test_an_upload_survives_a_cut_connection(working: Served, page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)
    wire = Wire(int(working.url.rpartition(":")[2]))
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop = asyncio.get_running_loop()

    def act() -> None:
        page.open(url)
        page.sees("Outlines every nucleus.")
        page.uplink(1_000_000)
        page.choose(path)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.2)
        loop.call_soon_threadsafe(wire.cut)
        page.sees("The connection was lost. Trying again in ")
        page.shot("cut")
        page.uplink(-1)
        loop.call_soon_threadsafe(wire.mend)
        page.sees("Done in")

    await in_browser(act)
    wire.cut()
    server.close()
    (stored,) = [stat async for stat in working.front.storage.list("uploads/")]
    local = working.front.storage.local_path(stored.key)
    assert local is not None
    assert local.read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("chromium_alone")
async def test_an_upload_survives_a_reload(working: Served, page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.uplink(1_000_000)
        page.choose(path)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.3)
        page.open(working.url)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.3)
        page.uplink(-1)
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


@pytest.mark.usefixtures("chromium_alone")
async def test_files_that_look_the_same_are_not_taken_for_each_other(
    working: Served, page: Page, tmp_path: Path
) -> None:
    contents = [TIFF + bytes([n]) * 3_000_000 for n in (1, 2)]
    paths = [tmp_path / str(n) / "field.tif" for n in (1, 2)]
    for path, content in zip(paths, contents, strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))

    def act() -> None:
        page.open(working.url)
        page.sees("Outlines every nucleus.")
        page.uplink(1_000_000)
        page.choose(paths[0])
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.3)
        page.one("#uploads button").click()
        page.uplink(-1)
        page.choose(paths[1])
        page.sees("Done in")

    await in_browser(act)
    (job_id, _), *_ = await working.store.owned("anonymous")
    (key,) = await working.store.get_fields(job_id, ["input_file_name"])
    stored = working.front.storage.local_path(str(key))
    assert stored is not None
    assert stored.read_bytes() == contents[1]


_NOBODY_AT_IT = "navigator.locks.query().then(({ held }) => arguments[0](!held.length))"


@pytest.mark.usefixtures("chromium_alone")
async def test_an_interrupted_upload_waits_for_its_owner(serve: Serve, page: Page, tmp_path: Path) -> None:
    served = await serve(auth={"anonymous": "off"})
    keys = KeyStore(served.store.redis, served.store.prefix)
    (_, hers), (_, his) = await keys.create("hers", owner="ada"), await keys.create("his", owner="bob")
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)

    def sign_in(key: str) -> None:
        page.open(f"{served.url}/#nothing")
        page.until(lambda: page.one("#sign-in").is_displayed())
        page.one("#key").send_keys(key, "\ue007")
        # Told once what was interrupted has been looked for.
        page.sees("The job named in the address is not here")

    def begin() -> None:
        page.uplink(200_000)
        page.choose(path)
        page.until(lambda: float(page.one("#uploads progress").get_attribute("value")) > 0.02)

    def leave() -> None:
        page.open(f"{served.url}/about")
        page.until(lambda: page.driver.execute_async_script(_NOBODY_AT_IT))
        page.uplink(-1)

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


@pytest.mark.usefixtures("chromium_alone")
async def test_no_window_goes_on_in_anothers_name(serve: Serve, page: Page, tmp_path: Path) -> None:
    served = await serve(auth={"anonymous": "off"})
    keys = KeyStore(served.store.redis, served.store.prefix)
    (_, hers), (_, his) = await keys.create("hers", owner="ada"), await keys.create("his", owner="bob")
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)

    def sign_in(key: str) -> None:
        page.until(lambda: page.one("#sign-in").is_displayed())
        page.one("#key").send_keys(key, "\ue007")
        page.sees("Outlines every nucleus.")

    def act() -> None:
        driver = page.driver
        page.open(served.url)
        sign_in(hers)
        page.uplink(200_000)
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


@pytest.mark.usefixtures("chromium_alone")
async def test_the_page_is_not_left_while_an_upload_would_be_lost(served: Served, page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(TIFF + bytes(range(256)) * 12_000)
    leave = "return dispatchEvent(new Event('beforeunload', {cancelable: true}))"

    def act() -> None:
        page.open(served.url)
        page.sees("Outlines every nucleus.")
        page.uplink(200_000)
        page.choose(path)
        page.until(lambda: page.all("#uploads li"))
        assert page.run(leave), "it goes on by itself"
        page.one("#uploads button").click()
        # As on a page that did not come by https.
        page.run("Object.defineProperty(navigator, 'locks', {value: undefined})")
        page.choose(path)
        page.until(lambda: page.all("#uploads li"))
        assert not page.run(leave)
        page.one("#uploads button").click()
        page.until(lambda: page.run(leave))

    await in_browser(act)
