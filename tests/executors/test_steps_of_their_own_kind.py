"""Pipelines whose steps go other ways than most: followed in each of their runs, or refused."""

from __future__ import annotations

import copy
from typing import Any

import cache_dit
import numpy as np
import pytest
import torch
from diffusers import (
    FluxPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
)
from otcache_policies import Schedule, UniformPolicy
from reference_runs import Reference
from tiny_pipelines import (
    SIZE,
    count_forwards,
    euler_scheduler,
    flux_velocity,
    make_flux,
    quiet,
    unipc_scheduler,
)
from tiny_pipelines.common import text_embeddings
from tiny_pipelines.visual_cloze import VISUAL_CLOZE
from tiny_pipelines.wan import WAN_TRANSFORMER

import otcache_plugin
from otcache_plugin.errors import ExecutionError
from otcache_plugin.pipelines.attaching import former_class

STEPS = 8
SCHEDULE = Schedule([0, 2, 7], STEPS, [2, 2])


class FluxSteppingPipeline(FluxPipeline):
    """Denoises with steps that are overridden."""

    @torch.no_grad()
    def __call__(self, **_: Any) -> torch.Tensor:
        return self.denoise(torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0)))

    def velocity(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return flux_velocity(self.transformer, x, t)

    def set_timesteps(self) -> None:
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.1, STEPS))


class FluxOwnStepsPipeline(FluxSteppingPipeline):
    """Takes Euler steps itself."""

    def denoise(self, x: torch.Tensor) -> torch.Tensor:
        self.set_timesteps()
        sigmas = self.scheduler.sigmas
        for i, t in enumerate(self.scheduler.timesteps):
            x = x + (sigmas[i + 1] - sigmas[i]) * self.velocity(x, t)
        return x


class FluxCopiesPipeline(FluxSteppingPipeline):
    """Steps by a copy of its scheduler."""

    def denoise(self, x: torch.Tensor) -> torch.Tensor:
        self.set_timesteps()
        stepping = copy.deepcopy(self.scheduler)
        for t in stepping.timesteps:
            x = stepping.step(self.velocity(x, t), t, x)[0]
        return x


class FluxSoundPipeline(FluxSteppingPipeline):
    """Denoises something else with another scheduler, before or after, as LTX-2 does."""

    sound_first = False
    audio_scheduler: Any = None

    def denoise(self, x: torch.Tensor) -> torch.Tensor:
        self.set_timesteps()
        beside = self.audio_scheduler or copy.deepcopy(self.scheduler)
        beside.set_timesteps(sigmas=np.linspace(1.0, 0.1, STEPS))
        sound = torch.ones(1, 4, 16)
        for t in self.scheduler.timesteps:
            v = self.velocity(torch.cat([x[:, :12], sound], dim=1), t)
            if self.sound_first:
                sound = beside.step(v[:, 12:], t, sound)[0]
            x = self.scheduler.step(v, t, x)[0]
            if not self.sound_first:
                sound = beside.step(v[:, 12:], t, sound)[0]
        return torch.cat([x, sound], dim=1)


def run_with_sound(pipe: FluxSoundPipeline) -> torch.Tensor:
    """What `denoise` gives with `SCHEDULE`, from plain lists."""
    x = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    sound = torch.ones(1, 4, 16)
    pipe.set_timesteps()
    sigmas = pipe.scheduler.sigmas
    video, audio = (
        Reference(SCHEDULE.computed_steps, SCHEDULE.look_backs, sigmas) for _ in range(2)
    )
    for i, t in enumerate(pipe.scheduler.timesteps):
        if i in SCHEDULE.computed_steps:
            v = pipe.velocity(torch.cat([x[:, :12], sound], dim=1), t)
            v_sound = v[:, 12:]
        else:
            v, v_sound = video.velocity(i), audio.velocity(i)
        width = sigmas[i + 1] - sigmas[i]
        before = x, sound
        x, sound = x + width * v, sound + width * v_sound
        video.log(before[0], x, v)
        audio.log(before[1], sound, v_sound)
    return torch.cat([x, sound], dim=1)


class FluxSegmentsPipeline(FluxSteppingPipeline):
    """Makes three segments, and sets its scheduler after each, as WanAnimate does."""

    def denoise(self, x: torch.Tensor) -> torch.Tensor:
        self.set_timesteps()
        for _ in range(3):
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(self.velocity(x, t), t, x)[0]
            self.set_timesteps()
        return x


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
@pytest.mark.parametrize("pipeline", [FluxOwnStepsPipeline, FluxCopiesPipeline])
def test_steps_that_go_elsewhere_are_noticed(pipeline: Any, executor: str, enable: Any) -> None:
    pipe = make_flux(pipeline=pipeline, num_layers=2)
    expected = pipe()
    enable(pipe, policy="uniform", budget=4, executor=executor)
    with (
        count_forwards(pipe.transformer) as forwards,
        pytest.raises(ExecutionError, match=r"no step of pipe.scheduler followed.*disable_cache"),
    ):
        pipe()
    # By a copy it is seen in the second step, by itself only when the call has ended.
    assert len(forwards) == (1 if pipeline is FluxCopiesPipeline else STEPS)
    assert not otcache_plugin.summary(pipe).as_planned
    cache_dit.disable_cache(pipe)
    assert torch.equal(pipe(), expected)


