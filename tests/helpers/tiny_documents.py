"""A policy document of fifty steps, for the sigmas of the tiny Flux pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from otcache_policies import (
    EdgeSettings,
    EdgeTable,
    GramPolicy,
    GramSettings,
    GramTable,
    MeanCachePolicy,
)
from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    GraphSettings,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    Sampling,
    ScheduleRecord,
    ServedBudgets,
    Tables,
    tables_digest,
    write_policy,
)
from tiny_pipelines import STEPS, euler_scheduler

from otcache_plugin.parameters import gram_tables
from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.gram import GramParameters
from otcache_plugin.parameters.otcache import OTCacheParameters

MODEL, REVISION = "example/tiny-flux", "0123456789abcdef0123456789abcdef01234567"
ANCHOR_BUDGET, REFERENCE_BUDGET, DEFAULT_BUDGET = 8, 20, 12


def tiny_flux_sigmas() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The noise schedule of a default run of the tiny Flux pipeline."""
    scheduler = euler_scheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS))
    return scheduler.sigmas.double().numpy()


def edge_table() -> EdgeTable:
    """Errors that grow with the gap, most of all early on, and fall with the look-back."""
    start, end = np.indices((STEPS, STEPS))
    gap = (end - start).astype(np.float64)
    errors = np.stack(
        [(gap - 1) / (10 + look_back) / (3 + start) for look_back in range(3)], axis=2
    )
    errors[end <= start] = np.inf
    return EdgeTable(errors.astype(np.float32), tiny_flux_sigmas())


def sampling(sigmas: NDArray[np.float64], **changes: Any) -> Sampling:
    """The set-up of runs with these noise levels."""
    fields: dict[str, Any] = {
        "pipeline": "FluxPipeline",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "num_inference_steps": len(sigmas) - 1,
        "sigmas": tuple(sigmas.tolist()),
        "height": 64,
        "width": 64,
        "guidance": {},
    }
    return Sampling(**{**fields, **changes})


def write_gram_document(
    folder: Path, table: GramTable, budgets: Sequence[int], **set_up: Any
) -> GramPolicy:
    """Write a document of the policy "gram" with the schedules of some budgets; its policy.

    The set-up of its sampling is changed by keyword.
    """
    policy = GramPolicy(table, GramSettings(max_look_back=3 if table.response is None else 1))
    known = [policy.schedule(budget) for budget in budgets]
    steps = table.num_inference_steps
    write_document(
        folder,
        gram_tables.tables_of(table),
        policy=PolicyIdentity(name="gram", distribution="otcache-plugin"),
        sampling=sampling(table.sigmas, **set_up),
        default_budget=budgets[0],
        budgets=ServedBudgets(smallest=2, largest=steps, calibrated=tuple(budgets)),
        parameters=GramParameters.of(policy.settings, known).model_dump(),
        evidence=(),
    )
    return replace(policy, known=tuple(known))


def write_document(folder: Path, tables: Tables | None = None, **changes: Any) -> PolicyDocument:
    """Write a valid document with fields changed by keyword, and its edge table or others."""
    edges = edge_table()
    settings = EdgeSettings("displacement", 2.0)
    graph = MeanCachePolicy(edges, settings)
    tables = tables_of(edges) if tables is None else tables
    parameters = OTCacheParameters(
        anchor=ScheduleRecord.of(graph.schedule(ANCHOR_BUDGET)),
        reference=ScheduleRecord.of(graph.schedule(REFERENCE_BUDGET)),
        rho=1.3,
        graph=GraphSettings.of(settings),
    )
    fields: dict[str, Any] = {
        "schema": POLICY_SCHEMA,
        "policy": PolicyIdentity(name="otcache", distribution="otcache-plugin"),
        "model": ModelReference(id=MODEL, revision=REVISION),
        "sampling": sampling(edges.sigmas),
        "default_budget": DEFAULT_BUDGET,
        "budgets": ServedBudgets(
            smallest=ANCHOR_BUDGET,
            largest=STEPS,
            calibrated=(ANCHOR_BUDGET, REFERENCE_BUDGET),
        ),
        "parameters": parameters.model_dump(),
        "calibration": Calibration(
            pairs=4,
            seed=0,
            batch_size=4,
            prompts_digest="a" * 64,
            held_out_digest="b" * 64,
            metric="lpips",
            settings={
                "effort": "paper",
                "reference_budget": REFERENCE_BUDGET,
                "anchor_budget": ANCHOR_BUDGET,
                "search": "joint",
                "trials": 0,
            },
            evaluations=0,
            values=0,
            values_not_finite=0,
            transformer_calls=200,
            denoising_steps=600,
            evidence_steps=200,
            seconds=1.0,
            libraries={},
            device="nothing: made up",
            created="2026-01-31T12:00:00+00:00",
        ),
        "tables_sha256": tables_digest(tables),
    }
    document = PolicyDocument(**{**fields, **changes})
    write_policy(folder, document, tables, "# A card\n")
    return document
