"""Make the environment that the real Triton server needs: ``python -m services.triton.environment``.

The server comes in the nvidia-pytriton wheel, for Linux on x86-64, with a Python backend that needs numpy below 2,
which has wheels up to Python 3.12. So it lives in a virtual environment of its own, ``.venv-triton``. Where it
cannot run, this says why and exits with ``UNAVAILABLE``; the models then run in process (``onnx://``).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Misconfigured

UNAVAILABLE = 3  # exit code: Triton cannot run on this machine
ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "triton.txt"
BACKEND = "from services.triton.backend import TritonPythonModel\n\n__all__ = ['TritonPythonModel']\n"
PYTHONS = ("3.12", "3.11")
GLIBC = (2, 35)


class Unavailable(Misconfigured):
    """Triton cannot run on this machine; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the parts of the environment in ``folder`` are."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        return next((self.folder / "lib").glob("python3.*/site-packages"))

    @property
    def triton(self) -> Path:
        return self.packages / "pytriton" / "tritonserver"

    @property
    def server(self) -> Path:
        return self.triton / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        return self.triton / "backends"

    @property
    def libraries(self) -> Path:
        """Holds the libpython of the environment's Python, which the server's Python backend is linked to."""
        return self.folder / "triton-lib"

    @property
    def stamp(self) -> Path:
        return self.folder / "lock.sha256"


def default_folder() -> Path:
    """``.venv-triton`` beside the sources, or what ``KIOSK_TRITON_VENV`` names."""
    return Path(os.environ.get("KIOSK_TRITON_VENV") or ROOT / ".venv-triton")


def is_ready(folder: Path | None = None) -> bool:
    """Whether the environment was made from the present lock file."""
    stamp = Environment(folder or default_folder()).stamp
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _fingerprint()


def make(folder: Path | None = None, report: Callable[[str], None] = print) -> Environment:
    """Make the environment unless it is there; minutes the first time, no time at all afterwards.

    Raises Unavailable where Triton cannot run, Misconfigured if installing failed.
    """
    environment = Environment(folder or default_folder())
    if is_ready(environment.folder):
        return environment
    python = _find_python()
    with _alone(environment.folder):
        if not is_ready(environment.folder):
            _make(environment, python, report)
    return environment


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes the environment; the others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(environment: Environment, python: str, report: Callable[[str], None]) -> None:
    report(f"Making Triton's environment in {environment.folder} with {python}")
    _run([python, "-m", "venv", "--clear", str(environment.folder)])
    report("Installing the Triton server, ONNX Runtime, OpenCV and numpy (about 150 MB)")
    quiet = ["-q", "--no-deps", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
    _run([str(environment.python), "-m", "pip", "install", *quiet, "-r", str(LOCK)])
    _install_backends(environment)
    _link_libpython(environment, report)
    _try_server(environment)
    environment.stamp.write_text(_fingerprint(), encoding="ascii")
    report("Triton's environment is ready")


def variables(environment: Environment) -> dict[str, str]:
    """The process environment in which the server finds its own Python and our code."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
    path = f"{environment.folder / 'bin'}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    return inherited | {
        "PATH": path,
        "VIRTUAL_ENV": str(environment.folder),
        "LD_LIBRARY_PATH": str(environment.libraries),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _fingerprint() -> str:
    return hashlib.sha256(LOCK.read_bytes() + BACKEND.encode()).hexdigest()


def _find_python() -> str:
    """A Python that the server can use: this one, or one beside it."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise Unavailable("The Triton server runs on Linux on x86-64 only; models run in process here.")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        raise Unavailable(f"The Triton server needs glibc 2.35 or newer, and this machine has {name} {version}.")
    if f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS:
        return str(getattr(sys, "_base_executable", sys.executable))
    found = next(filter(_makes_environments, _beside()), None)
    if found is None:
        raise Unavailable(
            f"The Triton server needs Python 3.11 or 3.12 beside this Python {platform.python_version()}; "
            "models run in process here."
        )
    return found


def _beside() -> Iterator[str]:
    """Other Pythons of the right versions: on PATH, then where pyenv or uv keep this one."""
    for version in PYTHONS:
        if path := shutil.which(f"python{version}"):
            yield path
        yield from map(str, sorted(Path(sys.base_prefix).parent.glob(f"*{version}*/bin/python{version}")))


def _makes_environments(python: str) -> bool:
    """Whether a Python is really there (pyenv puts names on PATH that only complain) and has what venv needs."""
    try:
        return (
            subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise Misconfigured(f"{' '.join(command[:4])} … failed with exit code {done.returncode}:\n{last}")


def _install_backends(environment: Environment) -> None:
    """Put the Python backend's stub beside its library, and our backend, on top of it, beside both."""
    version = environment.packages.parent.name.removeprefix("python")
    stub = environment.triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    target = environment.backends / "python" / stub.name
    shutil.copy2(stub, target)
    target.chmod(0o755)
    dense = environment.backends / "dense"
    dense.mkdir(exist_ok=True)
    (dense / "model.py").write_text(BACKEND, encoding="ascii")


def _link_libpython(environment: Environment, report: Callable[[str], None]) -> None:
    environment.libraries.mkdir(exist_ok=True)
    name = f"lib{environment.packages.parent.name}.so.1.0"
    script = "import sysconfig; print(sysconfig.get_config_var('LIBDIR') or '')"
    libdir = subprocess.run([str(environment.python), "-c", script], capture_output=True, text=True, check=True)
    places = [libdir.stdout.strip(), f"{libdir.stdout.strip()}/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"]
    found = next((Path(place) / name for place in places if place and (Path(place) / name).is_file()), None)
    if found is None:
        report(f"Fetching {name}, which this Python came without")
        found = _fetch_libpython(environment, name)
    (environment.libraries / name).symlink_to(found)


def _fetch_libpython(environment: Environment, name: str) -> Path:
    """Debian keeps libpython in a package of its own; it is unpacked here, nothing is installed."""
    package = name.removesuffix(".so.1.0")
    scratch = environment.folder / "debian"
    scratch.mkdir(exist_ok=True)
    hint = f"The Triton server needs {name}; install it (on Debian: apt install {package}) or use another Python."
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable(hint)
    got = subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch, capture_output=True, check=False)
    archives = sorted(scratch.glob("*.deb"))
    if got.returncode or not archives:
        raise Unavailable(hint)
    _run(["dpkg-deb", "-x", str(archives[-1]), str(scratch)])
    found = next(scratch.rglob(name), None)
    if found is None:
        raise Unavailable(hint)
    return found


def _try_server(environment: Environment) -> None:
    """Start the server's helper and the libraries it needs once, so that a lack shows now and with its name."""
    stub = environment.backends / "python" / "triton_python_backend_stub"
    for program in (stub, environment.server):
        done = subprocess.run(
            ["ldd", str(program)], env=variables(environment), capture_output=True, text=True, check=False
        )
        missing = [line.split()[0] for line in done.stdout.splitlines() if "not found" in line]
        if missing:
            raise Unavailable(f"The Triton server needs {', '.join(missing)}, which this machine does not have.")


def main() -> int:
    try:
        make()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    except Misconfigured as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
