"""Outputs of runs as the arrays that a working folder keeps, and how far two of them are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from otcache_plugin.calibration.measuring.sketches import sketch
from otcache_plugin.evaluation.outputs import Outputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def displacement(outputs: Outputs, full: Outputs) -> NDArray[np.float32]:
    """Return `(N, k)` of what is compared: of the pictures where there are any."""
    if outputs.pictures is None or full.pictures is None:
        return sketch(outputs.latents - full.latents)
    return sketch(outputs.pictures - full.pictures)


def arrays_of(outputs: Outputs, sigmas: torch.Tensor) -> dict[str, NDArray[Any]]:
    """Return what is kept of a full run: its outputs, and its noise schedule."""
    arrays = {"latents": outputs.latents.numpy(), "sigmas": sigmas.double().numpy()}
    if outputs.pictures is not None:
        arrays["pictures"] = outputs.pictures.numpy()
    return arrays


def outputs_of(arrays: Mapping[str, NDArray[Any]]) -> Outputs:
    """Return the outputs that such arrays hold."""
    pictures = arrays.get("pictures")
    return Outputs(
        torch.from_numpy(np.array(arrays["latents"])),
        None if pictures is None else torch.from_numpy(np.array(pictures)),
    )
