"""`otcache show`: what it prints of a document, at every width, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from moved_latents import MovedLatents
from otcache_policies import Schedule
from otcache_registry import (
    EvidenceRow,
    ModelReference,
    Part,
    PolicyIdentity,
    draw_schedule,
    read_policy,
)
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from plugin_fakes import FakeEntryPoint, plugin
from published_schedules import published_schedules
from stored_policies import otcache_of
from tiny_documents import (
    ANCHOR_BUDGET,
    REFERENCE_BUDGET,
    sampling,
    tiny_flux_sigmas,
    write_document,
)

from otcache_plugin.plugins import PolicyRegistry
from otcache_plugin.plugins import host as host_module
from otcache_plugin.plugins.host import load_plugins

EVIDENCE = (
    EvidenceRow(policy="uniform", budget=8, metric="lpips", mean=0.5, standard_error=0.02, pairs=9),
    EvidenceRow(
        policy="otcache",
        budget=8,
        metric="lpips",
        mean=0.25,
        standard_error=0.01,
        pairs=9,
        compared_to="uniform",
        difference_mean=-0.25,
        difference_low=-0.3125,
        difference_high=-0.1875,
        win_rate=1.0,
    ),
    EvidenceRow(
        policy="uniform", budget=12, metric="lpips", mean=0.3, standard_error=0.02, pairs=9
    ),
)


@pytest.fixture
def narrow(main: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command on a terminal of 80 columns, or of as many as are given."""

    def run(*arguments: str, columns: int = 80) -> Any:
        monkeypatch.setenv("COLUMNS", str(columns))
        return main("show", *arguments)

    return run


def drawn(schedule: Schedule) -> str:
    """One sign per step."""
    computed = set(schedule.computed_steps)
    return "".join("█" if step in computed else "·" for step in range(schedule.num_inference_steps))


def test_calibrated_document(narrow: Any) -> None:
    shown = narrow("bundled:exact-flow")
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0] == "bundled:exact-flow"
    assert max(map(len, lines)) <= 80
    stored = read_policy(BUNDLED_FOLDER / "exact-flow")
    document, policy = stored.document, otcache_of(stored)
    words = " ".join(shown.out.split())
    for each in (
        "policy otcache model exact-flow",
        "revision scenes4000-width0.3-shift3.0-seed0",
        "pipeline ExactFlowPipeline, FlowMatchEulerDiscreteScheduler",
        "sampling 50 steps, 32 × 32 pixels",
        f"budgets 8 … 50; {document.default_budget} unless asked for another",
        "each sign is 2 steps: █ all of them computed, ▒ some, · none",
        f"means over {document.evidence[0].pairs} held-out pairs",
        f"cost {document.calibration.denoising_steps:,} denoising steps, "
        f"and {document.calibration.evidence_steps:,} for the evidence",
        f"{document.calibration.transformer_calls:,} transformer calls",
    ):
        assert each in words
    wide = narrow("bundled:exact-flow", columns=100).out
    assert "█ computed step, · cached step" in wide
    lines = wide.splitlines()
    for schedule in policy.calibrated:
        (line,) = (each for each in lines if each.endswith(drawn(schedule)))
        assert line.split()[0] == str(schedule.budget)
        assert line.split()[1] in ("graph", "predicted", "optimised", "searched")


def test_what_schedules_were_calibrated_on(narrow: Any, tmp_path: Path) -> None:
    for calibrated_on, line in (
        ({"executor": "blocks", "calibrator": "dmd"}, "executor blocks with dmd"),
        ({"executor": "velocity"}, "executor velocity"),
    ):
        write_document(tmp_path, sampling=sampling(tiny_flux_sigmas(), **calibrated_on))
        lines = [" ".join(each.split()) for each in narrow(str(tmp_path)).out.splitlines()]
        assert line in lines


