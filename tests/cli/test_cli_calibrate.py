"""`otcache calibrate` and `merge`: options, what is refused at once, and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import typer

from otcache_plugin.calibration.settings import MeanCacheOptions, OTCacheOptions
from otcache_plugin.evaluation import lpips_networks
from otcache_plugin.evaluation.metrics import METRICS

PAPER = ("--effort", "paper")
SMALL = (
    *("--steps", "12", "--budget-reference", "7", "--budget-anchor", "4"),
    *("--pairs", "4", "--held-out-pairs", "3", "--batch-size", "2", "--trials", "4"),
    *("--effort", "paper", "--search", "joint"),
)


@pytest.fixture
def calibrate(main: Any, tmp_path: Path) -> Any:
    """Return a function that calibrates the exact flow, or what else is given."""

    def run(*arguments: str, model: str = "exact-flow") -> Any:
        return main("calibrate", model, "--output", str(tmp_path / "policy"), *arguments)

    return run


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What calibrations were begun with, which end at once."""
    found: list[dict[str, Any]] = []

    def run(task: Any, source: Any, settings: Any, where: Any, _: Any) -> None:
        found.append(
            {
                "model": source.model,
                "ray": where.ray,
                "shard": where.shard,
                "threads": settings.threads,
                "pairs": settings.pairs,
                "work": where.work,
                "policy": task.policy,
                "options": task.options,
                "mechanism": str(settings.mechanism),
            }
        )
        raise typer.Exit

    monkeypatch.setattr("otcache_plugin.cli.calibrate._run", run)
    return found


