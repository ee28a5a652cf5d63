"""Metrics by name: how far a cached run's picture is from the full run's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from otcache_policies import OTCacheError
from torchmetrics.functional.image import structural_similarity_index_measure

from otcache_plugin.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

BEST_PSNR = 100.0
"""dB given to identical pictures, whose ratio is infinite."""


@dataclass(frozen=True)
class Metric:
    """A distance or similarity of pictures.

    Attributes:
        name: as it stands in documents and tables.
        unit: printed behind values, may be empty.
        higher_is_better: the direction of quality.
        compare: candidate and reference, both ``(N, 3, H, W)`` in [0, 1], to ``(N,)`` values.
    """

    name: str
    unit: str
    higher_is_better: bool
    compare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def loss(self, value: float) -> float:
        """A value turned so that smaller is better."""
        return -value if self.higher_is_better else value


def _psnr(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    error = (candidate.double() - reference.double()).square().flatten(1).mean(1)
    return (-10.0 * error.log10()).clamp(max=BEST_PSNR)


def _mse(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (candidate.double() - reference.double()).square().flatten(1).mean(1)


def _ssim(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    values = structural_similarity_index_measure(
        candidate, reference, data_range=1.0, reduction="none"
    )
    assert isinstance(values, torch.Tensor)
    return values.double()


@cache
def _lpips_network(backbone: str) -> torch.nn.Module:
    import lpips

    try:
        return lpips.LPIPS(net=backbone, verbose=False).eval()
    except OSError as error:
        raise OTCacheError(
            f"lpips needs the pretrained weights of {backbone}, which torchvision downloads when "
            f"they are first used, and could not ({error}). Connect once, or use another metric: "
            "psnr, ssim or mse."
        ) from error


def _lpips(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        distances = _lpips_network("alex")(candidate, reference, normalize=True)
    return distances.flatten().double()


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", "dB", higher_is_better=True, compare=_psnr),
        Metric("ssim", "", higher_is_better=True, compare=_ssim),
        Metric("mse", "", higher_is_better=False, compare=_mse),
        Metric("lpips", "", higher_is_better=False, compare=_lpips),
    )
}


def metric_named(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UnknownNameError: there is none; the message lists those there are.
    """
    if name not in METRICS:
        raise UnknownNameError("metric", name, "no such metric", f"Use {', '.join(METRICS)}")
    return METRICS[name]
