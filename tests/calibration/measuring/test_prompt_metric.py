"""A plugin's metric that reads the prompts, through an evaluator and a calibration's units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from otcache_policies import Schedule
from plugin_fakes import FakeEntryPoint, plugin

from otcache_plugin.calibration.calibrate import manifest_of
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.units import Evaluate, Record
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.models.exact_flow import ExactFlowPipeline
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins import MetricRegistry, Outputs, Pair
from otcache_plugin.plugins import host as host_module

PROMPTS = ("dog", "a dog", "a red dog", "a red dog here", "two", "two cats", "two tiny cats")
SCHEDULE = Schedule([0, 2, 7], 8)


class PromptWords:
    """The number of words of the prompt; more are better, whatever the picture."""

    name: ClassVar[str] = "prompt-words"
    unit: ClassVar[str] = "words"
    space: ClassVar[str] = "latents"
    higher_is_better: ClassVar[bool] = True

    def values(
        self, candidate: Outputs, reference: Outputs, pairs: Sequence[Pair]
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        assert len(candidate.latents) == len(reference.latents) == len(pairs)
        assert candidate.pictures is None  # nobody looks at pictures
        return np.array([float(len(pair.prompt.split())) for pair in pairs])


@pytest.fixture
def with_prompt_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package is installed that registers the metric."""

    def otcache_register_metrics(registry: MetricRegistry) -> None:
        registry.register("prompt-words", PromptWords, "words of the prompt")

    module = plugin(otcache_register_metrics=otcache_register_metrics)
    entry_point = FakeEntryPoint("theirs", lambda: module, "otcache-theirs")
    monkeypatch.setattr(host_module, "entry_points", lambda group: [entry_point])
    host_module.plugin_host.cache_clear()
    yield
    host_module.plugin_host.cache_clear()


@pytest.fixture
def named_pipe(pipe: ExactFlowPipeline) -> ExactFlowPipeline:
    """The small flow, its scenes called by prompts of one to four words."""
    pipe.transformer.captions = tuple(PROMPTS[i % len(PROMPTS)] for i in range(150))
    return pipe


def words_of(pairs: Sequence[Pair]) -> list[int]:
    return [pair.prompt.count(" ") + 1 for pair in pairs]


@pytest.mark.parametrize("batch_size", [64, 2])
def test_an_evaluator(
    batch_size: int, named_pipe: ExactFlowPipeline, with_prompt_words: None
) -> None:
    host = host_module.plugin_host()
    pairs = [Pair(prompt, seed) for seed, prompt in enumerate(PROMPTS[:5])]
    evaluator = Evaluator(named_pipe, pairs, {"num_inference_steps": 8}, batch_size)
    words, latents = host.metric("prompt-words"), host.metric("latent-l1")
    found, distances = evaluator.values(SCHEDULE, words, latents)
    assert found.tolist() == [1, 2, 3, 4, 1]
    assert (distances > 0).all()
    assert evaluator.loss(SCHEDULE, words) == -11 / 5


def test_units_of_a_calibration(
    setup: ModelSetup, named_pipe: ExactFlowPipeline, with_prompt_words: None, tmp_path: Path
) -> None:
    setup = replace(
        setup, pipe=named_pipe, calibration_prompts=PROMPTS[:4], held_out_prompts=PROMPTS[4:]
    )
    settings = MeasuringSettings(
        num_inference_steps=8,
        pairs=5,
        held_out_pairs=3,
        batch_size=2,
        metric="prompt-words",
    )
    metric = host_module.plugin_host().metric("prompt-words")
    with (
        LocalPool(lambda: setup, settings, tmp_path / SCRATCH_FOLDER) as pool,
        Workspace(tmp_path / "work", manifest_of(pool.facts, settings)) as workspace,
    ):
        measurements = Measurements(workspace, pool, settings)
        batches = measurements.calibration_batches
        assert batches == tuple(Batch("calibration", *ends) for ends in ((0, 2), (2, 4), (4, 5)))
        measurements.prepare([Record(batch) for batch in batches])
        measured = measurements.all_of(
            [Evaluate(batch, SCHEDULE, ("prompt-words",)) for batch in batches]
        )
        (loss,) = measurements.losses([SCHEDULE], metric)
    words = words_of(setup.calibration_pairs(5, settings.seed))
    assert len(set(words)) > 1
    found = [each.arrays["prompt-words"].tolist() for each in measured]
    assert found == [words[:2], words[2:4], words[4:]]
    assert loss.losses.tolist() == [-count for count in words]
