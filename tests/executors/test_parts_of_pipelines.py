"""Pipelines by their parts: every denoiser is found, and what cannot be served is refused."""

from __future__ import annotations

import inspect
from typing import Any

import cache_dit
import diffusers
import pytest
import torch
from diffusers import (
    FlowMatchHeunDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    ModularPipeline,
    ModularPipelineBlocks,
)
from otcache_policies import Schedule
from reference_runs import reference_run
from tiny_pipelines import (
    count_forwards,
    euler_scheduler,
    flux_family,
    make_flux,
    unipc_scheduler,
)
from tiny_pipelines.ideogram import IDEOGRAM
from tiny_pipelines.ltx2 import ltx2_arguments, make_ltx2

import otcache_plugin
from otcache_plugin.errors import PipelineError

STEPS = 8
SCHEDULE = Schedule([0, 2, 7], STEPS, [2, 2])


def test_both_transformers_of_ideogram_rest(enable: Any) -> None:
    pipe = IDEOGRAM.make()
    enable(pipe, policy=SCHEDULE)
    with (
        count_forwards(pipe.transformer) as conditional,
        count_forwards(pipe.unconditional_transformer) as unconditional,
    ):
        result = IDEOGRAM.run(pipe, num_inference_steps=STEPS)
    assert (len(conditional), len(unconditional)) == (3, 3)
    report = otcache_plugin.summary(pipe)
    assert (report.transformer_calls, report.as_planned) == (6, True)
    steps, look_backs = SCHEDULE.computed_steps, SCHEDULE.look_backs
    expected = reference_run(
        IDEOGRAM, IDEOGRAM.make(), steps, look_backs, num_inference_steps=STEPS
    )
    assert torch.equal(result, expected)


class FluxTwoNamesPipeline(FluxPipeline):
    """Has a second denoiser under a name of its own."""

    def __init__(self, refiner: FluxTransformer2DModel, **parts: Any) -> None:
        super().__init__(**parts)
        self.register_modules(refiner=refiner)


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_a_denoiser_of_an_unknown_name_is_refused(executor: str) -> None:
    base = make_flux()
    parts = {name: part for name, part in base.components.items() if part is not None}
    empty = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe = FluxTwoNamesPipeline(refiner=make_flux().transformer, **{**empty, **parts})
    with pytest.raises(PipelineError, match=r"refiner='FluxTransformer2DModel'.*a denoiser there"):
        cache_dit.enable_cache(pipe, policy="uniform", executor=executor)
    assert type(pipe) is FluxTwoNamesPipeline


UNKNOWN_TO_CACHE_DIT = {
    "WanAnimatePipeline": {
        "_class": "WanAnimateTransformer3DModel",
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 12,
        "latent_channels": 4,
        "out_channels": 4,
        "text_dim": 8,
        "freq_dim": 8,
        "ffn_dim": 8,
        "num_layers": 2,
        "image_dim": 4,
        "motion_encoder_channel_sizes": {"4": 8, "8": 8, "16": 8},
        "motion_encoder_size": 16,
        "motion_style_dim": 8,
        "motion_dim": 4,
        "motion_encoder_dim": 16,
        "face_encoder_hidden_dim": 16,
        "face_encoder_num_heads": 2,
        "inject_face_latents_blocks": 2,
    },
    "SanaVideoPipeline": {
        "_class": "SanaVideoTransformer3DModel",
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 2,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 12,
        "cross_attention_dim": 24,
        "caption_channels": 8,
    },
    "HunyuanVideoFramepackPipeline": {
        "_class": "HunyuanVideoFramepackTransformer3DModel",
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 10,
        "num_layers": 2,
        "num_single_layers": 2,
        "num_refiner_layers": 1,
        "text_embed_dim": 8,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (2, 4, 4),
    },
}


@pytest.mark.parametrize("pipeline", UNKNOWN_TO_CACHE_DIT)
def test_what_cache_dit_knows_by_name_alone_is_refused(pipeline: str) -> None:
    config = dict(UNKNOWN_TO_CACHE_DIT[pipeline])
    architecture = config.pop("_class")
    cls = getattr(diffusers, pipeline)
    parts = dict.fromkeys(list(inspect.signature(cls.__init__).parameters)[1:])
    parts["transformer"] = getattr(diffusers, architecture)(**config)
    parts["scheduler"] = unipc_scheduler()
    pipe = cls(**parts)
    with pytest.raises(PipelineError, match=f"transformer='{architecture}'.*cache-dit cannot put"):
        cache_dit.enable_cache(pipe, policy="uniform", executor="blocks")
    assert type(pipe) is cls
    cache_dit.enable_cache(pipe, policy="uniform", executor="velocity")  # the remedy
    cache_dit.disable_cache(pipe)


@pytest.mark.parametrize("scheduler", [euler_scheduler, FlowMatchHeunDiscreteScheduler])
def test_blocks_whose_outputs_cache_dit_swaps_are_refused(scheduler: Any) -> None:
    [row] = [row for row in flux_family.ROWS if str(row) == "BriaPipeline"]
    pipe = row.make()
    pipe.scheduler = scheduler()
    with pytest.raises(PipelineError) as refusal:
        cache_dit.enable_cache(pipe, policy="uniform", executor="blocks")
    assert refusal.value.field == "transformer"
    assert refusal.value.problem == (
        "cache-dit takes what its BriaTransformerBlock returns for hidden_states and "
        "encoder_hidden_states, and it is encoder_hidden_states and hidden_states"
    )
    assert "cache-dit's own" not in refusal.value.remedy
    pipe.scheduler = euler_scheduler()  # the remedy
    cache_dit.enable_cache(pipe, policy=SCHEDULE, executor="velocity")
    pipe(**row.arguments(), num_inference_steps=STEPS, output_type="latent")
    assert otcache_plugin.summary(pipe).as_planned
    cache_dit.disable_cache(pipe)


def test_blocks_that_would_lose_arguments_are_refused() -> None:
    pipe = make_ltx2()
    refusal = r"transformer='LTX2VideoTransformer3DModel'.*takes no sigma.*executor='velocity'"
    with pytest.raises(PipelineError, match=refusal):
        cache_dit.enable_cache(pipe, policy=SCHEDULE, executor="blocks")
    cache_dit.enable_cache(pipe, policy=SCHEDULE, executor="velocity")  # the remedy
    pipe(**ltx2_arguments(), num_inference_steps=STEPS, output_type="latent")
    assert otcache_plugin.summary(pipe).as_planned
    cache_dit.disable_cache(pipe)


def test_a_modular_pipeline_is_told_from_a_part() -> None:
    pipe = ModularPipeline(blocks=ModularPipelineBlocks())
    with pytest.raises(PipelineError, match=r"Load the same model with DiffusionPipeline"):
        cache_dit.enable_cache(pipe, policy="uniform")
    with pytest.raises(PipelineError, match="Pass the diffusers pipeline"):
        cache_dit.enable_cache(make_flux().transformer, policy="uniform")
