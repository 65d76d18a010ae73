"""The data folder and the choice of ports."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
from pathlib import Path

import pytest

from services.console.shell import environment
from services.console.up import ports
from services.console.up.place import Place, Running
from services.console.up.plan import ROOT
from shared.errors import Misconfigured


@pytest.fixture
def listener() -> socket.socket:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def test_a_taken_port_is_not_free_and_its_owner_is_named(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert not ports.is_free(port)
    assert f"process {os.getpid()}" in ports.owner(port)
    taken: set[int] = set()
    assert ports.take(port, taken=taken) != port
    assert ports.next_free(port, "127.0.0.1", taken) not in (port, 0)
    assert len(taken) == 2


def test_no_port_is_given_twice() -> None:
    taken: set[int] = set()
    first = ports.take(0, taken=taken)
    assert ports.take(first, taken=taken) != first


def test_an_address_of_another_machine_is_refused_with_a_sentence() -> None:
    with pytest.raises(Misconfigured, match="Nobody here may listen at 192\\.0\\.2\\.1:8080"):
        ports.is_free(8080, "192.0.2.1")


def running(pid: int = 7) -> Running:
    return Running(pid, "http://127.0.0.1:8080", "redis://:secret@127.0.0.1:1/0", "file:///x", "grpc://h:1", {})


def test_one_supervisor_holds_a_folder(tmp_path: Path) -> None:
    place, other = Place(tmp_path / "data"), Place(tmp_path / "data")
    assert other.running() is None
    with place.alone():
        place.write(running())
        assert other.running() == running()
        with (
            pytest.raises(Misconfigured, match=r"runs already at http://127\.0\.0\.1:8080 \(process 7\)"),
            other.alone(),
        ):
            pass
    assert other.running() is None
    assert other.last() == running()
    with other.alone():
        pass


def test_secrets_are_for_this_user_only(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.alone():
        place.write(running())
        assert place.password() == place.password()
        for name in ("running.json", "redis/password"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Misconfigured, match=r"The data folder .*file/data cannot be used"),
        Place(tmp_path / "file/data").alone(),
    ):
        pass


def test_a_damaged_state_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "running.json").write_text('{"pid": ')
    assert Place(tmp_path).last() is None


def test_a_shell_has_the_command_and_the_python_of_the_services() -> None:
    running = Running(1, "http://127.0.0.1:1", "redis://x", "file:///x", "", costs={"KIOSK_COST__CPUS": "4"})
    variables = environment(running)
    path = variables["PATH"]
    assert shutil.which("kiosk", path=path) == str(ROOT / "kiosk")
    assert Path(str(shutil.which("python", path=path))).parent == Path(sys.executable).parent
    assert variables["KIOSK_COST__CPUS"] == "4"
