"""Writes the bundled documents of schedules that others published.

    .venv/bin/python tools/bundle_published.py

Reads the figures that the MeanCache authors published, and writes one folder per model: its
smallest schedule as anchor, its largest as reference, the others as waypoints, all of them as they
were published. The same figures give the same bytes. Nothing is calibrated, so there is no edge
table and no evidence.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otcache_policies import OTCachePolicy, Schedule
from otcache_registry import (
    POLICY_SCHEMA,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    Publication,
    Sampling,
    ScheduleRecord,
    ServedBudgets,
    render_card,
    write_policy,
)
from otcache_registry.documents.tables import NO_TABLES

from otcache_plugin.parameters.otcache import OTCacheParameters
from otcache_plugin.plugins.host import OWN_DISTRIBUTION, plugin_host

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "tests" / "data" / "meancache-published.json"
BUNDLED = ROOT / "registry" / "otcache_registry" / "bundled"

AUTHORS = "the MeanCache authors"
SOURCE = "https://github.com/UnicomAI/MeanCache"
PAPER = "arXiv 2601.19961"
SCHEDULER = "FlowMatchEulerDiscreteScheduler"
"""That of all these pipelines: the authors replace its step."""

RHO = 1.0
"""Predicts the published Z-Image schedules between 13 and 25 steps to within a step on average."""

USUAL_BUDGET = 15


def documents(published: Mapping[str, Any]) -> Iterator[tuple[str, PolicyDocument]]:
    """The folder's name and the document of every model."""
    total = published["num_inference_steps"]
    for model in published["models"]:
        by_budget = sorted(model["schedules"], key=lambda entry: entry["budget"])
        anchor, *waypoints, reference = (
            ScheduleRecord.of(Schedule(entry["computed_steps"], total, entry["look_backs"]))
            for entry in by_budget
        )
        parameters = OTCacheParameters(
            anchor=anchor, waypoints=tuple(waypoints), reference=reference, rho=RHO
        )
        document = PolicyDocument(
            schema=POLICY_SCHEMA,
            policy=PolicyIdentity(name=OTCachePolicy.name, distribution=OWN_DISTRIBUTION),
            model=ModelReference(id=model["model"], revision=None),
            sampling=sampling(model["pipeline"], model["setting"], total),
            default_budget=max(USUAL_BUDGET, anchor.budget),
            budgets=ServedBudgets(
                smallest=anchor.budget, largest=reference.budget, calibrated=parameters.budgets
            ),
            parameters=parameters.model_dump(),
            published=Publication(
                authors=AUTHORS, source=SOURCE, paper=PAPER, setting=model["setting"]
            ),
        )
        yield model["model"].rpartition("/")[2].lower(), document


def sampling(pipeline: str, setting: str, total: int) -> Sampling:
    """Return the set-up that a setting such as "1664x928, true_cfg_scale 4.0" names.

    What is no number, such as "cfg_normalization False", stays in the setting's text only.
    """
    width, height = re.findall(r"\b(\d+)x(\d+)\b", setting)[0]
    guidance = re.findall(r"\b([a-z_]+) (\d+(?:\.\d+)?)\b", setting)
    return Sampling(
        pipeline=pipeline,
        scheduler=SCHEDULER,
        num_inference_steps=total,
        sigmas=None,
        height=int(height),
        width=int(width),
        guidance={name: float(value) for name, value in guidance},
    )


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=BUNDLED, help="folder of the folders")
    output = parser.parse_args().output
    for name, document in documents(json.loads(PUBLISHED.read_text(encoding="utf-8"))):
        card = render_card(document, details=plugin_host().describe(document))
        write_policy(output / name, document, NO_TABLES, card)
        print(output / name)


if __name__ == "__main__":
    main()
