"""The ways that people call a pipeline: each computes what was planned and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxInpaintPipeline
from PIL import Image
from tiny_pipelines import FLUX, SIZE, count_forwards, make_flux, make_flux_img2img

import otcache_plugin

BUDGET = 4
STEPS = 12


class Int8Linear(torch.nn.Module):
    """A linear layer whose weights are kept as eight bits, with a scale for each output."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(hidden_states.dtype) * self.scale
        return torch.nn.functional.linear(hidden_states, weight, self.bias)


def quantise(module: torch.nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            quantise(child)


def picture(seed: int) -> Image.Image:
    levels = torch.randint(0, 256, (SIZE, SIZE, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(levels.to(torch.uint8).numpy())


def make_inpainting() -> Any:
    pipe = FluxInpaintPipeline(**make_flux_img2img().components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def inpaint(pipe: Any) -> torch.Tensor:
    return FLUX.run(
        pipe,
        image=picture(1),
        mask_image=picture(2).convert("L"),
        strength=0.5,
        num_inference_steps=STEPS,
    )


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_inpainting_runs_the_steps_of_its_strength(enable: Any, executor: str) -> None:
    pipe = make_inpainting()
    untouched = inpaint(pipe)
    enable(pipe, policy="uniform", budget=3, executor=executor)
    cached = inpaint(pipe)
    report = otcache_plugin.summary(pipe)
    assert report.num_inference_steps == STEPS // 2
    assert report.computed_steps == (0, 2, 5)
    assert report.as_planned
    assert not torch.equal(cached, untouched)
    enable(pipe, policy="uniform", budget=STEPS // 2, executor=executor)
    assert torch.equal(inpaint(pipe), untouched)


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_several_pictures_of_a_prompt_are_one_call_per_step(enable: Any, executor: str) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform", budget=BUDGET, executor=executor)
    with count_forwards(pipe.transformer.get_submodule(FLUX.probe)) as forwards:
        several = FLUX.run(pipe, num_inference_steps=STEPS, num_images_per_prompt=3)
    assert several.shape[0] == 3
    assert otcache_plugin.summary(pipe).transformer_calls == (
        BUDGET if executor == "velocity" else STEPS
    )
    assert len(forwards) == otcache_plugin.summary(pipe).transformer_calls


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_quantised_weights(enable: Any, executor: str) -> None:
    pipe = make_flux()
    quantise(pipe.transformer.transformer_blocks)
    quantise(pipe.transformer.single_transformer_blocks)
    untouched = FLUX.run(pipe, num_inference_steps=STEPS)
    enable(pipe, policy="uniform", budget=BUDGET, executor=executor)
    cached = FLUX.run(pipe, num_inference_steps=STEPS)
    assert otcache_plugin.summary(pipe).as_planned
    assert not torch.equal(cached, untouched)
    enable(pipe, policy="uniform", budget=STEPS, executor=executor)
    assert torch.equal(FLUX.run(pipe, num_inference_steps=STEPS), untouched)
