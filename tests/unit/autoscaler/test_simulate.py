"""The simulation: its arithmetic against queueing theory and hand-made cases, its policies, its bound, its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from services.autoscaler.simulate import arrivals, published
from services.autoscaler.simulate.arrivals import DAY, Workload
from services.autoscaler.simulate.clairvoyant import least_node_hours
from services.autoscaler.simulate.cluster import ClusterModel
from services.autoscaler.simulate.command import main
from services.autoscaler.simulate.compare import compare
from services.autoscaler.simulate.engine import Change, Simulation
from services.autoscaler.simulate.policies import Fixed, HpaToZero, KedaHpa, OldScaler, Ours
from services.autoscaler.targets import Target

INSTANT = ClusterModel(boot=0, boot_spread=0, start=0, linger=0, price=1.0)
TARGET = Target(
    name="t", max_replicas=50, max_wait=600, service_seconds=10, start_seconds=170, cooldown=30, stabilisation_window=30
)


def jobs(at: list[float], service: float, duration: float = 0.0) -> Workload:
    return Workload("test", np.array(at, float), np.full(len(at), service), duration)


def test_a_fixed_pool_works_through_a_batch() -> None:
    outcome = Simulation(jobs([0.0] * 10, 6.0), INSTANT, Fixed(2)).run()
    assert outcome.empty_at == pytest.approx(30)
    assert sorted(outcome.waits) == pytest.approx([0, 0, 6, 6, 12, 12, 18, 18, 24, 24])
    assert outcome.node_hours == pytest.approx(2 * 30 / 3600)


def test_slots_are_as_fast_together_as_one_by_one() -> None:
    cluster = ClusterModel(boot=0, boot_spread=0, start=0, linger=0, slots=4)
    assert Simulation(jobs([0.0] * 8, 6.0), cluster, Fixed(1)).run().empty_at == pytest.approx(48)


def test_waits_are_those_of_queueing_theory() -> None:
    """M/M/1 with load 0.7: the mean wait is 0.7 / 0.3 service times (Pollaczek and Khinchine)."""
    random = np.random.default_rng(3)
    count = 60_000
    at = np.cumsum(random.exponential(10.0, count))
    workload = Workload("M/M/1", at, random.exponential(7.0, count), 0.0)
    waits = Simulation(workload, INSTANT, Fixed(1)).run().waits
    assert waits.mean() == pytest.approx(7.0 * 0.7 / 0.3, rel=0.1)


def test_cold_starts_and_lingering_nodes_are_billed() -> None:
    cluster = ClusterModel(boot=100, boot_spread=0, start=20, linger=600, price=3600.0)
    outcome = Simulation(jobs([0.0], 30.0), cluster, OldScaler()).run()
    assert outcome.waits[0] == pytest.approx(120)
    # The node is there from the wish at 0 until 600 s after the scaler saw the queue empty, at 150 or 155 s.
    assert outcome.money == pytest.approx(150 + 600, abs=6)


def test_a_node_that_lingers_is_taken_again() -> None:
    cluster = ClusterModel(boot=100, boot_spread=0, start=20, linger=600)
    outcome = Simulation(jobs([0.0, 400.0], 30.0), cluster, OldScaler()).run()
    assert outcome.waits[1] == pytest.approx(20, abs=6)
    assert outcome.node_hours * 3600 == pytest.approx(450 + 600, abs=12), "one node, not two"


def test_preempted_nodes_lose_no_job() -> None:
    cluster = ClusterModel(boot=10, start=5, linger=0, preempted=60.0, grace=5.0)
    outcome = Simulation(jobs([0.0] * 200, 20.0), cluster, Fixed(4)).run()
    assert (outcome.waits >= 0).all()
    assert outcome.redone > 0


def test_a_busy_replica_that_is_told_to_go_hands_its_job_back() -> None:
    class Shrink(Fixed):
        def look(self, now: float, world: Simulation) -> tuple[Change | None, float]:
            return (Change(1), float("inf")) if now >= 50 else (Change(2), 50.0)

    cluster = ClusterModel(boot=0, boot_spread=0, start=0, linger=0, grace=30.0)
    outcome = Simulation(jobs([0.0, 0.0], 100.0), cluster, Shrink(2)).run()
    assert outcome.redone == 1
    assert outcome.empty_at == pytest.approx(200)


@pytest.mark.parametrize("kind", ["day", "bursts"])
def test_ours_is_near_the_bound_and_below_every_other_at_equal_wait(kind: str) -> None:
    random = np.random.default_rng(5)
    at = arrivals.day(6000, DAY, random) if kind == "day" else arrivals.bursts(6000, DAY, random, 12)
    workload = Workload(kind, at, arrivals.service_times(6000, 66.0, 0.5, random), DAY)
    target = TARGET.model_copy(update={"max_wait": 1800.0, "service_seconds": 66.0, "max_replicas": 200})
    found = compare(workload, ClusterModel(), target, rest=5.0)
    assert found.optimum is not None
    ours = found.rows[0]
    assert found.optimum <= ours.node_hours <= 1.3 * found.optimum
    for row in found.rows[1:]:
        if row.outcome is not None and row.outcome.wait(99) <= found.ours.wait(99):
            assert row.money > ours.money, f"{row.name} is cheaper and no slower"
    assert found.ours.redone == 0, "ours interrupts nobody"


def test_jobs_that_gather_share_nodes_and_wait_no_longer_than_they_may() -> None:
    random = np.random.default_rng(5)
    service = arrivals.service_times(300, 13.3, 0.5, random)
    workload = Workload("a light day", arrivals.day(300, DAY, random), service, DAY)
    target = TARGET.model_copy(update={"max_wait": 1800.0, "service_seconds": 13.3})
    at_once = Simulation(workload, ClusterModel(), Ours(target, rest=5.0)).run()
    gathered = Simulation(
        workload, ClusterModel(), Ours(target.model_copy(update={"gather_seconds": 1500.0}), rest=5.0)
    ).run()
    assert gathered.node_hours < 0.7 * at_once.node_hours
    assert gathered.wait(99) < 1800


def test_nobody_is_cheaper_than_the_bound() -> None:
    random = np.random.default_rng(8)
    workload = Workload("b", arrivals.bursts(800, 20_000, random, 5), np.full(800, 40.0), 20_000.0)
    cluster = ClusterModel(boot_spread=0.0)
    for policy in (Ours(TARGET, rest=1.0), KedaHpa(10, 50), HpaToZero(10, 50), Fixed(6)):
        outcome = Simulation(workload, cluster, policy).run()
        assert least_node_hours(workload, cluster, outcome.wait(99)) <= outcome.node_hours


def test_a_wait_that_is_longer_is_never_dearer_for_the_bound() -> None:
    random = np.random.default_rng(9)
    workload = Workload("d", arrivals.day(3000, DAY, random), np.full(3000, 60.0), DAY)
    bounds = [least_node_hours(workload, ClusterModel(), wait) for wait in (60.0, 600.0, 6000.0)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] >= workload.work * 0.99 / 3600


def test_the_published_run_is_arrived_at() -> None:
    outcome, bill = published.run(published.old_setup())
    assert bill.hours == pytest.approx(published.HOURS, rel=0.01)
    assert bill.total == pytest.approx(published.MONEY, rel=0.1)
    assert outcome.redone == 0


def test_two_simulated_hours_of_noise_neither_flap_nor_lose() -> None:
    random = np.random.default_rng(4)
    hours = 2 * 3600.0
    at = np.sort(np.concatenate([arrivals.constant(2000, hours, random), arrivals.bursts(1500, hours, random, 9)]))
    target = TARGET.model_copy(update={"cooldown": 120.0, "stabilisation_window": 120.0})
    cluster = ClusterModel(preempted=1.0)
    outcome = Simulation(Workload("soak", at, random.exponential(8.0, len(at)), hours), cluster, Ours(target)).run()
    assert (outcome.waits >= 0).all()
    changes = np.diff(outcome.sizes[:, 1])
    directions = np.sign(changes[changes != 0])
    turns = int(((directions[:-1] > 0) & (directions[1:] < 0)).sum())
    assert turns <= 1 + outcome.sizes[-1, 0] / 120.0
    assert outcome.sizes[:, 1].max() <= 50


def test_a_price_list_of_ones_own_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("kind,type,on_demand,spot\nmachine,ours,36000,18000\n")
    monkeypatch.setenv("KIOSK_PRICES", str(mine))
    options = ["--jobs", "10", "--hours", "1", "--policies", "old", "--machine", "ours", "--gpu", "", "--json"]
    assert main([*options, str(tmp_path / "full.json")]) == 0
    assert main([*options, str(tmp_path / "spot.json"), "--preemptible"]) == 0
    full, spot = (json.loads((tmp_path / f"{name}.json").read_text())["policies"][0] for name in ("full", "spot"))
    assert full["money"] == pytest.approx(36000 * full["gpu_hours"])
    assert spot["money"] == pytest.approx(full["money"] / 2)


def test_the_command_prints_plots_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--jobs", "300", "--service", "60", "--hours", "3", "--rest", "5", "--max", "20"]
    plot, figures = tmp_path / "plot.svg", tmp_path / "figures.json"
    assert main([*common, "--arrivals", "bursts", "--bursts", "3", "--plot", str(plot), "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "CellKiosk" in said
    assert "clairvoyant lower bound" in said
    assert plot.read_text().startswith("<?xml")
    assert json.loads(figures.read_text())["jobs"] == 300


def test_the_command_reads_measured_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, service = tmp_path / "trace", tmp_path / "service"
    trace.write_text("# s since the epoch\n100\n160\n\n220,ignored\n")
    service.write_text("10\n20\n30\n")
    options = ["--arrivals", "trace", "--trace", str(trace), "--service-file", str(service), "--policies", "old"]
    assert main(options) == 0
    assert "3 jobs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--arrivals", "trace"], "--trace FILE"),
        (["--policies", "magic"], "no policy 'magic'"),
        (["--gpu", "abacus"], "no price for the gpu 'abacus'"),
        (["--prices", "1999"], "no price list '1999'"),
        (["--target", "{"], "target cannot be simulated"),
        (["--target", '{"min_replicas": 9, "max_replicas": 2}'], "min_replicas is 9"),
        (["--service-file", "/nonexistent"], "cannot be read"),
        (["--jobs", "50", "--plot", "plot.pdf", "--policies", "old"], ".png or .svg"),
    ],
)
def test_a_wrong_wish_gets_one_sentence(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(wrong) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_file_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace"
    trace.write_text("1\nsoon\n")
    assert main(["--arrivals", "trace", "--trace", str(trace)]) == 2
    assert "Line 2" in capsys.readouterr().err
