"""Searches under way: those of one budget, side by side, each with its own pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.searching.candidates import SearchTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otcache_policies import Schedule

    from otcache_plugin.calibration.searching.candidates import Panel, ScheduleSearch
    from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
    from otcache_plugin.plugins.calibrating import CalibrationContext, Study


def run_searches(
    name: str,
    warm_start: Schedule,
    panels: Mapping[str, Panel],
    max_look_back: int,
    algorithm: SearchAlgorithm,
    context: CalibrationContext,
) -> list[ScheduleSearch]:
    """Search from one warm start on each panel, and return what each search found.

    Args:
        name: of what is searched, as progress calls it.
        warm_start: where all begin.
        panels: the pairs of each search, by its name in the journal.
        max_look_back: the largest look-back to try.
        algorithm: searches.
        context: measures.
    """
    context.start_search(stages.searching(name), algorithm.trials * len(panels))

    def task(search: str, panel: Panel) -> SearchTask:
        def study(part: str) -> Study:
            return context.study(f"{search}, {part}")

        return SearchTask(warm_start, panel, max_look_back, context.seed, study, context.advance)

    searches = {search: algorithm.search(task(search, panel)) for search, panel in panels.items()}
    return list(context.drive(searches).values())
