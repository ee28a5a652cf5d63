"""Prompts are encoded once, outputs stay bit-identical, and text encoders go or stay whole."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import tiny_text
import torch
from diffusers import FluxPipeline
from tiny_pipelines import count_forwards, make_flux, wan_arguments

from otcache_plugin.calibration.measuring.prompt_memo import memoise_prompts
from otcache_plugin.errors import PipelineError
from otcache_plugin.models.embedded import load_embedded_pipeline
from otcache_plugin.models.exact_flow import ExactFlowSettings, load_exact_flow_pipeline

BATCH = ["a red circle", "two green squares on a lawn"]
OTHER = ["a bear", "an owl in snow"]
SIZE = {"height": 64, "width": 64}


@dataclass(frozen=True)
class Case:
    """A pipeline that encodes text, and what its calls need.

    Attributes:
        name: shown as the test's id.
        make: builds it; the same seed gives the same weights.
        arguments: of its calls.
        encoders: its text encoders.
    """

    name: str
    make: Callable[[], Any]
    arguments: dict[str, Any]
    encoders: tuple[str, ...] = ("text_encoder",)

    def __str__(self) -> str:
        return self.name


TWO = ("text_encoder", "text_encoder_2")
GUIDED = {"true_cfg_scale": 2.0, "negative_prompt": "grey"}
FLUX = Case("flux", tiny_text.make_flux_with_text, {**SIZE, **GUIDED}, TWO)
Z_IMAGE = Case(
    "z-image",
    tiny_text.make_z_image_with_text,
    {**SIZE, "guidance_scale": 3.0, "max_sequence_length": 32},
)
WAN = Case("wan-2.2", tiny_text.make_wan_with_text, {**SIZE, "num_frames": 5})
CASES = [
    FLUX,
    Case("embedded", load_embedded_pipeline, {}, TWO),
    Case("qwen-image", tiny_text.make_qwen_with_text, {**SIZE, **GUIDED}),
    Z_IMAGE,
    WAN,
    Case(
        "hunyuan-video",
        tiny_text.make_hunyuan_video_with_text,
        # The template before the prompt is 500 tokens long where bytes are tokens.
        {**SIZE, **GUIDED, "num_frames": 5, "max_sequence_length": 600},
        TWO,
    ),
    Case("ltx", tiny_text.make_ltx_with_text, {**SIZE, "num_frames": 9}),
    Case("sd3", tiny_text.make_sd3_with_text, SIZE, (*TWO, "text_encoder_3")),
    Case(
        "sana",
        tiny_text.make_sana_with_text,
        {
            "height": 256,
            "width": 256,
            "use_resolution_binning": False,
            "complex_human_instruction": ["draw this:"],
        },
    ),
]
of_every_case = pytest.mark.parametrize("case", CASES, ids=str)


def make(case: Case) -> Any:
    torch.manual_seed(0)
    return case.make()


def run(pipe: Any, case: Case, prompts: list[str]) -> torch.Tensor:
    """Two steps from fixed noise; gives the latents."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    output = pipe(
        prompt=list(prompts),
        generator=generators,
        num_inference_steps=2,
        output_type="latent",
        **case.arguments,
    )
    return output.frames if hasattr(output, "frames") else output.images


