"""From the operating system's errors to ours."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from shared.errors import NotFound, Retry, StorageFull

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_LATER = {errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}


@contextlib.contextmanager
def as_ours(doing: str, key: str = "") -> Iterator[None]:
    """Raise ``StorageFull``, ``NotFound`` or ``Retry`` in place of an OSError of the file system.

    Connection errors are not of the file system: they come from the stream that is being stored, and pass through.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull("The storage is full: it takes no more until there is room.") from error
        if error.errno in _GONE and key:
            raise NotFound(f"There is no object {key!r} in the storage.") from error
        if error.errno in _LATER:
            raise Retry(f"The storage cannot {doing} just now: {error.strerror}.") from error
        raise
