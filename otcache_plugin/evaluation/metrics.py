"""What a metric is, and the built-in ones: how far a cached run is from the full one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from otcache_policies import FieldError
from torchmetrics.functional.image import structural_similarity_index_measure

from otcache_plugin.evaluation.lpips_networks import BACKBONES, lpips_distance, lpips_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from otcache_plugin.evaluation.outputs import Outputs, Space
    from otcache_plugin.evaluation.pairs import Pair

__all__ = ["METRICS", "Metric", "Preparing", "TensorMetric", "Weighty", "is_at_hand"]

BEST_PSNR = 100.0
"""dB given to identical pictures, whose ratio is infinite."""

SLICE = 16
"""Pictures, or pairs' latents, that are compared at a time: networks need memory for each."""


class Metric(Protocol):
    """What outputs are judged by: against the full run's, the prompts, or both."""

    @property
    def name(self) -> str:
        """As it stands in documents and tables."""
        ...

    @property
    def unit(self) -> str:
        """Printed behind values, may be empty."""
        ...

    @property
    def space(self) -> Space:
        """What it looks at: only for "pictures" are the latents decoded."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """The direction of quality."""
        ...

    def values(
        self, candidate: Outputs, reference: Outputs, pairs: Sequence[Pair]
    ) -> NDArray[np.float64]:
        """Return `(N,)` values, one per pair.

        Args:
            candidate: what is judged.
            reference: the full runs' outputs of the same pairs.
            pairs: the N prompts and seeds that both were generated from, in their order.
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """A metric that needs something before it can judge, such as the weights of a network."""

    def prepare(self) -> None:
        """Have it ready, or raise; a calibration calls this before it measures anything."""
        ...


@runtime_checkable
class Weighty(Protocol):
    """A metric that needs something large, which may have to be downloaded."""

    def is_at_hand(self) -> bool:
        """Return whether all that it needs is there; downloads nothing."""
        ...


def is_at_hand(metric: Metric) -> bool:
    """Return whether a metric can judge without a download."""
    return not isinstance(metric, Weighty) or metric.is_at_hand()


def _nothing() -> None:
    """Prepare what needs no preparation."""


def _always() -> bool:
    """Say that what needs nothing is at hand."""
    return True


@dataclass(frozen=True)
class TensorMetric:
    """A metric that compares pictures, or latents, and nothing else.

    Attributes:
        name: as it stands in documents and tables.
        unit: printed behind values, may be empty.
        space: what is compared: single pictures, a video's frame by frame, or latents.
        higher_is_better: the direction of quality.
        compare: candidate and reference, both `(M, 3, H, W)` pictures in [0, 1] or `(M, …)`
            latents, to `(M,)` values.
        prepare: has what `compare` needs ready, or raises.
        is_at_hand: returns whether that needs no download.
    """

    name: str
    unit: str
    space: Space
    higher_is_better: bool
    compare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    prepare: Callable[[], None] = _nothing
    is_at_hand: Callable[[], bool] = _always

    def values(
        self, candidate: Outputs, reference: Outputs, pairs: Sequence[Pair]
    ) -> NDArray[np.float64]:
        """Return `(N,)` values, one per pair: a video's is the mean over its frames.

        Raises:
            FieldError: pictures are to be compared and were not decoded, or shapes differ.
        """
        ours, theirs = (
            self._compared("candidate", candidate),
            self._compared("reference", reference),
        )
        if ours.shape != theirs.shape:
            raise FieldError(
                "candidate",
                tuple(ours.shape),
                f"the {self.space} of the reference are of shape {tuple(theirs.shape)}",
                "Generate both from the same pairs with the same arguments",
            )
        if self.space == "latents":
            return self._in_slices(ours, theirs)
        frames = self._in_slices(ours.flatten(0, 1), theirs.flatten(0, 1))
        means: NDArray[np.float64] = frames.reshape(ours.shape[:2]).mean(axis=1)
        return means

    def _compared(self, side: str, outputs: Outputs) -> torch.Tensor:
        if self.space == "latents":
            return outputs.latents
        if outputs.pictures is None:
            raise FieldError(
                "metric",
                self.name,
                f"compares pictures, and those of the {side} were not decoded",
                "Generate them with spaces={'pictures'}, or use a metric of latents",
            )
        return outputs.pictures

    def _in_slices(self, ours: torch.Tensor, theirs: torch.Tensor) -> NDArray[np.float64]:
        values = [
            self.compare(ours[start : start + SLICE], theirs[start : start + SLICE])
            for start in range(0, len(ours), SLICE)
        ]
        compared: NDArray[np.float64] = torch.cat(values).double().cpu().numpy()
        return compared


def _psnr(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (-10.0 * _mse(candidate, reference).log10()).clamp(max=BEST_PSNR)


def _mse(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (candidate.double() - reference.double()).square().flatten(1).mean(1)


def _l1(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (candidate.double() - reference.double()).abs().flatten(1).mean(1)


def _ssim(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    values = structural_similarity_index_measure(
        candidate, reference, data_range=1.0, reduction="none"
    )
    assert isinstance(values, torch.Tensor)
    return values.double()


def _lpips(name: str, net: str) -> TensorMetric:
    def prepare() -> None:
        lpips_network(net)

    return TensorMetric(
        name,
        "",
        "pictures",
        higher_is_better=False,
        compare=lpips_distance(net),
        prepare=prepare,
        is_at_hand=lambda: BACKBONES[net].weights_file().exists(),
    )


METRICS = {
    metric.name: metric
    for metric in (
        TensorMetric("psnr", "dB", "pictures", higher_is_better=True, compare=_psnr),
        TensorMetric("ssim", "", "pictures", higher_is_better=True, compare=_ssim),
        TensorMetric("mse", "", "pictures", higher_is_better=False, compare=_mse),
        _lpips("lpips", "alex"),
        _lpips("lpips-vgg", "vgg"),
        TensorMetric("latent-l1", "", "latents", higher_is_better=False, compare=_l1),
        TensorMetric("latent-mse", "", "latents", higher_is_better=False, compare=_mse),
    )
}
"""The built-in ones, which `otcache_plugin.builtin` registers."""
