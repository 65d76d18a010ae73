"""Images built by their Dockerfiles with buildah, and containers run from them: no daemon, no registry.

The base is Debian's own Python, unpacked from its packages; what pip installs in the image comes from a folder, which
this machine's pip fills by the same hashes. Both stay in a folder for temporary files, so that the next run is quick.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker

from tests.fixtures.helm import ROOT

#: What a base of Python holds, and what the build stages call; APT adds what these need.
PACKAGES = ("base-files", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "libc-bin", "libstdc++6", "mawk")
PACKAGES += ("python-is-python3", "python3", "python3-pip", "python3-venv", "sed", "tar")
USER = 10001
#: Gives the command a file system of its own: the root read-only, as in the chart; /tmp and the volumes writable.
ENTER = """
set -eu
root=$1; shift
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
exec chroot "$@"
"""


def missing() -> str:
    """Why images cannot be built here; empty if they can."""
    if os.geteuid() != 0:
        return "images are built by root here: a chroot and mounts are needed"
    wanted = ("buildah", "apt-get", "dpkg-deb", "unshare", "chroot")
    lacking = [name for name in wanted if shutil.which(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "this machine allows no mounts"
    made = subprocess.run([*_words(), "from", "scratch"], capture_output=True, text=True, check=False)
    mounted = subprocess.run([*_words(), "mount", made.stdout.strip()], capture_output=True, text=True, check=False)
    subprocess.run([*_words(), "rm", made.stdout.strip()], capture_output=True, check=False)
    failed = next((each for each in (made, mounted) if each.returncode), None)
    return f"buildah does not work here: {failed.stderr.strip()[-200:]}" if failed else ""


def run(*words: str | Path, **options: Any) -> str:
    """Run a program and return what it wrote; what went wrong is in the failure."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, words[:4]))} …: {done.stderr[-3000:]}{done.stdout[-1000:]}")
    return done.stdout.strip()


@functools.cache
def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"cellkiosk-images-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _words() -> list[str]:
    return ["buildah", f"--root={_cache() / 'store'}", f"--runroot={_cache() / 'run'}"]


