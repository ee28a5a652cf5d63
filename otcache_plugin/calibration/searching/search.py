"""Stage 2: the search for a schedule, black-box minimisation of the end-to-end loss.

A wide search of all gaps stops far from the optimum on a landscape this bumpy, a narrow one never
leaves the warm start, and neither sees that moving one step by one is often all it takes. So two
kinds of search take turns. A climb tries every single step and look-back, one after the other,
until nothing improves. A round of CMA-ES then leads out of where that got stuck: the first
stretches the curve of the best schedule so far in a few parts, the second moves every gap by a
little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.calibration.searching.candidates import begin
from otcache_plugin.calibration.searching.climbs import all_coordinates, climb
from otcache_plugin.calibration.searching.rounds import search_round

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from otcache_policies import Schedule

    from otcache_plugin.calibration.measuring.units import Losses, LossRequest
    from otcache_plugin.calibration.searching.candidates import Panel, ScheduleSearch
    from otcache_plugin.calibration.searching.journal import TrialJournal
    from otcache_plugin.calibration.settings import SearchSettings


def search_schedule(
    warm_start: Schedule,
    panel: Panel,
    max_look_back: int,
    settings: SearchSettings,
    seed: int,
    journal: TrialJournal,
    name: str,
    on_trial: Callable[[], None] = lambda: None,
) -> Generator[list[LossRequest], Losses, ScheduleSearch]:
    """Search the schedules of the warm start's budget for the lowest loss.

    Args:
        warm_start: where to begin, and what is never done worse than.
        panel: the pairs to judge on.
        max_look_back: the largest look-back tried.
        settings: how long and how far.
        seed: of CMA-ES.
        journal: where the trials are kept.
        name: of this search in the journal.
        on_trial: called after every trial.

    Returns:
        The search with every complete trial.
    """
    search = yield from begin(warm_start, panel)
    coordinates = all_coordinates(warm_start, max_look_back)
    # With two steps both ends are fixed: only their look-back is left to search.
    rounds = settings.rounds if warm_start.budget > 2 else ()
    for number in range(len(rounds) + 1):
        if number:
            search = yield from search_round(
                search,
                *rounds[number - 1],
                panel,
                settings,
                settings.round_trials[number - 1],
                seed + number,
                journal.study(f"{name}, round {number}"),
                on_trial,
            )
        kept = journal.study(f"{name}, climb {number + 1}")
        search = yield from climb(search, coordinates, panel, settings.climb_trials, kept, on_trial)
    return search