@contextmanager
def count_encodings(pipe: Any, case: Case) -> Iterator[list[int]]:
    """Count the forward passes of all text encoders; the count is the length of the list."""
    calls: list[int] = []
    handles = [
        getattr(pipe, name).register_forward_pre_hook(lambda *_: calls.append(1))
        for name in case.encoders
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@of_every_case
def test_outputs_are_the_same_and_every_batch_is_encoded_once(case: Case) -> None:
    pipe = make(case)
    with count_encodings(pipe, case) as plain:
        expected, other = (run(pipe, case, prompts) for prompts in (BATCH, OTHER))
    assert not torch.equal(expected, other)  # the prompt is seen
    memo = memoise_prompts(pipe)
    with count_encodings(pipe, case) as calls, count_forwards(pipe.transformer) as forwards:
        told: list[int] = []
        arguments = {**case.arguments, "num_inference_steps": 2}
        memo.encode_ahead([BATCH, OTHER, BATCH], arguments, lambda: told.append(len(calls)))
        assert len(told) == 2  # once for each batch, as soon as it is encoded
        assert 0 < told[0] <= told[1] == len(calls)
        # The negative prompt of both may be one call, which is then made once.
        assert len(plain) - len(case.encoders) <= len(calls) <= len(plain)
        assert len(forwards) <= 2
        encoded = len(calls)
        for _ in range(2):
            assert torch.equal(run(pipe, case, BATCH), expected)
            assert torch.equal(run(pipe, case, OTHER), other)
        assert len(calls) == encoded
    memo.remove()
    assert "encode_prompt" not in vars(pipe)
    assert torch.equal(run(pipe, case, BATCH), expected)


@of_every_case
def test_outputs_are_the_same_without_text_encoders(case: Case) -> None:
    pipe = make(case)
    expected, other = (run(pipe, case, prompts) for prompts in (BATCH, OTHER))
    memo = memoise_prompts(pipe)
    memo.encode_ahead([BATCH, OTHER], case.arguments)
    encoders = [weakref.ref(getattr(pipe, name)) for name in case.encoders]
    assert {name for name in pipe.components if name.startswith("text_encoder")} == {*case.encoders}
    memo.free_text_encoders()
    assert all(getattr(pipe, name) is None for name in case.encoders)
    gc.collect()
    assert all(encoder() is None for encoder in encoders)  # nothing holds them, so memory is free
    assert torch.equal(run(pipe, case, BATCH), expected)
    assert torch.equal(run(pipe, case, OTHER), other)
    for unknown in (["a new prompt", "and another"], BATCH[:1], BATCH[::-1]):
        with pytest.raises(PipelineError, match=r"prompt=.*not encoded.*Encode it ahead"):
            run(pipe, case, unknown)


def test_embeddings_are_fresh_copies() -> None:
    pipe = make(FLUX)
    memo = memoise_prompts(pipe)
    first = pipe.encode_prompt(BATCH, None, max_sequence_length=20)
    kept = [tensor.clone() for tensor in first]
    for tensor in first:
        tensor.zero_()
    # The same arguments in another form, with a default said.
    with count_encodings(pipe, FLUX) as calls:
        again = pipe.encode_prompt(
            prompt_2=None, prompt=BATCH, max_sequence_length=20, lora_scale=None
        )
    assert not calls
    assert all(torch.equal(a, b) for a, b in zip(again, kept, strict=True))
    memo.remove()


def test_every_argument_counts() -> None:
    pipe = make(FLUX)
    memo = memoise_prompts(pipe)
    with count_encodings(pipe, FLUX) as calls:
        for arguments in ({}, {"max_sequence_length": 20}, {"num_images_per_prompt": 2}):
            for _ in range(2):
                pipe.encode_prompt(BATCH, None, **arguments)
        assert len(calls) == 2 * 3
        pipe.encode_prompt("a", None)
        pipe.encode_prompt(["a"], None)
        assert len(calls) == 2 * 5
        for scale in (1, 1.0, True):
            pipe.encode_prompt("a", None, lora_scale=scale)
        assert len(calls) == 2 * 8
    memo.remove()


def test_calls_with_tensors_pass_through() -> None:
    pipe, twin = make(WAN), make(WAN)
    memo = memoise_prompts(pipe)
    arguments = {**wan_arguments(), "num_inference_steps": 2, "output_type": "latent"}
    outputs = [
        each(**arguments, generator=torch.Generator().manual_seed(0)).frames
        for each in (pipe, pipe, twin)
    ]
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[2])
    embeds = torch.ones(1, 5, 16)
    given, _ = pipe.encode_prompt("a", prompt_embeds=embeds, negative_prompt_embeds=embeds)
    assert given is embeds
    memo.remove()


def test_the_signature_can_be_inspected() -> None:
    pipe = make(FLUX)
    memo = memoise_prompts(pipe)
    assert inspect.signature(pipe.encode_prompt) == inspect.signature(make(FLUX).encode_prompt)
    with pytest.raises(TypeError, match="colour"):
        pipe.encode_prompt("a", None, colour="red")
    memo.remove()


def test_the_callers_list_is_left_alone() -> None:
    """Z-Image's encode_prompt writes into its list, so that a second call would template twice."""
    pipe = make(Z_IMAGE)
    memo = memoise_prompts(pipe)
    prompts = list(BATCH)
    pipe.encode_prompt(prompts)
    assert prompts == BATCH
    memo.remove()
    pipe.encode_prompt(prompts)
    assert prompts != BATCH


