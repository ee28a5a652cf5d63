"""The embedded pipeline: it is there, small, a FluxPipeline, and knows which model it is."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file

import otcache_plugin
from otcache_plugin.models import embedded
from otcache_plugin.models.embedded import FluxScenesPipeline, load_embedded_pipeline
from otcache_plugin.models.setups import ModelSetup, load_setup

PROMPT = "red circle left on navy"


@pytest.fixture(scope="module")
def pipe() -> FluxScenesPipeline:
    return load_embedded_pipeline()


def draw(pipe: FluxScenesPipeline, **arguments: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images: torch.Tensor = pipe(PROMPT, generator=generator, output_type="pt", **arguments).images
    return images


def test_it_loads_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe = otcache_plugin.load_embedded_pipeline()
    assert isinstance(pipe, FluxPipeline)
    assert pipe.dtype == torch.float32
    assert {module.dtype for module in pipe.components.values() if hasattr(module, "dtype")} == {
        torch.float32
    }


def test_its_weights_have_the_names_that_all_versions_of_transformers_take() -> None:
    """transformers 4 leaves weights of other names out, and goes on with random ones."""
    names = load_file(embedded.FOLDER / "text_encoder" / "model.safetensors")
    assert {name.partition(".")[0] for name in names} == {"text_model"}


def test_it_is_small() -> None:
    size = sum(path.stat().st_size for path in embedded.FOLDER.rglob("*") if path.is_file())
    assert size <= 8 * 2**20
    # Nothing in it can be executed when it is read.
    suffixes = {path.suffix for path in embedded.FOLDER.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".txt", ".md"}


def test_other_precisions() -> None:
    pipe = load_embedded_pipeline(torch.bfloat16)
    assert pipe.transformer.dtype == pipe.vae.dtype == pipe.text_encoder_2.dtype == torch.bfloat16
    assert draw(pipe, num_inference_steps=2).isfinite().all()


def test_the_defaults_fit_the_scenes(pipe: FluxScenesPipeline) -> None:
    calls = []
    handle = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    images = draw(pipe, num_inference_steps=3)
    handle.remove()
    assert images.shape == (1, 3, 32, 32)
    assert len(calls) == 2 * 3  # guidance is two calls per step
    assert len(pipe.scheduler.timesteps) == 3


def test_fifty_steps_are_the_default(pipe: FluxScenesPipeline) -> None:
    draw(pipe, true_cfg_scale=1.0)
    assert len(pipe.scheduler.timesteps) == 50


def test_it_draws_what_the_prompt_says(pipe: FluxScenesPipeline) -> None:
    picture = draw(pipe, num_inference_steps=20)[0]
    # Where the circle is, and a corner that is always background.
    assert picture[:, 14:18, 7:10].mean(dim=(1, 2)).argmax() == 0
    assert picture[:, :2, :2].mean(dim=(1, 2)).argmax() == 2


def test_all_arguments_of_flux_are_accepted(pipe: FluxScenesPipeline) -> None:
    latents = pipe(
        [PROMPT, "blue square right on gray"],
        negative_prompt=["", ""],
        true_cfg_scale=2.0,
        height=32,
        width=32,
        num_images_per_prompt=2,
        num_inference_steps=2,
        max_sequence_length=8,
        output_type="latent",
        return_dict=False,
    )[0]
    assert len(latents) == 4


def test_it_says_which_model_it_is(pipe: FluxScenesPipeline) -> None:
    weights = embedded.FOLDER / "transformer" / "diffusion_pytorch_model.safetensors"
    assert pipe.otcache_model == ("embedded", hashlib.sha256(weights.read_bytes()).hexdigest())


def test_other_weights_are_another_model(pipe: FluxScenesPipeline, tmp_path: Path) -> None:
    own, config = pipe.transformer, dict(pipe.transformer.config)
    del config["_name_or_path"]
    fresh = FluxTransformer2DModel(**{**config, "num_layers": 1})
    fresh.save_pretrained(tmp_path / "transformer")
    copied_config = FluxTransformer2DModel.from_config(own.config)  # which says the old path
    reloaded = FluxTransformer2DModel.from_pretrained(tmp_path / "transformer")
    for other in (fresh, reloaded, copied_config):
        pipe.transformer = other
        assert pipe.otcache_model is None
    pipe.transformer = own
    assert pipe.otcache_model is not None
    with torch.no_grad():  # as a fused LoRA does
        weight = own.single_transformer_blocks[1].attn.to_q.weight
        before = weight.clone()
        weight[0, 0] += 0.5
        assert pipe.otcache_model is None
        weight.copy_(before)
    assert pipe.otcache_model is not None


def test_it_is_set_up() -> None:
    setup: ModelSetup = load_setup("embedded")
    assert isinstance(setup.pipe, FluxScenesPipeline)
    assert set(setup.calibration_prompts).isdisjoint(setup.held_out_prompts)
    assert setup.guidance == {"true_cfg_scale": embedded.TRUE_CFG_SCALE}
