"""The card says what the document is, how to use it and how good it is, whatever its texts hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import pytest
from huggingface_hub import EvalResult, ModelCard
from otcache_policies import EdgeTable, Schedule
from otcache_registry import (
    EvidenceRow,
    ModelReference,
    PolicyDetails,
    PolicyDocument,
    draw_schedule,
    render_card,
)

from otcache_plugin.plugins.host import load_plugins

HOST = load_plugins((), None)
Make = Callable[..., PolicyDocument]


def card_of(document: PolicyDocument, figures: Collection[str] = ()) -> str:
    """The card with what the built-in policies say."""
    return render_card(document, figures, HOST.describe(document))


def front_matter(card: str) -> dict[str, object]:
    """The metadata as the Hub's own client reads it."""
    data: dict[str, object] = ModelCard(card).data.to_dict()
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


@pytest.mark.parametrize(
    ("width", "drawing"),
    [(8, "█··█···█"), (7, "▒▒·▒"), (4, "▒▒·▒"), (3, "▒▒▒"), (1, "▒"), (100, "█··█···█")],
)
def test_drawings_in_little_room(width: int, drawing: str) -> None:
    assert draw_schedule(Schedule([0, 3, 7], 8), width) == drawing


def test_front_matter(valid_document: PolicyDocument) -> None:
    assert front_matter(render_card(valid_document)) == {
        "library_name": "cache-dit",
        "tags": ["otcache-policy"],
        "base_model": "example/model",
        "model-index": [
            {
                "name": "Cache schedules for example/model",
                "results": [
                    {
                        "task": {"type": "other", "name": "Diffusion with a cache schedule"},
                        "dataset": {
                            "type": "held-out-prompts",
                            "name": "Held-out prompts, SHA-256 bbbbbbbbbbbb…",
                        },
                        "metrics": [
                            {
                                "type": "psnr",
                                "name": "PSNR in dB, more is better, at 6 of 12 steps",
                                "value": 33.75,
                            }
                        ],
                    }
                ],
            }
        ],
    }


def test_the_index_holds_the_policys_own_evidence(
    make_document: Make, valid_edges: EdgeTable
) -> None:
    evidence = [
        EvidenceRow(
            policy=policy, budget=budget, metric=metric, mean=mean, standard_error=0.1, pairs=2
        )
        for policy, budget, metric, mean in (
            ("otcache", 4, "lpips", 1e-5),
            ("meancache", 4, "lpips", 0.5),
            ("otcache", 8, "lpips", 3.0),
            ("otcache", 8, "own: #1", -2.5),
        )
    ]
    card = ModelCard(render_card(make_document(valid_edges, evidence=tuple(evidence))))
    results = card.data.eval_results
    assert all(isinstance(result, EvalResult) for result in results)
    assert [(each.metric_type, each.metric_value, each.metric_name) for each in results] == [
        ("lpips", 1e-5, "LPIPS (AlexNet), less is better, at 4 of 12 steps"),
        ("lpips", 3.0, "LPIPS (AlexNet), less is better, at 8 of 12 steps"),
        ("own: #1", -2.5, "own: #1, at 8 of 12 steps"),
    ]


def test_without_evidence_of_its_own_there_is_no_index(
    make_document: Make, valid_edges: EdgeTable, published_document: PolicyDocument
) -> None:
    row = EvidenceRow(
        policy="meancache", budget=6, metric="psnr", mean=1.0, standard_error=0.1, pairs=2
    )
    for document in (
        make_document(valid_edges, evidence=()),
        make_document(valid_edges, evidence=(row,)),
        published_document,
    ):
        metadata = front_matter(render_card(document))
        assert set(metadata) == {"library_name", "tags", "base_model"}


