"""Evidence rows, recomputed by hand from the pictures of runs that a user would make."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from otcache_policies import (
    EdgeSettings,
    EdgeTable,
    MeanCachePolicy,
    OTCachePolicy,
    Schedule,
    UniformPolicy,
)
from scipy import stats

import otcache_plugin
from otcache_plugin.calibration.evidence.peers import peers
from otcache_plugin.calibration.evidence.rows import (
    evidence_row,
    evidence_rows,
    evidence_runs,
    methods_of,
)
from otcache_plugin.calibration.otcache import OTCacheCalibrator
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.outputs import generate
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

STEPS = 10
ARGUMENTS = {"num_inference_steps": STEPS}
METHODS = ("fewer-steps", "uniform", "meancache", "otcache")
METRICS = (plugin_host().metric("psnr"), plugin_host().metric("mse"))


@pytest.fixture
def graph(random_table: Callable[[int, int], EdgeTable]) -> MeanCachePolicy:
    return MeanCachePolicy(random_table(STEPS, 0), EdgeSettings("displacement", 2.0, 2))


@pytest.fixture
def otcache(graph: MeanCachePolicy) -> OTCachePolicy:
    anchor = Schedule([0, 1, 5, 9], STEPS, [1, 3, 2])
    waypoint = Schedule([0, 1, 3, 5, 9], STEPS, [1, 2, 1, 2])
    return OTCachePolicy(anchor, graph.schedule(7), 1.1, graph.edges, graph.settings, [waypoint])


def schedules_by_hand(
    otcache: OTCachePolicy, graph: MeanCachePolicy, budget: int
) -> dict[str, Schedule]:
    steps = UniformPolicy(STEPS).schedule(budget).computed_steps
    return {
        "fewer-steps": Schedule(range(budget), budget),
        # Peers run with the look-back rule of the graph policy, here 2 wherever steps are cached.
        "uniform": Schedule(steps, STEPS, [2 if gap > 1 else 1 for gap in np.diff(steps)]),
        "meancache": graph.schedule(budget),
        "otcache": otcache.schedule(budget),
    }


def test_schedules_of_every_method(otcache: OTCachePolicy, graph: MeanCachePolicy) -> None:
    budgets = (4, 5, 6, 7)
    found = evidence_runs(methods_of("otcache", otcache, OTCacheCalibrator()), budgets)
    assert list(found) == [(budget, name) for budget in budgets for name in METHODS]
    for budget in budgets:
        for name, schedule in schedules_by_hand(otcache, graph, budget).items():
            assert found[budget, name] == schedule
    assert (found[4, "otcache"], found[5, "otcache"]) == (otcache.anchor, *otcache.waypoints)
    assert found[7, "otcache"] == found[7, "meancache"]


def test_peers_are_the_policies_weakest_first(
    otcache: OTCachePolicy, graph: MeanCachePolicy
) -> None:
    found = peers(otcache, graph)
    assert list(found) == ["uniform", "meancache", "otcache"]
    by_hand = schedules_by_hand(otcache, graph, 5)
    assert {name: schedule(5) for name, schedule in found.items()} == {
        name: by_hand[name] for name in found
    }


def test_rows_are_what_a_user_would_measure(
    setup: ModelSetup, otcache: OTCachePolicy, graph: MeanCachePolicy
) -> None:
    pairs = setup.held_out_pairs(4)
    evaluator = Evaluator(setup.pipe, pairs, ARGUMENTS)
    schedules = evidence_runs(methods_of("otcache", otcache, OTCacheCalibrator()), (4, 6))
    measured = {
        key: dict(zip(("psnr", "mse"), evaluator.values(schedule, *METRICS), strict=True))
        for key, schedule in schedules.items()
    }
    rows = evidence_rows(measured, METRICS)
    assert [(row.budget, row.policy, row.metric) for row in rows] == [
        (budget, name, metric)
        for budget in (4, 6)
        for name in METHODS
        for metric in ("psnr", "mse")
    ]
    full = generate(setup.pipe, pairs, ARGUMENTS)

    def errors(schedule: Schedule) -> np.ndarray:
        if schedule.num_inference_steps < STEPS:  # No cache at all.
            pictures = generate(setup.pipe, pairs, {"num_inference_steps": schedule.budget})
        else:
            otcache_plugin.enable_cache(setup.pipe, policy=schedule)
            pictures = generate(setup.pipe, pairs, ARGUMENTS)
            otcache_plugin.disable_cache(setup.pipe)
        return ((pictures - full).numpy().astype(np.float64) ** 2).mean(axis=(1, 2, 3))

    found = {(row.budget, row.policy, row.metric): row for row in rows}
    for budget in (4, 6):
        by_hand = schedules_by_hand(otcache, graph, budget)
        mse = {name: errors(schedule) for name, schedule in by_hand.items()}
        psnr = {name: -10 * np.log10(values) for name, values in mse.items()}
        for name, other in zip(METHODS, (None, *METHODS), strict=False):
            for metric, values in (("mse", mse), ("psnr", psnr)):
                row = found[budget, name, metric]
                assert row.pairs == 4
                assert row.mean == pytest.approx(values[name].mean(), rel=1e-6)
                assert row.standard_error == pytest.approx(stats.sem(values[name]), rel=1e-6)
                assert row.compared_to == other
                if other is None:
                    assert row.win_rate is None
                    continue
                test = stats.ttest_rel(values[name], values[other])
                interval = test.confidence_interval(0.95)
                difference = (values[name] - values[other]).mean()
                scale = 1e-6 * np.abs(values[name]).max()
                assert row.difference_mean == pytest.approx(difference, rel=1e-5, abs=scale)
                assert row.difference_low == pytest.approx(interval.low, rel=1e-5, abs=scale)
                assert row.difference_high == pytest.approx(interval.high, rel=1e-5, abs=scale)
            if other is not None:
                # Smaller errors win, larger ratios win: the same pictures, the same rate.
                wins = np.mean((mse[name] < mse[other]) + 0.5 * (mse[name] == mse[other]))
                assert found[budget, name, "mse"].win_rate == wins
                assert found[budget, name, "psnr"].win_rate == wins


@pytest.mark.parametrize(("metric", "win_rate"), [("psnr", 0.625), ("mse", 0.375)])
def test_the_win_rate_follows_the_metrics_direction(metric: str, win_rate: float) -> None:
    values = {
        "meancache": np.array([1.0, 2.0, 3.0, 4.0]),
        "otcache": np.array([2.0, 3.0, 3.0, 1.0]),  # above, above, equal, below
    }
    row = evidence_row("otcache", 8, plugin_host().metric(metric), values)
    assert row.win_rate == win_rate
    assert row.difference_mean == pytest.approx(-0.25)


def test_the_weakest_is_compared_to_nobody() -> None:
    row = evidence_row(
        "fewer-steps", 8, plugin_host().metric("ssim"), {"fewer-steps": np.array([0.5, 0.7])}
    )
    assert (row.mean, row.standard_error) == (pytest.approx(0.6), pytest.approx(0.1))
    assert row.compared_to is row.win_rate is row.difference_mean is None


@pytest.mark.parametrize(
    ("name", "other"),
    [("uniform", "fewer-steps"), ("meancache", "uniform"), ("otcache", "meancache")],
)
def test_each_is_compared_to_the_next_weaker_one(name: str, other: str) -> None:
    values = {each: np.array([0.0, 1.0]) * number for number, each in enumerate(METHODS)}
    row = evidence_row(name, 8, plugin_host().metric("psnr"), values)
    assert row.compared_to == other
    assert row.difference_mean == pytest.approx(0.5)  # Of 0 and 1.


@pytest.mark.parametrize("failed", [float("nan"), float("inf"), float("-inf")])
def test_what_has_no_finite_value_is_not_stated(failed: float) -> None:
    """Nor is a difference to it: leaving out the pair would flatter who fails there."""
    psnr = plugin_host().metric("psnr")
    rng = np.random.default_rng(0)
    values = {(4, name): {"psnr": rng.normal(20, 1, 6)} for name in METHODS}
    values[4, "uniform"]["psnr"][2] = failed
    rows = {row.policy: row for row in evidence_rows(values, [psnr])}
    assert set(rows) == {"fewer-steps", "meancache", "otcache"}
    assert (rows["meancache"].compared_to, rows["meancache"].pairs) == (None, 6)
    assert rows["otcache"].compared_to == "meancache"
    assert rows["otcache"] == evidence_row(
        "otcache", 4, psnr, {name: values[4, name]["psnr"] for name in METHODS}
    )
