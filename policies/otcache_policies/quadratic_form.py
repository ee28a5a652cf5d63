"""What is minimised over schedules: the squared errors of recorded pairs, damped and with gains."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from otcache_policies.displacement import Candidates, increments

__all__ = ["QuadraticForm"]


@dataclass(frozen=True, eq=False)
class QuadraticForm:
    """The pairs' squared errors, damped and with gains.

    Attributes:
        grams: Float64 of shape (N, T, T), one Gram matrix per pair.
        sigmas: Float64 of shape (T+1,).
        response: What one unit of each step's velocity adds to the last latents, float64 of shape
            (T,).
        damping: Share of the segments' own squares, from 0 to 1.
        gains: How much of an increment that ends at a step is left at the end of the run: float64
            of shape (T,), or (N, T) where each pair has its own; ones when left out.
    """

    grams: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    response: NDArray[np.float64]
    damping: float = 0.0
    gains: NDArray[np.float64] | None = None

    @property
    def num_inference_steps(self) -> int:
        """Steps of the recorded runs, T."""
        return len(self.sigmas) - 1

    def weighted(self, weights: NDArray[np.float64]) -> QuadraticForm:
        """Return the form of one pair that is the weighted mean of these.

        Where each pair has its own gains, the mean has the pairs' mean gains, and each pair's
        matrix is scaled by how large its own gains are: as close as a single pair can come.
        """
        if self.gains is not None and self.gains.ndim == 2:
            usual = self.gains.mean(axis=0)
            scales = self.gains @ usual / (usual @ usual)
            shared = replace(self, grams=self.grams * scales[:, None, None] ** 2, gains=usual)
            return shared.weighted(weights)
        mean = np.tensordot(weights / weights.sum(), self.grams, axes=1)
        return replace(self, grams=mean[None])

    def values(self, candidates: Candidates) -> NDArray[np.float64]:
        """Return the damped squared error of each candidate for each pair: (n, N)."""
        own = increments(candidates, self.sigmas, self.response)
        if self.gains is None:
            return self._squares(own, self.grams)
        gains = self.gains[..., candidates.steps[:, 1:], None]
        if self.gains.ndim == 1:
            return self._squares(own * gains, self.grams)
        pairs = zip(gains, self.grams, strict=True)
        return np.concatenate([self._squares(own * of, gram[None]) for of, gram in pairs], axis=1)

    def pooled(self, candidates: Candidates) -> NDArray[np.float64]:
        """Return the mean over pairs of the logarithm of each candidate's value: (n,)."""
        with np.errstate(divide="ignore"):
            means: NDArray[np.float64] = np.log(self.values(candidates)).mean(axis=1)
        return means

    def _squares(self, own: NDArray[np.float64], grams: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the damped squares of what segments add, (n, s, T), with every matrix: (n, N)."""
        whole = own.sum(axis=1)
        products = (1 - self.damping) * whole[:, :, None] * whole[:, None, :]
        if self.damping:
            products += self.damping * (own.swapaxes(1, 2) @ own)
        # The sum of the entries' products with a Gram matrix is the square by it.
        squares = products.reshape(len(own), -1) @ grams.reshape(len(grams), -1).T
        found: NDArray[np.float64] = np.maximum(squares, 0.0)
        return found
