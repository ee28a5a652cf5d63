"""Climbs, one coordinate after the other, on losses whose optimum is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import optuna
import pytest
from driven_search import (
    EIGHT_BATCHES,
    ONE_BATCH,
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

from otcache_plugin.calibration.searching.candidates import Panel, ScheduleSearch, Trial, begin
from otcache_plugin.calibration.searching.hill_climbing import (
    all_coordinates,
    climb,
    look_back_coordinates,
)

NAN, INF = float("nan"), float("inf")
BASE = Schedule([0, 2, 5, 8, 11], 12)
LOOK_BACKS = list(product((1, 2, 3), repeat=4))
Coordinates = Sequence[Callable[[Schedule], list[Schedule]]]
OF_LOOK_BACKS = look_back_coordinates(BASE, 3)


def test_coordinates_by_hand() -> None:
    schedule = Schedule([0, 2, 5, 6, 11], 12, [1, 2, 1, 3])
    neighbours = [others(schedule) for others in all_coordinates(schedule, 3)]
    steps = [[each.computed_steps for each in others] for others in neighbours[:3]]
    # By 2 and by 1 to either side, as long as that is between the neighbouring steps.
    assert steps == [
        [(0, 1, 5, 6, 11), (0, 3, 5, 6, 11), (0, 4, 5, 6, 11)],
        [(0, 2, 3, 6, 11), (0, 2, 4, 6, 11)],
        [(0, 2, 5, 7, 11), (0, 2, 5, 8, 11)],
    ]
    look_backs = [[each.look_backs for each in others] for others in neighbours[3:]]
    assert look_backs == [
        [(2, 2, 1, 3), (3, 2, 1, 3)],
        [(1, 1, 1, 3), (1, 3, 1, 3)],
        [],  # From step 5 to 6 nothing is cached.
        [(1, 2, 1, 1), (1, 2, 1, 2)],
    ]
    assert {each.computed_steps for others in neighbours[3:] for each in others} == {
        schedule.computed_steps
    }


def test_moving_a_step_changes_no_look_back() -> None:
    schedule = Schedule([0, 2, 5, 9], 10, [2, 3, 2])
    moved = [each for others in all_coordinates(schedule, 3)[:2] for each in others(schedule)]
    assert len(moved) == 3 + 4
    assert {each.look_backs for each in moved} == {(2, 3, 2)}


def test_where_nothing_can_change_there_are_no_neighbours() -> None:
    packed = Schedule([0, 1, 2, 3], 4)
    assert [others(packed) for others in all_coordinates(packed, 6)] == [[]] * 5
    plain = Schedule([0, 4, 9], 10)
    assert [others(plain) for others in look_back_coordinates(plain, 1)] == [[], []]
    assert len(all_coordinates(Schedule([0, 9], 10), 6)) == 1


@dataclass(frozen=True)
class Climb:
    """A search that does nothing but climb from its warm start, with a journal of its own."""

    journal: Path

    def __call__(
        self,
        loss: Loss,
        warm_start: Schedule = BASE,
        coordinates: Coordinates = OF_LOOK_BACKS,
        panel: Panel = ONE_BATCH,
        trials: int = 1000,
        on_trial: Callable[[], None] = lambda: None,
        found: Sequence[Trial] = (),
    ) -> Driven:
        def climbing():
            search = yield from begin(warm_start, panel)
            for trial in found:
                search = search.with_trial(trial)
            return (yield from climb(search, task, "climb", coordinates, trials))

        task = task_on(self.journal, "joint", warm_start, panel, on_trial=on_trial)
        return drive(climbing(), loss)

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return studies_of(self.journal)["joint, climb"].trials


@pytest.fixture
def climbing(tmp_path: Path) -> Climb:
    return Climb(tmp_path / "trials.log")


def best_of(driven: Driven) -> Schedule:
    best: Schedule = driven.result.best(1)[0].schedule
    return best


def separable(weights: Sequence[float], best: Sequence[int]) -> Loss:
    """Of the look-backs; a pair's loss is larger, the later it comes."""

    def loss(schedule: Schedule, pair: int) -> float:
        parts = zip(weights, schedule.look_backs, best, strict=True)
        return sum(weight * abs(own - wanted) for weight, own, wanted in parts) + pair

    return loss


@pytest.mark.parametrize("best", [(1, 1, 1, 1), (3, 1, 2, 3), (2, 3, 3, 1), (1, 2, 1, 1)])
@pytest.mark.parametrize("panel", [ONE_BATCH, EIGHT_BATCHES], ids=["one", "eight"])
def test_a_separable_loss_of_look_backs_is_minimised(
    climbing: Climb, best: tuple[int, ...], panel: Panel
) -> None:
    loss = separable((1.0, 4.0, 2.0, 3.0), best)
    all_schedules = [BASE.with_look_backs(each) for each in LOOK_BACKS]
    assert min(all_schedules, key=lambda each: mean_loss(loss, each, panel)).look_backs == best
    assert best_of(climbing(loss, panel=panel)).look_backs == best


