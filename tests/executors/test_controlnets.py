"""ControlNets: what they give is for the transformer alone, so both rest on cached steps."""

from __future__ import annotations

import functools
import gc
import weakref
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from otcache_policies import Schedule
from reference_runs import InterruptedRunError, interrupt_at, reference_run
from tiny_pipelines.controlnets import CONTROLNETS, ControlCase

import otcache_plugin

# Of diffusers' own ControlNet of FLUX, and of its DPM solver.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array:DeprecationWarning"),
]

STEPS = 10
LOOK_BACKS = [1, 2, 2]
FLUX = next(case for case in CONTROLNETS if case.name == "flux")


def run(case: ControlCase, pipe: Any, steps: int = STEPS, **arguments: Any) -> torch.Tensor:
    torch.manual_seed(0)  # some encode the control picture without the generator
    return case.run(pipe, num_inference_steps=steps, **arguments)


def run_with_reuse(case: ControlCase, pipe: Any, computed: list[int]) -> torch.Tensor:
    """A run of all parts at every step, whose solver is given the last computed velocity again."""
    original = pipe.scheduler.step
    velocities: list[torch.Tensor] = []

    def step(model_output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        velocities.append(model_output if len(velocities) in computed else velocities[-1])
        return original(velocities[-1], *args, **kwargs)

    pipe.scheduler.step = functools.wraps(original)(step)
    return run(case, pipe)


@pytest.mark.parametrize("case", CONTROLNETS, ids=str)
def test_they_run_on_computed_steps_alone(case: ControlCase, enable: Any) -> None:
    steps = int(case.options.get("strength", 1.0) * STEPS)
    computed = [0, 1, 4, steps - 1]
    pipe, twin = case.make(), case.make()
    if isinstance(pipe.scheduler, DPMSolverMultistepScheduler):
        look_backs = [1, 1, 1]
        expected = run_with_reuse(case, twin, computed)
    else:
        look_backs = LOOK_BACKS
        torch.manual_seed(0)
        expected = reference_run(case, twin, computed, look_backs, num_inference_steps=STEPS)

    enable(pipe, policy=Schedule(computed, steps, look_backs))
    nets = list(getattr(pipe.controlnet, "nets", [pipe.controlnet]))
    forwards: list[Any] = []
    for net in nets:
        net.register_forward_pre_hook(lambda net, _: forwards.append(net))
    assert torch.equal(run(case, pipe), expected)
    assert len(forwards) == len(computed) * case.control_calls_per_step
    report = otcache_plugin.summary(pipe)
    assert report.transformer_calls == len(computed) * case.calls_per_step
    assert report.as_planned


def test_a_controlnet_matters() -> None:
    # Without this, the outputs above might be those of transformers that ignore it.
    for case in CONTROLNETS:
        pipe = case.make()
        with_control = run(case, pipe, steps=2)
        for parameter in pipe.controlnet.parameters():
            parameter.data.zero_()
        assert (run(case, pipe, steps=2) - with_control).abs().mean() > 1e-3, case.name


def test_nothing_of_a_controlnet_is_kept_after_a_call(enable: Any) -> None:
    pipe = FLUX.make()
    outputs: list[weakref.ref[torch.Tensor]] = []
    pipe.controlnet.register_forward_hook(
        lambda net, inputs, output: outputs.append(weakref.ref(output[0][0]))
    )
    enable(pipe, policy="uniform", budget=4)
    run(FLUX, pipe)
    with pytest.raises(InterruptedRunError):
        run(FLUX, pipe, callback_on_step_end=interrupt_at(5))
    gc.collect()
    assert len(outputs) == 6
    assert not any(output() is not None for output in outputs)