def test_a_pipeline_without_encode_prompt_is_left_as_it_is() -> None:
    pipe = load_exact_flow_pipeline(ExactFlowSettings(scenes=50))
    before = dict(vars(pipe))
    memo = memoise_prompts(pipe)
    memo.encode_ahead([["no such caption"]], {})
    with pytest.raises(PipelineError, match=r"ExactFlowPipeline.*no encode_prompt.*Calibrate"):
        memo.free_text_encoders()
    memo.remove()
    assert vars(pipe) == before


def test_encoders_stay_before_anything_was_encoded() -> None:
    pipe = make(FLUX)
    memo = memoise_prompts(pipe)
    with pytest.raises(PipelineError, match="no prompts have been encoded ahead"):
        memo.free_text_encoders()
    assert pipe.text_encoder is not None


class ReadsAnEncoder(FluxPipeline):
    """As DreamLite does."""

    def prepare_latents(self, *arguments: Any) -> Any:
        assert self.text_encoder_2.dtype == torch.float32
        return super().prepare_latents(*arguments)


class FollowsAnEncoder(FluxPipeline):
    """As EasyAnimate does: without the encoder it goes on with something else."""

    def prepare_latents(self, *arguments: Any) -> Any:
        latents, ids = super().prepare_latents(*arguments)
        return (latents if self.text_encoder is not None else 2 * latents), ids


class EncodesOpaquely(FluxPipeline):
    """Its embeddings are more than tensors."""

    def encode_prompt(self, *arguments: Any, **keywords: Any) -> Any:
        class Answer(tuple[torch.Tensor, ...]):
            pass

        return Answer(super().encode_prompt(*arguments, **keywords))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (ReadsAnEncoder, "beyond encode_prompt .*NoneType"),
        (FollowsAnEncoder, "transformer gets other inputs"),
        (EncodesOpaquely, "beyond encode_prompt .*not encoded"),
    ],
)
def test_encoders_that_are_needed_stay(kind: type, problem: str) -> None:
    parts = make(FLUX).components
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    expected = run(pipe, FLUX, BATCH)
    memo = memoise_prompts(pipe)
    memo.encode_ahead([BATCH], FLUX.arguments)
    with pytest.raises(PipelineError, match=f"{kind.__name__}.*cannot be freed: .*{problem}"):
        memo.free_text_encoders()
    assert pipe.text_encoder is parts["text_encoder"]
    assert pipe.text_encoder_2 is parts["text_encoder_2"]
    assert torch.equal(run(pipe, FLUX, BATCH), expected)
    run(pipe, FLUX, OTHER)  # and unknown prompts are encoded still


class IsInterrupted(FluxPipeline):
    """Somebody presses Ctrl-C when it goes on without its encoder."""

    def prepare_latents(self, *arguments: Any) -> Any:
        if self.text_encoder is None:
            raise KeyboardInterrupt
        return super().prepare_latents(*arguments)


def test_an_interrupt_leaves_the_encoders() -> None:
    parts = make(FLUX).components
    pipe = IsInterrupted(**parts)
    pipe.set_progress_bar_config(disable=True)
    memo = memoise_prompts(pipe)
    memo.encode_ahead([BATCH], FLUX.arguments)
    with pytest.raises(KeyboardInterrupt):
        memo.free_text_encoders()
    assert pipe.text_encoder is parts["text_encoder"]
    assert pipe.text_encoder_2 is parts["text_encoder_2"]
    run(pipe, FLUX, OTHER)  # and unknown prompts are encoded still


def test_encoding_ahead_leaves_no_trace() -> None:
    pipe = make(FLUX)
    memo = memoise_prompts(pipe)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    memo.encode_ahead([BATCH], FLUX.arguments)
    assert torch.equal(torch.get_rng_state(), state)
    assert not pipe.transformer._forward_pre_hooks
    memo.remove()


def test_a_pipeline_that_cannot_encode_says_so_itself() -> None:
    pipe = make_flux()  # without tokenizers
    memo = memoise_prompts(pipe)
    with pytest.raises(AttributeError, match=r"NoneType.*tokenize"):
        memo.encode_ahead([BATCH], {**SIZE})
    assert not pipe.transformer._forward_pre_hooks
