"""The client's parts that need no server."""

from __future__ import annotations

import ast
import io
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellkiosk
from cellkiosk.errors import BadFile
from cellkiosk.events import Message, messages
from cellkiosk.files import options_of
from cellkiosk.progress import Board
from cellkiosk.results import unpack
from shared.version import VERSION

ROOT = Path(__file__).parents[3]


async def lines(text: str) -> AsyncIterator[bytes]:
    for line in text.splitlines(keepends=True):
        yield line.encode()


async def parsed(text: str) -> list[Message]:
    return [message async for message in messages(lines(text))]


async def test_messages_of_a_stream() -> None:
    text = "retry: 1000\n\n: still here\n\nid: 7\nevent: job\ndata: {}\n\ndata:a\ndata: b\n\nevent: end\ndata: {}\n\n"
    assert await parsed(text) == [Message("job", "{}", "7"), Message("message", "a\nb", "7"), Message("end", "{}", "7")]


async def test_a_message_cut_off_is_none() -> None:
    assert await parsed("event: job\ndata: {}") == []
    assert await parsed("event: job\r\ndata: ä\r\n\r\n") == [Message("job", "ä", "")]


def test_the_client_needs_only_what_its_package_declares() -> None:
    found = set()
    for path in (ROOT / "cellkiosk").glob("*.py"):
        if path.stem == "napari":  # a plugin: napari itself imports it
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                found.add(str(node.module).partition(".")[0])
    assert found - sys.stdlib_module_names == {"aiohttp", "numpy", "tifffile", "cellkiosk"}


def test_one_version() -> None:
    assert cellkiosk.__version__ == VERSION


def test_options_are_json_where_they_can_be(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('{"scale": 1, "a": "b"}')
    words = ["scale=0.5", "dimension_order=TYX", "channels=[0,1]", "detect=true", "text=a=b", "empty="]
    assert options_of(str(tmp_path / "o.json"), words) == {
        "scale": 0.5,
        "a": "b",
        "dimension_order": "TYX",
        "channels": [0, 1],
        "detect": True,
        "text": "a=b",
        "empty": "",
    }
    (tmp_path / "list.json").write_text("[]")
    wrong = [(str(tmp_path / "list.json"), []), (str(tmp_path / "none"), []), (None, ["=1"]), (None, ["x"])]
    for file, pairs in wrong:
        with pytest.raises(BadFile):
            options_of(file, pairs)


@pytest.mark.parametrize("name", ["../out.tif", "/etc/x", "a/../../x", "a\\..\\x"])
def test_a_result_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("fine.tif", b"x")
        archive.writestr(name, b"x")
    with pytest.raises(BadFile, match="bad name"):
        unpack(tmp_path / "r.zip", tmp_path / "in" / "r")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"r.zip", "fine.tif"}


def test_a_damaged_result_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.zip").write_bytes(b"no zip")
    with pytest.raises(BadFile, match="is damaged"):
        unpack(tmp_path / "r.zip", tmp_path / "r")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["new", "done"]), st.floats(-5, 200)), max_size=60))
def test_the_board_overwrites_exactly_what_it_drew(changes: list[tuple[int, str, float]]) -> None:
    stream = Terminal()
    board = Board(stream=stream)
    rows = [board.add(f"image-{n}" * (n % 9)) for n in range(41)]
    for number, state, percent in changes:
        board.set(rows[number], state, percent)
    board.draw(force=True)
    drawings = stream.getvalue().split("\x1b[2K")
    heights = [int(part.rpartition("\x1b[")[2].removesuffix("A")) for part in drawings if part.endswith("A")]
    assert all(height == 12 for height in heights)
    assert all(len(part.partition("\n")[0]) < 120 for part in drawings[1:])


def test_without_a_terminal_each_change_is_a_line() -> None:
    stream = io.StringIO()
    board = Board(stream=stream)
    row = board.add("a.tif")
    for percent in (0, 50, 100):
        board.set(row, "uploading", percent)
    board.set(row, "failed", 100, "too dark")
    assert stream.getvalue() == "a.tif: uploading\na.tif: failed (too dark)\n"
    quiet = io.StringIO()
    Board(quiet=True, stream=quiet).set(row, "done", 100)
    assert quiet.getvalue() == ""