@pytest.mark.parametrize(
    "text",
    [
        "--- ---",
        "a: b",
        "# x",
        "'\"`",
        "{{7*7}} ${x} &a *a !!python/object:os.system",
        "null",
        "<script>alert(1)</script>",
        "| - [x](y)",
        "é 日本",
        "x " * 500,
    ],
)
def test_hostile_texts_stay_texts(make_document: Make, valid_edges: EdgeTable, text: str) -> None:
    row = EvidenceRow(
        policy="otcache", budget=6, metric=text, mean=1.0, standard_error=0.1, pairs=2
    )
    document = make_document(
        valid_edges, model=ModelReference(id=text, revision=text), evidence=(row,)
    )
    rendered = card_of(document)
    card = ModelCard(rendered)
    (result,) = card.data.eval_results
    assert result.metric_type == text
    assert card.data.model_name == f"Cache schedules for {text}"
    assert set(card.data.to_dict()) == {"library_name", "tags", "model-index"}
    assert card.text.strip().startswith("# Cache schedules for ")
    assert card.text.count("\n## ") == rendered.count("\n## ") == 4
    assert "<script>" not in card.text


@pytest.mark.parametrize(
    "model", ["embedded", "/data/models/x", "./org/name", "a/b/c", "org/na me"]
)
def test_what_is_no_hub_id_is_no_base_model(
    make_document: Make, valid_edges: EdgeTable, model: str
) -> None:
    document = make_document(valid_edges, model=ModelReference(id=model, revision="1"))
    assert "base_model" not in front_matter(render_card(document))


def test_use_and_schedules(valid_document: PolicyDocument) -> None:
    card = card_of(valid_document)
    (_, anchor), (_, reference) = HOST.describe(valid_document).schedules
    assert (
        "```python\nimport cache_dit\nimport otcache_plugin\n"
        'cache_dit.enable_cache(pipe, policy="otcache", budget=6)\n```' in card
    )
    assert f"anchor        4  {draw_schedule(anchor)}\n" in card
    assert f"reference     8  {draw_schedule(reference)}\n" in card
    assert "rho = 1.3" in card
    assert card.endswith("\n")
    assert not card.endswith("\n\n")


def test_waypoints_are_drawn_between_anchor_and_reference(
    waypoint_document: PolicyDocument,
) -> None:
    drawn = [draw_schedule(each) for _, each in HOST.describe(waypoint_document).schedules]
    assert (
        f"```text\nanchor        4  {drawn[0]}\nwaypoint      5  {drawn[1]}\n"
        f"waypoint      7  {drawn[2]}\nreference     8  {drawn[3]}\n```"
    ) in card_of(waypoint_document)


def test_published_schedules(published_document: PolicyDocument) -> None:
    card = card_of(published_document)
    for words in (
        "# Cache schedules for example/published\n\nSchedules that somebody else published, ",
        "for any budget from 4 to 8 steps",
        "- Model: example/published, any revision\n",
        "- Sampling: ExamplePipeline, FlowMatchEulerDiscreteScheduler, 12 steps, "
        "1664 by 928 pixels, guidance\\_scale = 4\n",
        "anchor        4  █·█··█·····█\n",
        "waypoint      6  ██·█··█·█··█\n",
        "reference     8  ████·█·█·█·█\n",
        "rho = 1.\n",
        "Published by somebody else, not calibrated here.",
        "budgets 4, 6, 8 are theirs",
        "- Source: https://example.org/schedules\n",
        "- Method: arXiv 0000.00000\n",
        "- Their setting: 1664x928, guidance\\_scale 4\n",
        "- Revision: any, since they name no commit of the weights\n",
        "- Evidence: none.",
    ):
        assert words in card
    assert re.findall("^## (.*)$", card, re.MULTILINE) == ["Use", "Schedules", "Origin"]


def test_published_schedules_of_one_revision(make_published: Make) -> None:
    document = make_published(model=ModelReference(id="org/name", revision="0123abcd"))
    card = card_of(document)
    assert "- Model: org/name, revision 0123abcd\n" in card
    assert "- Revision: 0123abcd\n" in card
    assert "any" not in card.replace("for any budget", "")


