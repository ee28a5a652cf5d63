"""The page of a comparison: pictures and seconds first, then figures, plots and schedules.

Figures are inline SVG that takes its colours from the page, so that they follow the reader's light
or dark mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otcache_policies import OTCachePolicy
from PIL import Image

from otcache_plugin.comparing import plots, tables, warping_curves
from otcache_plugin.comparing.contenders.policies import MEANCACHE, OTCACHE, UNIFORM
from otcache_plugin.comparing.differences import baseline_of, subject_of, to_baseline
from otcache_plugin.comparing.model_notes import notes_of
from otcache_plugin.comparing.pages import SMALL, picture_file_uri, render
from otcache_plugin.comparing.wording import (
    digits_of,
    headline,
    shown_row,
    signed,
    verdict,
)
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.comparing.differences import Difference
    from otcache_plugin.comparing.results import ComparisonResult, Row

TEMPLATE = "report.html.j2"

LOST = 20.0
"""dB of PSNR below which a picture is marked: it shows other things than the full run's."""

FIRST_PAIRS, FIRST_PAIRS_LARGE = 4, 1
"""Pairs on the first screen, of small pictures and of large ones."""

THUMBNAIL, FIRST = 256, 640
"""Pixels of a side that a page's pictures have at most, and those on its first screen."""

BESIDE = 3
"""Methods beside the full run on the first screen: as many as a phone has room for."""


@dataclass(frozen=True)
class Shown:
    """A picture on the page.

    Attributes:
        row: whose it is.
        uri: its data.
        alt: what it shows, in words.
        psnr: in dB to the full run's; None for the full run itself.
    """

    row: Row
    uri: str
    alt: str
    psnr: float | None


@dataclass(frozen=True)
class Card:
    """What the subject does at one setting.

    Attributes:
        row: the subject's.
        beside: rows of the others at the same budget, on the first screen.
        difference: of it to the baseline, if there is one.
        sentence: what that says.
    """

    row: Row
    beside: tuple[Row, ...]
    difference: Difference | None
    sentence: str


def render_report(result: ComparisonResult, command: str) -> str:
    """Return the report as HTML, with the command that makes it again."""
    return render(
        TEMPLATE,
        result=result,
        every_row=(result.full, *result.rows),
        baseline=baseline_of(result),
        subject=subject_of(result),
        labels={row.method: row.label for row in result.rows},
        styles=plots.styles(result.methods),
        plots=plots.quality_plots(result),
        size=(plots.WIDTH, plots.HEIGHT),
        sheets=[sheet(result, index) for index in range(len(result.full.pictures))],
        lost=LOST,
        tables=tables,
        signed=signed,
        digits=digits_of(result.quality.name),
        scheduled=[row for row in result.rows if row.ran is not None],
        axis=axis(result.num_inference_steps),
        model=notes_of(result.model),
        command=command,
        use=_use(result),
        **_first_screen(result),
        **_of_document(result),
    )


def _first_screen(result: ComparisonResult) -> dict[str, Any]:
    """Return what the page begins with."""
    first, methods, small = shown_row(result), first_methods(result), _small(result)
    nothing = f"Nothing was measured beside the full run of {result.model}"
    pairs = FIRST_PAIRS if small else FIRST_PAIRS_LARGE
    return {
        "first": first,
        "headline": nothing if first is None else headline(result, first),
        "first_grid": [] if first is None else first_grid(result, first, methods, pairs),
        "cards": cards(result, methods),
        "small": small,
    }


def _of_document(result: ComparisonResult) -> dict[str, Any]:
    """Return what there is to say of OTCache's document, where there is one."""
    if result.document is None:
        return {"document": None, "look_back_rule": "", "curves": []}
    stored = result.document
    policy, details = plugin_host().policy_of(stored), plugin_host().describe(stored.document)
    return {
        "document": stored.document,
        "source": stored.source,
        "details": details,
        "policy": policy,
        "look_back_rule": look_back_rule(policy) if isinstance(policy, OTCachePolicy) else "",
        "curves": warping_curves.curves(policy, details, result.settings.budgets)
        if isinstance(policy, OTCachePolicy)
        else [],
        "curve_plot": (warping_curves.PLOT_WIDTH, warping_curves.PLOT_HEIGHT),
    }


