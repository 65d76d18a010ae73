"""Write a CycloneDX bill of materials of a container's Python packages: ``python sbom.py NAME LOCK SITE-PACKAGES``.

Runs while an image is built, with Python's own library only. What is installed is the truth; the lock gives the hashes.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Print the document; exit code 2 where the arguments are wrong."""
    if len(sys.argv) != 4:
        sys.stderr.write("usage: sbom.py NAME LOCK-FILE SITE-PACKAGES\n")
        return 2
    name, lock, packages = sys.argv[1:]
    json.dump(document(name, hashes(Path(lock).read_text(encoding="utf-8")), packages), sys.stdout, indent=1)
    return 0


def hashes(lock: str) -> dict[str, list[str]]:
    """Return the SHA-256 hashes that a lock file allows for each package."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.splitlines():
        if start := re.match(r"([A-Za-z0-9._-]+)==", line):
            name = _normal(start[1])
        found.setdefault(name, []).extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def document(name: str, known: dict[str, list[str]], packages: str) -> dict[str, Any]:
    """Return the document: one component for each distribution in a folder."""
    components = [_component(each, known) for each in importlib.metadata.distributions(path=[packages])]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"cellkiosk-{name}"}},
        "components": sorted(components, key=lambda each: str(each["name"])),
    }


def _component(distribution: importlib.metadata.Distribution, known: dict[str, list[str]]) -> dict[str, Any]:
    name, version = _normal(distribution.metadata["Name"]), distribution.version
    licence = distribution.metadata.get("License-Expression") or distribution.metadata.get("License") or ""
    found: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
    if licence:
        found["licenses"] = [{"license": {"name": licence.splitlines()[0][:100]}}]
    if allowed := known.get(name):
        found["properties"] = [{"name": "cellkiosk:locked-sha256", "value": each} for each in allowed]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
