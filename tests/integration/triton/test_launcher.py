"""The launcher and the watcher beside the server: new versions, broken models, dead processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.consumer.inference import open_model_server
from services.triton import environment, health
from tests.fixtures.triton import ROOT, Triton, copy_models, running_triton

PATIENCE = 30.0


@pytest.fixture(scope="module")
def watched(triton_environment: environment.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A server with the stand-in alone, looked after five times a second."""
    repository = copy_models(tmp_path_factory.mktemp("watched"), "Standin")
    with running_triton(repository, tmp_path_factory.mktemp("log") / "log", "--watch-seconds", "0.2") as server:
        yield server


def until(condition: Callable[[], bool], what: str, log: Path) -> None:
    """Ask again until ``condition`` holds."""
    deadline, never = time.monotonic() + PATIENCE, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {PATIENCE:.0f} s:\n{log.read_text()[-2000:]}")
        never.wait(0.02)


def address(server: Triton) -> str:
    return f"http://127.0.0.1:{server.http_port}"


def sound(server: Triton) -> bool:
    try:
        health.check_server(address(server))
    except health.Unhealthy:
        return False
    return True


def ready_versions(server: Triton) -> set[str]:
    index = server.http("repository/index", {})
    return {e["version"] for e in index if e["name"] == "Standin" and e.get("state") == "READY"}


def probe(server: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.triton.health", "--server", server]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_health_names_the_models_that_infer(watched: Triton) -> None:
    done = probe(address(watched))
    assert (done.returncode, done.stdout.strip()) == (0, "ready: Standin")


def test_health_says_in_a_sentence_that_a_server_is_away() -> None:
    done = probe("http://127.0.0.1:9")
    assert done.returncode == 1
    assert "http://127.0.0.1:9 does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_model_process_is_noticed_by_inference_and_mended_by_the_watcher(watched: Triton) -> None:
    until(lambda: sound(watched), "A sound server", watched.log)
    before = watched.stubs("Standin")
    assert before
    for each in before:
        os.kill(each, signal.SIGKILL)
    until(lambda: bool(set(watched.stubs("Standin")) - set(before)), "A new model process", watched.log)
    until(lambda: sound(watched), "Inference again", watched.log)
    assert "is loaded again" in watched.log.read_text()


@pytest.fixture(scope="module")
def moody(
    triton_environment: environment.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Triton, Path]]:
    """A server whose network does what the file says: `hang` for ever, or be `slow` (1 s a tile); hung means 2 s."""
    folder = tmp_path_factory.mktemp("moody")
    mood, repository = folder / "mood", copy_models(folder / "models", "Standin")
    mood.write_text("well")
    net = repository / "Standin" / "1" / "net.py"
    waits = (
        f"        mood = Path({str(mood)!r})\n"
        '        while mood.read_text() == "hang":\n            time.sleep(0.02)\n'
        '        time.sleep(1.0 * (mood.read_text() == "slow"))\n'
    )
    net.write_text(net.read_text().replace("        return batch\n", f"{waits}        return batch\n"))
    with running_triton(repository, folder / "log", "--watch-seconds", "0.2", "--hung-seconds", "2") as server:
        yield server, mood


def test_a_stopped_model_process_is_replaced_and_does_not_stay(watched: Triton) -> None:
    until(lambda: sound(watched), "A sound server", watched.log)
    before = watched.stubs("Standin")
    for each in before:
        os.kill(each, signal.SIGSTOP)
    until(lambda: bool(set(watched.stubs("Standin")) - set(before)), "A new model process", watched.log)
    until(lambda: sound(watched), "Inference again", watched.log)
    assert not set(watched.stubs("Standin")) & set(before), "it would keep its memory"


