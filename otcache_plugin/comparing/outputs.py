"""The files of a comparison: its page, its figures for people and programs, plots and sheets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otcache_plugin.calibration.measuring.locked_folder import explained
from otcache_plugin.comparing.differences import differences_dict
from otcache_plugin.comparing.pages import write_page
from otcache_plugin.comparing.plots import quality_plots, render_plot
from otcache_plugin.comparing.report import render_report
from otcache_plugin.comparing.sheets import contact_sheet
from otcache_plugin.comparing.tables import csv_text, markdown

if TYPE_CHECKING:
    from pathlib import Path

    from otcache_plugin.comparing.results import ComparisonResult

PAGE, WORK = "index.html", "work"
"""What people open, and where everything is kept that was measured."""


def figures_dict(result: ComparisonResult) -> dict[str, Any]:
    """Return all figures and differences as plain values, for JSON."""
    return {**result.to_dict(), **differences_dict(result)}


def write_outputs(folder: Path, result: ComparisonResult, command: str) -> None:
    """Write everything there is to see of a comparison.

    Args:
        folder: made when it is not there.
        result: what was found.
        command: that makes it again.

    Raises:
        WorkspaceError: it cannot be written.
    """
    sheets = folder / "sheets"
    with explained(folder):
        sheets.mkdir(parents=True, exist_ok=True)
        texts = {
            "results.md": markdown(result),
            "results.csv": csv_text(result),
            "results.json": json.dumps(figures_dict(result), indent=1, ensure_ascii=False),
        }
        for plot, name in zip(quality_plots(result), ("speed-up", "operations"), strict=True):
            texts[f"quality-{name}.svg"] = render_plot(plot)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        for index in range(len(result.full.pictures)):
            contact_sheet(result, index).save(sheets / f"{index + 1}.png")
    write_page(folder / PAGE, render_report(result, command))
