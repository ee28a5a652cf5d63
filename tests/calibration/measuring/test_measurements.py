"""Measured values: each unit measured once and kept, shared out, and given to searches."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from otcache_policies import Schedule
from waiting import CEILING

from otcache_plugin.calibration.errors import UnfinishedError
from otcache_plugin.calibration.measuring import measurements as measurements_module
from otcache_plugin.calibration.measuring.measurements import Measurements, Share
from otcache_plugin.calibration.measuring.pools import NoPool
from otcache_plugin.calibration.measuring.units import (
    Evaluate,
    Measured,
    Record,
    Reference,
    Unit,
    unit_key,
)
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.settings import TRIMMED, MeasuringSettings
from otcache_plugin.evaluation.batches import Batch, batches_of
from otcache_plugin.plugins.calibrating import LossRequest
from otcache_plugin.plugins.host import plugin_host

SETTINGS = MeasuringSettings(pairs=5, held_out_pairs=3, batch_size=2)
BATCHES = batches_of("calibration", 5, 2)
ONE, OTHER = Schedule([0, 1, 3], 4), Schedule([0, 2, 3], 4)
PSNR, MSE = plugin_host().metric("psnr"), plugin_host().metric("mse")
Arrays = Mapping[str, NDArray[Any]]


def value(schedule: Schedule, pair: int) -> float:
    """What a metric says of a pair."""
    return 10.0 * schedule.computed_steps[1] + pair**2


class CountingPool:
    """Measures units by arithmetic, and counts how often it is asked for each."""

    def __init__(self) -> None:
        self.measured: Counter[Unit] = Counter()
        self.asked: list[list[Unit]] = []
        self.references: list[weakref.ref[NDArray[Any]]] = []
        self.most_alive = 0

    def measure(
        self, units: Sequence[Unit], reference: Callable[[Batch], Arrays]
    ) -> Iterator[tuple[Unit, Measured]]:
        self.asked.append(list(units))
        for unit in units:
            self.measured[unit] += 1
            pairs = np.arange(unit.batch.start, unit.batch.stop)
            if isinstance(unit, Evaluate):
                assert reference(unit.batch)["latents"].tolist() == pairs.tolist()
                values = np.array([value(unit.schedule, pair) for pair in pairs])
                yield unit, Measured(dict.fromkeys(unit.metrics, values), (1, 1, 1), 0.25)
                continue
            latents = pairs.astype(np.float32)
            self.references.append(weakref.ref(latents))
            if isinstance(unit, Record):
                yield Reference(unit.batch), Measured({"latents": latents}, (), 0.0)
                del latents
                alive = sum(each() is not None for each in self.references)
                self.most_alive = max(self.most_alive, alive)
                yield unit, Measured({"errors": np.ones((len(pairs), 2))}, (1,) * 4, 0.5)
            else:
                yield unit, Measured({"latents": latents}, (1,) * 4, 0.5)


@pytest.fixture
def pool() -> CountingPool:
    return CountingPool()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path / "work", {}) as workspace:
        yield workspace


@pytest.fixture
def measurements(workspace: Workspace, pool: CountingPool) -> Measurements:
    """Of five recorded pairs in three batches."""
    measurements = Measurements(workspace, pool, SETTINGS)
    measurements.all_of([Record(batch) for batch in BATCHES])
    pool.asked.clear()
    return measurements


def test_batches_are_those_of_the_settings(measurements: Measurements) -> None:
    assert measurements.calibration_batches == BATCHES
    assert measurements.held_out_batches == (Batch("held-out", 0, 2), Batch("held-out", 2, 3))


def test_each_unit_is_measured_once(
    measurements: Measurements, workspace: Workspace, pool: CountingPool
) -> None:
    told: list[int] = []
    units = [Evaluate(batch, each, ("mse",)) for each in (ONE, OTHER, ONE) for batch in BATCHES]
    for _ in range(2):
        found = measurements.all_of(units, lambda *_: told.append(1))
        for unit, measured in zip(units, found, strict=True):
            expected = [value(unit.schedule, p) for p in range(unit.batch.start, unit.batch.stop)]
            assert measured.arrays["mse"].tolist() == expected
    assert len(told) == 2 * 6
    # Somebody else, later, with the same folder.
    again = Measurements(workspace, NoPool(), SETTINGS)
    assert len(again.all_of([*map(Record, BATCHES), *units])) == 3 + 9
    assert set(pool.measured.values()) == {1}
    for each in (measurements, again):
        assert each.evaluations == 2
        # Three batches of five pairs: recorded in 4 steps, run with a schedule of 3, and with
        # another one whose step 0 is that of the first.
        assert each.transformer_calls == 3 * (4 + 3 + 2)
        assert (each.denoising_steps, each.evidence_steps) == (5 * (4 + 3 + 2), 0)
        assert each.seconds == 3 * 0.5 + 6 * 0.25


def test_what_is_large_is_prepared_and_not_given(
    measurements: Measurements, workspace: Workspace, pool: CountingPool
) -> None:
    told: list[int] = []
    batches = measurements.held_out_batches
    references = [Reference(batch) for batch in batches]
    for _ in range(2):
        measurements.prepare([*references, references[0]], lambda *_: told.append(1))
    assert len(told) == 2 * 2
    assert pool.asked == [references, []]
    assert workspace.get(references[1]) is not None
    assert measurements.transformer_calls == 3 * 4 + 2 * 4
    assert (measurements.denoising_steps, measurements.evidence_steps) == (5 * 4, 3 * 4)


def test_outputs_that_come_with_a_recording_are_not_held(
    workspace: Workspace, pool: CountingPool
) -> None:
    told: list[int] = []
    measurements = Measurements(workspace, pool, SETTINGS)
    found = measurements.all_of([Record(batch) for batch in BATCHES], lambda *_: told.append(1))
    assert [len(measured.arrays["errors"]) for measured in found] == [2, 2, 1]
    assert len(told) == 3
    assert len(pool.references) == 3
    assert pool.most_alive <= 1


def test_references_are_slices_of_the_batch(measurements: Measurements) -> None:
    for batch in (*BATCHES, *batches_of("calibration", 5, 1)):
        latents = measurements.reference(batch)["latents"]
        assert latents.tolist() == [*range(batch.start, batch.stop)]
    measurements.prepare([Reference(batch) for batch in measurements.held_out_batches])
    assert measurements.reference(Batch("held-out", 2, 3))["latents"].tolist() == [2]
    assert measurements.reference(Batch("held-out", 1, 2))["latents"].tolist() == [1]


def test_a_recording_without_its_outputs_is_made_again(
    measurements: Measurements, workspace: Workspace, pool: CountingPool
) -> None:
    lost = Reference(BATCHES[1])
    (workspace.folder / "units" / f"{unit_key(lost)}.safetensors").unlink()
    again = Measurements(workspace, pool, SETTINGS)
    again.all_of([Record(batch) for batch in BATCHES])
    assert pool.measured == {Record(BATCHES[0]): 1, Record(BATCHES[1]): 2, Record(BATCHES[2]): 1}
    assert again.reference(BATCHES[1])["latents"].tolist() == [2, 3]


@pytest.mark.parametrize(("metric", "sign"), [(PSNR, -1), (MSE, 1)])
def test_losses_are_small_where_quality_is_good(
    measurements: Measurements, metric: Any, sign: int
) -> None:
    told: list[int] = []
    found = measurements.losses([ONE, OTHER, ONE], metric, lambda *_: told.append(1))
    expected = [sign * np.mean([value(each, pair) for pair in range(5)]) for each in (ONE, OTHER)]
    assert [each.schedule for each in found] == [ONE, OTHER, ONE]
    assert {each.metric for each in found} == {metric.name}
    assert [each.pooled for each in found] == pytest.approx([*expected, expected[0]])
    assert len(told) == 2 * 3


def test_losses_leave_the_extreme_pairs_out(workspace: Workspace, pool: CountingPool) -> None:
    measurements = Measurements(workspace, pool, replace(SETTINGS, pairs=60, batch_size=50))
    measurements.all_of([Record(batch) for batch in measurements.calibration_batches])
    (loss,) = measurements.losses([ONE], MSE)
    values = [value(ONE, pair) for pair in range(60)]  # The larger, the later the pair.
    cut = round(60 * TRIMMED)
    assert cut > 0
    assert loss.pooled == pytest.approx(np.mean(values[cut:-cut]))


Search = Generator[list[LossRequest], Mapping[LossRequest, NDArray[np.float64]], Any]


def asking(*rounds: list[LossRequest]) -> Search:
    """A search that asks for this, one after the other, and returns the answers."""
    answers = []
    for requests in rounds:
        given = yield requests
        assert set(given) == set(requests)
        answers.append([given[request].tolist() for request in requests])
    return answers


def test_searches_go_on_side_by_side(measurements: Measurements, pool: CountingPool) -> None:
    first, second, third = BATCHES
    searches = {
        "a": asking([(ONE, first), (OTHER, second)], [(OTHER, third)]),
        "none": asking(),
        "b": asking([(ONE, first), (ONE, third)], [(OTHER, third), (ONE, first)], [(ONE, second)]),
    }
    found = measurements.drive(searches, MSE)

    def losses(schedule: Schedule, batch: Batch) -> list[float]:
        return [value(schedule, pair) for pair in range(batch.start, batch.stop)]

    assert list(found) == ["a", "none", "b"]
    assert found == {
        "a": [[losses(ONE, first), losses(OTHER, second)], [losses(OTHER, third)]],
        "none": [],
        "b": [
            [losses(ONE, first), losses(ONE, third)],
            [losses(OTHER, third), losses(ONE, first)],
            [losses(ONE, second)],
        ],
    }
    # What they want at the same time is measured at the same time, and only once.
    assert [set(units) for units in pool.asked] == [
        {Evaluate(*each, ("mse",)) for each in asked}
        for asked in (
            [(first, ONE), (second, OTHER), (third, ONE)],
            [(third, OTHER)],
            [(second, ONE)],
        )
    ]
    assert set(pool.measured.values()) == {1}


def test_searches_of_a_better_when_larger_metric_see_it_turned(
    measurements: Measurements,
) -> None:
    found = measurements.drive({0: asking([(ONE, BATCHES[0])])}, PSNR)
    assert found == {0: [[[-10.0, -11.0]]]}


@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 30),
    st.sampled_from(["calibration", "held-out"]),
)
def test_every_unit_is_one_shards(count: int, size: int, pairs: int, pair_set: Any) -> None:
    shares = [Share(number, count) for number in range(1, count + 1)]
    for batch in batches_of(pair_set, pairs, size):
        parts = [Batch(pair_set, pair, pair + 1) for pair in range(batch.start, batch.stop)]
        units = [
            Record(batch),
            Reference(batch),
            *(Evaluate(each, ONE, ("mse",)) for each in (batch, *parts)),
        ]
        owners = [[share.number for share in shares if share.owns(unit, size)] for unit in units]
        # Whoever records a batch measures all that is compared with it.
        assert owners == [owners[0]] * len(units)
        assert len(owners[0]) == 1
    numbers = range(len(batches_of(pair_set, pairs, size)))
    found = Counter(
        share.number
        for share in shares
        for number in numbers
        if share.owns(Record(Batch(pair_set, number * size, number * size + 1)), size)
    )
    assert max(found.values()) - min(found[share.number] for share in shares) <= 1


RECORDS = [Record(batch) for batch in BATCHES]


def shard(folder: Path, pool: CountingPool, number: int, wait: float = 0.0) -> Any:
    """One of two shards: its workspace, and its measurements."""
    folders = [folder / "one", folder / "two"]
    workspace = Workspace(folders[number - 1], {}, [folders[2 - number]])
    return workspace, Measurements(workspace, pool, SETTINGS, Share(number, 2, wait))


def test_shards_do_their_part_and_stop_without_the_others(tmp_path: Path) -> None:
    pools = CountingPool(), CountingPool()
    workspace, one = shard(tmp_path, pools[0], 1)
    with workspace:
        for ask in (one.all_of, one.prepare):
            with pytest.raises(UnfinishedError) as caught:
                ask(RECORDS)
            assert str(caught.value).startswith("shard 1 of 2 has done its part of this stage, and")
            assert "needs 1 measurements of other shards" in str(caught.value)
            assert "Run them, then start the same command again." in str(caught.value)
    assert pools[0].measured == {RECORDS[0]: 1, RECORDS[2]: 1}
    workspace, two = shard(tmp_path, pools[1], 2)
    with workspace:
        assert [len(each.arrays["errors"]) for each in two.all_of(RECORDS)] == [2, 2, 1]
        assert two.transformer_calls == 3 * 4
    assert pools[1].measured == {RECORDS[1]: 1}
    workspace, one = shard(tmp_path, pools[0], 1)
    with workspace:
        assert len(one.all_of(RECORDS)) == 3
        assert one.transformer_calls == two.transformer_calls
    assert sum(pools[0].measured.values()) == 2


def test_a_search_that_can_go_on_does(tmp_path: Path) -> None:
    pools = CountingPool(), CountingPool()
    for number in (1, 2, 1):
        workspace, measurements = shard(tmp_path, pools[number - 1], number)
        with workspace:
            try:
                measurements.all_of(RECORDS)
            except UnfinishedError:
                assert number == 1
    workspace, one = shard(tmp_path, pools[0], 1)
    first, second, third = BATCHES
    searches = {
        "stuck": asking([(ONE, first), (ONE, second)], [(OTHER, third)]),
        "alone": asking([(ONE, first)], [(OTHER, third)], [(OTHER, first)]),
    }
    with workspace, pytest.raises(UnfinishedError, match="needs 1 measurements of other shards"):
        one.drive(searches, MSE)
    asked = {
        (unit.batch, unit.schedule) for unit in pools[0].measured if isinstance(unit, Evaluate)
    }
    assert asked == {(first, ONE), (third, OTHER), (first, OTHER)}


def test_waiting_ends_when_the_other_has_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements_module, "POLL_SECONDS", 0.01)
    pools = CountingPool(), CountingPool()
    workspace, one = shard(tmp_path, pools[0], 1, wait=CEILING)
    came: list[Any] = []

    def other_shard() -> None:
        workspace, two = shard(tmp_path, pools[1], 2, wait=CEILING)
        with workspace:
            came.extend(two.all_of(RECORDS))
            came.extend(two.drive({0: asking([(ONE, batch) for batch in BATCHES])}, MSE)[0])

    with workspace:
        first_polls = threading.Thread(target=other_shard)
        sleep = measurements_module.time.sleep

        def begin_the_other(seconds: float) -> None:
            if first_polls.ident is None:
                first_polls.start()
            sleep(seconds)

        monkeypatch.setattr(measurements_module.time, "sleep", begin_the_other)
        found = one.all_of(RECORDS)
        losses = one.drive({0: asking([(ONE, batch) for batch in BATCHES])}, MSE)[0]
        first_polls.join(CEILING)
    assert [len(each.arrays["errors"]) for each in found] == [2, 2, 1]
    assert losses == [[[10.0, 11.0], [14.0, 19.0], [26.0]]]
    assert came[3:] == losses
    assert set((pools[0].measured + pools[1].measured).values()) == {1}


def test_nothing_is_measured_when_shards_are_put_together(
    measurements: Measurements, workspace: Workspace
) -> None:
    merging = Measurements(workspace, NoPool(["2/3"]), SETTINGS)
    assert len(merging.all_of(RECORDS)) == 3
    with pytest.raises(UnfinishedError, match="3 measurements are missing: there is no shard 2/3"):
        merging.losses([ONE], MSE)
    with pytest.raises(UnfinishedError, match=r"3 measurements are missing\. Run all shards"):
        Measurements(workspace, NoPool(), SETTINGS).losses([ONE], MSE)


def test_values_that_are_not_finite_are_counted(
    measurements: Measurements, workspace: Workspace
) -> None:
    values = {0: [1.0, float("nan")], 2: [float("inf"), 2.0], 4: [3.0]}
    for batch in BATCHES:
        arrays = {"mse": np.array(values[batch.start])}
        workspace.put(Evaluate(batch, ONE, ("mse",)), Measured(arrays, (1, 1, 1), 0.25))
    (one, other) = measurements.losses([ONE, OTHER], MSE)
    assert one.failed_pairs == [1, 2]
    assert (one.pooled, np.isfinite(other.pooled)) == (np.inf, True)
    assert (measurements.values, measurements.values_not_finite) == (10, 2)
    # Asked for again, they are the same ones.
    measurements.losses([ONE], MSE)
    assert (measurements.values, measurements.values_not_finite) == (10, 2)
