"""Another search algorithm than climbs and rounds, run through a whole calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_search import RandomSearch
from small_calibration import OPTIONS, Calibrated, calibrate_flow, evidence_of, task_of

from otcache_plugin.calibration.errors import OtherSettingsError
from otcache_plugin.calibration.measuring.units import Evaluate, unit_key
from otcache_plugin.calibration.otcache import OTCacheCalibrator
from otcache_plugin.calibration.searching.candidates import SearchTask
from otcache_plugin.evaluation.batches import batches_of
from otcache_plugin.models.setups import ModelSetup

RANDOM = OTCacheCalibrator(lambda options: RandomSearch(options.trials))


@pytest.fixture(scope="module")
def random(make_setup: Any, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """A calibration whose schedules are searched at random, 20 trials each."""
    folder = tmp_path_factory.mktemp("random") / "work"
    return calibrate_flow(make_setup(), folder, calibrator=RANDOM)


def test_the_best_of_what_was_drawn_is_the_anchor(random: Calibrated) -> None:
    starts = [policy.schedule(4) for policy in random.readings]
    start = starts[int(np.argmin(random.losses(*starts)))]
    panel: Any = None
    task = SearchTask(start, panel, 6, random.settings.seed, lambda part: panel)
    drawn = RandomSearch(20).drawn(task)
    candidates = [start, *drawn]
    losses = random.losses(*candidates)
    assert random.policy.anchor == candidates[int(np.argmin(losses))]
    assert len(set(losses)) > 10
    # Each was run on both batches; the history is the best so far.
    units = {path.stem for path in (random.folder / "units").iterdir()}
    asked = [
        Evaluate(batch, each, ("psnr",))
        for each in drawn
        for batch in batches_of("calibration", 4, 3)
    ]
    assert set(map(unit_key, asked)) <= units
    assert random.search.history == pytest.approx(np.minimum.accumulate(losses), rel=1e-6)


def test_its_trials_are_told_and_kept(random: Calibrated) -> None:
    for name in ("the anchor", "6 steps"):
        assert random.stages.done[f"searching {name}"] == 20
        assert random.stages.total[f"searching {name}"] == 20
        assert len(random.studies[f"{name}, drawn"].trials) == 20
    assert list(random.studies) == ["the anchor, drawn", "6 steps, drawn"]


def test_evidence_is_gathered_as_ever(random: Calibrated) -> None:
    found = {(row.budget, row.policy) for row in random.document.evidence}
    assert found == set(evidence_of(random.policy, range(4, 9)))


def test_another_algorithm_is_another_calibration(random: Calibrated, setup: ModelSetup) -> None:
    manifest = json.loads(
        (random.folder / "policies" / "otcache-paper" / "calibration.json").read_text()
    )
    assert manifest["algorithm"] == {"name": "random", "trials": 20}
    with pytest.raises(OtherSettingsError, match="algorithm"):
        calibrate_flow(setup, random.folder)


def test_it_is_set_by_the_options(tmp_path: Path) -> None:
    task = task_of(OPTIONS.model_copy(update={"trials": 7}), RANDOM)
    assert task.manifest["algorithm"] == {"name": "random", "trials": 7}
