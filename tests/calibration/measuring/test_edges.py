"""The edge table, against formulas written out here and real cached runs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import Schedule
from recorded_runs import PROMPTS, SCHEDULE, STEPS, Recorded, run
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import otcache_plugin
from otcache_plugin.calibration.errors import RecordingError
from otcache_plugin.calibration.measuring import edges
from otcache_plugin.calibration.measuring.edges import EdgeAccumulator, edge_errors
from otcache_plugin.calibration.measuring.trajectories import Trajectory, record
from otcache_plugin.executors.schedulers import Substitute
from otcache_plugin.models.exact_flow import ExactFlowPipeline


def test_half_a_run_has_no_edges(pipe: ExactFlowPipeline, tmp_path: Path) -> None:
    with record(pipe, tmp_path / "none") as trajectory:
        pass
    with pytest.raises(RecordingError, match="steps=0: taken: nothing was recorded"):
        edge_errors(trajectory)

    def interrupt(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments[1] < 0.5:
            raise KeyboardInterrupt

    pipe.transformer.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), record(pipe, tmp_path / "half") as trajectory:
        run(pipe)
    taken = int((trajectory.sigmas >= 0.5).sum())
    assert 0 < taken < STEPS
    with pytest.raises(RecordingError, match=f"steps={taken}: taken of the run's {STEPS}"):
        edge_errors(trajectory)


def test_steps_that_cannot_be_repeated_have_no_edges(
    pipe: ExactFlowPipeline, recorded: Recorded
) -> None:
    own, calls = pipe.scheduler.step, count(1)

    def noisy(*args: Any, **kwargs: Any) -> Any:
        (x,) = own(*args, **kwargs)
        x[0, 0, 0, 0] += 1e-3 * next(calls)  # another value at every call, above the rounding
        return (x,)

    pipe.scheduler.step = noisy
    trajectory = recorded(pipe)
    with pytest.raises(RecordingError, match="velocity of step 0 again, it does not give the"):
        edge_errors(trajectory)
    del pipe.scheduler.step


def test_what_a_policy_hands_to_the_scheduler_is_recorded(
    pipe: ExactFlowPipeline, recorded: Recorded
) -> None:
    full = recorded(pipe)
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    cached = recorded(pipe)
    # Step 2 is the first cached one, of look-back 2.
    s, v, x = cached.sigmas, cached.v, cached.x
    assert torch.equal(x(2), full.x(2))
    assert not torch.equal(v(2), full.v(2))
    average = (x(2) - x(0)) / (s[2] - s[0])
    slope = (v(0) - average) / (s[2] - s[0])
    torch.testing.assert_close(v(2), v(1) - slope * (s[3] - s[2]))
    torch.testing.assert_close(x(3), x(2) + (s[3] - s[2]) * v(2))


def roll_out(trajectory: Trajectory, i: int, j: int, k: int) -> torch.Tensor:
    """The latents before step j when i+1 … j-1 are cached with look-back k, from the formulas."""
    s = trajectory.sigmas
    x_before = [trajectory.x(step) for step in range(i + 1)]
    x_after = [trajectory.x(step + 1) for step in range(i + 1)]
    sigma_before, sigma_after = list(s[: i + 1]), list(s[1 : i + 2])
    v = [trajectory.v(step) for step in range(i + 1)]
    for step in range(i + 1, j):
        length = len(v)
        assert length == step
        r = length - min(k, length)
        window = sigma_after[length - 1] - sigma_before[r]
        u = (x_after[length - 1] - x_before[r]) / window
        jvp = (v[r] - u) / window
        velocity = v[length - 1] - jvp * (s[step + 1] - s[step])
        x = x_after[length - 1]
        x_before, x_after = [*x_before, x], [*x_after, x + (s[step + 1] - s[step]) * velocity]
        sigma_before, sigma_after = [*sigma_before, s[step]], [*sigma_after, s[step + 1]]
        v = [*v, velocity]
    return x_after[j - 1]


def errors_of(trajectory: Trajectory, x_hat: torch.Tensor, i: int, j: int) -> np.ndarray:
    """`mean |u_hat - u|` per pair, of latents before step j instead of the recorded ones."""
    span = trajectory.sigmas[j] - trajectory.sigmas[i]
    u_hat = (x_hat - trajectory.x(i)) / span
    u = (trajectory.x(j) - trajectory.x(i)) / span
    return (u_hat - u).abs().mean(dim=(1, 2, 3)).numpy()


def test_edges_cost_what_the_formulas_say(pipe: ExactFlowPipeline, recorded: Recorded) -> None:
    trajectory = recorded(pipe, PROMPTS[:3])
    errors = edge_errors(trajectory)
    assert errors.dtype == np.float32
    assert errors.shape == (3, STEPS, STEPS, 6)
    for i in range(STEPS):
        assert np.all(errors[:, i, : i + 1] == np.inf)
        assert np.all(errors[:, i, i + 1 : i + 2] == 0)
        for j in range(i + 2, STEPS):
            for k in range(1, 7):
                expected = errors_of(trajectory, roll_out(trajectory, i, j, k), i, j)
                np.testing.assert_allclose(errors[:, i, j, k - 1], expected, rtol=1e-4, atol=1e-6)
    # The pairs differ, so that none can stand for another.
    assert np.abs(errors[0, 0, 2] - errors[1, 0, 2]).max() > 1e-3


def test_fewer_look_backs(pipe: ExactFlowPipeline, recorded: Recorded) -> None:
    trajectory = recorded(pipe)
    few = edge_errors(trajectory, max_look_back=2)
    np.testing.assert_array_equal(few, edge_errors(trajectory)[..., :2])


@pytest.mark.parametrize(
    ("i", "j", "k"),
    [(0, 2, 1), (0, 9, 4), (1, 4, 2), (2, 7, 1), (2, 9, 3), (4, 6, 2), (4, 9, 6), (7, 9, 5)],
)
def test_edges_cost_what_a_cached_run_does(
    pipe: ExactFlowPipeline, recorded: Recorded, i: int, j: int, k: int
) -> None:
    full = recorded(pipe)
    steps = [*range(i + 1), *range(j, STEPS)]
    look_backs = [k if start == i else 1 for start in steps[:-1]]
    otcache_plugin.enable_cache(pipe, policy=Schedule(steps, STEPS, look_backs))
    cached = recorded(pipe)
    assert otcache_plugin.summary(pipe).computed_steps == tuple(steps)
    assert torch.equal(cached.x(i + 1), full.x(i + 1))
    expected = errors_of(full, cached.x(j), i, j)
    np.testing.assert_allclose(edge_errors(full)[:, i, j, k - 1], expected, rtol=1e-5)


def test_plain_reuse_by_the_scheduler_is_look_back_one(
    pipe: ExactFlowPipeline, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajectory = recorded(pipe)
    estimated = edge_errors(trajectory)[..., :1]
    monkeypatch.setattr(edges, "supported_substitute", lambda scheduler: Substitute.PLAIN_REUSE)
    reused = edge_errors(trajectory)
    assert reused.shape == (2, STEPS, STEPS, 1)
    assert np.nanmax(np.where(np.isfinite(estimated), estimated, 0)) > 0.1
    np.testing.assert_allclose(reused, estimated, rtol=1e-4, atol=1e-6)


class CountLatents(TorchDispatchMode):
    """Watches how many tensors of at least a size are alive at once, by their storages."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.most = 0
        self._storages: dict[int, StorageWeakRef] = {}

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.nbytes() >= self.size:
            self._storages[storage._cdata] = StorageWeakRef(storage)
        alive = {key: each for key, each in self._storages.items() if not each.expired()}
        self._storages, self.most = alive, max(self.most, len(alive))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.see(result)
        return result


