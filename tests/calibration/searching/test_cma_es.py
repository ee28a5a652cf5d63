"""Rounds of CMA-ES: what they are made from, who is run on which pairs, and when they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from optuna.trial import FrozenTrial
from otcache_policies import Schedule

from otcache_plugin.calibration.searching.candidates import Panel, ScheduleSearch, Trial, begin
from otcache_plugin.calibration.searching.cma_es import Candidates, search_round
from otcache_plugin.calibration.settings import Round, SearchSettings

NAN, INF = float("nan"), float("inf")
FAR = (0, 1, 3, 6, 12, 20, 29)


@dataclass(frozen=True)
class OneRound:
    """A search that is one round around its warm start, or around what was found before."""

    journal: Path

    def __call__(
        self,
        loss: Loss,
        warm_start: Schedule = WARM_START,
        panel: Panel = ONE_BATCH,
        *,
        parts: int | None = None,
        half_width: float = 9.0,
        trials: int = 40,
        seed: int = 0,
        found: Sequence[Trial] = (),
        on_trial: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> Driven:
        def searching() -> Any:
            search = yield from begin(warm_start, panel)
            for trial in found:
                search = search.with_trial(trial)
            return (
                yield from search_round(
                    search, task, Round(parts, half_width), 1, SearchSettings(**settings), trials
                )
            )

        self.journal.unlink(missing_ok=True)
        # The round's own seed is one above.
        task = task_on(self.journal, "joint", warm_start, panel, seed=seed - 1, on_trial=on_trial)
        return drive(searching(), loss)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All but the first, which is the centre."""
        return studies_of(self.journal)["joint, round 1"].trials[1:]


@pytest.fixture
def one_round(tmp_path: Path) -> OneRound:
    return OneRound(tmp_path / "trials.log")


def flat(schedule: Schedule, pair: int) -> float:
    return 1.0


def test_a_search_begins_with_its_warm_start() -> None:
    driven = drive(begin(WARM_START, EIGHT_BATCHES), distance_to(WARM_START.computed_steps))
    assert driven.asked == [[(WARM_START, batch) for batch in EIGHT_BATCHES.batches]]
    # Pair 0 to 31 are 10 apart.
    assert driven.result == ScheduleSearch(Trial(WARM_START, 155.0), (), (155.0,))


def test_the_half_width_bounds_how_far_it_goes(one_round: OneRound) -> None:
    driven = one_round(flat, half_width=0.9, trials=30)
    assert len(driven.schedules) > 4
    # A gap of the warm start is 4 or 5; the sum of six may move by 5.4, which is scaled away.
    for schedule in driven.schedules:
        assert 2 <= min(schedule.gaps) <= max(schedule.gaps) <= 7


def test_candidates_inherit_look_backs_by_their_middles(one_round: OneRound) -> None:
    warm_start = Schedule([0, 5, 11, 20, 29], 30, [4, 3, 2, 1])
    found = set()
    for seed in range(5):
        for schedule in one_round(disturbing(0), warm_start, trials=4, seed=seed).schedules:
            for segment in schedule.segments:
                middle = (segment.start + segment.end) / 2
                inherited = 4 if middle < 5 else 3 if middle < 11 else 2 if middle < 20 else 1
                assert segment.look_back == (inherited if segment.gap > 1 else 1)
            found.add(schedule.look_backs)
    assert len(found) > 2


def test_it_goes_around_the_best_so_far(one_round: OneRound) -> None:
    best = Schedule([0, 2, 4, 15, 24, 26, 29], STEPS, [2, 2, 2, 2, 2, 2])
    driven = one_round(flat, half_width=0.9, trials=9, found=[Trial(best, 0.5)])
    assert [request[0] for request in driven.asked[1]] == [best, WARM_START]
    for trial in driven.result.complete[1:]:
        steps = np.array(trial.schedule.computed_steps)
        assert np.abs(steps - best.computed_steps).max() <= 3
        assert set(trial.schedule.look_backs) <= {1, 2}
    centre = studies_of(one_round.journal)["joint, round 1"].trials[0]
    assert (set(centre.params.values()), centre.value) == ({0.0}, 0.0)
    assert driven.result.best_losses == (1.0, *[0.5] * 10)


