"""Logs and forwarding through the real kubectl and a real API server, as far as nodes that nobody is behind allow.

What a kubelet would do (streams of logs and ports) is played by a stand-in of kubectl for those two words only; all
other words go to the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.console.up import ports
from services.console.up.probes import get
from tests.fixtures.kubernetes import Namespace, eventually
from tests.fixtures.suite import ROOT

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

#: Forwards a port to the page below, as kubectl does; ends after the first connection where the file "once" is there.
PORT_FORWARD = """
import asyncio, os, pathlib, sys
local, folder = int(sys.argv[1].partition(":")[0]), pathlib.Path(sys.argv[2])

async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
    await writer.drain()
    writer.close()
    print("Handling connection for", local, flush=True)
    if (folder / "once").exists():
        (folder / "once").unlink()
        print("error: lost connection to pod", file=sys.stderr, flush=True)
        os._exit(1)

async def main():
    await asyncio.start_server(serve, "127.0.0.1", local)
    print("Forwarding from 127.0.0.1:%d -> 8080" % local, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Kiosk:
    """A ``kiosk`` that runs until it is interrupted, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, text: str, times: int = 1) -> None:
        assert self.process.stdout
        async with asyncio.timeout(60):
            while self.said.count(text) < times:
                line = await self.process.stdout.readline()
                assert line, f"{text!r} was not said:\n{self.said}"
                self.said += line.decode()

    async def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            return await self.process.wait()


class Console:
    """Starts commands in a namespace; ``folder`` comes first on PATH."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder

    @contextlib.asynccontextmanager
    async def __call__(self, *words: str) -> AsyncIterator[Kiosk]:
        where = ("--namespace", self._namespace.name)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.console", *words, *where),
            env={
                "PATH": f"{self._folder}:{os.environ['PATH']}",
                "KUBECONFIG": self._namespace.plane.kubeconfig,
                "HOME": str(self._folder),  # kubectl keeps what it learnt there
                "PYTHONPATH": str(ROOT),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield Kiosk(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.fixture
async def console(namespace: Namespace, tmp_path: Path) -> Console:
    """A namespace with a frontend and its service."""
    labels = {"app.kubernetes.io/part-of": "cellkiosk", "app.kubernetes.io/component": "frontend"}
    spec = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    service = {"metadata": {"name": "kiosk-cellkiosk-frontend", "labels": labels}, "spec": spec}
    await namespace.cluster.post(f"{namespace.core}/services", service)
    pod = {"metadata": {"name": "frontend-0", "labels": labels}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    account = f"{namespace.core}/serviceaccounts/default"
    await eventually(lambda: namespace.cluster.get(account))
    await namespace.cluster.post(f"{namespace.core}/pods", pod)

    async def runs() -> bool:
        return bool(await namespace.pods(ready=True))

    await eventually(runs)
    return Console(namespace, tmp_path)


def stand_in(folder: Path, word: str, command: str) -> None:
    """Put a kubectl on PATH that does one word otherwise."""
    program = folder / "kubectl"
    real = shutil.which("kubectl")
    program.write_text(f'#!/bin/sh\ncase " $* " in *" {word} "*) {command} ;; *) exec {real} "$@" ;; esac\n')
    program.chmod(0o755)


async def test_a_node_that_cannot_be_reached_is_told_once_and_tried_again(console: Console) -> None:
    async with console("forward", "frontend") as kiosk:
        await kiosk.until("frontend: error upgrading connection")
        assert "Connecting to frontend; Ctrl-C ends this." in kiosk.said
        assert "trying again every 2 s" in kiosk.said
        assert await kiosk.interrupt() == 0


async def test_a_port_is_forwarded_and_again_after_its_pod_went(console: Console, tmp_path: Path) -> None:
    (tmp_path / "forward.py").write_text(PORT_FORWARD)
    (tmp_path / "once").touch()
    forward = f'exec {sys.executable} {tmp_path}/forward.py "$last" {tmp_path}'
    stand_in(tmp_path, "port-forward", f"for last; do :; done; {forward}")  # the last argument is LOCAL:REMOTE
    async with console("forward", "frontend") as kiosk:
        await kiosk.until("the page and the API")
        local = int(kiosk.said.partition("http://127.0.0.1:")[2].split()[0])
        assert await get("127.0.0.1", local, "/") == (200, b"hello")
        await kiosk.until("frontend: lost connection to pod; trying again")
        await kiosk.until("the page and the API", times=2)
        assert await get("127.0.0.1", local, "/") == (200, b"hello")
        assert await kiosk.interrupt() == 0
    assert ports.is_free(local, "127.0.0.1")


async def test_logs_that_no_kubelet_gives_are_told_by_pod(console: Console) -> None:
    async with console("logs", "--kubernetes", "frontend") as kiosk:
        await kiosk.until("kiosk: The logs of the pods cannot be read: frontend-0: ")
        assert await kiosk.process.wait() == 1
    async with console("logs", "--kubernetes", "--follow") as kiosk:
        await kiosk.until("frontend-0: ")
        assert await kiosk.interrupt() == 130
        assert "Traceback" not in kiosk.said
    async with console("logs", "--kubernetes", "janitor") as kiosk:
        await kiosk.until("There is no pod of janitor in this namespace.")


#: Plays `kubectl logs`: what the pod has said by each call, of which the latest second is told again, as a node does.
LOGS = """
import pathlib, sys
calls = pathlib.Path(sys.argv[1]) / "calls"
with calls.open("a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
said = [f"2020-02-03T15:00:00.{n:09d}Z line-{n}" for n in range(1, 2 + len(calls.read_text().splitlines()))]
print("\\n".join(said))
"""


async def test_a_pod_that_starts_again_goes_on_where_it_ended(console: Console, tmp_path: Path) -> None:
    (tmp_path / "logs.py").write_text(LOGS)
    stand_in(tmp_path, "logs", f'exec {sys.executable} {tmp_path}/logs.py {tmp_path} "$@"')
    async with console("logs", "--kubernetes", "--follow", "--tail", "3") as kiosk:
        await kiosk.until("line-5")
        assert await kiosk.interrupt() == 130
    assert [kiosk.said.count(f"line-{n}\n") for n in range(1, 6)] == [1] * 5, kiosk.said
    history, follow, again = (tmp_path / "calls").read_text().splitlines()[:3]
    assert history.endswith("logs frontend-0 --container=x --timestamps --tail=3")
    assert follow.endswith("--since-time=2020-02-03T15:00:00.000000002Z --follow")
    assert again.endswith("--since-time=2020-02-03T15:00:00.000000003Z --follow")


#: What the two programs within the pods answer that the doctor asks there.
WITHIN = """
case " $* " in
  *" kiosk doctor "*) echo '[{"part": "redis", "state": "ok", "sentence": "answers", "remedy": ""},
    {"part": "models", "state": "warning", "sentence": "not from here", "remedy": "x"}]' ;;
  *) echo "The model Nuclear fails: its process is dead" >&2; exit 1 ;;
esac
"""


async def test_the_doctor_of_a_cluster_sees_pods_rights_and_what_the_pods_say(
    console: Console, namespace: Namespace, tmp_path: Path
) -> None:
    part_of = {"app.kubernetes.io/part-of": "cellkiosk"}
    for part, image in (("console", "x"), ("triton", "x"), ("consumer", "x")):
        labels = part_of | {"app.kubernetes.io/component": part}
        spec: dict[str, Any] = {"containers": [{"name": "x", "image": image}]}
        if part == "consumer":
            spec["nodeSelector"] = {"cellkiosk/pool": "nowhere"}
        await namespace.cluster.post(
            f"{namespace.core}/pods", {"metadata": {"name": f"{part}-0", "labels": labels}, "spec": spec}
        )
    account = {"name": "kiosk-autoscaler", "labels": part_of | {"app.kubernetes.io/component": "autoscaler"}}
    await namespace.cluster.post(f"{namespace.core}/serviceaccounts", {"metadata": account})

    async def run() -> bool:
        return len(await namespace.pods(ready=True)) == 3

    await eventually(run)
    (tmp_path / "within.sh").write_text(WITHIN)
    stand_in(tmp_path, "exec", f'exec sh {tmp_path}/within.sh "$@"')
    async with console("doctor", "--kubernetes", "--json") as kiosk:
        assert kiosk.process.stdout
        told = json.loads(await kiosk.process.stdout.read())
        assert await kiosk.process.wait() == 1
    found = {(finding["part"], finding["state"]): finding for finding in told}
    assert "consumer-0 has no node: " in found["pods", "failed"]["sentence"]
    assert "the autoscaler may not list pods, patch pods" in found["permissions", "failed"]["sentence"]
    assert found["models", "failed"]["sentence"] == "triton-0: The model Nuclear fails: its process is dead"
    assert ("redis", "ok") in found
    assert ("models", "warning") not in found, "the servers have been asked themselves"
    assert all(finding["remedy"] for finding in told if finding["state"] != "ok")
