"""What `otcache calibrate` is told, in groups of what belongs together."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otcache_plugin.errors import ArgumentError
from otcache_plugin.runs.mechanism import USUAL, Mechanism

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.models.setups import SetupDefaults


@dataclass(frozen=True)
class RunOptions:
    """What is run; None for what is usual for the model.

    Attributes:
        num_inference_steps: T.
        metric: what is minimised.
        seed: of the pairs and of whatever is random.
        pairs: calibration pairs.
        held_out_pairs: pairs of the evidence.
        batch_size: pairs per pipeline call.
        mechanism: what schedules are run on.
    """

    num_inference_steps: int
    metric: str | None
    seed: int
    pairs: int | None
    held_out_pairs: int | None
    batch_size: int | None
    mechanism: Mechanism = USUAL


@dataclass(frozen=True)
class WhereOptions:
    """Where a calibration runs, and where it writes.

    Attributes:
        output: the document's folder.
        work: folder of the work; None for the one beside the document's.
        ray: address of a Ray cluster; None for this process.
        threads: of each worker on a CPU.
        shard: number and count of the parts of the pairs; None for all of them.
        wait: seconds that a shard waits for news from the others.
    """

    output: Path
    work: Path | None
    ray: str | None
    threads: int
    shard: tuple[int, int] | None
    wait: float

    @property
    def kept(self) -> str:
        """The folders that hold the measurements, as a user is told."""
        if self.work is not None:
            return str(self.work)
        return f"{self.output}.{'calibration' if self.shard is None else 'shard-*'}"

    def __post_init__(self) -> None:
        if not self.wait >= 0:
            remedy = "Pass seconds, such as 600, or 0 to end at once"
            raise ArgumentError("wait", self.wait, "not 0 or more", remedy)
        if self.ray is not None and self.shard is not None:
            problem = "a shard measures in its own process"
            raise ArgumentError("ray", self.ray, problem, "Pass either --ray or --shard")
        if self.work is not None and self.shard is not None:
            problem = "shards keep their work beside the document, where they find each other"
            raise ArgumentError("work", str(self.work), problem, "Pass either --work or --shard")


def settings_of(usual: SetupDefaults, runs: RunOptions, where: WhereOptions) -> MeasuringSettings:
    """Return what measured values are determined by.

    Args:
        usual: what is taken where the user says nothing.
        runs: what is run.
        where: where it runs.

    Raises:
        FieldError: a value cannot be used.
    """
    from otcache_plugin.calibration.settings import MeasuringSettings

    return MeasuringSettings(
        num_inference_steps=runs.num_inference_steps,
        metric=usual.metric if runs.metric is None else runs.metric,
        pairs=usual.pairs if runs.pairs is None else runs.pairs,
        held_out_pairs=(
            usual.held_out_pairs if runs.held_out_pairs is None else runs.held_out_pairs
        ),
        seed=runs.seed,
        batch_size=usual.batch_size if runs.batch_size is None else runs.batch_size,
        threads=where.threads,
        mechanism=runs.mechanism,
    )


def policy_options(assignments: Sequence[str], named: Mapping[str, object]) -> dict[str, object]:
    """Return the options of a policy's calibrator, by name.

    Args:
        assignments: such as `trials=100`, a list as JSON.
        named: those that have an option of the command to themselves; None where it is not given.

    Raises:
        ArgumentError: one is no assignment, or an option is given twice.
    """
    given = {name: value for name, value in named.items() if value is not None}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.isidentifier():
            remedy = "Pass such as trials=100"
            raise ArgumentError("assignments", assignment, "not NAME=VALUE", remedy)
        if name in given:
            problem = f"{name} is given twice"
            raise ArgumentError("assignments", assignment, problem, "Give it once")
        given[name] = _parsed(text)
    return given


def _parsed(text: str) -> object:
    """Return what a list or an object in JSON stands for, any other text as it is."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return number and count of `I/N`.

    Raises:
        ArgumentError: it is not such a text with 1 <= I <= N.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ArgumentError("shard", text, "not I/N with 1 <= I <= N", "Pass such as --shard 1/4")
    return int(match[1]), int(match[2])
