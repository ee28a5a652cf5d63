"""The page is one well-formed file that needs nothing else and shows what was measured."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from comparison_helpers import BUDGETS, METHODS
from html_page import Page
from otcache_registry import StoredPolicy
from PIL import Image
from stored_policies import otcache_of

from otcache_plugin.comparing.contenders.policies import LABELS
from otcache_plugin.comparing.differences import to_baseline
from otcache_plugin.comparing.lineup import NotRun
from otcache_plugin.comparing.plots import quality_plots, render_plot
from otcache_plugin.comparing.report import render_report
from otcache_plugin.comparing.results import ComparisonResult, Row
from otcache_plugin.comparing.sheets import contact_sheet
from otcache_plugin.comparing.tables import csv_text, markdown
from otcache_plugin.comparing.warping_curves import curves
from otcache_plugin.comparing.wording import headline, interval, shown_row, verdict
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.plugins.host import plugin_host

COMMAND = "otcache demo --model exact-flow --pairs 8"
SHOWN, FIRST = 6, 4


@pytest.fixture(scope="session")
def html(compared: ComparisonResult) -> str:
    return render_report(compared, COMMAND)


@pytest.fixture(scope="session")
def page(html: str) -> Page:
    return Page(html)


def stored_of(compared: ComparisonResult) -> StoredPolicy:
    assert compared.document is not None
    return compared.document


def test_needs_nothing_else(html: str, page: Page) -> None:
    without_data = re.sub(r"data:[^\"]*", "", html)
    assert not re.search(r"https?:|//|url\(|@import|<script|<iframe", without_data)
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")


def test_ids_are_unique_and_meant(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids


def test_begins_with_a_sentence_pictures_and_seconds(
    page: Page, compared: ComparisonResult
) -> None:
    first = shown_row(compared)
    assert first is not None
    assert first.method == "otcache"
    assert page.text.index(headline(compared, first)) < 60
    rows = [compared.full, *(compared.row(method, first.budget or 0) for method in METHODS)]
    for index, image in enumerate(page.all("img")[: FIRST * 4]):
        pair, column = divmod(index, 4)
        shown(image["src"], rows[column], pair)
        assert compared.pairs[pair].prompt in image["alt"]
    # OTCache comes first beside the full run, MeanCache second, with their seconds.
    labels = re.findall(r"(full run|OTCache|MeanCache|uniform) ([\d.]+) s", page.text)[:4]
    assert labels == [
        ("full run", f"{compared.full.seconds:.2f}"),
        *((row.label, f"{row.seconds:.2f}") for row in rows[1:]),
    ]


def shown(uri: str, row: Row, pair: int) -> None:
    """Assert that a picture of the page is the one that was kept."""
    data = b64decode(uri.removeprefix("data:image/png;base64,"))
    with Image.open(row.pictures[pair]) as kept:
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(data))), np.asarray(kept))


def test_pictures_of_every_method(page: Page, compared: ComparisonResult) -> None:
    images = page.all("img")[FIRST * 4 :]
    rows = [compared.full, *compared.rows]
    assert len(images) == SHOWN * len(rows)
    for index, image in enumerate(images):
        pair, column = divmod(index, len(rows))
        shown(image["src"], rows[column], pair)
        assert compared.pairs[pair].prompt in image["alt"]
        assert rows[column].variant.setting in image["alt"]


def test_psnr_under_the_pictures(html: str, compared: ComparisonResult) -> None:
    found = re.findall(r"([\d.]+) dB(?:</span>)?</figcaption>", html)[FIRST * 3 :]
    assert found == [
        f"{row.values['psnr'][index]:.1f}" for index in range(SHOWN) for row in compared.rows
    ]


def test_figures(page: Page, compared: ComparisonResult) -> None:
    for row in compared.rows:
        cells = (
            f"{row.label} {row.budget} steps {row.seconds:.2f} {row.speedup:.2f}× "
            f"{row.mean('psnr'):.2f} {row.mean('ssim'):.4f} "
        )
        assert cells in page.text
        found = to_baseline(compared, row, "psnr")
        if found is not None:
            assert f"{cells}{interval(found)}, {found.verdict} " in page.text
    for budget in BUDGETS:
        card = ", ".join(
            f"{LABELS[method]} {compared.row(method, budget).mean('psnr'):.1f}"
            for method in METHODS
        )
        assert card in page.text.replace(" ,", ",")


def test_schedules_are_drawn(page: Page, compared: ComparisonResult) -> None:
    drawn = [each for each in page.all("svg") if "computes steps" in each.get("aria-label", "")]
    assert len(drawn) == 9
    every = []
    for attributes, row in zip(drawn, compared.rows, strict=True):
        assert attributes["class"] == row.method
        assert row.ran is not None
        every += row.ran.computed_steps
        steps = attributes["aria-label"].partition("computes steps ")[2]
        assert steps == ", ".join(map(str, row.ran.computed_steps))
    ticks = [each for each in page.all("line") if each.get("class") == "tick"]
    assert [int(tick["x1"]) for tick in ticks] == every
    assert "0 4 8 12 16 19" in page.text


def test_curves(compared: ComparisonResult) -> None:
    stored = stored_of(compared)
    policy = otcache_of(stored)
    drawn = curves(policy, plugin_host().describe(stored.document), BUDGETS)
    assert [curve.label for curve in drawn] == [
        "anchor, 8 steps",
        "predicted, 10 steps",
        "reference, 12 steps (MeanCache)",
    ]
    steps = policy.schedule(10).computed_steps
    for index, (x, y) in enumerate(drawn[1].dots):
        assert x == pytest.approx(index / 9 * 400, abs=0.05)
        assert y == pytest.approx((1 - steps[index] / 19) * 300, abs=0.05)
    assert drawn[1].points.startswith("0.0,300.0 ")
    assert drawn[1].points.endswith(" 400.0,0.0")


def test_plots(compared: ComparisonResult) -> None:
    speed, operations = quality_plots(compared)
    for plot, costs in (
        (speed, lambda row: row.loop_speedup),
        (operations, lambda row: row.counts.flops),
    ):
        assert [each.label for each in plot.series] == ["uniform", "MeanCache", "OTCache"]
        marks = {mark.title: mark for each in plot.series for mark in each.marks}
        places = [
            (mark.x, mark.y)
            for row in compared.rows
            for title, mark in marks.items()
            if title.startswith(f"{row.label}, {row.variant.setting}:")
        ]
        assert len(places) == 9
        # More is further to the right, and better is higher, where SVG's y is smaller.
        x = np.argsort([costs(row) for row in compared.rows], kind="stable")
        assert np.all(np.diff(np.array(places)[x, 0]) >= 0)
        y = np.argsort([row.mean("psnr") for row in compared.rows], kind="stable")
        assert np.all(np.diff(np.array(places)[y, 1]) <= 0)
    alone = Page(render_plot(speed))
    assert len(alone.all("polyline")) == 3
    assert "OTCache MeanCache uniform" in alone.text


def test_provenance_and_reproduction(page: Page, compared: ComparisonResult) -> None:
    document = stored_of(compared).document
    assert document.calibration is not None
    policy = otcache_of(stored_of(compared))
    for text in (
        document.model.revision,
        document.calibration.created,
        "4 prompt-seed pairs",
        "psnr, seed 0",
        "up to 3 trials for each schedule",
        "The anchor was searched end to end, the reference is MeanCache’s",
        f"predicted with rho = {policy.rho:g}",
        compared.machine,
        COMMAND,
        "otcache_plugin.load_exact_flow_pipeline()",
        "otcache compare org/model --document ./my-policy",
        *(f"{pair.prompt} (seed {pair.seed})" for pair in compared.pairs),
    ):
        assert " ".join(str(text).split()) in page.text


def test_a_document_with_families_says_them(compared: ComparisonResult) -> None:
    stored = stored_of(compared)
    document = stored.document
    assert document.calibration is not None
    served = (
        {"budget": 8, "family": "optimised", "gain": 0.5, "standard_error": 0.25, "pairs": 8},
        {"budget": 12, "family": "graph", "gain": -0.5, "standard_error": 0.25, "pairs": 8},
    )
    settings = {"effort": "standard", "anchor_budget": 8, "reference_budget": 12}
    changes = {
        "parameters": {**document.parameters, "served": served},
        "calibration": document.calibration.model_copy(update={"settings": settings}),
    }
    changed = replace(stored, document=document.model_copy(update=changes))
    details = plugin_host().describe(changed.document)
    labels = [each.label for each in curves(otcache_of(changed), details, BUDGETS)]
    assert labels == ["optimised, 8 steps", "predicted, 10 steps", "graph, 12 steps"]
    text = Page(render_report(replace(compared, document=changed), COMMAND)).text
    assert "Effort standard" in text
    assert "measured on 8 pairs that nothing was chosen by" in text
    assert "anchor" not in text
    assert "trials" not in text


def test_what_others_wrote_is_escaped(compared: ComparisonResult) -> None:
    evil = '<script>alert("1")</script>'
    pairs = (Pair(evil, 0), *compared.pairs[1:])
    left_out = (NotRun("other", evil, "", f"no {evil}"),)
    html = render_report(replace(compared, pairs=pairs, not_run=left_out), COMMAND)
    assert "<script" not in html
    assert f"{evil} no {evil}" in Page(html).text


def test_lost_pictures_are_marked(compared: ComparisonResult) -> None:
    first, *others = compared.rows
    psnr = first.values["psnr"].copy()
    psnr[0] = 19.94
    changed = replace(first, values={**first.values, "psnr": psnr})
    html = render_report(replace(compared, rows=(changed, *others)), COMMAND)
    assert '<span class="lost">19.9 dB</span>' in html


def test_caveats(compared: ComparisonResult) -> None:
    def rows(factor: float) -> tuple[Row, ...]:
        return tuple(
            replace(row, speedups=np.full(2, factor * (compared.limit(row) or 1)))
            for row in compared.rows
        )

    other = replace(compared.setup, calibration_prompts=("another",))
    with_caveats = replace(compared, rows=rows(2), setup=other)
    without = Page(render_report(replace(compared, rows=rows(0.5)), COMMAND)).text
    text = Page(render_report(with_caveats, COMMAND)).text
    for caveat in ("these times scatter", "whether on prompts above cannot be told"):
        assert caveat in text
        assert caveat not in without
    assert "4 prompt-seed pairs, on none of the prompts above" in without


@pytest.mark.parametrize(
    ("documents", "shown"), [((), "'otcache'"), (("small",), "'./small'"), (("a/b",), "'a/b'")]
)
def test_how_to_use(compared: ComparisonResult, documents: tuple[str, ...], shown: str) -> None:
    settings = replace(compared.settings, documents=documents)
    text = Page(render_report(replace(compared, settings=settings), COMMAND)).text
    assert f"cache_dit.enable_cache(pipe, policy={shown}, budget=15)" in text


def test_nothing_beside_the_full_run(compared: ComparisonResult) -> None:
    left_out = (NotRun("gram", "gram", "", "no document. Calibrate it"),)
    alone = replace(compared, rows=(), not_run=left_out, document=None)
    text = Page(render_report(alone, COMMAND)).text
    assert "Nothing was measured beside the full run of exact-flow" in text
    assert "gram no document. Calibrate it" in text


@pytest.mark.parametrize(
    ("speedup", "ssim", "words"),
    [
        (4.66, 0.992, "4.7 times faster, and looks the same: SSIM 0.992"),
        (6.0, 0.95, "6.0 times faster, and looks much the same: SSIM 0.950"),
        (6.0, 0.5, "6.0 times faster, but looks different: SSIM 0.500"),
        (0.9, 0.99, "Not faster (0.90 times as fast), but looks the same: SSIM 0.990"),
    ],
)
def test_headlines(compared: ComparisonResult, speedup: float, ssim: float, words: str) -> None:
    row = compared.rows[0]
    values = {**row.values, "ssim": np.full(8, ssim)}
    fast = replace(row, speedups=np.full(2, speedup), values=values)
    unlimited = replace(fast, variant=replace(row.variant, budget=None))
    assert headline(compared, unlimited) == words
    # Of 20 steps 8 are computed: whatever a busy machine measured, it can't be 2.5 times faster.
    assert headline(compared, fast).startswith("2.5 times faster" if speedup > 2.5 else words[:10])


@pytest.mark.parametrize(
    ("otcache", "word", "sentence"),
    [
        ([3.0, 4.0, 5.0], "ahead", "Closer to the full run than MeanCache on 100 % of the pairs"),
        ([-3.0, -4.0, -5.0], "behind", "on 0 % of the pairs"),
        ([-1.0, 0.0, 2.0], "tie", "A tie with MeanCache: no difference that 3 pairs can show"),
        ([0.0, 0.0, 0.0], "tie", "The same pictures"),
    ],
)
def test_verdicts(
    compared: ComparisonResult, otcache: list[float], word: str, sentence: str
) -> None:
    rows = (
        replace(compared.row("otcache", 8), values={"psnr": np.array(otcache)}),
        replace(compared.row("meancache", 8), values={"psnr": np.zeros(3)}),
    )
    found = to_baseline(replace(compared, rows=rows), rows[0], "psnr")
    assert found is not None
    assert found.verdict == word
    assert sentence in verdict(found, "MeanCache")


def test_markdown_and_csv(compared: ComparisonResult) -> None:
    lines = markdown(compared).splitlines()
    table = [line for line in lines if line.startswith("| OTCache | 8 steps | ")]
    assert len(table) == 1
    assert table[0].count("|") == lines[2].count("|")
    headings, *rows = (line.split(",") for line in csv_text(compared).splitlines())
    assert [row[:2] for row in rows] == [
        ["full", "all 20 steps"],
        *([method, f"{budget} steps"] for method in METHODS for budget in BUDGETS),
    ]
    psnr = headings.index("psnr")
    assert float(rows[1][psnr]) == compared.row("otcache", 8).mean("psnr")


def test_memory_is_shown_where_it_was_measured(compared: ComparisonResult) -> None:
    assert "peak memory" not in markdown(compared)
    full, *others = (replace(row, peak_memory=3 * 2**29) for row in (compared.full, *compared.rows))
    on_gpu = replace(compared, full=full, rows=tuple(others))
    lines = markdown(on_gpu).splitlines()
    column = lines[2].split(" | ").index("peak memory, GiB")
    assert {line.split(" | ")[column] for line in lines[4:14]} == {"1.50"}


def test_contact_sheet(compared: ComparisonResult) -> None:
    sheet = contact_sheet(compared, 1)
    with Image.open(compared.row("otcache", 8).pictures[1]) as picture:
        corner = picture.convert("RGB").getpixel((0, 0))
    # The second tile of the first line, 224 pixels wide and ten apart, below the prompt's line.
    assert sheet.getpixel((10 + 224 + 10, 10 + 17 + 10)) == corner
    assert sheet.size == (6 * 234 + 10, 2 * (224 + 3 * 17 + 10) + 10 + 27)
