"""Calibrating OTCache, with the effort that is asked for.

Everything here follows from measured values alone, in a fixed order and without a clock: a
calibration that was interrupted, or shared out, comes to the same document.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from otcache_policies import MeanCachePolicy, Schedule

from otcache_plugin.calibration.errors import refuse_unmeasured
from otcache_plugin.calibration.evidence.peers import peers
from otcache_plugin.calibration.procedures.paper import Paper
from otcache_plugin.calibration.procedures.quick import Quick
from otcache_plugin.calibration.procedures.standard import Standard
from otcache_plugin.calibration.procedures.thorough import Thorough
from otcache_plugin.calibration.searching.default_search import ClimbsAndRounds
from otcache_plugin.calibration.searching.scopes import SCOPES
from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
from otcache_plugin.calibration.settings import (
    PAPER,
    QUICK,
    STANDARD,
    THOROUGH,
    OTCacheOptions,
    SearchSettings,
)
from otcache_plugin.errors import ArgumentError
from otcache_plugin.plugins.calibrating import Calibrator
from otcache_plugin.plugins.costs import Alternative

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_policies import OTCachePolicy, Policy

    from otcache_plugin.calibration.procedures.procedure import Procedure
    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload

PROCEDURES: Mapping[str, Procedure] = {
    QUICK: Quick(),
    STANDARD: Standard(),
    THOROUGH: Thorough(),
    PAPER: Paper(),
}
"""By effort."""

OF_SEARCHES = {
    "waypoints": (THOROUGH, PAPER),
    "search": (PAPER,),
    "trials": (THOROUGH, PAPER),
    "patience": (THOROUGH, PAPER),
}
"""Options that only some efforts have."""


def climbs_and_rounds(options: OTCacheOptions) -> SearchAlgorithm:
    """Return the search algorithm of every calibration that is not given another one."""
    return ClimbsAndRounds(SearchSettings(trials=options.trials, patience=options.patience))


@dataclass(frozen=True)
class OTCacheCalibrator(Calibrator):
    """Calibrates OTCache.

    Attributes:
        algorithm: gives what schedules are searched with, for some options.
    """

    algorithm: Callable[[OTCacheOptions], SearchAlgorithm] = climbs_and_rounds

    options = OTCacheOptions
    peers = ("uniform", "meancache")

    def check(self, options: OTCacheOptions, num_inference_steps: int) -> None:
        """Refuse budgets that make no policy, and options that the effort does not have."""
        if options.effort not in PROCEDURES:
            problem, remedy = "no such effort", f"Use {', '.join(PROCEDURES)}"
            raise ArgumentError("effort", options.effort, problem, remedy)
        for name, efforts in OF_SEARCHES.items():
            # What a working folder's manifest says holds every option, given or not.
            asked = getattr(options, name) != OTCacheOptions.model_fields[name].default
            if asked and options.effort not in efforts:
                problem = f"a calibration of the effort {options.effort} has no such option"
                remedy = f"Leave it out, or use the effort {' or '.join(efforts)}"
                raise ArgumentError(name, getattr(options, name), problem, remedy)
        options.check(num_inference_steps)
        if options.search_scope not in SCOPES:
            problem, remedy = "no such search", f"Use {' or '.join(SCOPES)}"
            raise ArgumentError("search", options.search, problem, remedy)
        self.algorithm(options)

    def usual_pairs(self, options: OTCacheOptions) -> int:
        """Return as many as the effort makes use of."""
        return PROCEDURES[options.effort].usual_pairs

    def check_pairs(self, options: OTCacheOptions, pairs: int) -> None:
        """Refuse fewer pairs than the effort can do with."""
        fewest = PROCEDURES[options.effort].fewest_pairs
        if pairs < fewest:
            problem = f"too few for the effort {options.effort}, which takes {fewest} or more"
            remedy = f"Use {fewest} or more" + (
                "" if options.effort == QUICK else ", or the effort quick"
            )
            raise ArgumentError("pairs", pairs, problem, remedy)

    def check_executor(self, options: OTCacheOptions, executor: str) -> None:
        """Refuse to find schedules for other executors in the recorded velocities alone."""
        if options.effort == QUICK:
            refuse_unmeasured(executor, f"Use the effort {STANDARD}, {THOROUGH} or {PAPER}")

    def variant(self, options: OTCacheOptions) -> str:
        """Return the effort: each goes on from what was measured for the one before."""
        return options.effort

    def determined_by(self, options: OTCacheOptions) -> Mapping[str, Any]:
        """Return the search algorithm, and how it is set, where one is used."""
        if options.effort not in OF_SEARCHES["trials"]:
            return {}
        algorithm = self.algorithm(options)
        return {"algorithm": {"name": algorithm.name, **asdict(cast("Any", algorithm))}}

    def evidence_budgets(
        self, options: OTCacheOptions, num_inference_steps: int
    ) -> tuple[int, ...]:
        """Return budgets over the whole range, or the paper's calibrated and predicted ones."""
        if options.effort != PAPER:
            # Whatever was searched, evidence of all efforts is of the same budgets.
            options = OTCacheOptions(
                effort=THOROUGH,
                budget_anchor=options.budget_anchor,
                budget_reference=options.budget_reference,
            )
        return tuple(sorted({*options.calibrated_budgets, *options.predicted_budgets}))

    def alternatives(self, options: OTCacheOptions) -> Sequence[Alternative]:
        """Return every effort, with the options that it has."""
        given = options.model_dump(include=options.model_fields_set)
        return [
            Alternative(
                effort,
                OTCacheOptions(
                    effort=effort,
                    **{
                        name: value
                        for name, value in given.items()
                        if name != "effort" and effort in OF_SEARCHES.get(name, PROCEDURES)
                    },
                ),
                procedure.outcome,
            )
            for effort, procedure in PROCEDURES.items()
        ]

    def costs(self, options: OTCacheOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of every stage."""
        return PROCEDURES[options.effort].costs(options, self.algorithm(options), workload)

    def calibrate(self, options: OTCacheOptions, context: CalibrationContext) -> Calibrated:
        """Calibrate with the effort that is asked for."""
        procedure = PROCEDURES[options.effort]
        return procedure.calibrate(options, self.algorithm(options), context)

    def peer(self, name: str, policy: Policy) -> Callable[[int], Schedule]:
        """Return a peer's schedules over the policy's own edge table."""
        otcache = cast("OTCachePolicy", policy)
        assert otcache.edges is not None, "a calibrated one has an edge table"
        return peers(otcache, MeanCachePolicy(otcache.edges, otcache.settings))[name]
