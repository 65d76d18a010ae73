"""Segmented movies that unpack to more than they may."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from services.consumer.settings import LimitSettings
from services.consumer.trk import read_trk
from shared.errors import InvalidInput


def packed(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{name}.npy")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_an_array_larger_than_a_job_may_hold_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.save(out, np.zeros((11, 1000, 1000), np.uint8))
    path = packed(tmp_path / "a.trk", raw=out.getvalue(), tracked=out.getvalue())
    with pytest.raises(InvalidInput, match="at most 10,000,000 are allowed") as refused:
        read_trk(path, tmp_path, LimitSettings(job_memory=10_000_000))
    assert refused.value.code == "too-large"


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.trk", other=bytes(150_000_000))
    with pytest.raises(InvalidInput, match="more than two arrays of 10,000,000 bytes"):
        read_trk(path, tmp_path, LimitSettings(job_memory=10_000_000))


def npy(header: str) -> bytes:
    """Return an .npy file with a header, and some bytes."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(1000)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 5, 5",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2, -5, 5), }",
        "{'descr': 7, 'fortran_order': False, 'shape': (2, 5, 5), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 5, 10**30), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 5, " + "9" * 30 + "), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 5, 5), }",
        "(" * 5_000,
        "{'descr': '<u2'",
        "\0" * 50,
    ],
)
def test_a_broken_array_is_told_as_one(tmp_path: Path, header: str) -> None:
    path = packed(tmp_path / "a.trk", raw=npy(header), tracked=npy(header))
    with pytest.raises(InvalidInput) as refused:
        read_trk(path, tmp_path, LimitSettings())
    assert refused.value.code == "unreadable"