async def test_a_model_that_is_slow_is_left_alone_and_one_that_hangs_is_loaded_again(
    moody: tuple[Triton, Path],
) -> None:
    server, mood = moody
    before = server.stubs("Standin")
    client = open_model_server(server.url)
    try:
        mood.write_text("slow")
        # Six tiles in one request: nothing is answered for six seconds, three times what counts as hung.
        block, window = np.full((512, 6 * 440, 1), 200, np.uint8), np.array([[0, 255]], np.float32)
        began = time.monotonic()
        maps = await client.predict("Standin", "1", block, window, 1.0, timeout=90)
        assert time.monotonic() - began > 6
        assert maps.any()
        assert server.stubs("Standin") == before
        mood.write_text("hang")
        until(lambda: "has answered nothing for 2 s" in server.log.read_text(), "The report", server.log)
        mood.write_text("well")
        until(lambda: bool(set(server.stubs("Standin")) - set(before)), "A new model process", server.log)
        until(lambda: sound(server), "Inference again", server.log)
        assert server.process.poll() is None
    finally:
        await client.aclose()


def test_a_server_whose_model_hangs_again_is_ended(moody: tuple[Triton, Path]) -> None:
    server, mood = moody
    mood.write_text("hang")
    until(lambda: "loading it again did not help" in server.log.read_text(), "The second report", server.log)
    server.process.wait(PATIENCE)


async def test_a_new_version_is_served_without_a_restart_and_both_can_be_named(watched: Triton, tmp_path: Path) -> None:
    model, staged = watched.repository / "Standin", tmp_path / "staged"
    shutil.copytree(model / "1", staged)
    code = (staged / "net.py").read_text().replace("return batch", "return 0 * batch")
    (staged / "net.py").write_text(code)
    server = open_model_server(watched.url)
    try:
        staged.rename(model / "2")
        until(lambda: "2" in ready_versions(watched), "Version 2", watched.log)
        until(lambda: sound(watched), "Inference", watched.log)
        assert (await server.models())["Standin"] == ["1", "2"]
        block, window = np.full((40, 40, 1), 200, np.uint8), np.array([[0, 255]], np.float32)
        old = await server.predict("Standin", "1", block, window, 1.0, timeout=30)
        new = await server.predict("Standin", "2", block, window, 1.0, timeout=30)
        newest = await server.predict("Standin", "", block, window, 1.0, timeout=30)
        assert (old.any(), new.any(), newest.any()) == (True, False, False)
        assert (await server.card("Standin")).version == "2"
    finally:
        await server.aclose()
        shutil.rmtree(model / "2", ignore_errors=True)
        until(lambda: ready_versions(watched) == {"1"}, "Version 2 gone", watched.log)


def test_a_broken_model_is_reported_and_keeps_nobody_else_away(watched: Triton) -> None:
    broken = watched.repository / "Broken"
    shutil.copytree(watched.repository / "Standin", broken)
    (broken / "card.yaml").write_text("name: Broken\n")
    try:
        until(lambda: "Broken cannot be loaded" in watched.log.read_text(), "The report", watched.log)
        assert "lacks the field channels" in watched.log.read_text()
        until(lambda: sound(watched), "Inference of the other", watched.log)
    finally:
        shutil.rmtree(broken)


def test_nothing_outlives_a_killed_server(triton_environment: environment.Environment, tmp_path: Path) -> None:
    """A model's process ends itself then, but now and then hangs at it and keeps its memory, as a stopped one does."""
    repository = copy_models(tmp_path / "models", "Standin")
    with running_triton(repository, tmp_path / "log", "--watch-seconds", "0.2") as server:
        children = [p for p in _children(server.process.pid) if b"services.triton" in _words(p)]
        assert len(children) == 1
        stubs = server.stubs("Standin")
        regions = [Path("/dev/shm", _words(stub).split(b"\0")[2].decode()) for stub in stubs]
        assert [region.exists() for region in regions] == [True]
        for stub in stubs:
            os.kill(stub, signal.SIGSTOP)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(20)
        until(lambda: not any(map(_words, (*children, *stubs))), "The end of all processes", server.log)
        assert [region.exists() for region in regions] == [False]


def _children(parent: int) -> list[int]:
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and _parent(int(place.name)) == parent:
            found.append(int(place.name))
    return found


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _words(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
