"""Small documents of twelve steps: calibrated, published, and of a policy that nobody has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from otcache_policies import EdgeSettings, EdgeTable, MeanCachePolicy
from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    EvidenceRow,
    GraphSettings,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    Publication,
    Sampling,
    ScheduleRecord,
    ServedBudgets,
    tables_digest,
)

from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.otcache import OTCacheParameters


def edges_of(total: int, max_look_back: int = 3) -> EdgeTable:
    """Errors that grow with the gap and fall with the look-back; sigmas from 1 to 0."""
    start, end = np.indices((total, total))
    gap = (end - start).astype(np.float64)
    errors = np.stack([(gap - 1) / (10 + k) for k in range(max_look_back)], axis=2)
    errors[end <= start] = np.inf
    return EdgeTable(errors.astype(np.float32), np.linspace(1.0, 0.0, total + 1))


def document_of(edges: EdgeTable, waypoints: Sequence[int] = (), **changes: Any) -> PolicyDocument:
    """A valid document for a table: its schedules are MeanCache's, of budgets 4 … 8."""
    settings = EdgeSettings("displacement", 2.0)
    graph, total = MeanCachePolicy(edges, settings), edges.num_inference_steps
    records = {budget: ScheduleRecord.of(graph.schedule(budget)) for budget in (4, *waypoints, 8)}
    parameters = OTCacheParameters(
        anchor=records[4],
        waypoints=tuple(records[budget] for budget in waypoints),
        reference=records[8],
        rho=1.3,
        graph=GraphSettings.of(settings),
    )
    fields: dict[str, Any] = {
        "schema": POLICY_SCHEMA,
        "policy": PolicyIdentity(name="otcache", distribution="otcache-plugin"),
        "model": ModelReference(id="example/model", revision="0123abcd"),
        "sampling": Sampling(
            pipeline="ExamplePipeline",
            scheduler="FlowMatchEulerDiscreteScheduler",
            num_inference_steps=total,
            sigmas=tuple(edges.sigmas.tolist()),
            height=512,
            width=768,
            guidance={"true_cfg_scale": 4.0},
        ),
        "default_budget": 6,
        "budgets": ServedBudgets(smallest=4, largest=total, calibrated=parameters.budgets),
        "parameters": parameters.model_dump(),
        "calibration": Calibration(
            pairs=32,
            seed=0,
            batch_size=16,
            prompts_digest="a" * 64,
            held_out_digest="b" * 64,
            metric="lpips",
            settings={
                "effort": "paper",
                "reference_budget": 8,
                "anchor_budget": 4,
                "search": "per-pair",
                "trials": 200,
                "history": (0.5, 0.5, 0.375, 0.25),
            },
            evaluations=150,
            values=4800,
            values_not_finite=3,
            transformer_calls=19200,
            denoising_steps=123456,
            evidence_steps=7890,
            seconds=301.5,
            libraries={"torch": "2.9.0", "cache-dit": "1.5.1"},
            device="one CPU core",
            created="2026-01-31T12:00:00+00:00",
        ),
        "evidence": (
            EvidenceRow(
                policy="meancache",
                budget=6,
                metric="psnr",
                mean=31.25,
                standard_error=0.5,
                pairs=48,
            ),
            EvidenceRow(
                policy="otcache",
                budget=6,
                metric="psnr",
                mean=33.75,
                standard_error=0.25,
                pairs=48,
                compared_to="meancache",
                difference_mean=2.5,
                difference_low=1.75,
                difference_high=3.25,
                win_rate=0.875,
            ),
        ),
        "tables_sha256": tables_digest(tables_of(edges)),
    }
    return PolicyDocument(**{**fields, **changes})


def published_of(**changes: Any) -> PolicyDocument:
    """A valid document of published schedules: 12 steps, budgets 4, 6 and 8, any revision."""
    fields: dict[str, Any] = {
        "schema": POLICY_SCHEMA,
        "policy": PolicyIdentity(name="otcache", distribution="otcache-plugin"),
        "model": ModelReference(id="example/published", revision=None),
        "sampling": Sampling(
            pipeline="ExamplePipeline",
            scheduler="FlowMatchEulerDiscreteScheduler",
            num_inference_steps=12,
            sigmas=None,
            height=928,
            width=1664,
            guidance={"guidance_scale": 4.0},
        ),
        "default_budget": 6,
        "budgets": ServedBudgets(smallest=4, largest=8, calibrated=(4, 6, 8)),
        "parameters": {
            "anchor": {"computed_steps": (0, 2, 5, 11), "look_backs": (1, 2, 5)},
            "waypoints": ({"computed_steps": (0, 1, 3, 6, 8, 11), "look_backs": (1, 2, 3, 4, 5)},),
            "reference": {
                "computed_steps": (0, 1, 2, 3, 5, 7, 9, 11),
                "look_backs": (1, 1, 1, 2, 2, 2, 6),
            },
            "rho": 1.0,
            "graph": None,
        },
        "published": Publication(
            authors="somebody else",
            source="https://example.org/schedules",
            paper="arXiv 0000.00000",
            setting="1664x928, guidance_scale 4",
        ),
    }
    return PolicyDocument(**{**fields, **changes})


UNKNOWN_TABLES = {"scores": np.linspace(0.0, 1.0, 12, dtype=np.float32)}


def unknown_of(**changes: Any) -> PolicyDocument:
    """A valid document of a policy that nobody has installed, with tables of its own."""
    fields: dict[str, Any] = {
        "policy": PolicyIdentity(name="strata", distribution="otcache-strata"),
        "budgets": ServedBudgets(smallest=3, largest=9, calibrated=(5,)),
        "parameters": {"threshold": 0.25, "layers": (1, 2, 3), "names": {"a": None}},
        "evidence": (),
        "tables_sha256": tables_digest(UNKNOWN_TABLES),
    }
    document = document_of(edges_of(12))
    assert document.calibration is not None
    calibration = document.calibration.model_copy(update={"settings": {"tries": 3}})
    document = document.model_copy(update={"calibration": calibration, **fields, **changes})
    return PolicyDocument.from_json(document.to_json())  # Copies with changes are not checked.