def test_set_up_and_calibration(valid_document: PolicyDocument) -> None:
    card = card_of(valid_document)
    for words in (
        "# Cache schedules for example/model",
        "revision 0123abcd",
        "ExamplePipeline, FlowMatchEulerDiscreteScheduler, 12 steps, sigmas 1 … 0, "
        "768 by 512 pixels, true\\_cfg\\_scale = 4",
        "Pairs: 32, seed 0, in batches of 16",
        "- Metric: lpips\n- Effort: paper\n"
        "- Search: per pair, each on its own, up to 200 trials for each schedule",
        "- Cost: calibrated in 123,456 denoising steps, and 7,890 for the evidence; "
        "150 schedules run, 19,200 transformer calls, 302 seconds on one CPU core\n",
        "cache-dit 1.5.1, torch 2.9.0",
        "2026-01-31T12:00:00+00:00",
        "Calibration prompts: SHA-256 " + "a" * 64,
        "Held-out prompts: SHA-256 " + "b" * 64,
        f"Tables: SHA-256 {valid_document.tables_sha256}",
    ):
        assert words in card


def test_a_joint_search(make_document: Make, valid_document: PolicyDocument) -> None:
    assert valid_document.calibration is not None
    settings = {**valid_document.calibration.settings, "search": "joint"}
    calibration = valid_document.calibration.model_copy(update={"settings": settings})
    card = card_of(valid_document.model_copy(update={"calibration": calibration}))
    assert "Search: joint, on all pairs at once, up to 200 trials" in card


def test_a_policy_that_nobody_knows_says_nothing_of_its_parameters(
    unknown_document: PolicyDocument,
) -> None:
    card = card_of(unknown_document)
    assert "- Policy: strata, of otcache-strata\n" in card
    assert "for any budget from 3 to 9 steps" in card
    assert 'policy="strata", budget=6' in card
    assert re.findall("^## (.*)$", card, re.MULTILINE) == ["Use", "Evidence", "Calibration"]
    assert "threshold" not in card


def test_a_policy_that_decides_during_the_run(unknown_document: PolicyDocument) -> None:
    changes = {"budgets": None, "default_budget": None}
    card = card_of(unknown_document.model_copy(update=changes))
    assert "- Default: decided during the run\n" in card
    assert 'cache_dit.enable_cache(pipe, policy="strata")' in card


def test_what_schedules_were_calibrated_on(unknown_document: PolicyDocument) -> None:
    assert "Executor" not in card_of(unknown_document)
    on_blocks = {"executor": "blocks", "calibrator": "foca"}
    sampling = unknown_document.sampling.model_copy(update=on_blocks)
    card = card_of(unknown_document.model_copy(update={"sampling": sampling}))
    assert "\n- Executor: blocks, with the calibrator foca\n" in card


def test_what_a_policy_says_is_shown_as_it_is(unknown_document: PolicyDocument) -> None:
    schedule = Schedule([0, 3, 7], 8)
    details = PolicyDetails(
        schedules=(("the thinnest one", schedule),),
        notes=("A *note*.", "Another."),
        calibration=(("tries", "3 of <3>"),),
    )
    card = render_card(unknown_document, (), details)
    legend = "█ is a computed step, · a cached one. A \\*note\\*. Another."
    drawn = "the thinnest one     3  █··█···█"
    assert f"## Schedules\n\n{legend}\n\n```text\n{drawn}\n```" in card
    assert "- Tries: 3 of \\<3\\>\n" in card


def test_evidence(valid_document: PolicyDocument) -> None:
    card = render_card(valid_document)
    header, _, alone, compared = rows(card)
    assert "### PSNR in dB, more is better\n\n| Budget" in card
    assert header == [
        *["Budget", "Policy", "Mean", "Pairs", "Compared to", "Difference", "Better on"],
    ]
    assert alone == ["6", "meancache", "31.25 ± 0.50", "48", "", "", ""]
    assert compared == [
        *["6", "otcache", "33.75 ± 0.25", "48"],
        *["meancache", "+2.50 [+1.75, +3.25]", "88% of pairs"],
    ]


