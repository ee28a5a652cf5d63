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
    Publication,
    Sampling,
    ScheduleRecord,
    render_card,
    write_policy,
)

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
        document = PolicyDocument(
            schema=POLICY_SCHEMA,
            name=OTCachePolicy.name,
            model=ModelReference(id=model["model"], revision=None),
            sampling=sampling(model["pipeline"], model["setting"], total),
            default_budget=max(USUAL_BUDGET, anchor.budget),
            anchor=anchor,
            waypoints=tuple(waypoints),
            reference=reference,
            rho=RHO,
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
        write_policy(output / name, document, None, render_card(document))
        print(output / name)


if __name__ == "__main__":
    main()
