"""Whole calibrations with a metric that sometimes, or always, gives no finite value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import Schedule
from small_calibration import OPTIONS, Calibrated, calibrate_flow

from otcache_plugin.calibration.errors import NotFiniteError
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import METRICS
from otcache_plugin.evaluation.outputs import Outputs
from otcache_plugin.models.setups import ModelSetup

PSNR = METRICS["psnr"]
QUICK = OPTIONS.model_copy(update={"trials": 4})


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Schedule], bool]], None]:
    """Let PSNR give NaN for the second pair of each batch with the schedules that it is told."""
    own, running = Evaluator.outputs, []

    def outputs(self: Evaluator, schedule: Schedule, *arguments: Any) -> Outputs:
        running[:] = [schedule]
        return own(self, schedule, *arguments)

    def spoil(fails: Callable[[Schedule], bool]) -> None:
        def compare(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            values = PSNR.compare(candidate, reference)
            if fails(running[0]):
                values[1:2] = float("nan")
            return values

        monkeypatch.setattr(Evaluator, "outputs", outputs)
        monkeypatch.setitem(METRICS, "psnr", replace(PSNR, compare=compare))

    return spoil


def schedules_of(calibrated: Calibrated) -> list[Schedule]:
    policy = calibrated.policy
    return [policy.anchor, *policy.waypoints, policy.reference]


@pytest.mark.parametrize("kind", ["joint", "per-pair"])
def test_what_gives_nan_is_never_chosen(
    setup: ModelSetup, tmp_path: Path, spoil: Any, kind: Any
) -> None:
    """Here a schedule that is the best of a calibration without failures, at every budget."""
    options = QUICK.model_copy(update={"search": kind})
    spoil(lambda schedule: False)
    fine = calibrate_flow(setup, tmp_path / "fine", options=options)
    best = set(schedules_of(fine))
    spoil(lambda schedule: schedule in best)
    calibrated = calibrate_flow(setup, tmp_path / "spoilt", options=options)
    assert not best & set(schedules_of(calibrated))
    assert len(schedules_of(calibrated)) == len(best)
    assert np.isfinite(calibrated.search.history).all()
    calibration = calibrated.document.calibration
    assert calibration is not None
    assert 0 < calibration.values_not_finite < calibration.values
    assert fine.document.calibration is not None
    assert fine.document.calibration.values_not_finite == 0
    # Of two batches with three and one calibration pairs and one with three, the second pair each.
    units = [path.stem for path in (calibrated.folder / "units").glob("evaluate-*")]
    assert calibration.values_not_finite <= 2 * len(units)


def test_if_all_are_nan_it_ends_with_what_was_run(
    setup: ModelSetup, tmp_path: Path, spoil: Any
) -> None:
    spoil(lambda schedule: schedule.budget < 12)
    with pytest.raises(NotFiniteError) as caught:
        calibrate_flow(setup, tmp_path / "work", options=QUICK)
    assert str(caught.value).startswith("metric='psnr': the 48 schedules that were run leave no")
    assert "not finite at the pairs 1 of 0 … 3" in str(caught.value)
    # What was measured is kept, and was measured once.
    units = list((tmp_path / "work" / "units").glob("evaluate-*"))
    with pytest.raises(NotFiniteError):
        calibrate_flow(setup, tmp_path / "work", options=QUICK)
    assert sorted((tmp_path / "work" / "units").glob("evaluate-*")) == sorted(units)