TEMPORARIES = 5
"""Of one estimate and one comparison."""


@pytest.mark.parametrize(("look_back", "reuse"), [(1, False), (3, False), (6, False), (6, True)])
def test_edges_need_no_more_than_one_log(
    pipe: ExactFlowPipeline,
    recorded: Recorded,
    look_back: int,
    reuse: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trajectory = recorded(pipe)
    watch = CountLatents(trajectory.x(0).nbytes)
    read = trajectory._read

    def watched_read(name: str, step: int) -> torch.Tensor:
        tensor = read(name, step)
        watch.see(tensor)
        return tensor

    monkeypatch.setattr(trajectory, "_read", watched_read)
    if reuse:
        monkeypatch.setattr(edges, "supported_substitute", lambda _: Substitute.PLAIN_REUSE)
    with watch:
        edge_errors(trajectory, look_back)
    log = 2 if reuse else 2 * look_back + 1
    assert log < watch.most <= log + TEMPORARIES
    assert watch.most < 2 * STEPS + 1  # the whole trajectory, which does not fit everywhere


def random_errors(pairs: int, seed: int = 0, look_backs: int = 3) -> np.ndarray:
    """Errors of four steps; the edges with cached steps are 0→2, 0→3 and 1→3."""
    errors = np.full((pairs, 4, 4, look_backs), np.inf, dtype=np.float32)
    for step in range(3):
        errors[:, step, step + 1] = 0
    for i, j in ((0, 2), (0, 3), (1, 3)):
        rng = np.random.default_rng([seed, i, j])
        errors[:, i, j] = rng.lognormal(size=(pairs, look_backs))
    return errors


SIGMAS = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])


