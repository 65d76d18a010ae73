"""Keys: what is allowed, and that nothing leads out of the root."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput, Misconfigured
from shared.storage import open_storage
from shared.storage.file import FileStorage
from shared.storage.names import checked, checked_prefix

BAD = [
    "", "/", "/etc/passwd", "a//b", "a/", "./a", "a/.", "a/..", "../a", "a/../../b", ".kiosk/tmp/x", ".kiosk",
    "a\\b", "a\nb", "a\0b", "a\x7fb", "x" * 256, "/".join(["x" * 200] * 6), "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("key", BAD)
def test_a_key_that_is_none_is_refused_with_a_sentence(key: str) -> None:
    with pytest.raises(InvalidInput, match=r"is no object key: .+ A key is a relative path such as"):
        checked(key)


@pytest.mark.parametrize(
    "key", ["a", "uploads/ä ö,:.tif", "a/b/c.d", "…/x", "a/.hidden", "x" * 255, "a/..b", "a/.kiosk/b"]
)
def test_a_key_that_is_one_is_returned_as_it_is(key: str) -> None:
    assert checked(key) == key


@given(st.text(alphabet="a./\\\0~é", max_size=12))
def test_no_allowed_key_leads_out_of_the_root(key: str) -> None:
    root = Path("/somewhere/root")
    try:
        path = FileStorage(root, "mine").local_path(key)
    except InvalidInput:
        return
    assert path is not None
    assert root in Path(*path.parts).resolve().parents
    assert (root / ".kiosk") not in [path, *path.parents]


@pytest.mark.parametrize("prefix", ["", "a", "/", "output", "../", ".kiosk/"])
def test_a_prefix_that_reaches_further_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput):
        checked_prefix(prefix)


@pytest.mark.parametrize(
    "url",
    ["", "file://", "file:///", "s3://bucket", "gs://", "/tmp/x", "gs://bucket/../x", "gs://b/a//b", "file://host/x"],
)
def test_a_url_that_is_no_storage_names_what_is_allowed(url: str) -> None:
    with pytest.raises(Misconfigured, match="KIOSK_STORAGE__URL"):
        open_storage(url)


def test_a_deployment_needs_a_name() -> None:
    with pytest.raises(Misconfigured, match="KIOSK_STORAGE__DEPLOYMENT"):
        open_storage("file:///tmp/x", "")
