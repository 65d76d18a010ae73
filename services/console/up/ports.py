"""Which TCP ports are free, and who has those that are not."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

from shared.errors import Misconfigured

_LISTEN = "0A"  # state of a listening socket in /proc/net/tcp


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether somebody could listen at ``host:port`` now.

    Raises:
        Misconfigured: the address is not one of this machine, or the port is not ours to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise Misconfigured(f"Nobody here may listen at {host}:{port}: {error.strerror}.") from error
    return True


def take(wanted: int, host: str = "127.0.0.1", *, taken: set[int] | None = None) -> int:
    """Return ``wanted`` if it is free and not in ``taken``, else some free port; adds it to ``taken``."""
    taken = set() if taken is None else taken
    port = wanted if wanted and wanted not in taken and is_free(wanted, host) else _any(host, taken)
    taken.add(port)
    return port


def next_free(wanted: int, host: str, taken: set[int]) -> int:
    """Return the first free port from ``wanted`` on, within the next hundred, else any; adds it to ``taken``."""
    last = min(wanted + 100, 65536)
    near = (port for port in range(wanted, last) if port not in taken and is_free(port, host))
    return take(next(near, 0), host, taken=taken)


def _any(host: str, taken: set[int]) -> int:
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def owner(port: int) -> str:
    """Return who listens at a port, as in ``nginx (process 12)``; ``another program`` where that cannot be told."""
    inodes = _listeners(port)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            links = _links(folder / "fd")
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
        if any(f"socket:[{inode}]" in links for inode in inodes):
            return f"{name} (process {folder.name})"
    return "another program"


def _links(folder: Path) -> set[str]:
    found = set()
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile, as the one that lists this folder
            found.add(entry.readlink().name)
    return found


def _listeners(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            words = row.split()
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found
