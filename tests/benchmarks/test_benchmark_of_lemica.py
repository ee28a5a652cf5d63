"""The tables of LeMiCa's ablations, from edges and held-out values that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from otcache_policies import LeMiCaPolicy, Schedule, Segment
from otcache_policies.outcomes import segments_to_measure

from benchmarks.lemica import (
    AROUND,
    BUDGETS,
    DRAWS,
    PAIRS,
    SAMPLES,
    STEPS,
    Edges,
    Values,
    around,
    costs_of,
    draws,
    paths_table,
    samples_table,
)

GAP = 10


@pytest.fixture(scope="module")
def edges() -> Edges:
    segments = [Segment(*each, 1) for each in segments_to_measure(STEPS, GAP)]
    gaps = np.array([each.gap - 1 for each in segments])[:, None]
    noise = np.random.default_rng(0).uniform(0.2, 2.0, (len(segments), PAIRS))
    return Edges(segments, gaps * noise)


def held_out(schedules: Sequence[Schedule]) -> dict[Schedule, Values]:
    """A PSNR that falls with the squared gaps, by another level on each of two pairs."""
    return {
        each: {
            "psnr": np.array([40.0, 50.0]) - np.square(each.gaps).sum() / 50,
            "ssim": np.array([0.9, 0.8]),
        }
        for each in schedules
    }


def test_draws_are_of_different_pairs_and_the_same_every_time() -> None:
    found = draws()
    assert found == draws()
    assert {count: len(each) for count, each in found.items()} == dict.fromkeys(SAMPLES, DRAWS)
    assert all(len(set(pairs)) == count for count, each in found.items() for pairs in each)


def test_a_row_is_the_mean_over_draws_of_their_own_paths(edges: Edges) -> None:
    rows = {(row["samples"], row["budget"]): row for row in samples_table(edges, held_out)}
    assert set(rows) == {(count, budget) for count in (*SAMPLES, PAIRS) for budget in BUDGETS}
    means = []
    for (pair,) in draws()[1]:
        path = LeMiCaPolicy(edges.table([pair])).schedule(8)
        means.append(45.0 - sum(gap**2 for gap in path.gaps) / 50)
    row = rows[1, 8]
    assert row["psnr"] == pytest.approx(np.mean(means))
    assert row["psnr_spread"] == pytest.approx(np.std(means))
    every = LeMiCaPolicy(edges.table()).schedule(8)
    best = 45.0 - sum(gap**2 for gap in every.gaps) / 50
    assert row["psnr_to_all"]["mean"] == pytest.approx(np.mean(means) - best)
    assert rows[PAIRS, 8]["psnr_to_all"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_the_paths_are_compared_pair_by_pair(edges: Edges) -> None:
    table = edges.table()
    for row in paths_table(edges, held_out):
        minimax, shortest = row["minimax"], row["shortest"]
        assert minimax["worst_edge"] <= shortest["worst_edge"]
        assert minimax["sum_of_edges"] >= shortest["sum_of_edges"]
        path = Schedule(minimax["steps"], STEPS)
        assert minimax["sum_of_edges"] == pytest.approx(sum(costs_of(table, path)))
        assert minimax["sum_of_edges"] == pytest.approx(edges.sums(path).mean(), rel=1e-6)
        gained = row["psnr_difference"]
        assert gained["mean"] == pytest.approx(minimax["psnr"] - shortest["psnr"])
        assert gained["low"] == pytest.approx(gained["high"])  # As much on either pair.


def test_schedules_around_a_path_have_edges(edges: Edges) -> None:
    table = edges.table()
    path = LeMiCaPolicy(table).schedule(8)
    found = list(around([path], GAP, np.random.default_rng(0)))
    assert len(found) == AROUND
    assert {each.budget for each in found} == {8}
    assert all(np.isfinite(costs_of(table, each)).all() for each in found)