@pytest.mark.parametrize("columns", [80, 200])
def test_families_and_leads(narrow: Any, tmp_path: Path, columns: int) -> None:
    """Each schedule's family, and how far it is ahead of the graph policy's, where it is."""
    document = write_document(tmp_path / "plain")
    led = {"gain": 0.75, "standard_error": 0.25, "pairs": 24}
    served = [
        {"budget": ANCHOR_BUDGET, "family": "optimised", **led},
        {"budget": REFERENCE_BUDGET, "family": "graph", **led, "gain": -0.5, "pairs": 8},
    ]
    calibration = document.calibration
    assert calibration is not None
    settings = {**calibration.settings, "effort": "standard"}
    write_document(
        tmp_path / "served",
        parameters={**document.parameters, "served": served},
        calibration=calibration.model_copy(update={"settings": settings}),
    )
    shown = narrow(str(tmp_path / "served"), columns=columns)
    assert (shown.code, shown.err) == (0, "")
    assert max(map(len, shown.out.splitlines())) <= columns
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert any(line.startswith("8 optimised 0.75 ± 0.25 24 ") for line in lines)
    assert any(line.startswith("20 graph (-0.50 ± 0.25) 8 ") for line in lines)
    # The drawings begin below each other.
    drawn = [line for line in shown.out.splitlines() if " ± 0.25" in line]
    assert len(drawn) == 2
    assert len({min(map(line.index, {*"█▒·"} & {*line})) for line in drawn}) == 1
    assert "effort standard" in lines


def test_published_document(narrow: Any) -> None:
    shown = narrow("bundled:z-image")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= 80
    for published in published_schedules():
        if published.model == "Tongyi-MAI/Z-Image":
            (line,) = (each for each in lines if each.endswith(drawn(published.schedule)))
            kinds = {13: "anchor", 25: "reference"}
            budget = published.schedule.budget
            assert line.split()[:2] == [str(budget), kinds.get(budget, "waypoint")]
    words = " ".join(shown.out.split())
    assert "revision any" in words
    assert "budgets 13 … 25, or 50" in words
    assert "published by the MeanCache authors" in words
    assert "evidence none" in words


