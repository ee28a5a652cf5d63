"""What a calibration is determined by, besides the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

from otcache_policies import BudgetError

from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from otcache_policies.edges import Cost

MOST_TRIALS = 4_000

MOST_WAYPOINTS = 100
"""As many as a document holds."""

SHARES = (0, 1 / 6, 1 / 3, 7 / 12)
"""Of the way from the anchor's budget to the reference's, where schedules are searched."""

MAX_LOOK_BACK = 6
"""Largest look-back that is measured and tried, where the scheduler allows more than one."""

COSTS: tuple[Cost, ...] = ("velocity", "displacement")
GAMMAS = (1.0, 2.0, 4.0)
LOOK_BACK_RULES = (None, 1, 2, 3)
"""The readings of the edge table that are tried are all of these, one with the other."""

RHOS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
"""Exponents of the warp that are tried."""

TRIMMED = 0.05
"""Share of the pairs left out of a mean loss at either end."""

FIRST_SHARE = 4
"""Hopeless candidates are found out on one batch in so many."""

SHIFTS = (-2, -1, 1, 2)
"""Steps by which a climb moves a computed step."""

SMALLEST_GAP = 0.1
"""Where a round holds a part before rounding, so that no order of steps is ever reversed."""

BEST_OF_EACH_PAIR = 2
"""Candidates that each pair's search puts into the pool, where pairs are searched alone."""

EVIDENCE_METRICS = ("psnr", "ssim")
"""Measured on held-out pairs besides the metric that everything is tuned on."""

SearchKind = Literal["joint", "per-pair"]


@dataclass(frozen=True)
class Round:
    """A round of CMA-ES around the best schedule so far.

    Attributes:
        parts: that the schedule's curve is moved in, at most one per gap; None for every gap.
        half_width: of a part's range, in steps. CMA-ES starts with a standard deviation of a third
            of that range.
    """

    parts: int | None
    half_width: float

    def parts_of(self, gaps: int) -> int:
        """Return the parts that a schedule of so many gaps is moved in."""
        return gaps if self.parts is None else min(self.parts, gaps)


@dataclass(frozen=True)
class SearchSettings:
    """How long to search for a schedule, and how far from the warm start.

    Attributes:
        trials: candidates of CMA-ES; identical ones are evaluated once but count. Before the first
            round and after each, two fifths as many may be tried in a climb.
        patience: trials without improvement after which a round ends.
        rounds: one after the other; the trials are split evenly.
        kind: "joint" scores each trial by its mean over all pairs, "per-pair" searches for every
            pair alone and pools what was found, as the paper's Eq. 7 reads.
        prune_below: p-value of the Wilcoxon test on a quarter of the pairs under which a trial is
            hopeless and not run on the others.
    """

    trials: int = 200
    patience: int = 50
    rounds: tuple[Round, ...] = (Round(4, 9.0), Round(None, 2.25))
    kind: SearchKind = "joint"
    prune_below: float = 0.05

    def __post_init__(self) -> None:
        require_at_least(0, "trials", self.trials)
        if self.trials > MOST_TRIALS:
            problem = f"above {MOST_TRIALS}, and a document holds the history of no more"
            raise ArgumentError("trials", self.trials, problem, f"Use {MOST_TRIALS} or fewer")
        require_at_least(1, "patience", self.patience)
        if self.kind not in (kinds := get_args(SearchKind)):
            remedy = f"Use {' or '.join(kinds)}"
            raise ArgumentError("search", self.kind, "no such search", remedy)

    @property
    def round_trials(self) -> tuple[int, ...]:
        """Trials of each round for the steps, the remainder going to the first ones."""
        share, rest = divmod(self.trials, len(self.rounds))
        return tuple(share + (number < rest) for number in range(len(self.rounds)))

    @property
    def climb_trials(self) -> int:
        """Trials of one climb."""
        return self.trials * 2 // 5

    @property
    def all_trials(self) -> int:
        """Trials of a whole search, of its rounds and climbs."""
        return self.trials + (len(self.rounds) + 1) * self.climb_trials


