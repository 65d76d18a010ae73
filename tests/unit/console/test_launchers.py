"""The launchers: `kiosk` in a real terminal, and the one that runs in a container."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
IN_DOCKER = ROOT / "services" / "console" / "in-docker.sh"


class Terminal:
    """A real terminal with a program in it, as a person has it before them."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        variables = {**os.environ, "KIOSK_PYTHON": sys.executable, "TERM": "xterm", **environment}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=variables)
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 50
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} does not appear in:\n{self.seen}"
            try:
                self.seen += os.read(self._master, 65536).decode(errors="replace")
            except OSError as error:  # the program has ended
                raise AssertionError(f"{text!r} did not appear in:\n{self.seen}") from error

    def close(self) -> int:
        code = self.process.wait(20)
        os.close(self._master)
        return code


def test_kiosk_alone_is_a_menu(tmp_path: Path) -> None:
    terminal = Terminal(str(ROOT / "kiosk"), KIOSK_DATA=str(tmp_path / "data"), KIOSK_REDIS__URL="")
    terminal.until("Which? ")
    assert "Start the suite on this machine" in terminal.seen
    terminal.type("2\n")
    terminal.until("No suite runs with the data in")
    terminal.until("Enter shows the menu again.")
    terminal.type("\n")
    terminal.seen = ""
    terminal.until("Which? ")
    terminal.type("q\n")
    assert terminal.close() == 0


@pytest.mark.parametrize(("words", "code"), [([], 2), (["bake"], 2), (["--version"], 0)])
def test_without_a_terminal_it_says_how_it_is_used(words: list[str], code: int) -> None:
    done = subprocess.run(
        [str(ROOT / "kiosk"), *words],
        env={**os.environ, "KIOSK_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "kiosk" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr


@pytest.fixture
def docker(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``docker`` is a stand-in that prints how it was called, a word a line, and its input."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n[ -t 0 ] || cat\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}


def run(*command: str, code: int = 0, text: str = "", **how: Any) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=text, **how)
    assert done.returncode == code, done.stderr
    return (done.stdout + done.stderr).splitlines()


def test_the_container_gets_folder_logins_and_settings(docker: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    here = tmp_path / "my images"
    here.mkdir()
    (here / "lab.yaml").write_text("")
    settings = {"KIOSK_URL": "http://a b", "KIOSK_S3_1": "x", "KUBECONFIG": "lab.yaml", "OTHER": "secret"}
    words = run("sh", str(IN_DOCKER), "status", "--json", env=docker | settings, cwd=here)
    assert words[-3:] == ["cellkiosk/console", "status", "--json"]
    assert words[:2] == ["run", "--rm"]
    volumes = {words[i + 1] for i, word in enumerate(words) if word == "--volume"}
    assert volumes == {
        f"{here}:/here",
        f"{tmp_path}/.kube:/home/kiosk/.kube",
        f"{here}/lab.yaml:{here}/lab.yaml:ro",
    }
    variables = {words[i + 1] for i, word in enumerate(words) if word == "--env"}
    assert variables == {"HOME=/home/kiosk", "KIOSK_URL", "KIOSK_S3_1", f"KUBECONFIG={here}/lab.yaml"}
    assert words[words.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert "--tty" not in words


def test_what_is_piped_in_arrives_in_the_container(docker: dict[str, str], tmp_path: Path) -> None:
    words = run("sh", str(IN_DOCKER), "shell", env=docker, cwd=tmp_path, text="print(1)\n")
    assert "--interactive" in words
    assert words[-1] == "print(1)"


def test_in_a_terminal_the_container_has_it_too(docker: dict[str, str]) -> None:
    terminal = Terminal("sh", str(IN_DOCKER), **docker)
    terminal.until("cellkiosk/console")
    assert {"--tty", "--interactive"} <= set(terminal.seen.split())
    assert terminal.close() == 0


def test_the_image_is_built_installed_and_run_by_make(docker: dict[str, str], tmp_path: Path) -> None:
    words = run("make", "-C", str(ROOT), "--silent", "docker/build", "IMAGE=lab/console", env=docker)
    assert words == ["build", "--quiet", "--file", "services/console/Dockerfile", "--tag", "lab/console", "."]
    words = run("make", "-C", str(ROOT), "--silent", "docker/run", "ARGS=status --json", env=docker)
    assert words[-3:] == ["cellkiosk/console", "status", "--json"]
    run("make", "-C", str(ROOT), "--silent", "install", f"PREFIX={tmp_path}/my prefix", env=docker)
    kiosk = tmp_path / "my prefix" / "bin" / "kiosk"
    assert run(str(kiosk), "doctor", env=docker, cwd=tmp_path)[-2:] == ["cellkiosk/console", "doctor"]
    run("make", "-C", str(ROOT), "--silent", "uninstall", f"PREFIX={tmp_path}/my prefix", env=docker)
    assert not kiosk.exists()


def test_without_docker_the_sentence_says_so(tmp_path: Path) -> None:
    words = run("/bin/sh", str(IN_DOCKER), env={"PATH": str(tmp_path), "HOME": str(tmp_path)}, code=2)
    assert words == ["kiosk: this runs in a container and needs Docker, which is not on PATH here."]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize(
    "script",
    [
        "kiosk",
        "services/console/in-docker.sh",
        ".ci/run",
        "requirements/lock.sh",
        "helm/cellkiosk/files/redis/server.sh",
        "helm/cellkiosk/files/redis/sentinel.sh",
    ],
)
def test_scripts_are_sound(script: str) -> None:
    assert run("shellcheck", str(ROOT / script)) == []
