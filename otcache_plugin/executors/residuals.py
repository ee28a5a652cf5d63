"""What blocks add to their input: kept from computed steps, and added again on cached ones."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LARGEST_GAIN = 1.5
"""How far beyond the last residual an extrapolation may go, as DiCache's authors have it."""


class Residuals:
    """The residuals of one guidance branch: of the last computed steps, a tensor per block list.

    Args:
        look_back: computed steps that are kept: 1 adds the last residual again, 2 extrapolates.
    """

    def __init__(self, look_back: int) -> None:
        self._kept: deque[dict[int, torch.Tensor]] = deque(maxlen=look_back)
        self._probes: deque[torch.Tensor] = deque(maxlen=look_back)

    def begin(self, probe: torch.Tensor | None) -> None:
        """Begin to keep those of another computed step.

        Args:
            probe: what the blocks of the probe have added, where that is to be compared.
        """
        self._kept.append({})
        if probe is not None:
            self._probes.append(probe)

    def keep(self, block_list: int, residual: torch.Tensor) -> None:
        """Keep what a list of blocks has added, at the step that was begun last."""
        self._kept[-1][block_list] = residual

    def fit(self, hidden: torch.Tensor) -> bool:
        """Return whether there are any, for hidden states of the first list of this shape."""
        return bool(self._kept) and self._kept[-1][0].shape == hidden.shape

    def gain(self, probe: torch.Tensor) -> torch.Tensor | None:
        """Return how far beyond the last but one residual the present one is, by the probe.

        Args:
            probe: what its blocks add now.

        Returns:
            1 where it is as the last one; None where there are no two to go by.
        """
        if len(self._probes) < 2 or self._probes[0].shape != probe.shape:
            return None
        before, last = self._probes
        ratio = (probe - before).abs().mean() / (last - before).abs().mean()
        return ratio.nan_to_num(1.0).clamp(1.0, LARGEST_GAIN)

    def estimate(self, block_list: int, gain: torch.Tensor | None) -> torch.Tensor:
        """Return the residual of a cached step; the last one where there is no gain."""
        last = self._kept[-1][block_list]
        if gain is None:
            return last
        before = self._kept[0][block_list]
        return before + gain * (last - before)
