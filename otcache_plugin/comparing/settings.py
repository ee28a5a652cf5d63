"""What a comparison is asked, and what trying a model is; importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otcache_policies import FieldError

from otcache_plugin.errors import ArgumentError
from otcache_plugin.evaluation.pairs import Pair

BUDGETS = (8, 10, 15)
STEPS = 50
METRICS = ("psnr", "ssim")


@dataclass(frozen=True)
class ComparisonSettings:
    """What is compared, besides the model, and how.

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
        time_again: whether times that were taken before are to be taken anew, and all else kept.
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
    time_again: bool = False

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
        """What measured values depend on: methods and rounds may join, baselines change."""
        return {
            "budgets": list(self.budgets),
            "num_inference_steps": self.num_inference_steps,
            "pairs": self.pairs,
            "seed": self.seed,
            "metrics": list(self.metrics),
            "timed_pairs": self.timed_pairs,
        }


@dataclass(frozen=True)
class SideBySideSettings:
    """What is tried, besides the model.

    Attributes:
        prompts: one picture, or video, of each.
        policy: what `policy=` takes as a string.
        budget: computed steps, uniform's and the policy's.
        num_inference_steps: steps of a run, T.
        seed: of every prompt's noise.
    """

    prompts: tuple[str, ...]
    policy: str = "otcache"
    budget: int = 10
    num_inference_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for prompt in self.prompts:
            if not prompt.strip():
                raise ArgumentError("prompt", prompt, "no words in it", "Say what to show")
        if self.num_inference_steps < 2:
            steps = self.num_inference_steps
            raise ArgumentError("num_inference_steps", steps, "below 2", "Use 2 or more")
        if not 2 <= self.budget <= self.num_inference_steps:
            remedy = f"Use 2 … {self.num_inference_steps}"
            raise FieldError("budget", self.budget, "not a number of steps of the run", remedy)
        if self.seed < 0:
            raise ArgumentError("seed", self.seed, "below 0", "Use 0 or more")

    @property
    def speedup(self) -> float:
        """All steps over computed ones: other than a budget, it scales with a document's steps."""
        return self.num_inference_steps / self.budget

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The prompts with their seed."""
        return tuple(Pair(prompt, self.seed) for prompt in self.prompts)
