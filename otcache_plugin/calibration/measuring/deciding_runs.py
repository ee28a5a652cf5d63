"""Runs in which a policy decides, on the executor that shows what it observes."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from otcache_policies import DecidingPolicy
from otcache_registry.documents import strict_json

from otcache_plugin.calibration.measuring.observing import ChangeRecorder, watched_outputs
from otcache_plugin.calibration.measuring.units import DecidingRun
from otcache_plugin.pipelines.attaching import attached
from otcache_plugin.pipelines.parts import find_scheduler
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.plan import DecidingPlan
from otcache_plugin.runs.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from diffusers import DiffusionPipeline
    from numpy.typing import NDArray
    from otcache_registry import Sampling, Tables

    from otcache_plugin.evaluation.outputs import Outputs
    from otcache_plugin.plugins.registries import Activation
    from otcache_plugin.runs.report import RunReport

    Generate = Callable[[], Outputs]


def deciding_run(
    policy: str, parameters: Mapping[str, Any], tables: Tables, sampling: Sampling, budget: int
) -> DecidingRun:
    """Return a policy that decides as a unit says it.

    Args:
        policy: its name.
        parameters: of a document of it.
        tables: likewise.
        sampling: likewise.
        budget: to aim at.
    """
    return DecidingRun(
        policy,
        json.dumps(parameters, sort_keys=True),
        safetensors.numpy.save(dict(tables)) if tables else b"",
        sampling.model_dump_json(),
        budget,
    )


def policy_of(run: DecidingRun) -> DecidingPolicy[Any]:
    """Make the policy of a run."""
    from otcache_registry import Sampling

    tables = safetensors.numpy.load(run.tables) if run.tables else {}
    sampling = Sampling.model_validate_json(run.sampling)
    parameters = strict_json.parse(run.parameters)
    assert isinstance(parameters, dict), "a unit has a policy's parameters"
    policy = plugin_host().policy_made(run.policy, parameters, tables, sampling)
    assert isinstance(policy, DecidingPolicy), "units of other policies have schedules"
    return policy


def observe(
    pipe: DiffusionPipeline, observes: str, pairs: int, generate: Generate
) -> tuple[Outputs, dict[str, NDArray[Any]]]:
    """Make a full run, and return how far what is observed changes, and the velocities.

    Args:
        pipe: the pipeline, without any cache enabled.
        observes: what is shown.
        pairs: of the run.
        generate: makes it.
    """
    recorder = ChangeRecorder(observes, pairs)
    with (
        watched_outputs(find_scheduler(pipe), pairs) as outputs,
        _deciding(pipe, recorder, None),
    ):
        given = generate()
    steps = recorder.changes.number
    arrays = {"observed": recorder.changes.array(steps), "outputs": outputs.array(steps)}
    return given, arrays


def decide(
    pipe: DiffusionPipeline, run: DecidingRun, generate: Generate
) -> tuple[Outputs, RunReport]:
    """Make a run of one call in which a policy decides, and return what came of it."""
    with _deciding(pipe, policy_of(run), run.budget) as activation:
        return generate(), activation.report()


@contextmanager
def _deciding(
    pipe: DiffusionPipeline, policy: DecidingPolicy[Any], budget: int | None
) -> Iterator[Activation]:
    host = plugin_host()
    executor = host.executor(host.executor_for(policy))
    activation = executor.prepare(pipe, DecidingPlan(policy, Request(budget)), {})
    with attached(pipe, activation):
        yield activation


def cost_of(report: RunReport) -> dict[str, NDArray[Any]]:
    """Return a run's computed steps, and its share of a full run's block evaluations."""
    computed, blocks = len(report.computed_steps), report.block_evaluations
    share = computed / report.num_inference_steps
    if blocks is not None:
        share = blocks.run / blocks.of_full_run
    return {"computed_steps": np.array([computed]), "block_share": np.array([share])}
