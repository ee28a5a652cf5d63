"""What the demo measures: one model, three methods, a few budgets, on held-out pairs.

Everything is switched on and off by the calls that a user would make, `cache_dit.enable_cache`
with `policy=` and `cache_dit.disable_cache`, and checked by `otcache_plugin.summary`. Nothing
here prints or writes.
"""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import cache_dit
import numpy as np
import torch
from otcache_policies import FieldError
from otcache_registry import find_bundled, read_policy

import otcache_plugin
from otcache_plugin.calibration.evidence.rows import PEERS, peers
from otcache_plugin.errors import ExecutionError
from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.evaluation.statistics import paired_difference
from otcache_plugin.patch import DISABLE
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from diffusers import DiffusionPipeline
    from numpy.typing import NDArray
    from otcache_policies import Schedule
    from otcache_registry import PolicyDocument, StoredPolicy

    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.evaluation.outputs import Outputs
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.evaluation.statistics import PairedDifference
    from otcache_plugin.models.setups import ModelSetup

BUNDLED = "otcache"
"""The policy that ships with the package; any other one is a document's folder."""


@dataclass(frozen=True)
class DemoSettings:
    """What a demo is determined by, besides the model.

    Attributes:
        policy: "otcache" for the bundled document, else a document's folder or policy.json.
        pairs: held-out prompt-seed pairs.
        budgets: computed steps, each measured with every method.
        timed_pairs: pairs per timed pipeline call, no more than there are.
        rounds: how often everything is timed, the methods taking turns.
    """

    policy: str = BUNDLED
    pairs: int = 64
    budgets: tuple[int, ...] = (8, 10, 15)
    timed_pairs: int = 8
    rounds: int = 5

    def __post_init__(self) -> None:
        if self.pairs < 2:
            raise FieldError(
                "pairs",
                self.pairs,
                "a confidence interval needs two pairs or more",
                "Use pairs=2 or more, 64 for a fair impression",
            )


@dataclass(frozen=True, eq=False)
class MethodRow:
    """What one method did at one budget.

    Attributes:
        method: "uniform", "meancache" or "otcache".
        schedule: the steps that it computed, and the look-backs between them.
        transformer_calls: of one run; a batch counts once, every guidance branch counts.
        seconds: median time of a timed call.
        speedup: the full run's time over this one's, the median of the rounds' ratios.
        pictures: `(N, 3, H, W)` in [0, 1], one per pair.
        psnr: `(N,)`, in dB, to the full runs' pictures.
        ssim: `(N,)`, likewise.
    """

    method: str
    schedule: Schedule
    transformer_calls: int
    seconds: float
    speedup: float
    pictures: torch.Tensor
    psnr: NDArray[np.float64]
    ssim: NDArray[np.float64]

    @property
    def budget(self) -> int:
        """Computed steps."""
        return self.schedule.budget

    @property
    def limit(self) -> float:
        """The speed-up if nothing but the transformer took any time, T / B."""
        return self.schedule.num_inference_steps / self.budget


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Everything a demo found.

    Attributes:
        model: name of the model.
        settings: what was asked for.
        document: the policy document that all three methods rest on.
        source: where the document came from.
        pairs: the held-out pairs.
        full_pictures: `(N, 3, H, W)` in [0, 1] with every step computed.
        full_seconds: median time of a timed call with every step computed.
        rows: one per budget and method, budgets in the order asked for.
        look_back: of uniform and MeanCache on every segment; None for the one that the document's
            edge table finds best on each.
        unseen: whether the document was calibrated on the set-up's calibration prompts, which are
            none of the pairs'; False when on others, or it cannot be told.
        machine: what the times were measured on.
        seconds: how long the demo took.
    """

    model: str
    settings: DemoSettings
    document: PolicyDocument
    source: str
    pairs: tuple[Pair, ...]
    full_pictures: torch.Tensor
    full_seconds: float
    rows: tuple[MethodRow, ...]
    look_back: int | None
    unseen: bool
    machine: str
    seconds: float

    @property
    def num_inference_steps(self) -> int:
        """Steps of a full run, T."""
        return self.document.num_inference_steps

    @property
    def timed_pairs(self) -> int:
        """Pictures per timed call."""
        return min(self.settings.timed_pairs, len(self.pairs))

    @property
    def disturbed(self) -> bool:
        """Whether a speed-up is above its limit, as only other work on the machine can make it."""
        return any(row.speedup > row.limit for row in self.rows)

    @property
    def look_back_rule(self) -> str:
        """The rule by which uniform and MeanCache look back, in words."""
        if self.look_back is None:
            return "on each segment the look-back that the document's edge table finds best"
        return f"look-back {self.look_back} on every segment"

    def row(self, method: str, budget: int) -> MethodRow:
        """Return the row of a method at a budget."""
        return next(row for row in self.rows if (row.method, row.budget) == (method, budget))

    def gain(self, budget: int) -> PairedDifference:
        """Return OTCache's PSNR minus MeanCache's at a budget, in dB, pair by pair."""
        return paired_difference(
            self.row("otcache", budget).psnr, self.row("meancache", budget).psnr
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, for JSON; the pictures are left out."""
        return {
            "model": self.model,
            "revision": self.document.model.revision,
            "policy": self.source,
            "num_inference_steps": self.num_inference_steps,
            "look_back_rule": self.look_back_rule,
            "calibrated_on_other_prompts": self.unseen,
            "pairs": [{"prompt": pair.prompt, "seed": pair.seed} for pair in self.pairs],
            "timing": {
                "pairs_per_call": self.timed_pairs,
                "rounds": self.settings.rounds,
                "full_seconds": self.full_seconds,
                "machine": self.machine,
                "disturbed": self.disturbed,
            },
            "rows": [_row_dict(row) for row in self.rows],
            "otcache_minus_meancache_psnr": [
                self._gain_dict(budget) for budget in self.settings.budgets
            ],
            "seconds": self.seconds,
        }

    def _gain_dict(self, budget: int) -> dict[str, Any]:
        gain = self.gain(budget)
        return {
            "budget": budget,
            "mean": gain.mean,
            "low": gain.low,
            "high": gain.high,
            "win_rate": gain.win_rate,
            "pairs": gain.pairs,
        }


