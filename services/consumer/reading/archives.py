"""Archives of images: .zip, .tar and .tar.gz, made by anybody.

Nothing is unpacked under a name from the archive. What is no image, or may be a trap, is left out and listed with
the reason; only an archive that is damaged or too large as a whole is refused.
"""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import shutil
import stat
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from shared.errors import InvalidInput

#: Settings that raise a limit.
MEMBERS, BYTES = "KIOSK_LIMITS__ARCHIVE_MEMBERS", "KIOSK_LIMITS__ARCHIVE_BYTES"

_PIECE = 1 << 20
# Deflate cannot do better than 1,032 to 1; what does is made to be a bomb.
_RATIO = 1100
# Bytes of a tar header's extended part; tarfile reads it whole.
_TAR_HEADER = 1 << 20
# Bytes of what a zip says of one file, and of its end; zipfile reads the whole list, and makes an object of each file
# in it, before anybody can count them.
_ZIP_ROW, _ZIP_END = 1 << 10, 1 << 17
# Letters of a name that are kept; no file system takes as many.
_NAME = 4_096
_NESTED = (".zip", ".tar", ".tar.gz", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz", ".zst")
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_ENCRYPTED = 0x1


class _Folder:
    """A temporary folder that lasts as long as somebody refers to it."""

    def __init__(self, parent: Path | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="kiosk-archive-", dir=parent))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class Member:
    """An image in an archive, by its path there, with forward slashes."""

    name: str
    size: int
    archive: Path
    """The file to read it from: the archive, or the tar that was unpacked from it, gone with the last member."""
    offset: int
    """Of its local header (zip) or of its bytes (tar)."""
    packed: int
    crc: int | None = None
    deflated: bool = False
    folder: _Folder | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Skipped:
    """A member that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Found:
    member: Member
    trouble: str


def list_members(
    archive: Path, endings: Sequence[str], most: int, most_bytes: int, scratch: Path | None = None
) -> tuple[list[Member], list[Skipped]]:
    """Return the images of an archive, and what was left out.

    Args:
        archive: .zip, .tar or .tar.gz, told by its bytes.
        endings: lower-case endings of image names.
        most: files that it may hold.
        most_bytes: bytes that its files may take together when unpacked.
        scratch: folder for the tar inside a .tar.gz; by default the system's temporary one.

    Raises:
        InvalidInput: damaged, too many files, too large, or no archive.
    """
    try:
        found = list(_walk(archive, most, most_bytes, scratch))
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:
        # The libraries for archives raise all sorts of things on files made to break them.
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        raise InvalidInput("The archive is damaged or truncated.", code="damaged") from error
    _check_overlap(found, archive.stat().st_size)
    members: list[Member] = []
    skipped: list[Skipped] = []
    names: set[str] = set()
    for one in found:
        member = one.member
        name = _safe_name(member.name)
        trouble = one.trouble or _trouble(member, name, endings, names)
        if trouble:
            skipped.append(Skipped(_shown(member.name), trouble))
            continue
        assert name is not None
        names.add(name)
        members.append(replace(member, name=name))
    return members, skipped


def extract_member(_archive: Path, member: Member, target: Path) -> None:
    """Write the bytes of a member of an archive to a file.

    Raises:
        InvalidInput: it is damaged, or holds more than it claims.
    """
    try:
        with member.archive.open("rb") as source, target.open("wb") as out:
            crc = _copy(source, member, out)
    except (zlib.error, EOFError) as error:
        raise _damaged(member) from error
    if member.crc is not None and crc != member.crc:
        raise _damaged(member)


def _walk(archive: Path, most: int, most_bytes: int, scratch: Path | None) -> Iterator[_Found]:
    with archive.open("rb") as file:
        head = file.read(262)
    if head.startswith(b"PK"):
        walk = _walk_zip(archive, most)
    elif head.startswith(b"\x1f\x8b"):
        folder = _Folder(scratch)
        walk = _walk_tar(_unzipped(archive, folder.path, most_bytes), folder)
    elif head[257:262] == b"ustar":
        walk = _walk_tar(archive)
    else:
        raise InvalidInput("The file is no archive; allowed are .zip and .tar.gz.", code="not-an-archive")
    count = folders = total = 0
    for found in walk:
        if found is None:
            folders += 1
        else:
            count += 1
            total += found.member.size
        if max(count, folders) > most:
            raise _too_many(most)
        if total > most_bytes:
            raise _too_large(most_bytes)
        if found is not None:
            yield found if len(found.member.name) <= _NAME else _cut(found)


def _cut(found: _Found) -> _Found:
    return _Found(replace(found.member, name=found.member.name[:_NAME]), "its name is too long")


def _too_many(most: int) -> InvalidInput:
    return InvalidInput(
        f"The archive holds more than the {most:,} files, or folders, allowed (setting {MEMBERS}).",
        code="too-many-members",
    )


def _too_large(most: int) -> InvalidInput:
    return InvalidInput(
        f"The archive unpacks to more than the {most:,} bytes allowed (setting {BYTES}).", code="too-large"
    )


def _walk_zip(archive: Path, most: int) -> Iterator[_Found | None]:
    """Yield what is in a zip; None for a folder."""
    longest = _ZIP_END + most * _ZIP_ROW
    with _Careful(archive, longest, _too_many(most)) as file, zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            if info.filename.endswith("/"):
                yield None
                continue
            trouble = ""
            if stat.S_ISLNK(info.external_attr >> 16):
                trouble = "a link"
            elif info.flag_bits & _ENCRYPTED:
                trouble = "encrypted"
            elif info.compress_type not in _METHODS:
                trouble = "compressed in a way that is not read; allowed are deflate and none"
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            yield _Found(
                Member(
                    info.filename, info.file_size, archive, info.header_offset, info.compress_size, info.CRC, deflated
                ),
                trouble,
            )


def _walk_tar(path: Path, folder: _Folder | None = None) -> Iterator[_Found | None]:
    """Yield what is in a tar; None for a folder."""
    length = path.stat().st_size
    # A name that is no UTF-8 would come, by default, as text that nobody can write down again.
    opening = functools.partial(tarfile.open, mode="r:", encoding="utf-8", errors="replace")
    with _Careful(path, _TAR_HEADER, EOFError()) as file, opening(fileobj=file) as opened:
        while (info := opened.next()) is not None:
            opened.members.clear()  # type: ignore[attr-defined]  # it would keep all of them, with their headers
            if info.isdir():
                yield None
                continue
            trouble = ""
            if info.issym() or info.islnk():
                trouble = "a link"
            elif not info.isreg() or info.issparse():
                trouble = "not a plain file"
            size = info.size if info.isreg() else 0
            if size < 0 or info.offset_data < 0 or info.offset_data + size > length:
                raise EOFError
            yield _Found(Member(info.name, size, path, info.offset_data, size, folder=folder), trouble)


class _Careful(io.BufferedReader):
    """A file that refuses, by an error, to be read in one piece of more than so many bytes."""

    def __init__(self, path: Path, most: int, error: Exception) -> None:
        super().__init__(io.FileIO(path))
        self._most, self._error = most, error

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # to the end: zipfile looks for it so
            size = self._most + 1
        data = super().read(min(size, self._most + 1))
        if len(data) > self._most:
            raise self._error
        return data


def _unzipped(archive: Path, folder: Path, most_bytes: int) -> Path:
    """Unpack a .tar.gz to a tar: its members can be read in any order then."""
    path = folder / "members.tar"
    left = most_bytes + (most_bytes >> 4) + _PIECE
    with gzip.open(archive) as source, path.open("wb") as out:
        while piece := source.read(_PIECE):
            left -= len(piece)
            if left < 0:
                raise _too_large(most_bytes)
            out.write(piece)
    return path


def _check_overlap(found: Sequence[_Found], size: int) -> None:
    """Refuse a zip whose members share bytes: a few kilobytes can claim to be terabytes that way."""
    members = sorted((one.member for one in found if one.member.crc is not None), key=lambda member: member.offset)
    for member, following in itertools.pairwise(members):
        if member.offset + member.packed > following.offset:
            raise InvalidInput("The archive is damaged: its members overlap.", code="damaged")
    if members and (members[0].offset < 0 or members[-1].offset + members[-1].packed > size):
        raise InvalidInput("The archive is damaged: members lie outside the file.", code="damaged")


def _safe_name(name: str) -> str | None:
    """Return a member's path with forward slashes and without ``.``; None where it leads out of the archive."""
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    leads_out = plain.startswith("/") or ".." in parts or (len(plain) > 1 and plain[1] == ":")
    return None if leads_out or not parts else "/".join(_printable(part) for part in parts)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "_" for letter in text)


