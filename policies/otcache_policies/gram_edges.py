"""The edge table in the L2 norm, from Gram matrices.

An edge's error is the displacement that one cached segment leaves behind a run that was computed up
to it, over the segment's change of sigma. That is a combination of recorded velocities, so its root
mean square follows from their inner products. MeanCache (arXiv 2601.19961) leaves the norm open;
tables that are measured on latents have the mean absolute error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from otcache_policies.displacement import euler_response
from otcache_policies.errors import GramTableError
from otcache_policies.gram import GramTable
from otcache_policies.segments import DISPLACEMENT, segment_maps

__all__ = ["l2_edges"]


def l2_edges(table: GramTable, max_look_back: int) -> NDArray[np.float32]:
    """Return the root mean square error of the average velocity over every edge.

    Args:
        table: Recorded runs of Euler steps.
        max_look_back: Largest look-back, K.

    Returns:
        float32 of shape (T, T, K), as `EdgeTable` takes it: `[i, j, k-1]` is the root of the mean
        over pairs and elements of the squared error that caching steps i+1 … j-1 with look-back k
        leaves; 0 for neighbours, infinite for `j <= i`.

    Raises:
        GramTableError: The solver is not Euler's: what another one makes of a velocity depends on
            its steps before.
    """
    if table.response is not None:
        problem = "the solver that was recorded takes other steps than Euler's"
        raise GramTableError("response", table.response, problem, "Measure the edges on its runs")
    total, gram = table.num_inference_steps, table.grams.mean(axis=0, dtype=np.float64)
    added = segment_maps(table.sigmas, euler_response(table.sigmas), max_look_back)
    errors = np.full((total, total, max_look_back), np.inf, dtype=np.float32)
    for start in range(total - 1):
        ends = np.arange(start + 1, total)
        made = added[start, :, ends - start, DISPLACEMENT, 1:]
        coefficients = _coefficients(made, table.sigmas, start)
        squares = np.einsum("ekt,tu,eku->ek", coefficients, gram, coefficients, optimize=True)
        spans = np.abs(table.sigmas[ends] - table.sigmas[start])[:, None]
        # Where nothing is wrong, rounding may leave less than 0.
        errors[start, ends] = np.sqrt(np.maximum(squares, 0.0)) / spans
    return errors


def _coefficients(
    made: NDArray[np.float64], sigmas: NDArray[np.float64], start: int
) -> NDArray[np.float64]:
    """Return the displacements after segments that begin at a step, in recorded velocities.

    Args:
        made: Coefficients of the last K velocities up to that step in what is predicted, for every
            later step as the segment's end and every look-back: (ends, K, K).
        sigmas: Noise levels, of shape (T+1,).
        start: The step.

    Returns:
        Of shape (ends, K, T).
    """
    ends, look_backs, window = made.shape
    coefficients = np.zeros((ends, look_backs, len(sigmas) - 1))
    # The window of an early step begins before the run, where nothing is looked back on.
    known = min(window, start + 1)
    coefficients[:, :, start + 1 - known : start + 1] = made[:, :, window - known :]
    recorded = np.tril(np.tile(np.diff(sigmas)[start + 1 :], (ends, 1)), k=-1)
    coefficients[:, :, start + 1 :] -= recorded[:, None]
    return coefficients
