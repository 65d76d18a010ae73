"""Uploads to a bucket: small ones in one request, others resumably.

https://cloud.google.com/storage/docs/performing-resumable-uploads: pieces but the last are multiples of 256 KiB; after
trouble the bucket is asked how much has arrived, and the rest of the piece is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from shared.errors import Retry
from shared.storage.connection import Connection
from shared.storage.retrying import TROUBLE

PIECE = 4 * 1024 * 1024
"""Bytes per request: what a transfer holds in memory."""
_SLICE = 256 * 1024
_GONE = frozenset({404, 410})
_ABANDONED = frozenset({404, 410, 499})


async def one_request(to: Connection, name: str, data: bytes, about: dict[str, Any]) -> dict[str, Any]:
    """Store a small object with its description (multipart/related); return the resource."""
    boundary = uuid.uuid4().hex
    described = json.dumps({**about, "name": name})
    head = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{described}\r\n"
        f"--{boundary}\r\nContent-Type: {about['contentType']}\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/related; boundary={boundary}",
        "Content-Length": str(len(head) + len(data) + len(tail)),
    }
    body = _slices(head, data, tail)
    async with await to.request(
        "POST", to.upload_url(), headers, params={"uploadType": "multipart"}, data=body
    ) as answer:
        return await _resource(answer)


class ResumableUpload:
    """One object on its way, piece by piece."""

    def __init__(self, to: Connection, name: str) -> None:
        self._to = to
        self._name = name
        self._url = ""
        self._type = ""
        self._arrived = 0

    async def begin(self, about: dict[str, Any], size: int | None = None) -> str:
        """Open the upload, if its size is known for just that; nothing can be seen of it until the last piece is there.

        Returns:
            The address that takes the pieces, without further proof.
        """
        self._type = about["contentType"]
        headers = {"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Type": self._type}
        if size is not None:
            headers["X-Upload-Content-Length"] = str(size)
        params = {"uploadType": "resumable", "name": self._name}
        body = json.dumps({**about, "name": self._name}).encode()
        async with await self._to.request("POST", self._to.upload_url(), headers, params=params, data=body) as answer:
            self._url = answer.headers["Location"]
        return self._url

    async def send(self, piece: bytes, *, last: bool) -> dict[str, Any]:
        """Send a piece, whatever it takes; return the object's resource after the last one, before that an empty dict.

        Raises:
            Retry: the bucket stayed away, or forgot the upload: it has to begin anew.
        """
        start, end = self._arrived, self._arrived + len(piece)
        failures, asking = 0, False
        while True:
            before = self._arrived
            try:
                made = await self._put(memoryview(b"" if asking else piece[before - start :]), end if last else None)
            except TROUBLE as error:
                failures += 1
                await self._to.bear(error, failures, self._name)
                asking = True
                continue
            if made is not None:
                return made
            if self._arrived < start:
                raise Retry(f"The bucket {self._to.bucket!r} has lost a part of an upload: send it again.")
            if self._arrived == end and not last:
                return {}
            if self._arrived > before:
                failures = 0
            elif not asking:
                failures = await self._slighted(failures)
            asking = False

    async def abandon(self) -> None:
        """Tell the bucket to forget what it has; it would by itself in a week."""
        if self._url:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(5):
                    (await self._to.request("DELETE", self._url, {}, _ABANDONED)).release()

    async def _put(self, rest: memoryview, total: int | None) -> dict[str, Any] | None:
        """Send bytes (or, with none, ask how many have arrived); return the resource if that completed the object."""
        bounds = f"{self._arrived}-{self._arrived + len(rest) - 1}" if rest else "*"
        headers = {
            "Content-Range": f"bytes {bounds}/{'*' if total is None else total}",
            "Content-Length": str(len(rest)),
            "Content-Type": self._type,
        }
        body = _slices(rest) if rest else None
        async with await self._to.request("PUT", self._url, headers, _GONE, data=body) as answer:
            if answer.status in _GONE:
                raise Retry(f"The bucket {self._to.bucket!r} has forgotten an upload: send it again.")
            if answer.status == 308:
                self._arrived = _arrived(answer)
                return None
            return await _resource(answer)

    async def _slighted(self, failures: int) -> int:
        """Wait, since bytes were sent and none was taken; return the failures so far."""
        if failures + 1 >= self._to.patience.tries:
            raise Retry(f"The bucket {self._to.bucket!r} takes no bytes: try again later.")
        await self._to.patience.before(failures + 1)
        return failures + 1


def _arrived(answer: aiohttp.ClientResponse) -> int:
    found = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", ""))
    return int(found[1]) + 1 if found else 0


async def _resource(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    resource: dict[str, Any] = await answer.json(content_type=None)
    return resource


async def _slices(*parts: bytes | memoryview) -> AsyncIterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _SLICE):
            yield view[start : start + _SLICE]
