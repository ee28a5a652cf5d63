"""The schedules that the MeanCache authors published, as the plain lists they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from otcache_policies import Schedule

DATA = Path(__file__).parents[1] / "data" / "meancache-published.json"


@dataclass(frozen=True)
class PublishedSchedule:
    """A schedule of the MeanCache authors, as the plain lists they published."""

    model: str
    steps: tuple[int, ...]
    look_backs: tuple[int, ...]
    num_inference_steps: int = 50

    def __str__(self) -> str:
        return f"{self.model.rpartition('/')[2]}-{len(self.steps)}"

    @property
    def schedule(self) -> Schedule:
        """The same as `policy=` takes it."""
        return Schedule(self.steps, self.num_inference_steps, self.look_backs)


def published_schedules() -> list[PublishedSchedule]:
    """All eleven, T = 50."""
    data = json.loads(DATA.read_text())
    return [
        PublishedSchedule(
            model["model"],
            tuple(entry["computed_steps"]),
            tuple(entry["look_backs"]),
            data["num_inference_steps"],
        )
        for model in data["models"]
        for entry in model["schedules"]
    ]
