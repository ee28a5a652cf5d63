"""The second test-bed as a set-up: a trained WanPipeline of landscapes, beside the embedded Flux.

    from benchmarks.testbed import load_testbed

Its weights and prompts are in tools/testbed; tools/train_testbed.py makes them. What is fixed here
is how it is called: one frame of 32 × 32 pixels and guidance, which Wan computes as two transformer
calls per step.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from diffusers import WanPipeline, WanTransformer3DModel

from otcache_plugin.models.precision import convert
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.origin import ModelOrigin
from otcache_plugin.prompts.files import read_prompts

NAME = "testbed"
FOLDER = Path(__file__).parents[1] / "tools" / "testbed"
GUIDANCE = {"guidance_scale": 3.5}
CALL = {"height": 32, "width": 32, "num_frames": 1, "max_sequence_length": 8, **GUIDANCE}
"""What every call takes besides prompt and steps; as JSON, what the command takes as `--call`."""


def load_testbed() -> ModelSetup:
    """Load the pipeline; its held-out captions are in no training and in no calibration."""
    weights = (FOLDER / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    origin = ModelOrigin(NAME, hashlib.sha256(weights).hexdigest(), "its weights in tools/testbed")
    return ModelSetup(
        NAME,
        _load_pipeline(weights),
        CALL,
        GUIDANCE,
        read_prompts(FOLDER / "calibration.txt", "prompts").texts,
        read_prompts(FOLDER / "evaluation.jsonl", "evaluation_prompts").texts,
        origin,
    )


def _load_pipeline(weights: bytes) -> WanPipeline:
    # Wan's transformer is loaded by diffusers only where accelerate is installed.
    config = WanTransformer3DModel.load_config(FOLDER / "transformer")
    transformer = WanTransformer3DModel.from_config(config).eval()
    transformer.load_state_dict(safetensors.torch.load(weights))
    pipe = WanPipeline.from_pretrained(FOLDER, transformer=transformer, low_cpu_mem_usage=False)
    convert(pipe, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe
