"""The edge table: what caching each possible segment costs, measured once on full-step runs.

It is the edge multigraph of MeanCache (arXiv 2601.19961, section 3.3). The edge (i → j, K) stands
for caching the steps i+1 … j-1 with look-back K, and holds the mean absolute difference between
the average velocity from i to j that the estimate yields and the recorded one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from otcache_policies._validation import as_array, as_count, as_positive
from otcache_policies.array_values import ArrayValue
from otcache_policies.errors import EdgeTableError
from otcache_policies.schedule import Schedule, look_backs_of
from otcache_policies.sigmas import as_sigmas

__all__ = ["Cost", "EdgeSettings", "EdgeTable"]

Cost = Literal["velocity", "displacement"]
"""How an edge is priced; `EdgeSettings` says what each means."""


@dataclass(frozen=True)
class EdgeSettings:
    """How to read an edge table.

    Args:
        cost: "velocity" takes the error of the average velocity as it is; "displacement" multiplies
            it by the segment's change of sigma, which makes it the error of the latents at the
            segment's end. The papers leave the choice open.
        gamma: Exponent on each edge's cost, finite and above 0; above 1 it punishes peaks.
        look_back: None for the best look-back of each edge, a number for the same on all.

    Raises:
        EdgeTableError: One of these cannot be used.
    """

    cost: Cost = "displacement"
    gamma: float = 1.0
    look_back: int | None = None

    def __post_init__(self) -> None:
        if self.cost not in ("velocity", "displacement"):
            raise EdgeTableError(
                "cost", self.cost, "not a known cost", "Use 'velocity' or 'displacement'"
            )
        gamma = as_positive("gamma", self.gamma, EdgeTableError, "Use a number such as gamma=4.0")
        object.__setattr__(self, "gamma", gamma)
        if self.look_back is not None:
            remedy = "Use None, or 1 or more"
            look_back = as_count("look_back", self.look_back, EdgeTableError, remedy)
            object.__setattr__(self, "look_back", look_back)


@dataclass(frozen=True, eq=False)
class EdgeTable(ArrayValue):
    """Velocity errors of every edge, with the noise schedule that they were measured on.

    The arrays are copied and made read-only. Tables compare by identity.

    Args:
        velocity_errors: float32 of shape (T, T, K): entry [i, j, k-1] is L_k(i → j), the mean
            absolute error of the average velocity, in the units of the velocity. 0 where
            j == i + 1, +inf where j <= i, finite and not negative elsewhere.
        sigmas: float64 of shape (T+1,), strictly decreasing.
        spread: float32 of the errors' shape: the standard deviation of each entry over the pairs
            of prompt and seed that it is the mean of. 0 where nothing is cached or there is no
            edge, finite and not negative elsewhere. None where it was not measured.

    Raises:
        EdgeTableError: Any of this does not hold.
    """

    velocity_errors: NDArray[np.float32]
    sigmas: NDArray[np.float64]
    spread: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        errors = _as_float32("velocity_errors", self.velocity_errors)
        _check_errors(errors)
        sigmas = as_sigmas("sigmas", self.sigmas, errors.shape[0], EdgeTableError)
        self._keep({"velocity_errors": errors, "sigmas": sigmas})
        if self.spread is not None:
            spread = _as_float32("spread", self.spread)
            _check_spread(spread, errors.shape)
            self._keep({"spread": spread})

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that the table was measured on, T."""
        return len(self.velocity_errors)

    @property
    def max_look_back(self) -> int:
        """Largest look-back in the table, K."""
        return int(self.velocity_errors.shape[2])

    def costs(self, settings: EdgeSettings) -> NDArray[np.float64]:
        """Return the cost of every edge, before gamma: float64 of shape (T, T), +inf for j <= i.

        Raises:
            EdgeTableError: The settings ask for a look-back that the table does not have.
        """
        if settings.look_back is None:
            errors = self.velocity_errors.min(axis=2)
        else:
            errors = self.velocity_errors[:, :, self._require(settings.look_back) - 1]
        costs: NDArray[np.float64] = errors.astype(np.float64)
        if settings.cost == "displacement":
            steps = self.sigmas[:-1]
            widths = np.abs(steps[None, :] - steps[:, None])
            # The diagonal is 0 wide and infinitely wrong: only true edges are multiplied.
            np.multiply(costs, widths, out=costs, where=np.isfinite(costs))
        return costs

    def look_backs(self, computed_steps: Sequence[int], settings: EdgeSettings) -> tuple[int, ...]:
        """Return the look-back of each segment: the best of the table, or the settings' constant.

        Ties go to the smaller look-back: one that reaches beyond the run's first step does the same
        as one that reaches it. A segment of gap 1 has no cached step and gets 1.

        Raises:
            ScheduleError: The steps are no schedule of this table's steps.
            EdgeTableError: The settings ask for a look-back that the table does not have.
        """
        schedule = Schedule(computed_steps, self.num_inference_steps)
        if settings.look_back is not None:
            constant = self._require(settings.look_back)
            return tuple(constant if gap > 1 else 1 for gap in schedule.gaps)
        return look_backs_of(schedule.computed_steps, self.velocity_errors.argmin(axis=2) + 1)

    def _require(self, look_back: int) -> int:
        if look_back > self.max_look_back:
            raise EdgeTableError(
                "look_back",
                look_back,
                f"the table goes up to {self.max_look_back}",
                f"Use 1 … {self.max_look_back}",
            )
        return look_back


