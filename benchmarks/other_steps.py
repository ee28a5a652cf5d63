"""A run of other steps or sigmas: is a schedule from 50 recorded steps as good as one from its own?

    python -m benchmarks.other_steps flow-1 flow-2 flow-3 flow-4 --json other-steps-flows.json
    python -m benchmarks.other_steps embedded --runs "28 steps" --json other-steps-embedded.json

Gram matrices are recorded on calibration pairs, once at the 50 steps of a document and once for the
run at hand. On held-out pairs four schedules of the same budget are compared with the full run:

- interpolated: optimised on the run's own sigmas, from the matrices of 50 steps;
- recorded: the same from the matrices of such runs, as a calibration made for them has it;
- carried over: the schedule of 50 steps with the same share of computed steps, by noise level;
- raced: likewise the schedule that a standard calibration serves there, which real runs have chosen
  (from benchmarks/results/efforts.json).

Image-to-image begins at a picture that the model made from another seed, with noise on it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from otcache_policies import GramPolicy, GramSettings, GramTable, Schedule, transfer
from rich.console import Console
from rich.table import Table

from benchmarks.models import DEVELOPMENT
from otcache_plugin.calibration.measuring.grams import gram_matrices
from otcache_plugin.calibration.measuring.trajectories import record
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.evaluation.statistics import PairedDifference, paired_difference
from otcache_plugin.models.setups import HELD_OUT_SEEDS, ModelSetup
from otcache_plugin.plugins.host import plugin_host

STEPS = 50
"""Of the recording that a document has."""
FRESH_SEEDS = 10 * HELD_OUT_SEEDS
SCHEDULES = ("interpolated", "recorded", "carried over", "raced")
EFFORTS = Path(__file__).parent / "results" / "efforts.json"
OTHER_PICTURES = 5 * HELD_OUT_SEEDS
"""How far the seeds of image-to-image's pictures lie from those of the pairs."""


@dataclass(frozen=True)
class Run:
    """A run that is not the recorded one.

    Attributes:
        name: of it.
        steps: of the noise schedule.
        budgets: computed steps to compare at.
        shift: times the scheduler's own.
        strength: of image-to-image, the share of the steps that are taken.
    """

    name: str
    steps: int
    budgets: tuple[int, ...]
    shift: float = 1.0
    strength: float = 1.0


RUNS = (
    Run("28 steps", 28, (5, 6, 8, 11)),
    Run("40 steps", 40, (7, 8, 11, 16)),
    Run("shift x 1.5", STEPS, (8, 10, 15), shift=1.5),
    Run("strength 0.6", STEPS, (5, 8, 12), strength=0.6),
)


@dataclass(frozen=True)
class Row:
    """One budget of one run: four schedules on the same held-out pairs, PSNR in dB.

    The last row of a run has no budget: it is the mean over them, pair by pair, in which the luck
    of a single schedule counts least.
    """

    model: str
    run: str
    budget: int | None
    pairs: int
    interpolated: float
    recorded: float
    carried_over: float
    raced: float
    to_recorded: PairedDifference
    to_carried_over: PairedDifference
    to_raced: PairedDifference
    schedules: dict[str, tuple[int, ...]]


