"""The headers of tus: whatever is sent, it is understood or refused in a sentence."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.frontend.tus import protocol
from shared.errors import InvalidInput

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1, max_size=9)


@given(st.dictionaries(NAMES, st.text(max_size=30), max_size=8))
def test_metadata_comes_back(pairs: dict[str, str]) -> None:
    text = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in pairs.items())
    assert protocol.metadata(text) == pairs


def sentence_of(read: Callable[[str], object], text: str) -> str:
    try:
        return f"{read(text)}."
    except InvalidInput as error:
        return str(error)


@given(st.text(max_size=60))
def test_no_header_does_worse_than_be_refused(text: str) -> None:
    for read in (
        protocol.metadata,
        protocol.checksum,
        protocol.concat,
        lambda given: protocol.number({"Upload-Offset": given}, "Upload-Offset"),
    ):
        assert sentence_of(read, text).endswith(".")


@pytest.mark.parametrize("text", ["", "+1", "-1", "1.0", "٣", "1 ", "0x1", "1" * 19])
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"Upload-Length is .*: it must be a number of bytes"):
        protocol.number({"Upload-Length": text}, "Upload-Length")


def test_concat() -> None:
    assert protocol.concat("") == protocol.Concat()
    assert protocol.concat("partial") == protocol.Concat(piece=True)
    assert protocol.concat("final;/a/b http://x/c/") == protocol.Concat(parts=("b", "c"))
    with pytest.raises(InvalidInput):
        protocol.concat("final;" + " x" * (protocol.MOST_PARTS + 1))