def _as_float32(field: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
    numbers = as_array(field, value, EdgeTableError, "Pass a float32 array of shape (T, T, K)")
    with np.errstate(over="ignore"):  # What is too large becomes +inf, and is refused as that.
        return numbers.astype(np.float32)


def _check_errors(errors: NDArray[np.float32]) -> None:
    field = "velocity_errors"
    if errors.ndim != 3 or errors.shape[0] != errors.shape[1] or 0 in errors.shape:
        raise EdgeTableError(
            field, errors.shape, "not of shape (T, T, K)", "Pass one table of T by T per look-back"
        )
    gap = _gaps(len(errors))
    _check_entries(
        field,
        errors,
        (gap <= 0, errors == np.inf, "must be +inf, there is no edge", "Set j <= i to +inf"),
        (gap == 1, errors == 0, "must be 0, nothing is cached", "Set gap-1 edges to 0"),
        (gap > 1, np.isfinite(errors) & (errors >= 0), "not finite and >= 0", "Measure it"),
    )


def _check_spread(spread: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    field = "spread"
    if spread.shape != shape:
        problem = f"not of the velocity errors' shape {shape}"
        raise EdgeTableError(field, spread.shape, problem, "Pass one entry per velocity error")
    gap = _gaps(len(spread))
    _check_entries(
        field,
        spread,
        (gap <= 1, spread == 0, "must be 0, nothing is cached", "Set j <= i+1 to 0"),
        (gap > 1, np.isfinite(spread) & (spread >= 0), "not finite and >= 0", "Measure it"),
    )


def _gaps(total: int) -> NDArray[np.int_]:
    """Return j - i for every [i, j]."""
    steps = np.arange(total)
    return steps[None, :] - steps[:, None]


def _check_entries(
    field: str,
    entries: NDArray[np.float32],
    *rules: tuple[NDArray[np.bool_], NDArray[np.bool_], str, str],
) -> None:
    """Refuse the first entry that breaks a rule: where it holds, what is valid, problem, remedy."""
    for where, valid, problem, remedy in rules:
        wrong = np.argwhere(where[:, :, None] & ~valid)
        if len(wrong):
            i, j, k = (int(index) for index in wrong[0])
            name = f"{field}[{i}, {j}, {k}]"
            raise EdgeTableError(name, float(entries[i, j, k]), problem, remedy)
