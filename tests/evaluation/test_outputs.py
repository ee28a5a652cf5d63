"""Outputs are what a pipeline call of a user's gives, and nobody decodes what nobody looks at."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tiny_pipelines import (
    POOLED_WIDTH,
    TEXT_TOKENS,
    TEXT_WIDTH,
    euler_scheduler,
    make_flux,
    make_flux_img2img,
    quiet,
)

from otcache_plugin.errors import PipelineError
from otcache_plugin.evaluation.outputs import SPACES, generate, generate_outputs
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.exact_flow import ExactFlowPipeline

STEPS = 3
LATENTS = frozenset({"latents"})
PAIRS = [Pair("a", 3), Pair("bb", 7), Pair("a", 4)]
SCENES = [Pair(f"kind {kind}", seed) for kind, seed in [(0, 3), (1, 7), (0, 4)]]
IMAGE = {"num_inference_steps": STEPS, "height": 64, "width": 64}
VIDEO = {**IMAGE, "num_frames": 5}


def embedded(prompts: Sequence[str], *shape: int) -> torch.Tensor:
    """Random embeddings that depend on the length of each prompt, and on nothing else."""
    generators = [torch.Generator().manual_seed(len(prompt)) for prompt in prompts]
    return torch.stack([torch.randn(*shape, generator=each) for each in generators])


def packed_pipeline(dtype: torch.dtype = torch.float32) -> Any:
    """A tiny FLUX: its latents are sequences of packed patches. The text encoding is a stub."""
    pipe = make_flux(vae=make_flux_img2img().vae, dtype=dtype)

    def encode_prompt(prompt: Sequence[str], **_: Any) -> tuple[torch.Tensor, ...]:
        text = embedded(prompt, TEXT_TOKENS, TEXT_WIDTH).to(dtype)
        return text, embedded(prompt, POOLED_WIDTH).to(dtype), torch.zeros(TEXT_TOKENS, 3)

    pipe.encode_prompt = encode_prompt
    return pipe


def video_pipeline() -> Any:
    """A tiny Wan 2.1 with its VAE. The text encoding is a stub."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=32,
    )
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae.eval(),
        scheduler=euler_scheduler(),
        transformer=transformer.eval(),
    )

    def encode_prompt(prompt: Sequence[str], **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        text = embedded(prompt, TEXT_TOKENS, TEXT_WIDTH)
        return text, torch.zeros_like(text)

    pipe.encode_prompt = encode_prompt
    return quiet(pipe)


def count_decodings(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch sizes of what the pipeline's VAE decodes from now on."""
    decoded: list[int] = []
    decode = pipe.vae.decode

    def counting(latents: torch.Tensor, **kwargs: Any) -> Any:
        decoded.append(len(latents))
        return decode(latents, **kwargs)

    monkeypatch.setattr(pipe.vae, "decode", counting)
    return decoded


def called(pipe: Any, pairs: Sequence[Pair], **arguments: Any) -> torch.Tensor:
    """What a user's call gives."""
    answer = pipe(
        prompt=[pair.prompt for pair in pairs],
        generator=[torch.Generator().manual_seed(pair.seed) for pair in pairs],
        **arguments,
    )
    given: torch.Tensor = answer.frames if hasattr(answer, "frames") else answer.images
    return given


@pytest.mark.parametrize("spaces", [SPACES, LATENTS])
@pytest.mark.parametrize(
    ("make", "arguments", "shape"),
    [
        # 8 × 8 latents of 4 channels in patches of 2 × 2; two latent frames for five.
        pytest.param(packed_pipeline, IMAGE, (3, 16, 16), id="packed"),
        pytest.param(video_pipeline, VIDEO, (3, 4, 2, 8, 8), id="video"),
    ],
)
def test_latents_are_those_of_a_call_for_latents(
    make: Any, arguments: dict[str, Any], shape: tuple[int, ...], spaces: Any
) -> None:
    pipe = make()
    outputs = generate_outputs(pipe, PAIRS, arguments, spaces=spaces)
    expected = called(pipe, PAIRS, output_type="latent", **arguments)
    assert outputs.latents.shape == shape
    assert torch.equal(outputs.latents, expected)
    # Other seeds and other prompts are other latents.
    assert not torch.equal(outputs.latents[0], outputs.latents[1])
    assert not torch.equal(outputs.latents[0], outputs.latents[2])


@pytest.mark.parametrize("batch_size", [64, 2, 1])
def test_of_the_exact_flow(pipe: ExactFlowPipeline, batch_size: int) -> None:
    arguments = {"num_inference_steps": STEPS}
    outputs = generate_outputs(pipe, SCENES, arguments, batch_size)
    batches = [SCENES[start : start + batch_size] for start in range(0, 3, batch_size)]
    latents = [called(pipe, batch, output_type="latent", **arguments) for batch in batches]
    images = torch.cat([called(pipe, batch, output_type="pt", **arguments) for batch in batches])
    assert torch.equal(outputs.latents, torch.cat(latents))
    assert outputs.pictures is not None
    assert outputs.pictures.shape == (3, 1, 3, 32, 32)
    assert torch.equal(outputs.pictures[:, 0], images)
    assert torch.equal(generate(pipe, SCENES, arguments, batch_size), images)


def test_frames_of_a_video() -> None:
    pipe = video_pipeline()
    pictures = generate_outputs(pipe, PAIRS, VIDEO).pictures
    assert pictures is not None
    assert pictures.shape == (3, 5, 3, 64, 64)
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert torch.equal(pictures, called(pipe, PAIRS, output_type="pt", **VIDEO))


@pytest.mark.parametrize(("make", "arguments"), [(packed_pipeline, IMAGE), (video_pipeline, VIDEO)])
def test_nothing_is_decoded_for_latents(
    make: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make()
    decoded = count_decodings(pipe, monkeypatch)
    assert generate_outputs(pipe, PAIRS, arguments, 2, LATENTS).pictures is None
    assert decoded == []
    assert generate_outputs(pipe, PAIRS, arguments, 2).pictures is not None
    assert decoded == [2, 1]


def test_of_half_precision_too_they_are_float32() -> None:
    pipe = packed_pipeline(torch.bfloat16)
    latents = generate_outputs(pipe, PAIRS, IMAGE, spaces=LATENTS).latents
    expected = called(pipe, PAIRS, output_type="latent", **IMAGE)
    assert (latents.dtype, expected.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(latents, expected.float())


def test_the_scheduler_is_its_own_again(
    pipe: ExactFlowPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_outputs(pipe, SCENES, {"num_inference_steps": STEPS})
    assert "step" not in vars(pipe.scheduler)

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(FlowMatchEulerDiscreteScheduler, "step", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate_outputs(pipe, SCENES, {"num_inference_steps": STEPS})
    assert "step" not in vars(pipe.scheduler)


class SoundPipeline:
    """Steps its scheduler, and answers with what nobody can look at."""

    def __init__(self) -> None:
        self.scheduler = SimpleNamespace(step=lambda sample: (sample + 1,))

    def __call__(self, prompt: Sequence[str], steps: int, **_: Any) -> SimpleNamespace:
        latents = torch.zeros(len(prompt), 4)
        for _step in range(steps):
            latents = self.scheduler.step(latents)[0]
        return SimpleNamespace(audios=latents)


def test_a_pipeline_without_pictures_has_latents() -> None:
    pipe = SoundPipeline()
    outputs = generate_outputs(pipe, PAIRS, {"steps": 2}, spaces=LATENTS)  # type: ignore[arg-type]
    assert outputs.latents.tolist() == [[2.0] * 4] * 3
    with pytest.raises(PipelineError, match=r"pipe='SoundPipeline'.*neither images nor frames"):
        generate_outputs(pipe, PAIRS, {"steps": 2})  # type: ignore[arg-type]


def test_a_pipeline_that_takes_no_step_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"pipe='SoundPipeline'.*no step of its scheduler"):
        generate_outputs(SoundPipeline(), PAIRS, {"steps": 0}, spaces=LATENTS)  # type: ignore[arg-type]
