"""The supervisor with small stand-in programs: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from services.console.up.keeper import Keeper, Pace, Part, how
from services.console.up.supervisor import Supervisor

QUICK = Pace(first=0.01, longest=0.02, tries=3)


async def content() -> str:
    return ""


def when(path: Path) -> Callable[[], Coroutine[Any, Any, str]]:
    async def problem() -> str:
        return "" if path.exists() else f"{path.name} is missing"

    return problem


def shell(name: str, script: str, *, stage: int = 1, grace: float = 5.0, problem: Any = content) -> Part:
    return Part(name, ("sh", "-c", script), problem, dict(os.environ), stage=stage, grace=grace)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def supervise(tmp_path: Path, *parts: Part) -> tuple[Supervisor, list[str]]:
    said: list[str] = []
    return Supervisor(parts, tmp_path, said.append, QUICK), said


async def test_starts_the_stages_in_order_and_leaves_no_process(tmp_path: Path) -> None:
    order = tmp_path / "order"
    child = "sleep 1000 & echo $! > {pid}; trap 'echo stop-{n} >> {o}; exit 0' TERM; echo start-{n} >> {o}; wait"
    parts = [
        shell("late", child.format(n="late", o=order, pid=tmp_path / "late.pid"), problem=when(tmp_path / "late.pid")),
        shell(
            "early",
            child.format(n="early", o=order, pid=tmp_path / "early.pid"),
            stage=0,
            problem=when(tmp_path / "early.pid"),
        ),
    ]
    supervisor, said = supervise(tmp_path, *parts)
    running = asyncio.create_task(supervisor.run(20, lambda: said.append("READY")))
    await until(lambda: "READY" in said and order.read_text().count("start") == 2)
    pids = [keeper.pid for keeper in supervisor.keepers] + [int(f.read_text()) for f in tmp_path.glob("*.pid")]
    assert all(alive(pid) for pid in pids if pid)
    supervisor.stopping.set()
    assert await running == 0
    assert order.read_text().split() == ["start-early", "start-late", "stop-late", "stop-early"]
    await until(lambda: not any(alive(pid) for pid in pids if pid))


async def test_a_part_that_dies_is_started_again(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    supervisor, said = supervise(tmp_path, shell("frail", f"echo x >> {lives}; exec sleep 1000"))
    running = asyncio.create_task(supervisor.run(20, lambda: said.append("READY")))
    await until(lambda: "READY" in said)
    keeper = supervisor.keepers[0]

    def begun() -> int:
        return lives.read_text().count("x") if lives.exists() else 0

    for life in range(1, 6):  # more often than a start may fail: it has been ready before
        await until(lambda n=life: begun() == n and keeper.pid and keeper.ready.is_set())
        keeper.kill()
    await until(lambda: begun() == 6)
    assert any("frail was ended by SIGKILL; starting it again" in line for line in said)
    assert "frail works again" in said
    assert said.count("READY") == 1
    supervisor.stopping.set()
    assert await running == 0


@pytest.mark.parametrize(("code", "times"), [(1, 3), (2, 1)])
async def test_a_part_that_cannot_start_is_named_with_its_last_words(tmp_path: Path, code: int, times: int) -> None:
    script = f"echo try >> {tmp_path}/tries; echo 'the disk is made of cheese' >&2; exit {code}"
    good = shell("good", "exec sleep 1000", stage=0)
    supervisor, said = supervise(tmp_path, good, shell("bad", script, problem=when(tmp_path / "never")))
    assert await supervisor.run(20, lambda: said.append("READY")) == 1
    assert "READY" not in said
    assert (tmp_path / "tries").read_text().count("try") == times
    text = "\n".join(said)
    assert f"bad cannot be started: it ended with exit code {code}" in text
    assert "the disk is made of cheese" in text
    assert supervisor.keepers[0].pid is None


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    supervisor, said = supervise(tmp_path, Part("gone", ("/no/such/program",), content, dict(os.environ)))
    assert await supervisor.run(20, lambda: None) == 1
    assert "/no/such/program cannot be started: No such file or directory." in said


async def test_a_start_that_takes_too_long_says_what_is_missing(tmp_path: Path) -> None:
    supervisor, said = supervise(tmp_path, shell("slow", "exec sleep 1000", problem=when(tmp_path / "weights")))
    assert await supervisor.run(0.3, lambda: said.append("READY")) == 1
    assert "slow did not begin to work in time: weights is missing" in "\n".join(said)


async def test_what_ignores_sigterm_is_killed_after_its_grace_or_when_hurried(tmp_path: Path) -> None:
    stubborn = f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 1000; done"
    for grace, hurried in ((0.1, False), (1000.0, True)):
        supervisor, said = supervise(tmp_path, shell("mule", stubborn, grace=grace, problem=when(tmp_path / "up")))
        running = asyncio.create_task(supervisor.run(20, lambda: said.append("READY")))  # noqa: B023
        await until(lambda: "READY" in said)  # noqa: B023
        supervisor.stopping.set()
        if hurried:
            supervisor.hurry.set()
        async with asyncio.timeout(10):
            assert await running == 0


async def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.console.up.keeper.LARGEST_LOG", 100)
    keeper = Keeper(shell("talker", "true"), tmp_path / "talker.log", print)
    keeper.log.write_text("a line of thirty characters...\n" * 4)
    keeper.trim_log()
    assert keeper.log.read_text() == ""
    assert (tmp_path / "talker.log.1").read_text().count("\n") == 4
    assert keeper.tail() == []


def test_ends_are_told_in_words() -> None:
    assert [how(3), how(-9), how(-64)] == [
        "ended with exit code 3",
        "was ended by SIGKILL",
        "was ended by SIGRTMAX",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
async def test_the_parts_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, os
from pathlib import Path
from services.console.up.keeper import Part
from services.console.up.supervisor import Supervisor
async def content(): return ""
part = Part("part", ("sleep", "1000"), content, dict(os.environ))
async def main():
    supervisor = Supervisor([part], Path({str(tmp_path)!r}), print)
    await supervisor.run(20, lambda: print(supervisor.keepers[0].pid, flush=True))
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    words: list[bytes] = []
    async with asyncio.timeout(20):
        while not (words and words[-1].strip().isdigit()):
            words.append(await process.stdout.readline())
            assert words[-1], "the supervisor ended by itself"
    pid = int(words[-1])
    assert alive(pid)
    process.kill()
    await process.wait()
    await until(lambda: not alive(pid))
