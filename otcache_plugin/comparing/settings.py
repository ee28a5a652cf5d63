"""What a comparison is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otcache_policies import FieldError

BUDGETS = (8, 10, 15)
STEPS = 50
METRICS = ("psnr", "ssim")


@dataclass(frozen=True)
class ComparisonSettings:
    """What a comparison is determined by, besides the model.

    Attributes:
        methods: by name, None for all that there are. The full run is always one of them.
        budgets: computed steps at which to compare.
        num_inference_steps: of a full run, T.
        pairs: held-out prompt-seed pairs.
        seed: which held-out pairs.
        metrics: by which outputs are judged, the one that comparisons rest on first.
        timed_pairs: pairs per timed pipeline call, no more than there are.
        rounds: how often everything is timed, the methods taking turns.
        baseline: the method that all others are compared with; None for MeanCache, or else uniform.
        documents: policy documents that go before those that a policy's name finds.
    """

    methods: tuple[str, ...] | None = None
    budgets: tuple[int, ...] = BUDGETS
    num_inference_steps: int = STEPS
    pairs: int = 32
    seed: int = 0
    metrics: tuple[str, ...] = METRICS
    timed_pairs: int = 4
    rounds: int = 3
    baseline: str | None = None
    documents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pairs < 2:
            problem = "a confidence interval needs two pairs or more"
            raise FieldError(
                "pairs", self.pairs, problem, "Use pairs=2 or more, 64 for a fair impression"
            )
        if self.rounds < 1:
            raise FieldError("rounds", self.rounds, "nothing would be timed", "Use 1 or more")
        if self.num_inference_steps < 2:
            steps = self.num_inference_steps
            raise FieldError("num_inference_steps", steps, "below 2", "Use 2 or more")
        for budget in self.budgets:
            if not 2 <= budget <= self.num_inference_steps:
                remedy = f"Use 2 … {self.num_inference_steps}"
                raise FieldError("budgets", budget, "not a number of steps of the run", remedy)
        if not self.budgets or len(set(self.budgets)) < len(self.budgets):
            problem = "there are none, or one stands there twice"
            raise FieldError(
                "budgets", self.budgets, problem, "Use different ones, such as 8,10,15"
            )

    @property
    def determining(self) -> dict[str, Any]:
        """What measured values depend on: methods may join, and be compared with another one."""
        return {
            "budgets": list(self.budgets),
            "num_inference_steps": self.num_inference_steps,
            "pairs": self.pairs,
            "seed": self.seed,
            "metrics": list(self.metrics),
            "timed_pairs": self.timed_pairs,
            "rounds": self.rounds,
        }