@dataclass(frozen=True)
class CalibrationSettings:
    """What a calibration is determined by, besides the model.

    Attributes:
        num_inference_steps: T.
        budget_reference: budget of the reference.
        budget_anchor: budget of the anchor.
        waypoints: budgets between the two whose schedules are searched as well, increasing; None
            for three, denser at the anchor's end: 10, 12 and 15 for 8 and 20.
        default_budget: of a run that asks for none; None for 15 of 50, scaled to T.
        metric: end-to-end metric that everything is tuned on.
        pairs: calibration pairs.
        held_out_pairs: pairs for the evidence, at least 2.
        seed: of the pairs and the search.
        batch_size: pairs per pipeline call; rounding depends on it, so results do.
        threads: of each worker on a CPU; likewise.
        search: how schedules are searched.
    """

    num_inference_steps: int = 50
    budget_reference: int = 20
    budget_anchor: int = 8
    waypoints: tuple[int, ...] | None = None
    default_budget: int | None = None
    metric: str = "psnr"
    pairs: int = 96
    held_out_pairs: int = 64
    seed: int = 0
    batch_size: int = 16
    threads: int = 1
    search: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        steps, reference, anchor = (
            self.num_inference_steps,
            self.budget_reference,
            self.budget_anchor,
        )
        remedy = "Use 2 <= budget_anchor < budget_reference < num_inference_steps"
        if not 3 <= reference < steps:
            problem = f"not from 3 to below the {steps} steps"
            raise BudgetError("budget_reference", reference, problem, remedy)
        if not 2 <= anchor < reference:
            problem = f"not from 2 to below the reference's {reference}"
            raise BudgetError("budget_anchor", anchor, problem, remedy)
        self._check_waypoints()
        default = self.default_budget
        if default is not None and not anchor <= default <= steps:
            problem = "below the anchor's budget or above the number of steps"
            raise BudgetError("default_budget", default, problem, f"Use {anchor} … {steps}")
        for name, smallest in (
            ("pairs", 1),
            ("held_out_pairs", 2),
            ("batch_size", 1),
            ("threads", 1),
            ("seed", 0),
        ):
            require_at_least(smallest, name, getattr(self, name))

    def _check_waypoints(self) -> None:
        if self.waypoints is None:
            return
        budgets = (self.budget_anchor, *self.waypoints, self.budget_reference)
        if any(budget >= following for budget, following in pairwise(budgets)):
            problem = f"not increasing between {self.budget_anchor} and {self.budget_reference}"
            remedy = "Give budgets between the anchor's and the reference's, or none"
            raise ArgumentError("waypoints", self.waypoints, problem, remedy)
        if len(self.waypoints) > MOST_WAYPOINTS:
            problem = f"{len(self.waypoints)} budgets, and a document holds {MOST_WAYPOINTS}"
            raise ArgumentError("waypoints", self.waypoints, problem, "Give fewer of them")

    @property
    def searched_budgets(self) -> tuple[int, ...]:
        """The anchor's and the waypoints'."""
        if self.waypoints is not None:
            return (self.budget_anchor, *self.waypoints)
        width = self.budget_reference - self.budget_anchor
        budgets = {self.budget_anchor + round(width * share) for share in SHARES}
        return tuple(sorted(budgets - {self.budget_reference}))

    @property
    def predicted_budgets(self) -> tuple[int, ...]:
        """In the middle between neighbouring calibrated ones, where there is room."""
        neighbours = pairwise((*self.searched_budgets, self.budget_reference))
        return tuple((low + high) // 2 for low, high in neighbours if high - low > 1)


def require_at_least(smallest: int, field: str, value: int) -> None:
    """Raise ArgumentError when a setting is below its smallest value."""
    if value < smallest:
        raise ArgumentError(field, value, f"below {smallest}", f"Use {smallest} or more")


def evidence_metrics(metric: str) -> tuple[str, ...]:
    """Return names of the metrics of the evidence, the tuned one first."""
    return tuple(dict.fromkeys([metric, *EVIDENCE_METRICS]))
