"""Settings chosen on calibration pairs, against curves that are known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from otcache_plugin.comparing.contenders import dbcache
from otcache_plugin.comparing.contenders.diffusers_caches import (
    FirstBlockCache,
    SeaCache,
    TaylorSeerCache,
)
from otcache_plugin.comparing.contenders.magcache import MagCache
from otcache_plugin.comparing.contenders.tuning import (
    Trial,
    Trials,
    at_budgets,
    best_at_budgets,
)
from otcache_plugin.comparing.methods import Bench
from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.models.setups import ModelSetup


class KnownTrials(Trials):
    """A cache that computes `floor + 2 / threshold` of 50 steps, with the error of a candidate."""

    def __init__(self, budgets: tuple[int, ...]) -> None:
        super().__init__(Bench(None, 50, budgets, Path()), None)  # type: ignore[arg-type]
        self.tried: list[Trial] = []

    def run(self, settings: Any) -> Trial:
        steps = min(50.0, settings["floor"] + 2 / settings["threshold"])
        trial = Trial(settings, steps, settings["error"] / steps)
        self.tried.append(trial)
        return trial


def test_thresholds_come_near_every_budget() -> None:
    trials = KnownTrials((8, 10, 15))
    best = best_at_budgets(trials, [{"floor": 1.0, "error": 1.0}])
    assert [round(trial.steps) for trial in best] == [8, 10, 15]
    assert len(trials.tried) < 3 * 4


def test_of_candidates_near_a_budget_the_one_of_less_error_is_taken() -> None:
    trials = KnownTrials((10,))
    candidates = [{"floor": 1.0, "error": 2.0}, {"floor": 5.0, "error": 1.0}]
    (best,) = best_at_budgets(trials, candidates)
    assert best.settings["error"] == 1.0


def test_a_candidate_that_cannot_come_to_a_budget_is_tried_once() -> None:
    trials = KnownTrials((8,))
    (best,) = best_at_budgets(trials, [{"floor": 20.0, "error": 0.1}, {"floor": 1.0, "error": 9.0}])
    assert best.settings["floor"] == 1.0
    assert [trial.settings["floor"] for trial in trials.tried].count(20.0) == 1


def test_a_trial_that_serves_two_budgets_is_there_once() -> None:
    trial = Trial({"threshold": 4.0}, 9.7, 1.0)
    assert at_budgets([trial], (8, 10)) == [trial]


def test_a_budget_below_what_a_method_comes_to_has_no_setting() -> None:
    trials = [Trial({"threshold": 4.0}, 9.7, 1.0), Trial({"threshold": 0.3}, 15.1, 0.1)]
    assert at_budgets(trials, (6, 8)) == []
    assert at_budgets(trials, (8, 9, 12, 15)) == trials


def test_what_a_trial_took_is_its_share_of_the_full_run(bench: Bench) -> None:
    method = TaylorSeerCache()
    trials = Trials(bench, lambda settings: method.switched_on(bench, settings))
    settings = {"lite": True, "first": 3, "interval": 10, "order": 1}
    trial = trials.run(settings)
    # Steps 0, 1, 2 and 4 of 6, and little of the others; for 8 pairs, whose full runs are 6 steps.
    assert trial.steps == pytest.approx(4, abs=0.05)
    assert trials.denoising_steps == pytest.approx(8 * (6 + trial.steps))

    def latents() -> torch.Tensor:
        return generate_outputs(
            bench.pipe, bench.calibration_pairs(8), bench.call_arguments
        ).latents

    full = latents()
    with method.switched_on(bench, settings):
        errors = (latents() - full).square().flatten(1).mean(1).tolist()
    assert trial.error == pytest.approx(np.prod(errors) ** (1 / 8), rel=1e-4)
    assert trial.error > 0


def test_thresholds_are_searched_for_once(bench: Bench) -> None:
    method = FirstBlockCache()
    default, tuned = method.variants(bench)
    assert (default.setting, default.budget) == ("threshold 0.05", None)
    assert method.calibration_steps(bench, default) == 0
    steps = method.calibration_steps(bench, tuned)
    assert steps >= 8 * (6 + 3)

    @contextmanager
    def enabled(*_: Any) -> Any:
        raise AssertionError("it is searched for again")
        yield

    method.switched_on = enabled  # type: ignore[method-assign]
    assert method.variants(bench) == [default, tuned]


def test_taylorseer_computes_the_first_steps_and_then_every_so_many(
    embedded: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    bench = bench_of(embedded, steps=50)
    for first, budgets in ((3, (8, 9, 10, 11, 13, 15)), (1, (7, 8, 9, 11, 13))):
        for budget in budgets:
            interval = TaylorSeerCache()._interval(bench, budget, first)
            computed = [
                step
                for step in range(50)
                if step < first or (step > first and (step - first - 1) % interval == 0)
            ]
            assert len(computed) == budget


class IntervalTrials(KnownTrials):
    """Computes as TaylorSeer does, with less error where a higher order extrapolates."""

    def run(self, settings: Any) -> Trial:
        first, interval = settings["first"], settings["interval"]
        later = [step for step in range(first + 1, 50) if (step - first - 1) % interval == 0]
        trial = Trial(settings, float(first + len(later)), 1.0 / settings["order"])
        self.tried.append(trial)
        return trial


def test_taylorseer_tries_every_interval_that_comes_near_a_budget() -> None:
    """With 3 steps first, 10 … 4 come to 8 … 15 steps; with 1, 7 … 3 to 8 … 17."""
    trials = IntervalTrials((8, 15))
    method = TaylorSeerCache()
    best = method.best(trials)
    tried = {(t.settings["first"], t.settings["interval"]) for t in trials.tried}
    assert tried == {(3, i) for i in range(4, 11)} | {(1, i) for i in range(3, 8)}
    assert [trial.steps for trial in best] == [8.0, 15.0]
    assert all(trial.settings["lite"] and trial.settings["order"] == 2 for trial in best)
    assert method.words(best[1].settings) == "whole model every 4 steps, first 3, order 2"


class RowTrials(KnownTrials):
    """Leaves out so many steps in a row at most; of order 0 everything is nearer."""

    def run(self, settings: Any) -> Trial:
        fewest = 50 / (settings["in_a_row"] + 1)
        steps = min(50.0, max(fewest, 2 / settings["threshold"]))
        trial = Trial(settings, steps, (1.0 + settings["order"]) / steps)
        self.tried.append(trial)
        return trial


def test_seacache_is_given_rows_long_enough_for_a_budget() -> None:
    """Of 50 steps, 8 are not reached while every fourth one is computed."""
    trials = RowTrials((8,))
    method = SeaCache()
    (best,) = method.best(trials)
    rows = {(trial.settings["order"], trial.settings["in_a_row"]) for trial in trials.tried}
    assert rows == {(order, row) for order in (0, 1) for row in (3, 6, 12)}
    assert abs(best.steps - 8) <= 0.75
    assert (best.settings["order"], best.settings["in_a_row"] > 3) == (0, True)
    words = method.words({"threshold": 0.25, "order": 0, "in_a_row": 6})
    assert words == "threshold 0.25, order 0, at most 6 in a row"


def test_magcache_is_given_the_ratios_of_this_model(bench: Bench) -> None:
    transformer = bench.pipe.transformer
    first, last = transformer.transformer_blocks[0], transformer.single_transformer_blocks[-1]
    entered, left = [], []
    hooks = [
        first.register_forward_pre_hook(
            lambda _, args, kwargs: entered.append(kwargs["hidden_states"]), with_kwargs=True
        ),
        last.register_forward_hook(lambda _, args, output: left.append(output[1])),
    ]
    generate_outputs(bench.pipe, bench.calibration_pairs(4), bench.call_arguments)
    for hook in hooks:
        hook.remove()
    residuals = torch.stack([after - before for before, after in zip(entered, left, strict=True)])
    norms = residuals.norm(dim=-1).reshape(6, 2, -1)  # steps, guidance's calls, tokens
    expected = (norms[1:] / norms[:-1]).mean(dim=(1, 2))
    np.testing.assert_allclose(MagCache().ratios(bench), [1.0, *expected.tolist()], rtol=1e-5)
    given = MagCache().config(bench, MagCache.defaults).mag_ratios
    np.testing.assert_allclose(given, MagCache().ratios(bench), rtol=1e-6)


def test_another_order_of_taylorseer_is_tried_where_the_search_has_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbcache, "WARM_UPS", (1,))
    monkeypatch.setattr(dbcache, "EVENLY", ())
    tried: list[Any] = []
    run = Trials.run
    monkeypatch.setattr(
        Trials, "run", lambda self, settings: tried.append(settings) or run(self, settings)
    )
    method = dbcache.DBCache("dbcache-taylorseer", "DBCache, TaylorSeer", (1, 2))
    default, tuned = method.variants(bench)
    assert default.setting == "threshold 0.08, warm-up 8, order 1"
    assert method.calibration_steps(bench, default) == 0
    assert [settings["order"] for settings in tried] == [1] * (len(tried) - 1) + [2]
    # 8 pairs: their full runs, and more than the first step and the first block of others a trial.
    assert method.calibration_steps(bench, tuned) > 8 * (6 + len(tried))


def test_rows_of_cached_steps_leave_as_many_computed_as_is_wanted() -> None:
    for steps in (28, 50):
        rows = dbcache.limits(steps)
        computed = {len(range(0, steps, row + 1)) for row in rows}
        assert {2, 3, 4, 6, 7, 10} <= computed <= {*dbcache.EVENLY, 14}
    assert dbcache.limits(50) == [24, 16, 12, 8, 7, 6, 5, 4, 3]
