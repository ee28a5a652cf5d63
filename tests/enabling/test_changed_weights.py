"""Weights that are changed after a document was enabled are noticed at the next call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_submodules
from peft import LoraConfig
from peft.utils.hotswap import hotswap_adapter_from_state_dict
from tiny_documents import write_document
from tiny_pipelines import FLUX, count_forwards, make_flux

import otcache_plugin
from otcache_plugin.errors import PipelineError
from otcache_plugin.origins import watching
from otcache_plugin.origins.watching import WeightsWatch

STEPS = 12

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")


def config() -> LoraConfig:
    """Return a LoRA of rank 2 on the attention's queries."""
    return LoraConfig(r=2, lora_alpha=4, target_modules=["to_q"], init_lora_weights=False)


def with_loras() -> Any:
    """Return a tiny Flux pipeline with two LoRAs, the first of them active."""
    pipe = make_flux()
    for name in ("first", "second"):
        pipe.transformer.add_adapter(config(), name)
    pipe.transformer.set_adapters(["first"])
    return pipe


def others(pipe: Any) -> dict[str, torch.Tensor]:
    """Return other values for all weights of a transformer."""
    state = pipe.transformer.state_dict()
    return {name: value + 0.01 for name, value in state.items()}


def written_past_the_counter(pipe: Any) -> None:
    """What a moving average does that puts its weights into a model."""
    for weight in pipe.transformer.parameters():
        weight.data.copy_(weight.data.float() + 0.3)


def hot_swapped(pipe: Any) -> None:
    state = {
        name: torch.full_like(value, 0.1)
        for name, value in pipe.transformer.state_dict().items()
        if "lora_" in name and ".first." in name
    }
    hotswap_adapter_from_state_dict(pipe.transformer, state, "first", config())


def trained(pipe: Any) -> None:
    weight = next(pipe.transformer.parameters())
    weight.grad = torch.ones_like(weight)
    torch.optim.SGD([weight], lr=0.1).step()


def fused_and_forgotten(pipe: Any) -> None:
    pipe.transformer.fuse_lora()
    pipe.transformer.unload_lora()


ADAPTER = "a LoRA or another adapter was loaded into it, switched or removed"
KINDS = "it has weights of other names, shapes or kinds"
VALUES = "has other values"


@pytest.mark.parametrize(
    ("make", "change", "finding"),
    [
        (make_flux, lambda pipe: pipe.transformer.add_adapter(config()), ADAPTER),
        (with_loras, lambda pipe: pipe.transformer.set_adapters(["second"]), ADAPTER),
        (with_loras, lambda pipe: pipe.transformer.set_adapters(["first"], [0.5]), ADAPTER),
        (with_loras, lambda pipe: pipe.transformer.disable_adapters(), ADAPTER),
        (with_loras, lambda pipe: pipe.transformer.fuse_lora(), ADAPTER),
        (with_loras, lambda pipe: pipe.transformer.unload_lora(), ADAPTER),
        (with_loras, fused_and_forgotten, ADAPTER),
        (with_loras, hot_swapped, VALUES),
        (make_flux, lambda pipe: pipe.transformer.load_state_dict(others(pipe)), VALUES),
        (
            make_flux,
            lambda pipe: pipe.transformer.load_state_dict(others(pipe), assign=True),
            VALUES,
        ),
        (make_flux, written_past_the_counter, VALUES),
        (make_flux, trained, VALUES),
        (
            make_flux,
            lambda pipe: setattr(pipe, "transformer", make_flux(num_layers=2).transformer),
            KINDS,
        ),
    ],
    ids=[
        "loaded",
        "switched",
        "scaled",
        "disabled",
        "fused",
        "unloaded",
        "fused-and-unloaded",
        "hot-swapped",
        "load_state_dict",
        "load_state_dict-assign",
        "data",
        "trained",
        "replaced",
    ],
)
def test_changed_weights_are_refused(
    make: Callable[[], Any],
    change: Callable[[Any], None],
    finding: str,
    tmp_path: Path,
    enable: Any,
) -> None:
    write_document(tmp_path)
    pipe = make()
    enable(pipe, policy=tmp_path)
    FLUX.run(pipe, num_inference_steps=STEPS)
    change(pipe)
    for _ in range(2):
        with (
            count_forwards(pipe.transformer.x_embedder) as forwards,
            pytest.raises(PipelineError) as caught,
        ):
            FLUX.run(pipe, num_inference_steps=STEPS)
        assert not forwards
    assert caught.value.field == "transformer"
    message = str(caught.value)
    assert finding in message
    assert "enable_cache(pipe, policy=…) again" in message
    assert "otcache calibrate" in message
    enable(pipe, policy=tmp_path)
    FLUX.run(pipe, num_inference_steps=STEPS)
    assert otcache_plugin.summary(pipe).as_planned