def test_evidence(narrow: Any, tmp_path: Path) -> None:
    write_document(tmp_path / "policy", evidence=EVIDENCE)
    shown = narrow(str(tmp_path / "policy"))
    lines = [line.split("  ") for line in shown.out.splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    start = rows.index(["lpips", "uniform", "otcache", "otcache − uniform"])
    assert rows[start + 1 : start + 3] == [
        ["8", "0.500", "0.250", "-0.250 [-0.312, -0.188]"],
        ["12", "0.300"],
    ]
    assert "means over 9 held-out pairs" in shown.out


def test_one_budget(narrow: Any) -> None:
    shown = narrow("bundled:exact-flow", "--budget", "9")
    schedule = otcache_of(read_policy(BUNDLED_FOLDER / "exact-flow")).schedule(9)
    words = " ".join(shown.out.split())
    assert f"9 steps {drawn(schedule)}" in words
    assert f"computed {' '.join(map(str, schedule.computed_steps))} look-backs" in words
    assert f"look-backs {' '.join(map(str, schedule.look_backs))} speed-up 5.56" in words
    assert "anchor" not in words


def test_json_is_the_whole_document(main: Any) -> None:
    written = json.loads((BUNDLED_FOLDER / "exact-flow" / "policy.json").read_text())
    shown = main("show", "bundled:exact-flow", "--json")
    assert json.loads(shown.out) == {"source": "bundled:exact-flow", **written}
    one = json.loads(main("show", "bundled:z-image", "--json", "--budget", "50").out)
    assert one["schedule"]["computed_steps"] == list(range(50))


@pytest.mark.parametrize(
    ("width", "signs"), [(10, "███······█"), (9, "█▒··▒"), (5, "█▒··▒"), (4, "█··█"), (1, "▒")]
)
def test_more_steps_than_columns(width: int, signs: str) -> None:
    # By hand: 10 steps in groups of 1, 2, 2, 3 and 10; the last of 3 is of one step only.
    assert draw_schedule(Schedule([0, 1, 2, 9], 10), width) == signs


def test_narrow_terminal_says_what_a_sign_is(narrow: Any) -> None:
    shown = narrow("bundled:qwen-image", columns=40)
    # 40 columns leave 23 for 50 steps.
    assert "each sign is 3 steps" in " ".join(shown.out.split())
    (anchor,) = (line for line in shown.out.splitlines() if " anchor " in line)
    assert len(anchor.split()[-1]) == 17


def test_names_are_shown_as_they_are(narrow: Any, tmp_path: Path) -> None:
    folder = tmp_path / "[red]policy[/]"
    write_document(folder, model=ModelReference(id="org/[bold]name[/]", revision="[/]"))
    shown = narrow(str(folder), columns=200)
    assert shown.out.splitlines()[0] == str(folder)
    assert "org/[bold]name[/]" in shown.out
    assert "revision  [/]" in shown.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["otcache"], ["POLICY='otcache'", "a policy's name alone", "bundled:exact-flow"]),
        (["bundled:none"], ["no such bundled document", "bundled:exact-flow"]),
        (["./a/b/none"], ["no policy.json there", "Give a folder"]),
        (["hub:a"], ["'a' is not a repository", "Use hub:user/name"]),
        (["hub:a/b@x..y"], ["'x..y' is not a revision", "refs/pr/N"]),
        (["bundled:exact-flow", "--budget", "7"], ["budget=7", "Use --budget=8 … 50"]),
        (["bundled:z-image", "--budget", "30"], ["budget=30", "Use --budget=13 … 25, or 50"]),
    ],
)
def test_refused(
    main: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = main("show", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: ")
    for each in words:
        assert each in refused.err


def test_document_of_a_policy_that_nobody_registered(main: Any, tmp_path: Path) -> None:
    nobodys = PolicyIdentity(name="lost", distribution=None)
    write_document(tmp_path / "policy", policy=nobodys)
    refused = main("show", str(tmp_path / "policy"), "--budget", "9")
    assert (refused.code, refused.out) == (2, "")
    assert "policy='lost'" in refused.err
    uniform = PolicyIdentity(name="uniform", distribution="otcache-plugin")
    write_document(tmp_path / "other", policy=uniform)
    refused = main("show", str(tmp_path / "other"))
    assert refused.code == 2
    assert "a policy that needs no document. Pass policy='uniform'" in refused.err


@pytest.mark.parametrize("command", [("show", "--budget", "8"), ("predict", "--budget", "8")])
def test_document_of_a_policy_that_has_no_schedules(
    command: tuple[str, ...], main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_calibrated(
            "moved_latents",
            parameters=Part,
            make=lambda *_: MovedLatents(0.1),
            description="decides",
        )

    module = plugin(otcache_register_policies=otcache_register_policies)
    host = load_plugins([FakeEntryPoint("theirs", lambda: module, "otcache-theirs")], None)
    monkeypatch.setattr(host_module, "plugin_host", lambda: host)
    write_document(
        tmp_path / "policy",
        policy=PolicyIdentity(name="moved_latents", distribution="otcache-theirs"),
        parameters={},
        budgets=None,
        default_budget=None,
    )
    shown = main("show", str(tmp_path / "policy"))
    assert (shown.code, shown.err) == (0, "")
    assert "budgets   decided during the run" in shown.out
    assert "schedules" not in shown.out.replace("0 schedules run", "")
    name, *options = command
    refused = main(name, str(tmp_path / "policy"), *options)
    assert (refused.code, refused.out) == (2, "")
    assert "a policy that decides at every step of a run, so it has no schedules" in refused.err


def test_as_a_process(otcache: Any) -> None:
    shown = otcache("show", "bundled:exact-flow")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("bundled:exact-flow\n")
