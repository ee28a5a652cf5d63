"""The searches on losses whose optimum is known, driven without any model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from otcache_policies import Schedule, UniformPolicy
from otcache_registry.document import MAX_HISTORY

from otcache_plugin.calibration.journal import TrialJournal
from otcache_plugin.calibration.pooling import TRIMMED
from otcache_plugin.calibration.search import (
    AnchorSearch,
    Panel,
    Request,
    Trial,
    _Round,
    descend,
    look_back_coordinates,
    losses_on,
    search_anchor,
)
from otcache_plugin.calibration.settings import EVERY_GAP, MOST_TRIALS, AnchorSettings
from otcache_plugin.calibration.units import Batch, batches_of
from otcache_plugin.errors import ArgumentError

STEPS, BUDGET = 30, 7
WARM_START = UniformPolicy(STEPS).schedule(BUDGET)
ONE_BATCH = Panel(batches_of("calibration", 3, 3), 1)
EIGHT_BATCHES = Panel(batches_of("calibration", 32, 4), 2)

Loss = Callable[[Schedule, int], float]
"""Of a schedule and a pair."""


def distance_to(hidden: Sequence[int]) -> Loss:
    """The squared distance of the computed steps to hidden ones; some pairs are the harder ones."""

    def loss(schedule: Schedule, pair: int) -> float:
        return float(np.sum((np.array(schedule.computed_steps) - hidden) ** 2)) + 10.0 * pair

    return loss


def disturbing(seed: int) -> Loss:
    """A loss without any structure."""

    def loss(schedule: Schedule, pair: int) -> float:
        entropy = [*schedule.computed_steps, 0, *schedule.look_backs, pair, seed]
        return float(np.random.default_rng(entropy).uniform())

    return loss


def mean_loss(loss: Loss, schedule: Schedule, panel: Panel) -> float:
    """Over all pairs but the best and the worst few, as it is to be."""
    pairs = range(panel.batches[0].start, panel.batches[-1].stop)
    losses = sorted(loss(schedule, pair) for pair in pairs)
    cut = int(TRIMMED * len(losses))
    return float(np.mean(losses[cut : len(losses) - cut]))


@dataclass(frozen=True)
class Driven:
    """What a search came to, and what it asked for, one list of requests after the other."""

    result: Any
    asked: list[list[Request]]

    @property
    def requests(self) -> list[Request]:
        return [request for requests in self.asked for request in requests]

    def batches_of(self, schedule: Schedule) -> set[Batch]:
        return {batch for asked, batch in self.requests if asked == schedule}


def drive(search: Generator[list[Request], Any, Any], loss: Loss, most: int = 10**9) -> Driven:
    """Answers a search, at most so many times."""
    asked: list[list[Request]] = []
    try:
        requests = next(search)
        while len(asked) < most:
            asked.append(requests)
            requests = search.send(
                {
                    (schedule, batch): np.array(
                        [loss(schedule, pair) for pair in range(batch.start, batch.stop)]
                    )
                    for schedule, batch in requests
                }
            )
    except StopIteration as stop:
        return Driven(stop.value, asked)
    search.close()
    return Driven(None, asked)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "trials.log"


@dataclass(frozen=True)
class Search:
    """A search for an anchor with a journal of its own, or that of an earlier one."""

    journal: Path

    def __call__(
        self,
        loss: Loss,
        settings: AnchorSettings | None = None,
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
        searching = search_anchor(
            warm_start,
            panel,
            max_look_back,
            settings or AnchorSettings(),
            seed,
            TrialJournal(self.journal),
            "joint",
            on_trial,
        )
        return drive(searching, loss, most)


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
    found: AnchorSearch = search(loss, AnchorSettings(trials=120), warm_start).result
    best = found.best(5)
    assert best[0] == Trial(min(losses, key=lambda each: losses[each]), min(losses.values()))
    assert best[0].schedule.computed_steps == hidden
    assert found.warm_start == Trial(warm_start, losses[warm_start])
    for trial in found.complete:
        assert trial.loss == pytest.approx(losses[trial.schedule])


@pytest.mark.parametrize(
    "hidden", [(0, 1, 3, 6, 12, 20, 29), (0, 8, 14, 19, 23, 27, 29), (0, 2, 4, 15, 24, 26, 29)]
)
def test_a_far_optimum_among_many_is_approached(search: Search, hidden: tuple[int, ...]) -> None:
    found = search(distance_to(hidden)).result
    (best,) = found.best(1)
    assert np.abs(np.array(best.schedule.computed_steps) - hidden).max() <= 1


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

    warm_start = Schedule([0, 2, 4, 7], 8)
    driven = search(loss, warm_start=warm_start, max_look_back=2)
    assert driven.result.best(1) == [Trial(hidden, 0.0)]


@given(st.integers(0, 10**6), st.integers(0, 100), st.integers(4, 8), st.integers(2, 4))
@hypothesis_settings(deadline=None, max_examples=12)
def test_whatever_the_losses_it_is_no_worse_than_the_warm_start(
    tmp_path_factory: pytest.TempPathFactory, landscape: int, seed: int, total: int, budget: int
) -> None:
    search = Search(tmp_path_factory.mktemp("search") / "trials.log")
    loss, warm_start = disturbing(landscape), UniformPolicy(total).schedule(budget)
    panel = Panel(batches_of("calibration", 6, 1), 5)
    settings = AnchorSettings(trials=15, rounds=((2, 9.0), (3, 4.5), (EVERY_GAP, 2.0)))
    driven = search(loss, settings, warm_start, panel, seed=seed, max_look_back=3)
    found: AnchorSearch = driven.result
    for schedule, _ in driven.requests:
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


def test_the_warm_start_is_what_remains_when_nothing_is_better(search: Search) -> None:
    found = search(distance_to(WARM_START.computed_steps), AnchorSettings(trials=12)).result
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
    found = AnchorSearch(warm_start, (), (3.0,))
    for each in (complete[0], None, *complete[1:]):
        found = found.with_trial(each)
    assert found == AnchorSearch(warm_start, complete, (3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 0.5))
    assert found.best(9) == [complete[4], complete[2], warm_start, complete[3]]
    assert found.best(2) == [complete[4], complete[2]]


def test_the_seed_determines_the_search(search: Search) -> None:
    settings = AnchorSettings(trials=12)
    one = search(disturbing(0), settings, seed=3, max_look_back=2)
    assert search(disturbing(0), settings, seed=3, max_look_back=2) == one
    assert search(disturbing(0), settings, seed=4, max_look_back=2).requests != one.requests


def test_a_search_goes_on_from_its_journal(journal: Path) -> None:
    def search(**arguments: Any) -> Driven:
        settings = AnchorSettings(trials=24, patience=9)
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


def studies_of(journal: Path) -> dict[str, optuna.Study]:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def test_the_journal_tells_every_trial(search: Search, journal: Path) -> None:
    told: list[int] = []
    loss = distance_to((0, 1, 3, 6, 12, 20, 29))
    found: AnchorSearch = search(
        loss, AnchorSettings(trials=24), max_look_back=3, on_trial=lambda: told.append(1)
    ).result
    studies = studies_of(journal)
    assert list(studies) == [
        f"joint, {what} {number}" for number in (1, 2, 3) for what in ("steps", "look-backs")
    ]
    rounds = [studies[f"joint, steps {number}"] for number in (1, 2, 3)]
    tried = sum(len(study.trials) for study in studies.values()) - len(rounds)
    assert len(told) == tried <= AnchorSettings(trials=24).search_trials
    # After the eight trials of each round, its best one with the best look-backs.
    complete = [trial for number, trial in enumerate(found.complete) if number % 9 != 8]
    assert len(complete) == 24
    kept = [trial for study in rounds for trial in study.trials[1:]]
    for trial, candidate in zip(kept, complete, strict=True):
        assert trial.state == TrialState.COMPLETE
        assert tuple(trial.user_attrs["computed_steps"]) == candidate.schedule.computed_steps
        # What is searched is the difference to the warm start.
        assert trial.value == pytest.approx(candidate.loss - found.warm_start.loss)
        assert [*trial.intermediate_values] == [0, 1, 2]
    # Every round begins at its centre, the best so far.
    for study, before in zip(rounds, (0, 9, 18), strict=True):
        centre = study.trials[0]
        assert set(centre.params.values()) == {0.0}
        assert centre.value == pytest.approx(found.best_losses[before] - found.warm_start.loss)


def test_ranges_bound_how_far_a_round_goes(search: Search) -> None:
    driven = search(lambda *_: 1.0, AnchorSettings(trials=30, rounds=((EVERY_GAP, 0.9),)))
    assert len({schedule for schedule, _ in driven.requests}) > 4
    # A gap of the warm start is 4 or 5; the sum of six may move by 5.4, which is scaled away.
    for schedule, _ in driven.requests:
        assert 2 <= min(schedule.gaps) <= max(schedule.gaps) <= 7


def test_candidates_inherit_look_backs_by_their_middles(search: Search) -> None:
    warm_start = Schedule([0, 5, 11, 20, 29], 30, [4, 3, 2, 1])
    # Four trials leave none for look-backs.
    settings = AnchorSettings(trials=4, rounds=((EVERY_GAP, 9.0),))
    found = set()
    for seed in range(5):
        for schedule, _ in search(disturbing(0), settings, warm_start, seed=seed).requests:
            for segment in schedule.segments:
                middle = (segment.start + segment.end) / 2
                inherited = 4 if middle < 5 else 3 if middle < 11 else 2 if middle < 20 else 1
                assert segment.look_back == (inherited if segment.gap > 1 else 1)
            found.add(schedule.look_backs)
    assert len(found) > 2


def test_the_next_round_goes_on_with_better_look_backs(search: Search) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        plain = Schedule(schedule.computed_steps, STEPS)
        return disturbing(0)(plain, pair) - sum(schedule.look_backs)

    settings = AnchorSettings(trials=30, rounds=((EVERY_GAP, 3.0), (EVERY_GAP, 1.0)))
    complete = search(loss, settings, max_look_back=3).result.complete
    assert len(complete) == 2 * (15 + 1)
    first, best, second = complete[:15], complete[15].schedule, complete[16:31]
    assert all(trial.schedule.look_backs == (1,) * 6 for trial in first)
    assert best.look_backs == (3, 3, 3, 1, 1, 1)  # Six look-backs were tried, in their order.
    assert len({trial.schedule.computed_steps for trial in second}) > 3
    for trial in second:
        for segment in trial.schedule.segments:
            inherits = (segment.start + segment.end) / 2 < best.computed_steps[3]
            assert segment.look_back == (3 if inherits and segment.gap > 1 else 1)


@pytest.mark.parametrize(
    ("trials", "steps", "look_backs", "search_trials", "family"),
    [
        (200, (67, 67, 66), 40, 320, 80),
        (0, (0, 0, 0), 0, 0, 0),
        (1, (1, 0, 0), 0, 1, 0),
        (7, (3, 2, 2), 1, 10, 2),
    ],
)
def test_trials_are_split(
    trials: int, steps: tuple[int, ...], look_backs: int, search_trials: int, family: int
) -> None:
    settings = AnchorSettings(trials=trials)
    assert settings.round_trials == steps
    assert settings.look_back_trials == look_backs
    assert settings.search_trials == search_trials
    assert settings.family_trials == family


@pytest.mark.parametrize(("patience", "trials"), [(1, 9), (9, 9), (10, 18), (19, 20)])
def test_patience_ends_a_round_after_a_generation(
    search: Search, patience: int, trials: int
) -> None:
    settings = AnchorSettings(
        trials=40, patience=patience, rounds=((EVERY_GAP, 9.0), (EVERY_GAP, 3.0))
    )
    found = search(lambda *_: 1.0, settings).result
    # CMA-ES has 4 + ⌊3 ln 6⌋ = 9 candidates per generation; after a round come the look-backs.
    assert len(found.best_losses) - 1 == len(found.complete) == 2 * (trials + 1)


def test_an_improvement_restores_the_patience(search: Search) -> None:
    seen: list[Schedule] = []

    def falling(schedule: Schedule, pair: int) -> float:
        if schedule not in seen:
            seen.append(schedule)
        return -float(seen.index(schedule))

    settings = AnchorSettings(trials=40, patience=5, rounds=((EVERY_GAP, 9.0),))
    assert len(search(falling, settings).result.complete) == 40 + 1


def test_hopeless_candidates_are_asked_for_on_the_first_batches_only(search: Search) -> None:
    # Every other schedule is worse on every single pair.
    loss, settings = distance_to(WARM_START.computed_steps), AnchorSettings(trials=12)
    driven = search(loss, settings, panel=EIGHT_BATCHES)
    others = {schedule for schedule, _ in driven.requests} - {WARM_START}
    assert others
    for schedule in others:
        assert driven.batches_of(schedule) == set(EIGHT_BATCHES.batches[:2])
    assert {trial.schedule for trial in driven.result.complete} == {WARM_START}
    assert len(driven.result.best_losses) == 1 + 12 + 3
    # Unless nothing is ever hopeless.
    patient = AnchorSettings(trials=12, prune_below=0.0)
    driven = search(loss, patient, panel=EIGHT_BATCHES)
    assert len(driven.result.complete) == 12 + 3
    for schedule, _ in driven.requests:
        assert driven.batches_of(schedule) == set(EIGHT_BATCHES.batches)


def test_promising_candidates_are_run_on_all_pairs(search: Search) -> None:
    loss = distance_to((0, 1, 3, 6, 12, 20, 29))
    driven = search(loss, AnchorSettings(trials=45), panel=EIGHT_BATCHES)
    asked = {schedule for schedule, _ in driven.requests}
    complete = {schedule for schedule in asked if len(driven.batches_of(schedule)) == 8}
    assert {trial.schedule for trial in driven.result.complete} == complete - {WARM_START}
    assert 0 < len(complete) < len(asked)
    # All pairs agree on what is better, so nothing that is was passed over.
    best = driven.result.best(1)[0]
    assert best.loss == min(mean_loss(loss, schedule, EIGHT_BATCHES) for schedule in asked)
    assert best.loss < driven.result.warm_start.loss


def test_the_journal_tells_the_difference_of_every_pair(search: Search, journal: Path) -> None:
    loss = distance_to((0, 1, 3, 6, 12, 20, 29))
    settings = AnchorSettings(trials=18, rounds=((EVERY_GAP, 9.0),))
    search(loss, settings, panel=EIGHT_BATCHES)
    lengths = set()
    for trial in studies_of(journal)["joint, steps 1"].trials[1:]:
        schedule = Schedule(trial.user_attrs["computed_steps"], STEPS)
        pairs = range(len(trial.intermediate_values))
        differences = [loss(schedule, pair) - loss(WARM_START, pair) for pair in pairs]
        assert [trial.intermediate_values[pair] for pair in pairs] == pytest.approx(differences)
        # Here a pair's difference to the warm start is every pair's.
        assert trial.value == pytest.approx(differences[0])
        lengths.add(len(pairs))
    assert lengths == {8, 32}  # Hopeless ones have the first two batches' pairs only.


def test_a_generation_is_asked_for_at_once(search: Search) -> None:
    driven = search(disturbing(0), AnchorSettings(trials=40, rounds=((EVERY_GAP, 9.0),)))
    # The warm start, the centre, five generations, the best one and what its look-backs came to.
    assert [len(requests) for requests in driven.asked] == [1, 1, 9, 9, 9, 9, 4, 1, 1]


@pytest.mark.parametrize("steps", [2, 30])
def test_two_steps_leave_nothing_to_search(search: Search, steps: int) -> None:
    warm_start = Schedule([0, steps - 1], steps)
    driven = search(lambda *_: 1.0, warm_start=warm_start)
    assert driven.requests == [(warm_start, ONE_BATCH.batches[0])]
    assert driven.result == AnchorSearch(Trial(warm_start, 1.0), (), (1.0,))


def test_three_steps_have_one_to_place(search: Search) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driven = search(distance_to((0, 4, 29)), warm_start=Schedule([0, 14, 29], 30))
    assert driven.result.best(1)[0].schedule.computed_steps == (0, 4, 29)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("trials", -1, "trials=-1: below 0"),
        ("trials", MOST_TRIALS + 1, "a document holds the history of no more"),
        ("patience", 0, "patience=0: below 1"),
        ("kind", "greedy", r"search='greedy': no such search\. Use joint or per-pair"),
    ],
)
def test_settings_that_cannot_be_used(field: str, value: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        AnchorSettings(**{field: value})


def test_the_longest_history_fits_into_a_document() -> None:
    longest = AnchorSettings(trials=MOST_TRIALS)
    # The warm start's loss, one after each trial for the steps and after each round's look-backs.
    assert 1 + sum(longest.round_trials) + len(longest.rounds) <= MAX_HISTORY


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


# A state is the look-backs of four segments, 1 … 3 each.
State = tuple[int, ...]
STATES = list(product((1, 2, 3), repeat=4))
BASE = Schedule([0, 2, 5, 8, 11], 12)


COORDINATES = look_back_coordinates(4, 3)


def test_look_back_coordinates_by_hand() -> None:
    assert [others((1, 1, 2, 3)) for others in COORDINATES] == [
        [(2, 1, 2, 3), (3, 1, 2, 3)],
        [(1, 2, 2, 3), (1, 3, 2, 3)],
        [(1, 1, 1, 3), (1, 1, 3, 3)],
        [(1, 1, 2, 1), (1, 1, 2, 2)],
    ]
    assert [others((1, 1)) for others in look_back_coordinates(2, 1)] == [[], []]


def alone(state: State) -> list[Schedule]:
    return [BASE.with_look_backs(state)]


def both_ways(state: State) -> list[Schedule]:
    """A family of two: the state, and the state turned around."""
    return [BASE.with_look_backs(state), BASE.with_look_backs(state[::-1])]


def separable(weights: Sequence[float], best: State) -> Loss:
    def loss(schedule: Schedule, pair: int) -> float:
        parts = zip(weights, schedule.look_backs, best, strict=True)
        return sum(weight * abs(own - wanted) for weight, own, wanted in parts) + pair

    return loss


@dataclass(frozen=True)
class Descent:
    """A descent from all ones, with a journal of its own."""

    journal: Path

    def __call__(
        self,
        loss: Loss,
        family: Callable[[State], list[Schedule]] = alone,
        panel: Panel = ONE_BATCH,
        limit: float = np.inf,
        trials: int = 1000,
        start: State = (1, 1, 1, 1),
        on_trial: Callable[[], None] = lambda: None,
    ) -> Driven:
        study = TrialJournal(self.journal).study("descent")
        descent = descend(start, COORDINATES, family, panel, limit, trials, study, on_trial)
        return drive(descent, loss)

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(self.journal)))
        return optuna.load_study(study_name="descent", storage=storage).trials


@pytest.fixture
def descent(journal: Path) -> Descent:
    return Descent(journal)


def family_loss(
    loss: Loss, state: State, family: Callable[[State], list[Schedule]], panel: Panel
) -> float:
    return float(np.mean([mean_loss(loss, schedule, panel) for schedule in family(state)]))


@pytest.mark.parametrize("best", [(1, 1, 1, 1), (3, 1, 2, 3), (2, 3, 3, 1), (1, 2, 1, 1)])
@pytest.mark.parametrize("panel", [ONE_BATCH, EIGHT_BATCHES], ids=["one", "eight"])
def test_a_separable_loss_is_minimised(descent: Descent, best: State, panel: Panel) -> None:
    loss = separable((1.0, 4.0, 2.0, 3.0), best)
    assert min(STATES, key=lambda state: family_loss(loss, state, alone, panel)) == best
    assert descent(loss, panel=panel).result == best


@given(st.integers(0, 10**6), st.booleans())
@hypothesis_settings(deadline=None, max_examples=25)
def test_where_it_ends_no_coordinate_improves(
    tmp_path_factory: pytest.TempPathFactory, landscape: int, several: bool
) -> None:
    descent = Descent(tmp_path_factory.mktemp("descent") / "trials.log")
    loss, family = disturbing(landscape), both_ways if several else alone
    limit = mean_loss(loss, BASE.with_look_backs((1, 1, 1, 1)), ONE_BATCH)
    driven = descent(loss, family, limit=limit)
    best = family_loss(loss, driven.result, family, ONE_BATCH)
    assert best <= family_loss(loss, (1, 1, 1, 1), family, ONE_BATCH)
    assert mean_loss(loss, family(driven.result)[0], ONE_BATCH) <= limit + 1e-12
    for others in COORDINATES:
        for other in others(driven.result):
            worse = family_loss(loss, other, family, ONE_BATCH) >= best - 1e-12
            assert worse or mean_loss(loss, family(other)[0], ONE_BATCH) > limit
    # All that was asked for are members of the family.
    schedules = {schedule for state in STATES for schedule in family(state)}
    assert {schedule for schedule, _ in driven.requests} <= schedules


def test_the_first_of_the_family_stays_below_the_limit(descent: Descent) -> None:
    # Alone each schedule would be best at 3 everywhere, the first at 1 everywhere.
    def loss(schedule: Schedule, pair: int) -> float:
        turned = schedule.num_inference_steps == 13
        return (-2.0 if turned else 1.0) * sum(schedule.look_backs)

    def family(state: State) -> list[Schedule]:
        return [BASE.with_look_backs(state), Schedule([0, 2, 5, 8, 12], 13, state)]

    for limit, best in ((12.0, 12), (8.0, 8), (6.0, 6), (4.0, 4)):
        descent.journal.unlink(missing_ok=True)
        state = descent(loss, family, limit=limit).result
        assert sum(state) == best


@pytest.mark.parametrize("trials", [0, 1, 2, 5, 8, 1000])
def test_no_more_than_the_trials_are_tried(descent: Descent, trials: int) -> None:
    told: list[int] = []
    loss = separable((1.0, 1.0, 1.0, 1.0), (3, 3, 3, 3))
    driven = descent(loss, trials=trials, on_trial=lambda: told.append(1))
    # Four coordinates of two candidates each, then three of the first ones once more.
    tried = min(trials, 4 * 2 + 3 * 2)
    assert len(told) == len(descent.trials) == tried
    expected = {0: (1, 1, 1, 1), 1: (2, 1, 1, 1), 2: (3, 1, 1, 1), 5: (3, 3, 2, 1)}
    assert driven.result == expected.get(trials, (3, 3, 3, 3))


def test_candidates_behind_on_the_first_batches_are_not_run_on_the_others(
    descent: Descent,
) -> None:
    loss = separable((1.0, 1.0, 1.0, 1.0), (3, 1, 1, 1))
    driven = descent(loss, panel=EIGHT_BATCHES)
    assert driven.result == (3, 1, 1, 1)
    complete = {(1, 1, 1, 1), (2, 1, 1, 1), (3, 1, 1, 1)}
    for state in STATES:
        found = driven.batches_of(BASE.with_look_backs(state))
        if state in complete:
            assert found == set(EIGHT_BATCHES.batches)
        else:
            assert found <= set(EIGHT_BATCHES.batches[:2])
    told = {trial.user_attrs["state"]: trial for trial in descent.trials}
    assert told["(3, 1, 1, 1)"].value == pytest.approx(15.5)
    assert told["(3, 2, 1, 1)"].state == TrialState.PRUNED


def test_ahead_on_the_first_batches_is_not_ahead_on_all(descent: Descent) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        changed = schedule.look_backs != (1, 1, 1, 1)
        return (-1.0 if pair < 8 else 1.0) * changed

    driven = descent(loss, panel=EIGHT_BATCHES)
    assert driven.result == (1, 1, 1, 1)
    for schedule, _ in driven.requests:
        assert driven.batches_of(schedule) == set(EIGHT_BATCHES.batches)


def test_states_of_the_same_family_are_not_tried(descent: Descent) -> None:
    def first_two(state: State) -> list[Schedule]:
        return [BASE.with_look_backs((*state[:2], 1, 1))]

    descent(disturbing(0), first_two)
    assert {trial.user_attrs["state"][-6:] for trial in descent.trials} == {" 1, 1)"}


def test_a_descent_goes_on_from_its_journal(descent: Descent) -> None:
    whole = descent(disturbing(3), both_ways)
    data = descent.journal.read_bytes()
    assert descent(disturbing(3), both_ways) == whole
    assert descent.journal.read_bytes() == data


def test_without_coordinates_the_start_remains(journal: Path) -> None:
    study = TrialJournal(journal).study("descent")
    descending = descend((1, 1, 1, 1), [], alone, ONE_BATCH, np.inf, 9, study)
    assert drive(descending, disturbing(0)).result == (1, 1, 1, 1)


def around(centre: Schedule, parts: int, half_width: float) -> _Round:
    return _Round(centre, parts, half_width, ONE_BATCH, np.zeros(3), 1)


def test_gaps_are_moved_by_hand() -> None:
    moved = around(Schedule([0, 4, 8, 12, 16], 17), EVERY_GAP, 2.0)
    assert list(moved.space) == ["gap000", "gap001", "gap002", "gap003"]
    # Gaps 6, 2, 5 and 3.
    assert moved.schedule(np.array([1, -1, 0.5, -0.5])).computed_steps == (0, 6, 8, 13, 16)


def test_a_curve_is_stretched_by_hand() -> None:
    stretched = around(Schedule([0, 4, 8, 12, 16], 17), 2, 4.0)
    assert list(stretched.space) == ["gap000", "gap001"]
    # Step 8 goes to 12. The cubic's slopes are 2, 0.75 (the harmonic mean of 1.5 and 0.5) and 0, so
    # step 4 goes to 6 + 8 (2 - 0.75) / 8 = 7.25 and step 12 to 14 + 8 (0.75 - 0) / 8 = 14.75.
    assert stretched.schedule(np.array([1.0, -1.0])).computed_steps == (0, 7, 12, 15, 16)


moves = st.lists(st.integers(1, 20), min_size=2, max_size=12).flatmap(
    lambda gaps: st.tuples(st.just(Schedule.from_gaps(gaps)), st.integers(1, len(gaps) + 2))
)


@given(moves, st.floats(0, 30), st.integers(0, 10**6))
@hypothesis_settings(deadline=None, max_examples=200)
def test_any_offsets_give_a_schedule(
    case: tuple[Schedule, int], half_width: float, seed: int
) -> None:
    centre, parts = case
    moved = around(centre, parts, half_width)
    assert len(moved.space) == min(parts, len(centre.gaps))
    offsets = np.random.default_rng(seed).uniform(-1, 1, len(moved.space))
    schedule = moved.schedule(offsets)
    assert schedule.budget == centre.budget
    assert schedule.num_inference_steps == centre.num_inference_steps


@given(moves, st.floats(0, 30))
@hypothesis_settings(deadline=None, max_examples=200)
def test_no_offsets_give_the_centre(case: tuple[Schedule, int], half_width: float) -> None:
    centre, parts = case
    still = around(centre, parts, half_width)
    assert still.schedule(np.zeros(len(still.space))) == centre
