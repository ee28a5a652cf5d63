"""Evidence rows, recomputed by hand from the pictures of runs that a user would make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from otcache_policies import EdgeSettings, MeanCachePolicy, OTCachePolicy, Schedule, UniformPolicy
from scipy import stats

import otcache_plugin
from otcache_plugin.calibration.evidence import evidence_row, gather_evidence
from otcache_plugin.calibration.recording import EdgeAccumulator, record
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import metric_named
from otcache_plugin.evaluation.pairs import generate
from otcache_plugin.models.setups import ModelSetup

STEPS = 10
ARGUMENTS = {"num_inference_steps": STEPS}


@pytest.fixture
def graph(setup: ModelSetup) -> MeanCachePolicy:
    accumulator = EdgeAccumulator()
    with record(setup.pipe) as trajectory:
        generate(setup.pipe, setup.calibration_pairs(3), ARGUMENTS)
    accumulator.add(trajectory)
    return MeanCachePolicy(accumulator.table(), EdgeSettings("displacement", 2.0, 2))


def test_rows_are_what_a_user_would_measure(setup: ModelSetup, graph: MeanCachePolicy) -> None:
    anchor = Schedule([0, 1, 5, 9], STEPS, [1, 2, 2])
    otcache = OTCachePolicy(anchor, graph.schedule(7), 1.1, graph.edges, graph.settings)
    pairs = setup.held_out_pairs(4)
    measured = []
    rows = gather_evidence(
        Evaluator(setup.pipe, pairs, ARGUMENTS),
        otcache,
        graph,
        (4, 6),
        [metric_named("psnr"), metric_named("mse")],
        lambda: measured.append(1),
    )
    assert len(measured) == 2 * 3
    assert [(row.budget, row.policy, row.metric) for row in rows] == [
        (budget, policy, metric)
        for budget in (4, 6)
        for policy in ("uniform", "meancache", "otcache")
        for metric in ("psnr", "mse")
    ]

    full = generate(setup.pipe, pairs, ARGUMENTS)

    def errors(schedule: Schedule) -> np.ndarray:
        otcache_plugin.enable_cache(setup.pipe, policy=schedule)
        pictures = generate(setup.pipe, pairs, ARGUMENTS)
        otcache_plugin.disable_cache(setup.pipe)
        return ((pictures - full).numpy().astype(np.float64) ** 2).mean(axis=(1, 2, 3))

    found = {(row.budget, row.policy, row.metric): row for row in rows}
    for budget in (4, 6):
        steps = UniformPolicy(STEPS).schedule(budget).computed_steps
        # Peers run with the look-back rule of the graph policy, here 2 wherever steps are cached.
        uniform = Schedule(steps, STEPS, [2 if gap > 1 else 1 for gap in np.diff(steps)])
        mse = {
            "uniform": errors(uniform),
            "meancache": errors(graph.schedule(budget)),
            "otcache": errors(otcache.schedule(budget)),
        }
        psnr = {name: -10 * np.log10(values) for name, values in mse.items()}
        for name, other in (("uniform", None), ("meancache", "uniform"), ("otcache", "meancache")):
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
            # Smaller errors win, larger ratios win: the same pictures, the same rate.
            wins = (
                np.mean((mse[name] < mse[other]) + 0.5 * (mse[name] == mse[other]))
                if other
                else None
            )
            assert found[budget, name, "mse"].win_rate == wins
            assert found[budget, name, "psnr"].win_rate == wins


@pytest.mark.parametrize(("metric", "win_rate"), [("psnr", 0.625), ("mse", 0.375)])
def test_the_win_rate_follows_the_metrics_direction(metric: str, win_rate: float) -> None:
    values = {
        "meancache": np.array([1.0, 2.0, 3.0, 4.0]),
        "otcache": np.array([2.0, 3.0, 3.0, 1.0]),  # above, above, equal, below
    }
    row = evidence_row("otcache", 8, metric_named(metric), values)
    assert row.win_rate == win_rate
    assert row.difference_mean == pytest.approx(-0.25)


def test_the_weakest_peer_is_compared_to_nobody() -> None:
    row = evidence_row("uniform", 8, metric_named("ssim"), {"uniform": np.array([0.5, 0.7])})
    assert (row.mean, row.standard_error) == (pytest.approx(0.6), pytest.approx(0.1))
    assert row.compared_to is row.win_rate is row.difference_mean is None


def test_the_pipeline_is_given_back(setup: ModelSetup, graph: MeanCachePolicy) -> None:
    pairs = setup.held_out_pairs(2)
    before = generate(setup.pipe, pairs, ARGUMENTS)
    otcache = OTCachePolicy(graph.schedule(4), graph.schedule(7), 1.1, graph.edges, graph.settings)
    gather_evidence(
        Evaluator(setup.pipe, pairs, ARGUMENTS), otcache, graph, (4,), [metric_named("psnr")]
    )
    assert torch.equal(generate(setup.pipe, pairs, ARGUMENTS), before)
