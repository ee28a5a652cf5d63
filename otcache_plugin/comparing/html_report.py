"""The report of a comparison: tables, pictures, and the schedules drawn.

Figures are inline SVG that takes its colours from the page, so that they follow the reader's light
or dark mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import lift

from otcache_plugin.comparing.pages import picture_uri, render
from otcache_plugin.comparing.three_methods import BUNDLED, LABELS
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from otcache_policies import Schedule
    from otcache_registry import PolicyDetails

    from otcache_plugin.comparing.results import ComparisonResult, MethodRow
    from otcache_plugin.evaluation.statistics import PairedDifference

TEMPLATE = "html_report.html.j2"
SHOWN_PAIRS = 6
"""Pairs whose pictures are shown: the first ones, so that nobody chose them."""

LOST = 20.0
"""dB below which a picture is marked: it shows other things than the full run's."""

PLOT_WIDTH, PLOT_HEIGHT = 400, 300
CURVE_RESOLUTION = 101


@dataclass(frozen=True)
class ModelNotes:
    """What a reader has to know of a model.

    Attributes:
        what: it is, to follow "the model is".
        speed: what its speed-ups are worth, a sentence.
    """

    what: str
    speed: str


MODELS = {
    "embedded": ModelNotes(
        "a small FLUX pipeline of 32 × 32 scenes, trained for this package and shipped with it: a "
        "toy with a real transformer, autoencoder and text encoders",
        "On a large model the transformer takes a larger share of the time, and the speed-up comes "
        "nearer to its limit.",
    ),
    "exact-flow": ModelNotes(
        "a test-bed of 32 × 32 scenes whose velocity is known in closed form: a formula in the "
        "place of a transformer, nothing trained",
        "The formula costs hardly more than the rest of a step, so skipping it gains little time; "
        "the embedded model's times say more.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """One picture of the grid.

    Attributes:
        method: whose it is, "full" for the full run's.
        uri: the PNG as a data URI.
        alt: what it shows, in words.
        psnr: in dB to the full run's; None for the full run itself.
    """

    method: str
    uri: str
    alt: str
    psnr: float | None


@dataclass(frozen=True)
class Curve:
    """A schedule as a curve from progress to position, in the plot's coordinates.

    Attributes:
        kind: "anchor", "between" or "reference", and a number for more than one: its style.
        label: for the legend.
        points: of its line, as SVG writes them.
        dots: x and y of its computed steps.
    """

    kind: str
    label: str
    points: str
    dots: tuple[tuple[float, float], ...]


def render_report(result: ComparisonResult, command: str) -> str:
    """Return the report as HTML, with the command that makes it again."""
    details = plugin_host().describe(result.document)
    return render(
        TEMPLATE,
        result=result,
        document=result.document,
        policy=result.policy,
        details=details,
        model=MODELS[result.model],
        labels=LABELS,
        verdict=verdict,
        grid=picture_grid(result),
        lost=LOST,
        listed=" and ".join(", ".join(map(str, result.settings.budgets)).rsplit(", ", 1)),
        axis=_axis(result.num_inference_steps),
        curves=curves(result, details),
        plot=(PLOT_WIDTH, PLOT_HEIGHT),
        command=command,
        use=_use(result),
    )


def verdict(gain: PairedDifference) -> tuple[str, str]:
    """Return what an interval allows to say: "better", "worse" or "open", and a sentence."""
    if gain.low == gain.high == 0.0:
        return "open", "The same pictures as MeanCache's."
    share = f"Closer to the full run than MeanCache on {100 * gain.win_rate:.0f} % of the pairs."
    if gain.low > 0:
        return "better", share
    if gain.high < 0:
        return "worse", share
    return "open", f"No difference to MeanCache that {gain.pairs} pairs can show."


def picture_grid(result: ComparisonResult) -> list[list[Picture]]:
    """Return one row per shown pair: the full run's picture, then one per row of the result."""
    total = result.num_inference_steps
    grid = []
    for index, pair in enumerate(result.pairs[:SHOWN_PAIRS]):
        full = Picture(
            "full",
            picture_uri(result.full_pictures[index]),
            f"“{pair.prompt}”, all {total} steps computed",
            None,
        )
        grid.append([full, *(_picture(row, index, pair.prompt) for row in result.rows)])
    return grid


def _picture(row: MethodRow, index: int, prompt: str) -> Picture:
    psnr = float(row.psnr[index])
    alt = (
        f"“{prompt}”, {LABELS[row.method]}, {row.budget} of "
        f"{row.schedule.num_inference_steps} steps computed, {psnr:.1f} dB"
    )
    return Picture(row.method, picture_uri(row.pictures[index]), alt, psnr)


def curves(result: ComparisonResult, details: PolicyDetails) -> list[Curve]:
    """Anchor and reference, and between them the schedules of the comparison's budgets."""
    names = {schedule: name for name, schedule in details.schedules}
    # Of a document that says no family the reference is the graph policy's.
    whose = {} if details.heading else {"reference": " (MeanCache)"}
    anchor, reference = result.policy.anchor, result.policy.reference
    between = [
        row.schedule
        for row in result.rows
        if row.method == "otcache" and anchor.budget < row.budget < reference.budget
    ]
    kinds = {
        anchor: "anchor",
        **{schedule: f"between-{number}" for number, schedule in enumerate(between, start=1)},
        reference: "reference",
    }
    return [
        _curve(
            kind,
            f"{names.get(schedule, 'predicted')}, {schedule.budget} steps{whose.get(kind, '')}",
            schedule,
        )
        for schedule, kind in kinds.items()
    ]


def _curve(kind: str, label: str, schedule: Schedule) -> Curve:
    line = _in_plot(np.linspace(0.0, 1.0, CURVE_RESOLUTION), lift(schedule, CURVE_RESOLUTION))
    dots = _in_plot(
        np.linspace(0.0, 1.0, schedule.budget),
        np.array(schedule.computed_steps) / (schedule.num_inference_steps - 1),
    )
    return Curve(kind, label, " ".join(f"{x:.1f},{y:.1f}" for x, y in line), dots)


def _in_plot(progress: np.ndarray, position: np.ndarray) -> tuple[tuple[float, float], ...]:
    """SVG's y grows downwards."""
    x, y = progress * PLOT_WIDTH, (1 - position) * PLOT_HEIGHT
    return tuple(zip(x.round(1).tolist(), y.round(1).tolist(), strict=True))


def _axis(total: int) -> list[int]:
    """Five round steps or fewer, and the last one: 0, 10, 20, 30, 40, 49 of 50."""
    distance = max(round(total / 5), 1)
    return [*(step for step in range(0, total - distance // 2, distance)), total - 1]


def _use(result: ComparisonResult) -> str:
    """Return the calls that the comparison makes, as a user would write them."""
    name = result.model.replace("-", "_")
    policy = result.settings.policy
    if policy != BUNDLED and policy.isidentifier():
        policy = f"./{policy}"  # a bare word would be taken for a policy's name
    return f"""import cache_dit
import otcache_plugin

pipe = otcache_plugin.load_{name}_pipeline()
cache_dit.enable_cache(pipe, policy={policy!r}, budget={result.settings.budgets[-1]})
picture = pipe({result.pairs[0].prompt!r}).images[0]
print(otcache_plugin.summary(pipe))"""
