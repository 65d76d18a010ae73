"""Containers of the rendered chart, run as processes of this machine: their command, environment, ports and probes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fixtures.helm import ROOT
from tests.fixtures.redis import free_port

#: s; the machine may be busy with other tests.
PATIENCE = 60.0


@dataclass
class Container:
    """One container of a pod, started from this repository.

    ``places`` says what stands for names and paths that exist only in the cluster: host names, volumes. Ports are
    replaced by free ones wherever the manifest names them; everything else is as rendered.
    """

    manifest: dict[str, Any]
    folder: Path
    places: Mapping[str, str]
    extra: Mapping[str, str] = field(default_factory=dict)
    pod: str = ""

    def __post_init__(self) -> None:
        """Choose the ports."""
        self.ports = {port["containerPort"]: free_port() for port in self.manifest.get("ports", [])}
        self.names = {port["name"]: port["containerPort"] for port in self.manifest.get("ports", [])}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.folder / f"{self.manifest['name']}.log"

    def environment(self) -> dict[str, str]:
        """The container's own environment, with $(NAME) put in as the kubelet does."""
        found: dict[str, str] = {}
        for each in self.manifest.get("env", []):
            source = each.get("valueFrom", {})
            value = each.get("value", self.places.get(source.get("secretKeyRef", {}).get("key", ""), ""))
            if source.get("fieldRef"):
                value = self.pod or f"{self.manifest['name']}-0"
            for name, earlier in found.items():
                value = value.replace(f"$({name})", earlier)
            found[each["name"]] = self._local(value)
        for name in ("KIOSK_PORT", "KIOSK_HEALTH__PORT"):
            if name in found and self.ports:
                found[name] = str(self.ports[int(found[name])])
        return found

    def _local(self, value: str) -> str:
        for name, here in self.places.items():
            value = value.replace(name, here)
        return value

    def start(self) -> Container:
        """Start it with the arguments of the manifest; the image's entry point, or its command's word, is Python."""
        words = self.manifest["args"] if "args" in self.manifest else self.manifest["command"][1:]
        arguments = [self._local(self._ported(each)) for each in words]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("KIOSK_", "PYTEST", "COV"))}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**inherited, **self.environment(), **self.extra},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return self

    def _ported(self, argument: str) -> str:
        for port, here in self.ports.items():
            argument = argument.replace(f"port={port}", f"port={here}").replace(f":{port}", f":{here}")
        return argument

    def passes(self, probe: str) -> bool:
        """Carry out a probe of the manifest once, within its own timeout."""
        wanted = self.manifest[probe]
        seconds = wanted.get("timeoutSeconds", 1) + 2  # two cores are shared with other tests
        if "exec" in wanted:
            words = [sys.executable if word == "python" else self._ported(word) for word in wanted["exec"]["command"]]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=60, check=False)
            return done.returncode == 0
        get = wanted["httpGet"]
        url = f"http://127.0.0.1:{self.ports[self.names[get['port']]]}{get['path']}"
        try:
            with urllib.request.urlopen(url, timeout=seconds) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    async def until(self, probe: str, seconds: float = PATIENCE) -> float:
        """Wait until a probe passes; return the seconds that it took."""
        begin = time.monotonic()
        while not await asyncio.to_thread(self.passes, probe):
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"{self.manifest['name']} ended with {ended}:\n{self.said()}"
            assert time.monotonic() < begin + seconds, f"{self.manifest['name']}: {probe} fails:\n{self.said()}"
            await _tick()
        return time.monotonic() - begin

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    async def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and wait; return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
            raise


async def _tick() -> None:
    """Let other processes work: what is waited for happens there, so there is no event to wait on."""
    try:
        async with asyncio.timeout(0.05):
            await asyncio.Event().wait()
    except TimeoutError:
        return
