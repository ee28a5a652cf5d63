"""Writes what was measured, benchmarks/results, into the README and docs/measured.md.

    python tools/write_figures.py

Both are templates in tools/figures filled with the figures of the results, so that no figure is
ever copied by hand. In the README only what stands between the two marks is replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import jinja2

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATES = ROOT / "tools" / "figures"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "measured.md"
MARKS = "<!-- figures: tools/write_figures.py -->", "<!-- end of figures -->"

Row = dict[str, Any]


def result(name: str) -> Any:
    """Return the content of one file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def interval(row: Row, prefix: str = "") -> str:
    """Return a paired difference and its 95 % confidence interval."""
    difference = row[f"{prefix}mean" if prefix else "difference"]
    return f"{difference:+.2f} [{row[prefix + 'low']:+.2f}, {row[prefix + 'high']:+.2f}]"


def paired(difference: Row) -> str:
    """Return a paired difference that is a value of its own, and its interval."""
    return f"{difference['mean']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]"


def other_steps(run: str | None = None) -> dict[tuple[str, str], dict[int | None, Row]]:
    """Return rows of the results of benchmarks/other_steps.py, by model and run, then budget."""
    found: dict[tuple[str, str], dict[int | None, Row]] = {}
    for row in (*result("other-steps-embedded"), *result("other-steps-flows")):
        if run in (None, row["run"]):
            found.setdefault((row["model"], row["run"]), {})[row["budget"]] = row
    return found


def by_policy(name: str, metric: str = "psnr") -> dict[int, dict[str, Row]]:
    """Return rows of a result of benchmarks/schedules.py, by budget and policy."""
    found: dict[int, dict[str, Row]] = {}
    for row in result(name)["rows"]:
        if row["metric"] == metric:
            found.setdefault(row["budget"], {})[row["policy"]] = row
    return found


GPU = "gpu-2026-11-27-h200"
"""The newest result of benchmarks/gpu."""


def gpu_rows(result: Any) -> list[dict[str, str]]:
    """Return the rows of a result of benchmarks/gpu that were run to the end, as text."""
    rows = []
    for row in result["rows"]:
        if "loop_seconds" not in row or "error" in row:
            continue
        speedup = result["speedups"].get(row["name"], {})
        model, _, contender = row["name"].partition("/")
        if row["steps"] != result["steps"]:
            contender += f", {row['steps']} steps"
        rows.append(
            {
                "model": model,
                "name": contender,
                "loop": f"{median(row['loop_seconds']):.2f}",
                "call": f"{median(row['end_to_end_seconds']):.2f}"
                if "end_to_end_seconds" in row
                else "",
                "faster": f"{speedup['loop']:.2f}x" if speedup else "",
                "call_faster": f"{speedup['end_to_end']:.2f}x" if "end_to_end" in speedup else "",
                "memory": f"{row['peak_memory_gib']:.1f}",
                "of": row.get("of", result["date"])[:10],
            }
        )
    return rows


def dates(result: Any) -> str:
    """Return when the rows of a result of benchmarks/gpu were measured."""
    return " and ".join(sorted({row.get("of", result["date"])[:10] for row in result["rows"]}))


def row_named(result: Any, name: str) -> Row:
    """Return the row of that name."""
    found: Row = next(row for row in result["rows"] if row["name"] == name)
    return found


def agreement(result: Any, start: str) -> str:
    """Return how far the latents agree in all rows whose names begin so."""
    rows = [row for row in result["rows"] if row["name"].startswith(start)]
    if all(row["identical"] for row in rows):
        return "bit for bit"
    return f"within {max(row['max_abs_difference'] for row in rows):.0e}"


SURE = 0.05
"""Corrected p-value below which a procedure is ahead, or behind."""


def effort_mean(model: Any, name: str) -> str:
    """Return a procedure's mean gain over its budgets and what it took, or nothing."""
    if name not in model["procedures"]:
        return "–"
    found = model["procedures"][name]
    gain = mean(row["difference"] for row in found["to_graph"]["psnr"])
    return f"{gain:+.2f}, {found['steps']:,}"


def effort_cell(row: Row) -> str:
    """Return a difference, marked where it is significant."""
    mark = ""
    if row["p_holm"] < SURE:
        mark = " ▲" if row["difference"] > 0 else " ▼"
    return f"{row['difference']:+.2f} ± {row['standard_error']:.2f}{mark}"


def effort_counts(models: Any, name: str, compared: str = "to_graph") -> dict[str, Any]:
    """Return how often a procedure is significantly ahead and behind, over models and budgets."""
    found = [each["procedures"][name] for each in models.values() if name in each["procedures"]]
    rows = [
        row
        for each in found
        for row in (each[compared]["psnr"] if compared == "to_graph" else each[compared])
    ]
    return {
        **row_counts(rows),
        "least": f"{min(each['steps'] for each in found):,}",
        "most": f"{max(each['steps'] for each in found):,}",
    }


def row_counts(rows: list[Row]) -> dict[str, Any]:
    """Return how many differences are significantly above and below zero, and their mean."""
    sure = [row["difference"] for row in rows if row["p_holm"] < SURE]
    return {
        "of": len(rows),
        "ahead": sum(difference > 0 for difference in sure),
        "behind": sum(difference < 0 for difference in sure),
        "mean": f"{mean(row['difference'] for row in rows):+.2f}",
    }