@pytest.mark.parametrize("own_part", [False, True])
@pytest.mark.parametrize("sound_first", [False, True])
def test_what_another_scheduler_steps_is_estimated_as_well(
    sound_first: bool, own_part: bool, enable: Any
) -> None:
    pipe = make_flux(pipeline=FluxSoundPipeline)
    pipe.sound_first = sound_first
    beside = pipe.audio_scheduler = euler_scheduler() if own_part else None
    full = pipe()
    with torch.no_grad():
        expected = run_with_sound(make_flux(pipeline=FluxSoundPipeline))
    enable(pipe, policy=SCHEDULE)
    for _ in range(2):
        assert torch.equal(pipe(), expected)
        assert otcache_plugin.summary(pipe).as_planned
    assert beside is None or "step" not in vars(beside)
    cache_dit.disable_cache(pipe)
    assert torch.equal(pipe(), full)
    assert not torch.equal(full, expected)


def test_another_scheduler_takes_the_steps_of_the_pipelines_own(enable: Any) -> None:
    class TwoSteps(FluxSoundPipeline):
        """Takes two steps of the sound for one of the picture."""

        def denoise(self, x: torch.Tensor) -> torch.Tensor:
            self.set_timesteps()
            beside = copy.deepcopy(self.scheduler)
            for t in self.scheduler.timesteps[:4]:
                v = self.velocity(x, t)
                for _ in range(2):
                    beside.step(v, t, x)
                x = self.scheduler.step(v, t, x)[0]
            return x

    pipe = make_flux(pipeline=TwoSteps)
    enable(pipe, policy=SCHEDULE)
    with pytest.raises(ExecutionError, match=r"a scheduler beside .* does not take its steps"):
        pipe()


def make_diffusion_forcing() -> Any:
    torch.manual_seed(0)
    transformer = SkyReelsV2Transformer3DModel(**WAN_TRANSFORMER)
    pipe = SkyReelsV2DiffusionForcingPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        transformer=transformer.eval(),
        scheduler=unipc_scheduler(flow_shift=8.0),
    )
    return quiet(pipe)


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_diffusion_forcing_has_a_scheduler_for_every_frame(executor: str, enable: Any) -> None:
    pipe = make_diffusion_forcing()
    enable(pipe, policy=Schedule([0, 2, 7], STEPS), executor=executor)
    with pytest.raises(ExecutionError, match="diffusion forcing has a scheduler for every frame"):
        pipe(
            prompt=None,
            prompt_embeds=text_embeddings(1, 1),
            negative_prompt_embeds=text_embeddings(1, 3),
            height=SIZE,
            width=SIZE,
            num_frames=5,
            base_num_frames=5,
            num_inference_steps=STEPS,
            output_type="latent",
        )


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_a_report_covers_every_segment_of_a_call(executor: str, enable: Any) -> None:
    pipe = make_flux(pipeline=FluxSegmentsPipeline, num_layers=2)
    enable(pipe, policy="uniform", budget=4, executor=executor)
    with count_forwards(pipe.transformer.transformer_blocks[1]) as forwards:
        result = pipe()
    assert len(forwards) == 3 * 4
    report = otcache_plugin.summary(pipe)
    planned = UniformPolicy(STEPS).schedule(4).computed_steps
    assert [run.computed_steps for run in report.runs] == [planned] * 3
    assert report.as_planned
    assert str(report).count(" of the call: computed 4 of 8 steps") == 3
    assert torch.equal(pipe(), result)
    assert len(otcache_plugin.summary(pipe).runs) == 3


def test_a_report_is_as_planned_when_all_its_runs_are(enable: Any) -> None:
    class Unfinished(FluxSegmentsPipeline):
        """Stops in the middle of its first segment."""

        def denoise(self, x: torch.Tensor) -> torch.Tensor:
            self.set_timesteps()
            t = self.scheduler.timesteps[0]
            x = self.scheduler.step(self.velocity(x, t), t, x)[0]
            return super().denoise(x)

    pipe = make_flux(pipeline=Unfinished)
    enable(pipe, policy="uniform", budget=4)
    pipe()
    report = otcache_plugin.summary(pipe)
    assert [run.as_planned for run in report.runs] == [False, True, True, True]
    assert not report.as_planned
    assert "NOT AS PLANNED: finished 1 steps" in str(report)


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_both_loops_of_visual_cloze_are_followed(executor: str, enable: Any) -> None:
    full = VISUAL_CLOZE.run(VISUAL_CLOZE.make(), num_inference_steps=STEPS)
    pipe = VISUAL_CLOZE.make()
    classes = type(pipe), type(pipe.generation_pipe), type(pipe.upsampling_pipe)
    enable(pipe, policy="uniform", budget=3, executor=executor)
    with count_forwards(pipe.transformer.single_transformer_blocks[1]) as forwards:
        VISUAL_CLOZE.run(pipe, num_inference_steps=STEPS)
    assert len(forwards) == 3 + 3
    report = otcache_plugin.summary(pipe)
    assert [run.num_inference_steps for run in report.runs] == [STEPS, STEPS // 2]
    assert report.as_planned

    # Called by itself, one of the two is not part of the pipeline's call.
    arguments = VISUAL_CLOZE.arguments()
    upsampling = [name for name in arguments if name.startswith("upsampling")]
    own = {name: value for name, value in arguments.items() if name not in upsampling}
    generator = torch.Generator().manual_seed(0)
    more = {"num_inference_steps": STEPS, "output_type": "latent", "generator": generator}
    with count_forwards(pipe.transformer) as forwards:
        pipe.generation_pipe(**own, **more)
    assert len(forwards) == STEPS

    cache_dit.disable_cache(pipe)
    inner = pipe.generation_pipe, pipe.upsampling_pipe
    assert (type(pipe), *map(type, inner)) == classes
    assert [former_class(each) for each in inner] == [*classes[1:]]
    result = VISUAL_CLOZE.run(pipe, num_inference_steps=STEPS)
    assert all(torch.equal(one, other) for one, other in zip(result, full, strict=True))
