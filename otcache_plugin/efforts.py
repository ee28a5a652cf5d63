"""What a calibration takes by effort, in denoising steps, known before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

QUICK_PAIRS = 32
"""Full runs that are recorded; nothing else is run."""

STANDARD_STEPS = 16_000
"""At most, recording and real runs of candidates together."""

USUAL_STEPS = 50
"""Steps of a full run, unless it is said otherwise."""


@dataclass(frozen=True)
class EffortCost:
    """What an effort takes at most.

    Attributes:
        effort: its name.
        steps: denoising steps.
        num_inference_steps: of a full run, T.
    """

    effort: str
    steps: int
    num_inference_steps: int

    @property
    def full_pictures(self) -> int:
        """Full generations, one prompt each, that take about as long."""
        return round(self.steps / self.num_inference_steps)


def effort_costs(num_inference_steps: int = USUAL_STEPS) -> tuple[EffortCost, ...]:
    """Return what a calibration takes that serves without a search on the model, cheapest first.

    Args:
        num_inference_steps: of a full run, T.
    """
    quick = QUICK_PAIRS * num_inference_steps
    return (
        EffortCost("quick", quick, num_inference_steps),
        EffortCost("standard", STANDARD_STEPS, num_inference_steps),
    )
