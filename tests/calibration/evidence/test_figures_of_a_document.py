"""The figures of a document are PNG files that show the document's own numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from otcache_policies import EdgeSettings, EdgeTable, MeanCachePolicy, OTCachePolicy, lift
from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    EvidenceRow,
    GraphSettings,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    Sampling,
    ScheduleRecord,
    ServedBudgets,
    StoredPolicy,
    tables_digest,
)
from scipy import stats
from stored_policies import HOST, otcache_of

from otcache_plugin.calibration.evidence.figures import (
    comparisons,
    differences_figure,
    draw_figures,
    quality_figure,
    search_figure,
)
from otcache_plugin.calibration.evidence.schedule_figures import (
    ShownSchedule,
    gaps_figure,
    schedules_figure,
    shown_schedules,
)
from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.otcache import OTCacheParameters

STEPS, ANCHOR, REFERENCE = 30, 5, 14
BUDGETS = (5, 7, 10, 14, 20)
PSNR = {"fewer-steps": 15.0, "uniform": 20.0, "meancache": 25.0, "otcache": 27.0}
LPIPS = {"fewer-steps": 0.6, "uniform": 0.5, "meancache": 0.3, "otcache": 0.2}
PAIRS = 9


def row(policy: str, budget: int, metric: str, mean: float, **changes: Any) -> EvidenceRow:
    fields: dict[str, Any] = {"standard_error": 0.01 * budget, "pairs": PAIRS}
    if policy == "otcache":
        difference = mean / 10 + budget
        fields |= {
            "compared_to": "meancache",
            "difference_mean": difference,
            "difference_low": difference - 1.5,
            "difference_high": difference + 2.0,
            "win_rate": 0.75,
        }
    return EvidenceRow(policy=policy, budget=budget, metric=metric, mean=mean, **fields | changes)


def evidence() -> tuple[EvidenceRow, ...]:
    """Means that grow with the budget by another slope per policy."""
    return tuple(
        row(policy, budget, metric, mean * (1 + budget / 100))
        for budget in BUDGETS
        for metric, means in (("psnr", PSNR), ("lpips", LPIPS))
        for policy, mean in means.items()
    )


@pytest.fixture(scope="module")
def edges() -> EdgeTable:
    """Errors that grow with the gap, most of all early on."""
    start, end = np.indices((STEPS, STEPS))
    errors = np.maximum(end - start - 1, 0) ** 1.5 / (3 + start)
    errors = np.repeat(errors[..., None], 3, axis=2)
    errors[end <= start] = np.inf
    return EdgeTable(errors.astype(np.float32), np.linspace(1.0, 0.0, STEPS + 1))


@pytest.fixture(scope="module")
def make_document(edges: EdgeTable) -> Callable[..., PolicyDocument]:
    """Return a factory of documents, by evidence, history and metric of the search."""
    settings = EdgeSettings("displacement", 2.0)
    graph = MeanCachePolicy(edges, settings)

    def make(
        rows: Sequence[EvidenceRow] = (),
        history: Sequence[float] = (),
        metric: str = "psnr",
        waypoints: Sequence[int] = (),
    ) -> PolicyDocument:
        parameters = OTCacheParameters(
            anchor=ScheduleRecord.of(graph.schedule(ANCHOR)),
            waypoints=tuple(ScheduleRecord.of(graph.schedule(budget)) for budget in waypoints),
            reference=ScheduleRecord.of(graph.schedule(REFERENCE)),
            rho=1.2,
            graph=GraphSettings.of(settings),
        )
        return PolicyDocument(
            schema=POLICY_SCHEMA,
            policy=PolicyIdentity(name="otcache", distribution="otcache-plugin"),
            model=ModelReference(id="example/model", revision="1"),
            sampling=Sampling(
                pipeline="P",
                scheduler="S",
                num_inference_steps=STEPS,
                sigmas=tuple(edges.sigmas.tolist()),
                height=None,
                width=None,
                guidance={},
            ),
            default_budget=10,
            budgets=ServedBudgets(smallest=ANCHOR, largest=STEPS, calibrated=parameters.budgets),
            parameters=parameters.model_dump(),
            calibration=Calibration(
                pairs=12,
                seed=0,
                batch_size=4,
                prompts_digest="a" * 64,
                held_out_digest="b" * 64,
                metric=metric,
                settings={
                    "effort": "paper",
                    "reference_budget": REFERENCE,
                    "anchor_budget": ANCHOR,
                    "search": "joint",
                    "trials": 3,
                    "history": tuple(history),
                },
                evaluations=4,
                values=64,
                values_not_finite=0,
                transformer_calls=100,
                denoising_steps=900,
                evidence_steps=300,
                seconds=1.0,
                libraries={},
                device="nothing: made up",
                created="2026-01-31T12:00:00+00:00",
            ),
            evidence=tuple(rows),
            tables_sha256=tables_digest(tables_of(edges)),
        )

    return make


@pytest.fixture(scope="module")
def document(make_document: Callable[..., PolicyDocument]) -> PolicyDocument:
    """A document with evidence by two metrics and a history."""
    return make_document(evidence(), (-21.0, -21.0, -22.5, -23.0))


@pytest.fixture(scope="module")
def figures(document: PolicyDocument, edges: EdgeTable) -> dict[str, bytes]:
    """Its figures."""
    return draw_figures(document, tables_of(edges))


def policy_of(document: PolicyDocument, edges: EdgeTable) -> OTCachePolicy:
    return otcache_of(StoredPolicy(document, tables_of(edges), ""))


def shown_of(document: PolicyDocument, edges: EdgeTable) -> list[ShownSchedule]:
    return shown_schedules(document, policy_of(document, edges), HOST.describe(document))


def labels(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]


def error_bars(axes: Axes) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Budgets, means and half-widths by label."""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        x, y = line.get_data()
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        found[container.get_label()] = np.array(x), np.array(y), (ends[:, 1] - ends[:, 0]) / 2
    return found


