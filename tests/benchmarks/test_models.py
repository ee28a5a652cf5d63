"""The models of the benchmarks: what was drawn once stays, and every prompt leaves a decision."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from otcache_plugin.models.exact_flow import ExactFlowSettings
from otcache_plugin.models.scenes import all_captions, sample_captions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The registries."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import models

    return models


def test_the_flows_are_those_that_were_drawn_once(models: ModuleType) -> None:
    assert {
        "flow-1": ExactFlowSettings(5364, 0.154, 2.1, 230063),
        "flow-2": ExactFlowSettings(3452, 0.238, 1.87, 318262),
        "flow-3": ExactFlowSettings(3226, 0.417, 2.37, 402467),
        "flow-4": ExactFlowSettings(4343, 0.401, 2.66, 976128),
        "flow-5": ExactFlowSettings(3686, 0.259, 2.13, 190912),
        "flow-6": ExactFlowSettings(3545, 0.191, 3.01, 13346),
        "flow-7": ExactFlowSettings(3642, 0.183, 2.67, 228322),
        "flow-8": ExactFlowSettings(4584, 0.194, 1.82, 473257),
    } == models.FLOWS
    flows = {name for name in models.DEVELOPMENT if name.startswith("flow-")}
    assert flows == {"flow-1", "flow-2", "flow-3", "flow-4"}
    assert set(models.FINAL) == {"flow-5", "flow-6", "flow-7", "flow-8"}


def test_every_caption_has_at_least_three_scenes_in_every_flow(models: ModuleType) -> None:
    """Redrawn with the scenes' own generator, whose first use is the captions."""
    captions = all_captions()
    for flow in models.FLOWS.values():
        drawn = Counter(sample_captions(captions, flow.scenes, np.random.default_rng(flow.seed)))
        assert len(drawn) == len(captions) == 960
        assert min(drawn.values()) >= 3


@pytest.mark.parametrize("name", ["flow-2", "embedded"])
def test_a_model_brings_its_pipeline_origin_and_disjoint_prompts(
    name: str, models: ModuleType
) -> None:
    setup = models.DEVELOPMENT[name]()
    assert setup.name == name
    assert (setup.origin.model, setup.origin.revision) == setup.pipe.otcache_model
    assert not set(setup.calibration_prompts) & set(setup.held_out_prompts)
    if name != "embedded":
        assert setup.origin.revision == models.FLOWS[name].revision
        known = set(setup.pipe.transformer.captions)
        assert known.issuperset(setup.calibration_prompts + setup.held_out_prompts)
