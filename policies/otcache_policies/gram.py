"""The error of every schedule as a quadratic form in a pair's recorded velocities.

A cached run ends `sum_t d[t] V[t]` away from the full one (`otcache_policies.displacement`), so its
squared error is `d' G d` with the Gram matrix `G[s, t] = <V[s], V[t]> / elements`: T x T numbers of
one prompt-seed pair stand for the model, whatever its size. None of the papers has this.

What the form does not know is how the model answers to a displaced state. Two corrections are
cheap: damping, which keeps segments from relying on making up for each other, and gains, which say
how much of a displacement at a step is left at the end of a real run.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from otcache_policies._validation import as_array, as_count, as_number
from otcache_policies.array_values import ArrayValue
from otcache_policies.displacement import Candidates, euler_response
from otcache_policies.errors import GramTableError
from otcache_policies.gram_search import optimise
from otcache_policies.policy import Budgets
from otcache_policies.quadratic_form import QuadraticForm
from otcache_policies.schedule import Schedule
from otcache_policies.sigmas import SAME_SIGMAS, as_sigmas, same_sigmas
from otcache_policies.velocity_interpolation import covers, interpolation

__all__ = ["GramPolicy", "GramSettings", "GramTable"]

_SEARCHING = threading.Lock()
"""Held during a search: of several runs that need the same schedule, one does the work."""


@dataclass(frozen=True)
class GramSettings:
    """How to read a Gram table.

    Args:
        damping: From 0, the form as it is, to 1, where every segment's increment counts alone.
        max_look_back: Largest look-back that a segment may have.

    Raises:
        GramTableError: One of these cannot be used.
    """

    damping: float = 0.1
    max_look_back: int = 6

    def __post_init__(self) -> None:
        remedy = "Use a number from 0 to 1, such as damping=0.1"
        damping = as_number("damping", self.damping, GramTableError, remedy)
        if not 0 <= damping <= 1:
            raise GramTableError("damping", damping, "not from 0 to 1", remedy)
        object.__setattr__(self, "damping", damping)
        largest = as_count("max_look_back", self.max_look_back, GramTableError)
        object.__setattr__(self, "max_look_back", largest)


@dataclass(frozen=True, eq=False)
class GramTable(ArrayValue):
    """The Gram matrices of recorded runs, with the noise schedule that they have in common.

    The arrays are copied and made read-only. Tables compare by identity.

    Args:
        grams: float32 of shape (N, T, T), one matrix or more per prompt-seed pair: symmetric,
            finite, and in squared units, per element, of what is compared: of the velocity, or of
            what a unit of it does to the pictures.
        sigmas: float64 of shape (T+1,), strictly decreasing.
        response: What one unit of each step's velocity adds to the last latents, float64 of shape
            (T,); None for Euler steps, where it is the change of sigma.

    Raises:
        GramTableError: Any of this does not hold.
    """

    grams: NDArray[np.float32]
    sigmas: NDArray[np.float64]
    response: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        remedy = "Pass one T by T matrix of inner products per pair"
        grams = as_array("grams", self.grams, GramTableError, remedy).astype(np.float32)
        if grams.ndim != 3 or grams.shape[1] != grams.shape[2] or 0 in grams.shape:
            raise GramTableError("grams", grams.shape, "not of shape (N, T, T)", remedy)
        if not np.isfinite(grams).all():
            raise GramTableError("grams", grams.shape, "not finite everywhere", "Record anew")
        if not np.allclose(grams, grams.transpose(0, 2, 1), rtol=1e-5, atol=1e-12):
            raise GramTableError("grams", grams.shape, "not symmetric", remedy)
        sigmas = as_sigmas("sigmas", self.sigmas, grams.shape[1], GramTableError)
        self._keep({"grams": grams, "sigmas": sigmas})
        if self.response is not None:
            response = as_array("response", self.response, GramTableError, "Pass one per step")
            if response.shape != sigmas[:-1].shape or not np.isfinite(response).all():
                problem = f"not {len(sigmas) - 1} finite numbers"
                raise GramTableError("response", self.response, problem, "Pass one per step")
            self._keep({"response": response})

    @property
    def num_inference_steps(self) -> int:
        """Steps of the recorded runs, T."""
        return int(self.grams.shape[1])

    def errors(self, schedule: Schedule) -> NDArray[np.float64]:
        """Return the mean squared error of each pair's latents with a schedule, of shape (N,).

        Raises:
            GramTableError: The schedule has another number of steps.
        """
        self.require(schedule)
        values: NDArray[np.float64] = self.form(0.0).values(Candidates.of([schedule]))[0]
        return values

    def require(self, schedule: Schedule) -> None:
        """Raise GramTableError unless a schedule is of as many steps as the table."""
        if schedule.num_inference_steps != self.num_inference_steps:
            raise GramTableError(
                "schedule",
                schedule,
                f"not of the table's {self.num_inference_steps} steps",
                "Use a schedule of as many steps as the table",
            )

    def form(self, damping: float) -> QuadraticForm:
        """Return the quadratic form of these pairs, damped."""
        response = euler_response(self.sigmas) if self.response is None else self.response
        return QuadraticForm(self.grams.astype(np.float64), self.sigmas, response, damping)

    def covers(self, sigmas: NDArray[np.float64]) -> bool:
        """Return whether the velocities of a run with these noise levels follow from it."""
        return covers(self.sigmas, sigmas)

    def at(
        self, sigmas: NDArray[np.float64], response: NDArray[np.float64] | None = None
    ) -> GramTable:
        """Return the table of runs with other noise levels.

        Their velocities are taken as combinations of the recorded ones, so the matrices follow from
        the recorded ones: what the model answers at a noise level depends on no solver.

        Args:
            sigmas: Noise levels of the runs, shape (T'+1,), strictly decreasing.
            response: What one unit of each step's velocity adds to their last latents, shape (T',);
                None for Euler steps.

        Raises:
            GramTableError: The noise levels cannot be used or go further than what was recorded, or
                the solver that was recorded is not Euler's and there is no response.
        """
        if self.response is not None and response is None:
            problem = "the solver that was recorded takes other steps than Euler's"
            remedy = "Record runs with these noise levels, or pass the response of such a run"
            raise GramTableError("sigmas", sigmas, problem, remedy)
        levels = as_sigmas("sigmas", sigmas, None, GramTableError)
        if not self.covers(levels):
            problem = f"beyond the recorded {self.sigmas[0]:g} … {self.sigmas[-1]:g}"
            raise GramTableError("sigmas", sigmas, problem, "Record runs with these noise levels")
        parts = interpolation(self.sigmas, levels)
        grams = np.einsum("sa,nst,tb->nab", parts, self.grams.astype(np.float64), parts)
        return GramTable(grams.astype(np.float32), levels, response)


@dataclass(frozen=True)
class GramPolicy:
    """The schedule of a budget whose quadratic form is smallest, as far as the search finds it.

    The pairs are pooled by the mean of the logarithm of their errors, so that each counts by how
    many decibels it gains rather than by how large its error is.

    Args:
        table: The recorded Gram matrices.
        settings: How to read them.
        known: Schedules that were found before; those of other budgets are searched for when they
            are asked for.

    Raises:
        GramTableError: A known schedule is of other steps than the table.
    """

    table: GramTable
    settings: GramSettings = GramSettings()
    known: tuple[Schedule, ...] = ()

    name: ClassVar[str] = "gram"

    def __post_init__(self) -> None:
        for schedule in self.known:
            self.table.require(schedule)

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that were recorded."""
        return self.table.num_inference_steps

    @property
    def budgets(self) -> Budgets:
        """2 … T."""
        return Budgets.up_to(self.num_inference_steps)

    def schedule(self, budget: int) -> Schedule:
        """Return the best schedule that was found with exactly `budget` computed steps.

        Raises:
            BudgetError: The budget is outside 2 … T.
        """
        budget = self.budgets.require(budget, self.name)
        if budget == self.num_inference_steps:
            return Schedule.full(budget)
        for schedule in self.known:
            if schedule.budget == budget:
                return schedule
        with _SEARCHING:
            return _optimised(self.table, self.settings, budget)

    def schedule_at(
        self, budget: int, sigmas: NDArray[np.float64], response: NDArray[np.float64]
    ) -> Schedule | None:
        """Return the best schedule that was found for a run of other noise levels.

        At those of the table it is `schedule`'s. It is None for noise levels that go further than
        the recorded ones (`GramTable.covers`). See `AdaptingPolicy.schedule_at`.

        Raises:
            BudgetError: The budget is outside 2 … T'.
            GramTableError: The noise levels are not strictly decreasing.
        """
        levels = as_sigmas("sigmas", sigmas, None, GramTableError)
        if same_sigmas(levels, self.table.sigmas):
            return self.schedule(budget)
        total = len(levels) - 1
        budget = Budgets.up_to(total).require(budget, self.name)
        if not self.table.covers(levels):
            return None
        if budget == total:
            return Schedule.full(total)
        run = levels.tobytes(), np.asarray(response, dtype=np.float64).tobytes()
        with _SEARCHING:
            return _optimised_at(self.table, self.settings, budget, *run)


@lru_cache(maxsize=128)
def _optimised(table: GramTable, settings: GramSettings, budget: int) -> Schedule:
    """Search once for what every run of a pipeline asks for."""
    return optimise(table.form(settings.damping), budget, settings.max_look_back)


@lru_cache(maxsize=128)
def _optimised_at(
    table: GramTable, settings: GramSettings, budget: int, sigmas: bytes, response: bytes
) -> Schedule:
    """Search once for what every run with these noise levels asks for."""
    levels, answer = np.frombuffer(sigmas), np.frombuffer(response)
    euler = np.allclose(answer, euler_response(levels), rtol=0, atol=SAME_SIGMAS)
    # Where the solver is not Euler's, only the last velocity can stand in on a cached step.
    largest = settings.max_look_back if euler else 1
    return optimise(table.at(levels, answer).form(settings.damping), budget, largest)
