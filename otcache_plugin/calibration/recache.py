"""Calibrating ReCache: one network is trained for all budgets, by what drawn schedules lose.

It is trained twice by the same rule: on the quadratic form of the recording, where a schedule costs
no run, and then on real runs, which know what the form does not. The second may be left out, and so
may the first, which is the paper's own way.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from otcache_policies import ReCachePolicy, UniformPolicy
from otcache_policies.schedule import look_backs_of

from otcache_plugin.calibration.errors import refuse_unmeasured
from otcache_plugin.calibration.learning.options import ReCacheOptions
from otcache_plugin.calibration.learning.reinforce import (
    most_draws,
    softened,
    train,
    untrained,
)
from otcache_plugin.calibration.learning.rewards import FormLosses, RunLosses, WeightedMetrics
from otcache_plugin.calibration.racing.candidates import BASE_DAMPING
from otcache_plugin.calibration.settings import SMALL_BATCH
from otcache_plugin.evaluation.metrics import Preparing
from otcache_plugin.parameters.recache import ReCacheParameters, tables_of
from otcache_plugin.plugins.calibrating import Calibrated, Calibrator
from otcache_plugin.plugins.costs import Runs, StageCost
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from otcache_policies import Policy, Schedule, ScoreNetwork

    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.costs import Workload

ON_THE_FORM = "training on the quadratic form"
ON_RUNS = "training on real runs"
CHOOSING = "choosing the network"

SIZES = (16, 64)
"""Inputs and hidden units of a network."""

SOFTENED = 0.3
"""What scores that were trained on the form are scaled by before they are trained on runs."""


class ReCacheCalibrator(Calibrator):
    """Trains a network by REINFORCE, first on the quadratic form and then on real runs."""

    options = ReCacheOptions

    def check(self, options: ReCacheOptions, num_inference_steps: int) -> None:
        """Refuse budgets and numbers that nothing can be trained with."""
        options.check(num_inference_steps)
        if options.reward is not None:
            plugin_host().metric(options.reward)

    def check_executor(self, options: ReCacheOptions, executor: str) -> None:
        """Refuse to train on the recorded velocities alone for other executors."""
        if not options.iterations:
            refuse_unmeasured(executor, "Leave iterations above 0")

    def evidence_budgets(self, options: ReCacheOptions, num_inference_steps: int) -> Sequence[int]:
        """Return the budgets that networks are compared at."""
        return options.usual_budgets(num_inference_steps)

    def costs(self, options: ReCacheOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of recording, of both trainings, and of choosing between them."""
        steps = workload.num_inference_steps
        pairs = range(min(options.pairs_per_run, workload.pairs))
        draws = most_draws(options.trained_budgets(steps), options.on_runs)
        runs = [Runs(budget, count * options.schedules, pairs) for budget, count in draws.items()]
        stages = [workload.recording]
        if options.pretraining:
            stages.append(StageCost.without_model(ON_THE_FORM, options.pretraining))
        if options.iterations:
            stages.append(workload.at_most(ON_RUNS, runs))
        if options.pretraining and options.iterations:
            stages.append(workload.tried(CHOOSING, 2, options.usual_budgets(steps)))
        return stages

    def calibrate(self, options: ReCacheOptions, context: CalibrationContext) -> Calibrated:
        """Record the full runs, and train on them and on further runs."""
        look_backs = _look_backs(options, context)
        networks: dict[str, ScoreNetwork] = {}
        network = untrained(
            context.num_inference_steps,
            options.trained_budgets(context.num_inference_steps),
            SIZES,
            np.random.default_rng([context.seed, 0]),
        )
        if options.pretraining:
            network = networks["form"] = _trained_on_the_form(network, look_backs, options, context)
        if options.iterations:
            networks["runs"] = _trained_on_runs(network, look_backs, options, context)
        policies = {name: ReCachePolicy(each, look_backs) for name, each in networks.items()}
        chosen = _best(policies, options, context)
        usual = policies[chosen].budgets.clamp(context.usual_budget)
        return Calibrated(
            parameters=ReCacheParameters.of(policies[chosen].network).model_dump(),
            tables=tables_of(policies[chosen]),
            budgets=(),
            default_budget=options.default_budget or usual,
            settings={**_described(options), "trained_on": chosen},
        )

    def peer(self, name: str, policy: Policy) -> Callable[[int], Schedule]:
        """Return evenly spaced steps with the policy's own look-backs."""
        look_backs = cast("ReCachePolicy", policy).look_backs
        even = UniformPolicy(policy.num_inference_steps)

        def uniform(budget: int) -> Schedule:
            schedule = even.schedule(budget)
            return schedule.with_look_backs(look_backs_of(schedule.computed_steps, look_backs))

        return uniform


def _look_backs(options: ReCacheOptions, context: CalibrationContext) -> NDArray[np.uint8]:
    """Return the look-back of every segment: always the same, or the best of the edge table."""
    edges = context.edges()
    if options.look_back == "edges":
        best: NDArray[np.uint8] = (edges.velocity_errors.argmin(axis=2) + 1).astype(np.uint8)
        return best
    steps = context.num_inference_steps
    # Where the solver is not Euler's only the last velocity can stand in.
    return np.full((steps, steps), min(options.look_back, edges.max_look_back), dtype=np.uint8)


def _trained_on_the_form(
    network: ScoreNetwork,
    look_backs: NDArray[np.uint8],
    options: ReCacheOptions,
    context: CalibrationContext,
) -> ScoreNetwork:
    form = context.grams().form(BASE_DAMPING)
    context.start_search(ON_THE_FORM, options.pretraining)
    rng = np.random.default_rng([context.seed, 1])
    return train(network, options.on_the_form, FormLosses(form, look_backs), rng, context.advance)


def _trained_on_runs(
    network: ScoreNetwork,
    look_backs: NDArray[np.uint8],
    options: ReCacheOptions,
    context: CalibrationContext,
) -> ScoreNetwork:
    metrics = {context.metric: 1.0, **options.rewarded}
    for name in metrics:
        metric = plugin_host().metric(name)
        if isinstance(metric, Preparing):
            metric.prepare()
    draws = most_draws(options.trained_budgets(context.num_inference_steps), options.on_runs)
    runs = sum(draws.values()) * options.schedules
    context.start_search(ON_RUNS, runs * ceil(options.pairs_per_run / SMALL_BATCH))
    rng = np.random.default_rng([context.seed, 2])
    lose = RunLosses(context, look_backs, WeightedMetrics(metrics), options.pairs_per_run, rng)
    return train(softened(network, SOFTENED), options.on_runs, lose, rng)


def _best(
    policies: dict[str, ReCachePolicy], options: ReCacheOptions, context: CalibrationContext
) -> str:
    """Return the name of the policy whose schedules lose less on all calibration pairs."""
    names = list(policies)
    if len(names) == 1:
        return names[0]
    budgets = options.usual_budgets(context.num_inference_steps)
    context.start(CHOOSING, len(names) * len(budgets))
    schedules = [[policy.schedule(each) for each in budgets] for policy in policies.values()]
    return names[context.best(schedules)]


def _described(options: ReCacheOptions) -> dict[str, Any]:
    """Return what a document says of its calibration."""
    return options.model_dump(exclude={"budgets", "default_budget"}, exclude_none=True)
