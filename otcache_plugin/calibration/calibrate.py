"""From a pipeline to a policy document: record, tune, search, choose, gather evidence."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import torch
from diffusers.hooks import HookRegistry, ModelHook
from otcache_policies import BudgetError
from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    GraphSettings,
    ModelReference,
    PolicyDocument,
    Sampling,
    ScheduleRecord,
    edges_digest,
)

from otcache_plugin.calibration.anchor import AnchorSettings, require_at_least, search_anchor
from otcache_plugin.calibration.evidence import PEERS, gather_evidence
from otcache_plugin.calibration.recording import EdgeAccumulator, record
from otcache_plugin.calibration.tuning import (
    EDGE_SETTINGS,
    RHOS,
    choose_anchor,
    tune_graph,
    tuning_budgets,
)
from otcache_plugin.enabling import DEFAULT_RATIO
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import metric_named
from otcache_plugin.evaluation.pairs import generate
from otcache_plugin.executors.parts import find_denoisers
from otcache_plugin.plan import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from diffusers import DiffusionPipeline
    from otcache_policies import EdgeTable, MeanCachePolicy, OTCachePolicy, Schedule
    from otcache_registry import EvidenceRow

    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup

LIBRARIES = ("otcache-plugin", "cache-dit", "diffusers", "torch", "optuna", "cmaes", "numpy")
COUNTER_HOOK = "otcache_call_counter"
POOL_SIZE = 12
"""Candidates of the anchor search whose predictions are scored."""


@dataclass(frozen=True)
class CalibrationSettings:
    """What a calibration is determined by, besides the model.

    Attributes:
        num_inference_steps: T.
        budget_reference: budget of the reference.
        budget_anchor: budget of the anchor.
        default_budget: of a run that asks for none; None for 15 of 50, scaled to T.
        metric: end-to-end metric that everything is tuned on.
        pairs: calibration pairs.
        held_out_pairs: pairs for the evidence, at least 2.
        seed: of the pairs and the search.
        batch_size: pairs per pipeline call.
        anchor: the search.
    """

    num_inference_steps: int = 50
    budget_reference: int = 20
    budget_anchor: int = 8
    default_budget: int | None = None
    metric: str = "psnr"
    pairs: int = 96
    held_out_pairs: int = 64
    seed: int = 0
    batch_size: int = 48
    anchor: AnchorSettings = field(default_factory=AnchorSettings)

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
        default = self.default_budget
        if default is not None and not anchor <= default <= steps:
            problem = "below the anchor's budget or above the number of steps"
            raise BudgetError("default_budget", default, problem, f"Use {anchor} … {steps}")
        for name, smallest in (("pairs", 1), ("held_out_pairs", 2), ("batch_size", 1)):
            require_at_least(smallest, name, getattr(self, name))


class CalibrationProgress(Protocol):
    """Is told how far a calibration is."""

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` units of work begins."""
        ...

    def advance(self) -> None:
        """One unit is done."""
        ...


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration gives: the document and the edge table it rests on."""

    document: PolicyDocument
    edges: EdgeTable


def calibrate(
    setup: ModelSetup, settings: CalibrationSettings, progress: CalibrationProgress
) -> CalibrationResult:
    """Calibrates an OTCache policy for a model.

    Args:
        setup: the model, without any cache enabled.
        settings: budgets, metric, pairs, search.
        progress: is told how far it is.

    Returns:
        A document with evidence from held-out pairs, and its edge table.
    """
    started = time.monotonic()
    with count_transformer_calls(setup.pipe) as counter:
        found = _find_policy(setup, settings, progress)
    document = _document(setup, settings, found, counter.calls, time.monotonic() - started)
    return CalibrationResult(document, found.graph.edges)


@dataclass(frozen=True)
class _Found:
    """What the stages gave."""

    graph: MeanCachePolicy
    policy: OTCachePolicy
    evidence: tuple[EvidenceRow, ...]
    evaluations: int
    size: tuple[int, int]


def _find_policy(
    setup: ModelSetup, settings: CalibrationSettings, progress: CalibrationProgress
) -> _Found:
    call_arguments = {**setup.call_arguments, "num_inference_steps": settings.num_inference_steps}
    pairs = setup.calibration_pairs(settings.pairs, settings.seed)
    metric = metric_named(settings.metric)
    edges, reference_pictures = record_pairs(setup, pairs, call_arguments, settings, progress)
    evaluator = Evaluator(
        setup.pipe, pairs, call_arguments, settings.batch_size, reference_pictures
    )

    def loss(schedule: Schedule) -> float:
        return evaluator.loss(schedule, metric)

    budgets = tuning_budgets(settings.budget_anchor, settings.budget_reference)
    progress.start("tuning the graph policy", len(EDGE_SETTINGS))
    graph = tune_graph(edges, budgets, loss, progress.advance)

    progress.start("searching the anchor", settings.anchor.trials)
    search = search_anchor(
        graph.schedule(settings.budget_anchor),
        loss,
        lambda steps: edges.look_backs(steps, graph.settings),
        settings.anchor,
        progress.advance,
    )
    pool = search.best(POOL_SIZE)
    progress.start("choosing anchor and rho", 2 * len(RHOS) + len(pool))
    reference = graph.schedule(settings.budget_reference)
    policy = choose_anchor(pool, graph, reference, budgets, loss, progress.advance)

    budgets = tuple(sorted({*budgets, settings.budget_reference}))
    progress.start("evidence on held-out pairs", len(PEERS) * len(budgets))
    held_out_pairs = setup.held_out_pairs(settings.held_out_pairs)
    held_out = Evaluator(setup.pipe, held_out_pairs, call_arguments, settings.batch_size)
    metrics = [metric_named(name) for name in dict.fromkeys([metric.name, "psnr", "ssim"])]
    evidence = gather_evidence(held_out, policy, graph, budgets, metrics, progress.advance)
    height, width = evaluator.reference.shape[-2:]
    evaluations = evaluator.evaluations + held_out.evaluations
    return _Found(graph, policy, evidence, evaluations, (height, width))


def _document(
    setup: ModelSetup,
    settings: CalibrationSettings,
    found: _Found,
    transformer_calls: int,
    seconds: float,
) -> PolicyDocument:
    origin = setup.origin
    edges, policy = found.graph.edges, found.policy
    return PolicyDocument(
        schema=POLICY_SCHEMA,
        name=policy.name,
        model=ModelReference(id=origin.model, revision=origin.revision),
        sampling=Sampling(
            pipeline=type(setup.pipe).__name__,
            scheduler=type(setup.pipe.scheduler).__name__,
            num_inference_steps=settings.num_inference_steps,
            sigmas=tuple(edges.sigmas.tolist()),
            height=found.size[0],
            width=found.size[1],
            guidance=dict(setup.guidance),
        ),
        default_budget=_default_budget(settings),
        anchor=ScheduleRecord.of(policy.anchor),
        reference=ScheduleRecord.of(policy.reference),
        rho=policy.rho,
        graph=GraphSettings.of(found.graph.settings),
        calibration=Calibration(
            pairs=settings.pairs,
            seed=settings.seed,
            prompts_digest=setup.prompts_digest,
            metric=settings.metric,
            reference_budget=settings.budget_reference,
            anchor_budget=settings.budget_anchor,
            trials=settings.anchor.trials,
            evaluations=found.evaluations,
            transformer_calls=transformer_calls,
            seconds=round(seconds, 1),
            libraries={name: version(name) for name in LIBRARIES},
            device=str(setup.pipe.device),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        evidence=found.evidence,
        edges_sha256=edges_digest(edges),
    )


def _default_budget(settings: CalibrationSettings) -> int:
    if settings.default_budget is not None:
        return settings.default_budget
    scaled = Request().budget_for(settings.num_inference_steps, DEFAULT_RATIO)
    return max(scaled, settings.budget_anchor)


def record_pairs(
    setup: ModelSetup,
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
    settings: CalibrationSettings,
    progress: CalibrationProgress,
) -> tuple[EdgeTable, torch.Tensor]:
    """Stage 1: one full run per pair, batch by batch.

    Returns:
        The mean edge table, and the full runs' ``(N, 3, H, W)`` pictures.
    """
    size = settings.batch_size
    batches = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    progress.start("recording full runs", len(batches))
    accumulator, pictures = EdgeAccumulator(), []
    for batch in batches:
        with record(setup.pipe) as trajectory:
            pictures.append(generate(setup.pipe, batch, call_arguments, size))
        accumulator.add(trajectory)
        progress.advance()
    return accumulator.table(), torch.cat(pictures)


class _CallCounter(ModelHook):
    """Counts the calls of a transformer that really run.

    Registered before any executor's hook it sits inside of it, where no short-circuited call comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return args, kwargs


@contextmanager
def count_transformer_calls(pipe: DiffusionPipeline) -> Iterator[_CallCounter]:
    """Counts inside the block; a batch counts once."""
    counter = _CallCounter()
    registries = [HookRegistry.check_if_exists_or_initialize(each) for each in find_denoisers(pipe)]
    for registry in registries:
        registry.register_hook(counter, COUNTER_HOOK)
    try:
        yield counter
    finally:
        for registry in registries:
            registry.remove_hook(COUNTER_HOOK, recurse=False)
