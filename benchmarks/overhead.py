"""What does the machinery cost? A step beside the transformer, at the latents of large models.

    python -m benchmarks.overhead --output benchmarks/results/overhead.json

The pipelines are diffusers' own, their transformer answers at once with what it was given before:
so a step costs what the scheduler's does, and what a policy adds. Untouched runs, runs of which
every step is computed and runs of which few are take turns, on one thread; medians over the turns,
with the quarter below and above. The log is what tensors are alive at the end of a step beyond
those of an untouched run.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from otcache_policies import Schedule, UniformPolicy
from rich.console import Console
from rich.progress import track
from rich.table import Table

from otcache_plugin.enabling.enable import disable_cache, enable_cache

STEPS = 20
BUDGET = 5
LOOK_BACKS = (2, 4)
TURNS = 15
DTYPE = torch.bfloat16
MIB = 2**20


def answering_at_once(transformer: Any) -> Any:
    """Have a transformer answer with one and the same output, of the shape of its input."""
    known: dict[torch.Size, torch.Tensor] = {}

    def forward(hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        shape = hidden_states.shape
        if shape not in known:
            known[shape] = torch.randn(shape, dtype=hidden_states.dtype)
        return (known[shape],)

    transformer.forward = forward
    return transformer.to(DTYPE)


def flux() -> tuple[Any, dict[str, Any]]:
    """FLUX.1-dev at 1024 x 1024 pixels: latents of 4096 x 64."""
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    pipe = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0), None, None, None, None, None,
        answering_at_once(transformer),
    )  # fmt: skip
    return pipe, {
        "prompt_embeds": torch.zeros(1, 4, 8, dtype=DTYPE),
        "pooled_prompt_embeds": torch.zeros(1, 8, dtype=DTYPE),
        "height": 1024,
        "width": 1024,
    }


def hunyuan_video() -> tuple[Any, dict[str, Any]]:
    """HunyuanVideo, 129 frames of 1280 x 720 pixels: latents of 16 x 33 x 90 x 160."""
    transformer = HunyuanVideoTransformer3DModel(
        num_attention_heads=1,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=8,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 6, 6),
    )
    pipe = HunyuanVideoPipeline(
        None, None, answering_at_once(transformer), None,
        FlowMatchEulerDiscreteScheduler(shift=7.0), None, None,
    )  # fmt: skip
    return pipe, {
        "prompt_embeds": torch.zeros(1, 4, 8, dtype=DTYPE),
        "prompt_attention_mask": torch.ones(1, 4),
        "pooled_prompt_embeds": torch.zeros(1, 8, dtype=DTYPE),
        "height": 720,
        "width": 1280,
        "num_frames": 129,
    }


MODELS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "FLUX.1-dev, 1024 x 1024": flux,
    "HunyuanVideo, 129 frames of 1280 x 720": hunyuan_video,
}


@dataclass
class Steps:
    """Reads the clock at the end of every step, and the memory of tensors when it is asked to."""

    ends: list[float] = field(default_factory=list)
    bytes_alive: list[int] = field(default_factory=list)
    count_bytes: bool = False

    def __call__(self, pipe: Any, step: int, timestep: Any, state: dict[str, Any]) -> Any:
        """Be the callback at the end of a step."""
        if self.count_bytes:
            self.bytes_alive.append(alive())
        self.ends.append(time.perf_counter())
        return state

    def milliseconds(self, steps: list[int]) -> float:
        """Return the median of some steps' time; the first has no beginning."""
        return 1000 * statistics.median(self.ends[step] - self.ends[step - 1] for step in steps)


def alive() -> int:
    """Return the bytes of all tensors that are alive, each storage once."""
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if isinstance(each, torch.Tensor)
    }
    return sum(storages.values())


def run(pipe: Any, arguments: dict[str, Any], *, count_bytes: bool = False) -> Steps:
    """Run the pipeline once."""
    steps = Steps(count_bytes=count_bytes)
    pipe(
        **arguments,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        callback_on_step_end=steps,
    )
    return steps


def schedule(look_back: int) -> Schedule:
    """Return the uniform schedule with one look-back for all its segments."""
    computed = UniformPolicy(STEPS).schedule(BUDGET).computed_steps
    return Schedule(computed, STEPS, [look_back] * (BUDGET - 1))


def spread(values: list[float]) -> dict[str, float]:
    """Return median and quarters."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 4), "low": round(low, 4), "high": round(high, 4)}


def measure(name: str) -> dict[str, Any]:
    """Measure one model."""
    pipe, arguments = MODELS[name]()
    pipe.set_progress_bar_config(disable=True)
    run(pipe, arguments)
    later = list(range(1, STEPS))
    policies = {"computed": Schedule.full(STEPS)} | {
        f"cached, look-back {each}": schedule(each) for each in (1, *LOOK_BACKS)
    }
    untouched: list[float] = []
    added: dict[str, list[float]] = {policy: [] for policy in policies}
    for _ in track(range(TURNS), name):
        before = run(pipe, arguments).milliseconds(later)
        untouched.append(before)
        for policy, given in policies.items():
            enable_cache(pipe, policy=given)
            steps = run(pipe, arguments)
            disable_cache(pipe)
            cached = [step for step in later if step not in given.computed_steps] or later
            added[policy].append(steps.milliseconds(cached) - before)
    return {
        "untouched_step_ms": spread(untouched),
        "added_ms": {policy: spread(values) for policy, values in added.items()},
        "log_mib": log_mib(pipe, arguments),
        "latents_mib": latents_mib(pipe, arguments),
    }


def log_mib(pipe: Any, arguments: dict[str, Any]) -> dict[str, float]:
    """Return what is alive beyond an untouched run, at its most, by look-back."""
    before = max(run(pipe, arguments, count_bytes=True).bytes_alive)
    found = {}
    for look_back in (1, *LOOK_BACKS):
        enable_cache(pipe, policy=schedule(look_back))
        most = max(run(pipe, arguments, count_bytes=True).bytes_alive)
        disable_cache(pipe)
        found[str(look_back)] = round((most - before) / MIB, 2)
    return found


def latents_mib(pipe: Any, arguments: dict[str, Any]) -> float:
    """Return the size of the latents, in bf16."""
    output = pipe(**arguments, num_inference_steps=1, output_type="latent")[0]
    return round(int(output.numel()) * 2 / MIB, 2)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        found = {name: measure(name) for name in MODELS}
    result = {
        "steps": STEPS,
        "budget": BUDGET,
        "turns": TURNS,
        "threads": 1,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "models": found,
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    table = Table("model", "step", "ms more than the untouched", "log, MiB")
    for name, model in found.items():
        table.add_row(name, "untouched", f"({model['untouched_step_ms']['median']:.3f} in all)", "")
        for policy, row in model["added_ms"].items():
            log = model["log_mib"].get(policy.rpartition(" ")[2], "")
            text = f"{row['median']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            table.add_row("", policy, text, str(log))
    Console().print(table)


if __name__ == "__main__":
    main()