def moved(pipe: Any) -> None:
    """What offloading does: the same values somewhere else."""
    for weight in pipe.transformer.parameters():
        weight.data = weight.data.clone()


def moved_by_new_parameters(pipe: Any) -> None:
    """What offloading of one module after the other does."""
    for module in pipe.transformer.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(weight.detach().clone(), requires_grad=False))


def offloaded_by_groups(pipe: Any) -> None:
    cpu = torch.device("cpu")
    pipe.transformer.enable_group_offload(cpu, cpu, "block_level", num_blocks_per_group=1)


def offloaded_one_after_the_other(pipe: Any) -> None:
    """Between calls the weights are on no device, so their values can't be read there."""
    cpu_offload(pipe.transformer, torch.device("cpu"))


@pytest.mark.parametrize("offloaded_first", [False, True], ids=["after", "before"])
def test_offloading_one_module_after_the_other(
    offloaded_first: bool, tmp_path: Path, enable: Any
) -> None:
    write_document(tmp_path)
    pipe = make_flux()
    if offloaded_first:
        offloaded_one_after_the_other(pipe)
    enable(pipe, policy=tmp_path)
    if not offloaded_first:
        offloaded_one_after_the_other(pipe)
    for _ in range(2):
        FLUX.run(pipe, num_inference_steps=STEPS)
        assert otcache_plugin.summary(pipe).as_planned
    remove_hook_from_submodules(pipe.transformer)
    FLUX.run(pipe, num_inference_steps=STEPS)
    pipe.transformer = make_flux(num_layers=2).transformer
    with pytest.raises(PipelineError, match=KINDS):
        FLUX.run(pipe, num_inference_steps=STEPS)


@pytest.mark.parametrize(
    "change",
    [
        moved,
        moved_by_new_parameters,
        offloaded_by_groups,
        lambda pipe: pipe.transformer.load_state_dict(pipe.transformer.state_dict()),
        lambda pipe: pipe.to("cpu"),
        lambda pipe: pipe.transformer.enable_layerwise_casting(torch.float16, torch.float32),
        lambda pipe: pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32),
        lambda pipe: setattr(pipe, "transformer", torch.compile(pipe.transformer, backend="eager")),
    ],
    ids=["moved", "replaced", "by groups", "reloaded", "to", "in 16 bits", "in 8 bits", "compiled"],
)
def test_the_same_weights_are_not_taken_for_others(
    change: Callable[[Any], None], tmp_path: Path, enable: Any
) -> None:
    write_document(tmp_path)
    pipe = make_flux()
    enable(pipe, policy=tmp_path)
    change(pipe)
    for _ in range(2):
        FLUX.run(pipe, num_inference_steps=STEPS)
        assert otcache_plugin.summary(pipe).as_planned
    written_past_the_counter(pipe)
    with pytest.raises(PipelineError, match="has other values"):
        FLUX.run(pipe, num_inference_steps=STEPS)


@pytest.mark.parametrize(
    ("change", "forwards"),
    [
        (written_past_the_counter, True),
        (hot_swapped, True),
        (lambda pipe: pipe.transformer.load_state_dict(others(pipe)), False),
        (lambda pipe: pipe.transformer.fuse_lora(), False),
    ],
    ids=["data", "hot-swapped", "load_state_dict", "fused"],
)
def test_weights_that_are_not_at_hand(
    change: Callable[[Any], None],
    forwards: bool,
    tmp_path: Path,
    enable: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU: what only a look at their values tells is known when the call is over."""
    monkeypatch.setattr(watching, "_is_at_hand", lambda weight: False)
    write_document(tmp_path)
    pipe = with_loras()
    enable(pipe, policy=tmp_path)
    moved(pipe)
    for _ in range(2):
        FLUX.run(pipe, num_inference_steps=STEPS)
    change(pipe)
    for _ in range(2):
        with (
            count_forwards(pipe.transformer.x_embedder) as ran,
            pytest.raises(PipelineError) as caught,
        ):
            FLUX.run(pipe, num_inference_steps=STEPS)
        assert bool(ran) == forwards
        assert ("seen while this call ran" in str(caught.value)) == forwards


def test_a_policy_without_document_takes_any_weights(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform")
    pipe.transformer.add_adapter(config())
    FLUX.run(pipe, num_inference_steps=STEPS)
    assert otcache_plugin.summary(pipe).as_planned


class Placeless(torch.nn.Module):
    """A denoiser on no device at all, whose values nobody can read."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 3, device="meta")


def test_what_cannot_be_read_is_told_apart_by_its_shapes() -> None:
    pipe = type("Pipe", (), {"transformer": Placeless()})()
    watch = WeightsWatch(pipe)
    watch.look(pipe).require_unchanged()
    pipe.transformer.inner = torch.nn.Linear(3, 2, device="meta")
    with pytest.raises(PipelineError, match=KINDS):
        watch.look(pipe)
