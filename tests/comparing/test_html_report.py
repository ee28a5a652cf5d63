"""The report is one well-formed file that needs nothing else and shows what was measured."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from html_page import Page
from PIL import Image

from otcache_plugin.comparing.html_report import SHOWN_PAIRS, curves, render_report, verdict
from otcache_plugin.comparing.results import ComparisonResult
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.evaluation.statistics import paired_difference
from otcache_plugin.plugins.host import plugin_host

COMMAND = "otcache demo --model exact-flow --pairs 8"


@pytest.fixture(scope="session")
def html(compared: ComparisonResult) -> str:
    return render_report(compared, COMMAND)


@pytest.fixture(scope="session")
def page(html: str) -> Page:
    return Page(html)


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


def test_pictures(page: Page, compared: ComparisonResult) -> None:
    images = page.all("img")
    assert len(images) == SHOWN_PAIRS * (1 + 3 * 3)
    rows = compared.rows
    for index, image in enumerate(images):
        pair, column = divmod(index, 1 + len(rows))
        pictures = rows[column - 1].pictures if column else compared.full_pictures
        data = b64decode(image["src"].removeprefix("data:image/png;base64,"))
        shown = np.asarray(Image.open(BytesIO(data)))
        expected = pictures[pair].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(shown, expected, atol=0.51)
        assert compared.pairs[pair].prompt in image["alt"]
        assert "20 steps computed" in image["alt"]


def test_psnr_under_the_pictures(html: str, compared: ComparisonResult) -> None:
    cells = re.findall(r'<td class="(\w+)[^>]*><img[^>]*>(?:<span[^>]*>)?([\d.]+)', html)
    assert len(cells) == SHOWN_PAIRS * 9
    expected = [
        (row.method, f"{row.psnr[index]:.1f}")
        for index in range(SHOWN_PAIRS)
        for row in compared.rows
    ]
    assert cells == expected


def test_table(page: Page, compared: ComparisonResult) -> None:
    for row in compared.rows:
        label = {"uniform": "uniform", "meancache": "MeanCache", "otcache": "OTCache"}[row.method]
        cells = (
            f"{row.budget} of 20 {label} {row.speedup:.2f}× {row.limit:.2f}× "
            f"{row.psnr.mean():.2f} {row.ssim.mean():.4f} 8"
        )
        assert cells in page.text
    for budget in (8, 10, 15):
        means = {
            method: f"{compared.row(method, budget).psnr.mean():.1f}"
            for method in ("otcache", "meancache", "uniform")
        }
        card = "OTCache {otcache}, MeanCache {meancache}, uniform {uniform}"
        assert card.format(**means) in page.text.replace(" ,", ",")
        gain = compared.gain(budget)
        assert (
            f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]".replace("-", "−") in page.text
        )


def test_schedules_are_drawn(page: Page, compared: ComparisonResult) -> None:
    drawn = [each for each in page.all("svg") if "computes steps" in each.get("aria-label", "")]
    assert len(drawn) == 9
    for attributes, row in zip(drawn, compared.rows, strict=True):
        assert attributes["class"] == row.method
        steps = attributes["aria-label"].partition("computes steps ")[2]
        assert steps == ", ".join(map(str, row.schedule.computed_steps))
    ticks = [each for each in page.all("line") if each["class"] == "tick"]
    assert [int(tick["x1"]) for tick in ticks] == [
        step for row in compared.rows for step in row.schedule.computed_steps
    ]
    assert "0 4 8 12 16 19" in page.text


def test_curves(compared: ComparisonResult, page: Page) -> None:
    drawn = curves(compared, plugin_host().describe(compared.document))
    assert [curve.label for curve in drawn] == [
        "anchor, 8 steps",
        "predicted, 10 steps",
        "reference, 12 steps (MeanCache)",
    ]
    steps = compared.row("otcache", 10).schedule.computed_steps
    for index, (x, y) in enumerate(drawn[1].dots):
        assert x == pytest.approx(index / 9 * 400, abs=0.05)
        assert y == pytest.approx((1 - steps[index] / 19) * 300, abs=0.05)
    assert drawn[1].points.startswith("0.0,300.0 ")
    assert drawn[1].points.endswith(" 400.0,0.0")
    assert len(page.all("polyline")) == 2 * len(drawn)  # and once more in the legend


def test_provenance_and_reproduction(page: Page, compared: ComparisonResult) -> None:
    document = compared.document
    for text in (
        document.model.revision,
        document.calibration.created,
        "4 prompt-seed pairs",
        "psnr, seed 0",
        "up to 3 trials for each schedule",
        "The anchor was searched end to end, the reference is MeanCache’s",
        f"predicted with rho = {compared.policy.rho:g}",
        compared.look_back_rule,
        compared.machine,
        COMMAND,
        "otcache_plugin.load_exact_flow_pipeline()",
        *(f"{pair.prompt} (seed {pair.seed})" for pair in compared.pairs),
    ):
        assert " ".join(text.split()) in page.text


def test_a_document_with_families_says_them(compared: ComparisonResult) -> None:
    document = compared.document
    served = (
        {"budget": 8, "family": "optimised", "gain": 0.5, "standard_error": 0.25, "pairs": 8},
        {"budget": 12, "family": "graph", "gain": -0.5, "standard_error": 0.25, "pairs": 8},
    )
    settings = {"effort": "standard", "anchor_budget": 8, "reference_budget": 12}
    changes = {
        "parameters": {**document.parameters, "served": served},
        "calibration": document.calibration.model_copy(update={"settings": settings}),
    }
    changed = replace(compared, document=document.model_copy(update=changes))
    labels = [each.label for each in curves(changed, plugin_host().describe(changed.document))]
    assert labels == ["optimised, 8 steps", "predicted, 10 steps", "graph, 12 steps"]
    text = Page(render_report(changed, COMMAND)).text
    assert "Effort standard" in text
    assert "measured on 8 pairs that nothing was chosen by" in text
    assert "anchor" not in text
    assert "trials" not in text


def test_prompts_are_escaped(compared: ComparisonResult) -> None:
    evil = '<script>alert("1")</script>'
    pairs = (Pair(evil, 0), *compared.pairs[1:])
    html = render_report(replace(compared, pairs=pairs), COMMAND)
    assert "<script" not in html
    assert evil in Page(html).text


def test_lost_pictures_are_marked(compared: ComparisonResult) -> None:
    first, *others = compared.rows
    psnr = first.psnr.copy()
    psnr[0] = 19.94
    html = render_report(replace(compared, rows=(replace(first, psnr=psnr), *others)), COMMAND)
    assert '<span class="lost">19.9</span>' in html


def test_caveats(compared: ComparisonResult) -> None:
    fast = tuple(replace(row, speedup=2 * row.limit) for row in compared.rows)
    slow = tuple(replace(row, speedup=1.0) for row in compared.rows)
    with_caveats = Page(render_report(replace(compared, rows=fast, unseen=False), COMMAND)).text
    without = Page(render_report(replace(compared, rows=slow, unseen=True), COMMAND)).text
    for caveat in ("these times scatter", "whether on prompts above cannot be told"):
        assert caveat in with_caveats
        assert caveat not in without
    assert "4 prompt-seed pairs, on none of the prompts above" in without


@pytest.mark.parametrize(
    ("policy", "shown"), [("otcache", "'otcache'"), ("small", "'./small'"), ("a/b", "'a/b'")]
)
def test_how_to_use(compared: ComparisonResult, policy: str, shown: str) -> None:
    settings = replace(compared.settings, policy=policy)
    text = Page(render_report(replace(compared, settings=settings), COMMAND)).text
    assert f"cache_dit.enable_cache(pipe, policy={shown}, budget=15)" in text


@pytest.mark.parametrize(
    ("otcache", "tone", "sentence"),
    [
        ([3.0, 4.0, 5.0], "better", "on 100 % of the pairs"),
        ([-3.0, -4.0, -5.0], "worse", "on 0 % of the pairs"),
        ([-1.0, 0.0, 2.0], "open", "No difference to MeanCache that 3 pairs can show"),
        ([0.0, 0.0, 0.0], "open", "The same pictures"),
    ],
)
def test_verdicts(otcache: list[float], tone: str, sentence: str) -> None:
    found, words = verdict(paired_difference(np.array(otcache), np.zeros(3)))
    assert found == tone
    assert sentence in words
