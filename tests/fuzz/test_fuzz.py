"""Broken files by the thousand: each is an image or one sentence, and nothing else is harmed.

In the suite it runs for some seconds. ``KIOSK_FUZZ_CASES=100000 pytest tests/fuzz -s --timeout 0`` runs as many
cases and prints what became of them; ``KIOSK_FUZZ_SEED`` starts elsewhere.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import structlog

from services.consumer.reading import Decoder, ReadLimits, extract_member, list_members
from shared.errors import InvalidInput
from tests.fuzz.corpus import archives, images
from tests.fuzz.mutate import mutate

CASES = int(os.environ.get("KIOSK_FUZZ_CASES", "0"))
SEED = int(os.environ.get("KIOSK_FUZZ_SEED", "1"))
#: s in the suite, where no number of cases is asked for.
BRIEF = 8.0
PROCESSES = 2
ENDINGS = (".tif", ".png")

Counts = collections.Counter[str]


def more(case: int, begun: float) -> bool:
    """Tell whether another case is due."""
    return case < CASES if CASES else case < 40 or time.monotonic() - begun < BRIEF


def tell(what: str, counts: Counts, begun: float) -> None:
    total, seconds = counts.total(), time.monotonic() - begun
    print(f"\n{what}: {total:,} cases in {seconds:.0f} s, seed {SEED}")
    for outcome, count in counts.most_common():
        print(f"  {outcome:20} {count:9,} {100 * count / total:6.2f} %")


async def outcome(decoder: Decoder, source: Path, target: Path) -> str:
    """Decode a file; return what came of it. Anything but an image or a sentence is an error of the test."""
    try:
        decoded = await decoder.decode(source, target)
    except InvalidInput as error:
        sentence = str(error)
        assert sentence.endswith((".", ")."))
        assert "Traceback" not in sentence
        assert not target.exists(), "a refused file left pixels behind"
        return error.code
    opened = decoded.open()
    assert opened.shape == decoded.shape
    assert opened.ndim == 4
    assert opened.size
    assert opened.dtype.kind in "uif"
    np.asarray(opened[-1, -1, -1])
    return "an image"


@pytest.mark.timeout(0 if CASES else 100)
async def test_broken_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    monkeypatch.setattr("services.consumer.reading.decoder.log", structlog.wrap_logger(None, wrapper_class=quiet))
    seeds = images()
    names, everything = list(seeds), list(seeds.values())
    decoder = Decoder(ReadLimits(pixels=20_000_000, bytes=200_000_000), processes=PROCESSES, timeout=60)
    counts: Counts = collections.Counter()
    begun, case = time.monotonic(), 0

    async def keep_going(lane: int) -> None:
        nonlocal case
        while more(case, begun):
            case += 1
            if case % 10_000 == 0:
                print(f"{case:,} cases after {time.monotonic() - begun:.0f} s", flush=True)
            rng = random.Random(f"{SEED}-{case}")
            name = rng.choice(names)
            source = tmp_path / f"broken-{lane}"
            source.write_bytes(mutate(rng, seeds[name], everything))
            number = case
            try:
                counts[await outcome(decoder, source, tmp_path / f"out-{lane}.npy")] += 1
            except Exception as error:
                kept = source.rename(tmp_path / f"case-{number}-{name}")
                raise AssertionError(f"case {number} of seed {SEED}, kept as {kept}: {error!r}") from error

    try:
        async with asyncio.TaskGroup() as group:
            for lane in range(PROCESSES):
                group.create_task(keep_going(lane))
    finally:
        await decoder.aclose()
        tell("images", counts, begun)
    assert counts["an image"]
    assert counts["damaged"]


def test_the_unbroken_files_are_images(tmp_path: Path) -> None:
    from services.consumer.reading.formats import decode

    for name, data in images().items():
        (tmp_path / name).write_bytes(data)
        assert decode(tmp_path / name, tmp_path / "out.npy", ReadLimits()).open().size, name


@pytest.mark.timeout(0 if CASES else 100)
def test_broken_archives(tmp_path: Path) -> None:
    seeds = archives()
    names, everything = list(seeds), list(seeds.values())
    counts: Counts = collections.Counter()
    begun, case = time.monotonic(), 0
    while more(case, begun):
        case += 1
        rng = random.Random(f"{SEED}-{case}")
        archive = tmp_path / "broken"
        archive.write_bytes(mutate(rng, seeds[rng.choice(names)], everything))
        try:
            members, skipped = list_members(archive, ENDINGS, 100, 10_000_000, tmp_path)
            for member in members:
                assert not member.name.startswith("/")
                assert ".." not in member.name.split("/")
                extract_member(archive, member, tmp_path / "out")
                assert (tmp_path / "out").stat().st_size == member.size
            counts["with members" if members else "all left out" if skipped else "nothing in it"] += 1
        except InvalidInput as error:
            counts[error.code] += 1
    tell("archives", counts, begun)
    assert counts["with members"]
    assert counts["damaged"]
