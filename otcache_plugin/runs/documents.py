"""The documents of one model and revision, of which every run follows the nearest.

Which one is nearest only the run knows: its scheduler, its steps, its guidance and its size. What
it differs in from the runs of that document's calibration stands in its notes, and is warned of
where it matters; which other documents are as near stands there, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from otcache_policies import OTCacheError
from otcache_registry.finding.nearest import RunSetup, differences, distance

from otcache_plugin.runs.mechanism import VELOCITY
from otcache_plugin.runs.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from otcache_policies import DecidingPolicy
    from otcache_registry import Sampling

    from otcache_plugin.runs.plan import CalibratedPlan, DecidingPlan, Response
    from otcache_plugin.runs.resolution import DocumentOrigin, Resolution

__all__ = ["DocumentsPlan", "PlannedDocument"]

PREFERRED = (
    "Of equally near documents your own go before bundled ones, these before what was pulled, and "
    "of each the latest before older ones."
)


@dataclass(frozen=True)
class PlannedDocument:
    """A document that runs may follow.

    Attributes:
        source: its origin as shown to users.
        sampling: the set-up that it was calibrated with.
        make: gives its plan; one on the Hub is fetched for it.
    """

    source: str
    sampling: Sampling
    make: Callable[[], CalibratedPlan | DecidingPlan]


@dataclass
class DocumentsPlan:
    """A policy by its documents.

    Attributes:
        first: the plan of the document that is nearest to the pipeline's usual run.
        sampling: the set-up that this one was calibrated with.
        others: documents that would do as well, the one to prefer first.
        usual: the pipeline's usual run.
        notices: what was warned of already.

    A plan that was made of this one by `run_by` shares what was found out, so nothing is fetched or
    warned of twice.
    """

    first: CalibratedPlan | DecidingPlan
    sampling: Sampling
    others: Sequence[PlannedDocument]
    usual: RunSetup
    notices: Notices = field(default_factory=Notices)
    _plans: dict[str, CalibratedPlan | DecidingPlan | OTCacheError] = field(default_factory=dict)

    @property
    def policy_name(self) -> str:
        """The policy's registered name."""
        return self.first.policy_name

    @property
    def origin(self) -> DocumentOrigin | None:
        """The document that usual runs follow."""
        return self.first.origin

    @property
    def deciding(self) -> DecidingPolicy[Any] | None:
        """See `Plan.deciding`."""
        return self.first.deciding

    def budget_for(self, num_inference_steps: int) -> int | None:
        """See `Plan.budget_for`; of a run that is the pipeline's usual one but for the steps."""
        plan, _, _ = self._nearest(replace(self.usual, num_inference_steps=num_inference_steps))
        return plan.budget_for(num_inference_steps)

    def largest_look_back(self, num_inference_steps: int | None) -> int | None:
        """See `Plan.largest_look_back`; of the document that usual runs follow."""
        return self.first.largest_look_back(num_inference_steps)

    def run_by(self, executor: str, calibrator: str | None) -> DocumentsPlan:
        """Return the plan of runs by an executor, with a calibrator of cache-dit or none."""
        return replace(self, usual=replace(self.usual, executor=executor, calibrator=calibrator))

    def resolve(
        self,
        sigmas: NDArray[np.float64],
        response: Response | None = None,
        setup: RunSetup | None = None,
    ) -> Resolution:
        """See `Plan.resolve`."""
        usual = RunSetup(self.usual.pipeline, scheduler=self.usual.scheduler)
        run = replace(
            setup or usual,
            num_inference_steps=len(sigmas) - 1,
            executor=self.usual.executor,
            calibrator=self.usual.calibrator,
        )
        plan, sampling, notes = self._nearest(run)
        resolution = plan.resolve(sigmas, response, run)
        found = differences(sampling, run)
        if _is_served_as_calibrated(sampling, run):
            notes.append("The policy was calibrated on this executor.")
        if found:
            unlike = ", ".join(each.text for each in found)
            notes.append(f"This run is unlike those of the calibration: {unlike}.")
        assert plan.origin is not None, "it rests on a document"
        self.notices.warn(
            f"The policy from {plan.origin.source} was calibrated on runs unlike this one (",
            [(each.kind, each.text) for each in found if each.matters],
            "): its figures need not hold. Calibrate it on runs like this one, or compare it with "
            "policy='uniform' on a few pictures.",
        )
        return resolution.noting(tuple(notes))

    def _nearest(self, run: RunSetup) -> tuple[CalibratedPlan | DecidingPlan, Sampling, list[str]]:
        """Return the nearest document's plan and set-up, and notes on what else there is."""
        notes: list[str] = []
        assert self.origin is not None, "it rests on a document"
        own = PlannedDocument(self.origin.source, self.sampling, lambda: self.first)
        far = {each.source: distance(each.sampling, run) for each in (own, *self.others)}
        ranked = sorted((own, *self.others), key=lambda each: far[each.source])
        for index, document in enumerate(ranked):
            plan = self.first if document is own else self._plan(document)
            if not isinstance(plan, OTCacheError):
                as_near = [
                    each.source
                    for each in ranked[index + 1 :]
                    if far[each.source] == far[document.source]
                ]
                if as_near:
                    notes.append(f"{', '.join(as_near)}: as near to this run. {PREFERRED}")
                return plan, document.sampling, notes
            notes.append(f"{document.source} was left out: {plan}")
        raise AssertionError("the first one is always there")

    def _plan(self, document: PlannedDocument) -> CalibratedPlan | DecidingPlan | OTCacheError:
        """Return a document's plan, or why there is none; found out once."""
        known = self._plans.get(document.source)
        if known is None:
            try:
                known = document.make()
            except OTCacheError as error:
                known = error
            self._plans[document.source] = known
        return known


def _is_served_as_calibrated(sampling: Sampling, run: RunSetup) -> bool:
    """Return whether a run is made by the executor of the calibration, another than the usual."""
    calibrated_on = sampling.executor, sampling.calibrator
    made_by = run.executor, run.calibrator
    return calibrated_on == made_by and sampling.executor not in (None, VELOCITY)