@pytest.mark.parametrize(("patience", "trials"), [(1, 9), (9, 9), (10, 18), (19, 20)])
def test_patience_ends_it_after_a_generation(
    one_round: OneRound, patience: int, trials: int
) -> None:
    told: list[int] = []
    found = one_round(flat, trials=20, patience=patience, on_trial=lambda: told.append(1)).result
    # CMA-ES has 4 + ⌊3 ln 6⌋ = 9 candidates per generation.
    assert len(found.best_losses) - 1 == len(found.complete) == len(told) == trials


def test_an_improvement_restores_the_patience(one_round: OneRound) -> None:
    seen: list[Schedule] = []

    def falling(schedule: Schedule, pair: int) -> float:
        if schedule not in seen:
            seen.append(schedule)
        return -float(seen.index(schedule))

    assert len(one_round(falling, patience=5).result.complete) == 40


def test_without_trials_nothing_is_tried(one_round: OneRound) -> None:
    driven = one_round(flat, trials=0)
    assert driven.result == ScheduleSearch(Trial(WARM_START, 1.0), (), (1.0,))
    assert driven.schedules == {WARM_START}


def test_hopeless_candidates_are_asked_for_on_the_first_batches_only(one_round: OneRound) -> None:
    # Every other schedule is worse on every single pair.
    loss = distance_to(WARM_START.computed_steps)
    driven = one_round(loss, panel=EIGHT_BATCHES, trials=12)
    others = driven.schedules - {WARM_START}
    assert others
    for schedule in others:
        assert driven.batches_of(schedule) == set(EIGHT_BATCHES.batches[:2])
    assert {trial.schedule for trial in driven.result.complete} <= {WARM_START}
    assert len(driven.result.best_losses) == 1 + 12
    # Unless nothing is ever hopeless.
    driven = one_round(loss, panel=EIGHT_BATCHES, trials=12, prune_below=0.0)
    assert len(driven.result.complete) == 12
    for schedule in driven.schedules:
        assert driven.batches_of(schedule) == set(EIGHT_BATCHES.batches)


def test_promising_candidates_are_run_on_all_pairs(one_round: OneRound) -> None:
    loss = distance_to(FAR)
    driven = one_round(loss, panel=EIGHT_BATCHES, parts=4, trials=45)
    complete = {each for each in driven.schedules if len(driven.batches_of(each)) == 8}
    assert {trial.schedule for trial in driven.result.complete} == complete - {WARM_START}
    assert 0 < len(complete) < len(driven.schedules)
    # All pairs agree on what is better, so nothing that is was passed over.
    best = driven.result.best(1)[0]
    assert best.loss == min(mean_loss(loss, each, EIGHT_BATCHES) for each in driven.schedules)
    assert best.loss < driven.result.warm_start.loss


def test_the_journal_tells_the_difference_of_every_pair(one_round: OneRound) -> None:
    loss = distance_to(FAR)
    one_round(loss, panel=EIGHT_BATCHES, trials=18)
    lengths = set()
    for trial in one_round.trials:
        schedule = Schedule(trial.user_attrs["computed_steps"], STEPS)
        pairs = range(len(trial.intermediate_values))
        differences = [loss(schedule, pair) - loss(WARM_START, pair) for pair in pairs]
        assert [trial.intermediate_values[pair] for pair in pairs] == pytest.approx(differences)
        # Here a pair's difference to the warm start is every pair's.
        assert trial.value == pytest.approx(differences[0])
        lengths.add(len(pairs))
    assert lengths == {8, 32}  # Hopeless ones have the first two batches' pairs only.


def test_a_generation_is_asked_for_at_once(one_round: OneRound) -> None:
    driven = one_round(disturbing(0))
    # The warm start, the centre and the warm start, five generations.
    assert [len(requests) for requests in driven.asked] == [1, 2, 9, 9, 9, 9, 4]


def test_gaps_are_moved_by_hand() -> None:
    moved = Candidates(Schedule([0, 4, 8, 12, 16], 17), Round(None, 2.0))
    assert list(moved.space) == ["gap000", "gap001", "gap002", "gap003"]
    # Gaps 6, 2, 5 and 3.
    assert moved.schedule(np.array([1, -1, 0.5, -0.5])).computed_steps == (0, 6, 8, 13, 16)