@pytest.mark.parametrize(
    "hidden", [(0, 1, 3, 6, 12, 20, 29), (0, 8, 14, 19, 23, 27, 29), (0, 2, 4, 15, 24, 26, 29)]
)
def test_a_separable_loss_of_steps_is_minimised(climbing: Climb, hidden: tuple[int, ...]) -> None:
    warm_start = UniformPolicy(30).schedule(7)
    driven = climbing(distance_to(hidden), warm_start, all_coordinates(warm_start, 1))
    assert best_of(driven).computed_steps == hidden


def test_steps_and_look_backs_are_climbed_in_turn(climbing: Climb) -> None:
    # The look-back that is best here depends on where the step is.
    def loss(schedule: Schedule, pair: int) -> float:
        step, (look_back, _) = schedule.computed_steps[1], schedule.look_backs
        return 2.0 * abs(step - 12) + abs(look_back - min(step // 3, 4))

    warm_start = Schedule([0, 3, 29], 30)
    driven = climbing(loss, warm_start, all_coordinates(warm_start, 5))
    best = best_of(driven)
    assert (best.computed_steps, best.look_backs) == ((0, 12, 29), (4, 1))


def test_the_coordinate_that_improved_last_is_tried_again(climbing: Climb) -> None:
    warm_start = Schedule([0, 14, 29], 30)
    driven = climbing(distance_to((0, 4, 29)), warm_start, all_coordinates(warm_start, 1))
    assert best_of(driven).computed_steps == (0, 4, 29)
    # Five moves by two, and then two to either side in vain.
    assert len(climbing.trials) == 6 * 4


def test_the_best_of_a_coordinate_is_taken(climbing: Climb) -> None:
    losses = {10: 9.0, 8: 9.5, 9: 9.5, 11: 7.0, 12: 5.0}

    def loss(schedule: Schedule, pair: int) -> float:
        return losses[schedule.computed_steps[1]] + pair

    warm_start = Schedule([0, 10, 29], 30)
    driven = climbing(loss, warm_start, all_coordinates(warm_start, 1), trials=5)
    assert best_of(driven).computed_steps == (0, 12, 29)
    # Tried from 8 to 12; the first two are not ahead. The pairs add 1 on average.
    assert driven.result.best_losses == (10.0, 10.0, 10.0, 8.0, 6.0, 6.0)
    assert [trial.schedule.computed_steps[1] for trial in driven.result.complete] == [11, 12]
    # The last one is two steps from the best, not from the first that was better.
    assert [schedule.computed_steps[1] for schedule, _ in driven.asked[-1]] == [10]


def test_a_climb_goes_on_from_the_best_so_far(climbing: Climb) -> None:
    loss = separable((1.0, 1.0, 1.0, 1.0), (3, 3, 3, 3))
    best, other = (BASE.with_look_backs(each) for each in ((2, 3, 3, 3), (3, 1, 3, 3)))
    driven = climbing(loss, found=[Trial(best, 2.0), Trial(other, 3.0)], trials=2)
    assert driven.result.complete[2:] == (Trial(BASE.with_look_backs((3, 3, 3, 3)), 1.0),)
    # The warm start's 8 and the pairs' 1, what was found before, a candidate behind, one ahead.
    assert driven.result.best_losses == (9.0, 2.0, 2.0, 2.0, 1.0)


@given(st.integers(0, 10**6), st.booleans())
@hypothesis_settings(max_examples=15)
def test_where_it_ends_no_coordinate_improves(
    tmp_path_factory: pytest.TempPathFactory, landscape: int, steps_too: bool
) -> None:
    climbing = Climb(tmp_path_factory.mktemp("climb") / "trials.log")
    coordinates = all_coordinates(BASE, 3) if steps_too else OF_LOOK_BACKS
    loss = disturbing(landscape)
    driven = climbing(loss, coordinates=coordinates)
    found: ScheduleSearch = driven.result
    best = found.best(1)[0]
    assert best.loss == pytest.approx(mean_loss(loss, best.schedule, ONE_BATCH))
    assert best.loss == found.best_losses[-1] <= found.best_losses[0] == found.warm_start.loss
    assert all(after <= before for before, after in pairwise(found.best_losses))
    for others in coordinates:
        for other in others(best.schedule):
            assert mean_loss(loss, other, ONE_BATCH) >= best.loss - 1e-12
            assert other in driven.schedules
    assert len(found.best_losses) == 1 + len(climbing.trials)


@pytest.mark.parametrize("trials", [0, 1, 2, 5, 8, 1000])
def test_no_more_than_the_trials_are_tried(climbing: Climb, trials: int) -> None:
    told: list[int] = []
    loss = separable((1.0, 1.0, 1.0, 1.0), (3, 3, 3, 3))
    driven = climbing(loss, trials=trials, on_trial=lambda: told.append(1))
    # Four coordinates of two candidates each, and all of them once more in vain.
    tried = min(trials, 2 * 4 * 2)
    assert len(told) == len(climbing.trials) == len(driven.result.best_losses) - 1 == tried
    expected = {0: (1, 1, 1, 1), 1: (2, 1, 1, 1), 2: (3, 1, 1, 1), 5: (3, 3, 2, 1)}
    assert best_of(driven).look_backs == expected.get(trials, (3, 3, 3, 3))


def test_candidates_behind_on_the_first_batches_are_not_run_on_the_others(
    climbing: Climb,
) -> None:
    driven = climbing(separable((1.0, 1.0, 1.0, 1.0), (3, 1, 1, 1)), panel=EIGHT_BATCHES)
    assert best_of(driven).look_backs == (3, 1, 1, 1)
    complete = {(1, 1, 1, 1), (2, 1, 1, 1), (3, 1, 1, 1)}
    for look_backs in LOOK_BACKS:
        found = driven.batches_of(BASE.with_look_backs(look_backs))
        if look_backs in complete:
            assert found == set(EIGHT_BATCHES.batches)
        else:
            assert found <= set(EIGHT_BATCHES.batches[:2])
    told = {trial.user_attrs["state"]: trial for trial in climbing.trials}
    # Of pairs 0 … 31 the mean is 15.5, the ends left out or not.
    assert told["((0, 2, 5, 8, 11), (3, 1, 1, 1))"].value == pytest.approx(15.5)
    assert told["((0, 2, 5, 8, 11), (3, 2, 1, 1))"].state == TrialState.PRUNED
    pruned = [trial for trial in climbing.trials if trial.state == TrialState.PRUNED]
    assert len(driven.result.complete) == len(climbing.trials) - len(pruned) == 2


def test_ahead_on_the_first_batches_is_not_ahead_on_all(climbing: Climb) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        changed = schedule.look_backs != (1, 1, 1, 1)
        return (-1.0 if pair < 8 else 1.0) * changed

    driven = climbing(loss, panel=EIGHT_BATCHES)
    assert best_of(driven).look_backs == (1, 1, 1, 1)
    for schedule in driven.schedules:
        assert driven.batches_of(schedule) == set(EIGHT_BATCHES.batches)


def test_a_climb_goes_on_from_its_journal(climbing: Climb) -> None:
    coordinates = all_coordinates(BASE, 3)
    whole = climbing(disturbing(3), coordinates=coordinates)
    data = climbing.journal.read_bytes()
    assert climbing(disturbing(3), coordinates=coordinates) == whole
    assert climbing.journal.read_bytes() == data


def test_without_coordinates_the_warm_start_remains(climbing: Climb) -> None:
    driven = climbing(disturbing(0), coordinates=[])
    loss = driven.result.warm_start.loss
    assert driven.result == ScheduleSearch(Trial(BASE, loss), (), (loss,))
    assert driven.asked == [[(BASE, ONE_BATCH.batches[0])]] * 2


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_a_candidate_that_fails_later_hides_no_better_one(climbing: Climb, failed: float) -> None:
    """The first candidate is ahead on the first batches, and has no finite loss on the others."""
    base = Schedule([0, 4, 8], 9, [1, 1])
    fails, better = base.with_look_backs([2, 1]), base.with_look_backs([3, 1])

    def loss(schedule: Schedule, pair: int) -> float:
        if schedule == fails:
            return failed if pair == 31 else 0.0
        return 1.0 if schedule == better else 2.0

    coordinates = look_back_coordinates(base, 3)
    driven = climbing(loss, base, coordinates, EIGHT_BATCHES)
    assert driven.batches_of(fails) == set(EIGHT_BATCHES.batches)
    assert driven.result.best(9) == [Trial(better, 1.0)]
    assert min(driven.result.best_losses) == 1.0


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_a_climb_leaves_a_start_without_a_finite_loss(climbing: Climb, failed: float) -> None:
    base = Schedule([0, 4, 8], 9, [1, 1])

    def loss(schedule: Schedule, pair: int) -> float:
        return failed if schedule == base else float(sum(schedule.look_backs))

    found = climbing(loss, base, look_back_coordinates(base, 2)).result
    assert found.warm_start == Trial(base, INF)
    assert found.best(1)[0].loss == 3.0
    # Where nothing is finite, it ends with what it began with.
    nowhere = Climb(climbing.journal.with_name("nowhere.log"))
    nothing = nowhere(lambda *_: failed, base, look_back_coordinates(base, 2)).result
    assert nothing.best(1) == [Trial(base, INF)]
    assert set(nothing.best_losses) == {INF}
