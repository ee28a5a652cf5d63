"""What a calibration is determined by, besides the model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar

from otcache_policies import BudgetError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from otcache_plugin.errors import ArgumentError
from otcache_plugin.runs.mechanism import BLOCKS, USUAL, Mechanism

if TYPE_CHECKING:
    from otcache_policies.edges import Cost

MOST_TRIALS = 4_000

MOST_WAYPOINTS = 100
"""As many as a document holds."""

TUNED_SHARES = (8 / 50, 10 / 50, 12 / 50, 15 / 50)
"""Of the steps, where MeanCache's reading of the edge table is judged when it is calibrated alone:
OTCache's usual searched budgets, so that the runs are the same."""

SHARES = (0, 1 / 6, 1 / 3, 7 / 12)
"""Of the way from the anchor's budget to the reference's, where schedules are searched."""

MAX_LOOK_BACK = 6
"""Largest look-back that is measured and tried, where the scheduler allows more than one."""

QUICK, STANDARD, THOROUGH, PAPER = "quick", "standard", "thorough", "paper"
"""Efforts of a calibration of OTCache; the last is the paper's own procedure, for comparison."""

COSTS: tuple[Cost, ...] = ("velocity", "displacement")
GAMMAS = (1.0, 2.0, 4.0)
LOOK_BACK_RULES = (None, 1, 2, 3)
"""The readings of the edge table that are tried are all of these, one with the other."""

RHOS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
"""Exponents of the warp that are tried."""

TRIMMED = 0.05
"""Share of the pairs left out of a mean loss at either end."""

