"""A fault of our own: people get a sentence with the trace by which the operator finds the traceback."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.fixtures.frontend import Served
from tests.fixtures.logs import Lines

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def _crash(*_arguments: object) -> None:
    raise ValueError("broken on purpose")


def _trace_in(sentence: Any) -> str:
    found = re.search(r"\b[0-9a-f]{32}\b", str(sentence))
    assert found, sentence
    assert "broken" not in str(sentence)
    return found[0]


async def test_the_answer_names_the_trace_of_the_log(
    served: Served, logged: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(served.store), "owned", _crash)
    monkeypatch.setattr(type(served.store), "submit", _crash)
    status, answer = await served.get("/api/v1/jobs")
    assert status == 500
    order = {"jobType": "segmentation", "imageName": "x.tif", "imageUrl": "https://lab.example/x.tif"}
    also, message = await served.post("/api/predict", order, traceparent=CALLER)
    assert also == 500
    crashes = [line for line in logged() if line["event"] == "request-crashed"]
    assert [line["trace_id"] for line in crashes] == [_trace_in(answer["detail"]), _trace_in(message["message"])]
    assert crashes[1]["trace_id"] == CALLER.split("-")[1], "the caller's own"
    assert all("ValueError: broken on purpose" in line["exception"] for line in crashes)
