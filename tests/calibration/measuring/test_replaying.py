"""Replayed runs in a calibration: the same values from fewer steps, whatever was lost meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otcache_policies import Schedule

from otcache_plugin.calibration.errors import WorkspaceError
from otcache_plugin.calibration.measuring import kept_runs
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.replaying import MOST_KEPT, ReplayPlanner
from otcache_plugin.calibration.measuring.units import Evaluate, Reference, Unit, unit_key
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.evaluation.batches import Batch, batches_of
from otcache_plugin.models.exact_flow import ExactFlowTransformer
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.calibrating import LossRequest
from otcache_plugin.plugins.host import plugin_host

TOTAL = 10
SETTINGS = MeasuringSettings(
    num_inference_steps=TOTAL, pairs=5, held_out_pairs=2, batch_size=2, seed=1
)
BATCHES = batches_of("calibration", 5, 2)
PSNR = plugin_host().metric("psnr")
BATCH = BATCHES[0]

CENTRE = Schedule([0, 1, 3, 6, 9], TOTAL, [1, 2, 2, 2])
NEIGHBOURS = (
    Schedule([0, 1, 3, 7, 9], TOTAL, [1, 2, 2, 2]),  # shares 0, 1, 3 with the centre
    Schedule([0, 1, 3, 6, 9], TOTAL, [1, 2, 2, 3]),  # shares 0, 1, 3, 6
    Schedule([0, 2, 3, 6, 9], TOTAL, [1, 2, 2, 2]),  # shares 0
)


def unit_of(schedule: Schedule, batch: Batch = BATCH) -> Evaluate:
    return Evaluate(batch, schedule, ("psnr",))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    inner = draw(st.sets(st.integers(1, TOTAL - 2), max_size=4))
    steps = sorted(inner | {0, TOTAL - 1})
    count = len(steps) - 1
    return Schedule(steps, TOTAL, draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)))


LISTS = st.lists(
    st.lists(st.builds(unit_of, schedules(), st.sampled_from(BATCHES)), max_size=12), max_size=4
)


@given(LISTS)
def test_whatever_a_run_begins_like_is_kept_by_then(lists: list[list[Evaluate]]) -> None:
    planner, again = ReplayPlanner(1, "a", ()), ReplayPlanner(1, "a", ())
    kept: dict[Batch, tuple[Schedule, ...]] = {}
    asked: set[Unit] = set()
    for units in lists:
        planned = planner.plan(units)
        assert len(planned) == len(set(planned))
        assert set(planned) == set(units)
        assert [each.replay for each in again.plan(units)] == [each.replay for each in planned]
        for unit in planned:
            assert (unit.replay is None) == (unit in asked)
            if unit.replay is None:
                continue
            there = kept.get(unit.batch, ())
            shared = [len(unit.schedule.shared_steps(each)) for each in there]
            assert len(unit.replayed_steps) == max(shared, default=0)
            assert unit.replay.after is None or unit.replay.after in there
            assert set(unit.replay.kept) <= {*there, unit.schedule}
            assert unit.schedule in unit.replay.kept
            assert len(unit.replay.kept) == min(len(there) + 1, MOST_KEPT)
            kept[unit.batch] = unit.replay.kept
        asked.update(planned)


def test_neighbours_follow_each_other() -> None:
    planned = ReplayPlanner(1, "", ()).plan(map(unit_of, (*NEIGHBOURS, CENTRE)))
    # By the first step that they do otherwise: 6 and 7 are parted by step 6, 2 by step 1.
    assert [each.schedule for each in planned] == [CENTRE, NEIGHBOURS[1], *NEIGHBOURS[::2]]
    assert [each.replayed_steps for each in planned] == [(), (0, 1, 3, 6), (0, 1, 3), (0,)]


def test_what_is_known_is_not_run_and_nothing_begins_like_it() -> None:
    planned = ReplayPlanner(1, "", {unit_of(CENTRE)}).plan(map(unit_of, (CENTRE, NEIGHBOURS[1])))
    assert [each.replay is None for each in planned] == [True, False]
    assert planned[1].replayed_steps == ()


def test_a_unit_is_the_same_however_it_is_run() -> None:
    (plain, planned) = unit_of(CENTRE), ReplayPlanner(3, "x", ()).plan([unit_of(CENTRE)])[0]
    assert planned.replay is not None
    assert (plain, hash(plain), unit_key(plain)) == (planned, hash(planned), unit_key(planned))


def searching(rounds: int = 3) -> Iterator[list[LossRequest]]:
    """A search that asks for neighbours of the best, as a climb does; returns all it was told."""
    best, told = CENTRE, {}
    for number in range(rounds):
        moved = [(best.computed_steps[3] + shift) for shift in (-1, 1)]
        asked = [
            best,
            *(
                Schedule([*best.computed_steps[:3], each, 9], TOTAL, best.look_backs)
                for each in moved
            ),
            best.with_look_backs((1, 2, 1 + number, 3)),
        ]
        given = yield [(each, batch) for each in asked for batch in BATCHES]
        told |= {key: losses.tolist() for key, losses in given.items()}
        best = min(asked, key=lambda each: sum(given[each, batch].sum() for batch in BATCHES))
    return told


class Work:
    """A working folder with a worker of its own, whose transformer counts its samples."""

    def __init__(self, folder: Path, setup: ModelSetup) -> None:
        self.folder, self.setup, self.samples = folder, setup, 0

    @contextmanager
    def measurements(self) -> Iterator[Measurements]:
        forward, scratch = ExactFlowTransformer.forward, self.folder / SCRATCH_FOLDER

        def counted(module: ExactFlowTransformer, latents: torch.Tensor, *args: Any) -> Any:
            self.samples += len(latents)
            return forward(module, latents, *args)

        with (
            pytest.MonkeyPatch.context() as patch,
            LocalPool(lambda: self.setup, SETTINGS, scratch) as pool,
            Workspace(self.folder, {}) as workspace,
        ):
            patch.setattr(ExactFlowTransformer, "forward", counted)
            measurements = Measurements(workspace, pool, SETTINGS)
            measurements.prepare([Reference(batch) for batch in BATCHES])
            yield measurements

    @property
    def kept(self) -> list[Path]:
        """Folders of runs that are kept at the moment."""
        return list((self.folder / SCRATCH_FOLDER).glob("otcache-runs-*/*"))


@pytest.fixture
def work(tmp_path: Path, setup: ModelSetup) -> Work:
    return Work(tmp_path / "work", setup)


def plain_values(work: Work, units: list[Evaluate]) -> list[list[float]]:
    """What the units give when each is run on its own, all of it."""
    with work.measurements() as measurements:
        pool = measurements._pool
        return [
            measured.arrays["psnr"].tolist()
            for unit in units
            for _, measured in pool.measure([unit], measurements.reference)
        ]


def test_replayed_runs_give_the_same_values_in_fewer_steps(
    work: Work, tmp_path: Path, make_setup: Callable[[], ModelSetup]
) -> None:
    units = [unit_of(each, batch) for each in (CENTRE, *NEIGHBOURS) for batch in BATCHES]
    with work.measurements() as measurements:
        found = measurements.all_of(units)
    expected = plain_values(Work(tmp_path / "plain", make_setup()), units)
    assert [each.arrays["psnr"].tolist() for each in found] == expected
    # 5 pairs: full runs, then the centre whole, a neighbour's last step, two steps, four steps.
    steps = 5 * (TOTAL + 5 + 1 + 2 + 4)
    assert measurements.denoising_steps == measurements.transformer_calls // 3 * 5 == steps
    assert work.samples == steps


def test_a_search_costs_what_is_counted(work: Work) -> None:
    with work.measurements() as measurements:
        measurements.drive({"a": searching(), "b": searching(2)}, PSNR)
        assert work.samples == measurements.denoising_steps
        assert 0 < len(work.kept) <= 2 * MOST_KEPT * len(BATCHES)
        # What comes next has no use for them.
        measurements.losses([NEIGHBOURS[2]], PSNR)
        assert 0 < len(work.kept) <= len(BATCHES)
    assert work.kept == []


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_what_was_lost_changes_neither_values_nor_counts(
    lost: int, work: Work, tmp_path: Path, make_setup: Callable[[], ModelSetup]
) -> None:
    with work.measurements() as whole:
        expected = whole.drive({"a": searching()}, PSNR)
    again = Work(work.folder, make_setup())
    gone = sorted((work.folder / "units").glob("evaluate-*"))[::lost]
    for path in gone:
        path.unlink()
    with again.measurements() as resumed:
        assert resumed.drive({"a": searching()}, PSNR) == expected
        assert resumed.denoising_steps == whole.denoising_steps
        assert resumed.transformer_calls == whole.transformer_calls
    assert again.samples > 0


def test_a_folder_that_is_opened_anew_takes_its_scratch_along(work: Work, tmp_path: Path) -> None:
    with work.measurements() as measurements:
        before = measurements.losses([CENTRE, *NEIGHBOURS], PSNR)
        for path in work.kept:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        planned = ReplayPlanner(1, "", ()).plan(map(unit_of, (CENTRE, NEIGHBOURS[0])))
        given = list(measurements._pool.measure(planned[1:], measurements.reference))
        assert given[0][1].arrays["psnr"].tolist() == (-before[1].losses[:2]).tolist()
        assert given[0][1].calls == (1,) * 5


def test_a_full_disk_is_told(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with work.measurements() as measurements:
        monkeypatch.setattr(kept_runs.OutputLog, "write", full)
        with pytest.raises(WorkspaceError, match="outputs of a run cannot be kept in"):
            measurements.losses([CENTRE], PSNR)


def test_values_of_both_spaces(
    work: Work, tmp_path: Path, make_setup: Callable[[], ModelSetup]
) -> None:
    units = [Evaluate(BATCH, each, ("psnr", "latent-mse")) for each in (CENTRE, *NEIGHBOURS)]
    with work.measurements() as measurements:
        found = measurements.all_of(units)
    with Work(tmp_path / "plain", make_setup()).measurements() as measurements:
        for unit, replayed in zip(units, found, strict=True):
            ((_, plain),) = measurements._pool.measure([unit], measurements.reference)
            for name in unit.metrics:
                np.testing.assert_array_equal(replayed.arrays[name], plain.arrays[name])
