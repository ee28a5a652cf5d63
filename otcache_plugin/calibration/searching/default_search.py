"""Climbs and rounds: black-box minimisation of the end-to-end loss, in turns of two kinds.

A wide search of all gaps stops far from the optimum on a landscape this bumpy, a narrow one never
leaves the warm start, and neither sees that moving one step by one is often all it takes. So two
kinds of search take turns. A climb tries every single step and look-back, one after the other,
until nothing improves. A round of CMA-ES then leads out of where that got stuck: the first
stretches the curve of the best schedule so far in a few parts, the second moves every gap by a
little.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from otcache_plugin.calibration.searching.candidates import begin
from otcache_plugin.calibration.searching.cma_es import search_round
from otcache_plugin.calibration.searching.hill_climbing import all_coordinates, climb
from otcache_plugin.calibration.settings import SearchSettings

if TYPE_CHECKING:
    from otcache_plugin.calibration.searching.candidates import Searching, SearchTask


@dataclass(frozen=True)
class ClimbsAndRounds:
    """The search algorithm of every calibration, unless it is given another one.

    Attributes:
        settings: how long to search, and how far from the warm start.
    """

    settings: SearchSettings = field(default_factory=SearchSettings)
    name: ClassVar[str] = "climbs and rounds"

    @property
    def trials(self) -> int:
        """Of all rounds and climbs."""
        return self.settings.all_trials

    def search(self, task: SearchTask) -> Searching:
        """Climb, and climb again after every round."""
        settings = self.settings
        search = yield from begin(task.warm_start, task.panel)
        coordinates = all_coordinates(task.warm_start, task.max_look_back)
        # With two steps both ends are fixed: only their look-back is left to search.
        rounds = settings.rounds if task.warm_start.budget > 2 else ()
        for number in range(len(rounds) + 1):
            if number:
                trials = settings.round_trials[number - 1]
                moved = rounds[number - 1]
                search = yield from search_round(search, task, moved, number, settings, trials)
            trials = settings.climb_trials
            search = yield from climb(search, task, f"climb {number + 1}", coordinates, trials)
        return search
