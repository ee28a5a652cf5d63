"""The formula of MeanCache's estimate (arXiv 2601.19961), for whatever has arithmetic.

One function for the tensors of a run and for the coefficients that stand for them, so that what a
schedule is chosen by is what the run will do.
"""

from __future__ import annotations

from typing import Any

__all__ = ["velocity_slope"]


def velocity_slope(first_velocity: Any, travelled: Any, window: Any) -> Any:
    """Return how fast the velocity changes with sigma over a window of past steps.

    The velocity of the next step is the last one less this slope times that step's change of sigma.

    Args:
        first_velocity: Velocity of the window's first step, a tensor or an array.
        travelled: Latents after the window less those before it, likewise.
        window: Change of sigma over it.
    """
    return (first_velocity - travelled / window) / window