def _shown(name: str) -> str:
    return _printable(name.replace("\\", "/"))[:200]


def _trouble(member: Member, name: str | None, endings: Sequence[str], names: set[str]) -> str:
    if name is None:
        return "its path leads out of the archive"
    base = name.rpartition("/")[2].lower()
    if base.startswith("._") or name.startswith("__MACOSX/"):
        return "not an image but a note of macOS"
    if not base.endswith(tuple(endings)):
        return "an archive within the archive" if base.endswith(_NESTED) else "not an image"
    if name in names:
        return "a second file of this name"
    if member.size > _RATIO * max(1, member.packed):
        return f"unpacks to more than {_RATIO:,} times its size"
    return "empty" if member.size == 0 else ""


def _copy(source: IO[bytes], member: Member, out: IO[bytes]) -> int:
    """Copy a member's bytes and return their CRC-32."""
    source.seek(member.offset)
    if member.crc is not None:
        header = source.read(30)
        if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
            raise EOFError
        source.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), io.SEEK_CUR)
    crc, written = 0, 0
    for piece in _unpacked(source, member):
        written += len(piece)
        if written > member.size:
            raise EOFError
        crc = zlib.crc32(piece, crc)
        out.write(piece)
    if written < member.size:
        raise EOFError
    return crc


def _unpacked(source: IO[bytes], member: Member) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if member.deflated else None
    left = member.packed
    while left > 0:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise EOFError
        left -= len(piece)
        if unpacker is None:
            yield piece
            continue
        while piece:
            yield unpacker.decompress(piece, _PIECE)
            piece = unpacker.unconsumed_tail
    if unpacker is not None:
        yield unpacker.flush()


def _damaged(member: Member) -> InvalidInput:
    return InvalidInput(f"The archive is damaged: {_shown(member.name)} cannot be unpacked.", code="damaged")
