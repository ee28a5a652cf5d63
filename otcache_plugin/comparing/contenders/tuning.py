"""Settings of caches whose computed steps are an outcome, chosen on calibration pairs.

The threshold that comes to a budget is searched for by runs, and among whatever else can be set
that is taken which ends nearest the full run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import exp, log
from typing import TYPE_CHECKING, Any

from otcache_plugin.comparing.methods import Variant
from otcache_plugin.comparing.work import counted_work
from otcache_plugin.evaluation.outputs import generate_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import torch

    from otcache_plugin.comparing.methods import Bench
    from otcache_plugin.evaluation.outputs import Space

    Settings = Mapping[str, Any]
    """What a method is switched on with, as plain values."""

    Enable = Callable[[Settings], AbstractContextManager[None]]
    """Switches a method on inside the block."""

__all__ = ["Configured", "Trial", "Trials", "TunedMethod", "at_budgets", "best_at_budgets"]

PAIRS = 8
"""Calibration pairs of a trial: with three, luck ordered the settings."""

THRESHOLD = "threshold"
"""The setting that is searched for."""

LOWEST, HIGHEST = 0.01, 4.0
"""Thresholds that are looked at, of relative changes; with the lower everything is computed."""

CLOSE = 0.5
"""Steps from a budget at which the search for its threshold ends."""

EQUAL = 0.75
"""Steps from a budget within which settings are told apart by their error alone."""

MOST_TRIALS = 4
"""Thresholds that are tried for one budget, besides those tried for others."""


@dataclass(frozen=True)
class Configured(Variant):
    """A variant of a method that has more to set than a budget.

    Attributes:
        settings: names and values.
    """

    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Trial:
    """What settings came to on the calibration pairs.

    Attributes:
        settings: of the method.
        steps: what was computed, in steps of the full run.
        error: mean squared error of the latents to the full run's, its geometric mean over the
            pairs: in dB, as quality is judged, so that one lost picture does not decide alone.
    """

    settings: Settings
    steps: float
    error: float

    def rank(self, budget: int) -> tuple[float, float]:
        """Return what orders trials by how well they serve a budget, the best first."""
        away = abs(self.steps - budget)
        return (0.0 if away <= EQUAL else away, self.error)


@dataclass
class Trials:
    """Runs of a method on the calibration pairs.

    Attributes:
        bench: what is compared on.
        enable: switches the method on.
        denoising_steps: computed so far, counted for every pair.
    """

    bench: Bench
    enable: Enable
    denoising_steps: float = field(default=0.0, init=False)

    def run(self, settings: Settings) -> Trial:
        """Run the pairs with some settings."""
        full_latents, full_products = self._full
        with self.enable(settings):
            latents, products = self._run()
        steps = self.bench.num_inference_steps * products / full_products
        self.denoising_steps += steps * PAIRS
        errors = (latents - full_latents).square().flatten(1).mean(1)
        return Trial(settings, steps, float(errors.log().mean().exp()))

    @cached_property
    def _full(self) -> tuple[torch.Tensor, int]:
        self.denoising_steps += self.bench.num_inference_steps * PAIRS
        return self._run()

    def _run(self) -> tuple[torch.Tensor, int]:
        pipe, pairs = self.bench.pipe, self.bench.calibration_pairs(PAIRS)
        latents: frozenset[Space] = frozenset({"latents"})
        size = self.bench.setup.defaults.batch_size  # As methods are judged: caches decide by it.
        with counted_work(pipe) as work:
            outputs = generate_outputs(pipe, pairs, self.bench.call_arguments, size, latents)
        return outputs.latents, work.products


class TunedMethod(ABC):
    """A method that is compared as its authors set it, and as it comes nearest to every budget."""

    name: str
    label: str

    @property
    @abstractmethod
    def defaults(self) -> Settings:
        """Its authors' settings."""

    @abstractmethod
    def switched_on(self, bench: Bench, settings: Settings) -> AbstractContextManager[None]:
        """Switch it on with some settings inside the block."""

    @abstractmethod
    def best(self, trials: Trials) -> list[Trial]:
        """Return the trial that serves each budget best."""

    @abstractmethod
    def words(self, settings: Settings) -> str:
        """Return settings for people."""

    def variants(self, bench: Bench) -> list[Variant]:
        """See `Method`: as its authors set it, then the best that comes to each budget."""
        found = [dict(self.defaults), *self._tuned(bench)["chosen"]]
        distinct = [each for place, each in enumerate(found) if each not in found[:place]]
        return [
            Configured(self.name, self.words(each), None, settings=tuple(each.items()))
            for each in distinct
        ]

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        assert isinstance(variant, Configured), "it is one of this method"
        with self.switched_on(bench, dict(variant.settings)):
            yield {}

    def calibration_steps(self, bench: Bench, variant: Variant) -> int:
        """See `Method`: of the search for all budgets; as its authors set it, it needs none."""
        if variant == self.variants(bench)[0]:
            return 0
        steps: int = self._tuned(bench)["denoising_steps"]
        return steps

    def _tuned(self, bench: Bench) -> dict[str, Any]:
        tuned: dict[str, Any] = bench.kept(f"{self.name}-settings", partial(self._tune, bench))
        return tuned

    def _tune(self, bench: Bench) -> dict[str, Any]:
        trials = Trials(bench, partial(self.switched_on, bench))
        chosen = self.best(trials)
        return {
            "denoising_steps": round(trials.denoising_steps),
            "chosen": [trial.settings for trial in chosen],
        }


