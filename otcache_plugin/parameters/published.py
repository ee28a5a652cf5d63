"""Schedules that others published: read from their files, and made a document of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from otcache_policies import FieldError, Schedule
from otcache_registry import (
    POLICY_SCHEMA,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    Publication,
    Sampling,
    ScheduleRecord,
    ServedBudgets,
)
from otcache_registry.documents.fields import UNKNOWN

from otcache_plugin.parameters.otcache import OTCacheParameters

__all__ = ["Published", "published_document", "read_schedules"]

LARGEST: Final = 2**20
"""Bytes of a file that is read."""

RHO: Final = 1.0
"""Predicts published schedules between their budgets to within a step on average."""

FORMS: Final = (
    "Use a txt, json, yaml or pt file of lists: computed steps, cached steps, or a mask of 0 and 1"
)


@dataclass(frozen=True)
class Published:
    """What is said of published schedules.

    Attributes:
        model: id of the model that they are for.
        revision: of it, None for any.
        authors: who published them.
        source: where.
        setting: what they say that they hold for.
        pipeline: class name of the pipeline.
    """

    model: str
    revision: str | None = None
    authors: str = UNKNOWN
    source: str = UNKNOWN
    setting: str = UNKNOWN
    pipeline: str = UNKNOWN


def read_schedules(path: Path, steps: int) -> tuple[Schedule, ...]:
    """Return the schedules in a file, by increasing budget.

    A list of as many signs 0 and 1 as there are steps is a mask. Of others, one with step 0 is of
    computed steps, since that one is always computed, and one without it of cached ones.

    Args:
        path: txt with a list a line, json, yaml, or pt, of which nothing is executed.
        steps: of the runs that they are for.

    Raises:
        FieldError: it cannot be read, or what is in it is no schedule.
    """
    schedules = {}
    for numbers in _lists(_content(path), path):
        schedule = Schedule(_computed(numbers, steps, path), steps)
        if schedule.budget in schedules:
            problem = f"two schedules of budget {schedule.budget}"
            raise FieldError("file", str(path), problem, "Keep one of each budget")
        schedules[schedule.budget] = schedule
    return tuple(schedules[budget] for budget in sorted(schedules))


def published_document(schedules: Sequence[Schedule], published: Published) -> PolicyDocument:
    """Return a document of schedules that others published, without evidence.

    Args:
        schedules: one or more, by increasing budget; the budgets between two are predicted.
        published: what is said of them.
    """
    records = tuple(map(ScheduleRecord.of, schedules))
    parameters = OTCacheParameters(
        anchor=records[0], waypoints=records[1:-1], reference=records[-1], rho=RHO
    )
    budgets = tuple(schedule.budget for schedule in schedules)
    return PolicyDocument(
        schema=POLICY_SCHEMA,
        policy=PolicyIdentity(name="otcache", distribution="otcache-plugin"),
        model=ModelReference(id=published.model, revision=published.revision),
        sampling=Sampling(
            pipeline=published.pipeline,
            scheduler=UNKNOWN,
            num_inference_steps=schedules[0].num_inference_steps,
            sigmas=None,
            height=None,
            width=None,
            guidance={},
        ),
        default_budget=budgets[len(budgets) // 2],
        budgets=ServedBudgets(smallest=budgets[0], largest=budgets[-1], calibrated=budgets),
        parameters=parameters.model_dump(mode="json"),
        published=Publication(
            authors=published.authors,
            source=published.source,
            paper=UNKNOWN,
            setting=published.setting,
        ),
    )


def _content(path: Path) -> Any:
    import yaml

    try:
        if path.stat().st_size > LARGEST:
            raise FieldError("file", str(path), f"more than {LARGEST} bytes", FORMS)
        if path.suffix == ".pt":
            return _tensors(path)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text)
        if path.suffix in (".yaml", ".yml"):
            return yaml.safe_load(text)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise FieldError("file", str(path), problem, "Check its name") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, FieldError):
            raise
        raise FieldError("file", str(path), f"cannot be read ({error})", FORMS) from None
    lines = (line.partition("#")[0].replace(",", " ").split() for line in text.splitlines())
    return [_numbers(words, path) for words in lines if words]


def _tensors(path: Path) -> Any:
    """Read what torch saved, by the loader that admits tensors and plain values only."""
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        problem = f"not plain tensors ({str(error).splitlines()[0]})"
        raise FieldError("file", str(path), problem, "Nothing else is loaded: " + FORMS) from None
    return content.tolist() if isinstance(content, torch.Tensor) else content


def _lists(content: Any, path: Path) -> Iterator[list[int]]:
    """Yield the lists of numbers, however they are put together."""
    if hasattr(content, "tolist"):
        content = content.tolist()
    if isinstance(content, Mapping):
        content = list(content.values())
    if not isinstance(content, list | tuple) or not content:
        raise FieldError("file", str(path), "it holds no list of steps", FORMS)
    if all(type(each) in (int, float, bool) for each in content):
        yield _numbers(content, path)
        return
    for each in content:
        yield from _lists(each, path)


def _numbers(values: Sequence[Any], path: Path) -> list[int]:
    try:
        numbers = [int(value) for value in values]
    except (ValueError, OverflowError):
        raise FieldError("file", str(path), "it holds something other than steps", FORMS) from None
    if any(float(value) != number for value, number in zip(values, numbers, strict=True)):
        raise FieldError("file", str(path), "it holds fractions of steps", FORMS)
    return numbers


def _computed(numbers: Sequence[int], steps: int, path: Path) -> list[int]:
    if len(numbers) == steps and set(numbers) <= {0, 1}:
        return [step for step, computed in enumerate(numbers) if computed]
    if len(set(numbers)) < len(numbers) or not all(0 <= step < steps for step in numbers):
        problem = f"{numbers[:8]} … are not steps of a run of {steps}, each once"
        raise FieldError("file", str(path), problem, "Say how many steps the runs have")
    if 0 in numbers:
        return sorted(numbers)
    return sorted(set(range(steps)) - set(numbers))
