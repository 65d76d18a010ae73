"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload), read and checked."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import InvalidInput

PATH = "/api/v1/uploads"
VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination,concatenation"
ALGORITHMS = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
"""Checksum algorithms and the bytes of their digests."""
CONTENT_TYPE = "application/offset+octet-stream"
MOST_PARTS = 1000
"""Uploads that can be joined to one."""
_LONGEST_METADATA = 4096
_NAME = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Concat:
    """What an upload is in a concatenation: a part of one, or all of it from parts."""

    piece: bool = False
    parts: tuple[str, ...] = ()


def number(headers: Mapping[str, str], name: str) -> int:
    """Return a header's whole number.

    Raises:
        InvalidInput: it is missing or no number of bytes.
    """
    text = headers.get(name, "")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        said = f"{text[:40]!r}" if text else "missing"
        raise InvalidInput(f"The header {name} is {said}: it must be a number of bytes.", code="bad-header")
    return int(text)


def metadata(text: str) -> dict[str, str]:
    """Return the pairs of an Upload-Metadata header.

    Raises:
        InvalidInput: it is too long, or not pairs of a name and Base64.
    """
    if len(text) > _LONGEST_METADATA:
        raise InvalidInput(f"The header Upload-Metadata is longer than {_LONGEST_METADATA} bytes.", code="bad-header")
    found: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else []:
        name, _, value = pair.strip().partition(" ")
        if not _NAME.fullmatch(name) or name in found:
            raise _bad_metadata(pair)
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (ValueError, binascii.Error) as error:
            raise _bad_metadata(pair) from error
    return found


def checksum(text: str) -> tuple[str, bytes] | None:
    """Return algorithm and digest of an Upload-Checksum header; None for an empty one.

    Raises:
        InvalidInput: the algorithm is unknown, or the digest is none of it.
    """
    if not text:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        allowed = ", ".join(ALGORITHMS)
        raise InvalidInput(f"The checksum algorithm {algorithm[:20]!r} is not one of {allowed}.", code="bad-header")
    try:
        digest = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        digest = b""
    if len(digest) != ALGORITHMS[algorithm]:
        raise InvalidInput(f"The header Upload-Checksum holds no {algorithm} digest in Base64.", code="bad-header")
    return algorithm, digest


def concat(text: str) -> Concat:
    """Return what an Upload-Concat header asks for.

    Raises:
        InvalidInput: it is neither ``partial`` nor ``final;`` and addresses of uploads.
    """
    if not text:
        return Concat()
    if text == "partial":
        return Concat(piece=True)
    kind, _, urls = text.partition(";")
    parts = tuple(url.rstrip("/").rsplit("/", 1)[-1] for url in urls.split())
    if kind != "final" or not parts or len(parts) > MOST_PARTS:
        raise InvalidInput(
            f"The header Upload-Concat must be 'partial', or 'final;' and 1 to {MOST_PARTS} addresses of uploads.",
            code="bad-header",
        )
    return Concat(parts=parts)


def _bad_metadata(pair: str) -> InvalidInput:
    return InvalidInput(
        f"The header Upload-Metadata has {pair[:40]!r}: it must be pairs of a name and its value in Base64.",
        code="bad-header",
    )