def _buildah(*words: str | Path) -> str:
    return run(*_words(), *words)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _base() -> str:
    """The name of the base image; made from this Debian's packages unless it is there."""
    made_of = Path("/etc/debian_version").read_text() + " ".join(PACKAGES)
    name = f"localhost/base:{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if name in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        return name
    folder = _cache() / "base"
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / "root"
    for each in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / each).mkdir(parents=True)
        (root / each).symlink_to(f"usr/{each}")
    (folder / "archives" / "partial").mkdir(parents=True)
    (folder / "status").touch()  # nothing is installed, so all that is needed is fetched
    options = [f"Dir::State::status={folder / 'status'}", f"Dir::Cache::archives={folder / 'archives'}"]
    options += ["Debug::NoLocking=1", "APT::Sandbox::User=root"]
    words = [word for option in options for word in ("-o", option)]
    python = re.search(r"python3\.\d+", run("apt-cache", "depends", "python3"))
    assert python
    wanted = [*PACKAGES, f"lib{python[0]}"]
    run("apt-get", "install", "-qq", "--yes", "--download-only", "--no-install-recommends", *words, *wanted)
    for archive in sorted((folder / "archives").glob("*.deb")):
        run("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', "", archive, root)
    container = _buildah("from", "scratch")
    _buildah("add", "--quiet", container, root, "/")
    _buildah("commit", "--quiet", "--rm", container, name)
    shutil.rmtree(folder)
    return name


def _wheels(service: str, base: str) -> Path:
    """A folder with what the lock of a service asks for, for the Python of the base."""
    lock = ROOT / "requirements" / f"{service}.txt"
    folder = _cache() / "wheels"
    stamp = folder / f"{hashlib.sha256(lock.read_bytes() + base.encode()).hexdigest()}.done"
    if stamp.exists():
        return folder
    folder.mkdir(exist_ok=True)
    python = _python(base)
    wanted = folder / f"{service}.txt"
    wanted.write_text("\n".join(_without_markers(lock.read_text(), python)))
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={python.rpartition('.')[0]}"]
    run(sys.executable, "-m", "pip", "download", "-q", *options, f"--dest={folder}", f"--requirement={wanted}")
    stamp.touch()
    return folder


def _python(base: str) -> str:
    container = _buildah("from", "--pull-never", base)
    try:
        words = ["python", "-c", "import platform; print(platform.python_version())"]
        return _buildah("run", "--isolation=chroot", container, "--", *words)
    finally:
        _buildah("rm", container)


def _without_markers(lock: str, python: str) -> Iterator[str]:
    """The entries of a lock that hold for a version of Python, which pip cannot be told to pretend to be."""
    for entry in re.findall(r"^[a-z0-9].*(?:\n    .*)*", lock, re.MULTILINE):
        head, _, hashes = entry.partition("\\\n")
        pin, _, marker = head.partition(";")
        here = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
        if not marker or Marker(marker).evaluate(here):
            yield f"{pin.strip()} \\\n{hashes}"


@dataclass
class Image:
    """An image that was built; what it is configured to be."""

    service: str
    name: str
    base: str
    config: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """A writable copy of its file system."""
        with _mounted(self.name) as root:
            yield root

    def megabytes(self) -> float:
        """What is unpacked beyond the base, 10^6 bytes."""
        with self.mounted() as mine, _mounted(self.base) as base:
            sizes = [int(run("du", "--summarize", "--bytes", each).split()[0]) for each in (mine, base)]
        return (sizes[0] - sizes[1]) / 1e6


@contextlib.contextmanager
def _mounted(name: str) -> Iterator[Path]:
    container = _buildah("from", "--pull-never", name)
    try:
        yield Path(_buildah("mount", container))
    finally:
        _buildah("rm", container)


@contextlib.contextmanager
def built(service: str) -> Iterator[Image]:
    """Build the image of a service by its Dockerfile; it is removed at the end of the block."""
    name = f"localhost/{service}:{os.getpid()}"
    with _alone():
        base = _base()
        wheels = _wheels(service, base)
    pip = _cache() / "pip.conf"
    pip.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    words = [f"--volume={wheels}:/wheels:ro", f"--volume={pip}:/etc/pip.conf:ro", f"--build-arg=PYTHON={base}"]
    words += ["--build-arg=REVISION=abc", "--isolation=chroot", "--format=docker", "--pull-never", "--quiet"]
    _buildah("bud", *words, f"--file={ROOT / 'services' / service / 'Dockerfile'}", f"--tag={name}", ROOT)
    try:
        told = json.loads(_buildah("inspect", "--type=image", name))
        yield Image(service, name, base, told["Docker"]["config"])
    finally:
        _buildah("rmi", name)


@dataclass
class Running:
    """A container of an image: its entry point in a chroot, as the user that the image names."""

    image: Image
    root: Path
    environment: Mapping[str, str]
    volumes: Mapping[Path, str] = field(default_factory=dict)

    def start(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        """Start the entry point with the image's own command, or another."""
        config = self.image.config
        words = [*config["Entrypoint"], *(command or config["Cmd"])]
        with log.open("wb") as out:
            return subprocess.Popen(self.entered(words), stdout=out, stderr=out)

    def healthy(self) -> bool:
        """Carry out the image's HEALTHCHECK once."""
        kind, *words = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD", "no shell needed"
        return subprocess.run(self.entered(words), capture_output=True, check=False, timeout=60).returncode == 0

    def entered(self, words: list[str]) -> list[str]:
        """The command that runs some words in the container, as `kubectl exec` does."""
        config = self.image.config
        mounts = []
        for here, there in self.volumes.items():
            (self.root / there.strip("/")).mkdir(parents=True, exist_ok=True)
            mounts += [str(here), there]
        variables = [*config["Env"], *(f"{name}={value}" for name, value in self.environment.items())]
        entered = ["unshare", "--mount", "sh", "-c", ENTER, "enter", str(self.root), *mounts, "--"]
        entered += [f"--userspec={config['User']}", str(self.root), "env", "--ignore-environment"]
        return [*entered, f"--chdir={config['WorkingDir']}", *variables, *words]


def until(true: Any, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    """Wait for what a process is to bring about."""
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
