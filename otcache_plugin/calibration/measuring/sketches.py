"""Short vectors that stand for latents: the inner products that a fit needs, at any picture size.

How far a real run ends from the full one is a vector as long as the latents, and what explains it
are the full run's velocities. Only inner products of the two are ever needed, so latents of many
elements are folded: each element is added, with a random sign, to one of a few thousand places (the
count sketch of Charikar, Chen and Farach-Colton, 2002). Inner products of folded vectors are those
of the vectors on average, with a relative error of about `1 / sqrt(SKETCHED)`. Smaller latents stay
as they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SKETCHED = 4096
"""Most elements of a vector that is kept."""


def sketch(latents: torch.Tensor) -> NDArray[np.float32]:
    """Return the latents of each pair as a short vector.

    Args:
        latents: `(N, …)`, of any number of elements.

    Returns:
        `(N, k)` float32 with `k <= SKETCHED`. The inner product of two of them is the mean over
        elements of the product of the latents, exactly where there are no more than `SKETCHED`
        elements, otherwise on average.
    """
    flat = latents.detach().cpu().double().flatten(1)
    elements = flat.shape[1]
    if elements > SKETCHED:
        places, signs = _folding(elements)
        folded = torch.zeros(len(flat), SKETCHED, dtype=torch.float64)
        flat = folded.index_add_(1, places, flat * signs)
    short: NDArray[np.float32] = (flat / elements**0.5).float().numpy()
    return short


@lru_cache(maxsize=2)
def _folding(elements: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each element's place and sign, the same in every process."""
    generator = torch.Generator().manual_seed(elements)
    places = torch.randint(SKETCHED, (elements,), generator=generator)
    signs = torch.randint(2, (elements,), generator=generator) * 2.0 - 1.0
    return places, signs.double()
