"""Log lines: read, chosen, shown, followed; from files, and from pods through a stand-in of kubectl."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from services.console import commands
from services.console.logs import pods, sources
from services.console.logs.lines import Line, Wish, read, shown, span
from shared.errors import InvalidInput


def entry(second: int, event: str, level: str = "info", service: str = "frontend", **more: object) -> str:
    stamp = f"2020-02-03T15:00:{second:02d}Z"
    return json.dumps({"event": event, "level": level, "timestamp": stamp, "service": service, **more})


def stamp(second: int) -> str:
    """The node's time of a line, as kubectl tells it."""
    return f"2020-02-03T15:00:{second:02d}.000000000Z"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "frontend.log").write_text(
        "\n".join([entry(1, "file-stored", key="uploads/a b"), entry(3, "job-submitted", job="segmentation:1")]) + "\n"
    )
    (logs / "autoscaler.log").write_text(
        "\n".join(
            [
                entry(2, "scaling-decided", service="autoscaler"),
                entry(4, "job-failed", "error", "consumer", job="segmentation:1"),
                "Traceback of something",
            ]
        )
        + "\n"
    )
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> list[str]:
    assert commands.main(["logs", "--data", str(data), *words]) == 0
    return capsys.readouterr().out.splitlines()


def event(line: str) -> str:
    """The fourth column."""
    return line[33:].split()[0]


def test_lines_of_all_services_come_in_the_order_of_their_times(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    told = run(capsys, data)
    assert [event(line) for line in told[:4]] == ["file-stored", "scaling-decided", "job-submitted", "job-failed"]
    assert 'key="uploads/a b"' in told[0]
    assert told[4].endswith("Traceback of something")


def test_lines_are_chosen_by_service_job_level_and_number(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert [event(line) for line in run(capsys, data, "consumer")[:1]] == ["job-failed"]
    with (data / "logs" / "autoscaler.log").open("a") as file:
        file.writelines(entry(5, "scaling-decided", service="autoscaler") + "\n" for _ in range(9))
    assert [event(line) for line in run(capsys, data, "consumer", "--tail", "2")[:1]] == ["job-failed"]
    assert len(run(capsys, data, "--job", "segmentation:1")) == 2
    assert len(run(capsys, data, "--level", "error")) == 1
    assert len(run(capsys, data, "--tail", "1")) == 1
    assert json.loads(run(capsys, data, "--level", "error", "--json")[0])["event"] == "job-failed"
    assert run(capsys, data, "--since", "1h", "--level", "error") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["bakery"], "There is no log of 'bakery'"),
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--tail", "-1"], "--tail is -1"),
    ],
)
def test_wrong_wishes_get_a_sentence(
    capsys: pytest.CaptureFixture[str], data: Path, words: list[str], sentence: str
) -> None:
    assert commands.main(["logs", "--data", str(data), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_times_are_read() -> None:
    assert [span(text) for text in ("90", "90s", "10m", "1.5h", "2d")] == [90, 90, 600, 5400, 172800]
    with pytest.raises(InvalidInput):
        span("5 weeks")


def test_what_is_not_told_takes_no_room_and_letters_stay_readable() -> None:
    line = shown(read("x", entry(1, "scaled", reason="0 → 1, für uns", going=None)), colour=False)
    assert line.endswith('scaled  reason="0 → 1, für uns"')
    assert line.startswith("03 Feb 1"), "a line of another day tells it"


def test_colours_are_for_terminals() -> None:
    line = read("x", entry(1, "broken", "error"))
    assert shown(line, colour=True).startswith("\033[31m")
    assert "\033" not in shown(line, colour=False)
    assert read("x", "{not json") == Line("x", "{not json")


async def test_new_lines_are_followed_also_after_a_file_was_put_aside(data: Path) -> None:
    path = data / "logs" / "frontend.log"
    seen: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(
        sources.follow({"frontend": path}, Wish("warning"), lambda line: seen.put_nowait(line.fields["event"]))
    )
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        with path.open("a") as file:
            file.write(entry(5, "quiet") + "\n" + entry(6, "loud", "error") + "\n")
        assert await seen.get() == "loud"
        path.write_text(entry(7, "anew", "error") + "\n")
        assert await seen.get() == "anew"
    task.cancel()


PODS = {
    "items": [
        {
            "metadata": {"name": f"kiosk-{part}-0", "labels": {"app.kubernetes.io/component": part}},
            "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": "Running"},
        }
        for part in ("frontend", "consumer")
    ]
}


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that lists two pods and prints one line for each; writes down how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "pods.json").write_text(json.dumps(PODS))
    program = folder / "kubectl"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {folder}/calls\n'
        'case "$*" in\n'
        f"  *'get pods'*) cat {folder}/pods.json ;;\n"
        """  *'logs '*) echo '{"event":"hello","level":"info","service":"frontend"}' ;;\n"""
        "  *) echo 'error: the server is asleep' >&2; exit 1 ;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_the_logs_of_pods_are_shown(capsys: pytest.CaptureFixture[str], kubectl: Path) -> None:
    words = ["logs", "--kubernetes", "--namespace", "lab", "--context", "gke", "--tail", "7", "frontend", "consumer"]
    assert commands.main(words) == 0
    assert capsys.readouterr().out.count("hello") == 2
    calls = (kubectl / "calls").read_text()
    assert "--context gke --namespace lab get pods --selector" in calls
    assert "app.kubernetes.io/component in (frontend,consumer)" in calls
    assert "logs kiosk-consumer-0 --container=main --timestamps --tail=7" in calls