SMALL_BATCH = 4
"""Most pairs of a run that is made of a few pairs alone."""

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
        prune_below: p-value of the Wilcoxon test on a quarter of the pairs under which a trial is
            hopeless and not run on the others.
    """

    trials: int = 200
    patience: int = 50
    rounds: tuple[Round, ...] = (Round(4, 9.0), Round(None, 2.25))
    prune_below: float = 0.05

    def __post_init__(self) -> None:
        require_at_least(0, "trials", self.trials)
        if self.trials > MOST_TRIALS:
            problem = f"above {MOST_TRIALS}, and a document holds the history of no more"
            raise ArgumentError("trials", self.trials, problem, f"Use {MOST_TRIALS} or fewer")
        require_at_least(1, "patience", self.patience)

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
class MeasuringSettings:
    """What measured values are determined by, whatever policy is calibrated on them.

    Attributes:
        num_inference_steps: T.
        metric: end-to-end metric that everything is tuned on.
        pairs: calibration pairs.
        held_out_pairs: pairs for the evidence, at least 2.
        seed: of the pairs and of whatever is random.
        batch_size: pairs per pipeline call; rounding depends on it, so results do.
        threads: of each worker on a CPU; likewise.
        mechanism: what schedules are run on.
    """

    num_inference_steps: int = 50
    metric: str = "psnr"
    pairs: int = 96
    held_out_pairs: int = 64
    seed: int = 0
    batch_size: int = 16
    threads: int = 1
    mechanism: Mechanism = USUAL

    def __post_init__(self) -> None:
        for name, smallest in (
            ("num_inference_steps", 2),
            ("pairs", 1),
            ("held_out_pairs", 2),
            ("batch_size", 1),
            ("threads", 1),
            ("seed", 0),
        ):
            require_at_least(smallest, name, getattr(self, name))

    @property
    def max_look_back(self) -> int:
        """Largest look-back that is measured and tried; blocks know nothing of look-backs."""
        return 1 if self.mechanism.executor == BLOCKS else MAX_LOOK_BACK


def _parse_budgets(value: object, info: ValidationInfo) -> object:
    """Return the budgets of a text such as `10,12,15`, none at all of `none`."""
    if not isinstance(value, str):
        return value
    if value == "none":
        return ()
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", value):
        remedy = "Pass such as 10,12,15, or none"
        raise ArgumentError(str(info.field_name), value, "not budgets with commas between", remedy)
    return tuple(map(int, value.split(",")))


BudgetsOrText = Annotated[tuple[int, ...] | None, BeforeValidator(_parse_budgets)]
"""Budgets, or the text that a user writes for them."""


class OTCacheOptions(BaseModel):
    """How OTCache is calibrated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effort: Annotated[
        str, Field(description="quick, standard, thorough, or the paper's own procedure: paper.")
    ] = "standard"
    budget_reference: Annotated[int, Field(description="Largest budget that is calibrated.")] = 20
    budget_anchor: Annotated[int, Field(description="Smallest budget.")] = 8
    default_budget: Annotated[
        int | None, Field(description="Of a run that asks for none; 15 of 50 scaled to the steps.")
    ] = None
    waypoints: Annotated[
        BudgetsOrText,
        Field(
            description="thorough, paper: budgets searched between, such as 10,12,15; or none. "
            "paper has none unless given."
        ),
    ] = None
    search: Annotated[
        str | None,
        Field(description="paper: joint or per-pair, which is the paper's and holds unless given."),
    ] = None
    trials: Annotated[
        int, Field(description="thorough, paper: CMA-ES candidates of each search.")
    ] = 200
    patience: Annotated[int, Field(description="thorough, paper: trials without improvement.")] = 50

    def check(self, steps: int) -> None:
        """Refuse budgets that make no policy of so many steps.

        Raises:
            BudgetError: the reference, the anchor or the default is none.
            ArgumentError: the waypoints are none.
        """
        reference, anchor = self.budget_reference, self.budget_anchor
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
    def search_scope(self) -> str:
        """Whether all pairs are searched at once, or each alone."""
        return self.search or ("per-pair" if self.effort == PAPER else "joint")

    @property
    def served_budgets(self) -> range:
        """From the anchor's to the reference's."""
        return range(self.budget_anchor, self.budget_reference + 1)

    @property
    def searched_budgets(self) -> tuple[int, ...]:
        """The anchor's and the waypoints'."""
        if self.waypoints is not None:
            return (self.budget_anchor, *self.waypoints)
        if self.effort == PAPER:
            return (self.budget_anchor,)
        return self.usual_budgets

    @property
    def usual_budgets(self) -> tuple[int, ...]:
        """Spread from the anchor's to below the reference's, small ones closer together."""
        width = self.budget_reference - self.budget_anchor
        budgets = {self.budget_anchor + round(width * share) for share in SHARES}
        return tuple(sorted(budgets - {self.budget_reference}))

    @property
    def predicted_budgets(self) -> tuple[int, ...]:
        """In the middle between neighbouring calibrated ones, where there is room."""
        neighbours = pairwise((*self.searched_budgets, self.budget_reference))
        return tuple((low + high) // 2 for low, high in neighbours if high - low > 1)

    @property
    def calibrated_budgets(self) -> tuple[int, ...]:
        """The anchor's, the waypoints' and the reference's."""
        return (*self.searched_budgets, self.budget_reference)


class RecordedOptions(BaseModel):
    """How a policy is calibrated that needs little more than the recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual_shares: ClassVar[tuple[float, ...]] = TUNED_SHARES
    """Of the steps: the budgets where none are given."""

    budgets: BudgetsOrText = None
    default_budget: Annotated[
        int | None, Field(description="Of a run that asks for none; 15 of 50 scaled to the steps.")
    ] = None

    def check(self, steps: int) -> None:
        """Refuse budgets that are none of so many steps.

        Raises:
            BudgetError: the default is none.
            ArgumentError: one of the others is none, or they do not increase.
        """
        budgets = self.usual_budgets(steps)
        bounded = (1, *budgets, steps)
        if not budgets or any(low >= high for low, high in pairwise(bounded)):
            problem = f"not increasing from 2 to below the {steps} steps"
            raise ArgumentError("budgets", budgets, problem, "Give at least one, such as 8,10,12")
        default = self.default_budget
        if default is not None and not 2 <= default <= steps:
            problem = "not a budget of the run"
            raise BudgetError("default_budget", default, problem, f"Use 2 … {steps}")

    def usual_budgets(self, steps: int) -> tuple[int, ...]:
        """Return the budgets that were given, or the usual shares of the steps."""
        if self.budgets is not None:
            return self.budgets
        return tuple(sorted({max(2, round(steps * share)) for share in self.usual_shares}))


class MeanCacheOptions(RecordedOptions):
    """How MeanCache is calibrated."""

    budgets: Annotated[
        BudgetsOrText,
        Field(description="Where readings of the edge table are judged: 8,10,12,15 of 50 steps."),
    ] = None


class GramOptions(RecordedOptions):
    """How the policy of Gram matrices is calibrated: from the recording alone."""

    damping: Annotated[
        float,
        Field(description="How little segments may rely on each other, from 0 to 1."),
    ] = 0.1
    budgets: Annotated[
        BudgetsOrText,
        Field(description="Whose schedules are found ahead and measured: 8,10,12,15 of 50 steps."),
    ] = None


def require_at_least(smallest: int, field: str, value: int) -> None:
    """Raise ArgumentError when a setting is below its smallest value."""
    if value < smallest:
        raise ArgumentError(field, value, f"below {smallest}", f"Use {smallest} or more")


def evidence_metrics(metric: str) -> tuple[str, ...]:
    """Return names of the metrics of the evidence, the tuned one first."""
    return tuple(dict.fromkeys([metric, *EVIDENCE_METRICS]))