def test_evidence_is_a_table_per_metric_by_budget(
    make_document: Make, valid_edges: EdgeTable
) -> None:
    def row(policy: str, budget: int, metric: str, error: float) -> EvidenceRow:
        return EvidenceRow(
            policy=policy,
            budget=budget,
            metric=metric,
            mean=1 / 3,
            standard_error=error,
            pairs=2,
        )

    evidence = (
        row("uniform", 8, "psnr", 0.5),
        row("uniform", 8, "own", 0.0031),
        row("fewer-steps", 6, "psnr", 12.0),
        row("otcache", 6, "psnr", 0.25),
        row("uniform", 6, "own", 0.0),
        row("otcache", 6, "own", 0.0042),
    )
    card = render_card(make_document(valid_edges, evidence=evidence))
    psnr, own = card.split("### ")[1:]
    assert own.startswith("own\n")
    assert [(cells[0], cells[1], cells[2]) for cells in rows(psnr)[2:]] == [
        ("6", "fewer-steps", "0.33 ± 12.00"),
        ("6", "otcache", "0.33 ± 0.25"),
        ("8", "uniform", "0.33 ± 0.50"),
    ]
    # Two digits of the table's middle error, 0.0031.
    assert [(cells[0], cells[1], cells[2]) for cells in rows(own)[2:]] == [
        ("6", "uniform", "0.3333 ± 0.0000"),
        ("6", "otcache", "0.3333 ± 0.0042"),
        ("8", "uniform", "0.3333 ± 0.0031"),
    ]


def test_the_same_pictures_are_no_difference(make_document: Make, valid_edges: EdgeTable) -> None:
    row = EvidenceRow(
        policy="otcache",
        budget=8,
        metric="psnr",
        mean=40.0,
        standard_error=0.0,
        pairs=2,
        compared_to="meancache",
        difference_mean=0.0,
        difference_low=0.0,
        difference_high=0.0,
        win_rate=0.5,
    )
    card = render_card(make_document(valid_edges, evidence=(row,)))
    assert rows(card)[2] == ["8", "otcache", "40.00 ± 0.00", "2", "meancache", "none", ""]


def test_no_evidence(make_document: Make, valid_edges: EdgeTable) -> None:
    card = render_card(make_document(valid_edges, evidence=()))
    assert "No held-out figures yet." in card
    assert rows(card) == []


FIGURES = ["schedules.png", "gaps.png", "quality.png", "differences.png", "search.png"]


def test_figures_are_shown_in_their_sections(valid_document: PolicyDocument) -> None:
    card = render_card(valid_document, {"other.png", *FIGURES})
    places = {
        path: heading
        for heading, *lines in (part.splitlines() for part in card.split("\n## ")[1:])
        for line in lines
        for path in re.findall(r"^!\[[^\]]{10,}\]\((.*)\)$", line)
    }
    assert places == {
        "figures/schedules.png": "Schedules",
        "figures/gaps.png": "Schedules",
        "figures/quality.png": "Evidence",
        "figures/differences.png": "Evidence",
        "figures/search.png": "Calibration",
    }
    assert "other.png" not in card
    assert "Difference of otcache to meancache on the same pairs" in card


@pytest.mark.parametrize("name", FIGURES)
def test_only_figures_that_are_there_are_shown(valid_document: PolicyDocument, name: str) -> None:
    card = card_of(valid_document, [name])
    assert re.findall(r"\]\((figures/.*)\)", card) == [f"figures/{name}"]
    (picture,) = re.findall(r"\n\n[A-Z].*\.\n\n!\[.*\]\(.*\)", card)
    assert card.replace(picture, "") == card_of(valid_document)


def test_texts_are_shown_as_they_are(make_document: Make, valid_edges: EdgeTable) -> None:
    row = EvidenceRow(policy="a|b", budget=6, metric="<b>", mean=1.0, standard_error=0.1, pairs=2)
    document = make_document(
        valid_edges, evidence=(row,), model=ModelReference(id="*x*`y`", revision="[1](2)")
    )
    card = render_card(document)
    assert rows(card)[2][1] == "a\\|b"
    assert "### \\<b\\>\n" in card
    assert "# Cache schedules for \\*x\\*\\`y\\`" in card
    assert "\\[1\\](2)" in card
