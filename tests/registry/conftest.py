"""Fixtures of the registry tests: an edge table, a document that belongs to it, both on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from otcache_policies import EdgeSettings, EdgeTable, MeanCachePolicy, OTCachePolicy
from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    EvidenceRow,
    GraphSettings,
    ModelReference,
    PolicyDocument,
    Publication,
    Sampling,
    ScheduleRecord,
    edges_digest,
    write_policy,
)

CARD = "# The card\n"


def edges_of(total: int, max_look_back: int = 3) -> EdgeTable:
    """Errors that grow with the gap and fall with the look-back; sigmas from 1 to 0."""
    start, end = np.indices((total, total))
    gap = (end - start).astype(np.float64)
    errors = np.stack([(gap - 1) / (10 + k) for k in range(max_look_back)], axis=2)
    errors[end <= start] = np.inf
    return EdgeTable(errors.astype(np.float32), np.linspace(1.0, 0.0, total + 1))


def document_of(edges: EdgeTable, **changes: Any) -> PolicyDocument:
    """A valid document for a table: both schedules are MeanCache's, budgets 4 and 8."""
    settings = EdgeSettings("displacement", 2.0)
    policy = MeanCachePolicy(edges, settings)
    anchor, reference = policy.schedule(4), policy.schedule(8)
    fields: dict[str, Any] = {
        "schema": POLICY_SCHEMA,
        "name": OTCachePolicy.name,
        "model": ModelReference(id="example/model", revision="0123abcd"),
        "sampling": Sampling(
            pipeline="ExamplePipeline",
            scheduler="FlowMatchEulerDiscreteScheduler",
            num_inference_steps=edges.num_inference_steps,
            sigmas=tuple(edges.sigmas.tolist()),
            height=512,
            width=768,
            guidance={"true_cfg_scale": 4.0},
        ),
        "default_budget": 6,
        "anchor": ScheduleRecord.of(anchor),
        "reference": ScheduleRecord.of(reference),
        "rho": 1.3,
        "graph": GraphSettings.of(settings),
        "calibration": Calibration(
            pairs=32,
            seed=0,
            batch_size=16,
            prompts_digest="a" * 64,
            held_out_digest="b" * 64,
            metric="lpips",
            reference_budget=8,
            anchor_budget=4,
            search="per-pair",
            trials=200,
            history=(0.5, 0.5, 0.375, 0.25),
            evaluations=150,
            transformer_calls=19200,
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
        "edges_sha256": edges_digest(edges),
    }
    return PolicyDocument(**{**fields, **changes})


def published_of(**changes: Any) -> PolicyDocument:
    """A valid document of published schedules: 12 steps, budgets 4, 6 and 8, any revision."""
    fields: dict[str, Any] = {
        "schema": POLICY_SCHEMA,
        "name": OTCachePolicy.name,
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
        "anchor": ScheduleRecord(computed_steps=(0, 2, 5, 11), look_backs=(1, 2, 5)),
        "waypoints": (
            ScheduleRecord(computed_steps=(0, 1, 3, 6, 8, 11), look_backs=(1, 2, 3, 4, 5)),
        ),
        "reference": ScheduleRecord(
            computed_steps=(0, 1, 2, 3, 5, 7, 9, 11), look_backs=(1, 1, 1, 2, 2, 2, 6)
        ),
        "rho": 1.0,
        "published": Publication(
            authors="somebody else",
            source="https://example.org/schedules",
            paper="arXiv 0000.00000",
            setting="1664x928, guidance_scale 4",
        ),
    }
    return PolicyDocument(**{**fields, **changes})


@pytest.fixture(scope="session")
def make_edges() -> Callable[[int], EdgeTable]:
    """Return a factory of edge tables with three look-backs, by number of steps."""
    return edges_of


@pytest.fixture(scope="session")
def make_document() -> Callable[..., PolicyDocument]:
    """Return a factory of valid documents for a table, with fields changed by keyword."""
    return document_of


@pytest.fixture(scope="session")
def make_published() -> Callable[..., PolicyDocument]:
    """Return a factory of valid documents of published schedules, with fields changed."""
    return published_of


@pytest.fixture(scope="session")
def valid_edges() -> EdgeTable:
    """A table of 12 steps and three look-backs."""
    return edges_of(12)


@pytest.fixture(scope="session")
def valid_document(valid_edges: EdgeTable) -> PolicyDocument:
    """A document that belongs to the table."""
    return document_of(valid_edges)


@pytest.fixture(scope="session")
def waypoint_document(valid_edges: EdgeTable) -> PolicyDocument:
    """The same with waypoints, MeanCache's schedules of budgets 5 and 7."""
    graph = MeanCachePolicy(valid_edges, EdgeSettings("displacement", 2.0))
    waypoints = tuple(ScheduleRecord.of(graph.schedule(budget)) for budget in (5, 7))
    return document_of(valid_edges, waypoints=waypoints)


@pytest.fixture(scope="session")
def published_document() -> PolicyDocument:
    """A document of published schedules."""
    return published_of()


@pytest.fixture
def content(valid_document: PolicyDocument) -> dict[str, Any]:
    """The document as plain JSON values, to be changed at will."""
    data: dict[str, Any] = json.loads(valid_document.to_json())
    return data


@pytest.fixture
def waypoint_content(waypoint_document: PolicyDocument) -> dict[str, Any]:
    """The document with waypoints as plain JSON values."""
    data: dict[str, Any] = json.loads(waypoint_document.to_json())
    return data


@pytest.fixture
def published_content(published_document: PolicyDocument) -> dict[str, Any]:
    """The document of published schedules as plain JSON values."""
    data: dict[str, Any] = json.loads(published_document.to_json())
    return data


@pytest.fixture
def policy_folder(tmp_path: Path, valid_document: PolicyDocument, valid_edges: EdgeTable) -> Path:
    """A folder with the document, its table, a card and a figure."""
    folder = tmp_path / "policy"
    write_policy(folder, valid_document, valid_edges, CARD, {"schedules.png": b"\x89PNG"})
    return folder