def _row_dict(row: MethodRow) -> dict[str, Any]:
    return {
        "method": row.method,
        "budget": row.budget,
        "speedup": row.speedup,
        "limit": row.limit,
        "seconds": row.seconds,
        "psnr": float(row.psnr.mean()),
        "ssim": float(row.ssim.mean()),
        "pairs": len(row.psnr),
        "transformer_calls": row.transformer_calls,
        "computed_steps": list(row.schedule.computed_steps),
        "look_backs": list(row.schedule.look_backs),
    }


def run_demo(
    setup: ModelSetup, settings: DemoSettings, progress: CalibrationProgress
) -> DemoResult:
    """Measure OTCache beside MeanCache and uniform spacing.

    Args:
        setup: the model, without any cache enabled.
        settings: policy, pairs, budgets, timing.
        progress: is told how far it is.

    Raises:
        DocumentNotFoundError: there is no such policy, or none for this model revision.
        FieldError: the policy is for another model, or `policy=` is switched off.
        BudgetError: the policy does not serve a budget.
        ExecutionError: a run did not compute the planned steps.
    """
    started = perf_counter()
    _require_installed()
    stored = _find_policy(setup, settings.policy)
    contenders = _contenders(stored, settings)
    steps = stored.document.num_inference_steps
    call_arguments = {**setup.call_arguments, "num_inference_steps": steps}
    pairs = setup.held_out_pairs(settings.pairs)

    progress.start("generating pictures", 1 + len(contenders))
    full = generate_outputs(setup.pipe, pairs, call_arguments)
    progress.advance()
    generated = []
    for contender in contenders:
        generated.append(_generate(setup.pipe, contender, pairs, call_arguments))
        progress.advance()

    progress.start("timing, methods taking turns", settings.rounds * (1 + len(contenders)))
    timed = pairs[: settings.timed_pairs]
    times = _time(setup.pipe, contenders, timed, call_arguments, settings.rounds, progress)
    seconds = np.median(times, axis=0).tolist()
    speedups = np.median(times[:, :1] / times[:, 1:], axis=0).tolist()

    psnr, ssim = plugin_host().metric("psnr"), plugin_host().metric("ssim")
    rows = tuple(
        MethodRow(
            contender.method,
            contender.schedule,
            calls,
            own_seconds,
            speedup,
            _pictures(outputs),
            psnr.values(outputs, full, pairs),
            ssim.values(outputs, full, pairs),
        )
        for contender, (outputs, calls), own_seconds, speedup in zip(
            contenders, generated, seconds[1:], speedups, strict=True
        )
    )
    calibration = stored.document.calibration
    return DemoResult(
        setup.name,
        settings,
        stored.document,
        stored.source,
        tuple(pairs),
        _pictures(full),
        seconds[0],
        rows,
        stored.meancache_policy().settings.look_back,
        calibration is not None and calibration.prompts_digest == setup.prompts_digest,
        _machine(),
        perf_counter() - started,
    )


