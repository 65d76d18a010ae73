"""Ways to break a file: blindly, and where TIFF keeps what readers trust."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], bytearray]

#: Values at which arithmetic goes wrong.
EDGES = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Break a file in one to three ways; most of it stays as it was, so that readers get far."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if out:
            out = rng.choice(WAYS)(rng, out, others)
    return bytes(out)


def _flip(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _flip_head(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
    return data


def _edge(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    """Write a number at which arithmetic goes wrong somewhere."""
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice((*EDGES, len(data), len(data) - 1, 2**64 - 1)) & ((1 << 8 * size) - 1)
    place = rng.randrange(len(data))
    data[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))
    return data


def _cut(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    return data[: rng.randrange(len(data))]


def _remove(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    place = rng.randrange(len(data))
    del data[place : place + rng.choice((1, 2, 16, 300))]
    return data


def _repeat(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    first, place = rng.randrange(len(data)), rng.randrange(len(data))
    data[place:place] = data[first : first + rng.choice((1, 4, 64, 1000))]
    return data


def _zeros(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    place, length = rng.randrange(len(data)), rng.choice((4, 32, 500))
    length = min(length, len(data) - place)
    data[place : place + length] = bytes([rng.choice((0, 255))]) * length
    return data


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    other = rng.choice(others)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _tag(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    """Change type, count or value of some tags of the first directories of a TIFF."""
    order, entries, width = _entries(data)
    if not entries:
        return data
    count = "I" if width == 12 else "Q"
    for place in rng.sample(entries, min(len(entries), rng.choice((1, 1, 2, 4)))):
        value = rng.choice((*EDGES, len(data), rng.randrange(len(data)), 40_000))
        field = rng.choice(("type", "count", "value"))
        if field == "type":
            data[place + 2 : place + 4] = struct.pack(f"{order}H", rng.choice((0, *range(1, 19), 65535)))
        else:
            start = place + 4 + (struct.calcsize(count) if field == "value" else 0)
            size = struct.calcsize(count)
            data[start : start + size] = struct.pack(f"{order}{count}", value)
    return data


def _chain(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> bytearray:
    """Let the chain of directories of a TIFF run in a circle or astray."""
    order, entries, width = _entries(data)
    if not entries:
        return data
    offset = "I" if width == 12 else "Q"
    place = max(entries) + width
    back = min(entries) - (2 if width == 12 else 8)
    value = rng.choice((back, back, rng.randrange(len(data)), 2**31 - 1, len(data) - 3))
    data[place : place + struct.calcsize(offset)] = struct.pack(f"{order}{offset}", max(0, value))
    return data


def _entries(data: bytearray) -> tuple[str, list[int], int]:
    """Return byte order, places of the entries of the first directory, and bytes of each; none for other files."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]), "")
    if not order or len(data) < 24:
        return "<", [], 12
    big = 43 in (data[2], data[3])
    start = struct.unpack_from(f"{order}Q", data, 8)[0] if big else struct.unpack_from(f"{order}I", data, 4)[0]
    head, width = (8, 20) if big else (2, 12)
    if start + head > len(data):
        return order, [], width
    count = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)[0]
    places = [start + head + width * i for i in range(min(count, 64))]
    return order, [place for place in places if place + width + 8 <= len(data)], width


WAYS: tuple[Mutation, ...] = (
    *(_flip, _flip, _flip_head, _edge, _edge, _cut, _remove, _repeat, _zeros, _splice),
    *(_tag, _tag, _tag, _chain),
)
