"""Multipart bodies: any bytes, cut anywhere, come out as they went in."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.frontend.multipart import BadMultipart, Multipart, boundary_of

# Bytes that look like pieces of a boundary are the ones that could be cut wrongly.
TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n--ed", b"edge", b"x" * 50])
).map(b"".join)
DATA = st.one_of(TRICKY, st.binary(max_size=400)).filter(lambda data: b"\r\n--edge" not in b"\r\n" + data)


def reader(body: bytes, cuts: list[int]):  # type: ignore[no-untyped-def]
    """Return a function that hands out a body in pieces."""
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(edges) if a < b]

    async def read() -> bytes:
        return pieces.pop(0) if pieces else b""

    return read


async def read_all(body: Multipart) -> None:
    async for part in body.parts():
        await whole(part.chunks)


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


@settings(max_examples=200, deadline=None)
@given(st.lists(DATA, min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
async def test_parts_come_out_as_they_went_in(parts: list[bytes], cuts: list[int], last_line: bool) -> None:
    body = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="f%d"; filename="a.tif"\r\n\r\n%s\r\n' % (n, data)
        for n, data in enumerate(parts)
    )
    body += b"--edge--" + (b"\r\n" if last_line else b"")
    found = [(part.name, await whole(part.chunks)) async for part in Multipart(reader(body, cuts), b"edge").parts()]
    assert found == [(f"f{n}", data) for n, data in enumerate(parts)]


async def test_a_chunk_is_handed_on_whole_unless_its_end_could_begin_a_boundary() -> None:
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    pieces = [head, b"abc\rdef", b"ghi\r\n-", b"-ed", b"ge--"]

    async def read() -> bytes:
        return pieces.pop(0) if pieces else b""

    async for part in Multipart(read, b"edge").parts():
        assert [chunk async for chunk in part.chunks] == [b"abc\rdef", b"ghi"]


@settings(max_examples=100, deadline=None)
@given(DATA, st.integers(0, 1000))
async def test_a_body_that_is_cut_is_never_taken_for_whole(data: bytes, cut: int) -> None:
    body = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + data + b"\r\n--edge--"
    short = body[: cut % len(body)]
    with pytest.raises(BadMultipart):
        await read_all(Multipart(reader(short, []), b"edge"))


async def test_a_part_that_is_not_read_is_skipped() -> None:
    body = b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n--edge\r\n\r\ntwo\r\n--edge--'
    names = [part.name async for part in Multipart(reader(body, []), b"edge").parts()]
    assert names == ["a", ""]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="cells.tif"', "cells.tif"),
        ("filename=cells.tif", "cells.tif"),
        (r'filename="a \"b\".tif"', 'a "b".tif'),
        ("filename*=UTF-8''%C3%BCbung.tif", "übung.tif"),
        ("filename=\"plain.tif\"; filename*=UTF-8''%E2%82%AC.tif", "€.tif"),
        ('filename=""', ""),
        ("size=3", None),
    ],
)
async def test_file_names(disposition: str, name: str | None) -> None:
    body = f'--edge\r\ncontent-disposition: form-data; name="file"; {disposition}\r\n\r\nx\r\n--edge--'.encode()
    (found,) = [part.filename async for part in Multipart(reader(body, []), b"edge").parts()]
    assert found == name


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=edge", b"edge"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
    ],
)
def test_boundaries(kind: str, boundary: bytes) -> None:
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 201]
)
def test_content_types_without_a_boundary(kind: str) -> None:
    with pytest.raises(BadMultipart):
        boundary_of(kind)
