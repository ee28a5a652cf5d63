"""Evidence again: the first held-out pairs of a document run anew, and its means compared.

The pairs go through the pipeline in the batches of the calibration, for rounding depends on them,
so a replay is of whole batches. With all pairs each mean has to be the stated one, up to rounding.
With n of N pairs it may differ by what leaving out the others explains: the means of n out of N
values have a standard deviation of SE sqrt(N/n - 1) about the mean of all, SE being the stated
standard error.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import AimingPolicy, DecidingPolicy
from otcache_registry import DocumentError

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.rows import FEWER_STEPS, evidence_runs, methods_of
from otcache_plugin.calibration.measuring.deciding_runs import deciding_run
from otcache_plugin.calibration.measuring.units import Reference, comparisons
from otcache_plugin.calibration.measuring.worker import Worker
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.evaluation.batches import batches_of
from otcache_plugin.plugins.costs import StageCost
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.mechanism import VELOCITY, Mechanism

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_registry import EvidenceRow, PolicyDocument, StoredPolicy

    from otcache_plugin.calibration.measuring.units import Run
    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.models.setups import ModelSetup

ROUNDING = 1e-3
"""Largest relative difference of two means of the same pairs."""

SIGMAS = 4.0
"""Standard deviations that chance is allowed; one mean in 16,000 is further off by it alone."""


@dataclass(frozen=True)
class ReplayedRow:
    """One stated mean, and what the replayed pairs gave.

    Attributes:
        budget: computed steps.
        policy: what was run, as in the evidence.
        metric: what was measured.
        stated: mean in the document.
        replayed: mean of the replayed pairs.
        tolerance: how far apart the two may be.
    """

    budget: int
    policy: str
    metric: str
    stated: float
    replayed: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the two are no further apart than they may be."""
        return abs(self.replayed - self.stated) <= self.tolerance


@dataclass(frozen=True)
class Replay:
    """A replayed evidence.

    Attributes:
        pairs: pairs that were replayed.
        stated_pairs: pairs of the evidence.
        rows: one per row of the evidence, in its order.
    """

    pairs: int
    stated_pairs: int
    rows: tuple[ReplayedRow, ...]

    @property
    def agrees(self) -> bool:
        """Whether every row does."""
        return all(row.agrees for row in self.rows)


def tolerance(row: EvidenceRow, pairs: int) -> float:
    """Return how far the mean of a row's first pairs may be from the stated mean of them all."""
    chance = row.standard_error * math.sqrt(row.pairs / pairs - 1)
    return SIGMAS * chance + ROUNDING * abs(row.mean)


def stated_pairs(document: PolicyDocument) -> int:
    """Return the number of held-out pairs of a document's evidence.

    Raises:
        DocumentError: it has no evidence, or one that a calibration does not write.
        UnknownNameError: its policy is not installed.
        ArgumentError: its policy brings no calibrator.
    """
    rows, name = document.evidence, document.policy.name
    if document.calibration is None or not rows:
        problem = "this document has no held-out figures"
        raise DocumentError("evidence", (), problem, "Verify it without a replay")
    remedy = "Verify it without a replay, or ask who calibrated it"
    measured = (FEWER_STEPS, *plugin_host().calibrator(name).peers, name)
    for row in rows:
        if row.policy not in measured:
            problem = f"only {', '.join(measured)} can be replayed"
            raise DocumentError("evidence.policy", row.policy, problem, remedy)
        if row.pairs != rows[0].pairs:
            problem = f"another row has {rows[0].pairs}"
            raise DocumentError("evidence.pairs", row.pairs, problem, remedy)
    return rows[0].pairs


def replay(
    stored: StoredPolicy, setup: ModelSetup, pairs: int, progress: CalibrationProgress
) -> Replay:
    """Run the first held-out pairs of a document's evidence, as its calibration did.

    Args:
        stored: the document, with its tables.
        setup: its model, with the prompts of the evidence.
        pairs: how many at least; made up to whole batches, and no more than the evidence has.
        progress: is told how far it is.

    Raises:
        DocumentError: its evidence cannot be replayed.
        BudgetError: its evidence names a budget that its policy does not serve.
    """
    document = stored.document
    stated = stated_pairs(document)
    settings = _settings(document, pairs, stated)
    name, host = document.policy.name, plugin_host()
    policy, calibrator = host.policy_of(stored), host.calibrator(name)
    if isinstance(policy, DecidingPolicy) and not isinstance(policy, AimingPolicy):
        problem, remedy = "its policy aims at no budgets", "Verify it without a replay"
        raise DocumentError("policy.name", name, problem, remedy)
    decided = partial(deciding_run, name, document.parameters, stored.tables, document.sampling)
    methods = methods_of(name, policy, calibrator, decided)
    budgets = sorted({row.budget for row in document.evidence})
    runs = evidence_runs(methods, budgets)
    worker = Worker(setup, settings)
    try:
        means = _means(worker, settings, runs, document.evidence, progress)
    finally:
        worker.close()
    rows = (
        ReplayedRow(
            row.budget,
            row.policy,
            row.metric,
            stated=row.mean,
            replayed=means[row.budget, row.policy, row.metric],
            tolerance=tolerance(row, settings.held_out_pairs),
        )
        for row in document.evidence
    )
    return Replay(settings.held_out_pairs, stated, tuple(rows))


def _means(
    worker: Worker,
    settings: MeasuringSettings,
    runs: Mapping[tuple[int, str], Run],
    evidence: Sequence[EvidenceRow],
    progress: CalibrationProgress,
) -> dict[tuple[int, str, str], float]:
    """Return the means over the held-out pairs, by budget, policy and metric."""
    metrics = tuple(dict.fromkeys(row.metric for row in evidence))
    batches = batches_of("held-out", settings.held_out_pairs, settings.batch_size)
    full = settings.num_inference_steps
    units = {
        (batch, key): comparisons(run, [batch], metrics)
        for batch in batches
        for key, run in runs.items()
    }
    calls = len(batches) + sum(map(len, units.values()))
    steps = full + sum(run.budget for run in runs.values())
    cost = steps * len(batches), steps * settings.held_out_pairs
    progress.plan([StageCost(stages.REPLAYING, calls, *cost)])
    progress.start(stages.REPLAYING, calls)
    values = defaultdict(list)
    for batch in batches:
        ((_, reference),) = worker.measure(Reference(batch), {})
        progress.advance(full * len(batch))
        for (budget, policy), run in runs.items():
            for unit in units[batch, (budget, policy)]:
                pairs = slice(unit.batch.start - batch.start, unit.batch.stop - batch.start)
                compared = {name: array[pairs] for name, array in reference.arrays.items()}
                ((_, measured),) = worker.measure(unit, compared)
                progress.advance(run.budget * len(unit.batch))
                for metric in metrics:
                    values[budget, policy, metric].append(measured.arrays[metric])
    return {key: float(np.concatenate(parts).mean()) for key, parts in values.items()}


def _settings(document: PolicyDocument, pairs: int, stated: int) -> MeasuringSettings:
    """Return the calibration's settings, as far as its held-out pairs depend on them."""
    calibration = document.calibration
    assert calibration is not None
    size, sampling = calibration.batch_size, document.sampling
    mechanism = Mechanism(sampling.executor or VELOCITY, sampling.calibrator)
    return MeasuringSettings(
        num_inference_steps=document.num_inference_steps,
        metric=calibration.metric,
        pairs=1,
        held_out_pairs=min(math.ceil(pairs / size) * size, stated),
        batch_size=size,
        mechanism=mechanism,
    )