@dataclass(frozen=True)
class _Contender:
    """A method at a budget: what it will compute, and the arguments that switch it on."""

    method: str
    schedule: Schedule
    arguments: Mapping[str, Any]


def _contenders(stored: StoredPolicy, settings: DemoSettings) -> list[_Contender]:
    """Return every budget with every method, all with the look-back rule of the document."""
    schedules = peers(stored.otcache_policy(), stored.meancache_policy())
    bundled = settings.policy == BUNDLED
    contenders = []
    for budget, method in product(settings.budgets, PEERS):
        schedule = schedules[method](budget)
        arguments: dict[str, Any] = {"policy": schedule}
        if method == "otcache":
            policy = settings.policy if bundled else Path(settings.policy)
            arguments = {"policy": policy, "budget": budget}
        elif method == "meancache" and bundled:
            arguments = {"policy": method, "budget": budget}
        contenders.append(_Contender(method, schedule, arguments))
    return contenders


def _require_installed() -> None:
    if not otcache_plugin.is_installed():
        raise FieldError(
            DISABLE,
            os.environ.get(DISABLE),
            "cache_dit.enable_cache, which the demo calls, has no policy= now",
            f"Unset {DISABLE}",
        )


def _find_policy(setup: ModelSetup, policy: str) -> StoredPolicy:
    origin = setup.origin
    if policy == BUNDLED:
        with _enabled(setup.pipe, {"policy": policy}):  # or else says how to calibrate one
            return find_bundled(origin.model, origin.revision)
    stored = read_policy(policy)
    calibrated = stored.document.model
    if (calibrated.id, calibrated.revision) != (origin.model, origin.revision):
        raise FieldError(
            "policy",
            policy,
            f"calibrated on {calibrated.id} at {calibrated.revision}, and this is "
            f"{origin.model} at {origin.revision}",
            f"Calibrate one for it: otcache calibrate {origin.model} --output DIR",
        )
    return stored


@contextmanager
def _enabled(pipe: DiffusionPipeline, arguments: Mapping[str, Any]) -> Iterator[None]:
    cache_dit.enable_cache(pipe, **arguments)
    try:
        yield
    finally:
        cache_dit.disable_cache(pipe)


def _generate(
    pipe: DiffusionPipeline,
    contender: _Contender,
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
) -> tuple[Outputs, int]:
    """Return the outputs and the transformer calls of a run that must have gone as planned."""
    with _enabled(pipe, contender.arguments):
        outputs = generate_outputs(pipe, pairs, call_arguments)
        report = otcache_plugin.summary(pipe)
    if not report.as_planned or report.planned_steps != contender.schedule.computed_steps:
        raise ExecutionError(
            f"{contender.method} did not compute its schedule {contender.schedule}: {report}"
        )
    return outputs, report.transformer_calls


def _pictures(outputs: Outputs) -> torch.Tensor:
    """Return the `(N, 3, H, W)` pictures of an image pipeline."""
    assert outputs.pictures is not None
    return outputs.pictures.squeeze(1)


def _time(
    pipe: DiffusionPipeline,
    contenders: Sequence[_Contender],
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
    rounds: int,
    progress: CalibrationProgress,
) -> NDArray[np.float64]:
    """Return `(rounds, 1 + contenders)` seconds of a call without decoding, the full run first.

    Every round takes all of them in turn, so that what slows the machine down for a while slows
    down both sides of a ratio.
    """
    times = np.empty((rounds, 1 + len(contenders)))
    for own in times:
        own[0] = _seconds(pipe, pairs, call_arguments)
        progress.advance()
        for index, contender in enumerate(contenders, start=1):
            with _enabled(pipe, contender.arguments):
                own[index] = _seconds(pipe, pairs, call_arguments)
            progress.advance()
    return times


def _seconds(
    pipe: DiffusionPipeline, pairs: Sequence[Pair], call_arguments: Mapping[str, Any]
) -> float:
    generators = [torch.Generator().manual_seed(pair.seed) for pair in pairs]
    started = perf_counter()
    pipe(
        prompt=[pair.prompt for pair in pairs],
        generator=generators,
        output_type="latent",
        **call_arguments,
    )
    return perf_counter() - started


def _machine() -> str:
    threads = torch.get_num_threads()
    return (
        f"{threads} CPU thread{'s' if threads > 1 else ''} ({platform.machine()}), "
        f"torch {torch.__version__}"
    )
