"""Write the lock files of the containers: ``python requirements/lock.py`` (needs uv).

Each container installs its own extra of pyproject.toml and nothing else: not even the needs of the client package,
which every extra would bring along if it were locked as an extra. Versions are those of dev.txt, which is tested.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONTAINERS = ("frontend", "consumer", "autoscaler", "janitor", "console")
OPTIONS = [
    "--universal",
    "--fork-strategy",
    "fewest",
    "--python-version",
    "3.11",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
]


def needs(extra: str) -> list[str]:
    """Return what an extra asks for, with the extras that it names put in their place."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = []
    for each in project["optional-dependencies"][extra]:
        own = re.fullmatch(rf"{project['name']}\[(.+)\]", each)
        found += [need for name in own[1].split(",") for need in needs(name)] if own else [each]
    return sorted(set(found))


def main() -> int:
    """Lock all, or those named."""
    for name in sys.argv[1:] or CONTAINERS:
        target = HERE / f"{name}.txt"
        known = ["-c", str(HERE / "dev.txt")]
        command = [os.environ.get("UV", "uv"), "pip", "compile", "-", *OPTIONS, *known, "-q", "--no-header"]
        done = subprocess.run(command, input="\n".join(needs(name)), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stderr)
            return 1
        text = re.sub(r"^    # via -r -\n|^    #   -[rc] .*\n|^    # via -c .*\n", "", done.stdout, flags=re.MULTILINE)
        target.write_text(
            f"# Written by python requirements/lock.py from the extra {name!r}.\n{text}", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
