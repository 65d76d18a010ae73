"""Checksums of uploads that arrive in several goes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

_REMEMBERED = 1000


class Digests:
    """Checksums of what this process appended, so that a file need not be read once more when it is complete."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    def taken(self, upload: str, offset: int) -> Any:
        """Return the digest of the first ``offset`` bytes, for one writer to carry on; None if it is not known."""
        position, digest = self._known.pop(upload, (-1, None))
        if offset == 0:
            return hashlib.sha256()
        return digest if position == offset else None

    def keep(self, upload: str, offset: int, digest: Any) -> None:
        if digest is not None:
            self._known[upload] = (offset, digest)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def final(self, upload: str, length: int) -> str:
        """Return the SHA-256 of the whole; empty if it is not known."""
        position, digest = self._known.pop(upload, (-1, None))
        return str(digest.hexdigest()) if position == length and digest is not None else ""

    def forget(self, upload: str) -> None:
        self._known.pop(upload, None)
