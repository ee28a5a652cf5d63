"""Quality against what it costs, as SVG that follows the reader's light or dark mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from otcache_plugin.comparing.contenders.policies import MEANCACHE, OTCACHE, UNIFORM
from otcache_plugin.comparing.pages import render
from otcache_plugin.comparing.tables import flops_unit
from otcache_plugin.comparing.wording import digits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_plugin.comparing.results import ComparisonResult, Row

TEMPLATE = "plot.svg.j2"
WIDTH, HEIGHT = 460, 300
MARGIN = 0.06

NAMED = (OTCACHE, MEANCACHE, UNIFORM)
"""Methods with colours of their own on every page; the others take those below in turn."""

HUES = (265, 150, 45, 330, 195, 95, 20, 290)
SHAPES = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Attributes:
        colour: as CSS says it, legible on light and on dark.
        shape: of its marks.
        named: whether its colour is its own on every page.
    """

    colour: str
    shape: str
    named: bool = False


@dataclass(frozen=True)
class Mark:
    """A variant in a plot.

    Attributes:
        x: of its middle.
        y: likewise.
        title: what it is, in words.
    """

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Series:
    """A method in a plot: its marks, joined from left to right."""

    label: str
    style: Style
    marks: tuple[Mark, ...]

    @property
    def points(self) -> str:
        """The line, as SVG writes it."""
        return " ".join(f"{mark.x},{mark.y}" for mark in self.marks)


@dataclass(frozen=True)
class Axis:
    """One axis: its ticks, in the plot's coordinates, with what stands beside them."""

    label: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Plot:
    """Quality against a cost."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """Return how each method is drawn, different for each of up to thirty."""
    others = [method for method in methods if method not in NAMED]
    found = {name: Style(f"var(--{name})", "circle", True) for name in NAMED if name in methods}
    for index, method in enumerate(others):
        turn, hue = divmod(index, len(HUES))
        colour = f"hsl({HUES[hue]} 55% 52%)"
        found[method] = Style(colour, SHAPES[(turn + hue + 1) % len(SHAPES)])
    return {method: found[method] for method in methods}


def quality_plots(result: ComparisonResult) -> tuple[Plot, Plot]:
    """Return quality against measured speed-up, and against operations."""
    metric = result.quality
    unit = f", {metric.unit}" if metric.unit else ""
    name = metric.name.upper()
    per, unit_name = flops_unit(result)
    quality = f"{name}{unit} ({'higher' if metric.higher_is_better else 'lower'} is better)"
    return (
        _plot(
            result,
            f"{name} against measured speed-up",
            "times as fast as the full run",
            lambda row: row.loop_speedup,
            quality,
        ),
        _plot(
            result,
            f"{name} against operations",
            f"{unit_name} per picture",
            lambda row: row.counts.flops / per,
            quality,
        ),
    )


def _plot(
    result: ComparisonResult, title: str, x_label: str, cost: Callable[[Row], float], y_label: str
) -> Plot:
    metric = result.quality.name
    xs, ys = [cost(row) for row in result.rows], [row.mean(metric) for row in result.rows]
    x_scale, x_ticks = _scale(xs, WIDTH)
    y_scale, y_ticks = _scale(ys, -HEIGHT)
    style = styles(result.methods)
    series = tuple(
        Series(
            rows[0].label,
            style[method],
            tuple(
                Mark(
                    x_scale(cost(row)),
                    y_scale(row.mean(metric)),
                    _title(row, metric),
                )
                for row in sorted(rows, key=cost)
            ),
        )
        for method in result.methods
        if (rows := result.of_method(method))
    )
    # The methods that are shown first are drawn last, on top.
    return Plot(title, Axis(x_label, x_ticks), Axis(y_label, y_ticks), series[::-1])


def _title(row: Row, metric: str) -> str:
    value = f"{row.mean(metric):.{digits_of(metric)}f}"
    return f"{row.label}, {row.variant.setting}: {value}, {row.loop_speedup:.2f} times as fast"


def _scale(
    values: Sequence[float], extent: float
) -> tuple[Callable[[float], float], tuple[tuple[float, str], ...]]:
    """Return what puts a value on an axis, downwards for a negative extent, and its ticks."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = MARGIN * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        share = (value - low) / (high - low)
        return round((share if extent > 0 else 1 - share) * abs(extent), 1)

    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return place, tuple((place(tick), f"{tick:g}") for tick in ticks if low <= tick <= high)


def render_plot(plot: Plot) -> str:
    """Return a plot as an SVG file of its own, with its legend."""
    return render(TEMPLATE, plot=plot, size=(WIDTH, HEIGHT), alone=True)
