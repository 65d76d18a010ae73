"""Multipart bodies (RFC 7578) read as a stream: memory does not grow with the body, and every limit holds on the way.

Written for speed on large parts: one `bytes.find` for each chunk that arrives, and no copy of what is not cut.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from shared.errors import InvalidInput

#: Most bytes of one part's headers, and of a field that is no file.
MAX_HEADERS = 8_192
MAX_FIELD = 1_000_000

_CRLF = b"\r\n"
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


class BadMultipart(InvalidInput):
    """The body is not what its content type says."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, code="bad-multipart")


@dataclass
class Part:
    """One part: its field name, the file name it carries (None: it is no file), and its bytes, to be read once."""

    name: str
    filename: str | None
    headers: dict[str, str] = field(default_factory=dict)
    chunks: AsyncIterator[bytes] = field(kw_only=True)

    async def text(self, most: int = MAX_FIELD) -> str:
        """Return a small part, of at most so many bytes, as text.

        Raises:
            InvalidInput: it is longer than a field may be, or not UTF-8.
        """
        found = bytearray()
        async for chunk in self.chunks:
            found += chunk
            if len(found) > most:
                raise InvalidInput(f"The field {self.name[:80]!r} is too long.", code="too-large")
        try:
            return found.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"The field {self.name!r} is not UTF-8 text.") from error


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names.

    Raises:
        BadMultipart: it is not multipart/form-data or names no boundary of an allowed length.
    """
    kind, _, rest = content_type.partition(";")
    if kind.strip().lower() != "multipart/form-data":
        raise BadMultipart(
            f"The body is of type {kind.strip() or 'none'!r}; send the file as multipart/form-data in the field 'file'."
        )
    boundary = _parameters(";" + rest).get("boundary", "")
    if not 0 < len(boundary) <= 200:
        raise BadMultipart("The Content-Type names no boundary between the parts.")
    return boundary.encode("latin-1", "replace")


class Multipart:
    """The parts of a body, in order; each must be read (or is skipped) before the next."""

    def __init__(self, read: Callable[[], Awaitable[bytes]], boundary: bytes, max_parts: int = 64) -> None:
        """Read chunks with ``read``, which returns b"" at the end."""
        self._read = read
        self._delimiter = _CRLF + b"--" + boundary
        # The first boundary needs no line break before it: one is put there, so that all look the same.
        self._buffer = _CRLF
        self._max_parts = max_parts
        self._open: AsyncIterator[bytes] | None = None

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the parts.

        Raises:
            BadMultipart: the body breaks the form, ends early, or has too many parts.
        """
        before = 0
        async for chunk in self._until_delimiter():
            before += len(chunk)
            if before > MAX_HEADERS:
                raise BadMultipart("The body does not begin with its boundary.")
        for _ in range(self._max_parts):
            if not await self._after_delimiter():
                return
            headers = await self._headers()
            disposition = headers.get("content-disposition", "")
            names = _parameters(disposition[disposition.find(";") :] if ";" in disposition else "")
            chunks = self._until_delimiter()
            yield Part(names.get("name", ""), _filename(names), headers, chunks=chunks)
            async for _skipped in chunks:
                pass
        raise BadMultipart(f"The body has more than {self._max_parts} parts.")

    async def _until_delimiter(self) -> AsyncIterator[bytes]:
        keep = len(self._delimiter) - 1
        while True:
            # Most chunks of a large file hold no delimiter, which `rfind` sees several times sooner than `find`.
            at = self._buffer.find(self._delimiter) if self._buffer.rfind(self._delimiter) >= 0 else -1
            if at >= 0:
                found, self._buffer = self._buffer[:at], self._buffer[at + len(self._delimiter) :]
                if found:
                    yield found
                return
            # What could be the beginning of a delimiter stays until more has come: no delimiter holds a second \r.
            cut = self._buffer.rfind(b"\r", max(0, len(self._buffer) - keep))
            if cut < 0 or not self._delimiter.startswith(self._buffer[cut:]):
                cut = len(self._buffer)
            found, self._buffer = self._buffer[:cut], self._buffer[cut:]
            if found:
                yield found
            await self._more()

    async def _after_delimiter(self) -> bool:
        """Read the rest of a boundary line; return False after the last boundary."""
        while len(self._buffer) < 2:
            await self._more()
        if self._buffer.startswith(b"--"):
            return False
        while (at := self._buffer.find(_CRLF)) < 0:
            if len(self._buffer) > 256:
                break
            await self._more()
        if at < 0 or self._buffer[:at].strip(b" \t"):
            raise BadMultipart("A boundary between the parts is not followed by a line break.")
        # The line break stays where the part has no headers: it is part of the empty line then.
        self._buffer = self._buffer[at + 2 :]
        return True

    async def _headers(self) -> dict[str, str]:
        while not self._buffer.startswith(_CRLF) and (at := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEADERS:
                raise BadMultipart(f"The headers of a part are longer than {MAX_HEADERS:,} bytes.")
            await self._more()
        if self._buffer.startswith(_CRLF):
            self._buffer = self._buffer[2:]
            return {}
        raw, self._buffer = self._buffer[:at], self._buffer[at + 4 :]
        if len(raw) > MAX_HEADERS:
            raise BadMultipart(f"The headers of a part are longer than {MAX_HEADERS:,} bytes.")
        lines = (line.partition(":") for line in raw.decode("utf-8", "replace").split("\r\n"))
        return {name.strip().lower(): value.strip() for name, _, value in lines}

    async def _more(self) -> None:
        chunk = await self._read()
        if not chunk:
            raise BadMultipart("The body ends in the middle: the upload was cut off.")
        self._buffer = self._buffer + chunk if self._buffer else chunk


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(text):
        found.setdefault(name.lower(), re.sub(r'\\(["\\])', r"\1", quoted) if quoted else plain)
    return found


def _filename(names: dict[str, str]) -> str | None:
    if extended := names.get("filename*"):
        charset, _, rest = extended.partition("'")
        if charset.lower() in {"utf-8", "iso-8859-1"}:
            return unquote(rest.partition("'")[2], encoding=charset, errors="replace")
    return names.get("filename")
