"""Prices, nodes and shares, against sums worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.cost.nodes import Bill, Node, bill, read_nodes
from services.console.cost.shares import JobUse, divide, use_of
from shared.costs import Use
from shared.costs.prices import load
from shared.errors import InvalidInput, Retry
from shared.jobs import Job


def test_the_bundled_list_prices_machines_with_gpus() -> None:
    prices = load()
    assert prices.hour("n1-standard-4") == 0.19
    assert prices.hour("n1-highmem-2", "nvidia-tesla-t4", 2, spot=True) == pytest.approx(0.0250 + 2 * 0.29)
    assert prices.of("network", "egress") == 0.12


def test_what_has_no_price_is_named_and_never_free() -> None:
    with pytest.raises(InvalidInput, match="no price for the machine 'e9-huge-1'; it knows n1-"):
        load().hour("e9-huge-1")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind,type,on_demand,spot\nmachine,m1,cheap,0\n", "wrong line"),
        ("kind,type,on_demand,spot\nhorse,m1,1,0\n", "wrong line"),
        ("kind,type,on_demand\nmachine,m1,1\n", "wrong line"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(InvalidInput, match=sentence):
        load(str(tmp_path / "mine.csv"))


def test_a_list_of_ones_own_replaces_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.csv").write_text("# of today\nkind,type,on_demand,spot\nmachine,m1,2,1\n")
    monkeypatch.setenv("KIOSK_PRICES", str(tmp_path / "mine.csv"))
    assert load().hour("m1") == 2
    with pytest.raises(InvalidInput, match="no price list '2031-01'; those that come with CellKiosk are 2019-06"):
        load("2031-01")


def test_a_bill_is_the_sum_of_its_nodes_and_traffic() -> None:
    nodes = [
        Node("cpu", "n1-standard-2", "", 0, spot=False, begin=0, end=7200),
        Node("gpu", "n1-highmem-2", "nvidia-tesla-t4", 1, spot=True, begin=1800, end=3600),
    ]
    made = bill(nodes, load(), sent_bytes=3e9)
    assert made.cpu_nodes == pytest.approx(2 * 0.0950)
    assert made.gpu_nodes == pytest.approx(0.5 * (0.0250 + 0.29))
    assert made.network == pytest.approx(0.03)
    assert (made.cpu_seconds, made.gpu_seconds) == (7200, 1800)


def series(value: float, times: list[float], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [[time, str(value)] for time in times]}


def prometheus(answers: dict[str, list[dict[str, Any]]]) -> Any:
    async def query(_path: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
        return next((rows for name, rows in answers.items() if parameters["query"].startswith(name)), [])

    return query


async def test_nodes_are_read_from_old_and_present_labels() -> None:
    whole = [float(t) for t in range(0, 3601, 15)]
    answers = {
        "kube_node_labels": [
            series(1, whole, node="old", label_beta_kubernetes_io_instance_type="n1-standard-1"),
            series(
                1,
                [t for t in whole if t >= 1800],
                node="new",
                label_node_kubernetes_io_instance_type="n1-highmem-2",
                label_cloud_google_com_gke_accelerator="nvidia-tesla-t4",
                label_cloud_google_com_gke_spot="true",
            ),
        ],
        "kube_node_created": [series(1790.0, whole, node="new")],
        'kube_node_status_capacity{resource="nvidia': [series(2, whole, node="new")],
        'kube_node_status_capacity{resource="cpu': [series(4, whole, node="old")],
    }
    old, new = await read_nodes(prometheus(answers), 0.0, 3600.0)
    assert old == Node("old", "n1-standard-1", "", 0, spot=False, begin=0.0, end=3600.0, cpus=4)
    assert new == Node("new", "n1-highmem-2", "nvidia-tesla-t4", 2, spot=True, begin=1790.0, end=3600.0)


async def test_a_node_whose_labels_are_not_told_is_an_error_with_its_remedy() -> None:
    answers = {"kube_node_info": [series(1, [0.0], node="secret")]}
    with pytest.raises(InvalidInput, match=r"node 'secret'.*metric-labels-allowlist"):
        await read_nodes(prometheus(answers), 0.0, 60.0)
    with pytest.raises(Retry, match="saw no node"):
        await read_nodes(prometheus({}), 0.0, 60.0)


def test_a_jobs_use_is_read_from_its_facts() -> None:
    fields = {
        "gpu_seconds": "2.0",
        "cpu_seconds": "1",
        "bytes_in": "30",
        "bytes_out": "4",
        "owner": "ann",
        "batch": "b",
    }
    assert use_of(Job("segmentation:1", fields)) == JobUse("segmentation:1", "ann", "b", Use(2.0, 1.0, 30, 4))
    assert use_of(Job("segmentation:1", {"owner": "ann"})) == JobUse("segmentation:1", "ann", "", Use())


uses = st.lists(
    st.builds(
        JobUse,
        job=st.just("segmentation:1"),
        owner=st.sampled_from(["ann", "ben"]),
        batch=st.just(""),
        use=st.builds(Use, *[st.integers(0, 10**7).map(lambda micros: micros / 1000)] * 4),
    ),
    max_size=20,
)


@given(uses, st.floats(0, 1e5), st.floats(0, 1e5))
def test_all_shares_and_idle_are_the_bill(jobs: list[JobUse], gpu_seconds: float, cpu_seconds: float) -> None:
    paid = Bill(12.0, 30.0, 1.0)
    division = divide(paid, jobs, gpu_seconds=gpu_seconds, cpu_seconds=cpu_seconds)
    assert sum(division.by("owner").values()) + division.idle == pytest.approx(paid.total)
    assert division.idle >= -1e-6
    assert all(share.total >= 0 for share in division.shares)


def test_half_used_nodes_are_half_idle() -> None:
    jobs = [JobUse("a", "ann", "", Use(900.0)), JobUse("b", "ben", "", Use(900.0, 1800.0))]
    division = divide(Bill(2.0, 8.0, 0.0), jobs, gpu_seconds=3600.0, cpu_seconds=3600.0)
    assert division.by("owner") == {"ann": pytest.approx(2.0), "ben": pytest.approx(3.0)}
    assert division.idle == pytest.approx(5.0)