def best_at_budgets(trials: Trials, candidates: Iterable[Settings]) -> list[Trial]:
    """Return, for every budget, the best threshold of all candidates.

    Args:
        trials: run them.
        candidates: everything but the threshold.
    """
    tried: list[Trial] = []
    for candidate in candidates:
        tried += _thresholds(trials, candidate)
    return at_budgets(tried, trials.bench.budgets)


def at_budgets(tried: Sequence[Trial], budgets: Iterable[int]) -> list[Trial]:
    """Return, for every budget, the trial that serves it best; each once.

    A budget below what any trial comes to has none: the nearest one computes as good as nothing
    after the first step, which no user of the method would set.
    """
    fewest = min(trial.steps for trial in tried)
    best: list[Trial] = []
    for budget in budgets:
        if budget < fewest - EQUAL:
            continue
        trial = min(tried, key=lambda each: each.rank(budget))
        if trial not in best:
            best.append(trial)
    return best


def _thresholds(trials: Trials, candidate: Settings) -> list[Trial]:
    """Return trials of a candidate, whose thresholds come near the budgets where any does."""
    found = [trials.run({**candidate, THRESHOLD: HIGHEST})]
    for budget in trials.bench.budgets:
        for _ in range(MOST_TRIALS):
            if min(abs(trial.steps - budget) for trial in found) <= CLOSE:
                break
            threshold = _between(found, trials.bench.num_inference_steps, budget)
            if threshold is None:
                break
            found.append(trials.run({**candidate, THRESHOLD: threshold}))
    return found


def _between(found: Sequence[Trial], full_steps: int, budget: int) -> float | None:
    """Return a threshold between those that compute more and less than a budget.

    None where nothing is between: the highest threshold computes more, or a lower threshold
    computes less than a higher one.
    """
    points = [(LOWEST, float(full_steps)), *((t.settings[THRESHOLD], t.steps) for t in found)]
    less = [point for point in points if point[1] <= budget]
    if not less:
        return None
    (low, more_steps) = max(point for point in points if point[1] > budget)
    (high, fewer_steps) = min(less)
    if low >= high:
        return None
    share = (more_steps - budget) / (more_steps - fewer_steps)
    share = min(max(share, 0.2), 0.8)  # else one end alone would move where the curve is bent
    return round(exp(log(low) + share * (log(high) - log(low))), 4)
