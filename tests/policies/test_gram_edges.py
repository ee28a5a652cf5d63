"""The edge table of Gram matrices, against plain runs that cache one segment."""

from __future__ import annotations

import numpy as np
import pytest
from otcache_policies import EdgeTable, GramTable, GramTableError, Schedule
from otcache_policies.gram_edges import l2_edges
from plain_runs import plain_run, uneven_sigmas

TOTAL = 7


@pytest.mark.parametrize("max_look_back", [1, 3, 9])
def test_an_edge_is_what_one_cached_segment_leaves_behind(max_look_back: int) -> None:
    """Root mean square over two pairs and four elements, over the segment's change of sigma."""
    sigmas = uneven_sigmas(1, TOTAL)
    pairs = np.random.default_rng(1).normal(size=(2, TOTAL, 4))
    edges = l2_edges(GramTable(pairs @ pairs.transpose(0, 2, 1) / 4, sigmas), max_look_back)
    assert edges.shape == (TOTAL, TOTAL, max_look_back)
    assert edges.dtype == np.float32
    assert np.isinf(edges[np.tril_indices(TOTAL)]).all()
    full = [plain_run(Schedule.full(TOTAL), pair, sigmas) for pair in pairs]
    for start in range(TOTAL - 1):
        for end in range(start + 1, TOTAL):
            steps = [*range(start + 1), *range(end, TOTAL)]
            for look_back in range(1, max_look_back + 1):
                schedule = Schedule(steps, TOTAL, [look_back] * (len(steps) - 1))
                wrong = [
                    plain_run(schedule, pair, sigmas)[end] - latents[end]
                    for pair, latents in zip(pairs, full, strict=True)
                ]
                expected = np.sqrt(np.mean(np.square(wrong))) / (sigmas[start] - sigmas[end])
                # The matrices are float32, and differences of theirs are taken.
                assert edges[start, end, look_back - 1] == pytest.approx(expected, abs=2e-3)
    EdgeTable(edges, sigmas)


def test_another_solver_has_no_edges_by_its_matrices() -> None:
    table = GramTable(np.ones((1, 3, 3)), np.linspace(1, 0, 4), np.ones(3))
    with pytest.raises(GramTableError, match="Measure the edges on its runs"):
        l2_edges(table, 2)
