"""All benchmarks, one after the other, and at the end every promised figure beside its target.

    python -m benchmarks [--quick] [--only NAME[,NAME]] [--out FOLDER]

``--quick`` measures with the least work that still gives each figure: for direction, not to be published. The folder
gets a JSON file of each benchmark, and ``promised.json``. The exit code is 1 if a benchmark broke or told no figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.promised import judged
from benchmarks.report import Row, tell


@dataclass(frozen=True)
class Script:
    """A benchmark: its usual words, and those of a quick run."""

    name: str
    words: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


#: In the order of their lengths, so that what breaks is soon seen.
SCRIPTS = (
    Script("imaging"),
    Script("footprint"),
    Script("wire"),
    Script("page"),
    Script("quality"),
    Script("telemetry"),
    Script("frontend"),
    Script("autoscaler"),
    Script("pipeline", ("--full",), ("--full",)),
    Script("engine", (), ("--jobs", "10")),
)


def main() -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little work: for direction only")
    parser.add_argument("--only", default="", help=f"of {', '.join(script.name for script in SCRIPTS)}")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), help="folder (default %(default)s)")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [script.name for script in SCRIPTS]
    if unknown := sorted(set(wanted) - {script.name for script in SCRIPTS}):
        parser.error(f"there is no benchmark {unknown[0]!r}")
    options.out.mkdir(parents=True, exist_ok=True)
    broken = [
        script.name for script in SCRIPTS if script.name in wanted and not _run(script, options.out, options.quick)
    ]
    told = {script.name: _read(options.out / f"{script.name}.json") for script in SCRIPTS}
    print("\n== what was promised")
    tell(judged(told), ["--json", str(options.out / "promised.json")])
    for name in broken:
        print(f"{name} broke: what it did not tell counts as missed.")
    return 1 if broken else 0


def _run(script: Script, folder: Path, quick: bool) -> bool:
    """Run one benchmark in a process of its own; tell whether it ended well and told figures."""
    target = folder / f"{script.name}.json"
    target.unlink(missing_ok=True)
    words = [*(script.quick if quick else script.words), "--json", str(target)]
    print(f"\n== {script.name}", flush=True)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{script.name}", *words], check=False)
    print(f"   {time.monotonic() - began:.0f} s", flush=True)
    return done.returncode == 0 and bool(_read(target))


def _read(path: Path) -> list[Row]:
    """Return the rows that a benchmark wrote; none where it wrote nothing."""
    if not path.exists():
        return []
    names = {field.name for field in fields(Row)}
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return [Row(**{name: value for name, value in each.items() if name in names}) for each in rows]


if __name__ == "__main__":
    sys.exit(main())
