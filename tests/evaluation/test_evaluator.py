"""An evaluator's pictures are those a user would get, and it leaves the pipeline alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import Schedule

import otcache_plugin
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.outputs import SPACES, Outputs, Space, generate
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.exact_flow import ExactFlowPipeline
from otcache_plugin.plugins.host import plugin_host

STEPS = 8
ARGUMENTS = {"num_inference_steps": STEPS}
PAIRS = [Pair(f"kind {kind}", seed) for kind, seed in [(0, 3), (1, 7), (0, 4), (3, 0), (2, 9)]]
SCHEDULE = Schedule([0, 1, 4, 7], STEPS, [1, 2, 1])
COARSE = Schedule([0, 7], STEPS)
PSNR, MSE = plugin_host().metric("psnr"), plugin_host().metric("mse")
LATENT_L1 = plugin_host().metric("latent-l1")


class Counted(Evaluator):
    """An evaluator that counts how often the pipeline runs a schedule."""

    runs = 0

    def outputs(self, schedule: Schedule, spaces: frozenset[Space] = SPACES) -> Outputs:
        self.runs += 1
        return super().outputs(schedule, spaces)


def pictures_of(outputs: Outputs) -> torch.Tensor:
    """`(N, 3, H, W)`."""
    assert outputs.pictures is not None
    return outputs.pictures[:, 0]


@pytest.mark.parametrize("batch_size", [64, 2])
def test_pictures_are_those_of_a_run_by_hand(pipe: ExactFlowPipeline, batch_size: int) -> None:
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS, batch_size)
    pictures = pictures_of(evaluator.outputs(SCHEDULE))
    assert pictures.shape == (5, 3, 32, 32)
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    for start in range(0, 5, batch_size):
        batch = PAIRS[start : start + batch_size]
        images = pipe(
            prompt=[pair.prompt for pair in batch],
            generator=[torch.Generator().manual_seed(pair.seed) for pair in batch],
            output_type="pt",
            num_inference_steps=STEPS,
        ).images
        assert torch.equal(pictures[start : start + batch_size], images)
    assert otcache_plugin.summary(pipe).as_planned
    otcache_plugin.disable_cache(pipe)
    assert not torch.allclose(pictures, pictures_of(evaluator.reference()), atol=1e-3)


def test_a_pair_is_its_seed_whatever_the_batch(pipe: ExactFlowPipeline) -> None:
    together = generate(pipe, PAIRS, ARGUMENTS)
    assert together.dtype == torch.float32
    assert 0 <= together.min() < together.max() <= 1
    for i, pair in enumerate(PAIRS):
        alone = generate(pipe, [pair], ARGUMENTS)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)


def test_the_reference_is_the_full_run(pipe: ExactFlowPipeline) -> None:
    full = generate(pipe, PAIRS, ARGUMENTS)
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS)
    assert torch.equal(pictures_of(evaluator.reference()), full)
    assert torch.equal(pictures_of(evaluator.outputs(Schedule.full(STEPS))), full)
    (values,) = evaluator.values(Schedule.full(STEPS), PSNR)
    assert values.tolist() == [100.0] * 5


def test_a_reference_at_hand_is_not_generated_again(pipe: ExactFlowPipeline) -> None:
    calls = []
    pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    reference = Outputs(torch.zeros(5, 3, 32, 32), torch.full((5, 1, 3, 32, 32), 0.5))
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS, reference=reference)
    assert evaluator.reference() is reference
    assert calls == []
    expected = ((pictures_of(evaluator.outputs(SCHEDULE)) - 0.5).double() ** 2).mean(dim=(1, 2, 3))
    np.testing.assert_allclose(evaluator.values(SCHEDULE, MSE)[0], expected.numpy(), rtol=1e-6)


def test_an_identical_schedule_is_run_once(pipe: ExactFlowPipeline) -> None:
    evaluator = Counted(pipe, PAIRS, ARGUMENTS)
    assert evaluator.evaluations == 0
    first = evaluator.values(SCHEDULE, PSNR, MSE)
    again = evaluator.values(Schedule([0, 1, 4, 7], STEPS, [1, 2, 1]), MSE, PSNR)
    evaluator.loss(SCHEDULE, PSNR)
    assert evaluator.runs == evaluator.evaluations == 1
    np.testing.assert_array_equal(first[0], again[1])
    np.testing.assert_array_equal(first[1], again[0])
    # Other look-backs, other pictures.
    reused = SCHEDULE.with_look_backs([1, 1, 1])
    assert evaluator.loss(reused, PSNR) != evaluator.loss(SCHEDULE, PSNR)
    assert evaluator.runs == evaluator.evaluations == 2


def test_a_smaller_loss_is_better(pipe: ExactFlowPipeline) -> None:
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS)
    fine = Schedule([0, 1, 2, 3, 4, 5, 7], STEPS)
    psnr, mse = evaluator.values(fine, PSNR, MSE)
    assert evaluator.loss(fine, PSNR) == -psnr.mean()
    assert evaluator.loss(fine, MSE) == mse.mean()
    for metric in (PSNR, MSE):
        assert evaluator.loss(fine, metric) < evaluator.loss(COARSE, metric)


def test_the_pipeline_is_left_untouched(pipe: ExactFlowPipeline) -> None:
    before = generate(pipe, PAIRS, ARGUMENTS)
    attributes = set(vars(pipe)), set(vars(pipe.scheduler))
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS)
    evaluator.outputs(SCHEDULE)
    assert (set(vars(pipe)), set(vars(pipe.scheduler))) == attributes
    assert torch.equal(generate(pipe, PAIRS, ARGUMENTS), before)


def test_also_when_a_run_fails(pipe: ExactFlowPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    before = generate(pipe, PAIRS, ARGUMENTS)
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS)
    evaluator.reference()
    scheduler = type(pipe.scheduler)
    step, steps = scheduler.step, 0

    def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise RuntimeError("out of memory")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(scheduler, "step", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluator.values(SCHEDULE, PSNR)
    assert not {"step", "set_timesteps"} & set(vars(pipe.scheduler))
    assert torch.equal(generate(pipe, PAIRS, ARGUMENTS), before)
    # What failed was not kept.
    assert np.isfinite(evaluator.values(SCHEDULE, PSNR)[0]).all()
    assert evaluator.evaluations == 1


def test_fewer_steps_are_fewer_true_steps(pipe: ExactFlowPipeline) -> None:
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS)
    fewer = generate(pipe, PAIRS, {"num_inference_steps": 5})
    assert torch.equal(pictures_of(evaluator.outputs(Schedule.full(5))), fewer)
    (values,) = evaluator.values(Schedule.full(5), MSE)
    expected = (fewer - generate(pipe, PAIRS, ARGUMENTS)).double().square().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(values, expected.numpy(), rtol=1e-6)
    assert values.min() > 0


def test_latents_are_compared_as_the_cached_run_leaves_them(pipe: ExactFlowPipeline) -> None:
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS)
    (values,) = evaluator.values(SCHEDULE, LATENT_L1)

    def latents() -> torch.Tensor:
        given: torch.Tensor = pipe(
            prompt=[pair.prompt for pair in PAIRS],
            generator=[torch.Generator().manual_seed(pair.seed) for pair in PAIRS],
            output_type="latent",
            num_inference_steps=STEPS,
        ).images
        return given.double()

    full = latents()
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    cached = latents()
    otcache_plugin.disable_cache(pipe)
    np.testing.assert_allclose(values, (cached - full).abs().mean(dim=(1, 2, 3)), rtol=1e-12)
    assert values.min() > 0


def test_pictures_only_where_a_metric_looks_at_them(pipe: ExactFlowPipeline) -> None:
    asked: list[str] = []
    postprocess = pipe.image_processor.postprocess

    def counting(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["output_type"])
        return postprocess(*args, **kwargs)

    pipe.image_processor.postprocess = counting
    evaluator = Evaluator(pipe, PAIRS, ARGUMENTS)
    latents = evaluator.values(SCHEDULE, LATENT_L1)[0]
    assert evaluator.reference(frozenset({"latents"})).pictures is None
    assert asked == []
    both = evaluator.values(SCHEDULE, LATENT_L1, PSNR)
    assert asked == ["pt", "pt"]  # of the full run, and of the schedule
    np.testing.assert_array_equal(both[0], latents)
    evaluator.values(COARSE, PSNR)
    assert asked == ["pt"] * 3
    assert evaluator.evaluations == 3
