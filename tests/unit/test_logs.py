"""Log lines: JSON with the trace's id, from our code and from libraries, and nothing secret in them."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from shared.telemetry import span, trace_id
from tests.fixtures.logs import Lines

log = structlog.get_logger("test")


@pytest.mark.parametrize(
    "name", ["password", "redis_password", "api_key", "API-Key", "Authorization", "cookie", "token"]
)
def test_what_is_named_like_a_secret_is_blanked_however_deep(logged: Lines, name: str) -> None:
    log.info("asked", **{name: "hush"}, headers={name: "hush", "Accept": "text/html"}, several=[{name: ["hush"]}])
    (line,) = logged()
    assert "hush" not in json.dumps(line)
    assert line["headers"]["Accept"] == "text/html"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hush@store:6379/0 is away", "redis://:***@store:6379/0 is away"),
        ("redis+sentinel://me:hush@a:1,b:2/kiosk", "redis+sentinel://me:***@a:1,b:2/kiosk"),
        ("refused: Authorization: Bearer hush.hush-hush", "refused: Authorization: Bearer ***"),
        (
            "GET https://storage.example/b/o?X-Goog-Expires=60&X-Goog-Signature=hush&x=1",
            "GET https://storage.example/b/o?X-Goog-Expires=60&X-Goog-Signature=***&x=1",
        ),
        (
            "PUT https://storage.example/upload/b/o?uploadType=resumable&upload_id=hush",
            "PUT https://storage.example/upload/b/o?uploadType=resumable&upload_id=***",
        ),
        ("https://lab.example/hook?token=hush#top", "https://lab.example/hook?token=***#top"),
        (
            "see http://store:8080/results/a.zip?x=1, or key=value",
            "see http://store:8080/results/a.zip?x=1, or key=value",
        ),
    ],
)
def test_secrets_within_texts_are_blanked_and_the_rest_is_kept(logged: Lines, text: str, shown: str) -> None:
    log.warning("failed", error=text)
    logging.getLogger("library").warning(text)
    ours, theirs = logged()
    assert ours["error"] == shown
    assert theirs["event"] == shown


def test_secrets_in_a_traceback_are_blanked(logged: Lines) -> None:
    try:
        raise ValueError("redis://:hush@store:6379/0")
    except ValueError:
        log.exception("crashed")
    assert "ValueError" in logged()[0]["exception"]
    assert "hush" not in json.dumps(logged())


def test_on_a_terminal_a_traceback_shows_no_secret_and_no_variable(
    logged_readably: io.StringIO,
) -> None:
    def connect(settings: dict[str, str]) -> None:
        raise ValueError(f"cannot reach redis://:hush@{settings['host']}:6379/0")

    try:
        connect({"host": "store", "signs": " for ".join(("not", "eyes"))})
    except ValueError:
        log.exception("crashed")
        logging.getLogger("library").exception("crashed too")
    shown = logged_readably.getvalue()
    assert shown.count("ValueError: cannot reach redis://:***@store:6379/0") == 2
    assert "hush" not in shown
    assert "not for eyes" not in shown


def test_each_line_within_a_trace_has_its_id(logged: Lines) -> None:
    with span("request"):
        log.info("ours")
        logging.getLogger("library").error("theirs")
        told = trace_id()
    log.info("outside")
    assert [line.get("trace_id") for line in logged()] == [told, told, None]
