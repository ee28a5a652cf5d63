"""What one method did on the prompts that were tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from otcache_policies import Schedule


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