class Calls:
    """What every call of a pipeline is given in one kind of run."""

    def __init__(self, setup: ModelSetup, run: Run) -> None:
        self._setup = setup
        self._run = run
        begin = run.steps - round(run.steps * run.strength)
        self._sigmas = np.linspace(1.0, 1.0 / run.steps, run.steps)[begin:].tolist()

    def arguments(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return the arguments of one call on all these pairs."""
        arguments = {
            **self._setup.call_arguments,
            "num_inference_steps": len(self._sigmas),
            "sigmas": self._sigmas,
        }
        if self._run.strength < 1:
            arguments["latents"] = self._noisy_pictures(pairs)
        return arguments

    def _noisy_pictures(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """Return pictures of the same prompts and other seeds, with the noise of the first step."""
        pipe = self._setup.pipe
        others = [Pair(pair.prompt, OTHER_PICTURES + pair.seed) for pair in pairs]
        plain = {**self._setup.call_arguments, "num_inference_steps": STEPS}
        pictures = generate_outputs(pipe, others, plain, spaces=frozenset({"latents"})).latents
        noise = torch.stack(
            [
                torch.randn(pictures[0].shape, generator=torch.Generator().manual_seed(pair.seed))
                for pair in pairs
            ]
        )
        pipe.scheduler.set_timesteps(sigmas=self._sigmas)
        level = float(pipe.scheduler.sigmas[0])
        return (1 - level) * pictures + level * noise


def recorded(setup: ModelSetup, calls: Calls, pairs: Sequence[Pair]) -> GramTable:
    """Return the Gram table of full runs."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = calls.arguments(pairs)
        with record(setup.pipe, Path(folder)) as trajectory:
            setup.pipe(
                prompt=[pair.prompt for pair in pairs],
                generator=[torch.Generator().manual_seed(pair.seed) for pair in pairs],
                output_type="latent",
                **arguments,
            )
        grams = gram_matrices(trajectory).astype(np.float32)
        return GramTable(grams, trajectory.sigmas.double().numpy())


def raced_schedules(model: str) -> dict[int, Schedule]:
    """Return what a standard calibration of a model serves, by budget."""
    found = json.loads(EFFORTS.read_text())[model]["procedures"]["standard"]["schedules"]
    return {int(budget): Schedule(**schedule) for budget, schedule in found.items()}


def four_schedules(
    document: GramPolicy, own: GramPolicy, raced: Mapping[int, Schedule], budget: int
) -> tuple[Schedule, ...]:
    """Return a budget's interpolated, recorded, carried-over and raced schedule."""
    sigmas, steps = own.table.sigmas, own.num_inference_steps
    interpolated = document.schedule_at(budget, sigmas, np.diff(sigmas))
    if interpolated is None:
        raise SystemExit(f"nothing is known of a run from {sigmas[0]:g} to {sigmas[-1]:g}")
    same_share = round(budget * STEPS / steps)
    carried, carried_raced = (
        transfer(each, document.table.sigmas, sigmas, budget)
        for each in (document.schedule(same_share), raced[same_share])
    )
    return interpolated, own.schedule(budget), carried, carried_raced


def compare(
    setup: ModelSetup,
    run: Run,
    document: GramPolicy,
    raced: Mapping[int, Schedule],
    calibration: Sequence[Pair],
    held_out: Sequence[Pair],
) -> list[Row]:
    """Return the rows of one kind of run."""
    scheduler, psnr = setup.pipe.scheduler, plugin_host().metric("psnr")
    shift = scheduler.config.shift * run.shift
    setup.pipe.scheduler = type(scheduler).from_config(scheduler.config, shift=shift)
    try:
        calls = Calls(setup, run)
        own = GramPolicy(recorded(setup, calls, calibration), document.settings)
        evaluator = Evaluator(setup.pipe, held_out, calls.arguments(held_out), len(held_out))
        row = partial(compared, setup.name, run.name)
        rows, every = [], []
        for budget in run.budgets:
            schedules = four_schedules(document, own, raced, budget)
            every.append([evaluator.values(each, psnr)[0] for each in schedules])
            steps = (schedule.computed_steps for schedule in schedules)
            rows.append(row(budget, every[-1], dict(zip(SCHEDULES, steps, strict=True))))
        return [*rows, row(None, np.mean(every, axis=0), {})]
    finally:
        setup.pipe.scheduler = scheduler


def compared(
    model: str,
    run: str,
    budget: int | None,
    values: Sequence[NDArray[np.float64]],
    schedules: dict[str, tuple[int, ...]],
) -> Row:
    """Return the row of what the four schedules gave."""
    interpolated, recorded, carried, raced = values
    return Row(
        model,
        run,
        budget,
        len(interpolated),
        float(interpolated.mean()),
        float(recorded.mean()),
        float(carried.mean()),
        float(raced.mean()),
        paired_difference(interpolated, recorded),
        paired_difference(interpolated, carried),
        paired_difference(interpolated, raced),
        schedules,
    )


def measure(
    setup: ModelSetup,
    raced: Mapping[int, Schedule],
    runs: Sequence[Run],
    pairs: int,
    held_out: int,
    damping: float,
) -> list[Row]:
    """Return the rows of one model."""
    calibration = setup.calibration_pairs(pairs)
    fresh = [
        Pair(pair.prompt, FRESH_SEEDS + number)
        for number, pair in enumerate(setup.held_out_pairs(held_out))
    ]
    table = recorded(setup, Calls(setup, Run("document", STEPS, ())), calibration)
    document = GramPolicy(table, GramSettings(damping))
    every = (compare(setup, run, document, raced, calibration, fresh) for run in runs)
    return [row for rows in every for row in rows]


def print_rows(rows: Sequence[Row]) -> None:
    """Print one model's rows."""
    others = [f"- {name} [95 % CI]" for name in SCHEDULES[1:]]
    table = Table("model", "run", "budget", "interpolated", *others)
    for row in rows:
        table.add_row(
            row.model,
            row.run,
            "all" if row.budget is None else str(row.budget),
            f"{row.interpolated:.2f}",
            str(row.to_recorded),
            str(row.to_carried_over),
            str(row.to_raced),
        )
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", choices=list(DEVELOPMENT), help="default: all of them")
    parser.add_argument("--runs", nargs="+", choices=[run.name for run in RUNS])
    parser.add_argument("--pairs", type=int, default=32, help="recorded pairs")
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--damping", type=float, default=GramSettings().damping)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    runs = [run for run in RUNS if not arguments.runs or run.name in arguments.runs]
    rows: list[Row] = []
    for name in arguments.models or DEVELOPMENT:
        found = measure(
            DEVELOPMENT[name](),
            raced_schedules(name),
            runs,
            arguments.pairs,
            arguments.held_out,
            arguments.damping,
        )
        print_rows(found)
        rows += found
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