def joint_counts(models: Any, name: str) -> dict[str, Any]:
    """Return how a procedure does against joint searches: on how many models, at how many budgets.

    Of a model it is the mean over budgets that counts, by its 95 % interval.
    """
    rows = [row for each in models.values() for row in each["to_joint_searches"][name]]
    means = [each["to_joint_searches_over_budgets"][name] for each in models.values()]
    return {
        **row_counts(rows),
        "models": len(means),
        "models_ahead": sum(each["low"] > 0 for each in means),
        "models_behind": sum(each["high"] < 0 for each in means),
    }


def searched_and_predicted(models: Any, more: Any) -> dict[str, Any]:
    """Return how standard does against joint searches: where they search, and where they predict.

    Args:
        models: all budgets, on few pairs.
        more: those that are searched at, on many pairs.
    """
    searched = [row for each in more.values() for row in each["to_joint_searches"]["standard"]]
    budgets = sorted({row["budget"] for row in searched})
    predicted = [
        row
        for name in more
        for row in models[name]["to_joint_searches"]["standard"]
        if row["budget"] not in budgets
    ]
    each_takes = [
        each["procedures"]["joint searches"]["steps"] / len(budgets) for each in more.values()
    ]
    times = mean(
        takes / each["procedures"]["standard"]["steps"]
        for takes, each in zip(each_takes, more.values(), strict=True)
    )
    return {
        "searched": row_counts(searched),
        "predicted": row_counts(predicted),
        "least": f"{min(each_takes):,.0f}",
        "most": f"{max(each_takes):,.0f}",
        "times": f"{times:.1f}",
    }


def last_heat_rows() -> list[dict[str, Any]]:
    """Return what last heats of a race come to, in the mean over drawn flows."""
    flows = list(result("last-heat").values())
    found = []
    for compared in flows[0]["compared"]:
        table = [[row["difference"] for row in flow["compared"][compared]] for flow in flows]
        means = [mean(own) for own in table]
        found.append(
            {
                "compared": compared,
                "mean": over_flows(means),
                "above": sum(each > 0 for each in means),
                "budgets": [over_flows(at) for at in zip(*table, strict=True)],
            }
        )
    return found


def last_heat_steps() -> dict[str, str]:
    """Return what races that end in one way or another take, in the mean over drawn flows."""
    flows = list(result("last-heat").values())
    names = flows[0]["steps"]
    return {name: f"{mean(flow['steps'][name] for flow in flows):,.0f}" for name in names}


def over_flows(values: Sequence[float]) -> str:
    """Return a mean and its standard error."""
    return f"{mean(values):+.2f} ± {stdev(values) / len(values) ** 0.5:.2f}"


def lemica_counts(models: Any) -> dict[str, int]:
    """Return how often LeMiCa's minimax path is significantly ahead of the shortest, or behind.

    And how often the sum of edges ranks schedules better than the worst of them.
    """
    rows = [row for model in models.values() for row in model["paths"]]
    ranks = [row for model in models.values() for row in model["ranks"]]
    return {
        "of": len(rows),
        "ahead": sum(row["psnr_difference"]["low"] > 0 for row in rows),
        "behind": sum(row["psnr_difference"]["high"] < 0 for row in rows),
        "same": sum(row["minimax"]["steps"] == row["shortest"]["steps"] for row in rows),
        "sum_ranks_better": sum(row["rank_of_sum"] > row["rank_of_worst"] for row in ranks),
    }


def lemica_losses(models: Any) -> dict[int, str]:
    """Return by how much paths through edges of fewer samples are worse than through those of all.

    The mean over models and budgets, in dB, by the number of samples.
    """
    lost: dict[int, list[float]] = {}
    for model in models.values():
        for row in model["samples"]:
            lost.setdefault(row["samples"], []).append(-row["psnr_to_all"]["mean"])
    return {samples: f"{mean(each):.2f}" for samples, each in lost.items()}


def recache_runs(model: str) -> dict[str, Any]:
    """Return how ReCache's training on real runs does against even spacing, and the recording."""
    trainings = result("recache")[model]["trainings"]
    runs, form = (trainings[name] for name in ("runs", "form"))
    rows = runs["to_uniform"]["psnr"]
    below = [
        ours["mean"] - theirs["mean"]
        for ours, theirs in zip(form["to_uniform"]["psnr"], rows, strict=True)
    ]
    return {
        **row_counts(rows),
        "level": [row["budget"] for row in rows if row["p_holm"] >= SURE],
        "least": f"{min(below):.1f}",
        "most": f"{max(below):.1f}",
        "steps": f"{form['steps']:,}",
    }


def rendered(template: str) -> str:
    """Return a template with its figures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    helpers = (
        *(result, interval, by_policy, gpu_rows, dates, row_named, agreement, median),
        *(effort_mean, effort_cell, effort_counts, joint_counts, searched_and_predicted),
        *(last_heat_rows, last_heat_steps),
        *(paired, other_steps),
        *(lemica_counts, lemica_losses, recache_runs),
    )
    environment.globals.update({helper.__name__: helper for helper in helpers}, gpu=GPU)
    return environment.get_template(template).render()


def readme(current: str) -> str:
    """Return the README with the figures between the marks."""
    before, after = (re.escape(mark) for mark in MARKS)
    section = f"{MARKS[0]}\n{rendered('readme.md.j2')}{MARKS[1]}"
    return re.sub(f"{before}.*?{after}", lambda _: section, current, flags=re.DOTALL)


def main() -> None:
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(rendered("measured.md.j2"), encoding="utf-8")


if __name__ == "__main__":
    main()
