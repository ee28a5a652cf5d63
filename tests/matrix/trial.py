"""One pipeline with one executor: what is served, what is refused, and whether all of it holds."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from cache_dit import DBCacheConfig
from otcache_policies import Schedule
from tiny_pipelines.building import Row

import otcache_plugin
from matrix.reference import reference_run
from matrix.watching import CutShortError, Watched, cut_short, run, watch
from otcache_plugin.errors import OTCacheError

STEPS = 7
OTHER_STEPS = (5, 9)
BUDGET = 3
"""Of the runs of other steps, by uniform spacing."""

EXECUTORS = ("velocity", "blocks")

AVERAGE_VELOCITY = "average velocity"

EXTRAS = (
    "encode_prompt",
    "encode_image",
    "resolutions",
    "multimodal_processor",
    "default_sample_size",
)
"""What a row may put on its pipeline besides its parts; a sibling gets it too."""


@dataclass(frozen=True)
class Outcome:
    """What came of a row with one executor.

    Attributes:
        support: "average velocity", "plain reuse", "blocks", "refused", or "" where none is known.
        reason: of the refusal.
        failures: what did not hold.
    """

    support: str
    reason: str = ""
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """What came of a row.

    Attributes:
        pipeline: the row's.
        scheduler: the class of the scheduler it had.
        velocity: with this executor.
        blocks: with this executor.
    """

    pipeline: str
    scheduler: str
    velocity: Outcome
    blocks: Outcome

    @classmethod
    def broken(cls, row: Row, problem: str) -> Tried:
        """A row that could not be tried."""
        nothing = Outcome("", failures=(problem,))
        return cls(str(row), "", nothing, nothing)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Tried:
        """From JSON."""
        executors = {
            name: Outcome(**{**row[name], "failures": tuple(row[name]["failures"])})
            for name in EXECUTORS
        }
        return cls(row["pipeline"], row["scheduler"], **executors)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def failures(self) -> tuple[str, ...]:
        """What did not hold with either executor."""
        return (*self.velocity.failures, *self.blocks.failures)

    def summary(self) -> str:
        """In a line."""
        said = f"{self.velocity.support or '?'}; {self.blocks.support or '?'}"
        return "; ".join([said, *self.failures()])


class Trial:
    """A row with one executor."""

    def __init__(self, row: Row, executor: str) -> None:
        self.executor = executor
        self.pipe, self.arguments = row.make(), row.arguments()
        self._support, self._reason = "refused", ""
        self._failures: list[str] = []
        self._options: dict[str, Any] = {}
        self._is_enabled = False
        with watch(self.pipe) as self.plain:
            self.baseline = self._run()
        assert torch.equal(self.baseline, self._run()), "the pipeline itself is not deterministic"
        assert self.baseline.float().isfinite().all(), "the latents are not finite"
        # Diffusion forcing steps copies of the scheduler, which nobody sees.
        self.steps = len(self.plain.steps) or STEPS
        self.computed = planned_steps(self.steps)

    def carry_out(self) -> Outcome:
        """Try everything, whatever fails before."""
        look_backs = self._enable()
        accelerated = None if look_backs is None else self._try_runs()
        if self._is_enabled:
            otcache_plugin.disable_cache(self.pipe)
        with self._check("outputs after disabling"), watch(self.pipe) as seen:
            assert torch.equal(self._run(), self.baseline), "they differ"
            assert seen.total() == self.plain.total(), f"forwards: {dict(seen.total())}"
        if accelerated is not None and self.executor == "velocity":
            with self._check("outputs by an independent computation"):
                looking = look_backs if self._support == AVERAGE_VELOCITY else None
                expected = reference_run(self.pipe, self.arguments, STEPS, self.computed, looking)
                assert torch.equal(accelerated, expected), "they differ"
        return Outcome(self._support, self._reason, tuple(self._failures))

    def _enable(self) -> tuple[int, ...] | None:
        """Enable in the first way that is served; None when all are refused, at once or in a run.

        What an error advises is among the ways.
        """
        for name, look_backs, options in self._ways():
            self._options = options
            try:
                self._enable_schedule(self.computed, look_backs)
                self._run()
            except OTCacheError as error:
                self._reason = " ".join(str(error).split())
            except Exception as error:
                self._support = ""
                self._failures.append(f"first run: {described(error)}")
                return None
            else:
                self._support, self._reason = name, ""
                return look_backs
        return None

    def _ways(self) -> Iterator[tuple[str, tuple[int, ...], dict[str, Any]]]:
        looking_back = tuple(min(2, start + 1) for start in self.computed[:-1])
        plain = tuple(1 for _ in looking_back)
        if self.executor == "velocity":
            yield AVERAGE_VELOCITY, looking_back, {}
            yield "plain reuse", plain, {}
            return
        yield "blocks", plain, {}
        for separate in (True, False):
            config = DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=separate)
            yield f"blocks, enable_separate_cfg={separate}", plain, {"cache_config": config}

    def _enable_schedule(self, computed: tuple[int, ...], look_backs: tuple[int, ...]) -> None:
        schedule = Schedule(list(computed), self.steps, list(look_backs))
        self._enable_policy(policy=schedule)

    def _enable_policy(self, **policy: Any) -> None:
        self._is_enabled = False
        otcache_plugin.enable_cache(self.pipe, executor=self.executor, **policy, **self._options)
        self._is_enabled = True

    def _try_runs(self) -> torch.Tensor:
        """Try what has to hold while it is enabled; return the outputs."""
        accelerated = self.baseline
        with self._check("calls"), watch(self.pipe) as seen:
            accelerated = self._run()
            self._require_as_planned(seen)
        with self._check("something is skipped"):
            assert not torch.equal(accelerated, self.baseline), "the outputs are a full run's"
        self._check_sibling("a sibling")
        with self._check("an exception"):
            self._cut_short()
        self._check_sibling("a sibling after an exception")
        with self._check("outputs after an exception"):
            assert torch.equal(self._run(), accelerated), "they differ"
        with self._check("other step counts"):
            self._try_other_steps()
        with self._check("outputs at budget T"):
            everything = tuple(range(self.steps))
            self._enable_schedule(everything, tuple(1 for _ in everything[1:]))
            assert torch.equal(self._run(), self.baseline), "they differ"
        return accelerated

    def _require_as_planned(self, seen: Watched) -> None:
        report = otcache_plugin.summary(self.pipe)
        assert report.computed_steps == self.computed, f"the report says {report.computed_steps}"
        if self.executor == "velocity":
            expected = self.plain.at(self.computed)
            assert seen.total() == expected, f"{dict(seen.total())} instead of {dict(expected)}"
        else:
            assert seen.total() == self.plain.total(), f"{dict(seen.total())}"
            share = [
                name
                for name, count in self.plain.inner.items()
                if seen.inner[name] * self.steps == count * len(self.computed)
            ]
            assert share, "no block ran at the computed steps alone"

    def _cut_short(self) -> None:
        part, forwards = self.plain.at(self.computed).most_common(1)[0]
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
            assert seen.total() == self.plain.total(), f"forwards: {dict(seen.total())}"

    def _try_other_steps(self) -> None:
        self._enable_policy(policy="uniform", budget=BUDGET)
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
    """Try a pipeline with both executors."""
    scheduler = type(row.make().scheduler).__name__
    return Tried(str(row), scheduler, *(Trial(row, name).carry_out() for name in EXECUTORS))
