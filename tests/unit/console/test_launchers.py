"""The launchers: `kiosk` in a real terminal, and the one that runs in a container."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


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


def test_the_container_gets_folder_logins_and_settings(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    docker.chmod(0o755)
    (tmp_path / ".kube").mkdir()
    done = subprocess.run(
        ["sh", str(ROOT / "services" / "console" / "in-docker.sh"), "status", "--json"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "KIOSK_URL": "http://a b"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[-3:] == ["cellkiosk/console", "status", "--json"]
    assert words[:2] == ["run", "--rm"]
    assert f"{tmp_path}/.kube:/home/kiosk/.kube" in words
    assert words[words.index("KIOSK_URL") - 1] == "--env"
    assert "--tty" not in words


def test_without_docker_the_sentence_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "services" / "console" / "in-docker.sh")],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "needs Docker" in done.stderr
