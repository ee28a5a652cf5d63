"""A training loop that an interruption costs little: it goes on to the very same weights."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAVED_EVERY = 500
PRINTED_EVERY = 100

ModelT = TypeVar("ModelT", bound=torch.nn.Module)


@dataclass(frozen=True)
class Training:
    """How a model is trained: AdamW, linearly up to a peak rate and down at the end, averaged."""

    name: str
    steps: int
    peak_rate: float
    weight_decay: float
    warm_up: int
    cool_down: int
    average_decay: float = 0.998

    def rate(self, step: int) -> float:
        rise, fall = (step + 1) / self.warm_up, (self.steps - step) / self.cool_down
        return self.peak_rate * min(rise, fall, 1.0)


def train(
    model: ModelT,
    loss_of: Callable[[ModelT, torch.Generator], torch.Tensor],
    training: Training,
    folder: Path,
    seed: int,
) -> ModelT:
    """Train, from where a state in the folder stands if there is one.

    Args:
        model: what is trained, in place.
        loss_of: of a batch that it draws with the generator, its only source of chance.
        training: how.
        folder: where the state is kept, and stays once all steps are done.
        seed: of the generator.

    Returns:
        The model of averaged weights.
    """
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), weight_decay=training.weight_decay, betas=(0.9, 0.98)
    )
    generator = torch.Generator().manual_seed(seed)
    file = folder / f"{training.name}.pt"
    first, running = 0, 0.0
    if file.exists():
        state = torch.load(file, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        first, running = state["step"], state["loss"]
        print(f"{training.name}: goes on at step {first}", flush=True)
    began = time.perf_counter()
    for step in range(first, training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.rate(step)
        loss = loss_of(model, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _move(average, model, min(training.average_decay, (step + 1) / (step + 10)))
        running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
        done = step + 1
        if done % PRINTED_EVERY == 0 or done == training.steps:
            pace = (done - first) / (time.perf_counter() - began)
            print(
                f"{training.name}: step {done} of {training.steps}, loss {running:.4f}, "
                f"{(training.steps - done) / pace / 60:.1f} min left",
                flush=True,
            )
        if done % SAVED_EVERY == 0 or done == training.steps:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "step": done,
                "loss": running,
            }
            part = file.with_suffix(".part")
            torch.save(state, part)
            part.replace(file)
    return average.eval()


@torch.no_grad()
def _move(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    for kept, current in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