def test_names(figures: dict[str, bytes]) -> None:
    assert sorted(figures) == [
        *["differences.png", "gaps.png", "quality.png", "schedules.png", "search.png"],
    ]


def test_they_are_png_files_twice_as_wide_as_a_page(figures: dict[str, bytes]) -> None:
    for name, data in figures.items():
        assert data[:8] == b"\x89PNG\r\n\x1a\n", name
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        assert width == 1400
        assert 600 <= height <= 1400, name
        assert 10_000 < len(data) < 300_000, name
        assert b"Software" not in data


def test_the_same_document_gives_the_same_bytes(
    document: PolicyDocument, edges: EdgeTable, figures: dict[str, bytes]
) -> None:
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 10}):
        again = draw_figures(document, tables_of(edges))
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in figures.items()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in again.items()} == digests
    assert dict(mpl.rcParams) == before


def test_without_evidence_and_history_only_schedules_are_shown(
    make_document: Callable[..., PolicyDocument], edges: EdgeTable
) -> None:
    bare = make_document()
    assert sorted(draw_figures(bare, tables_of(edges))) == ["gaps.png", "schedules.png"]
    assert [shown.label for shown in shown_of(bare, edges)] == [
        "anchor, 5 steps",
        "reference, 14 steps",
    ]


def test_without_a_comparison_there_are_no_differences(
    make_document: Callable[..., PolicyDocument], edges: EdgeTable
) -> None:
    alone = make_document([each for each in evidence() if each.policy != "otcache"])
    assert sorted(draw_figures(alone, tables_of(edges))) == [
        "gaps.png",
        "quality.png",
        "schedules.png",
    ]


def test_schedules_are_the_policys(document: PolicyDocument, edges: EdgeTable) -> None:
    policy = policy_of(document, edges)
    shown = shown_of(document, edges)
    assert [each.schedule for each in shown] == [policy.schedule(b) for b in (5, 7, 10, 14)]
    assert [each.role for each in shown] == ["anchor", "predicted", "predicted", "reference"]
    assert len({each.colour for each in shown}) == 4


def test_of_many_predictions_some_are_shown(
    make_document: Callable[..., PolicyDocument], edges: EdgeTable
) -> None:
    rows = [row("uniform", budget, "psnr", 1.0) for budget in range(2, 30)]
    shown = shown_of(make_document(rows), edges)
    assert [each.schedule.budget for each in shown] == [5, 6, 8, 10, 11, 13, 14]


def test_all_waypoints_are_shown(
    make_document: Callable[..., PolicyDocument], edges: EdgeTable
) -> None:
    rows = [row("uniform", budget, "psnr", 1.0) for budget in range(5, 13)]
    shown = shown_of(make_document(rows, waypoints=(7, 10)), edges)
    # Of 6, 8, 9, 11 and 12, there is room for three.
    assert [each.label for each in shown] == [
        "anchor, 5 steps",
        "predicted, 6 steps",
        "waypoint, 7 steps",
        "predicted, 9 steps",
        "waypoint, 10 steps",
        "predicted, 12 steps",
        "reference, 14 steps",
    ]
    many = shown_of(make_document(rows, waypoints=(6, 7, 8, 9, 10, 11)), edges)
    assert [each.role for each in many] == ["anchor", *["waypoint"] * 6, "reference"]


def test_curves_go_through_the_computed_steps(document: PolicyDocument, edges: EdgeTable) -> None:
    shown = shown_of(document, edges)
    figure = schedules_figure(shown)
    (axes,) = figure.axes
    diagonal, *lines = axes.lines
    assert [list(values) for values in diagonal.get_data()] == [[0, 1], [0, 1]]
    assert diagonal.get_linestyle() == "--"
    curves, dots = lines[::2], lines[1::2]
    for each, curve, dotted in zip(shown, curves, dots, strict=True):
        last = len(each.schedule.computed_steps) - 1
        progress, position = dotted.get_data()
        assert progress == pytest.approx([i / last for i in range(last + 1)])
        assert position == pytest.approx([step / 29 for step in each.schedule.computed_steps])
        np.testing.assert_array_equal(curve.get_ydata(), lift(each.schedule, 201))
        assert curve.get_color() == dotted.get_color() == each.colour
    assert labels(figure) == ["uniform", *(each.label for each in shown)]