@pytest.mark.parametrize(
    ("arguments", "ray", "model"),
    [
        (["org/m"], None, "org/m"),
        (["org/m", "--ray"], "local", "org/m"),
        (["--ray", "org/m"], "local", "org/m"),
        (["--ray", "org/model"], "local", "org/model"),
        (["--ray", "./folder"], "local", "./folder"),
        (["--ray", "--quiet", "org/m"], "local", "org/m"),
        (["org/m", "--ray", "local"], "local", "org/m"),
        (["org/m", "--ray", "auto"], "auto", "org/m"),
        (["--ray", "auto", "org/m"], "auto", "org/m"),
        (["--ray", "head-1:6379", "org/m"], "head-1:6379", "org/m"),
        (["--ray", "192.0.2.7:6379", "org/m"], "192.0.2.7:6379", "org/m"),
        (["--ray", "ray://head:10001", "org/m"], "ray://head:10001", "org/m"),
        (["--ray=auto", "org/m"], "auto", "org/m"),
        (["org/m", "--ray=local", "-q"], "local", "org/m"),
    ],
)
def test_ray_may_stand_alone(
    main: Any,
    begun: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    ray: str | None,
    model: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    ended = main("calibrate", "--output", str(tmp_path / "policy"), *arguments)
    assert ended.code == 0, ended.err
    assert [(each["model"], each["ray"]) for each in begun] == [(model, ray)]


def test_shards_and_workers(calibrate: Any, begun: list[dict[str, Any]]) -> None:
    assert calibrate("--shard", "2/3").code == 0
    assert calibrate("--ray", "--cpus-per-worker", "4").code == 0
    assert [(each["shard"], each["ray"], each["threads"]) for each in begun] == [
        ((2, 3), None, 1),
        (None, "local", 4),
    ]


@pytest.mark.parametrize(
    ("arguments", "waypoints"),
    [
        ([], None),
        (["--effort", "paper", "--waypoints", "10,12,15"], (10, 12, 15)),
        (["--effort", "thorough", "--waypoints", "9"], (9,)),
        ([*PAPER, "--waypoints", "none"], ()),
        ([*PAPER, "--budget-anchor", "4", "--budget-reference", "7", "--waypoints=5,6"], (5, 6)),
    ],
)
def test_waypoints(
    calibrate: Any,
    begun: list[dict[str, Any]],
    arguments: list[str],
    waypoints: tuple[int, ...] | None,
) -> None:
    assert calibrate(*arguments).code == 0
    assert [each["options"].waypoints for each in begun] == [waypoints]


def test_how_to_search(calibrate: Any, begun: list[dict[str, Any]]) -> None:
    assert calibrate().code == 0
    paper = ("--effort", "paper")
    options = ("--search", "per-pair", "--trials", "7", "--patience", "3")
    assert calibrate(*paper, *options).code == 0
    settings = ("--set", "search=per-pair", "--set", "trials=7", "--set=patience=3")
    assert calibrate("--set", "effort=paper", *settings).code == 0
    assert [each["options"] for each in begun] == [
        OTCacheOptions(effort="standard", trials=200, patience=50, search=None),
        *[OTCacheOptions(effort="paper", trials=7, patience=3, search="per-pair")] * 2,
    ]


def test_another_policy(calibrate: Any, begun: list[dict[str, Any]], tmp_path: Path) -> None:
    assert calibrate("--policy", "meancache", "--set", "budgets=9,14").code == 0
    assert calibrate("--policy", "meancache", "--work", str(tmp_path / "shared")).code == 0
    assert [(each["policy"], each["options"], each["work"]) for each in begun] == [
        ("meancache", MeanCacheOptions(budgets=(9, 14)), None),
        ("meancache", MeanCacheOptions(), tmp_path / "shared"),
    ]


def test_what_schedules_are_run_on(calibrate: Any, begun: list[dict[str, Any]]) -> None:
    assert calibrate().code == 0
    assert calibrate("--executor", "blocks", "--calibrator", "foca").code == 0
    assert [each["mechanism"] for each in begun] == ["velocity", "blocks with foca"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--executor", "block"], ["executor", "'block'", "Use one of blocks, probe, velocity"]),
        (["--calibrator", "foca"], ["--calibrator='foca'", "use the executor blocks"]),
        (
            ["--executor", "blocks", "--effort", "quick"],
            ["--executor='blocks'", "without a run on it", "Use the effort standard"],
        ),
        (["--shard", "0/3"], ["--shard='0/3'", "1 <= I <= N", "--shard 1/4"]),
        (["--shard", "4/3"], ["--shard='4/3'", "1 <= I <= N"]),
        (["--shard", "x"], ["--shard='x'", "1 <= I <= N"]),
        (["--shard", "1/2", "--ray"], ["--ray='local'", "Pass either --ray or --shard"]),
        (["--wait", "-1"], ["--wait=-1.0", "not 0 or more"]),
        (["--wait", "nan"], ["--wait=nan", "not 0 or more"]),
        (
            [*PAPER, "--search", "wide"],
            ["--search='wide'", "no such search", "Use joint or per-pair"],
        ),
        (["--policy", "meancache", "--trials", "3"], ["--trials=3: meancache has no such option"]),
        (["--policy", "uniform"], ["--policy='uniform': nothing calibrates it", "meancache"]),
        (["--policy", "nothing"], ["policy", "no such policy"]),
        (["--set", "trials"], ["--set='trials'", "not NAME=VALUE", "such as trials=100"]),
        ([*PAPER, "--trials", "3", "--set", "trials=4"], ["--set='trials=4'", "given twice"]),
        (["--set", "beauty=1"], ["beauty='1': otcache has no such option", "budget_anchor"]),
        (["--work", "w", "--shard", "1/2"], ["--work='w'", "Pass either --work or --shard"]),
        ([*PAPER, "--trials", "4001"], ["--trials=4001", "Use 4000 or fewer"]),
        *(
            (["--waypoints", text], [f"--waypoints={text!r}", "Pass such as 10,12,15, or none"])
            for text in ("", "10,", "10,,12", "10, 12", "ten", "10;12", "-10", "all", "1e1")
        ),
        (
            [*PAPER, "--waypoints", "12,10"],
            ["--waypoints=(12, 10)", "not increasing between 8 and 20"],
        ),
        (
            [*PAPER, "--waypoints", "8,10"],
            ["--waypoints=(8, 10)", "not increasing between 8 and 20"],
        ),
        (
            [*PAPER, "--waypoints", "10,20"],
            ["--waypoints=(10, 20)", "between the anchor's and the refe"],
        ),
        (
            ["--trials", "3"],
            ["--trials=3", "effort standard has no such option", "thorough or paper"],
        ),
        (["--effort", "thorough", "--search", "joint"], ["--search='joint'", "the effort paper"]),
        (["--effort", "fast"], ["--effort='fast'", "Use quick, standard, thorough, paper"]),
        (["--effort", "quick", "--set", "effort=paper"], ["--set='effort=paper'", "given twice"]),
        (["--policy", "meancache", "--effort", "quick"], ["--effort='quick'", "no such option"]),
        (["--pairs", "15"], ["--pairs=15: too few", "Use 16 or more, or the effort quick"]),
        (["--effort", "quick", "--pairs", "1"], ["--pairs=1: too few", "Use 2 or more"]),
        (["--cpus-per-worker", "0"], ["--cpus-per-worker=0", "Use 1 or more"]),
        (["--held-out-pairs", "1"], ["--held-out-pairs=1", "Use 2 or more"]),
        (["--budget-reference", "2"], ["--budget-reference=2", "Use 2 <="]),
        (["--prompts", "p.txt"], ["--prompts='p.txt'", "exact-flow ships with", "Leave it out"]),
    ],
)
def test_refused_before_anything_is_written(
    calibrate: Any, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    refused = calibrate(*arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: ")
    for each in words:
        assert each in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("prompts", "evaluation", "words"),
    [
        ("", "a\n", ["--prompts=", "prompts.txt", "there is no prompt in it"]),
        ("\n  \n", "a\n", ["--prompts=", "there is no prompt in it"]),
        ("a\nb\na\n", "c\n", ["--prompts=", "line 3: the prompt 'a' is in line 1 already"]),
        (None, "c\n", ["--prompts=", "prompts.txt", "it cannot be read", "No such file"]),
        ("a\nb\n", "c\n B \n", ["prompt='B'", "among the evaluation prompts", "leave it out"]),
        ("a\n", "c\nc\n", ["--evaluation-prompts=", "line 2", "already"]),
    ],
)
def test_prompts(
    calibrate: Any,
    tmp_path: Path,
    prompts: str | None,
    evaluation: str,
    words: list[str],
) -> None:
    files = tmp_path / "prompts.txt", tmp_path / "evaluation.txt"
    for file, text in zip(files, (prompts, evaluation), strict=True):
        if text is not None:
            file.write_text(text)
    before = sorted(tmp_path.iterdir())
    model = tmp_path / "model"
    model.mkdir()
    refused = calibrate(
        "--prompts", str(files[0]), "--evaluation-prompts", str(files[1]), model=str(model)
    )
    assert (refused.code, refused.out) == (2, "")
    for each in words:
        assert each in refused.err
    assert sorted(tmp_path.iterdir()) == sorted([*before, model])


def test_a_working_folder_that_cannot_be(calibrate: Any, tmp_path: Path) -> None:
    (tmp_path / "policy.calibration").write_text("a file in its way")
    refused = calibrate(*SMALL)
    assert (refused.code, refused.out) == (1, "")
    assert f"error: the working folder {tmp_path / 'policy.calibration'} cannot be" in refused.err
    assert "use another output" in refused.err
    assert (tmp_path / "policy.calibration").read_text() == "a file in its way"


def test_an_error_that_nobody_foresaw_says_how_to_go_on(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr("otcache_plugin.calibration.measuring.worker.Worker._evaluate", failing)
    small = "--policy meancache --set budgets=4 --steps 12 --pairs 4 --held-out-pairs 3"
    output = ("--output", str(tmp_path / "policy"))
    with pytest.raises(RuntimeError, match="CUDA error") as failed:
        main("calibrate", "exact-flow", *output, *small.split(), "--batch-size", "2")
    kept = "What was measured is kept. Start the same command again to go on."
    assert failed.value.__notes__ == [kept]
    *_, begun, recorded, tuning, stopped = capsys.readouterr().err.splitlines()
    assert begun.startswith("recording full runs: 0 of at most 2 [0 %, ")
    assert recorded.startswith("recording full runs: 2 of 2, done [")
    assert tuning.startswith("tuning the graph policy: 0 of at most ")
    assert stopped.startswith("tuning the graph policy: 0 of at most ")
    assert ", stopped [" in stopped


def test_here(main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that one is in has a name too, for the working folder beside it."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    done = main("calibrate", "exact-flow", "--output", ".", "--quiet", *SMALL)
    assert done.code == 0, done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "here.calibration"]
    assert (tmp_path / "here" / "policy.json").exists()


def test_json(calibrate: Any, main: Any, tmp_path: Path) -> None:
    done = calibrate("--json", *SMALL)
    assert done.code == 0, done.err
    data = json.loads(done.out)
    written = json.loads((tmp_path / "policy" / "policy.json").read_text())
    assert data == {"output": str(tmp_path / "policy"), **written}
    assert "recording full runs" in done.err
    (tmp_path / "policy.calibration").rename(tmp_path / "policy.shard-1-of-1")
    merged = main("merge", str(tmp_path / "policy"), "--json")
    assert merged.code == 0, merged.err
    assert json.loads(merged.out) == data
    assert "recording full runs" in merged.err


def test_dry_run(calibrate: Any, tmp_path: Path) -> None:
    done = calibrate("--json", "--dry-run", *SMALL)
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["stages"][0]["stage"] == "recording full runs"
    assert data["transformer_calls"] == sum(each["transformer_calls"] for each in data["stages"])
    told = calibrate("--dry-run", *SMALL)
    assert told.code == 0, told.err
    lines = [" ".join(line.split()) for line in told.out.splitlines()]
    for stage in data["stages"]:
        (line,) = (line for line in lines if line.startswith(stage["stage"]))
        assert f"{stage['denoising_steps']:,}" in line
        assert f"{stage['transformer_calls']:,}" in line
    steps, of_evidence = data["denoising_steps"], data["evidence_steps"]
    total = f"at most {steps + of_evidence:,} {data['transformer_calls']:,} "
    assert any(line.startswith(total) for line in lines)
    paper = f"paper * 4 at most {steps:,} {of_evidence} at most "
    assert any(line.startswith(paper) for line in lines)
    # It takes more pairs than there are, which its sentence below says.
    assert "standard" in lines
    assert any(line.startswith("standard: ") and "too few" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_too_few_pairs_and_the_way_out(
    calibrate: Any, main: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused before the model is loaded; what the error says to do works."""
    few = (
        *("--steps", "12", "--budget-reference", "6", "--budget-anchor", "4"),
        *("--pairs", "8", "--held-out-pairs", "2", "--batch-size", "4", "--quiet"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            "otcache_plugin.models.setups.load_setup", lambda name: pytest.fail("it is loaded")
        )
        refused = calibrate(*few)
    assert (refused.code, refused.out) == (2, "")
    assert "--pairs=8: too few for the effort standard, which takes 16 or more" in refused.err
    assert "Use 16 or more, or the effort quick" in refused.err
    assert list(tmp_path.iterdir()) == []
    done = calibrate(*few, "--effort", "quick")
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "policy" / "policy.json").read_text())
    assert document["calibration"]["settings"]["effort"] == "quick"
    assert document["calibration"]["pairs"] == 8
    assert document["budgets"]["calibrated"] == [4, 5, 6]
    shown = main("show", str(tmp_path / "policy"))
    assert shown.code == 0, shown.err
    for words in ("effort", "quick", "optimised"):
        assert words in shown.out


@pytest.mark.parametrize(
    ("arguments", "effort", "pairs"),
    [
        ([], "standard", 48),
        (["--effort", "quick"], "quick", 32),
        (["--effort", "standard"], "standard", 48),
        (["--effort", "thorough"], "thorough", 96),
        (["--effort", "paper"], "paper", 50),
        (["--effort", "quick", "--pairs", "20"], "quick", 20),
    ],
)
def test_as_many_pairs_as_an_effort_makes_use_of(
    calibrate: Any,
    begun: list[dict[str, Any]],
    arguments: list[str],
    effort: str,
    pairs: int,
) -> None:
    assert calibrate(*arguments).code == 0
    assert [(each["options"].effort, each["pairs"]) for each in begun] == [(effort, pairs)]


def test_values_that_are_not_finite_are_told(
    calibrate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Here SSIM, of which nothing is chosen: its figures are left out of the evidence."""
    own = METRICS["ssim"]

    def broken(candidate: Any, reference: Any) -> Any:
        values = own.compare(candidate, reference)
        return values * float("nan")

    monkeypatch.setitem(METRICS, "ssim", replace(own, compare=broken))
    done = calibrate(*SMALL, "--quiet")
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "policy" / "policy.json").read_text())
    failed, measured = (document["calibration"][name] for name in ("values_not_finite", "values"))
    assert f"{failed:,} of {measured:,} measured values were not finite. No schedule" in done.err
    assert {row["metric"] for row in document["evidence"]} == {"psnr"}
    # Every run on the three held-out pairs gave three of them, and three of PSNR.
    assert failed % 3 == 0
    assert failed > 0


def test_lpips_without_its_weights_ends_before_anything_is_measured(
    calibrate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(lpips_networks, "urlopen", refused)
    lpips_networks.lpips_network.cache_clear()
    done = calibrate("--metric", "lpips-vgg", *SMALL)
    assert done.code == 1
    for text in ("weights of vgg16", "no route to host", "set TORCH_HOME", "lpips_weights.py"):
        assert text in " ".join(done.err.split())
    assert not list(tmp_path.rglob("record-*"))


def test_the_second_testbed_is_a_model_in_a_folder(calibrate: Any, tmp_path: Path) -> None:
    """A Wan, which diffusers loads with accelerate alone; guidance is a second call per step."""
    folder = Path(__file__).parents[2] / "tools" / "testbed"
    call = {"height": 32, "width": 32, "num_frames": 1, "max_sequence_length": 8}
    done = calibrate(
        *("--revision", "1", "--call", json.dumps({**call, "guidance_scale": 3.5})),
        *("--metric", "psnr", "--effort", "quick", "--steps", "8"),
        *("--budget-anchor", "3", "--budget-reference", "4"),
        *("--pairs", "2", "--held-out-pairs", "2", "--batch-size", "2", "--quiet"),
        *("--prompts", str(folder / "calibration.txt")),
        *("--evaluation-prompts", str(folder / "evaluation.jsonl")),
        model=str(folder),
    )
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "policy" / "policy.json").read_text())
    assert document["sampling"]["pipeline"] == "WanPipeline"
    assert document["sampling"]["guidance"] == {"guidance_scale": 3.5}
    spent = document["calibration"]
    assert spent["denoising_steps"] == 2 * 8
    # Of a batch of two pairs every step is two calls.
    assert spent["transformer_calls"] == spent["denoising_steps"] + spent["evidence_steps"]
