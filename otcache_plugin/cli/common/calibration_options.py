"""What `otcache calibrate` is told, in groups of what belongs together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from otcache_plugin.calibration.settings import CalibrationSettings, SearchSettings
from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from otcache_plugin.calibration.settings import SearchKind
    from otcache_plugin.models.setups import SetupDefaults


@dataclass(frozen=True)
class BudgetOptions:
    """Which schedules are calibrated.

    Attributes:
        num_inference_steps: T.
        reference: budget of the reference.
        anchor: budget of the anchor.
        waypoints: budgets searched between the two; None for the usual ones.
    """

    num_inference_steps: int
    reference: int
    anchor: int
    waypoints: tuple[int, ...] | None


@dataclass(frozen=True)
class SearchOptions:
    """How schedules are searched, and by what they are judged.

    Attributes:
        kind: as named by the user, who may have named an unknown one.
        trials: candidates of CMA-ES.
        patience: trials without improvement.
        metric: what is minimised; None for what is usual for the model.
        seed: of the pairs and the search.
    """

    kind: str
    trials: int
    patience: int
    metric: str | None
    seed: int


@dataclass(frozen=True)
class PairOptions:
    """On how many prompt-seed pairs; None for what is usual for the model.

    Attributes:
        pairs: calibration pairs.
        held_out_pairs: pairs of the evidence.
        batch_size: pairs per pipeline call.
    """

    pairs: int | None
    held_out_pairs: int | None
    batch_size: int | None


@dataclass(frozen=True)
class WhereOptions:
    """Where a calibration runs, and where it writes.

    Attributes:
        output: the document's folder.
        ray: address of a Ray cluster; None for this process.
        threads: of each worker on a CPU.
        shard: number and count of the parts of the pairs; None for all of them.
        wait: seconds that a shard waits for news from the others.
    """

    output: Path
    ray: str | None
    threads: int
    shard: tuple[int, int] | None
    wait: float

    def __post_init__(self) -> None:
        if not self.wait >= 0:
            remedy = "Pass seconds, such as 600, or 0 to end at once"
            raise ArgumentError("wait", self.wait, "not 0 or more", remedy)
        if self.ray is not None and self.shard is not None:
            problem = "a shard measures in its own process"
            raise ArgumentError("ray", self.ray, problem, "Pass either --ray or --shard")


def settings_of(
    usual: SetupDefaults,
    budgets: BudgetOptions,
    search: SearchOptions,
    pairs: PairOptions,
    where: WhereOptions,
) -> CalibrationSettings:
    """Return the settings of a calibration.

    Args:
        usual: what is taken where the user says nothing.
        budgets: which schedules.
        search: how they are searched.
        pairs: on how many pairs.
        where: where it runs.

    Raises:
        FieldError: a value cannot be used, or two of them do not fit.
    """
    return CalibrationSettings(
        num_inference_steps=budgets.num_inference_steps,
        budget_reference=budgets.reference,
        budget_anchor=budgets.anchor,
        waypoints=budgets.waypoints,
        metric=usual.metric if search.metric is None else search.metric,
        pairs=usual.pairs if pairs.pairs is None else pairs.pairs,
        held_out_pairs=(
            usual.held_out_pairs if pairs.held_out_pairs is None else pairs.held_out_pairs
        ),
        seed=search.seed,
        batch_size=usual.batch_size if pairs.batch_size is None else pairs.batch_size,
        threads=where.threads,
        search=SearchSettings(
            trials=search.trials,
            patience=search.patience,
            kind=cast("SearchKind", search.kind),  # any other is refused there
        ),
    )


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return number and count of `I/N`.

    Raises:
        ArgumentError: it is not such a text with 1 <= I <= N.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ArgumentError("shard", text, "not I/N with 1 <= I <= N", "Pass such as --shard 1/4")
    return int(match[1]), int(match[2])


def parse_budgets(text: str | None) -> tuple[int, ...] | None:
    """Return the budgets of `10,12,15`, none at all of `none`.

    Raises:
        ArgumentError: it is neither.
    """
    if text is None:
        return None
    if text == "none":
        return ()
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", text):
        remedy = "Pass such as --waypoints 10,12,15, or --waypoints none"
        raise ArgumentError("waypoints", text, "not budgets with commas between", remedy)
    return tuple(map(int, text.split(",")))