def test_gaps_are_the_segments(document: PolicyDocument, edges: EdgeTable) -> None:
    shown = shown_of(document, edges)
    figure = gaps_figure(shown)
    assert titles(figure) == [each.label for each in shown]
    for each, axes in zip(shown, figure.axes, strict=True):
        steps = each.schedule.computed_steps
        bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in axes.patches]
        assert bars == [(a, b - a, b - a) for a, b in pairwise(steps)]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_quality_is_the_evidence(document: PolicyDocument) -> None:
    figure = quality_figure(document)
    quantile = stats.t(PAIRS - 1).interval(0.95)[1]
    for axes, metric in zip(figure.axes, ("psnr", "lpips"), strict=True):
        bars = error_bars(axes)
        assert list(bars) == ["fewer steps", "uniform", "MeanCache", "OTCache"]
        for label, name in zip(bars, PSNR, strict=True):
            own = {
                each.budget: each
                for each in document.evidence
                if (each.policy, each.metric) == (name, metric)
            }
            budgets, means, half_widths = bars[label]
            # Set apart so that bars do not cover each other, yet nearer to their own budget.
            assert budgets == pytest.approx(BUDGETS, abs=0.4)
            assert list(means) == [own[budget].mean for budget in BUDGETS]
            assert half_widths == pytest.approx(
                [quantile * own[budget].standard_error for budget in BUDGETS]
            )
    assert labels(figure) == ["fewer steps", "uniform", "MeanCache", "OTCache"]


def test_titles_say_which_way_is_better(document: PolicyDocument) -> None:
    assert titles(quality_figure(document)) == [
        "PSNR (dB): higher is better",
        "LPIPS: lower is better",
    ]
    assert titles(differences_figure(document)) == [
        "PSNR (dB): OTCache is better above 0",
        "LPIPS: OTCache is better below 0",
    ]


def test_differences_are_the_evidences(document: PolicyDocument) -> None:
    for axes, metric in zip(differences_figure(document).axes, ("psnr", "lpips"), strict=True):
        own = [each for each in comparisons(document) if each.metric == metric]
        assert [each.budget for each in own] == list(BUDGETS)
        zero, means = axes.lines
        assert list(zero.get_ydata()) == [0, 0]
        assert list(means.get_xdata()) == list(BUDGETS)
        assert list(means.get_ydata()) == [each.difference_mean for each in own]
        (intervals,) = axes.collections
        assert [segment.tolist() for segment in intervals.get_segments()] == [
            [[each.budget, each.difference_low], [each.budget, each.difference_high]]
            for each in own
        ]


@pytest.mark.parametrize(
    ("metric", "history", "shown", "title"),
    [
        ("psnr", (-21.0, -21.0, -23.5), [21.0, 21.0, 23.5], "from 21 to 23.5 dB"),
        ("lpips", (0.5, 0.25, 0.25), [0.5, 0.25, 0.25], "from 0.5 to 0.25"),
        ("own", (0.5,), [0.5], "from 0.5 to 0.5"),
    ],
)
def test_search_is_the_history_in_the_metrics_own_direction(
    make_document: Callable[..., PolicyDocument],
    metric: str,
    history: tuple[float, ...],
    shown: list[float],
    title: str,
) -> None:
    document = make_document((), history, metric)
    figure = search_figure(document, HOST.describe(document))
    (axes,) = figure.axes
    level, best, start = axes.lines
    assert list(best.get_xdata()) == list(range(len(shown)))
    assert list(best.get_ydata()) == shown
    assert best.get_drawstyle() == "steps-post"
    assert (*start.get_xdata(), *start.get_ydata()) == (0, shown[0])
    assert set(level.get_ydata()) == {shown[0]}
    assert titles(figure) == [f"Search of the 5-step anchor: {title}"]


def test_names_from_the_document_are_shown_as_they_are_or_shortened(
    make_document: Callable[..., PolicyDocument], edges: EdgeTable
) -> None:
    policy, metric = "_a_policy of $x$" + "y" * 900, "m$_" * 300
    odd = make_document(
        [row(policy, 6, metric, 1.0), row("otcache", 6, metric, 2.0, pairs=20)], (0.5,), metric
    )
    figure = quality_figure(odd)
    (axes,) = figure.axes
    assert labels(figure) == ["OTCache", " _a_policy of $x$" + "y" * 11 + "…"]
    assert titles(figure) == ["m$_" * 9 + "…"]
    assert axes.get_ylabel() == "mean of 9 to 20 pairs"
    for name, data in draw_figures(odd, tables_of(edges)).items():
        # Nothing that is long makes a figure larger.
        assert int.from_bytes(data[16:20], "big") == 1400, name
