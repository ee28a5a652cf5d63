"""The page of the documentation that compares all methods, from the results of the benchmark.

mkdocs calls `on_files` when it builds, because mkdocs.yml lists this file among its hooks.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
PAGE = "compared.md"
MARKS = {"ahead": " ▲", "behind": " ▼", "tie": ""}
PREDICTED = "†"

FOLDED = " " * 4
"""Before every line of what a reader has to open."""

INTRODUCTION = """---
hide: [toc]
---

<style>
.md-typeset table:not([class]) th {{ min-width: 0; }}
.md-typeset table:not([class]) :is(th, td) {{ padding: .5em .6em; }}
</style>

# Compared

Every method on one model, the same held-out prompts and seeds, one run of [`otcache
compare`](comparing.md), which anyone can repeat on a model of theirs: `python -m
benchmarks.compared {models} --work DIR`. The models are small ([what they
are](embedded-models.md)): what a method costs beside the transformer weighs more here, and
nothing says how methods do on FLUX.

**OTCache − method** is the mean difference of PSNR to the full run, in dB, pair by pair: ▲ where
its 95 % interval excludes zero in OTCache's favour, ▼ against it, no mark for a tie. Schedules
and solvers are held against OTCache at the same number of computed steps. Caches that decide by a
threshold have none to ask for: they are held against OTCache's at the same *measured speed-up*,
their quality there interpolated between their own settings, in a straight line however far apart
these lie; "–" where no settings of theirs lie around it. *Calibration* is in denoising steps,
with what was tuned for a method of others. † says of a method that is searched for, one budget at a
time, that this budget is none of those: its schedule is predicted from both beside it, as this
package does.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those in the folder."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """Return the page, in Markdown."""
    found = [json.loads(each.read_text("utf-8")) for each in sorted(RESULTS.glob("compared-*"))]
    models = " ".join(each["model"] for each in found)
    sections = (section(each) for each in found)
    return "\n\n".join([INTRODUCTION.format(models=models).strip(), *sections]) + "\n"


def section(results: dict[str, Any]) -> str:
    """Return what the page says of one model."""
    timing = results["timing"]
    rounds = "one round" if timing["rounds"] == 1 else f"medians of {timing['rounds']} rounds"
    return f"""## {results["model"]}

{results["pairs"]} held-out pairs, {results["num_inference_steps"]} steps; seconds of a call of \
{timing["pairs_per_call"]} pictures on {timing["machine"]}, {rounds}.

{differences(results)}

??? info "{results["model"]}: every setting of every method"

{indent(settings(results), FOLDED)}

{not_run(results)}"""


def differences(results: dict[str, Any]) -> str:
    """Return the table of OTCache's lead at each of its budgets."""
    rows = results["against_each"]["psnr"]
    spent = {row["method"]: row["calibration_steps"] for row in results["rows"]}
    predicted = predicted_settings(results)
    header = ["OTCache − method", *(row["setting"].removesuffix(" steps") for row in rows)]
    lines = [line([*header, "calibration"]), line(["---"] * (len(header) + 1))]
    for name, taken in spent.items():
        if name == "otcache":
            continue
        cells = [
            cell(row["differences"].get(name)) + PREDICTED * ((name, row["setting"]) in predicted)
            for row in rows
        ]
        lines.append(line([f"`{name}`", *cells, steps(taken)]))
    own = steps(spent.get("otcache"))
    return "\n".join([*lines, "", f"OTCache's own calibration took {own} denoising steps."])


def predicted_settings(results: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the methods, each with a budget in words, whose schedules there were not searched."""
    end = ", predicted"
    settings = ((row["method"], row["setting"]) for row in results["rows"])
    return {(name, words.removesuffix(end)) for name, words in settings if words.endswith(end)}


def settings(results: dict[str, Any]) -> str:
    """Return the table of what each setting of each method came to."""
    metrics = list(results["metrics"])
    lines = [
        line(["method", "setting", "seconds", "speed-up", *(each.upper() for each in metrics)])
    ]
    lines.append(line(["---"] * (4 + len(metrics))))
    for row in results["rows"]:
        means = (row["means"].get(each) for each in metrics)
        figures = ["" if mean is None else f"{mean:.3f}" for mean in means]
        seconds, speedup = f"{row['seconds']:.2f}", f"{row['speedup']:.2f}"
        lines.append(line([f"`{row['method']}`", row["setting"], seconds, speedup, *figures]))
    return "\n".join(lines)


def not_run(results: dict[str, Any]) -> str:
    """Return what was left out, and why."""
    said = [f"- `{each['method']}`: {each['reason']}" for each in results["not_run"]]
    return "\n".join(["Not run:", "", *said]) if said else ""


def cell(difference: dict[str, Any] | None) -> str:
    """Return a difference in dB with its mark."""
    if difference is None:
        return "–"
    return f"{difference['mean']:+.2f}{MARKS[difference['verdict']]}"


def steps(count: int | None) -> str:
    """Return a number of denoising steps in words."""
    return "unknown" if count is None else f"{count:,}"


def line(cells: list[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"
