"""A pipeline on its device, and one row of it: enabled, run, counted, disabled."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .timing import GIB, Run, counted, timed

if TYPE_CHECKING:
    from .journal import Journal
    from .models import Model

STEPS = 50
WARM_UP_STEPS = 3
MOST_HALVINGS = 3


def nothing(pipe: Any) -> None:
    """Leave the pipeline as it is."""


def no_facts(pipe: Any) -> dict[str, Any]:
    """Say nothing of the run."""
    return {}


@torch.no_grad()
def halve_weights(*modules: torch.nn.Module) -> None:
    """Make what goes through the modules smaller, where it was not finite."""
    for module in modules:
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.5)


@dataclass(frozen=True)
class Contender:
    """A way to run a pipeline.

    Attributes:
        name: of its row.
        what: it is, in words.
        config: what it was enabled with.
        enable: makes the pipeline run so.
        disable: makes it run as before.
        facts: says of the last run what was computed.
        whole_steps: that many steps are computed, for the estimate; None for all of them.
    """

    name: str
    what: str
    config: Mapping[str, Any] = field(default_factory=dict)
    enable: Callable[[Any], Any] = nothing
    disable: Callable[[Any], Any] = nothing
    facts: Callable[[Any], Mapping[str, Any]] = no_facts
    whole_steps: int | None = None


class Bench:
    """One model's pipeline and how its rows are measured.

    Args:
        model: to be built.
        device: where.
        journal: takes the rows.
    """

    def __init__(self, model: Model, device: torch.device, journal: Journal) -> None:
        self.model = model
        self.device = device
        self.journal = journal
        self.steps = STEPS
        self.pipe: Any = None
        self.arguments: dict[str, Any] = {}
        self.seconds_per_step = 0.0
        self.seconds_around = 0.0

    def build(self, estimate: float) -> bool:
        """Build the pipeline and run a few steps; False when that failed or is out of time."""
        about = self.model.about(
            "construction, then a first run of a few steps", steps=WARM_UP_STEPS
        )
        name = f"{self.model.name}/warm-up"
        return self.journal.attempt(name, about, self._build, estimate=estimate)

    def _build(self) -> Mapping[str, Any]:
        before = self._allocated()
        self.pipe = self.model.build(self.device)
        self.arguments = self.model.arguments(self.device)
        parameters = sum(each.numel() for each in self.pipe.transformer.parameters())
        halvings = 0
        while not self.run(WARM_UP_STEPS).finite and halvings < MOST_HALVINGS:
            halve_weights(self.pipe.transformer, self.pipe.vae)
            halvings += 1
        run = self.run(WARM_UP_STEPS)
        self.seconds_per_step = run.loop_seconds / WARM_UP_STEPS
        self.seconds_around = run.call_seconds - run.loop_seconds
        return {
            "parameters": parameters,
            "finite": run.finite,
            "weights_halved": halvings,
            "seconds_per_step": self.seconds_per_step,
            "seconds_around_loop": self.seconds_around,
            "allocated_before_gib": before,
            "weights_gib": self._allocated(),
            "peak_memory_gib": run.peak_memory_gib,
        }

    def _allocated(self) -> float | None:
        return torch.cuda.memory_allocated() / GIB if self.device.type == "cuda" else None

    def run(self, steps: int | None = None, *, decode: bool = True) -> Run:
        """Run the pipeline as it is now."""
        return timed(
            self.pipe,
            self.arguments,
            self.steps if steps is None else steps,
            self.device,
            decode=decode,
        )

    def row(self, contender: Contender, *, steps: int | None = None, extra: float = 0.0) -> bool:
        """Measure a contender once; `extra` seconds are for what enabling it takes."""
        taken = self.steps if steps is None else steps
        about = self.model.about(contender.what, **contender.config)
        whole = taken if contender.whole_steps is None else contender.whole_steps
        return self.journal.attempt(
            f"{self.model.name}/{contender.name}",
            about,
            lambda: self._measure(contender, taken),
            estimate=whole * self.seconds_per_step + self.seconds_around + 1.0 + extra,
        )

    def _measure(self, contender: Contender, steps: int) -> Mapping[str, Any]:
        probe = self.pipe.transformer.get_submodule(self.model.probe)
        contender.enable(self.pipe)
        try:
            with counted(probe) as forwards:
                run = self.run(steps)
            facts = contender.facts(self.pipe)
        finally:
            contender.disable(self.pipe)
        return {
            "steps": steps,
            "loop_seconds": run.loop_seconds,
            "end_to_end_seconds": run.call_seconds,
            "transformer_forwards": len(forwards),
            "peak_memory_gib": run.peak_memory_gib,
            "finite": run.finite,
            **facts,
        }

    def close(self) -> None:
        """Give the memory back, for the next model, whoever still holds the pipeline."""
        if self.pipe is not None:
            for module in (self.pipe.transformer, self.pipe.vae):
                for weight in (*module.parameters(), *module.buffers()):
                    # Not by `to`, which a module refuses whose groups are offloaded.
                    weight.data = torch.empty(0, device=weight.device, dtype=weight.dtype)
        self.pipe, self.arguments = None, {}
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