def test_a_curve_is_stretched_by_hand() -> None:
    stretched = Candidates(Schedule([0, 4, 8, 12, 16], 17), Round(2, 4.0))
    assert list(stretched.space) == ["gap000", "gap001"]
    # Step 8 goes to 12. The cubic's slopes are 2, 0.75 (the harmonic mean of 1.5 and 0.5) and 0, so
    # step 4 goes to 6 + 8 (2 - 0.75) / 8 = 7.25 and step 12 to 14 + 8 (0.75 - 0) / 8 = 14.75.
    assert stretched.schedule(np.array([1.0, -1.0])).computed_steps == (0, 7, 12, 15, 16)


moves = st.lists(st.integers(1, 20), min_size=2, max_size=12).flatmap(
    lambda gaps: st.tuples(st.just(Schedule.from_gaps(gaps)), st.integers(1, len(gaps) + 2))
)


@given(moves, st.floats(0, 30), st.integers(0, 10**6))
@hypothesis_settings(max_examples=200)
def test_any_offsets_give_a_schedule(
    case: tuple[Schedule, int], half_width: float, seed: int
) -> None:
    centre, parts = case
    moved = Candidates(centre, Round(parts, half_width))
    assert len(moved.space) == min(parts, len(centre.gaps))
    offsets = np.random.default_rng(seed).uniform(-1, 1, len(moved.space))
    schedule = moved.schedule(offsets)
    assert schedule.budget == centre.budget
    assert schedule.num_inference_steps == centre.num_inference_steps


@given(moves, st.floats(0, 30))
@hypothesis_settings(max_examples=200)
def test_no_offsets_give_the_centre(case: tuple[Schedule, int], half_width: float) -> None:
    centre, parts = case
    still = Candidates(centre, Round(parts, half_width))
    assert still.schedule(np.zeros(len(still.space))) == centre


def sometimes(failed: float) -> Loss:
    """A loss that is not finite for every other schedule, at pairs from a number on."""

    def loss(schedule: Schedule, pair: int) -> float:
        steps = sum(schedule.computed_steps)
        fails = schedule != WARM_START and steps % 2 and pair >= (steps // 2 % 2) * 20
        return failed if fails else 10.0 + steps % 7 + pair

    return loss


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_what_has_no_finite_loss_is_the_worst(one_round: OneRound, failed: float) -> None:
    loss = sometimes(failed)
    driven = one_round(loss, panel=EIGHT_BATCHES)
    # It went on, and those that failed on the first two batches were not run on the others.
    lost = {each for each in driven.schedules if not np.isfinite(loss(each, 31))}
    early = {each for each in lost if not np.isfinite(loss(each, 7))}
    assert early
    assert lost - early
    for schedule in early:
        assert driven.batches_of(schedule) == set(EIGHT_BATCHES.batches[:2])
    complete = driven.result.complete
    assert {trial.loss for trial in complete if trial.schedule in lost} <= {INF}
    best = driven.result.best(1)[0]
    assert best.loss == min(
        mean_loss(loss, trial.schedule, EIGHT_BATCHES)
        for trial in complete
        if trial.schedule not in lost
    )
    assert np.isfinite(driven.result.best_losses).all()


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_a_round_around_a_schedule_without_a_finite_loss(
    one_round: OneRound, failed: float
) -> None:
    """The pruner has nothing to compare with until a candidate has losses at all pairs."""

    def loss(schedule: Schedule, pair: int) -> float:
        if schedule == WARM_START and pair in (3, 30):
            return failed
        return disturbing(0)(schedule, pair)

    driven = one_round(loss, panel=EIGHT_BATCHES)
    assert driven.result.warm_start.loss == INF
    best = driven.result.best(1)[0]
    assert best.loss == min(trial.loss for trial in driven.result.complete)
    # Sums in another order: a rounding of 32 additions.
    assert best.loss == pytest.approx(mean_loss(loss, best.schedule, EIGHT_BATCHES), rel=1e-13)


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_a_round_where_nothing_is_finite_ends(one_round: OneRound, failed: float) -> None:
    driven = one_round(lambda *_: failed, panel=EIGHT_BATCHES, patience=12)
    assert set(driven.result.best_losses) == {INF}
    assert driven.result.best(1) == [Trial(WARM_START, INF)]
