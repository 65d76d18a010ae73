"""Memory does not grow with the file: hundreds of MB go in and out of a process that may use little more for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.gcs import GcsServer

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, resource, sys
from shared.storage import open_storage

SIZE = int(sys.argv[3])

async def stream():
    block = bytes(65536)
    for _ in range(SIZE // 65536):
        yield block

async def main():
    storage = open_storage(sys.argv[1], gcs_api_root=sys.argv[2])
    await storage.put("warm", bytes(9 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await storage.put("big", stream())
    got = 0
    async for chunk in storage.get("big"):
        got += len(chunk)
    print(got, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    await storage.delete("big")
    await storage.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize(("kind", "size"), [("file", 400 << 20), ("gs", 40 << 20)])
def test_memory_stays_flat(kind: str, size: int, tmp_path: Path, gcs_server: GcsServer) -> None:
    where = f"file://{tmp_path}/root" if kind == "file" else f"gs://{gcs_server.make_bucket()}"
    command = [sys.executable, "-c", PROGRAM, where, gcs_server.url, str(size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    got, grown = map(int, done.stdout.split())
    assert got == size
    assert grown * 1024 < 32 << 20, f"{grown} kB"