def test_the_lines_of_all_pods_come_in_the_order_of_their_times(
    capsys: pytest.CaptureFixture[str], kubectl: Path
) -> None:
    """What each pod says is more than is asked for; it is cut for all together, and searched far back."""
    program = (kubectl / "kubectl").read_text()
    said = {
        "frontend": [f"{stamp(n)} {entry(n, f'f{n}')}" for n in (1, 3, 5)],
        "consumer": [f"{stamp(2)} {entry(2, 'c2', 'error', 'consumer')}", f"{stamp(4)} no JSON"],
    }
    echoes = ""
    for part, lines in said.items():
        (kubectl / part).write_text("\n".join(lines) + "\n")
        echoes += f"  *'logs kiosk-{part}-0'*) cat {kubectl / part} ;;\n"
    (kubectl / "kubectl").write_text(program.replace("  *'logs '*)", echoes + "  *'logs '*)"))
    assert commands.main(["logs", "--kubernetes", "--tail", "3"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in told] == ["f3", "JSON", "f5"]
    assert commands.main(["logs", "--kubernetes", "--tail", "0"]) == 0
    assert capsys.readouterr().out == ""
    assert commands.main(["logs", "--kubernetes", "--tail", "3", "--level", "error", "--since", "9999d"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert f"--tail={pods._FAR} --since-time=" in (kubectl / "calls").read_text()


def test_a_cluster_that_does_not_answer_is_told_in_its_words(capsys: pytest.CaptureFixture[str], kubectl: Path) -> None:
    assert commands.main(["forward"]) == 1
    assert "The cluster cannot be asked: the server is asleep" in capsys.readouterr().err


def test_without_kubectl_the_sentence_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commands.main(["logs", "--kubernetes"]) == 2
    assert "needs the program kubectl" in capsys.readouterr().err


def test_services_are_found_by_their_part(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.console import forward

    listed = {
        "items": [
            {
                "metadata": {"name": "lab-cellkiosk-frontend", "labels": {"app.kubernetes.io/component": "frontend"}},
                "spec": {"ports": [{"port": 9090}, {"port": 8080}]},
            },
            {"metadata": {"name": "monitoring-grafana"}, "spec": {"ports": [{"port": 80}]}},
            {"metadata": {"name": "other"}, "spec": {"ports": [{"port": 1}]}},
        ]
    }
    monkeypatch.setattr(forward.kubectl, "read", lambda *_asked, **_where: listed)
    assert forward.services(["kubectl"]) == {
        "frontend": ("lab-cellkiosk-frontend", 8080),
        "grafana": ("monitoring-grafana", 80),
    }


def test_what_cannot_be_forwarded_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["forward", "teapot"]) == 2
    assert "'teapot' cannot be forwarded; these can: frontend" in capsys.readouterr().err


def test_the_parser_knows_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands.COMMANDS:
        if command.name in ("simulate", "cluster"):
            continue
        with pytest.raises(SystemExit) as left:
            commands.main([command.name, "--help"])
        assert left.value.code == 0
    assert "usage: kiosk up" in capsys.readouterr().out
