"""`otcache try`: a table, a page with the pictures, and a document made on the way."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from otcache_registry import read_policy
from otcache_registry.documents import bundled
from tiny_text import make_ltx_with_text

from otcache_plugin.cli.try_model import command_again
from otcache_plugin.comparing import side_by_side
from otcache_plugin.comparing.settings import SideBySideSettings
from otcache_plugin.models.source import ModelSource

PROMPT = "red circle left on navy"
FEW = ("--steps", "10", "--budget", "4")


@pytest.fixture
def otcache_try(main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that tries the exact flow, or what else is given, in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str, model: str = "exact-flow") -> Any:
        return main("try", model, "--prompt", PROMPT, *arguments)

    return run


def test_the_embedded_model(otcache_try: Any) -> None:
    done = otcache_try(*FEW, model="embedded")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["method", "steps", "seconds", "speed-up", "limit", "PSNR", "SSIM"]
    assert [line[:2] for line in lines[1:4]] == [
        ["full", "10/10"],
        ["uniform", "4/10"],
        ["otcache", "4/10"],
    ]
    assert [line[4] for line in lines[2:4]] == ["2.50x", "2.50x"]
    assert done.out.endswith("document: bundled:embedded\npage: otcache-try/page.html\n")
    assert "in full and with each policy" in done.err
    page = Path("otcache-try/page.html")
    assert page.read_text(encoding="utf-8").count("<img ") == 3
    assert list(Path().iterdir()) == [page.parent]
    assert list(page.parent.iterdir()) == [page]


def test_json_alone_on_stdout(otcache_try: Any) -> None:
    done = otcache_try("--prompt", "green square right on black", "--json", "--quiet", *FEW)
    assert (done.code, done.err) == (0, "")
    data = json.loads(done.out)
    assert data["page"] == "otcache-try/page.html"
    assert [each["prompt"] for each in data["pairs"]] == [PROMPT, "green square right on black"]
    assert [(each["method"], each["budget"], each["pairs"]) for each in data["rows"]] == [
        ("uniform", 4, 2),
        ("otcache", 4, 2),
    ]


def test_without_a_document(otcache_try: Any) -> None:
    refused = otcache_try("--policy", "gram", *FEW)
    assert (refused.code, refused.out) == (2, "")
    assert "policy='uniform', speedup=3" in refused.err
    assert "otcache calibrate exact-flow --policy gram" in refused.err
    assert refused.err.endswith("Or add --calibrate quick here.\n")
    assert list(Path().iterdir()) == []


@pytest.fixture
def nothing_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without documents."""
    (tmp_path / "bundled").mkdir()
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", tmp_path / "bundled")


@pytest.mark.usefixtures("nothing_bundled")
def test_a_document_on_the_way(otcache_try: Any) -> None:
    few = ("--steps", "10", "--budget", "4", "--output", ".", "--json", "--quiet")
    done = otcache_try("--calibrate", "quick", *few)
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["document"] == "policy"
    document = read_policy("policy").document
    assert (document.policy.name, document.model.id) == ("otcache", "exact-flow")
    assert document.num_inference_steps == 10
    assert document.calibrated_budgets == (2, 3, 4)  # 8 and 20 of 50 are 1.6 and 4 of 10
    calibration = document.calibration
    assert calibration is not None
    assert (calibration.pairs, calibration.denoising_steps) == (32, 32 * 10)
    assert [row["method"] for row in data["rows"]] == ["uniform", "otcache"]
    assert sorted(path.name for path in Path().iterdir()) == [
        *("page.html", "policy", "policy.calibration")
    ]
    # The page's command tries the document that is there now.
    assert "--policy ./policy" in Path("page.html").read_text(encoding="utf-8")
    again = otcache_try("--policy", "./policy", *few)
    assert json.loads(again.out)["rows"][1]["computed_steps"] == data["rows"][1]["computed_steps"]


@pytest.mark.usefixtures("nothing_bundled")
def test_standard_goes_on_from_quick(otcache_try: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, int, int]] = []

    def calibrate(task: Any, _: Any, measurements: Any, __: Any) -> None:
        recorded = len(list(measurements.workspace.folder.rglob("*.safetensors")))
        begun.append((task.options.effort, measurements.settings.pairs, recorded))
        raise KeyboardInterrupt

    few = ("--steps", "10", "--budget", "4", "--quiet")
    quick = otcache_try("--calibrate", "quick", *few)
    assert quick.code == 0
    command = "otcache store add otcache-try/policy"
    assert quick.err.endswith(f"To have policy='otcache' find it: {command}\n")
    monkeypatch.setattr("otcache_plugin.calibration.calibrate.calibrate", calibrate)
    assert otcache_try("--calibrate", "standard", *few).code == 130
    ((effort, pairs, recorded),) = begun
    assert (effort, pairs) == ("standard", 48)
    assert recorded > 0


