"""What a file is, by its first bytes: names and declared types are not believed.

Signatures: TIFF 6.0 and BigTIFF specifications, PNG (RFC 2083), JPEG (ITU T.81), ZIP (PKWARE APPNOTE), gzip (RFC 1952),
tar (POSIX.1-1988), NumPy's NPY format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import InvalidInput

#: As many bytes as are looked at.
HEAD = 512


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: its name for people, media type, and the endings its files have."""

    name: str
    media_type: str
    endings: tuple[str, ...]
    archive: bool = False


TIFF = Kind("TIFF image", "image/tiff", (".tif", ".tiff", ".btf", ".tf8"))
PNG = Kind("PNG image", "image/png", (".png",))
JPEG = Kind("JPEG image", "image/jpeg", (".jpg", ".jpeg"))
NPY = Kind("NumPy array", "application/x-npy", (".npy",))
ZIP = Kind("zip archive", "application/zip", (".zip", ".npz", ".ozx"), archive=True)
GZIP = Kind("gzip archive", "application/gzip", (".tar.gz", ".tgz"), archive=True)
#: A movie and its labels: a tar, gzipped or not, that only its name tells from an archive of images.
MOVIE = Kind("segmented movie", "application/x-tar", (".trk", ".trks"))

_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"\x93NUMPY", NPY),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\x1f\x8b", GZIP),
)
KINDS = (TIFF, PNG, JPEG, NPY, ZIP, GZIP, MOVIE)
ENDINGS = tuple(ending for kind in KINDS for ending in kind.endings)
ARCHIVES = (".zip", ".tar.gz", ".tgz")
#: Zip files that are one image each, not archives of images.
_ZIPPED_IMAGES = (".npz", ".ozx", ".zarr.zip")


def is_archive(name: str) -> bool:
    """Tell whether a file of this name holds many images."""
    low = name.lower()
    return low.endswith(ARCHIVES) and not low.endswith(_ZIPPED_IMAGES)


def sniff(head: bytes) -> Kind | None:
    """Return the kind of file that begins with these bytes, None for an unknown one."""
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    return None


def checked(name: str, head: bytes) -> Kind:
    """Return what a file is.

    Raises:
        InvalidInput: it is empty, no image, or an archive under an image's name and the other way round.
    """
    if not head:
        raise InvalidInput(f"The file {name!r} is empty (0 bytes).", code="empty-file")
    kind, named = sniff(head), ending_of(name)
    if named in MOVIE.endings:
        return _movie(name, kind, head)
    if kind is None:
        said = "text" if _is_text(head) else "of no known image format"
        raise InvalidInput(f"The file {name!r} is {said}. {_allowed()}", code="not-an-image")
    if kind.archive and not named.endswith(kind.endings):
        raise InvalidInput(
            f"The file {name!r} is a {kind.name}, not an image. Name it {kind.endings[0]} to have every image in it "
            "analysed, or send the image itself.",
            code="archive-as-image",
        )
    if not kind.archive and named in (*ZIP.endings, *GZIP.endings):
        raise InvalidInput(
            f"The file {name!r} is named as an archive but is a {kind.name}. Give it the ending {kind.endings[0]}.",
            code="image-as-archive",
        )
    return kind


def _movie(name: str, kind: Kind | None, head: bytes) -> Kind:
    if kind is not GZIP and head[257:262] != b"ustar":
        raise InvalidInput(
            f"The file {name!r} is no segmented movie: files named .trk or .trks are tar archives, gzipped or not.",
            code="not-an-image",
        )
    return MOVIE


def base_name(name: str) -> str:
    """Return the last part of a path of any system, fit to be shown and stored: no control characters, 200 at most."""
    last = name.strip().replace("\\", "/").rpartition("/")[2]
    printable = last if last.isprintable() else "".join(filter(str.isprintable, last))
    printable = printable.strip()
    stem, dot, ending = printable.rpartition(".")
    if len(printable) > 200:
        printable = stem[: 199 - len(ending)] + dot + ending if dot and len(ending) < 20 else printable[:200]
    return printable if printable not in {"", ".", ".."} else "image"


def ending_of(name: str) -> str:
    """Return the ending of a file name in small letters, with its dot; the longest that is known, empty for none."""
    low = name.lower()
    known = [ending for ending in (".zarr.zip", *ENDINGS) if low.endswith(ending)]
    if known:
        return max(known, key=len)
    found = re.search(r"\.[a-z0-9]{1,10}$", low)
    return found.group() if found else ""


def _is_text(head: bytes) -> bool:
    try:
        text = head[: HEAD - 4].decode()
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _allowed() -> str:
    return "Allowed are TIFF, PNG, JPEG and NumPy images, zip or tar.gz archives of them, and segmented movies (.trk)."
