"""Make the environment that the suite runs in: ``python3 requirements/install.py local|dev``.

Only the standard library, since it runs before anything is installed. ``local.txt`` and ``dev.txt`` are locked with
hashes; ``dev`` holds all of ``local`` in the same versions, so both go to the same ``.venv``. Doing nothing when the
environment fits its lock takes some milliseconds; two calls at once take turns.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
KINDS = {"local": ("local", "dev"), "dev": ("dev",)}  # an environment of either kind on the right will do


def main() -> int:
    """Make the environment; the exit code is 0, 2 for a wrong call or Python, 1 if installing failed."""
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in KINDS:
        return _fault(f"Say which packages to install, {' or '.join(KINDS)}: install.py local", 2)
    if sys.version_info < OLDEST:
        return _fault(f"CellKiosk needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}.", 2)
    folder = Path(os.environ.get("KIOSK_VENV") or ROOT / ".venv")
    if any(_fits(folder, each) for each in KINDS[kind]):
        return 0
    with _alone(folder):
        if any(_fits(folder, each) for each in KINDS[kind]):
            return 0
        return _install(folder, kind)


def _fault(sentence: str, code: int) -> int:
    sys.stderr.write(sentence + "\n")
    return code


def _lock(kind: str) -> Path:
    return ROOT / "requirements" / f"{kind}.txt"


def _stamp(folder: Path, kind: str) -> Path:
    return folder / f"{kind}.sha256"


def _fits(folder: Path, kind: str) -> bool:
    stamp = _stamp(folder, kind)
    return stamp.is_file() and stamp.read_text(encoding="ascii") == hashlib.sha256(_lock(kind).read_bytes()).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _same_python(folder: Path) -> bool:
    """Whether what is installed there was made for this version of Python."""
    return (folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}").is_dir()


def _install(folder: Path, kind: str) -> int:
    python = folder / "bin" / "python"
    fresh = [] if _same_python(folder) else ["--clear"]
    made = subprocess.run(
        [sys.executable, "-m", "venv", *fresh, str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode or not python.exists():
        told = (made.stdout + made.stderr).strip().splitlines()[-3:]
        return _fault("Python cannot make an environment (on Debian: apt install python3-venv).\n" + "\n".join(told), 1)
    lock = _lock(kind)
    total = sum(1 for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line and line[0] != "#")
    sys.stderr.write(f"Installing {total} packages into {folder} (some minutes the first time)\n")
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--require-hashes", "--no-deps"]
    command = [str(python), "-m", "pip", "install", *options, "-r", str(lock)]
    variables = os.environ | {"PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1"}
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables) as pip:
        _show_progress(pip, total, said)
    if pip.returncode:
        return _fault("Installing failed:\n" + "\n".join(said[-8:]), 1)
    _stamp(folder, kind).write_text(hashlib.sha256(lock.read_bytes()).hexdigest(), encoding="ascii")
    return 0


def _show_progress(pip: subprocess.Popen[str], total: int, said: list[str]) -> None:
    """One changing line on a terminal, one line for each quarter elsewhere."""
    terminal = sys.stderr.isatty()
    seen = 0
    for line in pip.stdout or ():
        said.append(line.rstrip())
        seen += line.startswith(("Collecting ", "Requirement already satisfied"))
        if not line.startswith(("Collecting ", "Installing collected")):
            continue
        text = "installing" if line.startswith("Installing") else f"fetched {min(seen, total)} of {total}"
        if terminal:
            sys.stderr.write(f"\r  {text}\033[K")
        elif line.startswith("Installing") or seen % max(1, total // 4) == 0:
            sys.stderr.write(f"  {text}\n")
        sys.stderr.flush()
    if terminal:
        sys.stderr.write("\n")


if __name__ == "__main__":
    sys.exit(main())