def first_methods(result: ComparisonResult) -> list[str]:
    """Return the methods of the first screen: the subject, MeanCache, uniform, or the first few."""
    subject = subject_of(result)
    preferred = [subject, MEANCACHE, UNIFORM, *result.methods]
    there = [name for name in preferred if name in result.methods]
    return [str(name) for name in dict.fromkeys(there)][:BESIDE]


def first_grid(
    result: ComparisonResult, first: Row, methods: Sequence[str], pairs: int
) -> list[list[Shown]]:
    """Return the first screen's pictures: a line per pair, the full run's first."""
    rows = [_at(result, method, first) for method in methods]
    return [
        [shown(result, row, index, FIRST) for row in (result.full, *rows)]
        for index in range(min(pairs, len(result.full.pictures)))
    ]


def _at(result: ComparisonResult, method: str, first: Row) -> Row:
    """Return a method's variant at a row's budget, or else the one that is nearest in speed."""
    rows = result.of_method(method)
    for row in rows:
        if row.budget is not None and row.budget == first.budget:
            return row
    return min(rows, key=lambda row: abs(row.loop_speedup - first.loop_speedup))


def cards(result: ComparisonResult, methods: Sequence[str]) -> list[Card]:
    """Return what the subject does at each of its settings."""
    subject, baseline = subject_of(result), baseline_of(result)
    found = []
    for row in [] if subject is None else result.of_method(subject):
        difference = to_baseline(result, row, result.quality.name)
        sentence = ""
        if difference is not None and baseline is not None:
            sentence = verdict(difference, tables.label_of(result, baseline))
        beside = tuple(
            other
            for method in methods
            for other in result.of_method(method)
            if row.budget is not None and other.budget == row.budget
        )
        found.append(Card(row, beside, difference, sentence))
    return found


def sheet(result: ComparisonResult, index: int) -> list[Shown]:
    """Return a pair's picture by every variant, the full run's first."""
    return [shown(result, row, index, THUMBNAIL) for row in (result.full, *result.rows)]


def shown(result: ComparisonResult, row: Row, index: int, side: int) -> Shown:
    """Return a pair's picture by a variant, scaled down to a side."""
    prompt, uri = result.pairs[index].prompt, picture_file_uri(row.pictures[index], side)
    if row is result.full:
        return Shown(row, uri, f"“{prompt}”, {row.variant.setting} computed", None)
    psnr = float(row.values["psnr"][index])
    alt = f"“{prompt}”, {row.label}, {row.variant.setting}, {psnr:.1f} dB"
    return Shown(row, uri, alt, psnr)


def _small(result: ComparisonResult) -> bool:
    with Image.open(result.full.pictures[0]) as picture:
        return max(picture.size) <= SMALL


def look_back_rule(policy: OTCachePolicy) -> str:
    """Return the rule by which uniform and MeanCache look back, in words."""
    look_back = policy.settings.look_back
    if look_back is None:
        return "on each segment the look-back that the document's edge table finds best"
    return f"look-back {look_back} on every segment"


def axis(total: int) -> list[int]:
    """Five round steps or fewer, and the last one: 0, 10, 20, 30, 40, 49 of 50."""
    distance = max(round(total / 5), 1)
    return [*(step for step in range(0, total - distance // 2, distance)), total - 1]


def _use(result: ComparisonResult) -> str:
    """Return the calls that the comparison makes, as a user would write them."""
    budget = result.settings.budgets[-1]
    policy = next(iter(result.settings.documents), OTCACHE)
    if policy != OTCACHE and policy.isidentifier():
        policy = f"./{policy}"  # a bare word would be taken for a policy's name
    load = notes_of(result.model).load
    return f"""{load}
cache_dit.enable_cache(pipe, policy={policy!r}, budget={budget})
picture = pipe({result.pairs[0].prompt!r}).images[0]
print(otcache_plugin.summary(pipe))"""