def test_the_table_is_the_mean_and_spread_over_pairs() -> None:
    errors = random_errors(7)
    accumulator = EdgeAccumulator()
    accumulator.add(errors, SIGMAS)
    table = accumulator.table()
    np.testing.assert_allclose(table.velocity_errors, errors.mean(axis=0), rtol=1e-6)
    assert table.spread is not None
    finite = np.where(np.isinf(errors), 0, errors).astype(np.float64)
    np.testing.assert_allclose(table.spread, finite.std(axis=0, ddof=1), rtol=1e-6)
    np.testing.assert_array_equal(table.sigmas, SIGMAS.double().numpy())


def test_a_spread_by_hand() -> None:
    errors = random_errors(3)
    errors[:, 0, 2, 0] = [1, 2, 6]  # mean 3, squares 4 + 1 + 9 over 2
    accumulator = EdgeAccumulator()
    accumulator.add(errors, SIGMAS)
    table = accumulator.table()
    assert table.spread is not None
    assert table.velocity_errors[0, 2, 0] == 3
    assert table.spread[0, 2, 0] == np.float32(np.sqrt(7))


def test_batches_make_no_difference() -> None:
    errors = random_errors(9)
    tables = []
    for size in (9, 4, 1):
        accumulator = EdgeAccumulator()
        for start in range(0, 9, size):
            accumulator.add(errors[start : start + size], SIGMAS)
        tables.append(accumulator.table())
    for table in tables[1:]:
        np.testing.assert_array_equal(table.velocity_errors, tables[0].velocity_errors)
        np.testing.assert_array_equal(table.spread, tables[0].spread)


def test_one_pair_has_no_spread() -> None:
    accumulator = EdgeAccumulator()
    errors = random_errors(1)
    accumulator.add(errors, SIGMAS)
    assert accumulator.table().spread is None
    np.testing.assert_array_equal(accumulator.table().velocity_errors, errors[0])


def test_adding_leaves_the_errors_alone() -> None:
    errors = random_errors(2).astype(np.float64)
    EdgeAccumulator().add(errors, SIGMAS)
    np.testing.assert_array_equal(errors, random_errors(2))


@pytest.mark.parametrize("sigmas", [SIGMAS + 1e-4, SIGMAS[:-1]], ids=["shifted", "shorter"])
def test_another_noise_schedule_is_refused(sigmas: torch.Tensor) -> None:
    accumulator = EdgeAccumulator()
    accumulator.add(random_errors(2), SIGMAS)
    accumulator.add(random_errors(2), SIGMAS + 1e-7)
    with pytest.raises(RecordingError, match="changed its noise schedule between two runs"):
        accumulator.add(random_errors(2), sigmas)


def test_other_look_backs_are_refused() -> None:
    accumulator = EdgeAccumulator()
    accumulator.add(random_errors(2), SIGMAS)
    with pytest.raises(RecordingError, match=r"not of the shape \(N, 4, 4, 3\)"):
        accumulator.add(random_errors(2, look_backs=1), SIGMAS)


def test_recorded_batches(pipe: ExactFlowPipeline, recorded: Recorded) -> None:
    together, batched = EdgeAccumulator(), EdgeAccumulator()
    for accumulator, sizes in ((together, [5]), (batched, [4, 1])):
        first = 0
        for size in sizes:
            trajectory = recorded(pipe, PROMPTS[first : first + size], first)
            accumulator.add(edge_errors(trajectory), trajectory.sigmas)
            first += size
    expected, table = together.table(), batched.table()
    assert table.spread is not None
    np.testing.assert_allclose(
        table.velocity_errors, expected.velocity_errors, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(table.spread, expected.spread, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(table.sigmas, pipe.scheduler.sigmas.numpy(), rtol=1e-6)
