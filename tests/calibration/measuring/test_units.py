"""Units of work: how pairs are batched, and that a unit's name says all that it is."""

from __future__ import annotations

import hashlib
import pickle
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otcache_policies import Schedule

from otcache_plugin.calibration.measuring.units import Evaluate, Record, Reference, Unit, unit_key
from otcache_plugin.evaluation.batches import Batch, batches_of

batches = st.builds(
    Batch,
    st.sampled_from(["calibration", "held-out"]),
    st.integers(0, 2),
    st.integers(3, 4),
)
schedules = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2)), min_size=1, max_size=3).map(
    lambda segments: Schedule.from_gaps(*map(list, zip(*segments, strict=True)))
)
metrics = st.sampled_from([("psnr",), ("mse",), ("psnr", "ssim")])
units: st.SearchStrategy[Unit] = st.one_of(
    st.builds(Record, batches),
    st.builds(Reference, batches),
    st.builds(Evaluate, batches, schedules, metrics),
)
UNIT = Evaluate(Batch("calibration", 4, 7), Schedule([0, 2, 5, 9], 10, [1, 3, 2]), ("psnr", "mse"))


def test_batches_by_hand() -> None:
    assert batches_of("held-out", 7, 3) == (
        Batch("held-out", 0, 3),
        Batch("held-out", 3, 6),
        Batch("held-out", 6, 7),
    )


@given(st.integers(1, 200), st.integers(1, 50))
def test_every_pair_is_in_one_batch(count: int, size: int) -> None:
    found = batches_of("calibration", count, size)
    assert [pair for batch in found for pair in range(batch.start, batch.stop)] == [*range(count)]
    assert {len(batch) for batch in found[:-1]} <= {size}
    assert 1 <= len(found[-1]) <= size


@given(units, units)
def test_keys_are_equal_when_units_are(one: Unit, other: Unit) -> None:
    assert (unit_key(one) == unit_key(other)) == (one == other)
    assert unit_key(pickle.loads(pickle.dumps(one))) == unit_key(one)


@pytest.mark.parametrize(
    "other",
    [
        replace(UNIT, batch=Batch("held-out", 4, 7)),
        replace(UNIT, batch=Batch("calibration", 3, 7)),
        replace(UNIT, batch=Batch("calibration", 4, 8)),
        replace(UNIT, schedule=Schedule([0, 2, 6, 9], 10, [1, 3, 2])),
        replace(UNIT, schedule=Schedule([0, 2, 5, 9], 10, [1, 3, 1])),
        replace(UNIT, metrics=("psnr",)),
        replace(UNIT, metrics=("mse", "psnr")),
        Record(UNIT.batch),
        Reference(UNIT.batch),
    ],
)
def test_any_changed_field_gives_another_key(other: Unit) -> None:
    assert unit_key(other) != unit_key(UNIT)


def test_the_number_of_steps_is_in_the_key() -> None:
    full = [Evaluate(UNIT.batch, Schedule.full(steps), ("psnr",)) for steps in (1, 2, 3)]
    assert len(set(map(unit_key, full))) == 3


@given(units)
def test_keys_are_names_of_files(unit: Unit) -> None:
    assert re.fullmatch(r"(record|reference|evaluate)-[0-9a-f]{40}", unit_key(unit))


def test_a_key_is_what_it_was_yesterday() -> None:
    text = b'{"batch": ["calibration", 0, 3], "kind": "record"}'
    digest = hashlib.sha256(text).hexdigest()
    assert unit_key(Record(Batch("calibration", 0, 3))) == f"record-{digest[:40]}"