def test_a_document_that_is_there_is_used(otcache_try: Any) -> None:
    done = otcache_try("--calibrate", "quick", *FEW, "--json")
    assert json.loads(done.out)["document"] == "bundled:exact-flow"
    assert not Path("otcache-try/policy").exists()


def test_a_document_that_is_named_is_not_replaced(otcache_try: Any) -> None:
    refused = otcache_try("--policy", "./nowhere", "--calibrate", "quick")
    assert refused.code == 2
    assert "no folder of this name" in refused.err
    assert list(Path().iterdir()) == []


def test_a_video_of_a_folder(otcache_try: Any, tmp_path: Path) -> None:
    make_ltx_with_text().save_pretrained(tmp_path / "model")
    call = json.dumps({"height": 64, "width": 64, "num_frames": 9})
    named = ("--revision", "r1", "--call", call, "--policy", "uniform")
    done = otcache_try(*named, "--steps", "4", "--budget", "2", model=str(tmp_path / "model"))
    assert done.code == 0, done.err
    assert "all 9 frames" in " ".join(done.out.split())
    page = Path("otcache-try/page.html").read_text(encoding="utf-8")
    assert "over all 9 frames of each video" in " ".join(page.split())


def test_without_a_document_the_command_calls_as_this_one(otcache_try: Any, tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    make_ltx_with_text().save_pretrained(folder)
    call = {"height": 64, "width": 64, "num_frames": 9}
    refused = otcache_try("--revision", "r1", "--call", json.dumps(call), model=folder)
    (line,) = [line for line in refused.err.splitlines() if "otcache calibrate" in line]
    words = shlex.split(line)
    assert words[2:5] == [folder, "--revision", "r1"]
    assert json.loads(words[words.index("--call") + 1]) == {"guidance_scale": 3, **call}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", " "], ["--prompt=' ': no words in it"]),
        (["--budget", "51"], ["--budget=51: not a number of steps of the run. Use 2 … 50"]),
        (["--steps", "1"], ["--steps=1: below 2"]),
        (["--prompts", "p.txt"], ["--prompts='p.txt': nothing is calibrated", "--calibrate"]),
        (["--metric", "psnr"], ["--metric='psnr': nothing is calibrated", "--calibrate"]),
        (["--prompts", "p", "--calibrate", "quick"], ["--prompts='p': exact-flow ships with"]),
        (["--policy", "otcahe"], ["--policy='otcahe': no such policy"]),
        (["--budget", "5"], ["--budget=5: a speed-up of 10, and 5 of 50 steps are outside the ra"]),
    ],
)
def test_refused_before_work(
    otcache_try: Any, arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "generate_outputs", lambda *_: pytest.fail("work was begun"))
    refused = otcache_try(*arguments)
    assert (refused.code, refused.out) == (2, "")
    for each in words:
        assert each in refused.err
    assert list(Path().iterdir()) == []


def test_a_folder_in_the_place_of_the_page(otcache_try: Any) -> None:
    Path("otcache-try/page.html").mkdir(parents=True)
    refused = otcache_try(*FEW)
    assert refused.code == 2
    assert "--output='otcache-try/page.html': cannot be written (a folder)" in refused.err


def test_the_command_of_the_page() -> None:
    usual = command_again(
        ModelSource("embedded"), SideBySideSettings((PROMPT,)), Path("otcache-try")
    )
    assert usual == f"otcache try embedded --prompt '{PROMPT}'"
    settings = SideBySideSettings(("a", "b c"), "./my policy", 9, 28, 3)
    source = ModelSource("org/model", "r1", call='{"height": 64}')
    assert shlex.split(command_again(source, settings, Path("there"))) == [
        *("otcache", "try", "org/model", "--prompt", "a", "--prompt", "b c"),
        *("--policy", "./my policy", "--budget", "9", "--steps", "28", "--seed", "3"),
        *("--revision", "r1", "--call", '{"height": 64}', "--output", "there"),
    ]


def test_the_command_is_light() -> None:
    code = "import sys, otcache_plugin.cli.try_model; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [name for name in ("torch", "diffusers", "jinja2") if name in loaded] == []
