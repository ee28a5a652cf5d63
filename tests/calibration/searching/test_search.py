"""Whole searches on losses whose optimum is known, driven without any model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from driven_search import (
    EIGHT_BATCHES,
    ONE_BATCH,
    STEPS,
    WARM_START,
    Driven,
    Loss,
    distance_to,
    disturbing,
    drive,
    mean_loss,
    studies_of,
    task_on,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from otcache_policies import Schedule, UniformPolicy

from otcache_plugin.calibration.searching.candidates import (
    Panel,
    ScheduleSearch,
    Trial,
    begin,
    losses_on,
)
from otcache_plugin.calibration.searching.default_search import ClimbsAndRounds
from otcache_plugin.calibration.searching.hill_climbing import all_coordinates, climb
from otcache_plugin.calibration.settings import Round, SearchSettings
from otcache_plugin.evaluation.batches import batches_of


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "trials.log"


@dataclass(frozen=True)
class Search:
    """A search with a journal of its own, or that of an earlier one."""

    journal: Path

    def __call__(
        self,
        loss: Loss,
        settings: SearchSettings | None = None,
        warm_start: Schedule = WARM_START,
        panel: Panel = ONE_BATCH,
        *,
        seed: int = 0,
        again: bool = False,
        max_look_back: int = 1,
        on_trial: Callable[[], None] = lambda: None,
        most: int = 10**9,
    ) -> Driven:
        if not again:
            self.journal.unlink(missing_ok=True)
        task = task_on(self.journal, "joint", warm_start, panel, max_look_back, seed, on_trial)
        algorithm = ClimbsAndRounds(settings or SearchSettings())
        return drive(algorithm.search(task), loss, most)


@pytest.fixture
def search(journal: Path) -> Search:
    return Search(journal)


def all_schedules(total: int, budget: int) -> list[Schedule]:
    inner = combinations(range(1, total - 1), budget - 2)
    return [Schedule([0, *steps, total - 1], total) for steps in inner]


@pytest.mark.parametrize("hidden", [(0, 1, 2, 11), (0, 3, 4, 11), (0, 9, 10, 11), (0, 1, 10, 11)])
def test_the_best_of_all_schedules_is_found(search: Search, hidden: tuple[int, ...]) -> None:
    loss, warm_start = distance_to(hidden), UniformPolicy(12).schedule(4)
    losses = {each: mean_loss(loss, each, ONE_BATCH) for each in all_schedules(12, 4)}
    assert len(losses) == 45
    found: ScheduleSearch = search(loss, SearchSettings(trials=60), warm_start).result
    best = found.best(5)
    assert best[0] == Trial(min(losses, key=lambda each: losses[each]), min(losses.values()))
    assert best[0].schedule.computed_steps == hidden
    assert found.warm_start == Trial(warm_start, losses[warm_start])
    for trial in found.complete:
        assert trial.loss == pytest.approx(losses[trial.schedule])


@pytest.mark.parametrize("hidden", [(0, 1, 3, 6, 12, 20, 29), (0, 8, 14, 19, 23, 27, 29)])
def test_a_far_optimum_among_many_is_found(search: Search, hidden: tuple[int, ...]) -> None:
    (best,) = search(distance_to(hidden)).result.best(1)
    assert best == Trial(Schedule(hidden, STEPS), 10.0)


@pytest.mark.parametrize(
    "hidden", [Schedule([0, 1, 4, 7], 8, [1, 2, 1]), Schedule([0, 3, 5, 7], 8, [2, 1, 2])]
)
def test_the_best_steps_and_look_backs_of_all_are_found(search: Search, hidden: Schedule) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        return sum(
            (step - wanted) ** 2
            for step, wanted in zip(schedule.computed_steps, hidden.computed_steps, strict=True)
        ) + sum(
            0.5 * (own != wanted)
            for own, wanted in zip(schedule.look_backs, hidden.look_backs, strict=True)
        )

    driven = search(loss, warm_start=Schedule([0, 2, 4, 7], 8), max_look_back=2)
    assert driven.result.best(1) == [Trial(hidden, 0.0)]


@pytest.mark.parametrize("seed", range(2))
def test_a_round_leads_out_of_a_basin_that_a_climb_stays_in(
    search: Search, journal: Path, seed: int
) -> None:
    def two_basins(schedule: Schedule, pair: int) -> float:
        step = schedule.computed_steps[1]
        return float(min(abs(step - 18) + 2, abs(step - 13)))

    warm_start = Schedule([0, 19, 29], STEPS)

    def climbing() -> Any:
        begun = yield from begin(warm_start, ONE_BATCH)
        task = task_on(journal, "alone", warm_start)
        return (yield from climb(begun, task, "climb", all_coordinates(warm_start, 1), 1000))

    assert drive(climbing(), two_basins).result.best(1) == [
        Trial(Schedule([0, 18, 29], STEPS), 2.0)
    ]
    assert search(two_basins, warm_start=warm_start, seed=seed).result.best(1) == [
        Trial(Schedule([0, 13, 29], STEPS), 0.0)
    ]


@given(st.integers(0, 10**6), st.integers(0, 100), st.integers(4, 8), st.integers(2, 4))
@hypothesis_settings(max_examples=12)
def test_whatever_the_losses_it_is_no_worse_than_the_warm_start(
    tmp_path_factory: pytest.TempPathFactory, landscape: int, seed: int, total: int, budget: int
) -> None:
    search = Search(tmp_path_factory.mktemp("search") / "trials.log")
    loss, warm_start = disturbing(landscape), UniformPolicy(total).schedule(budget)
    panel = Panel(batches_of("calibration", 6, 1), 5)
    settings = SearchSettings(trials=15, rounds=(Round(2, 9.0), Round(3, 4.5), Round(None, 2.0)))
    driven = search(loss, settings, warm_start, panel, seed=seed, max_look_back=3)
    found: ScheduleSearch = driven.result
    for schedule in driven.schedules:
        assert (schedule.budget, schedule.num_inference_steps) == (budget, total)
        assert (schedule.computed_steps[0], schedule.computed_steps[-1]) == (0, total - 1)
        assert set(schedule.look_backs) <= {1, 2, 3}
    assert found.warm_start.schedule == warm_start
    trials = (found.warm_start, *found.complete)
    for trial in trials:
        assert trial.loss == pytest.approx(mean_loss(loss, trial.schedule, panel))
        assert driven.batches_of(trial.schedule) == set(panel.batches)
    best = found.best(100)
    losses = [trial.loss for trial in best]
    assert losses == sorted(losses)
    assert losses[0] == found.best_losses[-1] == min(trial.loss for trial in trials)
    assert losses[-1] <= found.warm_start.loss == found.best_losses[0]
    assert len({trial.schedule.computed_steps for trial in best}) == len(best)
    assert all(after <= before for before, after in pairwise(found.best_losses))
    assert len(found.best_losses) <= 1 + settings.all_trials


def test_the_warm_start_is_what_remains_when_nothing_is_better(search: Search) -> None:
    found = search(distance_to(WARM_START.computed_steps), SearchSettings(trials=12)).result
    assert found.best(8) == [found.warm_start]
    assert set(found.best_losses) == {found.warm_start.loss}


def test_the_best_few_have_distinct_steps() -> None:
    def trial(steps: Sequence[int], loss: float, look_backs: Sequence[int] = (1, 1)) -> Trial:
        return Trial(Schedule(steps, 9, look_backs), loss)

    complete = (
        trial([0, 2, 8], 2.0),
        trial([0, 3, 8], 4.0),  # Worse than the warm start.
        trial([0, 2, 8], 1.0, [2, 1]),
        trial([0, 5, 8], 3.0),
        trial([0, 6, 8], 0.5),
    )
    warm_start = trial([0, 4, 8], 3.0)
    found = ScheduleSearch(warm_start, (), (3.0,))
    for each in (complete[0], None, *complete[1:]):
        found = found.with_trial(each)
    assert found == ScheduleSearch(warm_start, complete, (3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 0.5))
    assert found.best(9) == [complete[4], complete[2], warm_start, complete[3]]
    assert found.best(2) == [complete[4], complete[2]]


def test_the_seed_determines_the_search(search: Search) -> None:
    settings = SearchSettings(trials=12)
    one = search(disturbing(0), settings, seed=3, max_look_back=2)
    assert search(disturbing(0), settings, seed=3, max_look_back=2) == one
    assert search(disturbing(0), settings, seed=4, max_look_back=2).requests != one.requests


def test_a_search_goes_on_from_its_journal(journal: Path) -> None:
    def search(**arguments: Any) -> Driven:
        settings = SearchSettings(trials=24, patience=9)
        return Search(journal)(
            disturbing(5), settings, panel=EIGHT_BATCHES, max_look_back=2, **arguments
        )

    whole = search()
    data = journal.read_bytes()
    assert search(again=True) == whole
    assert journal.read_bytes() == data
    for answered in (1, 3, 6, len(whole.asked) - 1):
        assert search(most=answered).asked == whole.asked[:answered]
        assert search(again=True) == whole


def test_climbs_and_rounds_take_turns(search: Search, journal: Path) -> None:
    told: list[int] = []
    settings = SearchSettings(trials=24)
    loss = distance_to((0, 1, 3, 6, 12, 20, 29))
    found: ScheduleSearch = search(
        loss, settings, max_look_back=3, on_trial=lambda: told.append(1)
    ).result
    studies = studies_of(journal)
    names = ["climb 1", "round 1", "climb 2", "round 2", "climb 3"]
    assert list(studies) == [f"joint, {name}" for name in names]
    # Each round has a trial more, its centre, which is known already.
    trials = [study.trials["round" in name :] for name, study in studies.items()]
    tried = [len(each) for each in trials]
    assert tried == [9, 12, 9, 12, 9]
    assert len(told) == sum(tried) == settings.all_trials == len(found.best_losses) - 1
    # The journal holds what the search returns, in the same order.
    kept = [trial for each in trials for trial in each if trial.state == TrialState.COMPLETE]
    assert len(kept) == len(found.complete) > 24
    for trial, candidate in zip(kept, found.complete, strict=True):
        schedule = candidate.schedule
        if "state" in trial.user_attrs:
            state = repr((schedule.computed_steps, schedule.look_backs))
            assert (trial.user_attrs["state"], trial.value) == (state, candidate.loss)
            continue
        assert tuple(trial.user_attrs["computed_steps"]) == schedule.computed_steps
        # What a round minimises is the difference to the warm start.
        assert trial.value == pytest.approx(candidate.loss - found.warm_start.loss)
        assert [*trial.intermediate_values] == [0, 1, 2]
    # Every round begins at its centre, the best so far.
    for name, before in (("joint, round 1", 9), ("joint, round 2", 9 + 12 + 9)):
        centre = studies[name].trials[0]
        assert set(centre.params.values()) == {0.0}
        assert centre.value == pytest.approx(found.best_losses[before] - found.warm_start.loss)


def test_the_next_round_goes_on_with_better_look_backs(search: Search, journal: Path) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        return distance_to(WARM_START.computed_steps)(schedule, pair) - sum(schedule.look_backs)

    settings = SearchSettings(trials=100, rounds=(Round(None, 3.0),))
    found: ScheduleSearch = search(loss, settings, max_look_back=3).result
    studies = studies_of(journal)
    climbed, told = (studies[f"joint, {name}"].trials for name in ("climb 1", "round 1"))
    # The steps stay, and each of six look-backs goes to 2 or 3; so does the last one once more.
    complete = [trial for trial in climbed if trial.state == TrialState.COMPLETE]
    assert [trial.value for trial in complete] == [10.0 - 6 - each for each in range(1, 13)]
    in_round = found.complete[len(complete) :][: len(told) - 1]
    assert len({trial.schedule.computed_steps for trial in in_round}) > 3
    for trial in in_round:
        for segment in trial.schedule.segments:
            assert segment.look_back == (3 if segment.gap > 1 else 1)


@pytest.mark.parametrize("steps", [2, 30])
def test_two_steps_leave_only_a_look_back(search: Search, steps: int, journal: Path) -> None:
    warm_start = Schedule([0, steps - 1], steps)
    driven = search(
        lambda schedule, _: -schedule.look_backs[0], warm_start=warm_start, max_look_back=3
    )
    assert list(studies_of(journal)) == ["joint, climb 1"]
    if steps == 2:  # Nor that, where nothing is cached.
        assert driven.result == ScheduleSearch(Trial(warm_start, -1.0), (), (-1.0,))
        return
    assert driven.schedules == {warm_start.with_look_backs([number]) for number in (1, 2, 3)}
    assert driven.result.best(1) == [Trial(warm_start.with_look_backs([3]), -3.0)]


def test_three_steps_have_one_to_place(search: Search) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driven = search(distance_to((0, 4, 29)), warm_start=Schedule([0, 14, 29], 30))
    assert driven.result.best(1)[0].schedule.computed_steps == (0, 4, 29)


def test_losses_are_asked_for_batch_by_batch() -> None:
    batches = batches_of("calibration", 5, 2)
    one, other = Schedule([0, 3], 4), Schedule([0, 1, 3], 4)
    driven = drive(losses_on([one, other, one], batches), lambda each, pair: each.budget + pair)
    first, second, third = driven.result
    assert driven.asked == [[(each, batch) for each in (one, other, one) for batch in batches]]
    assert first.tolist() == third.tolist() == [2, 3, 4, 5, 6]
    assert second.tolist() == [3, 4, 5, 6, 7]


def test_no_losses_are_not_asked_for() -> None:
    nothing = drive(losses_on([], batches_of("calibration", 5, 2)), disturbing(0))
    assert (nothing.result, nothing.asked) == ([], [])
    nowhere = drive(losses_on([WARM_START], ()), disturbing(0))
    assert [each.tolist() for each in nowhere.result] == [[]]
    assert nowhere.asked == []
