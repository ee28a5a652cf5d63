"""The figures in the README and on the page of measurements are those in benchmarks/results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from otcache_plugin.calibration.cost import stage_costs
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.task import calibration_task

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
CALIBRATING = (ROOT / "docs" / "calibrating.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    """The tool that writes them."""
    path = ROOT / "tools" / "write_figures.py"
    spec = importlib.util.spec_from_file_location("write_figures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_result_says_where_somebodys_folders_lie() -> None:
    for path in RESULTS.glob("*.json"):
        assert '"/' not in path.read_text(encoding="utf-8"), path.name


def test_what_is_written_is_what_the_results_say(figures: ModuleType) -> None:
    assert figures.readme(README) == README, "run python tools/write_figures.py"
    assert figures.rendered("measured.md.j2") == PAGE, "run python tools/write_figures.py"


@pytest.mark.parametrize("result", ["exact-flow", "embedded"])
@pytest.mark.parametrize("budget", [8, 10, 12, 15])
def test_a_row_is_as_measured(result: str, budget: int) -> None:
    rows = json.loads((RESULTS / f"{result}.json").read_text())["rows"]
    psnr = {
        row["policy"]: row for row in rows if (row["budget"], row["metric"]) == (budget, "psnr")
    }
    names = "fewer-steps", "uniform", "meancache", "otcache"
    means = " | ".join(f"{psnr[name]['mean']:.2f}" for name in names)
    own = psnr["otcache"]
    low, high = own["difference_low"], own["difference_high"]
    difference = f"{own['difference_mean']:+.2f} [{low:+.2f}, {high:+.2f}]"
    assert f"| {budget} | {means} | {difference} |" in README


@pytest.mark.parametrize("name", ["standard", "quick"])
def test_every_figure_of_an_effort_is_as_measured(name: str) -> None:
    models = json.loads((RESULTS / "efforts.json").read_text())
    assert len(models) == 10
    for model, found in models.items():
        rows = found["procedures"][name]["to_graph"]["psnr"]
        assert [row["budget"] for row in rows] == list(range(8, 21))
        (line,) = (
            each
            for each in PAGE.splitlines()
            if each.startswith(f"| {model} |")
            and f" {rows[0]['difference']:+.2f} ± {rows[0]['standard_error']:.2f}" in each
            and each.count("±") == len(rows)
            and f"{rows[-1]['difference']:+.2f} ± {rows[-1]['standard_error']:.2f}" in each
        )
        for row in rows:
            assert f" {row['difference']:+.2f} ± {row['standard_error']:.2f}" in line


def test_ablations_are_as_measured_and_the_papers_own_stand_apart() -> None:
    ours, theirs = PAGE.split("## The paper's ablations, on our models")[1].split("Apart from all")
    models = json.loads((RESULTS / "ablations.json").read_text())
    for model, found in models.items():
        for rho in ("1.0", "1.15", "1.45"):
            rows = found["rho"][rho]
            assert [row["budget"] for row in rows] == [10, 12, 15]
            cells = [f"{r['difference']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}]" for r in rows]
            assert f"| {model}, {rho} | {' | '.join(cells)} |" in ours
        for start in ("meancache", "uniform", "random"):
            assert f"| {model}, {start} | {found['starts'][start]['steps']:,} |" in ours
    assert "none of them measured here" in theirs
    for of_the_paper in ("26.03", "20.22", "0.261"):
        assert of_the_paper in theirs
        assert of_the_paper not in ours


def counted(rows: list[dict[str, float]]) -> tuple[int, int]:
    """Return how many differences are significantly above zero, and below."""
    sure = [row["difference"] for row in rows if row["p_holm"] < 0.05]
    return sum(each > 0 for each in sure), sum(each < 0 for each in sure)


def test_how_often_it_is_ahead_is_counted() -> None:
    models = json.loads((RESULTS / "efforts.json").read_text())
    rows = [
        row
        for found in models.values()
        for row in found["procedures"]["standard"]["to_graph"]["psnr"]
    ]
    ahead, behind = counted(rows)
    words = " ".join(README.split())
    assert f"in {ahead} of {len(rows)} comparisons and behind in {behind}," in words


def test_how_often_it_is_ahead_on_more_pairs_is_counted() -> None:
    models = json.loads((RESULTS / "efforts-512.json").read_text())
    assert {found["held_out_pairs"] for found in models.values()} == {512}
    section = PAGE.split("## On eight times as many pairs")[1].split("\n## ")[0]
    words = " ".join(section.split())
    graph = [
        r for each in models.values() for r in each["procedures"]["standard"]["to_graph"]["psnr"]
    ]
    ahead, behind = counted(graph)
    assert f"in {ahead} of {len(graph)} comparisons" in words
    assert f"and behind in {behind}. Joint" in words
    searched = [r for each in models.values() for r in each["to_joint_searches"]["standard"]]
    ahead, behind = counted(searched)
    assert f"behind them in {behind} of {len(searched)} and ahead in {ahead}," in words


def test_how_searches_compare_over_all_budgets_is_counted() -> None:
    models = json.loads((RESULTS / "efforts.json").read_text())
    section = PAGE.split("## Against the searches it replaces")[1].split("\n## ")[0]
    words = " ".join(section.split())
    for name in ("standard", "thorough"):
        means = [each["to_joint_searches_over_budgets"][name] for each in models.values()]
        ahead = sum(each["low"] > 0 for each in means)
        assert not any(each["high"] < 0 for each in means)
        said = f"{name.capitalize()} is ahead in the mean on {ahead} of {len(means)} models and "
        assert said + "behind on 0;" in words
        for each, mean in zip(models.values(), means, strict=True):
            # The mean over pairs of means over budgets is the mean over budgets of means.
            rows = each["to_joint_searches"][name]
            over = sum(row["difference"] for row in rows) / len(rows)
            assert mean["mean"] == pytest.approx(over, abs=1e-4)


def test_no_last_heat_is_surely_better_than_the_one_that_ships() -> None:
    """As the page says; else it would have to ship."""
    flows = json.loads((RESULTS / "last-heat.json").read_text())
    means = [
        sum(row["difference"] for row in each["compared"]["by a surrogate − by gains"]) / 13
        for each in flows.values()
    ]
    count, mean = len(means), sum(means) / len(means)
    error = (sum((each - mean) ** 2 for each in means) / (count - 1) / count) ** 0.5
    assert abs(mean) < 2 * error
    above = sum(each > 0 for each in means)
    row = f"| by a surrogate − by gains | {mean:+.2f} ± {error:.2f} | on {above} flows |"
    assert row in PAGE
    assert "no sure gain over it" in PAGE
    assert f"{count} flows that were drawn for it" in PAGE


def test_what_calibrating_on_blocks_gains_is_as_measured() -> None:
    found = json.loads((RESULTS / "on-blocks.json").read_text())
    words = " ".join(CALIBRATING.split())
    for name in ("blocks", "velocity", "uniform"):
        assert f"{found['psnr'][name]:.2f} dB" in words
    (row,) = (each for each in found["differences"] if each["to"] == "velocity")
    interval = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
    assert f"{row['mean']:+.2f} dB {interval} of the second over the first" in words
    settings = found["settings"]
    assert f"on {settings['pairs']} pairs with {settings['trials']} trials" in words
    assert f"on {settings['held_out']} held-out pairs" in words


@pytest.mark.parametrize(
    ("effort", "pairs"), [("quick", 32), ("standard", 48), ("thorough", 96), ("paper", 50)]
)
def test_the_table_of_efforts_follows_from_the_formula(effort: str, pairs: int) -> None:
    task = calibration_task("otcache", {"effort": effort}, 50)
    assert task.calibrator.usual_pairs(task.options) == pairs
    *stages, _ = stage_costs(task, MeasuringSettings(pairs=pairs), max_look_back=6)
    steps = sum(stage.denoising_steps for stage in stages)
    assert f"| {pairs} | {steps:,} |" in CALIBRATING


def test_the_cost_table_follows_from_the_formula() -> None:
    def steps(effort: str, pairs: int) -> tuple[int, int]:
        settings = MeasuringSettings(pairs=pairs, held_out_pairs=50, batch_size=1, metric="lpips")
        task = calibration_task("otcache", {"effort": effort}, settings.num_inference_steps)
        *stages, evidence = stage_costs(task, settings, max_look_back=6)
        return sum(stage.denoising_steps for stage in stages), evidence.denoising_steps

    (quick, evidence), (standard, _) = steps("quick", 32), steps("standard", 48)
    assert evidence == 510 * 50
    for latency in (11.57, 32.68, 105.92):  # seconds of 50 steps, as the page says whose
        hours = [each * latency / 50 / 3600 for each in (quick, standard, evidence)]
        cells = " | ".join(f"{each:.1f}" for each in hours)
        assert f"| {latency / 50:.3f} | {cells} |" in CALIBRATING


@pytest.mark.parametrize(
    ("page", "model"),
    [("flux-1-dev", "flux"), ("qwen-image", "qwen"), ("hunyuan-video", "hunyuan")],
)
def test_seconds_on_a_models_page_are_those_of_the_newest_run(
    figures: ModuleType, page: str, model: str
) -> None:
    text = " ".join((ROOT / "docs" / "models" / f"{page}.md").read_text().split())
    rows = {
        (row["model"], row["name"]): row for row in figures.gpu_rows(figures.result(figures.GPU))
    }
    full, ten = rows[model, "full"], rows[model, "velocity 10"]
    digits = 1 if model == "hunyuan" else 2
    for row in full, ten:
        assert f" {float(row['call']):.{digits}f} s " in text
    assert f" {ten['call_faster'].removesuffix('x')} times faster" in text


def test_how_long_a_calibration_of_flux_takes_follows_from_the_newest_run(
    figures: ModuleType,
) -> None:
    text = " ".join((ROOT / "docs" / "models" / "flux-1-dev.md").read_text().split())
    (loop,) = (
        float(row["loop"])
        for row in figures.gpu_rows(figures.result(figures.GPU))
        if (row["model"], row["name"]) == ("flux", "full")
    )
    step = loop / 50
    assert f"8 held-out pairs of 510 steps, takes twelve more at {step:.3f} seconds each" in text
    assert round(8 * 510 * step / 60) == 12
    assert f"in at most 16,000 steps, or {16_000 * step / 60:.0f} minutes" in text
