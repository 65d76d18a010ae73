"""One zip of many results, made while it is sent: members are copied as they lie in the results' own zips, packed.

So it costs no compression, no memory and no disk, however many results there are. The form is that of PKWARE's
APPNOTE 6.3; what does not fit into 32 bits is written as ZIP64.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass

from shared.errors import KioskError
from shared.storage import Chunks, Storage

#: Bytes read from the end of a zip at first: more than the directory of most results.
_TAIL = 64 * 1024
_LOCAL = struct.Struct("<26xHH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_MOST32, _MOST16 = 0xFFFFFFFF, 0xFFFF
_VERSION64 = 45
#: A member's sizes and sum stand before its data, not after it.
_FLAG_SIZES_AFTER = 8
_FLAG_UTF8 = 0x800


@dataclass(frozen=True)
class Item:
    """A result: the key of its zip, and the folder its members come to lie in."""

    key: str
    folder: str


async def bundle(storage: Storage, items: Iterable[Item], notes: list[str]) -> AsyncGenerator[bytes, None]:
    """Yield one zip of all results.

    Args:
        storage: that holds them.
        items: the results; one that is gone or broken is left out, and named in the notes.
        notes: lines for a file ``NOT-INCLUDED.txt`` at the end; none: no such file.
    """
    out = _Writer()
    for item in items:
        try:
            async for chunk in _copied(storage, item, out):
                yield chunk
        except (KioskError, zipfile.BadZipFile) as error:
            if out.torn:
                raise
            notes.append(f"{item.folder}: {error}")
    if notes:
        yield out.small("NOT-INCLUDED.txt", "".join(f"{note}\n" for note in notes).encode())
    yield out.end()


def folders(names: Iterable[str]) -> list[str]:
    """Return a folder for each name: the name without its ending, with a number where it is taken."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = name.rpartition(".")[0] or name
        folder, number = stem, 1
        while folder.casefold() in taken:
            number += 1
            folder = f"{stem} ({number})"
        taken.add(folder.casefold())
        found.append(folder)
    return found


async def _copied(storage: Storage, item: Item, out: _Writer) -> AsyncIterator[bytes]:
    members = sorted(await _members(storage, item.key), key=lambda info: info.header_offset)
    if not members:
        return
    start = members[0].header_offset
    async with contextlib.aclosing(storage.get(item.key, start)) as chunks:
        source = _Source(chunks, start)
        for info in members:
            header = await source.exactly(info.header_offset, 30)
            data = info.header_offset + 30 + sum(_LOCAL.unpack(header))
            await source.skip_to(data)
            yield out.begin(info, f"{item.folder}/{info.filename}")
            async for chunk in source.take(info.compress_size):
                yield chunk
            out.done(info.compress_size)


async def _members(storage: Storage, key: str) -> list[zipfile.ZipInfo]:
    size = (await storage.stat(key)).size
    tail = min(size, _TAIL)
    while True:
        data = b"".join([chunk async for chunk in storage.get(key, size - tail, size)])
        try:
            return await asyncio.to_thread(_directory, data, size)
        except _TailTooShort:
            tail = min(size, tail * 16)


def _directory(tail: bytes, size: int) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(_Tail(tail, size)) as opened:
        return opened.infolist()


class _TailTooShort(Exception):
    """More of the file is needed to read its directory."""


class _Tail(io.BytesIO):
    """The end of a file, to be read as if the rest was there too."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._missing = size - len(data)
        self._place = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        size = self._missing + len(self.getbuffer())
        self._place = offset + (0 if whence == 0 else self._place if whence == 1 else size)
        if self._place < 0:
            raise OSError("before the file's beginning")
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, count: int | None = -1) -> bytes:
        if self._place < self._missing:
            raise _TailTooShort
        super().seek(self._place - self._missing)
        data = super().read(count)
        self._place += len(data)
        return data


class _Source:
    """Reads a stream of bytes by their places in the file it comes from, forwards only."""

    def __init__(self, chunks: Chunks, start: int) -> None:
        self._chunks, self._rest, self._at = aiter(chunks), b"", start

    async def exactly(self, place: int, count: int) -> bytes:
        await self.skip_to(place)
        return b"".join([chunk async for chunk in self.take(count)])

    async def skip_to(self, place: int) -> None:
        async for _ in self.take(place - self._at):
            pass

    async def take(self, count: int) -> AsyncIterator[bytes]:
        if count < 0:
            raise zipfile.BadZipFile("The parts of the zip overlap.")
        while count:
            if not self._rest:
                self._rest = await anext(self._chunks, b"")
                if not self._rest:
                    raise zipfile.BadZipFile("The zip is cut off.")
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            self._at += len(part)
            yield part


class _Writer:
    """What stands between the members of a zip, and its directory."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._at = 0
        self.torn = False
        """Whether a member is begun and not complete: then nothing can follow."""

    def begin(self, info: zipfile.ZipInfo, name: str) -> bytes:
        """Return what stands before a member that is packed as `info` says."""
        member = zipfile.ZipInfo(name, info.date_time)
        member.compress_type, member.external_attr = info.compress_type, info.external_attr
        member.CRC, member.compress_size, member.file_size = info.CRC, info.compress_size, info.file_size
        header = member.FileHeader()
        self._rows.append(_central(member, self._at))
        self._at += len(header)
        self.torn = True
        return header

    def done(self, size: int) -> None:
        """Count the bytes of a member."""
        self._at += size
        self.torn = False

    def small(self, name: str, data: bytes) -> bytes:
        """Return a whole member, stored as it is."""
        info = zipfile.ZipInfo(name)
        info.CRC, info.compress_size, info.file_size = zlib.crc32(data), len(data), len(data)
        header = self.begin(info, name)
        self.done(len(data))
        return header + data

    def end(self) -> bytes:
        """Return the directory."""
        rows = b"".join(self._rows)
        count, size, at = len(self._rows), len(rows), self._at
        end64 = b""
        if count > _MOST16 - 1 or size > _MOST32 - 1 or at > _MOST32 - 1:
            end64 = _END64.pack(b"PK\6\6", 44, _VERSION64, _VERSION64, 0, 0, count, count, size, at)
            end64 += _LOCATOR64.pack(b"PK\6\7", 0, at + size, 1)
        count16, size32, at32 = min(count, _MOST16), min(size, _MOST32), min(at, _MOST32)
        return rows + end64 + _END.pack(b"PK\5\6", 0, 0, count16, count16, size32, at32, 0)


def _central(member: zipfile.ZipInfo, at: int) -> bytes:
    try:
        name, flags = member.filename.encode("ascii"), 0
    except UnicodeEncodeError:
        name, flags = member.filename.encode(), _FLAG_UTF8
    large = [value for value in (member.file_size, member.compress_size, at) if value >= _MOST32]
    extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    version = _VERSION64 if large else 20
    year, month, day, hour, minute, second = member.date_time
    date, time = (year - 1980) << 9 | month << 5 | day, hour << 11 | minute << 5 | second // 2
    sizes = (member.CRC, min(member.compress_size, _MOST32), min(member.file_size, _MOST32))
    head = _CENTRAL.pack(
        b"PK\1\2", version, version, flags, member.compress_type, time, date, *sizes,
        len(name), len(extra), 0, 0, 0, member.external_attr, min(at, _MOST32),
    )  # fmt: skip
    return head + name + extra
