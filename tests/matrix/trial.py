"""One pipeline in one column: what is served, what is refused, and whether all of it holds."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tiny_pipelines.building import Row

import otcache_plugin
from matrix.block_reference import BlockList
from matrix.outcomes import COLUMNS, Outcome, Tried
from matrix.watching import CutShortError, cut_short, run, watch
from matrix.ways import BUDGET, STEPS, WAYS, Planned, Way
from otcache_plugin.errors import OTCacheError

OTHER_STEPS = (5, 9)

EXTRAS = (
    "encode_prompt",
    "encode_prompt_multiple_images",
    "encode_image",
    "resolutions",
    "multimodal_processor",
    "default_sample_size",
)
"""What a row may put on its pipeline besides its parts; a sibling gets it too."""


class Trial:
    """A row in one column."""

    def __init__(self, row: Row, column: str) -> None:
        self.pipe, self.arguments = row.make(), row.arguments()
        self._ways = WAYS[column]
        self._failures: list[str] = []
        self._lists: list[BlockList] | None = None
        self._is_enabled = False
        with watch(self.pipe) as self.full:
            self.baseline = self._run()
        assert torch.equal(self.baseline, self._run()), "the pipeline itself is not deterministic"
        assert self.baseline.float().isfinite().all(), "the latents are not finite"
        # Diffusion forcing steps copies of the scheduler, which nobody sees.
        steps = len(self.full.steps) or STEPS
        self.planned = Planned(steps, planned_steps(steps))

    def carry_out(self) -> Outcome:
        """Try everything, whatever fails before."""
        way, reason = self._enable()
        accelerated = None if way is None else self._try_runs(way)
        if self._is_enabled:
            otcache_plugin.disable_cache(self.pipe)
        with self._check("outputs after disabling"), watch(self.pipe) as seen:
            assert torch.equal(self._run(), self.baseline), "they differ"
            assert seen.total() == self.full.total(), f"forwards: {dict(seen.total())}"
        if way is not None and accelerated is not None and self._lists is not None:
            with self._check("outputs by an independent computation"):
                expected = way.expected(self.pipe, self.arguments, self.planned, self._lists)
                assert torch.equal(accelerated, expected), "they differ"
        support = way.support if way is not None else "refused" if reason else ""
        return Outcome(support, reason, tuple(self._failures))

    def _enable(self) -> tuple[Way | None, str]:
        """Enable in the first way that is served; the reason when all are refused, now or in a run.

        What an error advises is among the ways.
        """
        reason = ""
        for way in self._ways:
            try:
                self._enable_steps(way, self.planned)
                self._run()
            except OTCacheError as error:
                reason = " ".join(str(error).split())
            except Exception as error:
                self._failures.append(f"first run: {described(error)}")
                return None, ""
            else:
                return way, ""
        return None, reason

    def _enable_steps(self, way: Way, planned: Planned) -> None:
        self._is_enabled = False
        way.enable(self.pipe, planned)
        self._is_enabled = True

    def _try_runs(self, way: Way) -> torch.Tensor:
        """Try what has to hold while it is enabled; return the outputs."""
        accelerated = self.baseline
        with self._check("calls"), watch(self.pipe) as seen:
            accelerated = self._run()
            report = otcache_plugin.summary(self.pipe)
            assert report.computed_steps == self.planned.computed, f"the report says {report}"
            self._lists = way.rested(self.pipe, self.full, seen, self.planned)
        with self._check("something is skipped"):
            assert not torch.equal(accelerated, self.baseline), "the outputs are a full run's"
        self._check_sibling("a sibling")
        with self._check("an exception"):
            self._cut_short()
        self._check_sibling("a sibling after an exception")
        with self._check("outputs after an exception"):
            assert torch.equal(self._run(), accelerated), "they differ"
        with self._check("other step counts"):
            self._try_other_steps(way)
        with self._check("outputs at budget T"):
            self._enable_steps(way, Planned(self.planned.steps, tuple(range(self.planned.steps))))
            assert torch.equal(self._run(), self.baseline), "they differ"
        return accelerated

    def _cut_short(self) -> None:
        part, forwards = self.full.at(self.planned.computed).most_common(1)[0]
        try:
            with cut_short(self.pipe, part, forwards // 2 + 1):
                self._run()
        except CutShortError:
            return
        raise AssertionError("the exception did not come through")

    def _check_sibling(self, name: str) -> None:
        with self._check(name):
            sibling = sibling_of(self.pipe)
            with watch(sibling) as seen:
                latents = run(sibling, self.arguments, STEPS)
            assert torch.equal(latents, self.baseline), "its outputs differ"
            assert seen.total() == self.full.total(), f"forwards: {dict(seen.total())}"

    def _try_other_steps(self, way: Way) -> None:
        way.enable_budget(self.pipe)
        for steps in OTHER_STEPS:
            run(self.pipe, self.arguments, steps)
            report = otcache_plugin.summary(self.pipe)
            assert report.as_planned, f"{steps} steps: {report}"
            assert len(report.computed_steps) == BUDGET, f"{steps} steps: {report}"

    def _run(self) -> torch.Tensor:
        return run(self.pipe, self.arguments, STEPS)

    @contextmanager
    def _check(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failures.append(f"{name}: {described(error)}")


def planned_steps(steps: int) -> tuple[int, ...]:
    """The first two steps, every third after that, and the last one."""
    return tuple(sorted({0, 1, *range(3, steps, 3), steps - 1}))


def sibling_of(pipe: Any) -> Any:
    """Another pipeline of the same parts."""
    sibling = type(pipe).from_pipe(pipe)
    sibling.set_progress_bar_config(disable=True)
    for name in EXTRAS:
        if name in vars(pipe):
            setattr(sibling, name, vars(pipe)[name])
    return sibling


def described(error: Exception) -> str:
    """An error in one line, with the place it came from when nothing is said."""
    said = " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if isinstance(error, AssertionError) else f" ({place.name})"
    return f"{type(error).__name__}: {said}{where}"


def try_row(row: Row) -> Tried:
    """Try a pipeline in every column."""
    scheduler = type(row.make().scheduler).__name__
    return Tried(str(row), scheduler, *(Trial(row, name).carry_out() for name in COLUMNS))
