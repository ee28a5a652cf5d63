"""What a comparison found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from otcache_plugin.evaluation.metrics import TensorMetric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from otcache_registry import StoredPolicy

    from otcache_plugin.comparing.counting import Counts
    from otcache_plugin.comparing.lineup import Entrant, NotRun
    from otcache_plugin.comparing.measuring import Measured, Ran
    from otcache_plugin.comparing.methods import Variant
    from otcache_plugin.comparing.settings import ComparisonSettings
    from otcache_plugin.comparing.timing import Timed
    from otcache_plugin.evaluation.metrics import Metric
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup


@dataclass(frozen=True, eq=False)
class Row:
    """What one variant did.

    Attributes:
        variant: which.
        label: what people call its method.
        values: by metric, `(N,)`, one per pair; a video's are means over its frames.
        counts: of one call.
        ran: by a policy, None where none was on.
        calibration_steps: denoising steps that its calibration took, None where unknown.
        frames: of each output, 1 for pictures.
        turns: `(rounds, 2)` seconds of a call without decoding, and with it.
        peak_memory: bytes that the GPU held at most; None on a CPU.
        pictures: files of the first few pairs' pictures, of a video's middle frames.
        speedups: `(2,)`, the full run's times over these, medians of the rounds' ratios.
    """

    variant: Variant
    label: str
    values: Mapping[str, NDArray[np.float64]]
    counts: Counts
    ran: Ran | None
    calibration_steps: int | None
    frames: int
    turns: NDArray[np.float64]
    peak_memory: int | None
    pictures: tuple[Path, ...]
    speedups: NDArray[np.float64] = field(default_factory=lambda: np.ones(2))

    @classmethod
    def of(
        cls,
        entrant: Entrant,
        measured: Measured,
        turns: Sequence[Timed],
        pictures: tuple[Path, ...],
    ) -> Row:
        """Put together what was measured of a variant."""
        peaks = [turn.peak_memory for turn in turns if turn.peak_memory is not None]
        return cls(
            entrant.variant,
            entrant.method.label,
            {name: np.array(values) for name, values in measured.values.items()},
            measured.counts,
            measured.ran,
            measured.calibration_steps,
            measured.frames,
            np.array([(turn.loop, turn.whole) for turn in turns]),
            max(peaks, default=None),
            pictures,
        )

    def beside(self, full: Row) -> Row:
        """Return the row with its speed-ups over the full run."""
        return replace(self, speedups=np.median(full.turns / self.turns, axis=0))

    @property
    def method(self) -> str:
        """The method's name."""
        return self.variant.method

    @property
    def budget(self) -> int | None:
        """Computed steps that were asked for, None where they are an outcome."""
        return self.variant.budget

    @property
    def loop_seconds(self) -> float:
        """Median time of a call without decoding."""
        return float(np.median(self.turns[:, 0]))

    @property
    def seconds(self) -> float:
        """Median time of a whole call."""
        return float(np.median(self.turns[:, 1]))

    @property
    def loop_speedup(self) -> float:
        """The full run's time over this one's, without decoding."""
        return float(self.speedups[0])

    @property
    def speedup(self) -> float:
        """Likewise, of whole calls."""
        return float(self.speedups[1])

    def mean(self, metric: str) -> float:
        """Return the mean value of a metric."""
        return float(self.values[metric].mean())


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """Everything a comparison found.

    Attributes:
        setup: the model.
        settings: what was asked.
        pairs: the held-out pairs.
        metrics: by name, the one that comparisons rest on first.
        full: the full run.
        rows: every variant but that, in the order of the methods.
        not_run: what was left out or failed, with the reasons.
        document: OTCache's, where it was measured and rests on one.
        machine: what the times were measured on.
        seconds: how long all of it took, from when it was begun or went on.
    """

    setup: ModelSetup
    settings: ComparisonSettings
    pairs: tuple[Pair, ...]
    metrics: Mapping[str, Metric]
    full: Row
    rows: tuple[Row, ...]
    not_run: tuple[NotRun, ...]
    document: StoredPolicy | None
    machine: str
    seconds: float

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.setup.name

    @property
    def num_inference_steps(self) -> int:
        """Steps of a full run, T."""
        return self.settings.num_inference_steps

    @property
    def timed_pairs(self) -> int:
        """Pictures per timed call."""
        return min(self.settings.timed_pairs, len(self.pairs))

    @property
    def quality(self) -> Metric:
        """The metric that comparisons rest on."""
        return next(iter(self.metrics.values()))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that were measured, without the full run, in their order."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    def of_method(self, method: str) -> list[Row]:
        """Return a method's variants."""
        return [row for row in self.rows if row.method == method]

    def row(self, method: str, budget: int) -> Row:
        """Return the row of a method at a budget."""
        return next(row for row in self.rows if (row.method, row.budget) == (method, budget))

    def limit(self, row: Row) -> float | None:
        """Return T / B: the speed-up if nothing but the transformer took time. None without B."""
        return None if row.budget is None else self.num_inference_steps / row.budget

    @property
    def unseen(self) -> bool:
        """Whether OTCache's document was calibrated on prompts that are none of the pairs'.

        False too where that cannot be told.
        """
        calibration = None if self.document is None else self.document.document.calibration
        return calibration is not None and calibration.prompts_digest == self.setup.prompts_digest

    @property
    def disturbed(self) -> bool:
        """Whether a speed-up is above its limit, as only other work on the machine can make it."""
        limits = [(row.loop_speedup, self.limit(row)) for row in self.rows]
        return any(limit is not None and speedup > limit for speedup, limit in limits)

    def judges_full_run(self, metric: str) -> bool:
        """Return whether a metric has something to say of the full run itself."""
        return not isinstance(self.metrics[metric], TensorMetric)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, for JSON; the pictures are left out."""
        return {
            "model": self.setup.origin.model,
            "revision": self.setup.origin.revision,
            "num_inference_steps": self.num_inference_steps,
            "budgets": list(self.settings.budgets),
            "document": None if self.document is None else self.document.source,
            "calibrated_on_other_prompts": self.unseen,
            "pairs": [{"prompt": pair.prompt, "seed": pair.seed} for pair in self.pairs],
            "metrics": {
                name: {"unit": metric.unit, "higher_is_better": metric.higher_is_better}
                for name, metric in self.metrics.items()
            },
            "timing": {
                "pairs_per_call": self.timed_pairs,
                "rounds": self.settings.rounds,
                "machine": self.machine,
                "disturbed": self.disturbed,
            },
            "full": self._row_dict(self.full),
            "rows": [self._row_dict(row) for row in self.rows],
            "not_run": [
                {"method": each.method, "setting": each.setting, "reason": each.reason}
                for each in self.not_run
            ],
            "seconds": self.seconds,
        }

    def _row_dict(self, row: Row) -> dict[str, Any]:
        ran, counts = row.ran, row.counts
        return {
            "method": row.method,
            "setting": row.variant.setting,
            "budget": row.budget,
            "seconds": row.seconds,
            "loop_seconds": row.loop_seconds,
            "speedup": row.speedup,
            "loop_speedup": row.loop_speedup,
            "limit": self.limit(row),
            "transformer_calls": counts.transformer_calls,
            "block_evaluations": counts.block_evaluations,
            "flops": counts.flops,
            "peak_memory": row.peak_memory,
            "calibration_steps": row.calibration_steps,
            "pairs": len(self.pairs),
            "means": {name: row.mean(name) for name in self.metrics},
            "values": {name: row.values[name].tolist() for name in self.metrics},
            "computed_steps": None if ran is None else list(ran.computed_steps),
            "look_backs": None if ran is None else list(ran.look_backs),
            "document": None if ran is None else ran.document,
        }
