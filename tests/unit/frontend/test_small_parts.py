"""Sniffing, names, options, coalescing: parts without HTTP."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from services.frontend import sniff
from services.frontend.catalogue import checked_options, from_texts
from services.frontend.coalesce import Coalescer
from services.frontend.uploads import key_of
from shared.errors import InvalidInput, NotFound
from shared.jobs import JobType


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("cells.tif", "cells.tif"),
        (r"C:\Users\me\cells.tif", "cells.tif"),
        ("/home/me/cells.tif", "cells.tif"),
        ("../../etc/passwd", "passwd"),
        ("a\x00b\n.tif", "ab.tif"),
        ("", "image"),
        ("..", "image"),
        ("x" * 300 + ".tif", "x" * 196 + ".tif"),
        ("Zellen übung €.tif", "Zellen übung €.tif"),
    ],
)
def test_base_names(name: str, base: str) -> None:
    assert sniff.base_name(name) == base


@pytest.mark.parametrize(
    ("name", "archive"),
    [("a.zip", True), ("a.ZIP", True), ("a.tar.gz", True), ("a.tgz", True), ("a.tif", False), ("a.zarr.zip", False),
     ("a.npz", False), ("a.ozx", False), ("zip", False)],
)  # fmt: skip
def test_archives_by_name(name: str, archive: bool) -> None:
    assert sniff.is_archive(name) is archive


TAR = bytes(257) + b"ustar\0" + bytes(249)


@pytest.mark.parametrize(("name", "head"), [("a.trk", TAR), ("a.TRKS", b"\x1f\x8b" + bytes(500))])
def test_segmented_movies_are_tars(name: str, head: bytes) -> None:
    assert sniff.checked(name, head) is sniff.MOVIE


@pytest.mark.parametrize(
    ("name", "head", "code"),
    [("a.trk", b"PK\3\4" + bytes(500), "not-an-image"), ("a.trk", b"a text", "not-an-image"),
     ("a.trk", b"", "empty-file"), ("a.tif", TAR, "not-an-image"), ("a.tif", b"\x1f\x8b", "archive-as-image")],
)  # fmt: skip
def test_what_is_no_segmented_movie(name: str, head: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        sniff.checked(name, head)
    assert refused.value.code == code


@pytest.mark.parametrize("name", ["../x", "uploads/../x", "uploads//x", "a/./b", "", "x\ny"])
def test_names_that_no_upload_has(name: str) -> None:
    with pytest.raises(InvalidInput):
        key_of(name)


def _kind(**properties: Any) -> JobType:
    return JobType("segmentation", options_schema={"type": "object", "properties": properties})


@pytest.mark.parametrize(
    ("schema", "given", "wanted"),
    [
        ({"type": "number"}, "0.5", 0.5),
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, "3.5", 3.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "string"}, " XYC ", "XYC"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "2", 2.0),
        ({"$ref": "#/$defs/N"}, "2", "2"),
        ({"type": "array", "items": {"type": "integer"}}, "0, 1", [0, 1]),
        ({"type": "array", "items": {"type": "integer"}}, 2, [2]),
        ({"type": "array", "items": {"type": "integer"}}, ["1"], [1]),
        ({"type": "number"}, "nan", "nan"),
        ({"type": "number"}, "much", "much"),
    ],
)
def test_texts_of_old_clients(schema: dict[str, Any], given: Any, wanted: Any) -> None:
    found = from_texts(_kind(option=schema), {"option": given, "other": 1})
    assert found == {"option": wanted}
    assert type(found["option"]) is type(wanted)


@pytest.mark.parametrize("blank", ["", "  ", None, []])
def test_blanks_are_left_out(blank: Any) -> None:
    assert from_texts(_kind(option={"type": "number"}), {"option": blank}) == {}


def test_a_new_schema_of_a_job_type_counts_at_once() -> None:
    assert checked_options(_kind(scale={"type": "number"}), {"scale": 3}) == '{"scale": 3}'
    with pytest.raises(InvalidInput, match="3 is greater than the maximum of 2"):
        checked_options(_kind(scale={"type": "number", "maximum": 2}), {"scale": 3})


async def test_calls_that_come_together_go_together() -> None:
    batches: list[list[int]] = []
    go_on = asyncio.Event()

    async def call(items: list[int]) -> list[int]:
        batches.append(items)
        await go_on.wait()
        return [item * 2 for item in items]

    double = Coalescer(call, most=3)
    tasks = [asyncio.create_task(double(n)) for n in range(5)]
    while not batches:
        await asyncio.sleep(0)
    late = asyncio.create_task(double(5))
    tasks[1].cancel()
    go_on.set()
    answers = await asyncio.gather(*tasks, late, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, BaseException)] == [0, 4, 6, 8, 10]
    assert list(itertools.chain(*batches)) == [0, 1, 2, 3, 4, 5]
    assert len(batches) < 6


async def test_one_bad_item_spoils_no_other() -> None:
    async def call(items: list[int]) -> list[int]:
        if 2 in items:
            raise NotFound("There is no 2.")
        return items

    ask = Coalescer(call, alone=True)
    answers = await asyncio.gather(*(ask(n) for n in range(4)), return_exceptions=True)
    assert [answer if isinstance(answer, int) else str(answer) for answer in answers] == [0, 1, "There is no 2.", 3]
