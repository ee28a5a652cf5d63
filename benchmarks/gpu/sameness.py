"""Whether a policy gives the same latents in whichever way the pipeline is run."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cache_dit
import torch

import otcache_plugin

from .documents import MODEL, REVISION, write_schedules
from .timing import call, synchronize

if TYPE_CHECKING:
    from .bench import Bench

STEPS = 20
BUDGETS = (5, 10)
"""That the document has; runs are of the first."""

RUNS = 2


class Sameness:
    """One pipeline's latents by the policy `uniform`, and by a document of its schedules.

    What a document says hangs on the weights, so the plugin watches them while the pipeline runs.

    Args:
        bench: with the pipeline.
        folder: for the document.
    """

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench = bench
        self._folder = folder / "document"
        write_schedules(self._folder, BUDGETS, STEPS)
        bench.pipe.set_progress_bar_config(disable=True)
        cache_dit.enable_cache(bench.pipe, policy="uniform", budget=BUDGETS[0])
        try:
            self._expected = [self._latents(bench.pipe, which) for which in range(RUNS)]
        finally:
            cache_dit.disable_cache(bench.pipe)

    def of_document(
        self, around: Callable[[Any], AbstractContextManager[Any]]
    ) -> Mapping[str, Any]:
        """Compare the latents of two calls by the document.

        Args:
            around: is given the pipeline, and returns what the calls are made within.
        """
        pipe = self._bench.pipe
        self._enable(pipe)
        try:
            with around(pipe):
                began = time.perf_counter()
                found = [self._latents(pipe, which) for which in range(RUNS)]
                seconds = time.perf_counter() - began
            report = otcache_plugin.summary(pipe)
        finally:
            cache_dit.disable_cache(pipe)
        computed = {"computed_steps": len(report.computed_steps), "as_planned": report.as_planned}
        return {**self._compared(found), **computed, "seconds": seconds}

    def of_threads(self) -> Mapping[str, Any]:
        """Compare the latents of two pipelines that share their weights, each in its own thread.

        Each thread has a stream of its own, and generates by the document another thing than the
        other one, three times.
        """
        first = self._bench.pipe
        scheduler = type(first.scheduler).from_config(first.scheduler.config)
        second = type(first)(**{**first.components, "scheduler": scheduler})
        second.set_progress_bar_config(disable=True)
        found: dict[int, list[torch.Tensor]] = {}

        def generate(pipe: Any, which: int) -> None:
            with torch.cuda.stream(torch.cuda.Stream(self._bench.device)):
                found[which] = [self._latents(pipe, which) for _ in range(3)]

        for pipe in (first, second):
            self._enable(pipe)
        try:
            threads = [
                threading.Thread(target=partial(generate, pipe, which))
                for which, pipe in enumerate((first, second))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for pipe in (first, second):
                cache_dit.disable_cache(pipe)
        turns = [self._compared([found[which][turn] for which in range(RUNS)]) for turn in range(3)]
        return {
            "identical": all(turn["identical"] for turn in turns),
            "max_abs_difference": max(turn["max_abs_difference"] for turn in turns),
        }

    def _enable(self, pipe: Any) -> None:
        cache_dit.enable_cache(
            pipe, policy=str(self._folder), budget=BUDGETS[0], model=MODEL, revision=REVISION
        )

    def _latents(self, pipe: Any, which: int) -> torch.Tensor:
        """Return the latents of one of two prompts."""
        arguments = dict(self._bench.arguments)
        arguments["prompt_embeds"] = arguments["prompt_embeds"].roll(which, dims=1)
        latents = call(pipe, arguments, STEPS, self._bench.device, decode=False)
        if self._bench.device.type == "cuda":
            torch.cuda.current_stream(self._bench.device).synchronize()
        return latents

    def _compared(self, found: list[torch.Tensor]) -> dict[str, Any]:
        synchronize(self._bench.device)
        pairs = list(zip(found, self._expected, strict=True))
        return {
            "identical": all(torch.equal(one, other) for one, other in pairs),
            "max_abs_difference": max(float((one - other).abs().max()) for one, other in pairs),
        }


def measure(bench: Bench, ways: Mapping[str, tuple[str, Way]]) -> None:
    """Measure a row for each way to run the pipeline.

    Args:
        bench: with the pipeline.
        ways: by name what it is, and what compares its latents.
    """
    with tempfile.TemporaryDirectory() as folder:
        sameness = Sameness(bench, Path(folder))
        for name, (what, compared) in ways.items():
            bench.journal.attempt(
                f"{bench.model.name}/same latents, {name}",
                bench.model.about(what, steps=STEPS, budget=BUDGETS[0]),
                partial(compared, sameness),
                estimate=6 * BUDGETS[0] * bench.seconds_per_step + 20.0,
            )


Way = Callable[[Sameness], Mapping[str, Any]]
"""Runs the pipeline in some way, and compares what comes out."""


def within(around: Callable[[Any], AbstractContextManager[Any]]) -> Way:
    """Return the way to run it by the document, within what is given for the pipeline."""
    return lambda sameness: sameness.of_document(around)
