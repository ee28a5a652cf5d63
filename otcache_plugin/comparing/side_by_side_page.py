"""The page of what was tried: each prompt's pictures side by side, and what they took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_plugin.comparing.contenders.policies import LABELS
from otcache_plugin.comparing.pages import SMALL, picture_uri, render

if TYPE_CHECKING:
    from otcache_plugin.comparing.method_row import MethodRow
    from otcache_plugin.comparing.side_by_side import SideBySide

TEMPLATE = "side_by_side.html.j2"

AMPLIFIED = 5
"""By which differences are made brighter, most of which could not be seen otherwise."""


@dataclass(frozen=True)
class Shown:
    """A picture on the page.

    Attributes:
        method: whose it is, "full" for the full run's.
        label: of the method.
        uri: the PNG as a data URI.
        alt: what it shows, in words.
        computed: steps that were.
        seconds: that a call took.
        speedup: over the full run; None for the full run itself.
        psnr: in dB to the full run's, likewise.
        ssim: to the full run's, likewise.
    """

    method: str
    label: str
    uri: str
    alt: str
    computed: int
    seconds: float
    speedup: float | None = None
    psnr: float | None = None
    ssim: float | None = None


def render_side_by_side(result: SideBySide, command: str) -> str:
    """Return the page as HTML, with the command that makes it again."""
    height, width = result.full_pictures.shape[-2:]
    return render(
        TEMPLATE,
        result=result,
        settings=result.settings,
        prompts=[(pair.prompt, shown(result, i)) for i, pair in enumerate(result.settings.pairs)],
        labels=LABELS,
        size=(width, height),
        pixelated=max(height, width) <= SMALL,
        amplified=AMPLIFIED,
        command=command,
        use=_use(result),
    )


def shown(result: SideBySide, index: int) -> list[Shown]:
    """Return a prompt's pictures, the full run's first."""
    total, prompt = result.settings.num_inference_steps, result.settings.prompts[index]
    full = Shown(
        "full",
        "full run",
        picture_uri(result.full_pictures[index]),
        f"“{prompt}”, all {total} steps computed",
        total,
        result.full_seconds,
    )
    return [full, *(_of_row(row, index, prompt) for row in result.rows)]


def _of_row(row: MethodRow, index: int, prompt: str) -> Shown:
    label, psnr = LABELS.get(row.method, row.method), float(row.psnr[index])
    total = row.schedule.num_inference_steps
    return Shown(
        row.method,
        label,
        picture_uri(row.pictures[index]),
        f"“{prompt}”, {label}, {row.budget} of {total} steps computed, {psnr:.1f} dB",
        row.budget,
        row.seconds,
        row.speedup,
        psnr,
        float(row.ssim[index]),
    )


def _use(result: SideBySide) -> str:
    """Return the call that switches the tried policy on, as a user would write it."""
    settings = result.settings
    # A budget is one of the document's steps, a speed-up of whatever steps a run has.
    adapted = result.report.adaptation is not None
    share = f"speedup={settings.speedup:.4g}" if adapted else f"budget={settings.budget}"
    return (
        "import cache_dit\nimport otcache_plugin\n\n"
        f"cache_dit.enable_cache(pipe, policy={settings.policy!r}, {share})"
    )
