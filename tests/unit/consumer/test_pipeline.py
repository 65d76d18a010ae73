"""Where job types are found, and how their options are checked."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest
from pydantic import Field

from services.consumer import pipeline as module
from services.consumer.pipeline import Options, Pipeline, discover
from services.consumer.tools import Tools
from services.consumer.worker import Done, Outcome
from services.frontend.catalogue import checked_options
from shared.errors import InvalidInput, Misconfigured
from shared.jobs import Job


class CountOptions(Options):
    threshold: int = Field(100, ge=0, title="Threshold")


class Count(Pipeline[CountOptions]):
    job_type = "count"
    title = "Count"
    Options = CountOptions

    async def run(self, job: Job, tools: Tools) -> Outcome:
        return Done({"count": str(self.options(job).threshold)})


class Twin(Count):
    job_type = "segmentation"


def offer(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    entries = [importlib.metadata.EntryPoint(name, f"{__name__}:{name}", module.ENTRY_POINTS) for name in names]
    monkeypatch.setattr(module, "entry_points", lambda group: entries if group == module.ENTRY_POINTS else [])
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda entry: globals()[entry.name])


def test_the_folder_holds_the_contracts_job_types() -> None:
    found = discover()
    assert {"segmentation", "mesmer", "tracking", "polaris", "spot", "archive"} <= set(found)
    assert found["tracking"].aliases == ("caliban",)
    assert min(found.values(), key=lambda pipeline: pipeline.rank).job_type == "segmentation"


def test_an_installed_package_adds_a_job_type(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "Count")
    described = type(discover(["count"])["count"]).described()
    assert described.options_schema["properties"]["threshold"] == {
        "default": 100,
        "minimum": 0,
        "title": "Threshold",
        "type": "integer",
    }


def test_two_job_types_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "Twin")
    with pytest.raises(Misconfigured, match="The job type segmentation is defined twice"):
        discover()


def test_an_entry_point_that_is_no_pipeline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "CountOptions")
    with pytest.raises(Misconfigured, match="is not a subclass of Pipeline"):
        discover()


def test_a_job_type_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(Misconfigured, match=r"There is no job type 'unknown' to serve; there are .*segmentation"):
        discover(["unknown"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ('{"threshold": -1}', "The option threshold is wrong"),
        ('{"threshold": "many"}', "The option threshold is wrong"),
        ('{"other": 1}', "The option other is wrong"),
    ],
)
def test_wrong_options_name_themselves(options: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Count().options(Job("count:" + "0" * 32, {"options": options}))


@pytest.mark.parametrize("kind", discover().values(), ids=lambda kind: kind.job_type)
def test_every_option_tells_people_what_it_is(kind: Pipeline[Any]) -> None:
    schema = type(kind).described().options_schema
    assert all(option.get("title") for option in schema.get("properties", {}).values())


@pytest.mark.parametrize("job_type", ["segmentation", "mesmer", "tracking", "polaris", "spot"])
def test_axes_and_channels_that_cannot_be_are_refused_before_any_work(job_type: str) -> None:
    kind = discover()[job_type].described()
    for order in ("", "XY", "xyc", "BXYC", "TYX", "CXYB"):
        checked_options(kind, {"dimension_order": order, "channels": [0, 2]})
    for wrong in (
        {"dimension_order": "QQ"},
        {"dimension_order": "X" * 50},
        {"channels": [-1]},
        {"channels": [0] * 300},
    ):
        with pytest.raises(InvalidInput, match=f"The option {next(iter(wrong))}"):
            checked_options(kind, wrong)
