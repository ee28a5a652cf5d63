"""What a comparison is asked, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import FieldError

from otcache_plugin.comparing.three_methods import BUNDLED
from otcache_plugin.evaluation.statistics import paired_difference

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from otcache_policies import OTCachePolicy, Schedule
    from otcache_registry import PolicyDocument

    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.evaluation.statistics import PairedDifference


@dataclass(frozen=True)
class ComparisonSettings:
    """What a comparison is determined by, besides the model.

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
        method: the policy's name.
        schedule: the steps that it computed, and the look-backs between them.
        transformer_calls: of one run; a batch counts once, every guidance branch counts.
        seconds: median time of a timed call.
        speedup: the full run's time over this one's, the median of the rounds' ratios.
        pictures: `(N, 3, H, W)` in [0, 1], one per pair; of a video a frame.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values; the pictures are left out."""
        return {
            "method": self.method,
            "budget": self.budget,
            "speedup": self.speedup,
            "limit": self.limit,
            "seconds": self.seconds,
            "psnr": float(self.psnr.mean()),
            "ssim": float(self.ssim.mean()),
            "pairs": len(self.psnr),
            "transformer_calls": self.transformer_calls,
            "computed_steps": list(self.schedule.computed_steps),
            "look_backs": list(self.schedule.look_backs),
        }


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """Everything a comparison found.

    Attributes:
        model: name of the model.
        settings: what was asked for.
        document: the policy document that all three methods rest on.
        source: where the document came from.
        pairs: the held-out pairs.
        full_pictures: `(N, 3, H, W)` in [0, 1] with every step computed.
        full_seconds: median time of a timed call with every step computed.
        rows: one per budget and method, budgets in the order asked for.
        policy: the document's OTCache policy. Uniform and MeanCache look back by the rule that it
            reads its edge table by.
        unseen: whether the document was calibrated on the set-up's calibration prompts, which are
            none of the pairs'; False when on others, or it cannot be told.
        machine: what the times were measured on.
        seconds: how long all of it took.
    """

    model: str
    settings: ComparisonSettings
    document: PolicyDocument
    source: str
    pairs: tuple[Pair, ...]
    full_pictures: torch.Tensor
    full_seconds: float
    rows: tuple[MethodRow, ...]
    policy: OTCachePolicy
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
        look_back = self.policy.settings.look_back
        if look_back is None:
            return "on each segment the look-back that the document's edge table finds best"
        return f"look-back {look_back} on every segment"

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
            "rows": [row.to_dict() for row in self.rows],
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
