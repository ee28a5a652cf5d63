"""Which metrics a benchmark gives: PSNR and SSIM always, LPIPS where its weights are named.

    --lpips-home DIR, or OTCACHE_LPIPS_HOME=DIR

DIR is a TORCH_HOME with the weights of AlexNet and VGG16, such as `tools/lpips_weights.py` makes. A
benchmark that is given none says so, and never downloads them.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

from otcache_plugin.evaluation.lpips_networks import BACKBONES
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from otcache_plugin.evaluation.metrics import Metric

OPTION = "--lpips-home"
VARIABLE = "OTCACHE_LPIPS_HOME"
ALWAYS = ("psnr", "ssim")
LPIPS = ("lpips", "lpips-vgg")


def add_lpips_option(parser: ArgumentParser) -> None:
    """Give a benchmark the option, which the variable stands in for."""
    parser.add_argument(
        OPTION,
        type=weights_folder,
        default=os.environ.get(VARIABLE),
        help=f"TORCH_HOME with LPIPS's weights, for its columns; default: {VARIABLE}",
    )


def weights_folder(text: str) -> Path:
    """Return the folder.

    Raises:
        ArgumentTypeError: a file of weights is missing in it.
    """
    folder = Path(text).expanduser().absolute()
    for backbone in BACKBONES.values():
        path = folder / "hub" / "checkpoints" / backbone.file_name
        if not path.exists():
            raise ArgumentTypeError(
                f"there is no {path}; make it: python tools/lpips_weights.py --output {text}"
            )
    return folder


def metrics_with(lpips_home: Path | None, *further: str) -> list[Metric]:
    """Return the metrics of a table, LPIPS's weights from then on taken from the folder.

    Args:
        lpips_home: what the option gave; None leaves LPIPS out, which is said on stderr.
        further: names of metrics between the others and LPIPS.
    """
    names = (*ALWAYS, *further)
    if lpips_home is None:
        print(
            f"LPIPS is left out: neither {OPTION} nor {VARIABLE} names a folder with its weights, "
            "which tools/lpips_weights.py makes",
            file=sys.stderr,
        )
    else:
        os.environ["TORCH_HOME"] = str(lpips_home)
        names += LPIPS
    return [plugin_host().metric(name) for name in names]
