"""The card says what the document is, how to use it and how good it is, whatever its texts hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml  # type: ignore[import-untyped]
from otcache_policies import EdgeTable, Schedule
from otcache_registry import (
    EvidenceRow,
    ModelReference,
    PolicyDocument,
    draw_schedule,
    render_card,
)

Make = Callable[..., PolicyDocument]


def front_matter(card: str) -> dict[str, object]:
    start, text, _ = card.split("---\n", 2)
    assert start == ""
    data: dict[str, object] = yaml.safe_load(text)
    return data


def rows(card: str) -> list[list[str]]:
    """Cells of every table row."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]


@pytest.mark.parametrize(
    ("steps", "total", "drawing"),
    [
        ([0, 3, 7], 8, "█··█···█"),
        ([0, 1, 4], 5, "██··█"),
        ([0], 1, "█"),
        (range(4), 4, "████"),
    ],
)
def test_drawings(steps: list[int], total: int, drawing: str) -> None:
    assert draw_schedule(Schedule(steps, total)) == drawing


def test_front_matter(valid_document: PolicyDocument) -> None:
    assert front_matter(render_card(valid_document)) == {
        "library_name": "cache-dit",
        "tags": ["otcache-policy"],
        "base_model": "example/model",
    }


@pytest.mark.parametrize(
    "model", ["embedded", "/data/models/x", "./org/name", "a/b/c", "org/na me"]
)
def test_what_is_no_hub_id_is_no_base_model(
    make_document: Make, valid_edges: EdgeTable, model: str
) -> None:
    document = make_document(valid_edges, model=ModelReference(id=model, revision="1"))
    assert "base_model" not in front_matter(render_card(document))


def test_use_and_schedules(valid_document: PolicyDocument) -> None:
    card = render_card(valid_document)
    assert (
        "```python\nimport cache_dit\nimport otcache_plugin\n"
        'cache_dit.enable_cache(pipe, policy="otcache", budget=6)\n```' in card
    )
    assert f"anchor        4  {draw_schedule(valid_document.anchor_schedule)}\n" in card
    assert f"reference     8  {draw_schedule(valid_document.reference_schedule)}\n" in card
    assert "rho = 1.3" in card
    assert card.endswith("\n")
    assert not card.endswith("\n\n")


def test_set_up_and_calibration(valid_document: PolicyDocument) -> None:
    card = render_card(valid_document)
    for words in (
        "# Cache schedules for example/model",
        "revision 0123abcd",
        "ExamplePipeline, FlowMatchEulerDiscreteScheduler, 12 steps, sigmas 1 … 0, "
        "768 by 512 pixels, true\\_cfg\\_scale = 4",
        "lpips on 32 pairs, seed 0, up to 200 trials; 150 schedules run in the whole calibration",
        "19200 transformer calls, 302 seconds on one CPU core",
        "cache-dit 1.5.1, torch 2.9.0",
        "2026-01-31T12:00:00+00:00",
        "a" * 64,
        valid_document.edges_sha256,
    ):
        assert words in card


def test_evidence(valid_document: PolicyDocument) -> None:
    header, _, alone, compared = rows(render_card(valid_document))
    assert header[4:6] == ["Standard error", "Pairs"]
    assert alone[:6] == ["meancache", "6", "psnr", "31.25", "0.5", "48"]
    assert alone[6:] == [""] * 4
    assert compared == [
        *["otcache", "6", "psnr", "33.75", "0.25", "48"],
        *["meancache", "+2.5", "+1.75 … +3.25", "88% of pairs"],
    ]


def test_no_evidence(make_document: Make, valid_edges: EdgeTable) -> None:
    card = render_card(make_document(valid_edges, evidence=()))
    assert "No held-out figures yet." in card
    assert rows(card) == []


def test_texts_are_shown_as_they_are(make_document: Make, valid_edges: EdgeTable) -> None:
    row = EvidenceRow(policy="a|b", budget=6, metric="<b>", mean=1.0, standard_error=0.1, pairs=2)
    document = make_document(
        valid_edges, evidence=(row,), model=ModelReference(id="*x*`y`", revision="[1](2)")
    )
    card = render_card(document)
    assert rows(card)[2][0] == "a\\|b"
    assert rows(card)[2][2] == "\\<b\\>"
    assert "# Cache schedules for \\*x\\*\\`y\\`" in card
    assert "\\[1\\](2)" in card
